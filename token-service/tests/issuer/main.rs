//! The issuer without HTTP: what a voucher pays for, once, and the pipeline on the way there. What a
//! store promises is tested on each database.

#![allow(clippy::disallowed_methods, reason = "tests outlive no power cut")]

mod budgets;
mod charge_batch;
mod charging;
mod fixture;
mod many_issuers;
mod moving;
mod opening;
mod pipeline;
