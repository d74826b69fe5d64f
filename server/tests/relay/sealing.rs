//! Full bundles leave the database for files: readers see no difference, and nothing is lost.

use std::ops::Range;
use std::path::Path;
use std::sync::Mutex;

use tocyn_protocol::log::note::LogKey;
use tocyn_protocol::log::tile::{Tile, decode_entries};
use tocyn_relay::bundles::{self, Folder};
use tocyn_relay::messages::Messages;
use tocyn_relay::seal::{Step, seal};
use tocyn_relay::store::{FullTile, Store, StoreError};

use crate::fixture::{Fixture, On, drop_old, on_both};
use crate::log::{check as check_proofs, store};

on_both! {
    readers_see_no_difference,
    bundles_are_the_same_from_the_database_and_from_files,
    old_bundles_go_whole_by_size,
    old_bundles_go_whole_by_age,
    a_log_that_begins_in_a_bundle_is_sealed_from_the_next_one_on,
    a_large_old_log_is_sealed_in_short_transactions,
    a_missing_or_cut_file_is_refused_and_an_altered_one_is_found,
    a_folder_is_of_one_log,
    what_is_not_in_the_tree_is_not_sealed,
    the_database_is_backed_up_before_the_folder,
}

pub(crate) fn nothing(_: Step) {}

/// Seals all that is full.
pub(crate) async fn seal_all(f: &Fixture, messages: &Messages) -> u64 {
    f.log().await.put_away().await.unwrap();
    seal(messages, &nothing).await.unwrap()
}

pub(crate) fn folder(f: &Fixture) -> Folder {
    Folder::new(f.folder(), f.cell_bytes)
}

/// What is wrong with tables and files.
pub(crate) async fn faults(f: &Fixture) -> Vec<String> {
    let store = f.second_store().await;
    let mut faults = store.check().await.unwrap();
    faults.extend(bundles::check(&store, Some(&folder(f))).await.unwrap());
    faults
}

/// The tiles of some bundles, as the database has them.
pub(crate) async fn tiles(store: &Store, bundles: Range<u64>) -> Vec<FullTile> {
    let mut tiles = Vec::new();
    for index in bundles {
        let hashes = store.tile(0, index).await.unwrap().unwrap();
        tiles.push(FullTile { level: 0, index, hashes });
    }
    tiles
}

/// Everything after a message, read in pieces of at most `limit`.
pub(crate) async fn read_all(messages: &Messages, mut after: u64, limit: u64) -> Vec<u8> {
    let mut read = Vec::new();
    while let Some(page) = messages.read_after(after, limit).await.unwrap() {
        assert_eq!(page.last, after + page.messages);
        assert!(page.messages <= limit);
        after = page.last;
        read.extend_from_slice(&page.bytes);
    }
    read
}

/// All of a bundle, or of a part of it.
async fn bundle(messages: &Messages, path: &str) -> Result<Vec<u8>, StoreError> {
    let tile: Tile = path.parse().unwrap();
    assert!(messages.has_entries(tile).await?, "{path}");
    let (mut after, mut bytes) = (tile.start(), Vec::new());
    while let Some((more, last)) = messages.entries(tile, after, 100).await? {
        after = last;
        bytes.extend_from_slice(&more);
    }
    assert_eq!(bytes.len(), messages.file_bytes(tile));
    Ok(bytes)
}

pub(crate) async fn count(f: &Fixture, table: &'static str) -> i64 {
    let query = match table {
        "blocks" => "SELECT coalesce(sum(messages), 0) FROM blocks",
        _ => "SELECT count(*) FROM bundles",
    };
    f.numbers(query).await[0]
}

