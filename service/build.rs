//! See the file that is included.
include!("../deploy/commit.rs");
