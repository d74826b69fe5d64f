//! Limbs at their bounds: the same value in its lowest limbs must give the same results.

use super::*;

const LOOSEST: u64 = (1 << 52) - 1;
const CARRIED: u64 = (1 << 51) + (1 << 18) - 1;

#[test]
fn the_largest_limbs_do_not_overflow() {
    if crate::lanes::Lanes::detect().is_none() {
        eprintln!("NOTE: no AVX-512 IFMA here: nothing to test");
        return;
    }
    for limb in [LOOSEST, CARRIED, LIMB_MASK as u64] {
        for odd_one in 0..5 {
            let mut limbs = [limb; 5];
            limbs[odd_one] = if limb == LOOSEST { limb } else { 0 };
            // SAFETY: the instructions are there.
            unsafe { same_results(limbs, limb != LOOSEST) };
        }
    }
}

#[target_feature(enable = "avx512f,avx512dq,avx512ifma")]
fn same_results(limbs: [u64; 5], carried: bool) {
    let high = Fe::splat(limbs);
    let low = Fe::from_bytes(&high.to_bytes());
    let equal =
        |what: &str, a: Fe, b: Fe| assert_eq!(a.to_bytes(), b.to_bytes(), "{what} {limbs:?}");
    equal("mul", high.mul(high), low.mul(low));
    equal("square", high.square(), low.mul(low));
    equal("add", high.add(high), low.add(low));
    equal("sub", low.sub(high), Fe::zero());
    equal("square of a negative", low.sub(high.add(high)).square(), low.square());
    // The deepest sums of products in the point formulas.
    let product = |x: Fe| x.mul_wide(x);
    let deepest = |x: Fe| product(x).sub(product(x)).add(product(x)).add(product(x)).carry();
    equal("four products", deepest(high), deepest(low));
    let sums = |x: Fe| product(x).add(product(x)).sub(product(x)).carry();
    equal("three products", sums(high), sums(low));
    if carried {
        equal("negate", high.negate().mul(high), low.negate().mul(low));
        equal("negate twice", high.negate().widen().carry().negate(), low);
    }
}

#[test]
fn bytes_at_the_modulus_are_reduced() {
    if crate::lanes::Lanes::detect().is_none() {
        eprintln!("NOTE: no AVX-512 IFMA here: nothing to test");
        return;
    }
    // p - 1, p, p + 1, 2^255 - 1, each in two lanes.
    let lane = |low: u8| {
        let mut bytes = [0xff; 32];
        (bytes[0], bytes[31]) = (low, 0x7f);
        bytes
    };
    let small = |value: u8| {
        let mut bytes = [0; 32];
        bytes[0] = value;
        bytes
    };
    let given = [0xec, 0xed, 0xee, 0xff].map(lane);
    let wanted = [lane(0xec), small(0), small(1), small(18)];
    let twice = |four: [[u8; 32]; 4]| <[_; 8]>::try_from([four, four].concat()).expect("eight");
    // SAFETY: the instructions are there.
    let reduced = unsafe { Fe::from_bytes(&twice(given)).to_bytes() };
    assert_eq!(reduced, twice(wanted));
}