async fn readers_see_no_difference(on: On) {
    // Pages of one bundle, and of several.
    for cell_bytes in [64, 3000] {
        let f = Fixture::with_cells_of(on, cell_bytes).await;
        store(&f, &f.store, 700).await;
        let (before, stale) = (f.messages().await, f.messages().await);
        let expected = read_all(&before, 0, u64::MAX).await;
        let frame = 8 + cell_bytes;
        assert_eq!(expected.len(), 700 * frame);
        assert_eq!(seal_all(&f, &before).await, 2);
        assert_eq!((count(&f, "bundles").await, count(&f, "blocks").await), (2, 200));
        assert_eq!(f.range().await, (1, 700));
        let fresh = f.second_store().await;
        let fresh = f.messages_in(&fresh, Some(&f.folder())).await.unwrap();
        for messages in [&before, &fresh, &stale] {
            assert_eq!(read_all(messages, 0, u64::MAX).await, expected);
            for after in [0, 1, 100, 254, 255, 256, 257, 499, 510, 511, 512, 513, 600, 699, 700] {
                for limit in [1, 2, 255, 256, 257, 1000] {
                    let read = read_all(messages, after, limit).await;
                    assert!(read == expected[after as usize * frame..], "{after} {limit}");
                }
            }
            assert!(messages.read_after(u64::MAX, 5).await.unwrap().is_none());
            assert!(messages.read_after(3, 0).await.unwrap().is_none());
        }
        store(&f, &f.store, 400).await;
        assert_eq!(seal_all(&f, &before).await, 2);
        assert_eq!(read_all(&stale, 0, u64::MAX).await.len(), 1100 * frame);
        assert_eq!(faults(&f).await, [""; 0]);
    }
}

async fn bundles_are_the_same_from_the_database_and_from_files(on: On) {
    let f = Fixture::with_cells_of(on, 2000).await;
    store(&f, &f.store, 600).await;
    let messages = f.messages().await;
    let paths = ["tile/entries/000", "tile/entries/001", "tile/entries/002.p/88"];
    let parts = ["tile/entries/000.p/1", "tile/entries/001.p/255", "tile/entries/002.p/7"];
    let mut before = Vec::new();
    for path in paths.iter().chain(&parts) {
        before.push(bundle(&messages, path).await.unwrap());
    }
    assert_eq!(seal_all(&f, &messages).await, 2);
    for (path, bytes) in paths.iter().chain(&parts).zip(&before) {
        assert!(bundle(&messages, path).await.unwrap() == *bytes, "{path}");
    }
    for (path, bytes) in paths[..2].iter().zip(&before) {
        assert!(std::fs::read(f.folder().join(path)).unwrap() == *bytes, "{path}");
    }
    assert!(!f.folder().join("tile/entries/002").exists());
    let cells = decode_entries(&before[1]).unwrap();
    let page = messages.read_after(256, 1).await.unwrap().unwrap();
    assert_eq!(page.bytes[8..], *cells[0]);
}

