//! What a benchmark posts: how much of it is honest.

use std::str::FromStr;

/// Shares of posts, in any unit: `valid=80,retry=5,double=5,invalid=10`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Mix([u32; 4]);

/// One sort of post.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Sort {
    /// A fresh token and a fresh message.
    Valid,
    /// Token and message of an earlier post again.
    Retry,
    /// The token of an earlier post with another message.
    Double,
    /// A token that is not genuine, which costs the relay a verification.
    Invalid,
}

impl Sort {
    pub(crate) const ALL: [Self; 4] = [Self::Valid, Self::Retry, Self::Double, Self::Invalid];

    pub(crate) fn name(self) -> &'static str {
        ["valid", "retry", "double", "invalid"][self as usize]
    }

    /// The status that a relay must answer with.
    pub(crate) fn status(self) -> u16 {
        [201, 200, 409, 401][self as usize]
    }
}

impl FromStr for Mix {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let mut shares = [0; 4];
        for part in text.split(',') {
            let (name, share) = part.split_once('=').ok_or("give NAME=SHARE,NAME=SHARE")?;
            let sort = Sort::ALL.into_iter().find(|sort| sort.name() == name);
            let sort = sort.ok_or("the names are valid, retry, double, invalid")?;
            shares[sort as usize] = share.parse().map_err(|_| "shares are whole numbers")?;
        }
        match shares[Sort::Valid as usize] {
            0 => Err("the share of valid must be above 0".into()),
            _ => Ok(Self(shares)),
        }
    }
}

impl Mix {
    /// The sort of the `n`th post: the same for every run, in the shares asked for.
    pub(crate) fn sort(&self, n: u64) -> Sort {
        let total: u32 = self.0.iter().sum();
        // A multiplicative step spreads the sorts evenly over time.
        let mut place = (n.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 32) as u32 % total;
        for sort in Sort::ALL {
            match place.checked_sub(self.0[sort as usize]) {
                None => return sort,
                Some(rest) => place = rest,
            }
        }
        Sort::Valid
    }

    /// As it is given.
    pub(crate) fn text(&self) -> String {
        Sort::ALL.map(|sort| format!("{}={}", sort.name(), self.0[sort as usize])).join(",")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shares_are_kept() {
        let mix: Mix = "valid=80,retry=5,double=5,invalid=10".parse().unwrap();
        let count = |sort| (0..100_000).filter(|n| mix.sort(*n) == sort).count();
        for (sort, share) in Sort::ALL.into_iter().zip([80_000, 5_000, 5_000, 10_000]) {
            assert!(count(sort).abs_diff(share) < 500, "{sort:?}: {}", count(sort));
        }
        for bad in ["", "valid", "valid=0", "other=1", "valid=x", "retry=1"] {
            assert!(bad.parse::<Mix>().is_err(), "{bad}");
        }
    }
}
