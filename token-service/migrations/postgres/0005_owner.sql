-- Whose database this is: another issuer that is led here by mistake changes nothing.
ALTER TABLE issuer ADD COLUMN issuer_name text; -- NULL before the first start
ALTER TABLE issuer ADD COLUMN origin_name text; -- whom the tokens are for
