-- Where to. The mark is made right before the other database has it all for good: whoever was cut
-- short in between runs the move again, to the same place.
ALTER TABLE moved ADD COLUMN target TEXT NOT NULL DEFAULT ''; -- without user and password

-- A command that opened this database before the mark was made changes nothing here after it.
CREATE TRIGGER no_new_vouchers BEFORE INSERT ON vouchers WHEN EXISTS (SELECT 1 FROM moved)
BEGIN SELECT RAISE(ABORT, 'the vouchers were moved'); END;
CREATE TRIGGER no_changed_vouchers BEFORE UPDATE ON vouchers WHEN EXISTS (SELECT 1 FROM moved)
BEGIN SELECT RAISE(ABORT, 'the vouchers were moved'); END;
