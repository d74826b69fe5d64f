//! Messages are stored in blocks, one for each commit, and read in pages.

use tocyn_relay::store::{ReadPage, Store};

use crate::fixture::{Fixture, On, on_both, seq};

on_both! {
    a_page_may_begin_and_end_anywhere_in_a_block,
    blocks_and_pages_are_bounded_but_hold_one_message_at_least,
    blocks_go_when_all_of_their_messages_may_go,
    a_reader_far_behind_what_is_kept_sees_the_jump,
    sequences_go_on_after_everything_was_deleted,
    pages_are_dense_and_bounded,
}

/// What `read_after(0, ..)` to the end gives for messages that [`Fixture::posts`] made.
fn frames(f: &Fixture, messages: usize) -> Vec<u8> {
    let mut frames = Vec::new();
    for n in 0..messages {
        frames.extend((n as u64 + 1).to_be_bytes());
        let text = format!("message {n}");
        frames.extend(text.as_bytes());
        frames.resize((n + 1) * (8 + f.cell_bytes), 0);
    }
    frames
}

/// Stores messages in commits of these sizes.
async fn commits(f: &Fixture, sizes: &[usize]) {
    let mut next = 0;
    for size in sizes {
        let stored = f.spend(&f.posts(next..next + size), 1).await;
        next += size;
        assert_eq!(seq(&stored[size - 1]), Some(next as u64));
    }
}

async fn page(store: &Store, after: u64, limit: u64) -> ReadPage {
    store.read_after(after, limit).await.unwrap().expect("there are messages")
}

/// How many messages each block has.
async fn block_sizes(f: &Fixture) -> Vec<i64> {
    f.numbers("SELECT messages FROM blocks ORDER BY first_seq").await
}

async fn a_page_may_begin_and_end_anywhere_in_a_block(on: On) {
    let f = Fixture::new(on).await;
    commits(&f, &[1, 5, 1, 1, 4]).await;
    assert_eq!(block_sizes(&f).await, [1, 5, 1, 1, 4]);
    let expected = frames(&f, 12);
    let frame = 8 + f.cell_bytes;
    let database_only = f.second_store().await;
    for store in [&f.store, &database_only] {
        for (after, limit) in (0..12).flat_map(|after| (1..=13).map(move |limit| (after, limit))) {
            let page = page(store, after, limit).await;
            assert_eq!(page.messages, limit.min(12 - after), "after {after}, limit {limit}");
            assert_eq!(page.last, after + page.messages);
            let wanted = &expected[after as usize * frame..page.last as usize * frame];
            assert_eq!(page.bytes, wanted, "after {after}, limit {limit}");
        }
        assert!(store.read_after(0, 0).await.unwrap().is_none());
        assert!(store.read_after(12, 1).await.unwrap().is_none());
    }
}

async fn blocks_and_pages_are_bounded_but_hold_one_message_at_least(on: On) {
    // 256 KiB hold two of the smaller cells, and not one of the larger.
    for (cell_bytes, sizes) in [(100_000, &[2, 2, 1, 1][..]), (300_000, &[1, 1, 1, 1, 1, 1])] {
        let f = Fixture::with_cells_of(on, cell_bytes).await;
        commits(&f, &[5, 1]).await;
        assert_eq!(block_sizes(&f).await, sizes);
        for store in [&f.store, &f.second_store().await] {
            let (mut after, mut read, mut pages) = (0, Vec::new(), Vec::new());
            while let Some(page) = store.read_after(after, u64::MAX).await.unwrap() {
                after = page.last;
                read.extend_from_slice(&page.bytes);
                pages.push(page.messages);
            }
            assert!(read == frames(&f, 6), "the same bytes");
            // The two messages that are alone in their blocks share a page where they fit.
            let expected = if cell_bytes == 100_000 { &[2, 2, 2][..] } else { &[1; 6] };
            assert_eq!(pages, expected);
        }
    }
}

