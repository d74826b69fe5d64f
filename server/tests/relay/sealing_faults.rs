//! Sealing while the log, the folder or another relay does what it should not: nothing that is the
//! only copy of a message is replaced or deleted, and what is dropped stays dropped.

use std::path::Path;
use std::process::Command;
use std::sync::Arc;
use std::time::Duration;

use tocyn_durable::names::Batch;
use tocyn_relay::bundles::Named;
use tocyn_relay::messages::Messages;
use tocyn_relay::seal::{Step, seal};
use tocyn_relay::store::{FullTile, StoreError};

use crate::fixture::{Fixture, On, drop_old, on_both};
use crate::log::store;
use crate::sealing::{count, faults, folder, nothing, read_all, seal_all, tiles};

on_both! {
    nothing_is_sealed_of_a_log_that_is_no_more,
    a_file_is_replaced_only_if_it_is_not_sealed,
    a_file_that_gets_its_name_after_retention_goes_again,
    files_that_come_back_with_the_database_go_again,
    what_was_dropped_does_not_come_back_out_of_a_large_block,
    readers_that_are_in_the_midst_of_it_miss_nothing,
    a_folder_that_hangs_holds_up_its_readers_only,
}

/// Does something in the database at a step of sealing, once.
fn at_step<'a>(
    f: &'a Fixture,
    step: Step,
    sql: &'static str,
    also: impl Fn() + Sync + 'a,
) -> impl Fn(Step) + Sync + 'a {
    let once = std::sync::Once::new();
    move |done| {
        if done == step {
            once.call_once(|| {
                also();
                std::thread::scope(|scope| {
                    scope.spawn(|| tokio::runtime::Runtime::new().unwrap().block_on(f.sql(sql)));
                });
            });
        }
    }
}

async fn nothing_is_sealed_of_a_log_that_is_no_more(on: On) {
    let f = Fixture::new(on).await;
    store(&f, &f.store, 600).await;
    f.log().await.put_away().await.unwrap();
    let (sealed, fresh) = (tiles(&f.store, 0..2).await, f.second_store().await);
    // A standby that lagged, or a backup, has other messages there by now,
    f.sql("UPDATE tiles SET hashes = (SELECT hashes FROM tiles WHERE tile = 1) WHERE tile = 0")
        .await;
    let refused = fresh.put_sealed(&sealed).await;
    assert!(matches!(refused, Err(StoreError::Tree)), "{refused:?}");
    assert_eq!((count(&f, "bundles").await, count(&f, "blocks").await), (0, 600));
    // or ends in the midst of it.
    f.sql("UPDATE log SET head = 511").await;
    let refused = fresh.put_sealed(&sealed[1..]).await;
    assert!(matches!(refused, Err(StoreError::WentBack)), "{refused:?}");
    assert_eq!((count(&f, "bundles").await, count(&f, "blocks").await), (0, 600));
}

#[tokio::test]
async fn a_relay_that_misses_what_it_has_spent_seals_nothing() {
    let f = Fixture::new(On::Postgres).await;
    store(&f, &f.store, 600).await;
    f.log().await.put_away().await.unwrap();
    let sealed = tiles(&f.store, 0..2).await;
    f.sql("DELETE FROM spent WHERE seq > 550").await;
    let refused = f.store.put_sealed(&sealed).await;
    assert!(matches!(refused, Err(StoreError::WentBack)), "{refused:?}");
    assert_eq!((count(&f, "bundles").await, count(&f, "blocks").await), (0, 600));
}

#[tokio::test]
async fn tiles_of_a_log_that_is_no_more_are_not_put_away() {
    let f = Fixture::new(On::Postgres).await;
    store(&f, &f.store, 600).await;
    let mut leaves = Vec::new();
    f.store.leaves_after(0).await.unwrap().into_iter().for_each(|row| leaves.extend(row.hashes));
    let tile = |level, index, from: usize| {
        let hashes = leaves[from..from + 256].to_vec();
        FullTile { level, index, hashes }
    };
    for lost in [tile(0, 0, 1), tile(0, 1, 0), tile(1, 0, 0)] {
        let refused = f.store.put_tiles(std::slice::from_ref(&lost), 512).await;
        assert!(matches!(refused, Err(StoreError::Tree)), "{lost:?}: {refused:?}");
    }
    assert_eq!(f.numbers("SELECT count(*) FROM tiles").await, [0]);
    f.store.put_tiles(&[tile(0, 0, 0), tile(0, 1, 256)], 512).await.unwrap();
    f.log().await.checkpoint().await.unwrap();
    assert_eq!(f.store.check().await.unwrap(), [""; 0]);
}

