//! A proof of work that came with a request, whose solution is not checked yet.

#[cfg(feature = "pow")]
pub use tocyn_protocol::pow::PowProof as Proof;

/// There is none in a program that was built without it.
#[cfg(not(feature = "pow"))]
pub enum Proof {}

/// Whether it solves the puzzle of this body. Up to 100 us.
#[cfg(feature = "pow")]
pub(crate) fn solves(proof: &Proof, body: &[u8]) -> bool {
    proof.check_solution(body).is_ok()
}

#[cfg(not(feature = "pow"))]
pub(crate) fn solves(proof: &Proof, _: &[u8]) -> bool {
    match *proof {}
}
