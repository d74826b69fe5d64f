//! Batches of group elements on AVX-512 IFMA, eight at a time: one in each lane of a register.
//!
//! curve25519-dalek spreads the arithmetic of *one* element over the lanes, which helps a lone
//! operation but leaves the multipliers waiting for each other. With a batch at hand every lane
//! can have an element of its own, and nothing waits. `tocyn bench crypto` and `bench versus` show
//! what it pays. [`crate::elements`] uses this where the processor has the instructions, and dalek
//! elsewhere; tests hold the two against each other.
//!
//! | step | module |
//! |---|---|
//! | arithmetic modulo 2^255 - 19 | [`field`] |
//! | points: decode, encode, add, map from a hash | [`point`] |
//! | points times scalars | [`multiply`](mod@multiply) |

#![allow(unsafe_code)] // Calls into code for a processor that was found to have the instructions.

mod field;
mod multiply;
mod point;

use curve25519_dalek::scalar::Scalar;

pub(crate) use point::Point8;

use crate::suite::NE;
use multiply::Digits;

/// Elements in one [`Point8`].
pub(crate) const LANES: usize = 8;

/// Points in one sum, so that their tables (10 KiB each) fit into the cache beside the processor.
const SUM_CHUNK: usize = 32;

/// Proof that this processor has AVX-512 F, DQ and IFMA: only [`Lanes::detect`] makes one, so each
/// call below is to instructions that are there. That is all that the `unsafe` blocks rest on;
/// there are no pointers.
#[derive(Clone, Copy)]
pub(crate) struct Lanes(());

impl Lanes {
    pub(crate) fn detect() -> Option<Self> {
        let there = is_x86_feature_detected!("avx512f")
            && is_x86_feature_detected!("avx512dq")
            && is_x86_feature_detected!("avx512ifma");
        there.then_some(Self(()))
    }

    /// Decodes elements; None if any is not canonical. The last lanes are filled up with the
    /// identity.
    pub(crate) fn decode(self, encoded: &[[u8; NE]]) -> Option<Vec<Point8>> {
        if !encoded.iter().all(is_canonical_non_negative) {
            return None;
        }
        encoded
            .chunks(LANES)
            .map(|chunk| {
                // SAFETY: self shows that the instructions are there.
                let (decoded, point) = unsafe { Point8::decode(&filled(chunk, [0; NE])) };
                // Zeros decode as the identity.
                (decoded == u8::MAX).then_some(point)
            })
            .collect()
    }

    /// The canonical encodings of the first `count` elements.
    pub(crate) fn encode(self, points: &[Point8], count: usize) -> Vec<[u8; NE]> {
        // SAFETY: self shows that the instructions are there.
        let mut encoded: Vec<_> = points.iter().flat_map(|p| unsafe { p.encode() }).collect();
        encoded.truncate(count);
        encoded
    }

    /// Maps 64 uniform bytes to an element, for each.
    pub(crate) fn map(self, uniform: &[[u8; 64]]) -> Vec<Point8> {
        let one = |chunk| {
            // SAFETY: self shows that the instructions are there.
            unsafe { Point8::from_uniform_bytes(&filled(chunk, [0; 64])) }
        };
        uniform.chunks(LANES).map(one).collect()
    }

    /// Each element times its scalar, in constant time.
    pub(crate) fn multiply(self, points: &[Point8], scalars: &[Scalar]) -> Vec<Point8> {
        let one = |(point, scalars): (&Point8, &[Scalar])| {
            let digits = Digits::new(scalars.iter().map(Scalar::as_bytes));
            // SAFETY: self shows that the instructions are there.
            unsafe { multiply::multiply(std::slice::from_ref(point), &[digits]) }
        };
        points.iter().zip(scalars.chunks(LANES)).map(one).collect()
    }

    /// The same elements, the one of lane `first` first.
    pub(crate) fn rotated(self, point: &Point8, first: usize) -> Point8 {
        // SAFETY: self shows that the instructions are there.
        unsafe { point.rotate_lanes(first) }
    }

    /// The encoding of the sum of all elements, each times its scalar.
    pub(crate) fn sum_of_products(self, points: &[Point8], scalars: &[Scalar]) -> [u8; NE] {
        let mut sums = Vec::new();
        for (points, scalars) in points.chunks(SUM_CHUNK).zip(scalars.chunks(SUM_CHUNK * LANES)) {
            let digits: Vec<_> = scalars
                .chunks(LANES)
                .map(|scalars| Digits::new(scalars.iter().map(Scalar::as_bytes)))
                .collect();
            // SAFETY: self shows that the instructions are there.
            sums.push(unsafe { multiply::multiply(points, &digits) });
        }
        // SAFETY: the same.
        unsafe { Point8::sum(&sums).sum_of_lanes().encode()[0] }
    }
}

/// The first two checks of `Decode`: below p, and even.
fn is_canonical_non_negative(bytes: &[u8; NE]) -> bool {
    let below_p = bytes[31] < 0x7f
        || (bytes[31] == 0x7f && (bytes[1..31].iter().any(|b| *b != 0xff) || bytes[0] < 0xed));
    below_p && bytes[0] & 1 == 0
}

fn filled<T: Copy>(chunk: &[T], filler: T) -> [T; LANES] {
    core::array::from_fn(|lane| chunk.get(lane).copied().unwrap_or(filler))
}
