//! One file for each verb.

pub(crate) mod balance;
pub(crate) mod bench;
pub(crate) mod info;
pub(crate) mod moved;
pub(crate) mod post;
pub(crate) mod read;
pub(crate) mod request;
