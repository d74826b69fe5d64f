-- Which keys of the pairing are in use: a planned renewal keeps its id and has other ones.
ALTER TABLE issuer ADD COLUMN keys_id bytea; -- token_key_id of the first epoch of the newest secret
