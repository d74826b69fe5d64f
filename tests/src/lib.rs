//! What the end-to-end tests and the demo share: real programs on free loopback ports.
//!
//! | | module |
//! |---|---|
//! | the three programs, freshly built | [`programs`] |
//! | a running issuer or relay | [`service`] |
//! | folders of an issuer, its relay and a wallet | [`world`] |
//! | tokens and posts without a wallet, for tests that misuse them | [`bearer`] |
//! | what clients were told under faults, and whether it was true | [`history`] |
//! | several processes over one database, and what goes wrong with them | [`cluster`], [`faults`], [`chaos`] |
//! | clients that go on all the while | [`load`] |
//! | a disk that loses power under real processes | [`disk`] |
//! | a relay that does wrong, in every way that is in its power | [`wrong_relay`] |
//! | an issuer that does wrong | [`wrong_issuer`] |
//! | members of groups | [`member`] |
//! | man pages and shell completions, for packages | [`manual`] |
//! | a proxy that records bytes, or holds them back | [`tap`] |
//! | a plain file server | [`file_server`] |
//! | a SOCKS5 proxy in Tor's place | [`socks`] |
//! | a Tor network of our own, from the real `tor` | [`tor`] |
//! | a browser, from the real `chromium` | [`browser`] |
//! | HTTP written by hand, for requests that no library sends | [`raw_http`] |
//! | clients that mean harm | [`hostile`] |
//! | the same over unix sockets | [`unix_http`] |

#![allow(clippy::print_stdout, clippy::print_stderr)]
#![allow(clippy::disallowed_methods, reason = "tests outlive no power cut")]

pub mod bearer;
pub mod browser;
pub mod chaos;
pub mod cluster;
pub mod disk;
pub mod faults;
pub mod file_server;
pub mod history;
pub mod hostile;
pub mod load;
pub mod manual;
pub mod member;
pub mod programs;
pub mod raw_http;
pub mod service;
pub mod socks;
pub mod tap;
pub mod tor;
pub mod unix_http;
pub mod world;
pub mod wrong_issuer;
pub mod wrong_relay;
