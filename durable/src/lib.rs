//! What is on disk after a power cut.
//!
//! | promise | module |
//! |---|---|
//! | a name that was created, renamed or removed stays so | [`names`] |
//! | a database shows nothing that the next cut would take back | [`sqlite`] |
//! | a disk that has room has room | [`room`] |
//!
//! `docs/adr/0016-durability.md` says what is synced when, and why.

pub mod names;
pub mod room;
pub mod sqlite;
