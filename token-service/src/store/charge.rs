//! Charging: many requests in one transaction. What the database knows about them is read, what
//! becomes of each is decided here, and what changed is written in one statement for each table,
//! so that a batch of any size is the same few trips to the database.

use std::collections::HashMap;

use tocyn_protocol::pairing::Epoch;

use super::Hash;
use crate::attester::{Attester, Budgets};

/// What a request asks of a voucher.
#[derive(Clone, Copy)]
pub struct Charge {
    /// SHA-256 of the voucher's code.
    pub code_hash: Hash,
    /// SHA-256 of the request body.
    pub body_hash: Hash,
    /// Tokens asked for.
    pub tokens: usize,
    /// The epoch to issue under; None refuses all but repeats.
    pub epoch: Option<Epoch>,
}

/// Which repeats are answered.
#[derive(Clone, Copy, Debug)]
pub struct Rules {
    /// Repeats of one request in one window.
    pub max_replays: u32,
    /// Length of the window.
    pub replay_window_seconds: u64,
    /// The oldest epoch whose repeats are answered.
    pub oldest_epoch: Epoch,
    /// What may be handed out in one epoch.
    pub budgets: Budgets,
}

/// Charged, or charged before: the epoch under whose key to answer. Or why not.
pub type Charged = Result<Epoch, Refusal>;

/// Why a request is not answered. It was not charged, unless it was charged before.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Refusal {
    /// Repeated too often; wait this many seconds.
    #[error("this request was repeated too often; wait {0} s")]
    TooManyReplays(u64),
    /// No key fits, or the key of then is no longer used.
    #[error("the key is not, or no longer, in use; read the directory and ask again")]
    UnknownKey,
    /// There is no such voucher.
    #[error("this issuer has no such voucher")]
    Unknown,
    /// Revoked.
    #[error("the voucher was revoked by the operator")]
    Revoked,
    /// Expired.
    #[error("the voucher has expired; ask for a new one")]
    Expired,
    /// Too few tokens: this many are left.
    #[error("{0} tokens are left on the voucher; ask for no more")]
    Exhausted(u64),
    /// The operator has turned this off.
    #[error("this issuer does not hand out tokens in this way: {} is off", .0.name())]
    Off(Attester),
    /// As many tokens as are left of the epoch's budget, of one attester or of all.
    #[error(
        "only {0} tokens are left of what may be handed out in this epoch; ask for fewer, or in the next one"
    )]
    BudgetSpent(u64),
}

/// Tokens that were handed out for the first time, by attester.
pub(super) type Tally = [u64; 5];

/// What the database knows about the requests of a batch, and what they change.
#[derive(Default)]
pub(super) struct Ledger {
    pub(super) closed_below: Epoch,
    /// By the hash of the code.
    pub(super) vouchers: HashMap<Hash, Voucher>,
    /// Tokens handed out under an epoch's key, by attester, before this batch; where budgets say
    /// that it matters.
    pub(super) issued: HashMap<(Epoch, Attester), u64>,
    /// The same of this batch.
    pub(super) issued_now: HashMap<(Epoch, Attester), u64>,
}

pub(super) struct Voucher {
    pub(super) id: i64,
    pub(super) attester: Attester,
    pub(super) granted: u64,
    /// Of an allowance: the last epoch that it was filled up for.
    pub(super) refilled: Option<Epoch>,
    pub(super) refilled_now: bool,
    pub(super) balance: u64,
    pub(super) expires_at: u64,
    pub(super) revoked: bool,
    pub(super) charged_now: u64,
    /// By the hash of the body.
    pub(super) requests: HashMap<Hash, Request>,
}

/// A request that was charged, now or before.
pub(super) struct Request {
    pub(super) epoch: Epoch,
    pub(super) tokens: usize,
    pub(super) replays: u64,
    pub(super) window_start: u64,
    pub(super) state: RequestState,
}

#[derive(Clone, Copy, PartialEq)]
pub(super) enum RequestState {
    New,
    Unchanged,
    Repeated,
}

impl Ledger {
    /// Decides on each, in order.
    pub(super) fn charge_all(
        &mut self,
        charges: &[Charge],
        rules: Rules,
        now: u64,
    ) -> Vec<Charged> {
        charges.iter().map(|charge| self.charge(charge, rules, now)).collect()
    }

