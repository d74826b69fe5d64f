-- The time up to which the relays have believed their clocks, for what is deleted by age: a clock that
-- is far ahead of it has jumped. No row before the first start. Not in the log's row: posts wait for
-- that one.
CREATE TABLE settled (
    id         smallint PRIMARY KEY CHECK (id = 1),
    settled_at bigint   NOT NULL -- unix seconds, to within ten minutes
);
