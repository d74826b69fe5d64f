//! The contract of the store: what a token pays for, once.

use bytes::Bytes;
use getrandom::SysRng;
use rand_core::UnwrapErr;
use tocyn_protocol::issuance::{AmortizedBatchTokenRequest, Issuer};
use tocyn_protocol::pairing::Pairing;
use tocyn_protocol::redemption::{Authorization, Redeemed, Redeemer};
use tocyn_protocol::relay::MessageId;
use tocyn_protocol::token::Token;
use tocyn_relay::store::{LogRange, Message, SpendOutcome, Store};

const CELL_BYTES: usize = 64;

struct Fixture {
    dir: tempfile::TempDir,
    pairing: Pairing,
    store: Store,
}

fn pairing() -> Pairing {
    Pairing::generate("issuer", "relay", 0, 100, &mut UnwrapErr(SysRng)).unwrap()
}

impl Fixture {
    async fn new() -> Self {
        let (dir, pairing) = (tempfile::tempdir().unwrap(), pairing());
        let store =
            Store::open(&dir.path().join("relay.sqlite"), &pairing, CELL_BYTES).await.unwrap();
        Self { dir, pairing, store }
    }

    async fn reopen(&mut self) {
        self.store.close().await;
        let path = self.dir.path().join("relay.sqlite");
        self.store = Store::open(&path, &self.pairing, CELL_BYTES).await.unwrap();
    }

    fn token(&self, epoch: u64) -> Token {
        let rng = &mut UnwrapErr(SysRng);
        let key = self.pairing.key_pair(epoch);
        let (request, pending) =
            AmortizedBatchTokenRequest::new(key.public(), &self.pairing.challenge(), 1, rng)
                .unwrap();
        pending.finalize(&Issuer::new(key).evaluate_batch(&request, rng)).unwrap().remove(0)
    }

    fn pay(&self, token: &Token, epoch: u64, text: &str) -> (Redeemed, Message) {
        let message = message(text);
        let redeemed = Redeemer::new(&self.pairing, &[epoch])
            .redeem(&Authorization::Bearer(token.clone()), &message.id())
            .unwrap();
        (redeemed, message)
    }

    async fn spend(&self, batch: &[(Redeemed, Message)], now: u64) -> Vec<SpendOutcome> {
        self.store.spend_and_append(batch, now).await.unwrap()
    }

    async fn range(&self) -> (u64, u64) {
        let LogRange { oldest, head } = self.store.range().await.unwrap();
        (oldest, head)
    }
}

fn message(text: &str) -> Message {
    let mut cell = text.as_bytes().to_vec();
    cell.resize(CELL_BYTES, 0);
    Message::new(Bytes::from(cell))
}

fn seq(outcome: &SpendOutcome) -> Option<u64> {
    outcome.stored_seq()
}

#[tokio::test]
async fn a_token_pays_once_within_a_batch_and_across_batches() {
    let mut f = Fixture::new().await;
    let (a, b) = (f.token(0), f.token(0));
    let batch =
        [f.pay(&a, 0, "one"), f.pay(&a, 0, "one"), f.pay(&a, 0, "two"), f.pay(&b, 0, "one")];
    let done = f.spend(&batch, 7).await;
    let SpendOutcome::Stored(first) = done[0] else { panic!("{done:?}") };
    assert_eq!((first.seq, first.received_at, first.message_id), (1, 7, message("one").id()));
    assert_eq!(done[1], SpendOutcome::StoredBefore(first));
    assert_eq!(done[2], SpendOutcome::SpentOnAnother);
    assert_eq!(seq(&done[3]), Some(2), "the same text paid for twice is two messages");
    f.reopen().await;
    let again = f.spend(&batch[..1], 99).await;
    assert_eq!(again, [SpendOutcome::StoredBefore(first)]);
    assert_eq!(f.range().await, (1, 2));
}

#[tokio::test]
async fn large_batches_mix_new_posts_repeats_and_epochs() {
    let f = Fixture::new().await;
    let posts: Vec<_> = (0..150)
        .map(|n| {
            let epoch = n % 2;
            f.pay(&f.token(epoch), epoch, &format!("message {n}"))
        })
        .collect();
    let first = f.spend(&posts[..100], 1).await;
    assert_eq!(first.iter().map(seq).collect::<Vec<_>>(), (1..=100).map(Some).collect::<Vec<_>>());
    let second = f.spend(&posts[50..], 2).await;
    let before: Vec<_> = first[50..].iter().map(seq).collect();
    for (outcome, seq) in second[..50].iter().zip(before) {
        let SpendOutcome::StoredBefore(receipt) = outcome else { panic!("{outcome:?}") };
        assert_eq!((Some(receipt.seq), receipt.received_at), (seq, 1));
    }
    let fresh: Vec<_> = second[50..].iter().map(seq).collect();
    assert_eq!(fresh, (101..=150).map(Some).collect::<Vec<_>>());
    let page = f.store.read_after(0, 1000).await.unwrap().unwrap();
    assert_eq!((page.messages, page.last), (150, 150));
    for (i, (_, message)) in posts.iter().enumerate() {
        let frame = &page.bytes[i * (8 + CELL_BYTES)..][..8 + CELL_BYTES];
        assert_eq!(MessageId::of(&frame[8..]), message.id(), "message {i} is in its place");
    }
}

