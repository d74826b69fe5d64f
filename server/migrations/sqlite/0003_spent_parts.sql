-- Each table of spent tokens is split in 16 by the first four bits of the nonce, which is random,
-- so that a closed epoch can be emptied in short transactions, with posts in between: SQLite
-- empties a table of millions of rows fast, but not in parts. Epoch e uses the tables of slot
-- e mod 3. While spent_slots still names an epoch below log.closed_below, its tables wait to be
-- emptied. The columns: the token's 32 random bytes, and the receipt of what it paid for.
CREATE TABLE spent_0_0 (nonce BLOB PRIMARY KEY, seq INTEGER NOT NULL, received_at INTEGER NOT NULL, message_id BLOB NOT NULL) STRICT, WITHOUT ROWID;
CREATE TABLE spent_0_1 (nonce BLOB PRIMARY KEY, seq INTEGER NOT NULL, received_at INTEGER NOT NULL, message_id BLOB NOT NULL) STRICT, WITHOUT ROWID;
CREATE TABLE spent_0_2 (nonce BLOB PRIMARY KEY, seq INTEGER NOT NULL, received_at INTEGER NOT NULL, message_id BLOB NOT NULL) STRICT, WITHOUT ROWID;
CREATE TABLE spent_0_3 (nonce BLOB PRIMARY KEY, seq INTEGER NOT NULL, received_at INTEGER NOT NULL, message_id BLOB NOT NULL) STRICT, WITHOUT ROWID;
CREATE TABLE spent_0_4 (nonce BLOB PRIMARY KEY, seq INTEGER NOT NULL, received_at INTEGER NOT NULL, message_id BLOB NOT NULL) STRICT, WITHOUT ROWID;
CREATE TABLE spent_0_5 (nonce BLOB PRIMARY KEY, seq INTEGER NOT NULL, received_at INTEGER NOT NULL, message_id BLOB NOT NULL) STRICT, WITHOUT ROWID;
CREATE TABLE spent_0_6 (nonce BLOB PRIMARY KEY, seq INTEGER NOT NULL, received_at INTEGER NOT NULL, message_id BLOB NOT NULL) STRICT, WITHOUT ROWID;
CREATE TABLE spent_0_7 (nonce BLOB PRIMARY KEY, seq INTEGER NOT NULL, received_at INTEGER NOT NULL, message_id BLOB NOT NULL) STRICT, WITHOUT ROWID;
CREATE TABLE spent_0_8 (nonce BLOB PRIMARY KEY, seq INTEGER NOT NULL, received_at INTEGER NOT NULL, message_id BLOB NOT NULL) STRICT, WITHOUT ROWID;
CREATE TABLE spent_0_9 (nonce BLOB PRIMARY KEY, seq INTEGER NOT NULL, received_at INTEGER NOT NULL, message_id BLOB NOT NULL) STRICT, WITHOUT ROWID;
CREATE TABLE spent_0_a (nonce BLOB PRIMARY KEY, seq INTEGER NOT NULL, received_at INTEGER NOT NULL, message_id BLOB NOT NULL) STRICT, WITHOUT ROWID;
CREATE TABLE spent_0_b (nonce BLOB PRIMARY KEY, seq INTEGER NOT NULL, received_at INTEGER NOT NULL, message_id BLOB NOT NULL) STRICT, WITHOUT ROWID;
CREATE TABLE spent_0_c (nonce BLOB PRIMARY KEY, seq INTEGER NOT NULL, received_at INTEGER NOT NULL, message_id BLOB NOT NULL) STRICT, WITHOUT ROWID;
CREATE TABLE spent_0_d (nonce BLOB PRIMARY KEY, seq INTEGER NOT NULL, received_at INTEGER NOT NULL, message_id BLOB NOT NULL) STRICT, WITHOUT ROWID;
CREATE TABLE spent_0_e (nonce BLOB PRIMARY KEY, seq INTEGER NOT NULL, received_at INTEGER NOT NULL, message_id BLOB NOT NULL) STRICT, WITHOUT ROWID;
CREATE TABLE spent_0_f (nonce BLOB PRIMARY KEY, seq INTEGER NOT NULL, received_at INTEGER NOT NULL, message_id BLOB NOT NULL) STRICT, WITHOUT ROWID;