async fn old_bundles_go_whole_by_size(on: On) {
    let f = Fixture::new(on).await;
    let receipts = store(&f, &f.store, 1100).await;
    let messages = f.messages().await;
    assert_eq!(seal_all(&f, &messages).await, 4);
    for (keep_from, dropped, oldest) in
        [(0, 0, 1), (256, 0, 1), (257, 256, 257), (700, 256, 513), (700, 0, 513), (1024, 256, 769)]
    {
        let gone = drop_old(&messages, keep_from, 0).await.unwrap();
        assert_eq!((gone, f.range().await), (dropped, (oldest, 1100)), "from {keep_from}");
        let first = (oldest - 1) / 256;
        for n in 0..4 {
            assert_eq!(folder(&f).bundle_path(n).exists(), n >= first, "bundle {n}");
        }
        // The first store may have a block in memory that reaches into what is kept.
        let fresh = f.second_store().await;
        let fresh = f.messages_in(&fresh, Some(&f.folder())).await.unwrap();
        for after in 0..oldest - 1 {
            let gone = fresh.read_after(after, 9).await;
            assert!(matches!(gone, Err(StoreError::Overtaken)), "after {after}");
        }
        assert_eq!(read_all(&messages, oldest - 1, 999).await.len() as u64, (1101 - oldest) * 72);
    }
    let gone = bundle(&messages, "tile/entries/002").await;
    assert!(matches!(gone, Err(StoreError::Overtaken)));
    bundle(&messages, "tile/entries/003").await.unwrap();
    // A block that reaches from the last bundle into the rest stays for what is in the rest.
    assert_eq!(drop_old(&messages, 1100, 0).await.unwrap(), 256);
    assert_eq!((f.range().await, count(&f, "bundles").await), ((1025, 1100), 0));
    assert_eq!(count(&f, "blocks").await, 100);
    assert_eq!(read_all(&messages, 1024, 999).await.len(), 76 * 72);
    assert!(std::fs::read_dir(f.folder().join("tile/entries")).unwrap().next().is_none());
    assert_eq!(faults(&f).await, [""; 0]);
    // Proofs of messages that are gone can still be made.
    let log = f.log().await;
    check_proofs(&log, &receipts).await;
    assert_eq!(log.tile("tile/0/000".parse().unwrap()).await.unwrap().unwrap().len(), 8192);
    // And the log goes on.
    store(&f, &f.store, 300).await;
    assert_eq!(seal_all(&f, &messages).await, 1, "the fourth bundle is not whole any more");
    assert!(folder(&f).bundle_path(4).exists());
    assert_eq!(read_all(&messages, 1024, 999).await.len(), 376 * 72);
    assert_eq!(faults(&f).await, [""; 0]);
    assert_eq!(drop_old(&messages, u64::MAX, 0).await.unwrap(), 376);
    assert_eq!(f.range().await, (1401, 1400));
    assert!(messages.read_after(1400, 9).await.unwrap().is_none());
    assert!(matches!(messages.read_after(1399, 9).await, Err(StoreError::Overtaken)));
    f.messages().await;
}

async fn old_bundles_go_whole_by_age(on: On) {
    let f = Fixture::new(on).await;
    // The second bundle's newest message is the first of the block that reaches into the third.
    for (count, now) in [(200, 10), (100, 20), (211, 30), (10, 40), (300, 50)] {
        let posts: Vec<_> =
            f.tokens(0, count).iter().map(|token| f.pay(token, 0, "message")).collect();
        f.spend(&posts, now).await;
    }
    let messages = f.messages().await;
    assert_eq!(seal_all(&f, &messages).await, 3);
    let times = f.numbers("SELECT received_at FROM bundles ORDER BY bundle").await;
    assert_eq!(times, [20, 40, 50]);
    for (received_from, oldest) in [(20, 1), (21, 257), (40, 257), (41, 513), (50, 513), (51, 822)]
    {
        drop_old(&messages, 0, received_from).await.unwrap();
        assert_eq!(f.range().await, (oldest, 821), "from {received_from}");
        assert_eq!(faults(&f).await, [""; 0]);
    }
}

async fn a_log_that_begins_in_a_bundle_is_sealed_from_the_next_one_on(on: On) {
    let f = Fixture::new(on).await;
    store(&f, &f.store, 1000).await;
    f.store.trim(150, 0).await.unwrap();
    assert_eq!(f.range().await, (101, 1000));
    let (messages, stale) = (f.messages().await, f.messages().await);
    let expected = read_all(&messages, 100, u64::MAX).await;
    assert_eq!(seal_all(&f, &messages).await, 2);
    assert_eq!(f.numbers("SELECT bundle FROM bundles ORDER BY bundle").await, [1, 2]);
    // 101 to 300 before them, 701 to 1000 after.
    assert_eq!(
        f.numbers("SELECT first_seq FROM blocks ORDER BY 1").await,
        [101, 201, 701, 801, 901]
    );
    for (limit, after) in [(1000, 100), (77, 100), (1000, 200), (1, 250), (1000, 299), (10, 650)] {
        let wanted = &expected[(after - 100) * 72..];
        assert!(read_all(&stale, after as u64, limit).await == wanted, "{limit} {after}");
        assert!(read_all(&messages, after as u64, limit).await == wanted, "{limit} {after}");
    }
    assert_eq!(faults(&f).await, [""; 0]);
    f.messages().await;
    assert_eq!(drop_old(&messages, 255, 0).await.unwrap(), 100);
    assert_eq!((f.range().await, faults(&f).await), ((201, 1000), vec![]));
    assert_eq!(drop_old(&messages, 512, 0).await.unwrap(), 56);
    assert_eq!((f.range().await, faults(&f).await), ((257, 1000), vec![]));
    assert_eq!(drop_old(&messages, 780, 0).await.unwrap(), 512);
    assert_eq!((f.range().await, faults(&f).await), ((769, 1000), vec![]));
}

