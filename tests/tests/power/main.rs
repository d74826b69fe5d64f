//! Power cuts under the three programs, on a disk in memory (see [`tocyn_e2e::disk`]).
//!
//! Each run is drawn from a seed, which is printed where it fails, with the command that repeats it:
//! the same plan and the same cut, though threads may take other turns. `TOCYN_RUNS` is how many
//! runs each quick case has. Where nothing can be mounted there are none, which is
//! said loudly; `./test --power` fails then.

#![allow(clippy::print_stdout, clippy::print_stderr)]
#![allow(clippy::disallowed_methods)] // names may be lost: what is tested is the programs

mod bank;
mod control;
mod issuer;
mod issuer_check;
mod issuer_client;
mod issuer_run;
mod machine;
mod operators;
mod operators_run;
mod operators_start;
mod relay;
mod relay_check;
mod relay_client;
mod relay_disk;
mod relay_kill;
mod relay_run;
mod runs;
mod wallet;
mod wallet_run;
