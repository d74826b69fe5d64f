//! Bytes from strangers, against every decoder. README.md lists them all.
//!
//! A target is one program with several decoders; the first byte of its input says which one gets
//! the rest. What each asserts stands in its module.

pub mod documents;
pub mod evidence;
pub mod group;
pub mod headers;
pub mod issuance;
pub mod log;
pub mod notes;
pub mod seeds;
pub mod tokens;

mod fixed;
mod pairing;
mod statements;

pub use fixed::Drawn;

/// Takes bytes, and panics if what is decoded from them is not as it should be.
pub type Check = fn(&[u8]);

/// A program for libFuzzer.
pub struct Target {
    /// Its name, and that of its folder of seeds.
    pub name: &'static str,
    /// Its decoders. New ones come last, because seeds name them by their place.
    pub decoders: &'static [(&'static str, Check)],
}

/// Every target.
pub const TARGETS: [&Target; 8] = [
    &tokens::TARGET,
    &issuance::TARGET,
    &headers::TARGET,
    &notes::TARGET,
    &log::TARGET,
    &documents::TARGET,
    &group::TARGET,
    &evidence::TARGET,
];

impl Target {
    /// Gives all bytes but the first to the decoder that the first one names.
    pub fn run(&self, input: &[u8]) {
        let Some((first, rest)) = input.split_first() else { return };
        if let Some((_, check)) = self.decoders.get(usize::from(*first)) {
            check(rest);
        }
    }

    /// The input that gives these bytes to a decoder.
    pub fn input(&self, decoder: &str, bytes: &[u8]) -> Vec<u8> {
        let place = self.decoders.iter().position(|(name, _)| *name == decoder);
        let place = place.unwrap_or_else(|| panic!("{} has no {decoder}", self.name));
        [&[place as u8], bytes].concat()
    }
}

/// The bytes as text, where they are text.
fn text(bytes: &[u8]) -> Option<&str> {
    std::str::from_utf8(bytes).ok()
}
