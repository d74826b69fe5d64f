-- The keys that tokens were bought under, as issuer and relay both showed them.
CREATE TABLE token_keys (
    id          INTEGER PRIMARY KEY,
    issuer_name TEXT    NOT NULL,
    relay_name  TEXT    NOT NULL,
    relay_url   TEXT    NOT NULL, -- where the relay was when they were bought: only there are they spent
    token_key   BLOB    NOT NULL CHECK (length(token_key) = 32),
    epoch       INTEGER NOT NULL,
    not_before  INTEGER NOT NULL, -- unix seconds; first second of issuance
    not_after   INTEGER NOT NULL, -- unix seconds; the relay takes its tokens until then
    UNIQUE (issuer_name, relay_name, relay_url, token_key)
) STRICT;

-- Pending: asked for, not yet received. Saved before the request is sent.
CREATE TABLE batches (
    id         INTEGER PRIMARY KEY,
    key_id     INTEGER NOT NULL REFERENCES token_keys (id),
    issuer_url TEXT    NOT NULL,     -- who was asked: only there the voucher is sent
    voucher    TEXT    NOT NULL,     -- what pays for it; needed to ask again
    tokens     INTEGER NOT NULL,
    secrets    BLOB    NOT NULL CHECK (length(secrets) = 64 * tokens) -- for each token: nonce 32, blind 32
) STRICT;

-- Unspent, or reserved for a message. A token that was shown to the relay never goes back to
-- unspent: the relay would know both messages for one sender's. A spent token is deleted with its
-- message, so that a wallet in other hands does not tell what its owner wrote.
CREATE TABLE tokens (
    nonce      BLOB    PRIMARY KEY CHECK (length(nonce) = 32),
    key_id     INTEGER NOT NULL REFERENCES token_keys (id),
    token      BLOB    NOT NULL CHECK (length(token) = 162),
    message_id BLOB    CHECK (length(message_id) = 32), -- NULL while unspent
    cell       BLOB,                                    -- the message, saved before it is posted
    disputed   INTEGER NOT NULL DEFAULT 0,              -- 1: the relay says that it paid for another message
    CHECK ((message_id IS NULL) = (cell IS NULL))
) STRICT, WITHOUT ROWID;

-- What is left of tokens that are gone: their number.
CREATE TABLE totals (
    issuer_name TEXT    NOT NULL,
    relay_name  TEXT    NOT NULL,
    relay_url   TEXT    NOT NULL,
    spent       INTEGER NOT NULL DEFAULT 0, -- paid for a message
    given_up    INTEGER NOT NULL DEFAULT 0, -- expired, disputed, or given up with their message
    PRIMARY KEY (issuer_name, relay_name, relay_url)
) STRICT, WITHOUT ROWID;