async fn a_large_old_log_is_sealed_in_short_transactions(on: On) {
    let f = Fixture::new(on).await;
    let posts = f.tokens(0, 1);
    let mut next = 0;
    for tokens in f.tokens(0, 5000).chunks(1000) {
        let batch: Vec<_> = tokens
            .iter()
            .map(|token| {
                next += 1;
                f.pay(token, 0, &format!("message {next}"))
            })
            .collect();
        f.spend(&batch, 1).await;
    }
    let messages = f.messages().await;
    let expected = read_all(&messages, 0, 999).await;
    f.log().await.put_away().await.unwrap();
    let steps = Mutex::new(Vec::new());
    let sealed = seal(&messages, &|step| steps.lock().unwrap().push(step)).await.unwrap();
    assert_eq!(sealed, 5000 / 256);
    let recorded = steps.into_inner().unwrap().into_iter().filter(|step| *step == Step::Recorded);
    assert_eq!(recorded.count(), 5, "four bundles in each transaction");
    assert!(read_all(&messages, 0, 999).await == expected);
    assert_eq!((count(&f, "bundles").await, faults(&f).await), (19, vec![]));
    // Posts go on.
    f.spend(&[f.pay(&posts[0], 0, "later")], 2).await;
    assert_eq!(f.range().await, (1, 5001));
}

async fn refusal(f: &Fixture, path: Option<&Path>) -> String {
    let store = f.second_store().await;
    f.messages_in(&store, path).await.err().expect("it is refused").to_string()
}

async fn a_missing_or_cut_file_is_refused_and_an_altered_one_is_found(on: On) {
    let f = Fixture::new(on).await;
    store(&f, &f.store, 800).await;
    let messages = f.messages().await;
    assert_eq!(seal_all(&f, &messages).await, 3);
    assert!(refusal(&f, None).await.contains("log.folder"));
    let path = folder(&f).bundle_path(1);
    let bytes = std::fs::read(&path).unwrap();
    let altered = {
        let mut bytes = bytes.clone();
        bytes[5] ^= 1;
        bytes
    };
    std::fs::write(&path, altered).unwrap();
    let found = faults(&f).await;
    assert!(
        found.len() == 1 && found[0].contains("entries/001: its messages are not"),
        "{found:?}"
    );
    f.messages().await;
    std::fs::write(&path, &bytes[1..]).unwrap();
    let refused = refusal(&f, Some(&f.folder())).await;
    assert!(refused.contains("1 of 3 files") && refused.contains("entries/001"), "{refused}");
    assert!(refused.contains("db drop --before 513"), "{refused}");
    assert_eq!(faults(&f).await.len(), 1);
    std::fs::remove_file(&path).unwrap();
    assert_eq!(refusal(&f, Some(&f.folder())).await, refused);
    // Who reads meanwhile is cut off, and told nothing that is not so.
    let cut = messages.read_after(300, 9).await;
    assert!(matches!(cut, Err(StoreError::Folder(_))), "{cut:?}");
    assert_eq!(messages.read_after(200, 99).await.unwrap().unwrap().last, 256);
    std::fs::write(&path, bytes).unwrap();
    f.messages().await;
    assert_eq!(faults(&f).await, [""; 0]);
    // Without it, as the refusal says.
    std::fs::remove_file(&path).unwrap();
    f.store.trim(513, 0).await.unwrap();
    let messages = f.messages().await;
    assert_eq!(read_all(&messages, 512, 999).await.len(), 288 * 72);
    assert!(!folder(&f).bundle_path(0).exists());
    // A folder that is not mounted.
    std::fs::rename(f.folder(), f.folder().with_extension("away")).unwrap();
    assert!(refusal(&f, Some(&f.folder())).await.contains("mounted"));
    assert!(!f.folder().exists());
}