    fn charge(&mut self, charge: &Charge, rules: Rules, now: u64) -> Charged {
        let voucher = self.vouchers.get_mut(&charge.code_hash).ok_or(Refusal::Unknown)?;
        if let Some(request) = voucher.requests.get_mut(&charge.body_hash) {
            return request.repeat(rules, now);
        }
        // The charges of closed epochs are forgotten: a body of theirs would be charged twice.
        let closed = |epoch: &Epoch| *epoch < self.closed_below;
        let epoch = charge.epoch.filter(|e| !closed(e)).ok_or(Refusal::UnknownKey)?;
        let (tokens, attester) = (charge.tokens as u64, voucher.attester);
        let budget = rules.budgets.each[attester as usize].ok_or(Refusal::Off(attester))?;
        if voucher.revoked {
            return Err(Refusal::Revoked);
        } else if voucher.expires_at <= now {
            return Err(Refusal::Expired);
        }
        let refill = attester == Attester::Allowance && voucher.refilled.is_none_or(|e| e < epoch);
        let balance = if refill { voucher.granted } else { voucher.balance };
        if balance < tokens && !attester.is_shared() {
            return Err(Refusal::Exhausted(balance));
        }
        let issued = |attester| {
            let count = |counts: &HashMap<_, u64>| counts.get(&(epoch, attester)).copied();
            count(&self.issued).unwrap_or(0) + count(&self.issued_now).unwrap_or(0)
        };
        let left = |budget: u64, issued: u64| match budget {
            0 => u64::MAX,
            budget => budget.saturating_sub(issued),
        };
        let total = Attester::ALL.into_iter().map(issued).sum();
        let left = left(budget, issued(attester)).min(left(rules.budgets.total, total));
        if left < tokens {
            return Err(Refusal::BudgetSpent(left));
        }
        *self.issued_now.entry((epoch, attester)).or_default() += tokens;
        if refill {
            (voucher.balance, voucher.refilled) = (balance, Some(epoch));
            voucher.refilled_now = true;
            // What was charged before in this batch was of what is replaced now.
            voucher.charged_now = 0;
        }
        if !attester.is_shared() {
            voucher.balance -= tokens;
            voucher.charged_now += tokens;
        }
        let request = Request {
            epoch,
            tokens: charge.tokens,
            replays: 0,
            window_start: now,
            state: RequestState::New,
        };
        voucher.requests.insert(charge.body_hash, request);
        Ok(epoch)
    }

    /// Allowances that are filled up now, before they are charged: their ids, and for which epoch.
    pub(super) fn refilled(&self) -> impl Iterator<Item = (i64, Epoch)> {
        let refilled = self.vouchers.values().filter(|voucher| voucher.refilled_now);
        refilled.filter_map(|voucher| Some((voucher.id, voucher.refilled?)))
    }

    /// Tokens handed out now: the epoch, the attester's number, how many. In the order in which
    /// their rows are locked.
    pub(super) fn issued_now(&self) -> Vec<(Epoch, i64, u64)> {
        let mut issued: Vec<_> = self
            .issued_now
            .iter()
            .map(|((epoch, a), tokens)| (*epoch, *a as i64, *tokens))
            .collect();
        issued.sort_unstable();
        issued
    }

    /// The same, by attester.
    pub(super) fn tally(&self) -> Tally {
        let mut tally = Tally::default();
        for ((_, attester), tokens) in &self.issued_now {
            tally[*attester as usize] += tokens;
        }
        tally
    }

    /// Vouchers that were charged now: their ids, and how many tokens.
    pub(super) fn charged(&self) -> impl Iterator<Item = (i64, u64)> {
        let charged = self.vouchers.values().filter(|voucher| voucher.charged_now > 0);
        charged.map(|voucher| (voucher.id, voucher.charged_now))
    }

    /// Those in this state: the voucher's id, the body's hash, the request.
    pub(super) fn requests(
        &self,
        state: RequestState,
    ) -> impl Iterator<Item = (i64, &Hash, &Request)> {
        self.vouchers.values().flat_map(move |voucher| {
            let requests = voucher.requests.iter().filter(move |(_, r)| r.state == state);
            requests.map(|(hash, request)| (voucher.id, hash, request))
        })
    }
}

impl Request {
    /// Counts a repeat.
    fn repeat(&mut self, rules: Rules, now: u64) -> Charged {
        let window_end = |start: u64| start.saturating_add(rules.replay_window_seconds);
        let max = u64::from(rules.max_replays);
        // A window that begins after this one has ended is of a clock that was ahead.
        let is_over = window_end(self.window_start) <= now || window_end(now) < self.window_start;
        let (replays, window_start) =
            if is_over { (1, now) } else { (self.replays.min(max) + 1, self.window_start) };
        if self.state == RequestState::Unchanged
            && (replays, window_start) != (self.replays, self.window_start)
        {
            self.state = RequestState::Repeated;
        }
        (self.replays, self.window_start) = (replays, window_start);
        if replays > max {
            let wait = window_end(window_start).saturating_sub(now);
            Err(Refusal::TooManyReplays(wait.max(1)))
        } else if self.epoch < rules.oldest_epoch {
            Err(Refusal::UnknownKey)
        } else {
            Ok(self.epoch)
        }
    }
}
