//! Looks for anything in a history that must not be.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::time::Duration;

use tocyn_protocol::log::tree::{Edge, NodeHash, Tree};
use tocyn_protocol::relay::{MessageId, PostReceipt};

use super::{FinalState, History, IssueOutcome, Log, Nonce, PostOutcome};

/// What must not be. Sequences are of the log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Violation {
    /// Two answers about one token name different receipts.
    ReceiptsDiffer(PostReceipt, PostReceipt),
    /// One token was called new twice.
    StoredTwice(PostReceipt),
    /// An acknowledged message is not in the log where its receipt says.
    Lost(PostReceipt),
    /// Two messages in the log were paid for with one token.
    PaidTwice(u64, u64),
    /// A message in the log that nobody sent with a token.
    Unpaid(u64),
    /// A message stands twice in the log.
    Repeated(u64),
    /// A log does not count 1, 2, 3: what it has in place of this.
    NotDense(u64, u64),
    /// Two relays give different logs, from this sequence on.
    LogsDiffer(u64),
    /// A token was called spent on another message, but it was spent on none, or on this one.
    NotSpent(MessageId),
    /// A message was acknowledged before another one was sent, and stands behind it.
    OutOfOrder(u64, u64),
    /// A receipt came with a wrong proof, or none.
    Unproven(PostReceipt),
    /// A checkpoint of this size was signed, and is not that of the log.
    Forked(u64),
    /// A follower was sent this in place of the next message of the log.
    Followed(usize, u64),
    /// A voucher has so many tokens left, but should have so many, or at most as many less.
    Balance(usize, u64, u64, u64),
}

/// All violations; none if the run was good.
pub fn check(history: &History, state: &FinalState) -> Vec<Violation> {
    let mut found = Vec::new();
    let log = state.logs.first().map_or(&[][..], Vec::as_slice);
    check_logs(state, &mut found);
    check_receipts(history, log, &mut found);
    check_payment(history, log, &mut found);
    check_checkpoints(history, log, &mut found);
    check_order(history, log, &mut found);
    check_followers(history, log, &mut found);
    check_vouchers(history, state, &mut found);
    found
}

fn check_logs(state: &FinalState, found: &mut Vec<Violation>) {
    for log in &state.logs {
        for (expected, (seq, _)) in (1..).zip(log) {
            if *seq != expected {
                found.push(Violation::NotDense(expected, *seq));
                break;
            }
        }
    }
    for pair in state.logs.windows(2) {
        if let Some(seq) = first_difference(&pair[0], &pair[1]) {
            found.push(Violation::LogsDiffer(seq));
        }
    }
}

fn first_difference(one: &Log, other: &Log) -> Option<u64> {
    let at = one.iter().zip(other).position(|(a, b)| a != b);
    let at = at.or_else(|| (one.len() != other.len()).then(|| one.len().min(other.len())))?;
    Some(at as u64 + 1)
}

fn check_receipts(history: &History, log: &[(u64, MessageId)], found: &mut Vec<Violation>) {
    let at: HashMap<u64, MessageId> = log.iter().copied().collect();
    let mut first: HashMap<Nonce, PostReceipt> = HashMap::new();
    let mut called_new: HashSet<Nonce> = HashSet::new();
    for post in &history.posts {
        let Some(receipt) = post.outcome.receipt() else { continue };
        let before = *first.entry(post.nonce).or_insert(receipt);
        if before != receipt {
            found.push(Violation::ReceiptsDiffer(before, receipt));
        }
        if matches!(post.outcome, PostOutcome::Stored(_)) && !called_new.insert(post.nonce) {
            found.push(Violation::StoredTwice(receipt));
        }
        let named = receipt.message_id == post.message;
        if !named || at.get(&receipt.seq) != Some(&receipt.message_id) {
            found.push(Violation::Lost(receipt));
        }
    }
}

