-- Who decided that a voucher's holder may have tokens: 0 voucher, 1 allowance, 2 webhook, 3 proof of
-- work, 4 open. Of 3 and 4 there is one row each, an account for all that come that way: what it is
-- charged is counted in issued, and its balance means nothing.
ALTER TABLE vouchers ADD COLUMN attester smallint NOT NULL DEFAULT 0;
ALTER TABLE vouchers ADD COLUMN refilled_epoch bigint NOT NULL DEFAULT -1; -- allowance: the last epoch that it was filled up for

-- Tokens handed out under each epoch's key, by attester: for the budgets, and to be compared with what
-- the relay has redeemed. Repeats do not count. Kept until the pairing is renewed. Whoever charges
-- locks the rows of its epochs first, before it locks vouchers.
CREATE TABLE issued (
    epoch    bigint   NOT NULL,
    attester smallint NOT NULL,
    tokens   bigint   NOT NULL,
    PRIMARY KEY (epoch, attester)
);
INSERT INTO issued (epoch, attester, tokens) SELECT epoch, 0, sum(tokens)::bigint FROM charges GROUP BY epoch;

-- What the relay has redeemed under each epoch's key, as far as somebody reported it.
CREATE TABLE redeemed (
    epoch       bigint PRIMARY KEY,
    tokens      bigint NOT NULL, -- the most that was ever reported
    reported_at bigint NOT NULL  -- unix seconds
);

-- What the operator calls a voucher. Only commands read it, never the service.
CREATE TABLE labels (
    voucher bytea PRIMARY KEY,   -- the first 8 bytes of the code's hash
    label   text  NOT NULL
);
