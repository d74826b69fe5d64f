//! What the relay stores and sees tells nothing about groups: not by size, marker or frequency of
//! bytes, nor by what else is in a request. The tests that look for it are shown to find a marker.

use std::collections::{BTreeSet, HashSet};
use std::path::Path;
use std::time::{SystemTime, UNIX_EPOCH};

use getrandom::SysRng;
use rand_core::{Rng, UnwrapErr};
use sqlx::{Connection, Row, SqliteConnection};
use tocyn_e2e::bearer::{http_client, read_all};
use tocyn_e2e::member::{Member, new_group};
use tocyn_e2e::tap::Tap;
use tocyn_e2e::world::World;

const GROUPS: usize = 5;
const MEMBERS: usize = 4;
const MESSAGES: usize = 20;

/// A cell, and the group that it is of.
type Labelled = (usize, Vec<u8>);

/// The largest deviation from independence of group and half-byte, over all places in a cell: as
/// standard deviations of chi-square with 60 degrees of freedom, which is nearly normal.
fn worst_place(cells: &[Labelled]) -> f64 {
    let mut of_group = [0.0; GROUPS];
    cells.iter().for_each(|(group, _)| of_group[*group] += 1.0);
    let all = cells.len() as f64;
    let mut worst = f64::MIN;
    for place in 0..cells[0].1.len() * 2 {
        let mut table = [[0.0; 16]; GROUPS];
        let mut of_value = [0.0; 16];
        for (group, cell) in cells {
            let value = usize::from(cell[place / 2] >> (4 * (place % 2)) & 15);
            table[*group][value] += 1.0;
            of_value[value] += 1.0;
        }
        let mut chi_square = 0.0;
        for (group, row) in table.iter().enumerate() {
            for (value, seen) in row.iter().enumerate() {
                let expected: f64 = of_group[group] * of_value[value] / all;
                if expected > 0.0 {
                    chi_square += (seen - expected) * (seen - expected) / expected;
                }
            }
        }
        worst = worst.max((chi_square - 60.0) / 120f64.sqrt());
    }
    worst
}

/// How far the bytes of each group's cells are from equal frequencies, in the same unit.
fn worst_frequencies(cells: &[Labelled]) -> f64 {
    let mut worst = f64::MIN;
    for group in 0..GROUPS {
        let mut counts = [0.0; 256];
        let mut all = 0.0;
        for byte in cells.iter().filter(|(of, _)| *of == group).flat_map(|(_, cell)| cell) {
            counts[usize::from(*byte)] += 1.0;
            all += 1.0;
        }
        let expected: f64 = all / 256.0;
        let chi_square: f64 =
            counts.iter().map(|seen| (seen - expected) * (seen - expected) / expected).sum();
        worst = worst.max((chi_square - 255.0) / 510f64.sqrt());
    }
    worst
}

/// Whether any eight bytes occur twice, in one cell or in two.
fn repeats(cells: &[Labelled]) -> bool {
    let mut seen = HashSet::new();
    cells.iter().flat_map(|(_, cell)| cell.windows(8)).any(|window| !seen.insert(window))
}

/// What random bytes do not reach in a billion runs, though 4096 places are looked at in each:
/// the tail of chi-square is longer than that of the normal distribution.
const BOUND: f64 = 12.0;

