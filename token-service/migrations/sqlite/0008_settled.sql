-- The time up to which this issuer has believed its clock, for what is forgotten by age: a clock that
-- is far ahead of it has jumped.
ALTER TABLE issuer ADD COLUMN settled_at INTEGER; -- unix seconds, to within ten minutes; NULL before the first start
