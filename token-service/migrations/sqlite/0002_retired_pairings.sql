-- Pairings that were replaced. Which of their requests were charged is forgotten, so they never
-- come back.
CREATE TABLE retired_pairings (
    pairing_id BLOB PRIMARY KEY      -- ids of pairings, and of keys that a planned renewal replaced
) STRICT, WITHOUT ROWID;

-- That the vouchers are in another database now, since when: one row then, none before. Whoever
-- served them from here again would give tokens for them twice.
CREATE TABLE moved (
    moved_at INTEGER NOT NULL        -- unix seconds
) STRICT;
