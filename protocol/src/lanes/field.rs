//! Eight elements of GF(p), p = 2^255 - 19, one in each 64-bit lane of a 512-bit register.
//!
//! An element is five limbs of 51 bits, so a register holds the same limb of eight elements. The
//! multiplier of AVX-512 IFMA takes 52 bits: limbs have to be *carried* before they are
//! multiplied, and the two types say which are. All code is free of branches on values.
//!
//! Loops over limbs are written out: a closure does not get inlined from here into the array
//! methods of the standard library, which are compiled for any processor.
#![allow(clippy::needless_range_loop)]

use core::arch::x86_64::*;

use zeroize::Zeroize;

const LIMB_BITS: u32 = 51;
const LIMB_MASK: i64 = (1 << LIMB_BITS) - 1;
/// 2^10 p: added before a subtraction, so that no limb goes below zero.
const BIAS: [i64; 5] =
    [(LIMB_MASK - 18) << 10, LIMB_MASK << 10, LIMB_MASK << 10, LIMB_MASK << 10, LIMB_MASK << 10];

/// Limbs that can be multiplied: below 2^52. All but those of [`Fe::negate`] are below
/// 2^51 + 2^18.
#[derive(Clone, Copy, Zeroize)]
pub(super) struct Fe([__m512i; 5]);

/// Sums of products on their way to be carried. One product has limbs below 2^60.4 and the bias
/// below 2^61. The most that is put together is three products and the bias, in
/// `Point8::double`: below 2^62.7.
#[derive(Clone, Copy)]
pub(super) struct Wide([__m512i; 5]);

impl Fe {
    #[target_feature(enable = "avx512f,avx512dq,avx512ifma")]
    #[inline]
    pub(super) fn splat(limbs: [u64; 5]) -> Self {
        let mut out = [_mm512_setzero_si512(); 5];
        for i in 0..5 {
            out[i] = _mm512_set1_epi64(limbs[i] as i64);
        }
        Self(out)
    }

    #[target_feature(enable = "avx512f,avx512dq,avx512ifma")]
    #[inline]
    pub(super) fn zero() -> Self {
        Self([_mm512_setzero_si512(); 5])
    }

    #[target_feature(enable = "avx512f,avx512dq,avx512ifma")]
    #[inline]
    pub(super) fn one() -> Self {
        Self::splat([1, 0, 0, 0, 0])
    }

    /// The low 255 bits of each lane's little-endian bytes, which need not be below p.
    #[target_feature(enable = "avx512f,avx512dq,avx512ifma")]
    pub(super) fn from_bytes(bytes: &[[u8; 32]; 8]) -> Self {
        let word = |i: usize| {
            lanes(&core::array::from_fn(|lane| {
                u64::from_le_bytes(bytes[lane][8 * i..8 * i + 8].try_into().expect("8 bytes"))
            }))
        };
        let (w0, w1, w2, w3) = (word(0), word(1), word(2), word(3));
        let mask = _mm512_set1_epi64(LIMB_MASK);
        let join = |low, high| _mm512_and_si512(_mm512_or_si512(low, high), mask);
        Self([
            _mm512_and_si512(w0, mask),
            join(_mm512_srli_epi64::<51>(w0), _mm512_slli_epi64::<13>(w1)),
            join(_mm512_srli_epi64::<38>(w1), _mm512_slli_epi64::<26>(w2)),
            join(_mm512_srli_epi64::<25>(w2), _mm512_slli_epi64::<39>(w3)),
            _mm512_and_si512(_mm512_srli_epi64::<12>(w3), mask),
        ])
    }

    /// The canonical little-endian bytes of each lane.
    #[target_feature(enable = "avx512f,avx512dq,avx512ifma")]
    pub(super) fn to_bytes(self) -> [[u8; 32]; 8] {
        let [l0, l1, l2, l3, l4] = self.canonical();
        let words = [
            _mm512_or_si512(l0, _mm512_slli_epi64::<51>(l1)),
            _mm512_or_si512(_mm512_srli_epi64::<13>(l1), _mm512_slli_epi64::<38>(l2)),
            _mm512_or_si512(_mm512_srli_epi64::<26>(l2), _mm512_slli_epi64::<25>(l3)),
            _mm512_or_si512(_mm512_srli_epi64::<39>(l3), _mm512_slli_epi64::<12>(l4)),
        ];
        let mut bytes = [[0; 32]; 8];
        for (i, word) in words.into_iter().enumerate() {
            for (lane, word) in array(word).into_iter().enumerate() {
                bytes[lane][8 * i..8 * i + 8].copy_from_slice(&word.to_le_bytes());
            }
        }
        bytes
    }