#[tokio::test]
async fn a_batch_over_three_epochs_closes_the_one_that_makes_room() {
    let f = Fixture::new().await;
    let old = f.pay(&f.token(0), 0, "old");
    assert_eq!(seq(&f.spend(std::slice::from_ref(&old), 1).await[0]), Some(1));
    // Epoch 3 takes the table of epoch 0, whatever the order within the batch.
    let batch = [old, f.pay(&f.token(3), 3, "new"), f.pay(&f.token(2), 2, "between")];
    let done = f.spend(&batch, 2).await;
    assert_eq!(done[0], SpendOutcome::EpochClosed);
    assert_eq!((seq(&done[1]), seq(&done[2])), (Some(2), Some(3)));
}

#[tokio::test]
async fn an_epoch_is_dropped_whole_and_stays_closed() {
    let f = Fixture::new().await;
    let old = f.token(0);
    let paid = [f.pay(&old, 0, "old")];
    f.spend(&paid, 1).await;
    // Epoch 3 takes the table that epoch 0 had.
    assert_eq!(seq(&f.spend(&[f.pay(&f.token(3), 3, "new")], 2).await[0]), Some(2));
    assert_eq!(f.spend(&paid, 3).await, [SpendOutcome::EpochClosed]);
    // Even if the clock goes back: what was forgotten cannot be told from what was not spent.
    assert_eq!(f.store.close_epochs_below(4).await.unwrap(), [3]);
    assert_eq!(f.spend(&paid, 3).await, [SpendOutcome::EpochClosed]);
    let late = [f.pay(&f.token(2), 2, "late")];
    assert_eq!(f.spend(&late, 3).await, [SpendOutcome::EpochClosed]);
    assert_eq!(seq(&f.spend(&[f.pay(&f.token(4), 4, "go on")], 4).await[0]), Some(3));
}

#[tokio::test]
async fn a_new_pairing_starts_with_an_empty_spent_set_and_keeps_the_messages() {
    let mut f = Fixture::new().await;
    let token = f.token(5);
    f.spend(&[f.pay(&token, 5, "before")], 1).await;
    f.pairing = pairing();
    f.reopen().await;
    assert_eq!(seq(&f.spend(&[f.pay(&f.token(0), 0, "after")], 2).await[0]), Some(2));
    assert_eq!(f.range().await, (1, 2));
}

#[tokio::test]
async fn sequences_go_on_after_everything_was_deleted() {
    let mut f = Fixture::new().await;
    for i in 0..5 {
        f.spend(&[f.pay(&f.token(0), 0, &i.to_string())], i).await;
    }
    assert_eq!(f.store.trim(0, 0).await.unwrap(), 0);
    assert_eq!(f.store.trim(3, 0).await.unwrap(), 2);
    assert_eq!(f.range().await, (3, 5));
    assert_eq!(f.store.trim(0, 3).await.unwrap(), 1);
    assert_eq!(f.range().await, (4, 5));
    assert_eq!(f.store.trim(0, 100).await.unwrap(), 2);
    assert_eq!(f.range().await, (6, 5));
    f.reopen().await;
    assert_eq!(seq(&f.spend(&[f.pay(&f.token(0), 0, "next")], 9).await[0]), Some(6));
    assert_eq!(f.range().await, (6, 6));
}

#[tokio::test]
async fn pages_are_dense_and_bounded() {
    let f = Fixture::new().await;
    let batch: Vec<_> = (0..10).map(|i| f.pay(&f.token(0), 0, &i.to_string())).collect();
    f.spend(&batch, 1).await;
    let page = f.store.read_after(3, 4).await.unwrap().unwrap();
    assert_eq!((page.messages, page.last), (4, 7));
    assert_eq!(page.bytes.len(), 4 * (8 + CELL_BYTES));
    assert_eq!(page.bytes[..8], 4u64.to_be_bytes());
    assert!(f.store.read_after(10, 4).await.unwrap().is_none());
    assert!(f.store.read_after(u64::MAX, 4).await.unwrap().is_none());
}

#[tokio::test]
async fn another_cell_size_is_refused() {
    let f = Fixture::new().await;
    f.store.close().await;
    let path = f.dir.path().join("relay.sqlite");
    let error = Store::open(&path, &f.pairing, 128).await.err().unwrap().to_string();
    assert!(error.contains("64 bytes") && error.contains("128"), "{error}");
}

#[tokio::test]
async fn a_damaged_file_is_named() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("relay.sqlite");
    std::fs::write(&path, vec![0x55; 8192]).unwrap();
    let error = Store::open(&path, &pairing(), CELL_BYTES).await.err().unwrap().to_string();
    assert!(error.contains("relay.sqlite") && error.contains("restore"), "{error}");
}
