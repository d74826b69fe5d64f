//! The client, in the order in which a token passes through it.
//!
//! | step | module |
//! |---|---|
//! | connections that cannot be tied to each other | [`transport`] |
//! | what an issuer answers | [`issuer`] |
//! | what a relay answers | [`relay`] |
//! | what all steps share: wallet, clock, whom to tell | [`session`] |
//! | the keys that must be listed now, and no others | [`keys`] |
//! | a relay's statement of keys is pinned, and every look must show it | [`pins`], [`trust`] |
//! | what is new in a later statement | [`renewal`] |
//! | tokens and the state that each is in | [`wallet`] |
//! | buy tokens | [`request`] |
//! | or work for them | [`work`] |
//! | post a message with a token | [`post`] |
//! | the relay's log has one key, and never gets shorter | [`log`] |
//! | read messages | [`read`] |
//! | groups: secrets, cells, messages | [`group`] |
//! | say something to a group | [`send`] |
//! | read what is new for all groups | [`sync`] |
//! | a copy of a log for file servers | [`mirror`] |
//! | what shows a relay's faults to anyone | [`evidence`] |
//! | text of strangers on its way to a terminal | [`printable`] |
//! | what the commands print, where it can be written | [`output`] |
//! | the commands of `tocyn` | [`cli`] |

#![cfg_attr(test, allow(clippy::disallowed_methods, reason = "tests outlive no power cut"))]

// The commands speak of this library by its name, as other programs do.
extern crate self as tocyn_client;

pub mod cli;
mod cmd;
pub mod evidence;
pub mod group;
pub mod issuer;
pub mod keys;
pub mod log;
pub mod mirror;
pub mod output;
pub mod pins;
pub mod post;
pub mod printable;
pub mod read;
pub mod relay;
pub mod renewal;
pub mod request;
pub mod send;
pub mod session;
pub mod sync;
pub mod transport;
pub mod trust;
pub mod wallet;
pub mod work;