CREATE TABLE spent_1_0 (nonce BLOB PRIMARY KEY, seq INTEGER NOT NULL, received_at INTEGER NOT NULL, message_id BLOB NOT NULL) STRICT, WITHOUT ROWID;
CREATE TABLE spent_1_1 (nonce BLOB PRIMARY KEY, seq INTEGER NOT NULL, received_at INTEGER NOT NULL, message_id BLOB NOT NULL) STRICT, WITHOUT ROWID;
CREATE TABLE spent_1_2 (nonce BLOB PRIMARY KEY, seq INTEGER NOT NULL, received_at INTEGER NOT NULL, message_id BLOB NOT NULL) STRICT, WITHOUT ROWID;
CREATE TABLE spent_1_3 (nonce BLOB PRIMARY KEY, seq INTEGER NOT NULL, received_at INTEGER NOT NULL, message_id BLOB NOT NULL) STRICT, WITHOUT ROWID;
CREATE TABLE spent_1_4 (nonce BLOB PRIMARY KEY, seq INTEGER NOT NULL, received_at INTEGER NOT NULL, message_id BLOB NOT NULL) STRICT, WITHOUT ROWID;
CREATE TABLE spent_1_5 (nonce BLOB PRIMARY KEY, seq INTEGER NOT NULL, received_at INTEGER NOT NULL, message_id BLOB NOT NULL) STRICT, WITHOUT ROWID;
CREATE TABLE spent_1_6 (nonce BLOB PRIMARY KEY, seq INTEGER NOT NULL, received_at INTEGER NOT NULL, message_id BLOB NOT NULL) STRICT, WITHOUT ROWID;
CREATE TABLE spent_1_7 (nonce BLOB PRIMARY KEY, seq INTEGER NOT NULL, received_at INTEGER NOT NULL, message_id BLOB NOT NULL) STRICT, WITHOUT ROWID;
CREATE TABLE spent_1_8 (nonce BLOB PRIMARY KEY, seq INTEGER NOT NULL, received_at INTEGER NOT NULL, message_id BLOB NOT NULL) STRICT, WITHOUT ROWID;
CREATE TABLE spent_1_9 (nonce BLOB PRIMARY KEY, seq INTEGER NOT NULL, received_at INTEGER NOT NULL, message_id BLOB NOT NULL) STRICT, WITHOUT ROWID;
CREATE TABLE spent_1_a (nonce BLOB PRIMARY KEY, seq INTEGER NOT NULL, received_at INTEGER NOT NULL, message_id BLOB NOT NULL) STRICT, WITHOUT ROWID;
CREATE TABLE spent_1_b (nonce BLOB PRIMARY KEY, seq INTEGER NOT NULL, received_at INTEGER NOT NULL, message_id BLOB NOT NULL) STRICT, WITHOUT ROWID;
CREATE TABLE spent_1_c (nonce BLOB PRIMARY KEY, seq INTEGER NOT NULL, received_at INTEGER NOT NULL, message_id BLOB NOT NULL) STRICT, WITHOUT ROWID;
CREATE TABLE spent_1_d (nonce BLOB PRIMARY KEY, seq INTEGER NOT NULL, received_at INTEGER NOT NULL, message_id BLOB NOT NULL) STRICT, WITHOUT ROWID;
CREATE TABLE spent_1_e (nonce BLOB PRIMARY KEY, seq INTEGER NOT NULL, received_at INTEGER NOT NULL, message_id BLOB NOT NULL) STRICT, WITHOUT ROWID;
CREATE TABLE spent_1_f (nonce BLOB PRIMARY KEY, seq INTEGER NOT NULL, received_at INTEGER NOT NULL, message_id BLOB NOT NULL) STRICT, WITHOUT ROWID;

