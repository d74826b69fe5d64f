-- The relay's tables. They want a database of their own, or a schema of their own named in the
-- role's search_path. No table is UNLOGGED: what is acknowledged must survive a crash.

-- Facts about the whole log: one row. Whoever appends locks this row first and holds it until the
-- commit is durable, so the lock is what orders the messages of all relays.
CREATE TABLE log (
    id           smallint PRIMARY KEY CHECK (id = 1),
    head         bigint   NOT NULL,  -- sequence of the newest message ever stored, 0 before the first
    cell_bytes   integer  NOT NULL,  -- size of every cell
    pairing_id   bytea    NOT NULL,  -- the pairing's id; a planned renewal keeps it
    closed_below bigint   NOT NULL,  -- no token of an epoch below this is taken again, whatever the clock shows
    keys_serial  bigint   NOT NULL DEFAULT -1, -- of the newest statement of keys, -1 before the first
    keys_root    bytea,              -- root of the tree over its keys, NULL before the first
    verifier_key text,               -- whose signature the log has, for good; NULL before the first start
    went_back    boolean  NOT NULL DEFAULT false -- whether a relay missed what it had acknowledged: no post is taken until the pairing is renewed
) WITH (fillfactor = 10);            -- room for new versions of the row in the same page

-- Messages are kept in blocks, one for each commit, or several if it has more than 256 KiB. Dense:
-- a block begins where the one before it ends, and the last ends at log.head.
CREATE TABLE blocks (
    first_seq   bigint  PRIMARY KEY, -- place in the log of its first message, from 1
    messages    integer NOT NULL,    -- how many
    received_at bigint  NOT NULL,    -- unix seconds, of all of them, by the clock of the relay that took them
    cells       bytea   NOT NULL     -- the cells, one after the other
);
ALTER TABLE blocks ALTER COLUMN cells SET STORAGE EXTERNAL; -- encrypted cells do not compress

-- The tree over all messages ever stored. It stays when messages go, so that old proofs can be
-- checked. Its last leaves, which do not fill a tile yet: a row for each commit. Dense from the
-- end of the last tile of level 0 to log.head.
CREATE TABLE leaves (
    first_seq bigint PRIMARY KEY,    -- of the first message
    hashes    bytea  NOT NULL        -- 32 bytes for each message: SHA-256(0x00 || cell)
);

-- Full tiles: 256 consecutive nodes of the tree (c2sp.org/tlog-tiles).
CREATE TABLE tiles (
    level  smallint NOT NULL,        -- nodes of the tree at 8 times this level
    tile   bigint   NOT NULL,        -- place in the level, from 0
    hashes bytea    NOT NULL,        -- 8192 bytes
    PRIMARY KEY (level, tile)
);
ALTER TABLE leaves ALTER COLUMN hashes SET STORAGE EXTERNAL;
ALTER TABLE tiles ALTER COLUMN hashes SET STORAGE EXTERNAL;

-- Spent tokens, a partition for each epoch, made ahead and dropped whole. A row outlives its
-- message: a retry gets its first receipt.
CREATE TABLE spent (
    epoch       bigint NOT NULL, -- whose key the token was issued under
    nonce       bytea  NOT NULL, -- the token's 32 random bytes
    seq         bigint NOT NULL, -- the receipt of the message that it paid for
    received_at bigint NOT NULL,
    message_id  bytea  NOT NULL,
    PRIMARY KEY (epoch, nonce)
) PARTITION BY LIST (epoch);

-- The relays' statements of keys, with serials from 0 on without gaps. Added under the lock on the
-- log's row. Never changed, never deleted.
CREATE TABLE statements (
    serial bigint PRIMARY KEY,
    note   text   NOT NULL,          -- the signed note
    since  bigint NOT NULL,          -- log.head when it was added: checkpoints of longer logs name it
    leaves bytea  NOT NULL           -- of the tree over its keys, 32 bytes for each epoch
);

-- Pairings that were replaced. Their spent tokens are forgotten, so they never come back.
CREATE TABLE retired_pairings (
    pairing_id bytea PRIMARY KEY
);

