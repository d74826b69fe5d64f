-- What each relay has shown of its log.
CREATE TABLE logs (
    relay_name TEXT NOT NULL,
    relay_url  TEXT NOT NULL,
    log_key    TEXT NOT NULL, -- whose signature it has, as it was shown first
    checkpoint TEXT,          -- the newest one that was shown, a signed note
    PRIMARY KEY (relay_name, relay_url)
) STRICT, WITHOUT ROWID;