async fn a_folder_is_of_one_log(on: On) {
    let (f, other) = (Fixture::new(on).await, Fixture::new(on).await);
    f.messages().await;
    let key = LogKey::from_secret_text(&f.log_key).unwrap();
    let empty = Fixture::with_key(on, f.cell_bytes, key).await;
    empty.messages_in(&empty.store, Some(&f.folder())).await.unwrap();
    store(&f, &f.store, 300).await;
    assert_eq!(seal_all(&f, &f.messages().await).await, 1);
    let refused = refusal(&empty, Some(&f.folder())).await;
    assert!(refused.contains("never had any"), "{refused}");
    let refused = refusal(&other, Some(&f.folder())).await;
    assert!(refused.contains("another log"), "{refused}");
    std::fs::write(other.folder(), "a file").unwrap();
    let refused = refusal(&other, Some(&other.folder())).await;
    assert!(refused.contains("/log: Not a directory"), "{refused}");
    std::fs::remove_file(other.folder()).unwrap();
    std::fs::create_dir(other.folder()).unwrap();
    std::fs::write(other.folder().join("something"), "else").unwrap();
    assert!(refusal(&other, Some(&other.folder())).await.contains("something else"));
    // A relay may be at work on it.
    let unfinished = other.folder().join("new-1");
    std::fs::rename(other.folder().join("something"), &unfinished).unwrap();
    for (seconds, stays) in [(500, true), (700, false)] {
        if let Ok(file) = std::fs::File::options().write(true).open(&unfinished) {
            let then = std::time::SystemTime::now() - std::time::Duration::from_secs(seconds);
            file.set_modified(then).unwrap();
        }
        other.messages().await;
        assert_eq!(unfinished.exists(), stays, "after {seconds} seconds");
    }
}

async fn what_is_not_in_the_tree_is_not_sealed(on: On) {
    let f = Fixture::new(on).await;
    store(&f, &f.store, 300).await;
    f.log().await.put_away().await.unwrap();
    f.sql(match on {
        On::Sqlite => "UPDATE blocks SET frames = CAST(substr(frames, 1, length(frames) - 1) || x'ff' AS BLOB) WHERE first_seq = 1",
        On::Postgres => "UPDATE blocks SET cells = set_byte(cells, length(cells) - 1, 255) WHERE first_seq = 1",
    })
    .await;
    let store = f.second_store().await;
    let messages = f.messages_in(&store, Some(&f.folder())).await.unwrap();
    let refused = seal(&messages, &nothing).await;
    assert!(matches!(refused, Err(StoreError::Tree)), "{refused:?}");
    assert_eq!((count(&f, "bundles").await, count(&f, "blocks").await), (0, 300));
}

/// Copies a folder as it is.
fn copy(from: &Path, to: &Path) {
    std::fs::create_dir_all(to).unwrap();
    for entry in std::fs::read_dir(from).unwrap().map(Result::unwrap) {
        let to = to.join(entry.file_name());
        match entry.file_type().unwrap().is_dir() {
            true => copy(&entry.path(), &to),
            false => drop(std::fs::copy(entry.path(), to).unwrap()),
        }
    }
}

