//! The relay without HTTP: what a token pays for, once, what readers get of it, and the pipeline
//! on the way there. What a store promises is tested on each database.

#![allow(clippy::disallowed_methods, reason = "tests outlive no power cut")]

mod blocks;
mod epochs;
mod fixture;
mod keys;
mod log;
mod many_relays;
mod moving;
mod opening;
mod pipeline;
mod sealing;
mod sealing_faults;
mod server;
mod spending;
