-- Where to. The mark is made right before the other database has it all for good: whoever was cut
-- short in between runs the move again, to the same place.
ALTER TABLE moved ADD COLUMN target TEXT NOT NULL DEFAULT ''; -- without user and password