    #[target_feature(enable = "avx512f,avx512dq,avx512ifma")]
    #[inline]
    pub(super) fn add(self, other: Self) -> Self {
        self.widen().add(other.widen()).carry()
    }

    #[target_feature(enable = "avx512f,avx512dq,avx512ifma")]
    #[inline]
    pub(super) fn sub(self, other: Self) -> Self {
        self.widen().sub(other.widen()).carry()
    }

    /// Two additions less than `zero - self`: no carry. `self` must be carried.
    #[target_feature(enable = "avx512f,avx512dq,avx512ifma")]
    #[inline]
    pub(super) fn negate(self) -> Self {
        // 2p, whose limbs lie between 2^51 + 2^18 and 2^52.
        let twice_p =
            |i| _mm512_set1_epi64(if i == 0 { 2 * (LIMB_MASK - 18) } else { 2 * LIMB_MASK });
        Self(core::array::from_fn(|i| _mm512_sub_epi64(twice_p(i), self.0[i])))
    }

    #[target_feature(enable = "avx512f,avx512dq,avx512ifma")]
    #[inline]
    pub(super) fn mul(self, other: Self) -> Self {
        self.mul_wide(other).carry()
    }

    #[target_feature(enable = "avx512f,avx512dq,avx512ifma")]
    #[inline]
    pub(super) fn square(self) -> Self {
        self.square_wide().carry()
    }

    #[target_feature(enable = "avx512f,avx512dq,avx512ifma")]
    #[inline]
    pub(super) fn mul_wide(self, other: Self) -> Wide {
        let (a, b) = (&self.0, &other.0);
        let (mut low, mut high) = ([_mm512_setzero_si512(); 9], [_mm512_setzero_si512(); 9]);
        for i in 0..5 {
            for j in 0..5 {
                low[i + j] = _mm512_madd52lo_epu64(low[i + j], a[i], b[j]);
                high[i + j] = _mm512_madd52hi_epu64(high[i + j], a[i], b[j]);
            }
        }
        fold(low, high)
    }

    #[target_feature(enable = "avx512f,avx512dq,avx512ifma")]
    #[inline]
    pub(super) fn square_wide(self) -> Wide {
        let a = &self.0;
        let (mut low, mut high) = ([_mm512_setzero_si512(); 9], [_mm512_setzero_si512(); 9]);
        for i in 0..5 {
            for j in i + 1..5 {
                low[i + j] = _mm512_madd52lo_epu64(low[i + j], a[i], a[j]);
                high[i + j] = _mm512_madd52hi_epu64(high[i + j], a[i], a[j]);
            }
        }
        // Each product of two different limbs comes twice.
        for k in 1..8 {
            low[k] = _mm512_add_epi64(low[k], low[k]);
            high[k] = _mm512_add_epi64(high[k], high[k]);
        }
        for i in 0..5 {
            low[2 * i] = _mm512_madd52lo_epu64(low[2 * i], a[i], a[i]);
            high[2 * i] = _mm512_madd52hi_epu64(high[2 * i], a[i], a[i]);
        }
        fold(low, high)
    }

    #[target_feature(enable = "avx512f,avx512dq,avx512ifma")]
    #[inline]
    pub(super) fn widen(self) -> Wide {
        Wide(self.0)
    }

    /// `self` to the power of 2^k.
    #[target_feature(enable = "avx512f,avx512dq,avx512ifma")]
    fn pow2k(mut self, k: u32) -> Self {
        for _ in 0..k {
            self = self.square();
        }
        self
    }

    /// `self` to the power of (p - 5) / 8 = 2^252 - 3.
    #[target_feature(enable = "avx512f,avx512dq,avx512ifma")]
    fn pow_p58(self) -> Self {
        // run_n has n ones in its exponent.
        let run_2 = self.square().mul(self);
        let run_4 = run_2.pow2k(2).mul(run_2);
        let run_5 = run_4.square().mul(self);
        let run_10 = run_5.pow2k(5).mul(run_5);
        let run_20 = run_10.pow2k(10).mul(run_10);
        let run_40 = run_20.pow2k(20).mul(run_20);
        let run_50 = run_40.pow2k(10).mul(run_10);
        let run_100 = run_50.pow2k(50).mul(run_50);
        let run_200 = run_100.pow2k(100).mul(run_100);
        let run_250 = run_200.pow2k(50).mul(run_50);
        run_250.pow2k(2).mul(self)
    }

