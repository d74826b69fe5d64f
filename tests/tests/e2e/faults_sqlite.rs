//! Disks that are full, cannot be written or are damaged, under a relay on SQLite.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use tocyn_e2e::bearer::{bound, buy, cell, http_client, post, read_all};
use tocyn_e2e::programs::program;
use tocyn_e2e::service::Service;
use tocyn_e2e::world::{World, output};
use tocyn_protocol::problem::Problem;
use tocyn_protocol::token::Token;

use crate::readiness::becomes;

/// `sh` in a namespace of its own, where it may mount; what it mounts goes with it.
fn private_sh(script: &str, args: &[&Path]) -> Command {
    let mut command = Command::new("unshare");
    if !rustix::process::geteuid().is_root() {
        command.args(["--user", "--map-root-user"]);
    }
    command.args(["--mount", "sh", "-c", script, "sh"]).args(args).stdin(Stdio::null());
    command
}

/// A relay, or an issuer, whose data folder is a disk of a few MiB.
struct SmallDisk {
    world: World,
    folder: PathBuf,
}

impl SmallDisk {
    fn new() -> Self {
        let can = output(&mut private_sh("mount -t tmpfs tmpfs /tmp", &[]));
        assert!(
            can.status.success(),
            "this test mounts a small disk for itself: run it as root, or let users make \
             namespaces (sysctl kernel.unprivileged_userns_clone=1): {}",
            String::from_utf8_lossy(&can.stderr)
        );
        let world = World::default();
        let folder = world.path().join("small");
        std::fs::create_dir(&folder).unwrap();
        Self { world, folder }
    }

    /// The command that serves as a relay from a fresh disk, after what `then` does to it.
    fn serve(&self, size: &str, then: &str) -> Command {
        self.serve_as("tocyn-relay", &self.world.relay_data(), size, then)
    }

    fn serve_as(&self, name: &str, data: &Path, size: &str, then: &str) -> Command {
        let script = format!(
            "mount -t tmpfs -o size={size},mode=700 tmpfs \"$1\" && cp -a \"$2/.\" \"$1\" && {then} \
             exec \"$3\" --data \"$1\" serve --listen 127.0.0.1:0"
        );
        private_sh(&script, &[&self.folder, data, &program(name)])
    }

    /// Runs a command where the service sees its disk.
    fn beside(&self, service: &Service, args: &[&str]) {
        let mut command = Command::new("nsenter");
        if !rustix::process::geteuid().is_root() {
            command.args(["--user", "--preserve-credentials"]);
        }
        command.args(["--mount", "--target", &service.id().to_string()]);
        output(command.args(args).arg(&self.folder).stdin(Stdio::null()));
    }

