//! The contract of the store: what a token pays for, once, and what readers get of it.

mod blocks;
mod epochs;
mod fixture;
mod opening;
mod spending;
