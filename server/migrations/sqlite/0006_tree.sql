-- The tree over all messages ever stored. It stays when messages go, so that old proofs can be
-- checked. Its last leaves, which do not fill a tile yet: a row for each commit. Dense from the
-- end of the last tile of level 0 to log.head.
CREATE TABLE leaves (
    first_seq INTEGER PRIMARY KEY, -- of the first message
    hashes    BLOB    NOT NULL     -- 32 bytes for each message: SHA-256(0x00 || cell)
) STRICT;

-- Full tiles: 256 consecutive nodes of the tree (c2sp.org/tlog-tiles).
CREATE TABLE tiles (
    level  INTEGER NOT NULL,       -- nodes of the tree at 8 times this level
    tile   INTEGER NOT NULL,       -- place in the level, from 0
    hashes BLOB    NOT NULL,       -- 8192 bytes
    PRIMARY KEY (level, tile)
) STRICT;

-- Whose signature the log has, for good; NULL before the first start.
ALTER TABLE log ADD COLUMN verifier_key TEXT;