async fn a_file_is_replaced_only_if_it_is_not_sealed(on: On) {
    let f = Fixture::new(on).await;
    store(&f, &f.store, 900).await;
    let (messages, log, path) = (f.messages().await, f.log().await, folder(&f).bundle_path(0));
    log.put_away().await.unwrap();
    std::fs::create_dir_all(path.parent().unwrap()).unwrap();
    // Another relay has sealed it, and its file is not what this one is about to write.
    let (taken, write) = ("INSERT INTO bundles (bundle, received_at) VALUES (0, 1)", || {
        std::fs::write(&path, "sealed").unwrap();
    });
    let refused = seal(&messages, &at_step(&f, Step::Synced, taken, write)).await.unwrap_err();
    let reason = refused.reason().unwrap();
    assert!(reason.contains("entries/000") && reason.contains("db check"), "{refused}: {reason}");
    assert_eq!(std::fs::read(&path).unwrap(), b"sealed");
    // It was not sealed at all.
    f.sql("DELETE FROM bundles").await;
    assert_eq!(seal(&messages, &nothing).await.unwrap(), 3);
    assert_eq!(faults(&f).await, [""; 0]);
    // By itself.
    let (folder, bytes) = (folder(&f), std::fs::read(&path).unwrap());
    let mut names = Batch::default();
    let same = folder.name(&mut names, folder.write_new(&bytes).unwrap(), 0).unwrap();
    assert!(matches!(same, Named::Done));
    let other = folder.name(&mut names, folder.write_new(b"other").unwrap(), 0).unwrap();
    assert!(matches!(other, Named::Taken(_)));
    drop(other);
    assert!(std::fs::read(&path).unwrap() == bytes);
    let mut left: Vec<_> =
        std::fs::read_dir(f.folder()).unwrap().map(|file| file.unwrap().file_name()).collect();
    left.sort();
    assert_eq!(left, ["key", "tile"]);
}

async fn a_file_that_gets_its_name_after_retention_goes_again(on: On) {
    let f = Fixture::new(on).await;
    store(&f, &f.store, 900).await;
    let messages = f.messages().await;
    f.log().await.put_away().await.unwrap();
    let trim = "DELETE FROM blocks WHERE first_seq < 401";
    let at = at_step(&f, Step::NamesSynced, trim, || ());
    assert_eq!(seal(&messages, &at).await.unwrap(), 0);
    let there = [0, 1, 2].map(|bundle| folder(&f).bundle_path(bundle).exists());
    assert_eq!(there, [false, false, true], "the third one has its messages");
    assert_eq!(seal(&messages, &nothing).await.unwrap(), 1);
    assert_eq!((f.range().await, faults(&f).await), ((401, 900), vec![]));
}

async fn files_that_come_back_with_the_database_go_again(on: On) {
    let f = Fixture::new(on).await;
    store(&f, &f.store, 1100).await;
    let messages = f.messages().await;
    assert_eq!(seal_all(&f, &messages).await, 4);
    let (first, path) = (folder(&f).bundle_path(0), folder(&f).bundle_path(3));
    drop_old(&messages, 700, 0).await.unwrap();
    f.sql("INSERT INTO bundles (bundle, received_at) VALUES (0, 1), (1, 1)").await;
    assert!(!messages.remove_one_dropped(&mut Batch::default()).await.unwrap());
    std::fs::copy(&path, &first).unwrap();
    drop_old(&messages, 257, 0).await.unwrap();
    assert!(!first.exists() && path.exists());
}

async fn what_was_dropped_does_not_come_back_out_of_a_large_block(on: On) {
    let f = Fixture::new(on).await;
    store(&f, &f.store, 100).await;
    let large: Vec<_> =
        f.tokens(0, 1000).iter().map(|token| f.pay(token, 0, "many at once")).collect();
    f.spend(&large, 1).await;
    let messages = f.messages().await;
    assert_eq!(seal_all(&f, &messages).await, 4);
    assert_eq!(count(&f, "blocks").await, 1000, "it reaches over the border");
    assert_eq!(drop_old(&messages, 600, 0).await.unwrap(), 512);
    assert_eq!(f.range().await, (513, 1100));
    assert_eq!(drop_old(&messages, 1030, 0).await.unwrap(), 512);
    let empty = |f: Fixture| async move {
        assert_eq!((count(&f, "blocks").await, f.range().await), (1000, (1025, 1100)));
        assert_eq!(f.store.sealed().await.unwrap(), 4..4);
        assert_eq!(f.store.put_sealed(&tiles(&f.store, 1..3).await).await.unwrap(), 0);
        let again = f.messages().await;
        assert_eq!(seal_all(&f, &again).await, 0);
        assert!([0, 1, 2, 3].iter().all(|bundle| !folder(&f).bundle_path(*bundle).exists()));
        assert_eq!(read_all(&again, 1024, 999).await.len(), 76 * 72);
        f
    };
    let f = empty(f).await;
    store(&f, &f.store, 300).await;
    assert_eq!(seal_all(&f, &messages).await, 1);
    assert_eq!((f.range().await, faults(&f).await), ((1025, 1400), vec![]));
}

