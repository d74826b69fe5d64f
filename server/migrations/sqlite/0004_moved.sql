-- That this log goes on in another database, since when: one row then, none before. Whoever served
-- it from here again would take tokens that were spent there.
CREATE TABLE moved (
    moved_at INTEGER NOT NULL -- unix seconds
) STRICT;