CREATE TABLE spent_2_0 (nonce BLOB PRIMARY KEY, seq INTEGER NOT NULL, received_at INTEGER NOT NULL, message_id BLOB NOT NULL) STRICT, WITHOUT ROWID;
CREATE TABLE spent_2_1 (nonce BLOB PRIMARY KEY, seq INTEGER NOT NULL, received_at INTEGER NOT NULL, message_id BLOB NOT NULL) STRICT, WITHOUT ROWID;
CREATE TABLE spent_2_2 (nonce BLOB PRIMARY KEY, seq INTEGER NOT NULL, received_at INTEGER NOT NULL, message_id BLOB NOT NULL) STRICT, WITHOUT ROWID;
CREATE TABLE spent_2_3 (nonce BLOB PRIMARY KEY, seq INTEGER NOT NULL, received_at INTEGER NOT NULL, message_id BLOB NOT NULL) STRICT, WITHOUT ROWID;
CREATE TABLE spent_2_4 (nonce BLOB PRIMARY KEY, seq INTEGER NOT NULL, received_at INTEGER NOT NULL, message_id BLOB NOT NULL) STRICT, WITHOUT ROWID;
CREATE TABLE spent_2_5 (nonce BLOB PRIMARY KEY, seq INTEGER NOT NULL, received_at INTEGER NOT NULL, message_id BLOB NOT NULL) STRICT, WITHOUT ROWID;
CREATE TABLE spent_2_6 (nonce BLOB PRIMARY KEY, seq INTEGER NOT NULL, received_at INTEGER NOT NULL, message_id BLOB NOT NULL) STRICT, WITHOUT ROWID;
CREATE TABLE spent_2_7 (nonce BLOB PRIMARY KEY, seq INTEGER NOT NULL, received_at INTEGER NOT NULL, message_id BLOB NOT NULL) STRICT, WITHOUT ROWID;
CREATE TABLE spent_2_8 (nonce BLOB PRIMARY KEY, seq INTEGER NOT NULL, received_at INTEGER NOT NULL, message_id BLOB NOT NULL) STRICT, WITHOUT ROWID;
CREATE TABLE spent_2_9 (nonce BLOB PRIMARY KEY, seq INTEGER NOT NULL, received_at INTEGER NOT NULL, message_id BLOB NOT NULL) STRICT, WITHOUT ROWID;
CREATE TABLE spent_2_a (nonce BLOB PRIMARY KEY, seq INTEGER NOT NULL, received_at INTEGER NOT NULL, message_id BLOB NOT NULL) STRICT, WITHOUT ROWID;
CREATE TABLE spent_2_b (nonce BLOB PRIMARY KEY, seq INTEGER NOT NULL, received_at INTEGER NOT NULL, message_id BLOB NOT NULL) STRICT, WITHOUT ROWID;
CREATE TABLE spent_2_c (nonce BLOB PRIMARY KEY, seq INTEGER NOT NULL, received_at INTEGER NOT NULL, message_id BLOB NOT NULL) STRICT, WITHOUT ROWID;
CREATE TABLE spent_2_d (nonce BLOB PRIMARY KEY, seq INTEGER NOT NULL, received_at INTEGER NOT NULL, message_id BLOB NOT NULL) STRICT, WITHOUT ROWID;
CREATE TABLE spent_2_e (nonce BLOB PRIMARY KEY, seq INTEGER NOT NULL, received_at INTEGER NOT NULL, message_id BLOB NOT NULL) STRICT, WITHOUT ROWID;
CREATE TABLE spent_2_f (nonce BLOB PRIMARY KEY, seq INTEGER NOT NULL, received_at INTEGER NOT NULL, message_id BLOB NOT NULL) STRICT, WITHOUT ROWID;

