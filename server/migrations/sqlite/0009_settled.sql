-- The time up to which this relay has believed its clock, for what is deleted by age: a clock that is
-- far ahead of it has jumped. No row before the first start.
CREATE TABLE settled (
    id         INTEGER PRIMARY KEY CHECK (id = 1),
    settled_at INTEGER NOT NULL -- unix seconds, to within ten minutes
) STRICT;
