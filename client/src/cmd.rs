//! One file for each verb.

pub(crate) mod balance;
pub(crate) mod bench;
pub(crate) mod check;
pub(crate) mod evidence;
pub(crate) mod group;
pub(crate) mod info;
pub(crate) mod mirror;
pub(crate) mod post;
pub(crate) mod read;
pub(crate) mod relay;
pub(crate) mod request;
pub(crate) mod send;
pub(crate) mod show;
pub(crate) mod sync;
