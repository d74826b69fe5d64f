//! Eight ristretto255 elements at once, in the formulas of RFC 9496, and their sums.

use core::arch::x86_64::*;

use zeroize::Zeroize;

use super::field::{Fe, SQRT_M1};

// Constants of RFC 9496 section 4.1, in limbs of 51 bits.
const D: [u64; 5] =
    [929955233495203, 466365720129213, 1662059464998953, 2033849074728123, 1442794654840575];
const TWICE_D: [u64; 5] =
    [1859910466990425, 932731440258426, 1072319116312658, 1815898335770999, 633789495995903];
const SQRT_AD_MINUS_ONE: [u64; 5] =
    [2241493124984347, 425987919032274, 2207028919301688, 1220490630685848, 974799131293748];
const INVSQRT_A_MINUS_D: [u64; 5] =
    [278908739862762, 821645201101625, 8113234426968, 1777959178193151, 2118520810568447];
const ONE_MINUS_D_SQ: [u64; 5] =
    [1136626929484150, 1998550399581263, 496427632559748, 118527312129759, 45110755273534];
const D_MINUS_ONE_SQ: [u64; 5] =
    [1507062230895904, 1572317787530805, 683053064812840, 317374165784489, 1572899562415810];

/// A point in each lane, in extended coordinates: x = X/Z, y = Y/Z, xy = T/Z.
#[derive(Clone, Copy, Zeroize)]
pub(crate) struct Point8 {
    x: Fe,
    y: Fe,
    z: Fe,
    t: Fe,
}

/// A point in each lane in the form that is added to others: Y + X, Y - X, 2Z, 2dT.
#[derive(Clone, Copy)]
pub(super) struct Addend {
    plus: Fe,
    minus: Fe,
    z2: Fe,
    t2d: Fe,
}

impl Point8 {
    #[target_feature(enable = "avx512f,avx512dq,avx512ifma")]
    #[inline]
    pub(super) fn identity() -> Self {
        Self { x: Fe::zero(), y: Fe::one(), z: Fe::one(), t: Fe::zero() }
    }

    /// `Decode` (RFC 9496 section 4.3.1) and the lanes in which it succeeds. The caller has seen
    /// to it that the bytes are canonical and non-negative.
    #[target_feature(enable = "avx512f,avx512dq,avx512ifma")]
    pub(super) fn decode(bytes: &[[u8; 32]; 8]) -> (__mmask8, Self) {
        let one = Fe::one();
        let s = Fe::from_bytes(bytes);
        let ss = s.square();
        let (u1, u2) = (one.sub(ss), one.add(ss));
        let u2_sqr = u2.square();
        let v = Fe::zero().sub(Fe::splat(D).mul(u1.square())).sub(u2_sqr);
        let (was_square, invsqrt) = Fe::sqrt_ratio(one, v.mul(u2_sqr));
        let den_x = invsqrt.mul(u2);
        let den_y = invsqrt.mul(den_x).mul(v);
        let x = s.add(s).mul(den_x).abs();
        let y = u1.mul(den_y);
        let t = x.mul(y);
        (was_square & !t.is_negative() & !y.is_zero(), Self { x, y, z: one, t })
    }

    /// `Encode` (RFC 9496 section 4.3.2).
    #[target_feature(enable = "avx512f,avx512dq,avx512ifma")]
    pub(super) fn encode(&self) -> [[u8; 32]; 8] {
        let Self { x, y, z, t } = *self;
        let u1 = z.add(y).mul(z.sub(y));
        let u2 = x.mul(y);
        let (_, invsqrt) = Fe::sqrt_ratio(Fe::one(), u1.mul(u2.square()));
        let (den1, den2) = (invsqrt.mul(u1), invsqrt.mul(u2));
        let z_inv = den1.mul(den2).mul(t);
        let rotate = t.mul(z_inv).is_negative();
        let sqrt_m1 = Fe::splat(SQRT_M1);
        let rotated_x = x.select(y.mul(sqrt_m1), rotate);
        let rotated_y = y.select(x.mul(sqrt_m1), rotate);
        let den_inv = den2.select(den1.mul(Fe::splat(INVSQRT_A_MINUS_D)), rotate);
        let y = rotated_y.negate_if(rotated_x.mul(z_inv).is_negative());
        den_inv.mul(z.sub(y)).abs().to_bytes()
    }

    /// Element derivation (RFC 9496 section 4.3.4) from 64 bytes a lane.
    #[target_feature(enable = "avx512f,avx512dq,avx512ifma")]
    pub(super) fn from_uniform_bytes(bytes: &[[u8; 64]; 8]) -> Self {
        let half = |from: usize| {
            let half = |lane: usize| bytes[lane][from..from + 32].try_into().expect("32 bytes");
            map(Fe::from_bytes(&core::array::from_fn(half)))
        };
        half(0).add::<true>(&half(32).addend())
    }

