//! Attesters (RFC 9576): who decides that somebody may have tokens. Several may be on at once, each
//! with a budget of its own for every epoch. All of them end in an account that a request is
//! charged to, so that charging, repeats and budgets are the same for all.
//!
//! | attester | who is let in | what the client sends |
//! |---|---|---|
//! | voucher | who was given a code | `Authorization: Bearer tv1-...` |
//! | allowance | the same, and the code is filled up every epoch | the same |
//! | webhook | whom another service lets in, which then is given a code for them | the same |
//! | pow | who has worked | `Authorization: TocynPow proof="..."` |
//! | open | everyone | nothing |

pub mod effort;
mod grant;
pub mod work;

use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use tocyn_service::secret::Secret;

pub(crate) use grant::Grant;

/// Who decided.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Attester {
    /// The operator, once.
    Voucher,
    /// The operator, for every epoch.
    Allowance,
    /// Another service.
    Webhook,
    /// A proof of work.
    Pow,
    /// Nobody.
    Open,
}

impl Attester {
    /// All of them, in the order of their numbers in the database.
    pub const ALL: [Self; 5] =
        [Self::Voucher, Self::Allowance, Self::Webhook, Self::Pow, Self::Open];

    /// The name, as in settings and metrics.
    pub fn name(self) -> &'static str {
        ["voucher", "allowance", "webhook", "pow", "open"][self as usize]
    }

    /// By its number.
    pub(crate) fn from_number(number: i64) -> Option<Self> {
        Self::ALL.get(usize::try_from(number).ok()?).copied()
    }

    /// Whether all that come this way share one account.
    pub fn is_shared(self) -> bool {
        matches!(self, Self::Pow | Self::Open)
    }

    /// What the shared account is found by, in the place of a code's hash.
    pub fn account(self) -> [u8; 32] {
        Sha256::digest(format!("tocyn account {}", self.name())).into()
    }
}

/// Bounds on tokens in one epoch; 0 is without bound.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Budgets {
    /// Of all attesters together.
    pub total: u64,
    /// Of each, in the order of [`Attester::ALL`]; None where it is off.
    pub each: [Option<u64>; 5],
}

impl Budgets {
    /// All on, without bounds.
    pub const UNBOUNDED: Self = Self { total: 0, each: [Some(0); 5] };

    /// Whether nothing has to be counted first.
    pub(crate) fn is_unbounded(&self) -> bool {
        self.total == 0 && self.each.iter().all(|budget| budget.unwrap_or(0) == 0)
    }
}

/// The settings of all attesters.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Attesters {
    /// Tokens of all attesters together in one epoch; 0 is without bound.
    pub budget: u64,
    /// Codes that the operator makes.
    pub voucher: Coded,
    /// Codes that are filled up every epoch.
    pub allowance: Coded,
    /// Codes that another service asks for.
    pub webhook: Webhook,
    /// Proof of work.
    pub pow: Pow,
    /// Everyone.
    pub open: Open,
}

/// An attester that gives codes.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Coded {
    /// Whether its codes are taken.
    pub enabled: bool,
    /// Tokens in one epoch; 0 is without bound.
    pub budget: u64,
}

impl Default for Coded {
    fn default() -> Self {
        Self { enabled: true, budget: 0 }
    }
}

/// Another service asks for codes on the operator's listener.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Webhook {
    /// Whether it may, and its codes are taken.
    pub enabled: bool,
    /// Tokens in one epoch; 0 is without bound.
    pub budget: u64,
    /// What that service sends as `Authorization: Bearer`; at least 32 characters.
    pub credential: Secret,
}

/// Proof of work.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Pow {
    /// Whether it is offered.
    pub enabled: bool,
    /// Tokens in one epoch; it must be set.
    pub budget: u64,
    /// Puzzles that are tried for 16 tokens, on average, while few ask.
    pub min_effort: u32,
    /// The same at most, however many ask.
    pub max_effort: u32,
}

impl Default for Pow {
    fn default() -> Self {
        Self { enabled: false, budget: 0, min_effort: 64, max_effort: 65_536 }
    }
}

/// Everyone gets tokens.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Open {
    /// Whether they do, if `serve --open` says so too.
    pub enabled: bool,
    /// Tokens in one epoch; it must be set.
    pub budget: u64,
}

impl Attesters {
    /// Refuses what cannot be meant.
    pub(crate) fn validate(&self) -> Result<(), String> {
        let Self { webhook, pow, open, .. } = self;
        for (name, enabled, budget) in
            [("pow", pow.enabled, pow.budget), ("open", open.enabled, open.budget)]
        {
            if enabled && budget == 0 {
                return Err(format!("attesters.{name}.budget must be above 0: it is for everyone"));
            }
        }
        if pow.enabled && !cfg!(feature = "pow") {
            return Err("attesters.pow.enabled: this tocyn-issuer was built without the feature \
                `pow` (Equi-X is under the LGPL); build it with `--features pow`"
                .to_owned());
        }
        if pow.min_effort == 0 || pow.max_effort < pow.min_effort {
            return Err(
                "attesters.pow.min_effort must be above 0, and max_effort not below it".to_owned()
            );
        }
        if webhook.enabled && webhook.credential.is_none() {
            return Err(
                "attesters.webhook.credential must be set, as \"file:PATH\" or \"env:NAME\""
                    .to_owned(),
            );
        }
        Ok(())
    }

    /// Those of the attesters that are on.
    pub fn budgets(&self) -> Budgets {
        let if_on = |enabled: bool, budget: u64| enabled.then_some(budget);
        let each = [
            if_on(self.voucher.enabled, self.voucher.budget),
            if_on(self.allowance.enabled, self.allowance.budget),
            if_on(self.webhook.enabled, self.webhook.budget),
            if_on(self.pow.enabled, self.pow.budget),
            if_on(self.open.enabled, self.open.budget),
        ];
        Budgets { total: self.budget, each }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_and_names_belong_together() {
        for (number, attester) in Attester::ALL.into_iter().enumerate() {
            assert_eq!(Attester::from_number(number as i64), Some(attester));
            assert_eq!(serde_json::to_value(attester).unwrap(), attester.name());
        }
        assert_eq!(Attester::from_number(5), None);
        assert_eq!(Attester::from_number(-1), None);
        assert_ne!(Attester::Pow.account(), Attester::Open.account());
    }

    #[test]
    fn what_is_for_everyone_has_a_bound() {
        let mut attesters = Attesters::default();
        attesters.validate().unwrap();
        assert_eq!(attesters.budgets().each, [Some(0), Some(0), None, None, None]);
        attesters.open.enabled = true;
        assert!(attesters.validate().unwrap_err().contains("attesters.open.budget"));
        attesters.open.budget = 1000;
        attesters.validate().unwrap();
        attesters.webhook.enabled = true;
        assert!(attesters.validate().unwrap_err().contains("credential"));
        attesters.webhook = Webhook::default();
        attesters.pow.max_effort = 1;
        assert!(attesters.validate().unwrap_err().contains("max_effort"));
    }
}
