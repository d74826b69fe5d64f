-- Secrets that only the issuers have, all the same ones: the relay, which has the pairing too, makes
-- nothing of them.
CREATE TABLE secrets (
    purpose smallint NOT NULL, -- 0 ids of grants, 1 codes of grants, 2 challenges of proof of work
    number  bigint   NOT NULL, -- days since 1970; 0 where there is one for all time
    secret  bytea    NOT NULL CHECK (length(secret) IN (0, 32)), -- empty once it is wiped: it is never made again
    PRIMARY KEY (purpose, number)
);

-- Ids for which another service was given a code. Nothing here tells which voucher that is.
CREATE TABLE grants (
    id_hash    bytea  PRIMARY KEY CHECK (length(id_hash) = 32), -- under the secret of purpose 0
    number     bigint NOT NULL, -- of the secret of purpose 1 that the code came from
    granted_at bigint NOT NULL  -- unix seconds
);
