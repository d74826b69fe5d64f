//! The log, held against Go's packages for such logs, which share no code with ours.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;

use getrandom::SysRng;
use rand_core::UnwrapErr;
use tocyn_e2e::bearer::{bound, buy, cell, http_client, post};
use tocyn_e2e::world::{World, output};
use tocyn_protocol::log::checkpoint::Checkpoint;
use tocyn_protocol::log::note::LogKey;
use tocyn_protocol::log::tile::{Content, TILE_WIDTH, Tile, encode_hashes, put_entry};
use tocyn_protocol::log::tree::{Edge, Nodes, Tree};
use tocyn_protocol::relay::{MessageId, ProvenReceipt, RelayInfo};
use tocyn_protocol::statement::{Commitment, StatementHash};

/// The program that checks, built once.
fn verifier() -> &'static Path {
    static PROGRAM: OnceLock<(tempfile::TempDir, PathBuf)> = OnceLock::new();
    let (_, program) = PROGRAM.get_or_init(|| {
        let dir = tempfile::tempdir().unwrap();
        let program = dir.path().join("verify");
        let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("go/verify.go");
        // Debian's packages for Go lie where Go looked for them before it had modules.
        let built = Command::new("go")
            .args(["build", "-o"])
            .args([&program, &source])
            .envs([("GO111MODULE", "off"), ("GOPATH", "/usr/share/gocode"), ("GOFLAGS", "")])
            .env("GOCACHE", dir.path().join("cache"))
            .output()
            .expect(
                "this test needs Go: on Debian, apt-get install golang-go golang-golang-x-mod-dev",
            );
        let said = String::from_utf8_lossy(&built.stderr);
        assert!(built.status.success(), "golang-golang-x-mod-dev may be missing: {said}");
        (dir, program)
    });
    program
}