    /// `SQRT_RATIO_M1` (RFC 9496 section 4.2): the lanes in which u/v is a square, and the
    /// non-negative root of u/v or of SQRT_M1 * u/v.
    #[target_feature(enable = "avx512f,avx512dq,avx512ifma")]
    pub(super) fn sqrt_ratio(u: Self, v: Self) -> (__mmask8, Self) {
        let v3 = v.square().mul(v);
        let v7 = v3.square().mul(v);
        let r = u.mul(v3).mul(u.mul(v7).pow_p58());
        let check = v.mul(r.square());
        let sqrt_m1 = Self::splat(SQRT_M1);
        let minus_u = u.negate();
        let correct = check.equals(u);
        let flipped = check.equals(minus_u);
        let flipped_i = check.equals(minus_u.mul(sqrt_m1));
        let r = r.select(r.mul(sqrt_m1), flipped | flipped_i);
        (correct | flipped, r.abs())
    }

    /// The lanes whose canonical value is odd: *negative* in RFC 9496.
    #[target_feature(enable = "avx512f,avx512dq,avx512ifma")]
    #[inline]
    pub(super) fn is_negative(self) -> __mmask8 {
        _mm512_test_epi64_mask(self.canonical()[0], _mm512_set1_epi64(1))
    }

    #[target_feature(enable = "avx512f,avx512dq,avx512ifma")]
    #[inline]
    pub(super) fn is_zero(self) -> __mmask8 {
        let mut any = _mm512_setzero_si512();
        for limb in self.canonical() {
            any = _mm512_or_si512(any, limb);
        }
        _mm512_testn_epi64_mask(any, any)
    }

    #[target_feature(enable = "avx512f,avx512dq,avx512ifma")]
    fn equals(self, other: Self) -> __mmask8 {
        self.sub(other).is_zero()
    }

    /// The non-negative one of `self` and its negative. `self` must be carried.
    #[target_feature(enable = "avx512f,avx512dq,avx512ifma")]
    #[inline]
    pub(super) fn abs(self) -> Self {
        self.negate_if(self.is_negative())
    }

    /// Negated in the lanes of `mask`. `self` must be carried, and the result is.
    #[target_feature(enable = "avx512f,avx512dq,avx512ifma")]
    #[inline]
    pub(super) fn negate_if(self, mask: __mmask8) -> Self {
        self.select(self.negate().widen().carry(), mask)
    }

    /// `other` in the lanes of `mask`, `self` in the rest.
    #[target_feature(enable = "avx512f,avx512dq,avx512ifma")]
    #[inline]
    pub(super) fn select(self, other: Self, mask: __mmask8) -> Self {
        let mut limbs = self.0;
        for i in 0..5 {
            limbs[i] = _mm512_mask_blend_epi64(mask, limbs[i], other.0[i]);
        }
        Self(limbs)
    }

    /// The lanes moved down by `places`, in a circle.
    #[target_feature(enable = "avx512f,avx512dq,avx512ifma")]
    #[inline]
    pub(super) fn rotate_lanes(self, places: usize) -> Self {
        let from = lanes(&core::array::from_fn(|lane| ((lane + places) % 8) as u64));
        let mut limbs = self.0;
        for limb in &mut limbs {
            *limb = _mm512_permutexvar_epi64(from, *limb);
        }
        Self(limbs)
    }

    /// The limbs of the one representative below p.
    #[target_feature(enable = "avx512f,avx512dq,avx512ifma")]
    #[inline]
    fn canonical(self) -> [__m512i; 5] {
        // Now below 2p. Adding 19 carries out of the top limb just if the value is p or more.
        let mut limbs = self.widen().carry().0;
        let mut carry = _mm512_set1_epi64(19);
        for limb in &limbs {
            carry = _mm512_srli_epi64::<LIMB_BITS>(_mm512_add_epi64(*limb, carry));
        }
        let mask = _mm512_set1_epi64(LIMB_MASK);
        carry = _mm512_mullo_epi64(carry, _mm512_set1_epi64(19));
        for limb in &mut limbs {
            let sum = _mm512_add_epi64(*limb, carry);
            *limb = _mm512_and_si512(sum, mask);
            carry = _mm512_srli_epi64::<LIMB_BITS>(sum);
        }
        limbs
    }
}

