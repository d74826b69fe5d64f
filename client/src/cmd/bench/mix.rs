//! What a benchmark sends to a relay: how much of it is honest.

use std::str::FromStr;

/// Shares of requests, in any unit: `valid=80,retry=5,double=5,invalid=10`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Mix([u32; 6]);

/// One kind of request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    /// A fresh token and a fresh message.
    Valid,
    /// Token and message of an earlier post again.
    Retry,
    /// The token of an earlier post with another message.
    Double,
    /// A token of genuine form with a wrong binding, which costs the relay a verification.
    Invalid,
    /// In turn a token of a wrong length, of an unknown key, for another challenge: refused
    /// without a verification.
    Reject,
    /// `GET /healthz`: nothing but HTTP, to compare with.
    Healthz,
}

/// In the order of [`Kind::ALL`].
pub(crate) const NAMES: [&str; 6] = ["valid", "retry", "double", "invalid", "reject", "healthz"];

impl Kind {
    pub(crate) const ALL: [Self; 6] =
        [Self::Valid, Self::Retry, Self::Double, Self::Invalid, Self::Reject, Self::Healthz];

    /// The status that a relay must answer with.
    pub(crate) fn status(self) -> u16 {
        [201, 200, 409, 401, 401, 200][self as usize]
    }
}

impl FromStr for Mix {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let mut shares = [0; 6];
        for part in text.split(',') {
            let (name, share) = part.split_once('=').unwrap_or((part, "1"));
            let place = NAMES.iter().position(|known| *known == name);
            let place = place.ok_or_else(|| {
                format!("give NAME=SHARE,NAME=SHARE with the names {}", NAMES.join(", "))
            })?;
            shares[place] = share
                .parse()
                .ok()
                .filter(|share| *share <= 1_000_000)
                .ok_or("shares are whole numbers up to 1000000")?;
        }
        match shares {
            [0, 0, 0, 0, 0, 0] => Err("at least one share must be above 0".into()),
            _ => Ok(Self(shares)),
        }
    }
}

impl Mix {
    /// The kind of the `n`th request: the same for every run, in the shares asked for.
    pub(crate) fn kind(&self, n: u64) -> Kind {
        let total: u32 = self.0.iter().sum();
        // A multiplicative step spreads the kinds evenly over time.
        let mut place = (n.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 32) as u32 % total;
        for kind in Kind::ALL {
            match place.checked_sub(self.share(kind)) {
                None => return kind,
                Some(rest) => place = rest,
            }
        }
        unreachable!("the place is below the sum of the shares")
    }

    fn share(&self, kind: Kind) -> u32 {
        self.0[kind as usize]
    }

    pub(crate) fn has(&self, kind: Kind) -> bool {
        self.share(kind) > 0
    }

    /// The part of all requests that are of this kind, from 0 to 1.
    pub(crate) fn part(&self, kind: Kind) -> f64 {
        f64::from(self.share(kind)) / f64::from(self.0.iter().sum::<u32>())
    }

    /// As it is given.
    pub(crate) fn text(&self) -> String {
        let shown = Kind::ALL.into_iter().filter(|kind| self.has(*kind));
        let parts: Vec<_> =
            shown.map(|kind| format!("{}={}", NAMES[kind as usize], self.share(kind))).collect();
        parts.join(",")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shares_are_kept() {
        let mix: Mix = "valid=75,retry=5,double=5,invalid=10,reject=3,healthz=2".parse().unwrap();
        let count = |kind| (0..100_000).filter(|n| mix.kind(*n) == kind).count();
        for (kind, share) in Kind::ALL.into_iter().zip([75_000, 5_000, 5_000, 10_000, 3_000, 2_000])
        {
            assert!(count(kind).abs_diff(share) < 500, "{kind:?}: {}", count(kind));
            assert_eq!(mix.part(kind), share as f64 / 100_000.0);
        }
    }

    #[test]
    fn one_kind_alone_needs_no_share() {
        let mix: Mix = "reject".parse().unwrap();
        assert!((0..100).all(|n| mix.kind(n) == Kind::Reject));
        assert!(mix.has(Kind::Reject) && !mix.has(Kind::Valid));
        assert_eq!(mix.text(), "reject=1");
    }

    #[test]
    fn nonsense_is_refused() {
        for bad in ["", "valid=0", "other=1", "valid=x", "valid=-1", "valid=1,", "valid=9999999"] {
            assert!(bad.parse::<Mix>().is_err(), "{bad}");
        }
    }
}