/// What a relay seals between the two parts of a backup must not be lost.
async fn the_database_is_backed_up_before_the_folder(on: On) {
    let f = Fixture::new(on).await;
    store(&f, &f.store, 400).await;
    let messages = f.messages().await;
    assert_eq!(seal_all(&f, &messages).await, 1);
    let expected = read_all(&messages, 0, 999).await;
    let early = f.folder().with_extension("early");
    copy(&f.folder(), &early);
    let early_database = f.backup().await;
    store(&f, &f.store, 200).await;
    assert_eq!(seal_all(&f, &messages).await, 1);
    // The folder first: the database says that a bundle is sealed which the backup does not have.
    let refused = refusal(&f, Some(&early)).await;
    assert!(refused.contains("1 of 2 files"), "{refused}");
    // The database first: the folder has a bundle that the database has too.
    let restored =
        early_database.messages_in(&early_database.store, Some(&f.folder())).await.unwrap();
    assert_eq!(read_all(&restored, 0, 999).await, expected);
    // The log goes on with other messages, and seals them in place of what was there.
    let lost = std::fs::read(folder(&f).bundle_path(1)).unwrap();
    let tokens = early_database.tokens(0, 201);
    let other = |(n, token)| early_database.pay(token, 0, &format!("another message {n}"));
    early_database.spend(&tokens.iter().enumerate().map(other).collect::<Vec<_>>(), 1).await;
    assert_eq!(seal_all(&early_database, &restored).await, 1);
    assert!(std::fs::read(folder(&f).bundle_path(1)).unwrap() != lost);
    assert_eq!(read_all(&restored, 0, 999).await.len(), 601 * 72);
    let database = &early_database.store;
    let found = bundles::check(database, Some(&folder(&f))).await.unwrap();
    assert_eq!((found, database.check().await.unwrap()), (vec![], vec![]));
    assert_eq!(early_database.range().await, (1, 601));
}

#[tokio::test(flavor = "multi_thread")]
async fn several_relays_seal_and_drop_in_one_folder() {
    let f = Fixture::new(On::Postgres).await;
    let other = f.second_store().await;
    let here = f.messages().await;
    let there = f.messages_in(&other, Some(&f.folder())).await.unwrap();
    store(&f, &f.store, 1500).await;
    let expected = read_all(&here, 0, 999).await;
    f.log().await.put_away().await.unwrap();
    let (one, two) = tokio::join!(seal(&here, &nothing), seal(&there, &nothing));
    let last = seal(&here, &nothing).await.unwrap();
    assert_eq!(one.unwrap() + two.unwrap() + last, 5, "each bundle is counted once");
    for messages in [&here, &there] {
        assert!(read_all(messages, 0, 999).await == expected);
    }
    assert_eq!(faults(&f).await, [""; 0]);
    // One drops; another one hears of it when it looks.
    let third = f.second_store().await;
    let third = f.messages_in(&third, Some(&f.folder())).await.unwrap();
    assert_eq!(drop_old(&here, 600, 0).await.unwrap(), 512);
    assert!(matches!(third.read_after(100, 9).await, Err(StoreError::Overtaken)));
    assert!(read_all(&there, 512, 999).await == expected[512 * 72..]);
    drop_old(&there, 600, 0).await.unwrap();
    // One that was paused before it could say what it had sealed brings nothing back.
    assert_eq!(other.put_sealed(&tiles(&other, 0..2).await).await.unwrap(), 0);
    assert_eq!(other.put_sealed(&tiles(&other, 4..5).await).await.unwrap(), 0);
    assert_eq!(drop_old(&here, u64::MAX, 0).await.unwrap(), 988);
    assert_eq!(other.put_sealed(&tiles(&other, 4..5).await).await.unwrap(), 0);
    assert_eq!((f.range().await, faults(&f).await), ((1501, 1500), vec![]));
    // A relay without the folder says so, as soon as there is something in it.
    store(&f, &f.store, 300).await;
    let third = f.second_store().await;
    let without = f.messages_in(&third, None).await.unwrap();
    without.ready().await.unwrap();
    assert_eq!(seal_all(&f, &without).await, 0);
    assert_eq!(seal_all(&f, &here).await, 1);
    let refused = without.read_after(1600, 9).await;
    assert!(matches!(refused, Err(StoreError::NoFolder)), "{refused:?}");
    assert!(matches!(without.ready().await, Err(StoreError::NoFolder)));
    here.ready().await.unwrap();
    assert_eq!(read_all(&without, 1792, 9).await.len(), 8 * 72);
}
