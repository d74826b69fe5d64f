-- The trees of logs that were followed message by message, as far as each was checked against a
-- signed checkpoint.
CREATE TABLE trees (
    log_key    TEXT    PRIMARY KEY, -- whose signature the log has
    size       INTEGER NOT NULL,    -- leaves
    checkpoint TEXT    NOT NULL,    -- of this size, a signed note
    synced_at  INTEGER NOT NULL     -- unix seconds: when the relay was last asked
) STRICT, WITHOUT ROWID;

-- Their hashes: 256 consecutive nodes each, fewer at the right edge (c2sp.org/tlog-tiles).
CREATE TABLE tiles (
    log_key TEXT    NOT NULL REFERENCES trees (log_key) DEFERRABLE INITIALLY DEFERRED,
    level   INTEGER NOT NULL, -- nodes of the tree at 8 times this level
    tile    INTEGER NOT NULL, -- place in the level, from 0
    hashes  BLOB    NOT NULL, -- 32 bytes for each node
    PRIMARY KEY (log_key, level, tile)
) STRICT;

-- Signed checkpoints that this wallet was shown, or a member passed on, and that were not yet held
-- against the tree.
CREATE TABLE claims (
    id      INTEGER PRIMARY KEY,
    log_key TEXT    NOT NULL,
    note    TEXT    NOT NULL, -- the checkpoint
    told    INTEGER NOT NULL DEFAULT 0, -- 1: that the tree is too short for it was told
    UNIQUE (log_key, note)
) STRICT;

-- Receipts that were not yet found in the log. A public post's tells what its owner wrote, until
-- `tocyn check` has found it.
CREATE TABLE receipts (
    log_key    TEXT    NOT NULL,
    seq        INTEGER NOT NULL, -- where the message is, as the relay says
    message_id BLOB    NOT NULL, -- 32 bytes: SHA-256(0x00 || cell)
    proof      TEXT    NOT NULL, -- c2sp.org/tlog-proof
    told       INTEGER NOT NULL DEFAULT 0, -- 1: that the tree is too short for it was told
    PRIMARY KEY (log_key, seq, message_id)
) STRICT, WITHOUT ROWID;

-- What relays did wrong.
CREATE TABLE faults (
    id      INTEGER PRIMARY KEY,
    log_key TEXT NOT NULL,
    what    TEXT NOT NULL, -- for people to read
    file    TEXT,          -- the evidence, where there is any
    UNIQUE (log_key, what)
) STRICT;

CREATE TABLE groups (
    id         INTEGER PRIMARY KEY,
    name       TEXT    NOT NULL UNIQUE,  -- as this member calls it
    secret     BLOB    NOT NULL CHECK (length(secret) = 32),
    author     BLOB    NOT NULL CHECK (length(author) = 32), -- this member's Ed25519 seed
    own_name   TEXT    NOT NULL,         -- what this member wants to be called
    log_key    TEXT    NOT NULL,         -- the relay's origin key, which signs its log
    statement  BLOB    NOT NULL CHECK (length(statement) = 32), -- hash of the statement of keys in the invite
    issuer_url TEXT    NOT NULL,
    relay_urls TEXT    NOT NULL,         -- one a line
    cell_bytes INTEGER NOT NULL,         -- the relay's
    proxy      TEXT,                     -- through which it was made or joined, and is reached
    counter    INTEGER NOT NULL DEFAULT 0, -- of this member's last message
    read_to    INTEGER NOT NULL DEFAULT 0, -- messages of the log that were looked at, or skipped
    skipped    INTEGER NOT NULL DEFAULT 0, -- of those, the ones that were no longer kept
    excused_to INTEGER NOT NULL DEFAULT 0, -- what may lie before this place was skipped, and is not held against the relay
    accepted_to INTEGER NOT NULL DEFAULT 0, -- what is named as missing before this place is known
    duplicates INTEGER NOT NULL DEFAULT 0, -- cells that came again
    spoiled    INTEGER NOT NULL DEFAULT 0  -- cells that only pretend to be of this group, or make no sense
) STRICT;

-- Parts of messages, in the order of the log. The bytes go when the message is whole.
CREATE TABLE parts (
    group_id   INTEGER NOT NULL REFERENCES groups (id) ON DELETE CASCADE,
    message    BLOB    NOT NULL, -- its id, 32 bytes
    author     BLOB    NOT NULL, -- who signed the part, 32 bytes
    part       INTEGER NOT NULL, -- from 0
    parts      INTEGER NOT NULL, -- of how many
    seq        INTEGER NOT NULL, -- the cell's place in the log
    bytes      BLOB,
    PRIMARY KEY (group_id, message, author, part)
) STRICT, WITHOUT ROWID;

CREATE TABLE messages (
    group_id INTEGER NOT NULL REFERENCES groups (id) ON DELETE CASCADE,
    id       BLOB    NOT NULL,  -- SHA-256 of the message, 32 bytes
    author   BLOB    NOT NULL,  -- Ed25519 public key, 32 bytes
    name     TEXT    NOT NULL,  -- what the author wants to be called
    counter  INTEGER NOT NULL,  -- the author's
    time     INTEGER NOT NULL,  -- unix seconds, by the author's clock
    body     BLOB    NOT NULL,
    seq      INTEGER,           -- place in the log of its first part; NULL: not found there yet
    late     INTEGER NOT NULL DEFAULT 0, -- seconds by which it came later than others that were sent after it
    PRIMARY KEY (group_id, id)
) STRICT, WITHOUT ROWID;

-- What each message answers to. The parent need not be here: then it is missing.
CREATE TABLE parents (
    group_id INTEGER NOT NULL REFERENCES groups (id) ON DELETE CASCADE,
    child    BLOB    NOT NULL,
    parent   BLOB    NOT NULL,
    PRIMARY KEY (group_id, child, parent)
) STRICT, WITHOUT ROWID;
CREATE INDEX children ON parents (group_id, parent);

-- Cells on their way to the relay, in this order. The token that pays is reserved for the cell's id.
CREATE TABLE outbox (
    id         INTEGER PRIMARY KEY,
    group_id   INTEGER NOT NULL REFERENCES groups (id) ON DELETE CASCADE,
    said       BLOB    NOT NULL, -- 32 bytes: id of the message that the cell is of; its cells share a connection
    message_id BLOB    NOT NULL, -- 32 bytes: SHA-256(0x00 || cell)
    cell       BLOB    NOT NULL
) STRICT;