/// What it says of these checkpoints, the newest last.
fn verify(key: &str, source: &str, checkpoints: &[String]) -> Result<String, String> {
    let dir = tempfile::tempdir().unwrap();
    let mut command = Command::new(verifier());
    command.args([key, source]);
    for (n, checkpoint) in checkpoints.iter().enumerate() {
        let path = dir.path().join(n.to_string());
        std::fs::write(&path, checkpoint).unwrap();
        command.arg(path);
    }
    let said = output(&mut command);
    match said.status.success() {
        true => Ok(String::from_utf8(said.stdout).unwrap()),
        false => Err(String::from_utf8(said.stderr).unwrap()),
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn go_finds_nothing_wrong_with_a_relay_around_the_ends_of_tiles() {
    let (world, http) = (World::default(), http_client());
    let issuer = world.start_issuer();
    let mut relay = world.start_relay();
    let mut tokens = buy(&http, issuer.url(), &world.voucher(256), 256).await;
    tokens.extend(buy(&http, issuer.url(), &world.voucher(256), 256).await);
    tokens.extend(buy(&http, issuer.url(), &world.voucher(64), 64).await);
    let get = async |url: String| http.get(url).send().await.unwrap();
    let info: RelayInfo = get(format!("{}/v1/info", relay.url())).await.json().await.unwrap();
    let mut checkpoints = Vec::new();
    for (n, token) in tokens[..514].iter().enumerate() {
        let cell = cell(&format!("message {n}"));
        let answer = post(&http, relay.url(), &bound(token, &cell), &cell).await.unwrap();
        let proven: ProvenReceipt = answer.json().await.unwrap();
        assert_eq!(proven.receipt.seq, n as u64 + 1);
        let checkpoint = proven.verify(&info.log_key).unwrap();
        assert!(checkpoint.size > n as u64);
        if [1, 2, 255, 256, 257, 300, 511, 512, 513].contains(&(n + 1)) {
            let answer = get(format!("{}/checkpoint", relay.url())).await;
            assert_eq!(answer.headers()["content-type"], "text/plain; charset=utf-8");
            checkpoints.push(answer.text().await.unwrap());
            let said = verify(&info.log_key.to_string(), relay.url(), &checkpoints).unwrap();
            assert_eq!(said, format!("{} checkpoints, {} entries\n", checkpoints.len(), n + 1));
        }
        if n == 299 {
            // The tree goes on where it was.
            assert_eq!(relay.stop().code(), Some(0));
            relay = world.start_relay();
        }
    }
    // A retry is proven again, long after its tile was put away.
    let (token, old) = (&tokens[3], cell("message 3"));
    let answer = post(&http, relay.url(), &bound(token, &old), &old).await.unwrap();
    assert_eq!(answer.status().as_u16(), 200);
    let proven: ProvenReceipt = answer.json().await.unwrap();
    assert_eq!(proven.verify(&info.log_key).unwrap().size, 514);
    let tile = get(format!("{}/tile/0/001", relay.url())).await;
    assert!(tile.headers()["cache-control"].to_str().unwrap().contains("immutable"));
    assert_eq!(tile.bytes().await.unwrap().len(), 8192);
    for (path, status) in [
        ("tile/0/002.p/2", 200),
        ("tile/0/002.p/1", 200),
        ("tile/0/002.p/3", 404),
        ("tile/0/002", 404),
        ("tile/entries/002.p/3", 404),
        ("tile/1/000.p/2", 200),
        ("tile/1/000.p/3", 404),
        ("tile/0/0", 404),
        ("tile/data/000", 404),
        ("tile/0/x999/999", 404),
        ("tile/entries/x072/x057/x594/x037/x927/935", 404),
        ("tile/entries/x072/x057/x594/x037/x927/936", 404),
        ("tile/7/x072/x057/x594/x037/x927/934", 404),
    ] {
        let answer = get(format!("{}/{path}", relay.url())).await;
        assert_eq!(answer.status().as_u16(), status, "{path}");
    }
    // What Go is for: it does find what is wrong.
    let other = LogKey::generate(&info.origin_name, &mut UnwrapErr(SysRng)).verifier();
    verify(&other.to_string(), relay.url(), &checkpoints).unwrap_err();
    checkpoints.swap(3, 8);
    verify(&info.log_key.to_string(), relay.url(), &checkpoints).unwrap_err();
}

#[test]
fn go_finds_nothing_wrong_with_a_large_log_in_a_folder() {
    let key = LogKey::generate("relay.example", &mut UnwrapErr(SysRng));
    let verifier_key = key.verifier().to_string();
    let mut tree = Tree::default();
    let mut checkpoints = Vec::new();
    let entry = |n: u64| n.to_be_bytes();
    for size in [65_535, 65_536, 65_537, 65_791, 65_792, 65_793] {
        (tree.size()..size).for_each(|n| tree.push(MessageId::of(&entry(n)).into()));
        let root = Edge::new(size, &tree).unwrap().root();
        let keys = Commitment { serial: 3, hash: StatementHash([7; 32]) };
        checkpoints.push(Checkpoint { size, root, keys }.sign(&key));
        if ![65_537, 65_793].contains(&size) {
            continue;
        }
        let dir = tempfile::tempdir().unwrap();
        let write = |tile: Tile, bytes: Vec<u8>| {
            let path = dir.path().join(tile.to_string());
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(path, bytes).unwrap();
        };
        for level in 0..8u8 {
            for index in 0.. {
                let Some(tile) = Tile::in_tree(Content::Hashes(level), index, size) else { break };
                let node = |n| tree.node(8 * level, tile.start() + n).unwrap();
                let hashes: Vec<_> = (0..u64::from(tile.width)).map(node).collect();
                write(tile, encode_hashes(&hashes));
            }
        }
        for index in 0..size.div_ceil(TILE_WIDTH) {
            let tile = Tile::in_tree(Content::Entries, index, size).unwrap();
            let mut bundle = Vec::new();
            (0..u64::from(tile.width))
                .for_each(|n| put_entry(&mut bundle, &entry(tile.start() + n)));
            write(tile, bundle);
        }
        let folder = dir.path().to_str().unwrap();
        let said = verify(&verifier_key, folder, &checkpoints).unwrap();
        assert_eq!(said, format!("{} checkpoints, {size} entries\n", checkpoints.len()));
        // One byte of one entry.
        let path = dir.path().join("tile/entries/002");
        let mut bytes = std::fs::read(&path).unwrap();
        bytes[1005] ^= 1;
        std::fs::write(&path, bytes).unwrap();
        let found = verify(&verifier_key, folder, &checkpoints).unwrap_err();
        assert!(found.contains("not the one in the tree"), "{found}");
    }
}