    async fn tokens(&self, count: usize) -> Vec<Token> {
        let issuer = self.world.start_issuer();
        buy(&http_client(), issuer.url(), &self.world.voucher(count as u64), count).await
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_full_disk_refuses_posts_and_spends_nothing_until_there_is_room() {
    let (disk, http) = (SmallDisk::new(), http_client());
    let tokens = disk.tokens(512).await;
    let relay = Service::run(&mut disk.serve("2m", ""), disk.world.path());
    let send = async |n: usize| {
        let cell = cell(&format!("message {n}"));
        let answer = post(&http, relay.url(), &bound(&tokens[n], &cell), &cell).await.unwrap();
        (answer.status().as_u16(), answer.bytes().await.unwrap())
    };
    let (mut stored, mut refused) = (Vec::new(), Vec::new());
    for n in 0..tokens.len() {
        let (status, body) = send(n).await;
        match status {
            201 => stored.push(n),
            507 => {
                let problem: Problem = serde_json::from_slice(&body).unwrap();
                assert_eq!(problem.urn, "urn:tocyn:problem:storage-full");
                refused.push(n);
            }
            other => panic!("{other}: {}; {}", String::from_utf8_lossy(&body), relay.log()),
        }
    }
    assert!(stored.len() > 20 && refused.len() > 20, "{} and {}", stored.len(), refused.len());
    // Nor does it say that it can, however long nobody posts.
    let ready = async || {
        let answer = http.get(format!("{}/readyz", relay.url())).send().await.unwrap();
        answer.status().as_u16()
    };
    for _ in 0..12 {
        assert_eq!(ready().await, 507);
        tokio::time::sleep(Duration::from_millis(300)).await;
    }
    // What is stored can still be read, and repeats still get their receipts.
    assert_eq!(read_all(&http, relay.url()).await.len(), stored.len());
    assert_eq!(send(stored[0]).await.0, 200);

    disk.beside(&relay, &["mount", "-o", "remount,size=64m"]);
    becomes(&http, relay.url(), 200).await;
    for n in &refused {
        assert_eq!(send(*n).await.0, 201, "the token was not spent");
    }
    for n in &stored {
        assert_eq!(send(*n).await.0, 200);
    }
    let log = read_all(&http, relay.url()).await;
    let sequences: Vec<u64> = log.iter().map(|(seq, _)| *seq).collect();
    assert_eq!(sequences, (1..=tokens.len() as u64).collect::<Vec<_>>());
    assert_eq!(relay.stop().code(), Some(0));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_disk_that_others_have_filled_is_not_ready() {
    let (disk, http) = (SmallDisk::new(), http_client());
    for (name, data) in
        [("tocyn-issuer", disk.world.issuer_data()), ("tocyn-relay", disk.world.relay_data())]
    {
        let service = Service::run(&mut disk.serve_as(name, &data, "4m", ""), disk.world.path());
        becomes(&http, service.url(), 200).await;
        // It fails, as it should: then there is no room.
        disk.beside(&service, &["sh", "-c", "head -c 9m /dev/zero >\"$0\"/filling"]);
        becomes(&http, service.url(), 507).await;
        for _ in 0..10 {
            tokio::time::sleep(Duration::from_millis(300)).await;
            let answer = http.get(format!("{}/readyz", service.url())).send().await.unwrap();
            assert_eq!(answer.status().as_u16(), 507, "{name}: {}", service.log());
        }
        disk.beside(&service, &["sh", "-c", "rm \"$0\"/filling"]);
        becomes(&http, service.url(), 200).await;
        assert_eq!(service.stop().code(), Some(0));
    }
}

#[test]
fn a_disk_that_cannot_be_written_is_named() {
    let disk = SmallDisk::new();
    let refused = output(&mut disk.serve("8m", "mount -o remount,ro \"$1\" &&"));
    assert_eq!(refused.status.code(), Some(1));
    let said = String::from_utf8(refused.stderr).unwrap();
    assert!(said.contains(disk.folder.to_str().unwrap()), "{said}");
    assert!(said.contains("Read-only file system"), "{said}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_damaged_page_keeps_the_relay_from_starting() {
    let (world, http) = (World::default(), http_client());
    let issuer = world.start_issuer();
    let tokens = buy(&http, issuer.url(), &world.voucher(64), 64).await;
    let relay = world.start_relay();
    for token in &tokens {
        let cell = cell(&hex::encode(token.nonce()));
        let answer = post(&http, relay.url(), &bound(token, &cell), &cell).await.unwrap();
        assert_eq!(answer.status().as_u16(), 201);
    }
    assert_eq!(relay.stop().code(), Some(0));
    let file = world.relay_data().join("relay.sqlite");
    let mut bytes = std::fs::read(&file).unwrap();
    // A page in the middle of the messages.
    let place = bytes.len() * 3 / 4 / 4096 * 4096;
    bytes[place..place + 4096].fill(0x55);
    std::fs::write(&file, bytes).unwrap();
    let mut serve = Command::new(program("tocyn-relay"));
    let refused = output(serve.arg("--data").arg(world.relay_data()).arg("serve"));
    assert_eq!(refused.status.code(), Some(1));
    let said = String::from_utf8(refused.stderr).unwrap();
    assert!(said.contains("relay.sqlite") && said.contains("damaged"), "{said}");
}