fn check_payment(history: &History, log: &[(u64, MessageId)], found: &mut Vec<Violation>) {
    let sent: HashMap<MessageId, Nonce> =
        history.posts.iter().map(|post| (post.message, post.nonce)).collect();
    let mut paid: HashMap<Nonce, (u64, MessageId)> = HashMap::new();
    let mut seen: HashSet<MessageId> = HashSet::new();
    for (seq, message) in log {
        if !seen.insert(*message) {
            found.push(Violation::Repeated(*seq));
            continue;
        }
        let Some(nonce) = sent.get(message) else {
            found.push(Violation::Unpaid(*seq));
            continue;
        };
        if let Some((before, _)) = paid.insert(*nonce, (*seq, *message)) {
            found.push(Violation::PaidTwice(before, *seq));
        }
    }
    for post in history.posts.iter().filter(|post| post.outcome == PostOutcome::Spent) {
        if paid.get(&post.nonce).is_none_or(|(_, message)| *message == post.message) {
            found.push(Violation::NotSpent(post.message));
        }
    }
}

/// Whoever signed a checkpoint, and whenever: it is of a beginning of the log.
fn check_checkpoints(history: &History, log: &[(u64, MessageId)], found: &mut Vec<Violation>) {
    let mut signed: BTreeMap<u64, Vec<NodeHash>> = BTreeMap::new();
    for post in &history.posts {
        let Some(receipt) = post.outcome.receipt() else { continue };
        match post.proven {
            Some(Some(checkpoint)) => {
                signed.entry(checkpoint.size).or_default().push(checkpoint.root)
            }
            _ => found.push(Violation::Unproven(receipt)),
        }
    }
    let mut tree = Tree::default();
    let mut leaves = log.iter();
    for (size, roots) in signed {
        while tree.size() < size
            && let Some((_, message)) = leaves.next()
        {
            tree.push((*message).into());
        }
        let root = Edge::new(size, &tree).map(|edge| edge.root());
        if tree.size() < size || roots.iter().any(|signed| Some(*signed) != root) {
            found.push(Violation::Forked(size));
        }
    }
}

/// In the log as in time: what was acknowledged stands before what was sent after that.
fn check_order(history: &History, log: &[(u64, MessageId)], found: &mut Vec<Violation>) {
    let mut times: HashMap<MessageId, (Duration, Duration)> = HashMap::new();
    for post in &history.posts {
        let acknowledged = match post.outcome.receipt() {
            Some(_) => post.answered,
            None => Duration::MAX,
        };
        let (sent, answered) = times.entry(post.message).or_insert((post.sent, acknowledged));
        (*sent, *answered) = ((*sent).min(post.sent), (*answered).min(acknowledged));
    }
    // From the end: the earliest acknowledgement of all that stand behind.
    let mut earliest = (Duration::MAX, 0);
    for (seq, message) in log.iter().rev() {
        let Some((sent, acknowledged)) = times.get(message) else { continue };
        if earliest.0 < *sent {
            found.push(Violation::OutOfOrder(earliest.1, *seq));
        }
        earliest = earliest.min((*acknowledged, *seq));
    }
}

fn check_followers(history: &History, log: &[(u64, MessageId)], found: &mut Vec<Violation>) {
    for (follower, saw) in history.followers.iter().enumerate() {
        for (place, seen) in saw.iter().enumerate() {
            if log.get(place) != Some(seen) {
                found.push(Violation::Followed(follower, seen.0));
                break;
            }
        }
    }
}

fn check_vouchers(history: &History, state: &FinalState, found: &mut Vec<Violation>) {
    // By voucher and body: tokens, and whether they were surely charged.
    let mut bodies: BTreeMap<(usize, u64), (u64, Option<bool>)> = BTreeMap::new();
    for issue in &history.issues {
        let body = bodies.entry((issue.voucher, issue.body)).or_insert((issue.tokens, Some(false)));
        match issue.outcome {
            IssueOutcome::Answered => body.1 = Some(true),
            IssueOutcome::Unknown if body.1 == Some(false) => body.1 = None,
            _ => {}
        }
    }
    for (voucher, (granted, left)) in state.vouchers.iter().enumerate() {
        let sum = |charged: Option<bool>| -> u64 {
            let of_voucher = bodies.iter().filter(|((of, _), _)| *of == voucher);
            of_voucher.filter(|(_, body)| body.1 == charged).map(|(_, body)| body.0).sum()
        };
        let (charged, unsure) = (sum(Some(true)), sum(None));
        let most = granted.saturating_sub(charged);
        if !(most.saturating_sub(unsure)..=most).contains(left) || charged > *granted {
            found.push(Violation::Balance(voucher, *left, most, unsure));
        }
    }
}
