-- Messages are kept in blocks, one for each commit, so that a message takes no row of its own.
-- Dense, as before: a block begins where the one before it ends, and the last ends at log.head.
CREATE TABLE blocks (
    first_seq   INTEGER PRIMARY KEY, -- place in the log of its first message, from 1
    messages    INTEGER NOT NULL,    -- how many
    received_at INTEGER NOT NULL,    -- unix seconds, of all of them
    frames      BLOB    NOT NULL     -- as readers get them: for each message u64 sequence, then the cell
) STRICT;

-- In SQLite, || joins blobs to a text of the same bytes.
INSERT INTO blocks (first_seq, messages, received_at, frames)
SELECT seq, 1, received_at, CAST(unhex(printf('%016X', seq)) || cell AS BLOB)
FROM messages ORDER BY seq;

-- The ids go: they are SHA-256(0x00 || cell), and receipts are with the spent tokens.
DROP TABLE messages;