    /// Twice the point. T is left out where only another doubling follows.
    #[target_feature(enable = "avx512f,avx512dq,avx512ifma")]
    #[inline]
    pub(super) fn double<const T: bool>(&self) -> Self {
        // dbl-2008-hwcd (Hisil, Wong, Carter, Dawson 2008) with every factor negated.
        let (xx, yy, zz) = (self.x.square_wide(), self.y.square_wide(), self.z.square_wide());
        let sum_squared = self.x.add(self.y).square_wide();
        let sum = xx.add(yy);
        let h = sum.carry();
        let e = sum.sub(sum_squared).carry();
        let difference = xx.sub(yy);
        let g = difference.carry();
        let f = difference.add(zz).add(zz).carry();
        let t = if T { e.mul(h) } else { Fe::zero() };
        Self { x: e.mul(f), y: g.mul(h), z: f.mul(g), t }
    }

    /// The sum; the formulas are complete. T is left out where a doubling follows.
    #[target_feature(enable = "avx512f,avx512dq,avx512ifma")]
    #[inline]
    pub(super) fn add<const T: bool>(&self, other: &Addend) -> Self {
        // add-2008-hwcd-3 (the same paper).
        let a = self.y.sub(self.x).mul_wide(other.minus);
        let b = self.y.add(self.x).mul_wide(other.plus);
        let c = self.t.mul_wide(other.t2d);
        let d = self.z.mul_wide(other.z2);
        let (e, f) = (b.sub(a).carry(), d.sub(c).carry());
        let (g, h) = (d.add(c).carry(), b.add(a).carry());
        let t = if T { e.mul(h) } else { Fe::zero() };
        Self { x: e.mul(f), y: g.mul(h), z: f.mul(g), t }
    }

    #[target_feature(enable = "avx512f,avx512dq,avx512ifma")]
    #[inline]
    pub(super) fn addend(&self) -> Addend {
        Addend {
            plus: self.y.add(self.x),
            minus: self.y.sub(self.x),
            z2: self.z.add(self.z),
            t2d: self.t.mul(Fe::splat(TWICE_D)),
        }
    }

    /// The sum of all, lane by lane.
    #[target_feature(enable = "avx512f,avx512dq,avx512ifma")]
    pub(super) fn sum(points: &[Self]) -> Self {
        let mut sum = Self::identity();
        for point in points {
            sum = sum.add::<true>(&point.addend());
        }
        sum
    }

    /// The sum of all lanes, in each lane.
    #[target_feature(enable = "avx512f,avx512dq,avx512ifma")]
    pub(super) fn sum_of_lanes(self) -> Self {
        let sum = self.add::<true>(&self.rotate_lanes(4).addend());
        let sum = sum.add::<true>(&sum.rotate_lanes(2).addend());
        sum.add::<true>(&sum.rotate_lanes(1).addend())
    }

    #[target_feature(enable = "avx512f,avx512dq,avx512ifma")]
    pub(super) fn rotate_lanes(&self, places: usize) -> Self {
        Self {
            x: self.x.rotate_lanes(places),
            y: self.y.rotate_lanes(places),
            z: self.z.rotate_lanes(places),
            t: self.t.rotate_lanes(places),
        }
    }
}

impl Addend {
    #[target_feature(enable = "avx512f,avx512dq,avx512ifma")]
    #[inline]
    pub(super) fn identity() -> Self {
        let two = Fe::splat([2, 0, 0, 0, 0]);
        Self { plus: Fe::one(), minus: Fe::one(), z2: two, t2d: Fe::zero() }
    }

    /// `other` in the lanes of `mask`, `self` in the rest.
    #[target_feature(enable = "avx512f,avx512dq,avx512ifma")]
    #[inline]
    pub(super) fn select(&self, other: &Self, mask: __mmask8) -> Self {
        Self {
            plus: self.plus.select(other.plus, mask),
            minus: self.minus.select(other.minus, mask),
            z2: self.z2.select(other.z2, mask),
            t2d: self.t2d.select(other.t2d, mask),
        }
    }

    /// Negated in the lanes of `mask`.
    #[target_feature(enable = "avx512f,avx512dq,avx512ifma")]
    #[inline]
    pub(super) fn negate_if(&self, mask: __mmask8) -> Self {
        Self {
            plus: self.plus.select(self.minus, mask),
            minus: self.minus.select(self.plus, mask),
            z2: self.z2,
            t2d: self.t2d.select(self.t2d.negate(), mask),
        }
    }
}

/// `MAP` (RFC 9496 section 4.3.4).
#[target_feature(enable = "avx512f,avx512dq,avx512ifma")]
fn map(t: Fe) -> Point8 {
    let (one, d) = (Fe::one(), Fe::splat(D));
    let r = Fe::splat(SQRT_M1).mul(t.square());
    let u = r.add(one).mul(Fe::splat(ONE_MINUS_D_SQ));
    let v = Fe::zero().sub(one).sub(r.mul(d)).mul(r.add(d));
    let (was_square, s) = Fe::sqrt_ratio(u, v);
    let s_prime = Fe::zero().sub(s.mul(t).abs());
    let s = s_prime.select(s, was_square);
    let c = r.select(Fe::zero().sub(one), was_square);
    let n = c.mul(r.sub(one)).mul(Fe::splat(D_MINUS_ONE_SQ)).sub(v);
    let ss = s.square();
    let (w0, w1) = (s.add(s).mul(v), n.mul(Fe::splat(SQRT_AD_MINUS_ONE)));
    let (w2, w3) = (one.sub(ss), one.add(ss));
    Point8 { x: w0.mul(w3), y: w2.mul(w1), z: w1.mul(w3), t: w0.mul(w2) }
}
