//! The tree over the messages: it is the same for every relay, and stays what it was.

use tocyn_protocol::log::checkpoint::Checkpoint;
use tocyn_protocol::log::note::LogKey;
use tocyn_protocol::log::tile::Tile;
use tocyn_protocol::log::tree::{Edge, Tree};
use tocyn_protocol::relay::{MessageId, PostReceipt};
use tocyn_relay::log::Log;
use tocyn_relay::store::{SpendOutcome, Store, StoreError};

use crate::fixture::{Fixture, On, on_both};

on_both! {
    receipts_are_proven_across_restarts_and_deletions,
    a_log_from_before_there_was_a_tree_is_given_one,
    a_message_that_was_changed_is_named,
    a_log_is_signed_with_one_key,
}

/// Stores so many messages, in commits of at most 100; gives their receipts.
pub(crate) async fn store(f: &Fixture, store: &Store, count: usize) -> Vec<PostReceipt> {
    let mut receipts = Vec::new();
    for tokens in f.tokens(0, count).chunks(100) {
        let at = receipts.len();
        let batch: Vec<_> = tokens
            .iter()
            .enumerate()
            .map(|(n, token)| f.pay(token, 0, &format!("message {}", at + n)))
            .collect();
        let outcomes = store.spend_and_append(&batch, 1).await.unwrap();
        receipts.extend(outcomes.into_iter().map(|outcome| match outcome {
            SpendOutcome::Stored(receipt) => receipt,
            other => panic!("{other:?}"),
        }));
    }
    receipts
}

/// Every message is proven in the same tree, which is that of these messages.
pub(crate) async fn check(log: &Log, receipts: &[PostReceipt]) {
    let mut tree = Tree::default();
    receipts.iter().for_each(|receipt| tree.push(receipt.message_id.into()));
    let root = Edge::new(tree.size(), &tree).unwrap().root();
    log.checkpoint().await.unwrap();
    let keys = log.statements().named_at(tree.size());
    for receipt in receipts {
        let proven = log.prove(*receipt).await.unwrap();
        let checkpoint = proven.verify(log.verifier()).unwrap();
        assert_eq!(
            checkpoint,
            Checkpoint { size: tree.size(), root, keys },
            "message {}",
            receipt.seq
        );
    }
    let note = log.checkpoint().await.unwrap();
    let checkpoint = Checkpoint::open(&note, log.verifier()).unwrap();
    assert_eq!(checkpoint, Checkpoint { size: tree.size(), root, keys });
}

async fn receipts_are_proven_across_restarts_and_deletions(on: On) {
    let mut f = Fixture::new(on).await;
    let mut log = f.log().await;
    let mut receipts = Vec::new();
    for count in [1, 254, 1, 1, 300, 500] {
        let new = store(&f, &f.store, count).await;
        for (receipt, proven) in new.iter().zip(log.prove_new(&new).await.unwrap()) {
            assert_eq!(proven.receipt, *receipt);
            proven.verify(log.verifier()).unwrap();
        }
        receipts.extend(new);
        check(&log, &receipts).await;
        log.put_away().await.unwrap();
        check(&log, &receipts).await;
        f.reopen().await;
        log = f.log().await;
        check(&log, &receipts).await;
    }
    assert_eq!(f.numbers("SELECT count(*) FROM tiles").await, [1057 / 256]);
    assert!(f.store.check().await.unwrap().is_empty());
    assert!(f.store.trim(1000, 0).await.unwrap() > 800);
    check(&f.log().await, &receipts).await;
    let tile = |path: &str| path.parse::<Tile>().unwrap();
    let log = f.log().await;
    assert_eq!(log.tile(tile("tile/0/000")).await.unwrap().unwrap().len(), 256 * 32);
    let messages = f.messages().await;
    let gone = messages.has_entries(tile("tile/entries/000")).await;
    assert!(matches!(gone, Err(StoreError::Overtaken)));
    assert!(!messages.has_entries(tile("tile/entries/004")).await.unwrap());
    let last = tile("tile/entries/004.p/33");
    assert!(messages.has_entries(last).await.unwrap());
    let (last, seq) = messages.entries(last, 1024, 256).await.unwrap().unwrap();
    assert_eq!((last.len(), seq), (33 * 66, 1057));
    let id = MessageId::of(&last[last.len() - 64..]);
    assert_eq!(id, receipts.last().unwrap().message_id);
}