impl Wide {
    #[target_feature(enable = "avx512f,avx512dq,avx512ifma")]
    #[inline]
    pub(super) fn add(self, other: Self) -> Self {
        let mut limbs = self.0;
        for i in 0..5 {
            limbs[i] = _mm512_add_epi64(limbs[i], other.0[i]);
        }
        Self(limbs)
    }

    /// `other` must be one product.
    #[target_feature(enable = "avx512f,avx512dq,avx512ifma")]
    #[inline]
    pub(super) fn sub(self, other: Self) -> Self {
        let mut limbs = self.0;
        for i in 0..5 {
            let biased = _mm512_add_epi64(limbs[i], _mm512_set1_epi64(BIAS[i]));
            limbs[i] = _mm512_sub_epi64(biased, other.0[i]);
        }
        Self(limbs)
    }

    /// Limbs below 2^64 to limbs below 2^51 + 2^18, all at once: each limb's carry is below 2^13,
    /// and what leaves the top comes back times 19.
    #[target_feature(enable = "avx512f,avx512dq,avx512ifma")]
    #[inline]
    pub(super) fn carry(self) -> Fe {
        let mask = _mm512_set1_epi64(LIMB_MASK);
        let mut limbs = self.0;
        for limb in &mut limbs {
            *limb = _mm512_and_si512(*limb, mask);
        }
        for i in 0..4 {
            let carry = _mm512_srli_epi64::<LIMB_BITS>(self.0[i]);
            limbs[i + 1] = _mm512_add_epi64(limbs[i + 1], carry);
        }
        let carry = _mm512_srli_epi64::<LIMB_BITS>(self.0[4]);
        limbs[0] = _mm512_madd52lo_epu64(limbs[0], carry, _mm512_set1_epi64(19));
        Fe(limbs)
    }
}

/// The product from its columns: `low[k]` weighs 2^51k, `high[k]` 2^(51k + 52).
#[target_feature(enable = "avx512f,avx512dq,avx512ifma")]
#[inline]
fn fold(low: [__m512i; 9], high: [__m512i; 9]) -> Wide {
    let mut columns = [_mm512_setzero_si512(); 10];
    columns[0] = low[0];
    for k in 1..9 {
        let twice = _mm512_add_epi64(high[k - 1], high[k - 1]);
        columns[k] = _mm512_add_epi64(low[k], twice);
    }
    columns[9] = _mm512_add_epi64(high[8], high[8]);
    let nineteen = _mm512_set1_epi64(19);
    let mut limbs = [_mm512_setzero_si512(); 5];
    for k in 0..5 {
        let top = _mm512_mullo_epi64(columns[k + 5], nineteen);
        limbs[k] = _mm512_add_epi64(columns[k], top);
    }
    Wide(limbs)
}

#[target_feature(enable = "avx512f")]
#[inline]
fn lanes(words: &[u64; 8]) -> __m512i {
    let [a, b, c, d, e, f, g, h] = words.map(|word| word as i64);
    _mm512_set_epi64(h, g, f, e, d, c, b, a)
}

#[target_feature(enable = "avx512f,avx512dq")]
#[inline]
fn array(x: __m512i) -> [u64; 8] {
    let pairs = [
        _mm512_extracti64x2_epi64::<0>(x),
        _mm512_extracti64x2_epi64::<1>(x),
        _mm512_extracti64x2_epi64::<2>(x),
        _mm512_extracti64x2_epi64::<3>(x),
    ];
    core::array::from_fn(|lane| match lane % 2 {
        0 => _mm_cvtsi128_si64(pairs[lane / 2]) as u64,
        _ => _mm_extract_epi64::<1>(pairs[lane / 2]) as u64,
    })
}

/// A square root of -1 (RFC 9496 section 4.1).
pub(super) const SQRT_M1: [u64; 5] =
    [1718705420411056, 234908883556509, 2233514472574048, 2117202627021982, 765476049583133];

#[cfg(test)]
mod tests;
