//! Voucher codes: 128 random bits as `tv1-` and Crockford's base32 with his check symbol.
//!
//! ```text
//! tv1-  26 symbols (2 zero bits, then 128 bits)  1 check symbol (the 128 bits mod 37)
//! ```

use std::fmt;

use rand_core::CryptoRng;
use sha2::{Digest, Sha256};
use zeroize::{Zeroize, ZeroizeOnDrop, Zeroizing};

/// What every code starts with.
pub const PREFIX: &str = "tv1-";
const ALPHABET: &[u8; 32] = b"0123456789ABCDEFGHJKMNPQRSTVWXYZ";
const SYMBOLS: usize = 26;
/// Crockford's check symbols 32 to 35 are `*~$=`, which shells and headers read otherwise:
/// a code that would end in one is not made.
const CHECK_U: u128 = 36;

/// A text that is no voucher code.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum VoucherCodeError {
    /// Another prefix.
    #[error("a voucher code starts with tv1-")]
    Prefix,
    /// Symbols are missing or too many.
    #[error("a voucher code has 27 letters and digits after tv1-, this one has {0}")]
    Length(usize),
    /// A character that no code has.
    #[error("letter {0} after tv1- cannot stand in a voucher code")]
    Symbol(usize),
    /// The check symbol does not fit.
    #[error("the voucher code has a typing mistake: its check symbol does not fit")]
    Check,
}

/// A voucher code. Whoever has it can buy tokens: wiped on drop, not shown by `Debug`.
#[derive(Clone, PartialEq, Eq, Zeroize, ZeroizeOnDrop)]
pub struct VoucherCode(u128);

impl fmt::Debug for VoucherCode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("VoucherCode(..)")
    }
}

impl VoucherCode {
    /// A fresh code.
    pub fn random(rng: &mut impl CryptoRng) -> Self {
        loop {
            let mut bytes = Zeroizing::new([0; 16]);
            rng.fill_bytes(bytes.as_mut());
            if let Some(code) = Self::from_bytes(*bytes) {
                return code;
            }
        }
    }

    /// The code of these bytes; one in ten has none.
    pub fn from_bytes(bytes: [u8; 16]) -> Option<Self> {
        let code = Self(u128::from_be_bytes(bytes));
        check_symbol(code.0).is_some().then_some(code)
    }

    /// Reads a code as people write it: any case, O for 0, I and L for 1, hyphens anywhere.
    pub fn parse(text: &str) -> Result<Self, VoucherCodeError> {
        let text = text.trim();
        let rest = match text.split_at_checked(PREFIX.len()) {
            Some((head, rest)) if head.eq_ignore_ascii_case(PREFIX) => rest,
            _ => return Err(VoucherCodeError::Prefix),
        };
        let symbols: Zeroizing<Vec<char>> =
            Zeroizing::new(rest.chars().filter(|c| *c != '-').collect());
        let [symbols @ .., check] = symbols.as_slice() else {
            return Err(VoucherCodeError::Length(0));
        };
        if symbols.len() != SYMBOLS {
            return Err(VoucherCodeError::Length(symbols.len() + 1));
        }
        let mut bits: u128 = 0;
        for (i, symbol) in symbols.iter().enumerate() {
            let value = decode_symbol(*symbol).ok_or(VoucherCodeError::Symbol(i + 1))?;
            if i == 0 && value > 7 {
                return Err(VoucherCodeError::Check); // 130 bits do not fit
            }
            bits = bits << 5 | value;
        }
        let check = match check.to_ascii_uppercase() {
            'U' => CHECK_U,
            other => decode_symbol(other).ok_or(VoucherCodeError::Symbol(SYMBOLS + 1))?,
        };
        if bits % 37 != check {
            return Err(VoucherCodeError::Check);
        }
        Ok(Self(bits))
    }

    /// The code as text.
    pub fn text(&self) -> Zeroizing<String> {
        let mut text = Zeroizing::new(String::with_capacity(PREFIX.len() + SYMBOLS + 1));
        text.push_str(PREFIX);
        for i in (0..SYMBOLS).rev() {
            text.push(char::from(ALPHABET[(self.0 >> (5 * i)) as usize & 31]));
        }
        text.push(check_symbol(self.0).expect("no code is made without one"));
        text
    }

    /// SHA-256 of the 16 bytes: all that the database holds of a code.
    pub fn hash(&self) -> [u8; 32] {
        Sha256::digest(self.0.to_be_bytes()).into()
    }
}

fn check_symbol(bits: u128) -> Option<char> {
    match bits % 37 {
        CHECK_U => Some('U'),
        value => ALPHABET.get(value as usize).map(|symbol| char::from(*symbol)),
    }
}

fn decode_symbol(symbol: char) -> Option<u128> {
    let symbol = match symbol.to_ascii_uppercase() {
        'O' => '0',
        'I' | 'L' => '1',
        other => other,
    };
    ALPHABET.iter().position(|s| char::from(*s) == symbol).map(|value| value as u128)
}

#[cfg(test)]
mod tests {
    use super::*;
    use getrandom::SysRng;
    use rand_core::UnwrapErr;

    #[test]
    fn every_code_reads_back_however_it_is_written() {
        for _ in 0..500 {
            let code = VoucherCode::random(&mut UnwrapErr(SysRng));
            let text = code.text();
            assert_eq!(text.len(), 31);
            assert!(text[4..].bytes().all(|b| b.is_ascii_alphanumeric()));
            assert_eq!(VoucherCode::parse(&text).unwrap(), code);
            let sloppy = text.to_lowercase().replace('0', "o").replace('1', "l");
            let sloppy = format!(" tv1-{}-{} ", &sloppy[4..10], &sloppy[10..]);
            assert_eq!(VoucherCode::parse(&sloppy).unwrap(), code);
        }
    }

    #[test]
    fn every_single_mistake_is_found() {
        let text = VoucherCode::random(&mut UnwrapErr(SysRng)).text();
        for i in 4..text.len() {
            for symbol in b"0123456789ABCDEFGHJKMNPQRSTVWXYZ" {
                let mut wrong = text.as_bytes().to_vec();
                if wrong[i] != *symbol {
                    wrong[i] = *symbol;
                    let wrong = String::from_utf8(wrong).unwrap();
                    assert_eq!(VoucherCode::parse(&wrong), Err(VoucherCodeError::Check));
                }
            }
        }
        assert_eq!(VoucherCode::parse("tv2-00"), Err(VoucherCodeError::Prefix));
        assert_eq!(VoucherCode::parse("tv1-00"), Err(VoucherCodeError::Length(2)));
        assert_eq!(VoucherCode::parse("tv1-"), Err(VoucherCodeError::Length(0)));
        let odd = format!("tv1-!{}", &text[5..]);
        assert_eq!(VoucherCode::parse(&odd), Err(VoucherCodeError::Symbol(1)));
    }

    #[test]
    fn debug_hides_the_code() {
        let code = VoucherCode::random(&mut UnwrapErr(SysRng));
        assert_eq!(format!("{code:?}"), "VoucherCode(..)");
    }
}
