-- The origins (relays) that this wallet has met. Kept by their key, not by address: all addresses of
-- an origin share one stock of tokens.
CREATE TABLE origins (
    origin_key TEXT    PRIMARY KEY, -- NAME+ID+KEY: signs statements and the log
    statement  TEXT    NOT NULL,    -- the pinned statement of keys, a signed note
    pinned_at  INTEGER NOT NULL,    -- unix seconds
    cell_bytes INTEGER NOT NULL,    -- size of its cells: another one for one reader would mark it
    offer      TEXT,                -- the newest statement that goes on from it and is not accepted yet
    offered_at INTEGER,             -- unix seconds: when it was shown first
    checkpoint TEXT,                -- the newest checkpoint of its log that was shown, a signed note
    grown      TEXT,                -- the newest one up to which the log was seen to have only grown
    bundles    BLOB CHECK (length(bundles) = 32), -- root of the tree over the whole bundles of 256 in that one
    CHECK ((offer IS NULL) = (offered_at IS NULL)),
    CHECK ((grown IS NULL) = (bundles IS NULL))
) STRICT;

-- Which origin answers at an address: another key there is refused.
CREATE TABLE addresses (
    url        TEXT PRIMARY KEY,
    origin_key TEXT NOT NULL REFERENCES origins (origin_key) ON DELETE CASCADE
) STRICT, WITHOUT ROWID;

-- For each serial the signed notes that were seen to name a statement of keys. Another hash for the
-- same serial is evidence, and so is a checkpoint of a longer log that names an earlier serial. Never
-- forgotten with the last token.
CREATE TABLE named (
    origin_key    TEXT    NOT NULL,
    serial        INTEGER NOT NULL,
    hash          BLOB    NOT NULL CHECK (length(hash) = 32), -- SHA-256 of the statement
    note          TEXT    NOT NULL, -- the first one: the statement, or a checkpoint
    shortest      TEXT,             -- the checkpoint of the shortest log that names it
    shortest_size INTEGER,
    longest       TEXT,             -- the checkpoint of the longest one
    longest_size  INTEGER,
    PRIMARY KEY (origin_key, serial),
    CHECK ((shortest IS NULL) = (shortest_size IS NULL)),
    CHECK ((longest IS NULL) = (longest_size IS NULL))
) STRICT, WITHOUT ROWID;

-- Copies of an origin's log that were read from: `tocyn check` compares with them.
CREATE TABLE mirrors (
    url        TEXT PRIMARY KEY,
    origin_key TEXT NOT NULL
) STRICT, WITHOUT ROWID;

-- The keys that tokens were bought under, each proven under the pinned statement.
CREATE TABLE token_keys (
    id         INTEGER PRIMARY KEY,
    origin_key TEXT    NOT NULL REFERENCES origins (origin_key) ON DELETE CASCADE,
    token_key  BLOB    NOT NULL CHECK (length(token_key) = 32),
    epoch      INTEGER NOT NULL,
    not_before INTEGER NOT NULL, -- unix seconds; first second of issuance
    not_after  INTEGER NOT NULL, -- unix seconds; the relay takes its tokens until then
    UNIQUE (origin_key, token_key)
) STRICT;

-- Pending: asked for, not yet received. Saved before the request is sent.
CREATE TABLE batches (
    id         INTEGER PRIMARY KEY,
    key_id     INTEGER NOT NULL REFERENCES token_keys (id) ON DELETE CASCADE,
    issuer_url TEXT    NOT NULL,     -- who was asked: only there the voucher is sent
    voucher    TEXT    NOT NULL,     -- what pays for it; needed to ask again
    tokens     INTEGER NOT NULL,
    secrets    BLOB    NOT NULL CHECK (length(secrets) = 64 * tokens) -- for each token: nonce 32, blind 32
) STRICT;

-- Unspent, or reserved for a message. A token that was shown to the relay never goes back to
-- unspent: the relay would know both messages for one sender's. A spent token is deleted with its
-- message.
CREATE TABLE tokens (
    nonce      BLOB    PRIMARY KEY CHECK (length(nonce) = 32),
    key_id     INTEGER NOT NULL REFERENCES token_keys (id) ON DELETE CASCADE,
    token      BLOB    NOT NULL CHECK (length(token) = 162),
    message_id BLOB    CHECK (length(message_id) = 32), -- NULL while unspent
    cell       BLOB,                                    -- the message, saved before it is posted
    disputed   INTEGER NOT NULL DEFAULT 0,              -- 1: the relay says that it paid for another message
    CHECK ((message_id IS NULL) = (cell IS NULL))
) STRICT, WITHOUT ROWID;

-- What is left of tokens that are gone: their number.
CREATE TABLE totals (
    origin_key TEXT    PRIMARY KEY REFERENCES origins (origin_key) ON DELETE CASCADE,
    spent      INTEGER NOT NULL DEFAULT 0, -- paid for a message
    given_up   INTEGER NOT NULL DEFAULT 0  -- expired, void, disputed, or given up with their message
) STRICT, WITHOUT ROWID;
