//! In the place of `lanes` where its instructions are not compiled in: there is never a
//! [`Lanes`], and so nothing to call.

use curve25519_dalek::scalar::Scalar;
use zeroize::Zeroize;

use crate::suite::NE;

pub(crate) const LANES: usize = 8;

#[derive(Clone, Copy, Zeroize)]
pub(crate) enum Point8 {}

#[derive(Clone, Copy)]
pub(crate) enum Lanes {}

impl Lanes {
    pub(crate) fn detect() -> Option<Self> {
        None
    }

    pub(crate) fn decode(self, _: &[[u8; NE]]) -> Option<Vec<Point8>> {
        match self {}
    }

    pub(crate) fn encode(self, _: &[Point8], _: usize) -> Vec<[u8; NE]> {
        match self {}
    }

    pub(crate) fn map(self, _: &[[u8; 64]]) -> Vec<Point8> {
        match self {}
    }

    pub(crate) fn multiply(self, _: &[Point8], _: &[Scalar]) -> Vec<Point8> {
        match self {}
    }

    pub(crate) fn rotated(self, _: &Point8, _: usize) -> Point8 {
        match self {}
    }

    pub(crate) fn sum_of_products(self, _: &[Point8], _: &[Scalar]) -> [u8; NE] {
        match self {}
    }
}
