//! SQLite in WAL mode.