INSERT INTO spent_0_0 SELECT nonce, seq, received_at, message_id FROM spent_0 WHERE nonce < x'10';
INSERT INTO spent_0_1 SELECT nonce, seq, received_at, message_id FROM spent_0 WHERE nonce >= x'10' AND nonce < x'20';
INSERT INTO spent_0_2 SELECT nonce, seq, received_at, message_id FROM spent_0 WHERE nonce >= x'20' AND nonce < x'30';
INSERT INTO spent_0_3 SELECT nonce, seq, received_at, message_id FROM spent_0 WHERE nonce >= x'30' AND nonce < x'40';
INSERT INTO spent_0_4 SELECT nonce, seq, received_at, message_id FROM spent_0 WHERE nonce >= x'40' AND nonce < x'50';
INSERT INTO spent_0_5 SELECT nonce, seq, received_at, message_id FROM spent_0 WHERE nonce >= x'50' AND nonce < x'60';
INSERT INTO spent_0_6 SELECT nonce, seq, received_at, message_id FROM spent_0 WHERE nonce >= x'60' AND nonce < x'70';
INSERT INTO spent_0_7 SELECT nonce, seq, received_at, message_id FROM spent_0 WHERE nonce >= x'70' AND nonce < x'80';
INSERT INTO spent_0_8 SELECT nonce, seq, received_at, message_id FROM spent_0 WHERE nonce >= x'80' AND nonce < x'90';
INSERT INTO spent_0_9 SELECT nonce, seq, received_at, message_id FROM spent_0 WHERE nonce >= x'90' AND nonce < x'a0';
INSERT INTO spent_0_a SELECT nonce, seq, received_at, message_id FROM spent_0 WHERE nonce >= x'a0' AND nonce < x'b0';
INSERT INTO spent_0_b SELECT nonce, seq, received_at, message_id FROM spent_0 WHERE nonce >= x'b0' AND nonce < x'c0';
INSERT INTO spent_0_c SELECT nonce, seq, received_at, message_id FROM spent_0 WHERE nonce >= x'c0' AND nonce < x'd0';
INSERT INTO spent_0_d SELECT nonce, seq, received_at, message_id FROM spent_0 WHERE nonce >= x'd0' AND nonce < x'e0';
INSERT INTO spent_0_e SELECT nonce, seq, received_at, message_id FROM spent_0 WHERE nonce >= x'e0' AND nonce < x'f0';
INSERT INTO spent_0_f SELECT nonce, seq, received_at, message_id FROM spent_0 WHERE nonce >= x'f0';
DROP TABLE spent_0;

INSERT INTO spent_1_0 SELECT nonce, seq, received_at, message_id FROM spent_1 WHERE nonce < x'10';
INSERT INTO spent_1_1 SELECT nonce, seq, received_at, message_id FROM spent_1 WHERE nonce >= x'10' AND nonce < x'20';
INSERT INTO spent_1_2 SELECT nonce, seq, received_at, message_id FROM spent_1 WHERE nonce >= x'20' AND nonce < x'30';
INSERT INTO spent_1_3 SELECT nonce, seq, received_at, message_id FROM spent_1 WHERE nonce >= x'30' AND nonce < x'40';
INSERT INTO spent_1_4 SELECT nonce, seq, received_at, message_id FROM spent_1 WHERE nonce >= x'40' AND nonce < x'50';
INSERT INTO spent_1_5 SELECT nonce, seq, received_at, message_id FROM spent_1 WHERE nonce >= x'50' AND nonce < x'60';
INSERT INTO spent_1_6 SELECT nonce, seq, received_at, message_id FROM spent_1 WHERE nonce >= x'60' AND nonce < x'70';
INSERT INTO spent_1_7 SELECT nonce, seq, received_at, message_id FROM spent_1 WHERE nonce >= x'70' AND nonce < x'80';
INSERT INTO spent_1_8 SELECT nonce, seq, received_at, message_id FROM spent_1 WHERE nonce >= x'80' AND nonce < x'90';
INSERT INTO spent_1_9 SELECT nonce, seq, received_at, message_id FROM spent_1 WHERE nonce >= x'90' AND nonce < x'a0';
INSERT INTO spent_1_a SELECT nonce, seq, received_at, message_id FROM spent_1 WHERE nonce >= x'a0' AND nonce < x'b0';
INSERT INTO spent_1_b SELECT nonce, seq, received_at, message_id FROM spent_1 WHERE nonce >= x'b0' AND nonce < x'c0';
INSERT INTO spent_1_c SELECT nonce, seq, received_at, message_id FROM spent_1 WHERE nonce >= x'c0' AND nonce < x'd0';
INSERT INTO spent_1_d SELECT nonce, seq, received_at, message_id FROM spent_1 WHERE nonce >= x'd0' AND nonce < x'e0';
INSERT INTO spent_1_e SELECT nonce, seq, received_at, message_id FROM spent_1 WHERE nonce >= x'e0' AND nonce < x'f0';
INSERT INTO spent_1_f SELECT nonce, seq, received_at, message_id FROM spent_1 WHERE nonce >= x'f0';
DROP TABLE spent_1;

