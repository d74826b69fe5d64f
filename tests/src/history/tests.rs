//! A good history passes, and one of each kind of bad ones is found.

use std::time::Duration;

use tocyn_protocol::log::checkpoint::Checkpoint;
use tocyn_protocol::log::tree::NodeHash;
use tocyn_protocol::relay::{MessageId, PostReceipt};
use tocyn_protocol::statement::{Commitment, StatementHash};

use super::{FinalState, History, Issue, IssueOutcome, Nonce, Post, PostOutcome, Violation, check};

const KEYS: Commitment = Commitment { serial: 0, hash: StatementHash([7; 32]) };

fn message(n: u8) -> MessageId {
    MessageId::from_bytes([n; 32])
}

fn nonce(n: u8) -> Nonce {
    [n; 32]
}

fn receipt(seq: u64, n: u8) -> PostReceipt {
    PostReceipt { seq, message_id: message(n), received_at: 7 }
}

fn post(token: u8, text: u8, second: u64, outcome: PostOutcome) -> Post {
    // Every log begins with nothing.
    let of_nothing = Checkpoint { size: 0, root: NodeHash::of_empty_tree(), keys: KEYS };
    Post {
        proven: outcome.receipt().map(|_| Some(of_nothing)),
        nonce: nonce(token),
        message: message(text),
        sent: Duration::from_secs(second),
        answered: Duration::from_secs(second) + Duration::from_millis(500),
        outcome,
    }
}

fn issue(body: u64, tokens: u64, outcome: IssueOutcome) -> Issue {
    Issue { voucher: 0, body, tokens, outcome }
}

/// Token 1 pays for message 1 although the first answer is lost; token 2 pays for message 2 and not
/// for 3; token 4 was refused; nobody knows about message 5, which is in the log.
fn good() -> (History, FinalState) {
    let posts = vec![
        post(1, 1, 0, PostOutcome::Unknown),
        post(1, 1, 1, PostOutcome::StoredBefore(receipt(1, 1))),
        post(2, 2, 2, PostOutcome::Stored(receipt(2, 2))),
        post(2, 2, 3, PostOutcome::StoredBefore(receipt(2, 2))),
        post(2, 3, 3, PostOutcome::Spent),
        post(4, 4, 4, PostOutcome::Refused("urn:tocyn:problem:unknown-key".to_owned())),
        post(5, 5, 4, PostOutcome::Unknown),
    ];
    let issues = vec![
        issue(1, 16, IssueOutcome::Unknown),
        issue(1, 16, IssueOutcome::Answered),
        issue(2, 64, IssueOutcome::Answered),
        issue(3, 64, IssueOutcome::Refused("urn:tocyn:problem:voucher-exhausted".to_owned())),
    ];
    let log = vec![(1, message(1)), (2, message(2)), (3, message(5))];
    let followers = vec![log.clone(), log[..1].to_vec()];
    let history = History { posts, issues, followers };
    (history, FinalState { logs: vec![log.clone(), log], vouchers: vec![(100, 20)] })
}

/// What is found when the good history is changed like this.
fn found(change: impl FnOnce(&mut History, &mut FinalState)) -> Vec<Violation> {
    let (mut history, mut state) = good();
    change(&mut history, &mut state);
    check(&history, &state)
}

/// Changes the log everywhere.
fn with_log(log: &[(u64, u8)]) -> impl FnOnce(&mut History, &mut FinalState) {
    let log: Vec<_> = log.iter().map(|(seq, n)| (*seq, message(*n))).collect();
    move |history, state| {
        history.followers = vec![log.clone()];
        state.logs = vec![log.clone(), log];
    }
}

#[test]
fn a_good_history_passes() {
    assert_eq!(found(|_, _| ()), []);
    // Where an answer never came, both are good.
    assert_eq!(found(with_log(&[(1, 1), (2, 2)])), []);
    assert_eq!(
        found(|history, state| {
            history.issues.push(issue(9, 16, IssueOutcome::Unknown));
            state.vouchers = vec![(100, 4)];
        }),
        []
    );
}

