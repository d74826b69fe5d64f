//! A statement of keys that was shown and is not accepted yet, as people read it before they accept.

use std::fmt;

use tocyn_protocol::statement::{Signed, Statement};

use crate::session::time_text;
use crate::wallet::{Offer, Pin};

/// What is new in a statement that goes on from the pinned one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Renewal {
    /// The pinned statement.
    pub pinned: Signed,
    /// The new one.
    pub offered: Signed,
    /// Unix seconds: when it was shown first.
    pub shown_at: u64,
}

impl Renewal {
    /// Of an offer beside its pin.
    pub fn of(pin: &Pin, offer: &Offer) -> Self {
        let (pinned, offered) = (pin.statement.clone(), offer.statement.clone());
        Self { pinned, offered, shown_at: offer.shown_at }
    }

    /// All that differs, one sentence each.
    fn changes(&self) -> Vec<String> {
        let (old, new) = (self.pinned.statement(), self.offered.statement());
        let mut changes = Vec::new();
        if new.schedule.genesis != old.schedule.genesis {
            let began = time_text(new.schedule.genesis);
            changes.push(format!("a renewal that began at {began}: tokens from before are void"));
        } else if !new.has_keys_of(old) {
            let planned = "a planned renewal: new keys from a later epoch on, and tokens stay good";
            changes.push(planned.to_owned());
        }
        if new.addresses != old.addresses {
            let (now, before) = (addresses(new), addresses(old));
            changes.push(format!("other addresses: {now}; before: {before}"));
        }
        if new.issuer_address != old.issuer_address {
            let (now, before) = (issuer(new), issuer(old));
            changes.push(format!("another address of the issuer: {now}; before: {before}"));
        }
        if changes.is_empty() {
            changes.push("with the same keys and addresses".to_owned());
        }
        changes
    }
}

fn addresses(statement: &Statement) -> String {
    let all: Vec<&str> = statement.addresses.iter().map(|address| address.as_str()).collect();
    if all.is_empty() { "none".to_owned() } else { all.join(", ") }
}

fn issuer(statement: &Statement) -> String {
    statement.issuer_address.as_ref().map_or_else(|| "none".to_owned(), ToString::to_string)
}

impl fmt::Display for Renewal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let offered = self.offered.commitment();
        let (origin, serial, hash) = (&self.offered.origin_name, offered.serial, offered.hash);
        write!(
            f,
            "{origin} shows a new statement of keys, number {serial}: {}. Its hash is {hash}. It was \
             first shown here at {}. If the operator confirms it, `tocyn relay accept {origin}` takes \
             it now; it is taken by itself once it was shown again a day later",
            self.changes().join("; "),
            time_text(self.shown_at)
        )
    }
}