/// Whether these are the messages after `after`, as [`store`] numbers them in rounds of 300.
fn is_right(bytes: &[u8], after: u64) -> bool {
    (after..).zip(bytes.chunks_exact(72)).all(|(index, frame)| {
        let mut cell = format!("message {}", index % 300).into_bytes();
        cell.resize(64, 0);
        frame[..8] == (index + 1).to_be_bytes() && frame[8..] == cell
    })
}

/// Reads all there is up to the message 3000, again and again; gives how often it was overtaken.
async fn read_on(messages: Arc<Messages>, behind: u64) -> usize {
    let (mut after, mut overtaken) = (0, 0);
    while after < 3000 {
        // In pages of all sizes.
        match messages.read_after(after, 1 + after % 700).await {
            Ok(None) => tokio::time::sleep(Duration::from_millis(1)).await,
            Ok(Some(page)) => {
                assert_eq!(page.last, after + page.messages);
                assert!(is_right(&page.bytes, after), "after {after}");
                // Some of it once more, which may be gone by now.
                let back = if after % 3 == 0 { behind } else { 0 };
                after = page.last.saturating_sub(back.min(page.messages - 1));
            }
            Err(StoreError::Overtaken) => {
                overtaken += 1;
                let oldest = messages.store().range().await.unwrap().oldest;
                assert!(oldest > after + 1);
                after = oldest - 1;
            }
            Err(error) => panic!("after {after}: {error} {:?}", error.reason()),
        }
    }
    overtaken
}

/// Readers, retention and posts go on while bundles are sealed.
async fn readers_that_are_in_the_midst_of_it_miss_nothing(on: On) {
    let f = Fixture::new(on).await;
    let messages = Arc::new(f.messages().await);
    let log = f.log().await;
    let reading = [0, 50].map(|behind| tokio::spawn(read_on(messages.clone(), behind)));
    let late = Arc::new(f.messages().await);
    let mut dropped = 0;
    for round in 1..=10u64 {
        store(&f, &f.store, 300).await;
        log.put_away().await.unwrap();
        let keep_from = (round * 300).saturating_sub(600);
        let (sealed, gone) = tokio::join!(seal(&messages, &nothing), drop_old(&late, keep_from, 0));
        sealed.unwrap();
        dropped += gone.unwrap();
    }
    let slow = tokio::spawn(read_on(late.clone(), 0));
    for reader in reading {
        reader.await.unwrap();
    }
    assert!(slow.await.unwrap() > 0, "it begins with what is gone");
    seal(&messages, &nothing).await.unwrap();
    let (oldest, head) = f.range().await;
    assert!(dropped > 1500 && oldest == dropped + 1 && head == 3000, "{dropped} {oldest}");
    let there = (0..12).filter(|bundle| folder(&f).bundle_path(*bundle).exists());
    let sealed = f.store.sealed().await.unwrap();
    assert!(there.eq(sealed.clone()), "{sealed:?}");
    assert_eq!(faults(&f).await, [""; 0]);
}

/// More readers than there are threads that wait for disks.
async fn a_folder_that_hangs_holds_up_its_readers_only(on: On) {
    let f = Fixture::new(on).await;
    store(&f, &f.store, 600).await;
    let messages = Arc::new(f.messages().await);
    assert_eq!(seal_all(&f, &messages).await, 2);
    let path = folder(&f).bundle_path(1);
    std::fs::remove_file(&path).unwrap();
    hang(&path);
    let readers: Vec<_> = (0..600)
        .map(|_| {
            let messages = messages.clone();
            tokio::spawn(async move { messages.read_after(300, 9).await.map(drop) })
        })
        .collect();
    let working = tokio::time::sleep(Duration::from_millis(300));
    working.await;
    let free = tokio::task::spawn_blocking(|| ());
    let free = tokio::time::timeout(Duration::from_secs(5), free).await;
    // Opened for both it waits for nobody, and ends the waiting of those who read.
    let _ends = std::fs::File::options().read(true).write(true).open(&path).unwrap();
    for reader in readers {
        let read = reader.await.unwrap();
        assert!(matches!(read, Err(StoreError::Folder(_))), "{read:?}");
    }
    free.expect("there are threads left").unwrap();
}

/// Makes a file that waits for ever when it is opened to be read.
fn hang(path: &Path) {
    assert!(Command::new("mkfifo").arg(path).status().unwrap().success());
}
