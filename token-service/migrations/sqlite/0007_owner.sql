-- Whose database this is: another issuer that is led here by mistake changes nothing.
ALTER TABLE issuer ADD COLUMN issuer_name TEXT; -- NULL before the first start
ALTER TABLE issuer ADD COLUMN origin_name TEXT; -- whom the tokens are for