async fn a_message_that_was_changed_is_named(on: On) {
    let f = Fixture::new(on).await;
    let log = f.log().await;
    log.prove_new(&store(&f, &f.store, 300).await).await.unwrap();
    for put_away in [false, true] {
        if put_away {
            log.put_away().await.unwrap();
        }
        assert!(f.store.check().await.unwrap().is_empty());
    }
    f.sql(match on {
        // The last byte of message 100: its block is that of the first commit.
        On::Sqlite => "UPDATE blocks SET frames = CAST(substr(frames, 1, length(frames) - 1) || x'ff' AS BLOB) WHERE first_seq = 1",
        On::Postgres => "UPDATE blocks SET cells = set_byte(cells, length(cells) - 1, 255) WHERE first_seq = 1",
    })
    .await;
    let found = f.second_store().await.check().await.unwrap();
    assert_eq!(found, ["a message is not the one in the tree: first at sequence 100"]);
}

async fn a_log_from_before_there_was_a_tree_is_given_one(on: On) {
    let f = Fixture::new(on).await;
    let receipts = store(&f, &f.store, 700).await;
    f.sql("DELETE FROM leaves").await;
    check(&f.log().await, &receipts).await;
    check(&f.log().await, &receipts).await;
    let f = Fixture::new(on).await;
    store(&f, &f.store, 300).await;
    f.sql("DELETE FROM leaves").await;
    f.store.trim(200, 0).await.unwrap();
    let refused = f.log_of(&f.store).await.err().unwrap().to_string();
    assert!(refused.contains("begin a new database"), "{refused}");
}

async fn a_log_is_signed_with_one_key(on: On) {
    let mut f = Fixture::new(on).await;
    f.log().await;
    let rng = &mut rand_core::UnwrapErr(getrandom::SysRng);
    f.log_key = LogKey::generate("relay", rng).to_secret_text().to_string();
    let refused = Store::open(&f.database, &f.pairing, &f.key(), f.cell_bytes).await.err().unwrap();
    assert!(refused.to_string().contains("log.key"), "{refused}");
}

#[tokio::test]
async fn several_relays_sign_one_tree() {
    let f = Fixture::new(On::Postgres).await;
    let other = f.second_store().await;
    let logs = [f.log().await, f.log_of(&other).await.unwrap()];
    let mut receipts = Vec::new();
    for (turn, count) in [3, 250, 10, 700, 1, 300].into_iter().enumerate() {
        let (here, there) = (turn % 2, 1 - turn % 2);
        let new = store(&f, [&f.store, &other][here], count).await;
        let proven = logs[here].prove_new(&new).await.unwrap();
        assert_eq!(proven.len(), count);
        receipts.extend(new);
        if turn % 3 == 2 {
            // The other one lags, and finds in tiles what was in leaves before.
            logs[here].put_away().await.unwrap();
        }
        if turn > 3 {
            check(&logs[there], &receipts).await;
        }
    }
    for log in &logs {
        log.put_away().await.unwrap();
        check(log, &receipts).await;
    }
    assert_eq!(f.numbers("SELECT count(*) FROM tiles").await, [1264 / 256]);
}

#[tokio::test]
async fn a_relay_whose_log_is_no_more_signs_nothing_and_puts_nothing_away() {
    let f = Fixture::new(On::Postgres).await;
    let other = f.second_store().await;
    let (log, other_log) = (f.log().await, f.log_of(&other).await.unwrap());
    log.prove_new(&store(&f, &f.store, 300).await).await.unwrap();
    other_log.checkpoint().await.unwrap();
    // As after a standby that lagged; then the log grows past its old end.
    f.sql(
        "DELETE FROM leaves WHERE first_seq > 200; DELETE FROM blocks WHERE first_seq > 200;
           DELETE FROM spent WHERE seq > 200; UPDATE log SET head = 200",
    )
    .await;
    let fresh = f.second_store().await;
    let receipts = store(&f, &fresh, 200).await;
    for refused in [
        other_log.put_away().await,
        other_log.checkpoint().await.map(drop),
        other_log.prove(receipts[150]).await.map(drop),
        other_log.prove_new(&receipts[150..]).await.map(drop),
        log.put_away().await,
        log.checkpoint().await.map(drop),
    ] {
        assert!(matches!(refused, Err(StoreError::WentBack | StoreError::Tree)), "{refused:?}");
    }
    assert_eq!(f.numbers("SELECT count(*) FROM tiles").await, [0]);
}