INSERT INTO spent_2_0 SELECT nonce, seq, received_at, message_id FROM spent_2 WHERE nonce < x'10';
INSERT INTO spent_2_1 SELECT nonce, seq, received_at, message_id FROM spent_2 WHERE nonce >= x'10' AND nonce < x'20';
INSERT INTO spent_2_2 SELECT nonce, seq, received_at, message_id FROM spent_2 WHERE nonce >= x'20' AND nonce < x'30';
INSERT INTO spent_2_3 SELECT nonce, seq, received_at, message_id FROM spent_2 WHERE nonce >= x'30' AND nonce < x'40';
INSERT INTO spent_2_4 SELECT nonce, seq, received_at, message_id FROM spent_2 WHERE nonce >= x'40' AND nonce < x'50';
INSERT INTO spent_2_5 SELECT nonce, seq, received_at, message_id FROM spent_2 WHERE nonce >= x'50' AND nonce < x'60';
INSERT INTO spent_2_6 SELECT nonce, seq, received_at, message_id FROM spent_2 WHERE nonce >= x'60' AND nonce < x'70';
INSERT INTO spent_2_7 SELECT nonce, seq, received_at, message_id FROM spent_2 WHERE nonce >= x'70' AND nonce < x'80';
INSERT INTO spent_2_8 SELECT nonce, seq, received_at, message_id FROM spent_2 WHERE nonce >= x'80' AND nonce < x'90';
INSERT INTO spent_2_9 SELECT nonce, seq, received_at, message_id FROM spent_2 WHERE nonce >= x'90' AND nonce < x'a0';
INSERT INTO spent_2_a SELECT nonce, seq, received_at, message_id FROM spent_2 WHERE nonce >= x'a0' AND nonce < x'b0';
INSERT INTO spent_2_b SELECT nonce, seq, received_at, message_id FROM spent_2 WHERE nonce >= x'b0' AND nonce < x'c0';
INSERT INTO spent_2_c SELECT nonce, seq, received_at, message_id FROM spent_2 WHERE nonce >= x'c0' AND nonce < x'd0';
INSERT INTO spent_2_d SELECT nonce, seq, received_at, message_id FROM spent_2 WHERE nonce >= x'd0' AND nonce < x'e0';
INSERT INTO spent_2_e SELECT nonce, seq, received_at, message_id FROM spent_2 WHERE nonce >= x'e0' AND nonce < x'f0';
INSERT INTO spent_2_f SELECT nonce, seq, received_at, message_id FROM spent_2 WHERE nonce >= x'f0';
DROP TABLE spent_2;

-- The numbers from 0 to 1023: statements over many rows take them from one blob, at n times the
-- size of a row.
CREATE TABLE numbers (n INTEGER PRIMARY KEY) STRICT;
INSERT INTO numbers
WITH RECURSIVE counting (n) AS (SELECT 0 UNION ALL SELECT n + 1 FROM counting WHERE n < 1023)
SELECT n FROM counting;
