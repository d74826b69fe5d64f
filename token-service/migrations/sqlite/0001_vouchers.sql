-- A voucher: the right to be given a number of tokens.
CREATE TABLE vouchers (
    id         INTEGER PRIMARY KEY,           -- internal, never shown
    code_hash  BLOB    NOT NULL UNIQUE,       -- SHA-256 of the code's 16 bytes; the code itself is not kept
    granted    INTEGER NOT NULL,              -- tokens granted when it was made
    balance    INTEGER NOT NULL CHECK (balance BETWEEN 0 AND granted), -- tokens left
    expires_at INTEGER NOT NULL,              -- unix seconds; not usable from then on
    revoked_at INTEGER                        -- unix seconds; NULL while it is usable
) STRICT;

-- A request that was charged, so that its repeat is answered and not charged again.
CREATE TABLE charges (
    voucher_id   INTEGER NOT NULL REFERENCES vouchers (id) ON DELETE CASCADE, -- who was charged
    body_hash    BLOB    NOT NULL,            -- SHA-256 of the request body
    epoch        INTEGER NOT NULL,            -- the key that it was answered under
    tokens       INTEGER NOT NULL,            -- what was charged
    replays      INTEGER NOT NULL,            -- repeats since window_start
    window_start INTEGER NOT NULL,            -- unix seconds
    PRIMARY KEY (voucher_id, body_hash)
) STRICT, WITHOUT ROWID;

CREATE INDEX charges_by_epoch ON charges (epoch);

-- Facts about this issuer: one row.
CREATE TABLE issuer (
    id           INTEGER PRIMARY KEY CHECK (id = 1),
    pairing_id   BLOB,                       -- the pairing's id; NULL before the first start
    closed_below INTEGER NOT NULL DEFAULT 0  -- charges of epochs below this are forgotten, so none is made, whatever the clock shows
) STRICT;
INSERT INTO issuer (id) VALUES (1);
