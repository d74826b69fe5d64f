-- Sealed bundles: 256 messages each, in a file of the log's folder that never changes. Dense, and
-- dense with the blocks: those that lie wholly in sealed bundles are deleted in the transaction
-- that adds the bundle. When a bundle is dropped, its row goes first and its file after that.
CREATE TABLE bundles (
    bundle      INTEGER PRIMARY KEY, -- its place: it has the messages 256 * bundle + 1 to 256 * bundle + 256
    received_at INTEGER NOT NULL     -- unix seconds, of the newest of its messages
) STRICT;

-- Bundles before this one were dropped, though a block that reaches over the border may still have
-- messages of theirs. One row.
CREATE TABLE dropped (
    id    INTEGER PRIMARY KEY CHECK (id = 1),
    below INTEGER NOT NULL
) STRICT;
INSERT INTO dropped (id, below) VALUES (1, 0);
