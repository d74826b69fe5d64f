//! What a client sends to be given tokens.

use axum::http::{HeaderMap, header};
use tocyn_protocol::problem::ProblemType;

use super::Attester;
use crate::http::ApiError;
use crate::voucher::VoucherCode;

/// What the one `Authorization` header says.
pub(crate) enum Grant {
    /// `Bearer tv1-...`.
    Code(VoucherCode),
    /// `TocynPow proof="..."`, undecoded.
    Pow(#[cfg_attr(not(feature = "pow"), allow(dead_code))] String),
    /// No header: everyone is let in.
    Open,
}

impl Grant {
    /// Reads it. Without a header it is [`Grant::Open`] where `open` says so, and refused elsewhere.
    pub(crate) fn read(headers: &HeaderMap, open: bool) -> Result<Self, ApiError> {
        let missing = |detail: &str| ApiError::new(ProblemType::VoucherMissing, detail);
        let mut values = headers.get_all(header::AUTHORIZATION).iter();
        let Some(value) = values.next() else {
            return match open {
                true => Ok(Self::Open),
                false => Err(missing(
                    "send a voucher as `Authorization: Bearer tv1-...`: not everyone is given tokens here",
                )),
            };
        };
        if values.next().is_some() {
            return Err(missing("send one Authorization header, not several"));
        }
        let text = value.to_str().map_err(|_| missing("the Authorization header is not text"))?;
        match text.split_once(' ') {
            Some((scheme, code)) if scheme.eq_ignore_ascii_case("Bearer") => {
                VoucherCode::parse(code)
                    .map(Self::Code)
                    .map_err(|error| ApiError::new(ProblemType::VoucherUnknown, error.to_string()))
            }
            Some((scheme, rest)) if scheme.eq_ignore_ascii_case("TocynPow") => {
                let proof = rest.trim().strip_prefix("proof=").unwrap_or_default();
                Ok(Self::Pow(proof.trim_matches('"').to_owned()))
            }
            _ => Err(missing("the Authorization header must read `Bearer tv1-...`")),
        }
    }

    /// The account that it is charged to.
    pub(crate) fn account(&self) -> [u8; 32] {
        match self {
            Self::Code(code) => code.hash(),
            Self::Pow(_) => Attester::Pow.account(),
            Self::Open => Attester::Open.account(),
        }
    }
}
