-- The time up to which the issuers have believed their clocks, for what is forgotten by age: a clock
-- that is far ahead of it has jumped.
ALTER TABLE issuer ADD COLUMN settled_at bigint; -- unix seconds, to within ten minutes; NULL before the first start
