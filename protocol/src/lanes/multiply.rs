//! Products of points and scalars: one formula for both, with signed digits of four bits.

use core::arch::x86_64::*;

use zeroize::Zeroizing;

use super::point::{Addend, Point8};

/// Signed digits in a scalar below 2^253.
const DIGITS: usize = 64;

/// The digits of eight scalars, the least significant first; lane `i` is byte `i`. Wiped on drop.
pub(super) struct Digits(Box<Zeroizing<[u64; DIGITS]>>);

impl Digits {
    /// Of scalars in little-endian bytes, each below 2^253. At most eight; the rest is zero.
    pub(super) fn new<'a>(scalars: impl Iterator<Item = &'a [u8; 32]>) -> Self {
        // Boxed, so that moving them leaves no copy behind.
        let mut digits = Box::new(Zeroizing::new([0; DIGITS]));
        for (lane, scalar) in scalars.enumerate() {
            let mut carry = 0;
            for (i, digit) in digits.iter_mut().enumerate() {
                // 0 to 16, made -8 to 7 by handing 16 on to the next digit.
                let nibble = i16::from(scalar[i / 2] >> (4 * (i % 2)) & 15) + carry;
                carry = (nibble + 8) >> 4;
                let signed = (nibble - (carry << 4)) as i8;
                *digit |= u64::from(signed as u8) << (8 * lane);
            }
        }
        Self(digits)
    }
}

/// In each lane the sum of `digits[i] * points[i]`: the doublings are shared by all points.
/// Constant time: every table entry is read for every digit.
#[target_feature(enable = "avx512f,avx512dq,avx512ifma")]
pub(super) fn multiply(points: &[Point8], digits: &[Digits]) -> Point8 {
    let mut tables = vec![[Addend::identity(); 8]; points.len()];
    for (table, point) in tables.iter_mut().zip(points) {
        fill(table, point);
    }
    let mut sum = Point8::identity();
    for i in (0..DIGITS).rev() {
        if i + 1 < DIGITS {
            sum = sum.double::<false>().double::<false>().double::<false>().double::<true>();
        }
        for (table, digits) in tables.iter().zip(digits) {
            sum = sum.add::<true>(&select(table, digits.0[i]));
        }
    }
    sum
}

/// 1 to 8 times the point.
#[target_feature(enable = "avx512f,avx512dq,avx512ifma")]
fn fill(table: &mut [Addend; 8], point: &Point8) {
    let once = point.addend();
    let mut multiple = *point;
    table[0] = once;
    for entry in &mut table[1..] {
        multiple = multiple.add::<true>(&once);
        *entry = multiple.addend();
    }
}

/// In each lane the multiple that its digit asks for.
#[target_feature(enable = "avx512f,avx512dq,avx512ifma")]
#[inline]
fn select(table: &[Addend; 8], digits: u64) -> Addend {
    let digits = _mm512_cvtepi8_epi64(_mm_cvtsi64_si128(digits as i64));
    let magnitudes = _mm512_abs_epi64(digits);
    let mut out = Addend::identity();
    for (entry, magnitude) in table.iter().zip(1..) {
        let here = _mm512_cmpeq_epi64_mask(magnitudes, _mm512_set1_epi64(magnitude));
        out = out.select(entry, here);
    }
    out.negate_if(_mm512_movepi64_mask(digits))
}