async fn blocks_go_when_all_of_their_messages_may_go(on: On) {
    let f = Fixture::new(on).await;
    let times = [(3, 10), (2, 20), (1, 30)];
    let mut next = 0;
    for (size, now) in times {
        f.spend(&f.posts(next..next + size), now).await;
        next += size;
    }
    assert_eq!(f.store.trim(3, 0..=u64::MAX).await.unwrap(), 0, "message 3 stays, so 1 and 2 do");
    assert_eq!(f.store.trim(5, 0..=u64::MAX).await.unwrap(), 3);
    assert_eq!(f.range().await, (4, 6));
    let overtaken = page(&f.store, 1, 100).await;
    assert_eq!((overtaken.last, overtaken.messages), (6, 3), "readers see the jump");
    assert_eq!(overtaken.bytes, frames(&f, 6)[3 * (8 + f.cell_bytes)..]);
    assert_eq!(f.store.trim(0, 21..=u64::MAX).await.unwrap(), 2);
    assert_eq!(f.range().await, (6, 6));
}

async fn a_reader_far_behind_what_is_kept_sees_the_jump(on: On) {
    let f = Fixture::with_cells_of(on, 100_000).await;
    commits(&f, &[1; 6]).await;
    f.store.trim(6, 0..=u64::MAX).await.unwrap();
    // More than a page lies between.
    let jump = page(&f.store, 0, 1).await;
    assert_eq!((jump.messages, jump.last), (1, 6));
}

async fn sequences_go_on_after_everything_was_deleted(on: On) {
    let mut f = Fixture::new(on).await;
    for i in 0..5 {
        f.spend(&[f.pay(&f.token(0), 0, &i.to_string())], i).await;
    }
    assert_eq!(f.store.trim(0, 0..=u64::MAX).await.unwrap(), 0);
    assert_eq!(f.store.trim(3, 0..=u64::MAX).await.unwrap(), 2);
    assert_eq!(f.range().await, (3, 5));
    assert_eq!(f.store.trim(0, 3..=u64::MAX).await.unwrap(), 1);
    assert_eq!(f.range().await, (4, 5));
    assert_eq!(f.store.trim(0, 100..=u64::MAX).await.unwrap(), 2);
    assert_eq!(f.range().await, (6, 5));
    f.reopen().await;
    assert_eq!(seq(&f.spend(&[f.pay(&f.token(0), 0, "next")], 9).await[0]), Some(6));
    assert_eq!(f.range().await, (6, 6));
}

async fn pages_are_dense_and_bounded(on: On) {
    let f = Fixture::new(on).await;
    let batch: Vec<_> = (0..10).map(|i| f.pay(&f.token(0), 0, &i.to_string())).collect();
    f.spend(&batch, 1).await;
    let page = f.store.read_after(3, 4).await.unwrap().unwrap();
    assert_eq!((page.messages, page.last), (4, 7));
    assert_eq!(page.bytes.len(), 4 * (8 + f.cell_bytes));
    assert_eq!(page.bytes[..8], 4u64.to_be_bytes());
    assert!(f.store.read_after(10, 4).await.unwrap().is_none());
    assert!(f.store.read_after(u64::MAX, 4).await.unwrap().is_none());
}

/// Overwrites what is on disk with zeros, to show which reads come from there.
async fn wipe_disk(f: &Fixture) {
    f.sql("UPDATE blocks SET frames = zeroblob(length(frames))").await;
}

#[tokio::test]
async fn the_newest_messages_are_read_from_memory_and_go_with_the_others() {
    let f = Fixture::new(On::Sqlite).await;
    commits(&f, &[3, 2]).await;
    let expected = frames(&f, 5);
    wipe_disk(&f).await;
    assert_eq!(page(&f.second_store().await, 0, 9).await.bytes, vec![0; expected.len()]);
    assert_eq!(page(&f.store, 0, 9).await.bytes, expected);
    f.store.trim(4, 0..=u64::MAX).await.unwrap();
    let jump = page(&f.store, 0, 9).await;
    assert_eq!((jump.messages, jump.last), (2, 5), "1 to 3 are gone from memory too");
    assert_eq!(page(&f.store, 3, 9).await.bytes, expected[3 * (8 + f.cell_bytes)..]);
}

#[tokio::test]
async fn memory_holds_the_end_of_the_log_only() {
    let f = Fixture::with_cells_of(On::Sqlite, 1 << 20).await;
    commits(&f, &[1, 2, 1, 2]).await;
    wipe_disk(&f).await;
    // 4 MiB hold three of these messages with their sequences.
    for after in 0..6 {
        let page = page(&f.store, after, 9).await;
        let from_memory = page.bytes[..8] == (after + 1).to_be_bytes();
        assert_eq!((page.last, from_memory), (after + 1, after >= 3));
    }
}
