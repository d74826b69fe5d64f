//! Files, folders and SQLite databases that survive a power cut.
//!
//! | promise | module |
//! |---|---|
//! | created, renamed and removed names are durable | [`names`] |
//! | rows are durable before they are read | [`sqlite`] |
//! | a disk takes writes of some size | [`room`] |
//!
//! `docs/adr/0016-durability.md` says what is synced when, and why.

pub mod names;
pub mod room;
pub mod sqlite;
