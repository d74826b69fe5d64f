-- The issuer's tables. They want a database of their own, or a schema of their own named in the
-- role's search_path. No table is UNLOGGED: what was charged must survive a crash.

-- A voucher: the right to be given a number of tokens. Whoever charges one locks its row first, in
-- the order of ids, so that charges of several issuers follow one another.
CREATE TABLE vouchers (
    id         bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY, -- internal, never shown
    code_hash  bytea  NOT NULL UNIQUE,       -- SHA-256 of the code's 16 bytes; the code itself is not kept
    granted    bigint NOT NULL,              -- tokens granted when it was made
    balance    bigint NOT NULL CHECK (balance BETWEEN 0 AND granted), -- tokens left
    expires_at bigint NOT NULL,              -- unix seconds; not usable from then on
    revoked_at bigint                        -- unix seconds; NULL while it is usable
);

-- A request that was charged, so that its repeat is answered and not charged again.
CREATE TABLE charges (
    voucher_id   bigint NOT NULL REFERENCES vouchers (id) ON DELETE CASCADE, -- who was charged
    body_hash    bytea  NOT NULL,            -- SHA-256 of the request body
    epoch        bigint NOT NULL,            -- the key that it was answered under
    tokens       bigint NOT NULL,            -- what was charged
    replays      bigint NOT NULL,            -- repeats since window_start
    window_start bigint NOT NULL,            -- unix seconds
    PRIMARY KEY (voucher_id, body_hash)
);

CREATE INDEX charges_by_epoch ON charges (epoch);

-- Facts about this issuer: one row.
CREATE TABLE issuer (
    id           smallint PRIMARY KEY CHECK (id = 1),
    pairing_id   bytea,                      -- the pairing's id; NULL before the first start
    closed_below bigint NOT NULL DEFAULT 0   -- charges of epochs below this are forgotten, so none is made, whatever the clock shows
);
INSERT INTO issuer (id) VALUES (1);

-- Pairings that were replaced. Which of their requests were charged is forgotten, so they never
-- come back.
CREATE TABLE retired_pairings (
    pairing_id bytea PRIMARY KEY
);
