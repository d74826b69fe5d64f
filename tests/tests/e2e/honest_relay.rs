//! No false alarm: an honest relay that is killed and started again, behind a network that cuts and
//! delays connections, is never accused, and everything that was said arrives everywhere.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use tocyn_client::log::LogError;
use tocyn_client::read::ReadError;
use tocyn_client::send::SendError;
use tocyn_client::sync::SyncError;
use tocyn_client::transport::HttpError;
use tocyn_e2e::chaos::{Chaos, Weather};
use tocyn_e2e::member::{Member, SayError, new_group};
use tocyn_e2e::service::Service;
use tocyn_e2e::world::World;

const GROUPS: usize = 2;
const MEMBERS: usize = 4;

/// 10,000 messages where `TOCYN_RUNS` is 100, as in `./test --nightly`; else a tenth of it.
fn messages_each() -> usize {
    let runs = std::env::var("TOCYN_RUNS").map_or(10, |runs| runs.parse().unwrap());
    (runs * 100 / (GROUPS * MEMBERS)).max(1)
}

fn now() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs()
}

/// Whether it only says that the network is bad.
fn is_lost_connection(error: &SyncError) -> bool {
    match error {
        SyncError::Log(LogError::Http(error)) | SyncError::Read(ReadError::Http(error)) => {
            matches!(error, HttpError::Unreachable { .. })
        }
        SyncError::Read(ReadError::BrokenOff { .. }) => true,
        _ => false,
    }
}

/// Reads, if the network lets it, and finds nothing wrong.
async fn read(member: &Member) -> bool {
    match member.sync(now()).await {
        Ok(synced) => {
            assert!(synced.faults.is_empty(), "{}: {:?}", member.name, synced.faults);
            let health = member.health().await;
            assert!(!health.gap, "{}: {health:?}", member.name);
            true
        }
        Err(error) if is_lost_connection(&error) => false,
        Err(error) => panic!("{}: {error}", member.name),
    }
}

async fn talk(member: Member) -> Member {
    for n in 0..messages_each() {
        let text = format!("{} says {n}", member.name);
        loop {
            match member.say(&text, now()).await {
                // What has no receipt waits for the next time.
                Ok(_) | Err(SayError::Send(SendError::Waiting { .. })) => break,
                Err(SayError::Send(SendError::Log(LogError::Http(HttpError::Unreachable {
                    ..
                })))) => {}
                Err(error) => panic!("{}: {error}", member.name),
            }
        }
        if n % 10 == 9 {
            read(&member).await;
        }
    }
    member
}

#[tokio::test(flavor = "multi_thread")]
async fn an_honest_relay_is_never_accused() {
    let _turn = super::heavy().await;
    let world = World::default();
    let (issuer, relay) = (world.start_issuer(), world.start_relay());
    let address = relay.address().to_owned();
    let (mut members, mut networks) = (Vec::new(), Vec::new());
    for group in 0..GROUPS {
        let invite = new_group(&format!("group {group}"), issuer.url(), relay.url()).await;
        for n in 0..MEMBERS {
            let network = Chaos::new(&address).await;
            let url = format!("http://{}", network.address());
            let name = format!("{group}.{n}");
            let member = Member::join(world.path(), &name, &invite, &url).await;
            let tokens = messages_each() as u64 + 16;
            member.buy(&world.voucher(tokens.next_multiple_of(16)), tokens, now()).await;
            members.push(member);
            networks.push(network);
        }
    }
    let mut talking = tokio::task::JoinSet::new();
    members.into_iter().for_each(|member| drop(talking.spawn(talk(member))));
    let mut members = Vec::new();
    let mut relay = Some(relay);
    let mut round = 0;
    while !talking.is_empty() {
        round += 1;
        for (n, network) in networks.iter().enumerate() {
            network.set(match (round + n) % 7 {
                0 => Weather::Cut,
                1 | 4 => Weather::Delayed(Duration::from_millis(3 + n as u64 * 5)),
                _ => Weather::Fair,
            });
        }
        if round % 8 == 0 {
            relay.take().expect("it runs").kill();
            relay = Some(Service::start_at("tocyn-relay", &world.relay_data(), &address));
        }
        tokio::time::sleep(Duration::from_millis(500)).await;
        while let Some(member) = talking.try_join_next() {
            members.push(member.unwrap());
        }
    }
    networks.iter().for_each(|network| network.set(Weather::Fair));
    for member in &members {
        member.resume(now()).await.unwrap();
    }
    let mut expected: Vec<String> = Vec::new();
    for member in &members {
        expected.extend((0..messages_each()).map(|n| format!("{} says {n}", member.name)));
    }
    expected.sort();
    for member in &members {
        assert!(read(member).await);
        let group = member.name.split('.').next().unwrap();
        let mut of_group = expected.clone();
        of_group.retain(|text| text.starts_with(&format!("{group}.")));
        let texts = member.texts().await;
        let lacks: Vec<_> = of_group.iter().filter(|text| !texts.contains(text)).collect();
        assert!(texts == of_group, "{}: {} messages, without {lacks:?}", member.name, texts.len());
        let health = member.health().await;
        let all_well = (health.late, health.duplicates, health.spoiled, health.waiting);
        assert_eq!(all_well, (0, 0, 0, 0), "{health:?}");
        assert!(health.incomplete.is_empty() && member.faults().await.is_empty());
    }
}