-- Spends tokens and appends their messages, all or none, in one durable transaction that begins and
-- ends here: no lock is ever held while a relay is waited for, so one that is stopped, cut off
-- or killed at any moment holds nobody up and has appended all or nothing.
--
-- Where tokens were spent before, it gives those and appends nothing; where the epoch of one is
-- closed, it gives closed_below and appends nothing. The caller leaves these out and calls again.
--
-- Errors: TOC01 the relay has another pairing than the log, or other keys than its newest statement; TOC02 the log lacks what the relay has
-- seen of it, or another relay found so; 23514 an epoch has no partition yet.
CREATE PROCEDURE spend_and_append(
    my_pairing_id  bytea,    -- the caller's
    my_keys_root   bytea,    -- root of the tree over its keys, NULL if it signs nothing
    seen_head      bigint,   -- the newest sequence that the caller knows to be durable
    seen_epoch     bigint,   -- the last token that the caller has spent, NULL before the first,
    seen_nonce     bytea,    -- its nonce
    seen_seq       bigint,   -- and the message that it paid for
    now_seconds    bigint,   -- unix seconds
    epochs         bigint[], -- of each token,
    nonces         bytea[],  -- its nonce, all of them different,
    message_ids    bytea[],  -- and the message that it pays for, in the order of the log to be
    new_cells      bytea,    -- the cells, one after the other
    block_messages integer,  -- the most messages in a block
    OUT first_seq         bigint,   -- of the first message, or NULL if nothing was appended
    OUT now_keys_serial   bigint,   -- of the newest statement of keys, where something was appended
    OUT spent_epochs      bigint[], -- tokens that were spent before, and their receipts
    OUT spent_nonces      bytea[],
    OUT spent_seqs        bigint[],
    OUT spent_received_at bigint[],
    OUT spent_message_ids bytea[],
    OUT now_closed_below  bigint    -- where this closes the epoch of a token
) LANGUAGE plpgsql AS $$
#variable_conflict use_variable
DECLARE
    head_row log%ROWTYPE;
    count    integer := cardinality(nonces);
    stored   integer;
BEGIN
    LOOP
        PERFORM set_config('lock_timeout', '5s', true),
            -- A partition that has just been made looks small to the planner when it is not any more.
            set_config('enable_seqscan', 'off', true),
            set_config('jit', 'off', true); -- plans that are avoided look dear enough to compile
        IF current_setting('synchronous_commit') IN ('off', 'local') THEN
            PERFORM set_config('synchronous_commit', 'on', true);
        END IF;
        -- Before the lock, so that retries cost the other relays nothing.
        SELECT array_agg(s.epoch), array_agg(s.nonce), array_agg(s.seq),
            array_agg(s.received_at), array_agg(s.message_id)
        INTO spent_epochs, spent_nonces, spent_seqs, spent_received_at, spent_message_ids
        FROM unnest(epochs, nonces) AS asked (e, n)
        -- One by one: that leaves the planner no way but the primary key.
        CROSS JOIN LATERAL (
            SELECT * FROM spent WHERE spent.epoch = asked.e AND spent.nonce = asked.n OFFSET 0
        ) AS s;
        IF spent_nonces IS NOT NULL THEN
            ROLLBACK;
            RETURN;
        END IF;

        SELECT * INTO STRICT head_row FROM log WHERE log.id = 1 FOR NO KEY UPDATE;
        IF head_row.pairing_id <> my_pairing_id OR head_row.keys_root <> my_keys_root THEN
            RAISE EXCEPTION 'this relay has another pairing than its log' USING ERRCODE = 'TOC01';
        END IF;
        -- A log that went back may have grown past its old end since: so not only its length counts.
        IF head_row.went_back OR head_row.head < seen_head OR seen_epoch >= head_row.closed_below
            AND NOT EXISTS (SELECT FROM spent AS s
                WHERE s.epoch = seen_epoch AND s.nonce = seen_nonce AND s.seq = seen_seq) THEN
            RAISE EXCEPTION 'acknowledged messages up to % are missing', seen_head
                USING ERRCODE = 'TOC02';
        END IF;
        IF head_row.closed_below > ANY (epochs) THEN
            now_closed_below := head_row.closed_below;
            ROLLBACK; -- lets go of the log here, not when the caller says so
            RETURN;
        END IF;
        -- In key order, so that neighbours share a page.
        INSERT INTO spent (epoch, nonce, seq, received_at, message_id)
        SELECT e, n, head_row.head + place, now_seconds, m
        FROM unnest(epochs, nonces, message_ids) WITH ORDINALITY AS asked (e, n, m, place)
        ORDER BY e, n
        ON CONFLICT DO NOTHING;
        GET DIAGNOSTICS stored = ROW_COUNT;
        EXIT WHEN stored = count;
        -- Between the look and the lock another relay spent one of them. Now it can be seen.
        ROLLBACK;
    END LOOP;

    INSERT INTO blocks (first_seq, messages, received_at, cells)
    SELECT head_row.head + skipped + 1, least(block_messages, count - skipped), now_seconds,
        CASE WHEN count <= block_messages THEN new_cells
             ELSE substr(new_cells, skipped * head_row.cell_bytes + 1, block_messages * head_row.cell_bytes)
        END
    FROM generate_series(0, count - 1, block_messages) AS skipped;
    INSERT INTO leaves (first_seq, hashes)
    SELECT head_row.head + 1, string_agg(m, '' ORDER BY place)
    FROM unnest(message_ids) WITH ORDINALITY AS appended (m, place);
    UPDATE log SET head = head_row.head + count WHERE log.id = 1;
    first_seq := head_row.head + 1;
    now_keys_serial := head_row.keys_serial;
    -- Wakes those who follow; what they are told is only that there is something to read.
    PERFORM pg_notify('tocyn_head', '');
    COMMIT;
END
$$;
