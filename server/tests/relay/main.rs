//! The relay without HTTP: what a token pays for, once, what readers get of it, and the pipeline
//! on the way there.

mod blocks;
mod epochs;
mod fixture;
mod opening;
mod pipeline;
mod spending;
