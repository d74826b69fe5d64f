//! Eight at a time against one by one, and both against dalek's own operators.

use getrandom::SysRng;
use rand_core::{Rng, UnwrapErr};

use super::*;

fn rng() -> UnwrapErr<SysRng> {
    UnwrapErr(SysRng)
}

fn uniform(count: usize) -> Vec<[u8; 64]> {
    let mut bytes = vec![[0; 64]; count];
    bytes.iter_mut().for_each(|bytes| rng().fill_bytes(bytes));
    bytes
}

fn scalars(count: usize) -> Vec<Scalar> {
    (0..count).map(|_| Scalar::random(&mut rng())).collect()
}

/// Both ways, on a machine that has both. Elsewhere it says so: what is left is dalek against dalek.
fn ways() -> Vec<Option<Lanes>> {
    let lanes = Lanes::detect();
    let processor = std::fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let here = processor.contains("avx512ifma") && processor.contains("avx512dq");
    let compiled_in = cfg!(all(target_arch = "x86_64", curve25519_dalek_backend = "avx512"));
    assert_eq!(lanes.is_some(), here && compiled_in, "what is there is found and tested");
    if lanes.is_none() {
        eprintln!("NOTE: no AVX-512 IFMA here or not compiled in: tested one by one only");
        return vec![None];
    }
    vec![None, lanes]
}

fn encode(points: &[RistrettoPoint]) -> Vec<[u8; NE]> {
    points.iter().map(|point| point.compress().to_bytes()).collect()
}

/// Scalars and uniform bytes in which limbs and digits take their extreme values.
fn edges() -> (Vec<[u8; 64]>, Vec<Scalar>) {
    let mut bytes = vec![[0; 64], [0xff; 64], [0x7f; 64], [0x80; 64], [1; 64]];
    // p - 1, p, p + 1 and 2^255 - 1 in both halves.
    for low in [0xec, 0xed, 0xee, 0xff] {
        let mut half = [0xff; 32];
        half[0] = low;
        half[31] = 0x7f;
        bytes.push(<[u8; 64]>::try_from([half, half].concat()).unwrap());
    }
    let mut scalars = vec![Scalar::ZERO, Scalar::ONE, -Scalar::ONE, -Scalar::ONE.div_by_2()];
    scalars.extend([0x88, 0x77, 0x78, 0xf0, 0x0f].map(|b| Scalar::from_bytes_mod_order([b; 32])));
    (bytes, scalars)
}

#[test]
fn hashing_multiplying_and_encoding_agree_with_dalek() {
    for count in [1, 3, 4, 7, 8, 9, 16, 64, 65] {
        agree(&uniform(count), &scalars(count));
    }
    let (bytes, some) = edges();
    for scalar in some {
        agree(&bytes, &vec![scalar; bytes.len()]);
    }
}

fn agree(uniform: &[[u8; 64]], scalars: &[Scalar]) {
    let points: Vec<_> = uniform.iter().map(RistrettoPoint::from_uniform_bytes).collect();
    let products: Vec<_> = points.iter().zip(scalars).map(|(p, s)| p * s).collect();
    for lanes in ways() {
        let computed = Points::from_uniform_bytes(uniform, lanes).multiply(scalars);
        assert_eq!(computed.as_bytes(), encode(&products));
        // What comes out can go in again.
        let more = computed.multiply(scalars);
        let again: Vec<_> = products.iter().zip(scalars).map(|(p, s)| p * s).collect();
        assert_eq!(more.as_bytes(), encode(&again));
    }
}

#[test]
fn sums_of_products_agree_with_dalek() {
    for count in [1, 2, 7, 8, 9, 63, 64, 129, 256, 257, 600] {
        let (uniform, scalars) = (uniform(count), scalars(count));
        let points: Vec<_> = uniform.iter().map(RistrettoPoint::from_uniform_bytes).collect();
        let sum: RistrettoPoint = points.iter().zip(&scalars).map(|(p, s)| p * s).sum();
        for lanes in ways() {
            let elements = Elements::decode("test", &encode(&points), lanes).unwrap();
            assert_eq!(*elements.sum_of_products(&scalars).as_bytes(), encode(&[sum])[0]);
        }
    }
}

#[test]
fn both_ways_decode_the_same_bytes() {
    // Half of all canonical field elements are no encoding: both must refuse the same ones.
    let (mut accepted, mut refused) = (0, 0);
    for _ in 0..400 {
        let mut bytes = [0; NE];
        rng().fill_bytes(&mut bytes);
        bytes[0] &= 0xfe;
        bytes[31] &= 0x7f;
        let dalek = CompressedRistretto(bytes).decompress();
        *if dalek.is_some() { &mut accepted } else { &mut refused } += 1;
        let good = encode(&[RistrettoPoint::from_uniform_bytes(&uniform(1)[0])])[0];
        for lanes in ways() {
            // In each lane, the others being good.
            let place = (accepted + refused) % 8;
            let mut batch = [good; 8];
            batch[place] = bytes;
            match Elements::decode("test", &batch, lanes) {
                Ok(elements) => {
                    let points = [dalek.expect("both accept"); 8];
                    let doubled = elements.multiply(&[Scalar::from(2u8); 8]);
                    assert_eq!(
                        doubled.as_bytes()[place],
                        encode(&[points[place] * Scalar::from(2u8)])[0]
                    );
                }
                Err(error) => {
                    assert_eq!(error, DecodeError::Element("test"));
                    assert!(dalek.is_none());
                }
            }
        }
    }
    assert!(accepted > 50 && refused > 50);
}

#[test]
fn what_is_not_canonical_is_refused_in_every_lane() {
    let good = encode(&[RistrettoPoint::from_uniform_bytes(&uniform(1)[0])])[0];
    let negated: [u8; NE] = {
        // p - s: the negative encoding of the same element.
        let mut borrow = 0i16;
        let p = |i| {
            if i == 0 {
                0xed
            } else if i == 31 {
                0x7f
            } else {
                0xff
            }
        };
        core::array::from_fn(|i| {
            let difference = p(i) - i16::from(good[i]) - borrow;
            borrow = i16::from(difference < 0);
            difference as u8
        })
    };
    let with = |low: u8, high: u8| {
        let mut bytes = [0xff; NE];
        (bytes[0], bytes[31]) = (low, high);
        bytes
    };
    let mut high_bit = good;
    high_bit[31] |= 0x80;
    let bad = [negated, high_bit, with(0xed, 0x7f), with(0xee, 0x7f), with(0xfe, 0x7f), [0xff; NE]];
    for bytes in bad {
        assert!(CompressedRistretto(bytes).decompress().is_none());
        for lanes in ways() {
            for place in 0..8 {
                let mut batch = [good; 8];
                batch[place] = bytes;
                let refused = Elements::decode("test", &batch, lanes);
                assert_eq!(refused, Err(DecodeError::Element("test")), "{bytes:02x?}");
                batch[place] = [0; NE];
                let refused = Elements::decode("test", &batch, lanes);
                assert_eq!(refused, Err(DecodeError::Identity("test")));
            }
        }
    }
}

#[test]
fn wiping_leaves_no_encoding() {
    for lanes in ways() {
        let mut elements = Points::from_uniform_bytes(&uniform(9), lanes).multiply(&scalars(9));
        elements.zeroize();
        assert!(elements.is_empty());
    }
}
