-- Sealed bundles: 256 messages each, in a file of the log's folder that never changes. Dense, and
-- dense with the blocks: those that lie wholly in sealed bundles are deleted in the transaction
-- that adds the bundle. When a bundle is dropped, its row goes first and its file after that.
-- Whoever adds or drops bundles, or deletes blocks, locks this table first; posts never do.
CREATE TABLE bundles (
    bundle      bigint PRIMARY KEY, -- its place: it has the messages 256 * bundle + 1 to 256 * bundle + 256
    received_at bigint NOT NULL     -- unix seconds, of the newest of its messages
);

-- Bundles before this one were dropped, though a block that reaches over the border may still have
-- messages of theirs. One row, and not in the log's: posts wait for that one.
CREATE TABLE dropped (
    id    smallint PRIMARY KEY CHECK (id = 1),
    below bigint   NOT NULL
);
INSERT INTO dropped (id, below) VALUES (1, 0);