#[tokio::test(flavor = "multi_thread")]
async fn the_relay_cannot_tell_groups_apart() {
    let world = World::default();
    let (issuer, relay) = (world.start_issuer(), world.start_relay());
    let tap = Tap::new(relay.address()).await;
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs();
    let mut talking = tokio::task::JoinSet::new();
    for group in 0..GROUPS {
        let invite = new_group(&format!("group{group}"), issuer.url(), relay.url()).await;
        for n in 0..MEMBERS {
            let member = Member::join(world.path(), &format!("m{n}"), &invite, tap.url()).await;
            member.buy(&world.voucher(64), 64, now).await;
            talking.spawn(async move {
                for message in 0..MESSAGES {
                    // Groups that say other things, at other lengths, and answer each other or not.
                    let text = format!("{message}").repeat(1 + group * 60);
                    member.say(&text, now).await.unwrap();
                    if group % 2 == 0 && message % 5 == 0 {
                        member.sync(now).await.unwrap();
                    }
                }
                (group, member)
            });
        }
    }
    let members = talking.join_all().await;

    // Who said what is known to the members; the relay has only its log.
    let log = read_all(&http_client(), relay.url()).await;
    let mut cells: Vec<Labelled> = Vec::new();
    for (group, member) in members.iter().filter(|(_, member)| member.name == "m0") {
        member.sync(now).await.unwrap();
        for message in member.messages().await {
            let seq = message.seq.expect("it is in the log");
            cells.push((*group, log[seq as usize - 1].1.clone()));
        }
    }
    assert_eq!(cells.len(), GROUPS * MEMBERS * MESSAGES);
    assert_eq!(log.len(), cells.len());
    assert!(cells.iter().all(|(_, cell)| cell.len() == 2048));
    assert!(!repeats(&cells), "eight bytes occur twice");
    let (place, frequencies) = (worst_place(&cells), worst_frequencies(&cells));
    assert!(place < BOUND, "a place in the cells depends on the group: {place}");
    assert!(frequencies < BOUND, "the bytes of a group are not equally frequent: {frequencies}");

    // The same tests on random bytes, and on random bytes with a marker.
    let mut random = cells.clone();
    let rng = &mut UnwrapErr(SysRng);
    random.iter_mut().for_each(|(_, cell)| rng.fill_bytes(cell));
    assert!(worst_place(&random) < BOUND && worst_frequencies(&random) < BOUND);
    let mut marked = random.clone();
    marked.iter_mut().for_each(|(group, cell)| cell[700] = cell[700] & 0xf8 | *group as u8);
    assert!(worst_place(&marked) > BOUND);
    let mut loaded = random.clone();
    loaded.iter_mut().for_each(|(_, cell)| cell[..200].fill(0));
    assert!(worst_frequencies(&loaded) > BOUND && repeats(&loaded));

    requests_are_all_alike(&tap.bytes());
    nothing_finer_is_stored(&world, &[relay.address(), issuer.address(), "127.0.0.1"], now).await;
}

/// But for the token and its binding, which differ each time.
fn requests_are_all_alike(bytes: &[u8]) {
    let text = String::from_utf8_lossy(bytes);
    let mut forms = BTreeSet::new();
    let mut bound = BTreeSet::new();
    let mut posts = 0;
    for request in text.split("POST /v1/messages HTTP/1.1\r\n").skip(1) {
        let (head, _) = request.split_once("\r\n\r\n").expect("a request has headers");
        posts += 1;
        let mut form = Vec::new();
        for line in head.split("\r\n") {
            match line.split_once(": ").expect("a header") {
                ("authorization", value) => {
                    // The challenge and the key's name are the same for all who post now.
                    let input = value.split('"').nth(1).expect("a token's input");
                    form.push(format!("authorization of {} characters", value.len()));
                    assert!(bound.insert(input.to_owned()), "a token was shown twice");
                }
                _ => form.push(line.to_owned()),
            }
        }
        forms.insert(form);
    }
    assert_eq!(posts, GROUPS * MEMBERS * MESSAGES);
    assert_eq!(forms.len(), 1, "requests differ: {forms:?}");
}

/// The database has no address, and no time but whole seconds.
async fn nothing_finer_is_stored(world: &World, addresses: &[&str], now: u64) {
    let path = world.relay_data().join("relay.sqlite");
    for file in ["relay.sqlite", "relay.sqlite-wal"] {
        let bytes = std::fs::read(world.relay_data().join(file)).unwrap_or_default();
        for address in addresses {
            let found = bytes.windows(address.len()).any(|window| window == address.as_bytes());
            assert!(!found, "{file} has {address}");
        }
    }
    let numbers = integers(&path).await;
    let times = numbers.iter().filter(|number| number.abs_diff(now as i64) < 86_400).count();
    assert!(times > 0, "it does store when a message came");
    for unit in [1_000, 1_000_000, 1_000_000_000] {
        let day = 86_400u64.saturating_mul(unit);
        let finer = |number: &&i64| number.abs_diff((now * unit) as i64) < day;
        assert_eq!(numbers.iter().filter(finer).count(), 0, "a time in 1/{unit} s is stored");
    }
}

/// Every number in every table of a database.
async fn integers(path: &Path) -> Vec<i64> {
    let url = format!("sqlite://{}", path.display());
    let mut db = SqliteConnection::connect(&url).await.unwrap();
    let tables: Vec<String> =
        sqlx::query_scalar("SELECT name FROM sqlite_master WHERE type = 'table'")
            .fetch_all(&mut db)
            .await
            .unwrap();
    let mut numbers = Vec::new();
    for table in tables.iter().filter(|table| *table != "_sqlx_migrations") {
        let select = sqlx::AssertSqlSafe(format!("SELECT * FROM {table}"));
        for row in sqlx::query(select).fetch_all(&mut db).await.unwrap() {
            numbers.extend((0..row.len()).filter_map(|column| row.try_get::<i64, _>(column).ok()));
        }
    }
    numbers
}
