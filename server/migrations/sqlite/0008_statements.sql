-- The relay's statements of keys, with serials from 0 on without gaps. Never changed, never deleted.
CREATE TABLE statements (
    serial INTEGER PRIMARY KEY,
    note   TEXT    NOT NULL,  -- the signed note
    since  INTEGER NOT NULL,  -- log.head when it was added: checkpoints of longer logs name it
    leaves BLOB    NOT NULL   -- of the tree over its keys, 32 bytes for each epoch
) STRICT;
