//! Batches of group elements, and the two ways to compute with them: one by one with
//! curve25519-dalek, or eight at a time on processors that can (`lanes`). Everything above
//! this module is the same for both.

use std::fmt;

use curve25519_dalek::constants::RISTRETTO_BASEPOINT_COMPRESSED;
use curve25519_dalek::ristretto::{CompressedRistretto, RistrettoPoint};
use curve25519_dalek::scalar::Scalar;
use curve25519_dalek::traits::VartimeMultiscalarMul;
use zeroize::{Zeroize, Zeroizing};

use crate::error::DecodeError;
use crate::group::{Element, hash_to_group_bytes};
use crate::lanes::{LANES, Lanes, Point8};
use crate::suite::NE;

/// The smallest batch that is faster eight at a time, with most lanes empty, than one by one.
pub(crate) const LANES_FROM: usize = 4;
/// Points in one multiscalar product of dalek, which changes to another algorithm for long
/// inputs that is slower until they are much longer than a batch.
const PRODUCT_CHUNK: usize = 128;

/// Elements other than the identity, each with its 32 wire bytes, which the proof's transcript
/// hashes again.
#[derive(Clone)]
pub struct Elements {
    encoded: Vec<[u8; NE]>,
    points: Points,
}

impl Elements {
    /// Decodes 32 bytes each (`DeserializeElement`, RFC 9497 section 4.1). Refuses what is not
    /// canonical, and the identity. `what` names one of them in the error.
    pub fn from_bytes(what: &'static str, encoded: &[[u8; NE]]) -> Result<Self, DecodeError> {
        Self::decode(what, encoded, lanes_for(encoded.len()))
    }

    fn decode(
        what: &'static str,
        encoded: &[[u8; NE]],
        lanes: Option<Lanes>,
    ) -> Result<Self, DecodeError> {
        // The identity has one canonical encoding.
        if encoded.contains(&[0; NE]) {
            return Err(DecodeError::Identity(what));
        }
        let points = match lanes {
            Some(lanes) => lanes.decode(encoded).map(|points| Points::ByEight(lanes, points)),
            None => {
                let decode = |bytes: &[u8; NE]| CompressedRistretto(*bytes).decompress();
                encoded.iter().map(decode).collect::<Option<_>>().map(Points::OneByOne)
            }
        };
        let points = points.ok_or(DecodeError::Element(what))?;
        Ok(Self { encoded: encoded.to_vec(), points })
    }

    /// The group's generator, `count` times.
    pub(crate) fn basepoints(count: usize) -> Self {
        let generator = RISTRETTO_BASEPOINT_COMPRESSED.to_bytes();
        Self::from_bytes("generator", &vec![generator; count]).expect("it is canonical")
    }

    /// All elements of several batches, in one.
    pub(crate) fn concat(batches: &[&Self]) -> Self {
        let encoded: Vec<_> = batches.iter().flat_map(|batch| &batch.encoded).copied().collect();
        Self::from_bytes("element", &encoded).expect("they were decoded before")
    }

    /// Each element as a batch of its own.
    pub(crate) fn split(&self) -> Vec<Self> {
        let one = |(i, encoded): (usize, &[u8; NE])| {
            let points = match &self.points {
                Points::OneByOne(points) => Points::OneByOne(vec![points[i]]),
                Points::ByEight(lanes, points) => {
                    Points::ByEight(*lanes, vec![lanes.rotated(&points[i / LANES], i % LANES)])
                }
            };
            Self { encoded: vec![*encoded], points }
        };
        self.encoded.iter().enumerate().map(one).collect()
    }

    /// The 32 wire bytes of each (`SerializeElement`).
    pub fn as_bytes(&self) -> &[[u8; NE]] {
        &self.encoded
    }

    /// The number of elements.
    pub fn len(&self) -> usize {
        self.encoded.len()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.encoded.is_empty()
    }

    /// `HashToGroup` of each input, times its scalar. Constant time in the scalars.
    pub(crate) fn hash_and_multiply(inputs: &[impl AsRef<[u8]>], scalars: &[Scalar]) -> Self {
        let uniform: Vec<_> = inputs.iter().map(|i| hash_to_group_bytes(i.as_ref())).collect();
        Points::from_uniform_bytes(&uniform, lanes_for(inputs.len())).multiply(scalars)
    }

    /// Each element times its scalar. Constant time in the scalars.
    pub(crate) fn multiply(&self, scalars: &[Scalar]) -> Self {
        self.points.multiply(scalars)
    }

    /// The sum of all elements, each times its scalar. For public scalars: the time may depend
    /// on them.
    pub(crate) fn sum_of_products(&self, scalars: &[Scalar]) -> Element {
        match &self.points {
            Points::OneByOne(points) => Element::from_point(
                scalars
                    .chunks(PRODUCT_CHUNK)
                    .zip(points.chunks(PRODUCT_CHUNK))
                    .map(|(d, points)| RistrettoPoint::vartime_multiscalar_mul(d, points))
                    .sum(),
            ),
            Points::ByEight(lanes, points) => {
                Element::from_own_bytes(lanes.sum_of_products(points, scalars))
            }
        }
    }
}

impl PartialEq for Elements {
    fn eq(&self, other: &Self) -> bool {
        self.encoded == other.encoded
    }
}

impl Eq for Elements {}

impl fmt::Debug for Elements {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.encoded.iter().map(hex::encode)).finish()
    }
}

impl Zeroize for Elements {
    fn zeroize(&mut self) {
        self.encoded.zeroize();
        match &mut self.points {
            Points::OneByOne(points) => points.zeroize(),
            Points::ByEight(_, points) => points.zeroize(),
        }
    }
}

#[derive(Clone)]
enum Points {
    OneByOne(Vec<RistrettoPoint>),
    ByEight(Lanes, Vec<Point8>),
}

fn lanes_for(count: usize) -> Option<Lanes> {
    if count < LANES_FROM { None } else { Lanes::detect() }
}

impl Points {
    fn from_uniform_bytes(uniform: &[[u8; 64]], lanes: Option<Lanes>) -> Self {
        match lanes {
            Some(lanes) => Self::ByEight(lanes, lanes.map(uniform)),
            None => {
                Self::OneByOne(uniform.iter().map(RistrettoPoint::from_uniform_bytes).collect())
            }
        }
    }

    fn multiply(&self, scalars: &[Scalar]) -> Elements {
        match self {
            // By half the scalar, because dalek's encoder for batches, which shares one
            // inversion, doubles what it encodes.
            Self::OneByOne(points) => {
                let halve = |(point, s): (_, &Scalar)| *Zeroizing::new(s.div_by_2()) * point;
                let mut halves: Vec<RistrettoPoint> =
                    points.iter().zip(scalars).map(halve).collect();
                let mut compressed = RistrettoPoint::double_and_compress_batch(&halves);
                for half in &mut halves {
                    *half += *half;
                }
                let encoded = compressed.iter().map(CompressedRistretto::to_bytes).collect();
                compressed.zeroize();
                Elements { encoded, points: Self::OneByOne(halves) }
            }
            Self::ByEight(lanes, points) => {
                let points = lanes.multiply(points, scalars);
                let encoded = lanes.encode(&points, scalars.len());
                Elements { encoded, points: Self::ByEight(*lanes, points) }
            }
        }
    }
}

#[cfg(test)]
mod tests;
