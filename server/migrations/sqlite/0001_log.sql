-- Facts about the whole log: one row.
CREATE TABLE log (
    id           INTEGER PRIMARY KEY CHECK (id = 1),
    head         INTEGER NOT NULL,  -- sequence of the newest message ever stored, 0 before the first
    cell_bytes   INTEGER NOT NULL,  -- size of every cell
    pairing_id   BLOB    NOT NULL,  -- the pairing's id; a planned renewal keeps it
    closed_below INTEGER NOT NULL   -- no token of an epoch below this is taken again, whatever the clock shows
) STRICT;

-- The messages that are kept. Dense: every sequence from the oldest kept to log.head is here.
CREATE TABLE messages (
    seq         INTEGER PRIMARY KEY, -- place in the log, from 1
    received_at INTEGER NOT NULL,    -- unix seconds
    message_id  BLOB    NOT NULL,    -- SHA-256(0x00 || cell)
    cell        BLOB    NOT NULL
) STRICT;

-- Spent tokens, one table for each epoch that can be live, so that a closed epoch is dropped
-- whole. Epoch e uses table e mod 3. A row outlives its message: a retry gets its first receipt.
CREATE TABLE spent_0 (
    nonce       BLOB    PRIMARY KEY, -- the token's 32 random bytes
    seq         INTEGER NOT NULL,    -- the receipt of the message that it paid for
    received_at INTEGER NOT NULL,
    message_id  BLOB    NOT NULL
) STRICT, WITHOUT ROWID;
CREATE TABLE spent_1 (nonce BLOB PRIMARY KEY, seq INTEGER NOT NULL, received_at INTEGER NOT NULL, message_id BLOB NOT NULL) STRICT, WITHOUT ROWID;
CREATE TABLE spent_2 (nonce BLOB PRIMARY KEY, seq INTEGER NOT NULL, received_at INTEGER NOT NULL, message_id BLOB NOT NULL) STRICT, WITHOUT ROWID;

-- Which epoch each of the three tables holds.
CREATE TABLE spent_slots (
    slot  INTEGER PRIMARY KEY CHECK (slot BETWEEN 0 AND 2),
    epoch INTEGER                    -- NULL while the table is empty
) STRICT;
INSERT INTO spent_slots (slot, epoch) VALUES (0, NULL), (1, NULL), (2, NULL);

-- Pairings that were replaced. Their spent tokens are forgotten, so they never come back.
CREATE TABLE retired_pairings (
    pairing_id BLOB PRIMARY KEY
) STRICT, WITHOUT ROWID;