#[test]
fn receipts_that_do_not_hold_are_found() {
    let other = PostReceipt { received_at: 8, ..receipt(2, 2) };
    assert_eq!(
        found(|history, _| history.posts[3].outcome = PostOutcome::StoredBefore(other)),
        [Violation::ReceiptsDiffer(receipt(2, 2), other)]
    );
    assert_eq!(
        found(|history, _| history.posts[3].outcome = PostOutcome::Stored(receipt(2, 2))),
        [Violation::StoredTwice(receipt(2, 2))]
    );
    assert_eq!(
        found(with_log(&[(1, 1)])),
        [
            Violation::Lost(receipt(2, 2)),
            Violation::Lost(receipt(2, 2)),
            Violation::NotSpent(message(3))
        ]
    );
    // A receipt for another message than the one that was sent.
    let wrong = found(|history, _| history.posts[2].message = message(9));
    assert!(wrong.contains(&Violation::Lost(receipt(2, 2))), "{wrong:?}");
}

#[test]
fn messages_that_no_token_or_the_same_token_paid_for_are_found() {
    let twice = found(with_log(&[(1, 1), (2, 2), (3, 3)]));
    assert_eq!(twice, [Violation::PaidTwice(2, 3), Violation::NotSpent(message(3))]);
    assert_eq!(found(with_log(&[(1, 1), (2, 2), (3, 8)])), [Violation::Unpaid(3)]);
    assert_eq!(found(with_log(&[(1, 1), (2, 2), (3, 2)])), [Violation::Repeated(3)]);
    assert_eq!(
        found(|history, _| history.posts[6].outcome = PostOutcome::Spent),
        [Violation::NotSpent(message(5))]
    );
}

#[test]
fn logs_with_gaps_forks_and_a_wrong_order_are_found() {
    assert_eq!(found(with_log(&[(1, 1), (2, 2), (4, 5)]))[0], Violation::NotDense(3, 4));
    assert_eq!(found(|_, state| state.logs[1].truncate(2)), [Violation::LogsDiffer(3)]);
    assert_eq!(found(|_, state| state.logs[1][2].1 = message(7)), [Violation::LogsDiffer(3)]);
    // Message 2 was acknowledged at 2.5 s, message 5 sent at 4 s.
    let order = found(|history, state| {
        with_log(&[(1, 1), (2, 5), (3, 2)])(history, state);
        for place in [2, 3] {
            history.posts[place].outcome = PostOutcome::StoredBefore(receipt(3, 2));
        }
    });
    assert_eq!(order, [Violation::OutOfOrder(3, 2)]);
}

#[test]
fn followers_that_missed_something_or_saw_something_else_are_found() {
    assert_eq!(
        found(|history, _| history.followers[0].retain(|(seq, _)| *seq != 2)),
        [Violation::Followed(0, 3)]
    );
    assert_eq!(
        found(|history, _| history.followers[1][0].1 = message(6)),
        [Violation::Followed(1, 1)]
    );
    assert_eq!(
        found(|history, _| history.followers[0].push((4, message(6)))),
        [Violation::Followed(0, 4)]
    );
}

#[test]
fn vouchers_that_were_charged_too_much_or_too_little_are_found() {
    for left in [19, 21] {
        assert_eq!(
            found(|_, state| state.vouchers = vec![(100, left)]),
            [Violation::Balance(0, left, 20, 0)]
        );
    }
    let unsure = found(|history, state| {
        history.issues.push(issue(9, 16, IssueOutcome::Unknown));
        state.vouchers = vec![(100, 3)];
    });
    assert_eq!(unsure, [Violation::Balance(0, 3, 20, 16)]);
    let overspent = found(|_, state| state.vouchers = vec![(50, 0)]);
    assert_eq!(overspent, [Violation::Balance(0, 0, 0, 0)]);
}

#[test]
fn receipts_without_proof_and_checkpoints_of_other_logs_are_found() {
    let two = NodeHash::above(message(1).into(), message(2).into());
    let signed = |size, root| {
        found(|history, _| {
            history.posts[2].proven = Some(Some(Checkpoint { size, root, keys: KEYS }))
        })
    };
    assert_eq!(signed(2, two), []);
    assert_eq!(signed(3, NodeHash::above(two, message(5).into())), []);
    assert_eq!(signed(3, two), [Violation::Forked(3)]);
    assert_eq!(
        signed(2, NodeHash::above(message(2).into(), message(1).into())),
        [Violation::Forked(2)]
    );
    assert_eq!(signed(4, two), [Violation::Forked(4)], "the log never was so long");
    for proven in [None, Some(None)] {
        assert_eq!(
            found(|history, _| history.posts[2].proven = proven),
            [Violation::Unproven(receipt(2, 2))]
        );
    }
}
