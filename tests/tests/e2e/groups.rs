//! Groups as people meet them: from the invite to a conversation, with a mirror, through Tor.

use std::io::{BufRead, BufReader, Write};
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;

use tocyn_e2e::bearer::{bound, buy, cell, http_client, post};
use tocyn_e2e::file_server::FileServer;
use tocyn_e2e::member;
use tocyn_e2e::service::Service;
use tocyn_e2e::socks::SocksProxy;
use tocyn_e2e::world::{World, output, succeed};

struct Scene {
    world: World,
    issuer: Service,
    relay: Service,
}

impl Scene {
    fn new() -> Self {
        let world = World::default();
        // As the proxy of a test knows them.
        world.set_addresses(&["http://relay.test"], "http://issuer.test");
        let (issuer, relay) = (world.start_issuer(), world.start_relay());
        Self { world, issuer, relay }
    }

    fn of(&self, person: &str, args: &[&str]) -> String {
        succeed(&mut self.world.tocyn_of(person, args))
    }

    /// What a command that must fail says.
    fn refuses(&self, person: &str, args: &[&str]) -> String {
        let output = output(&mut self.world.tocyn_of(person, args));
        assert_eq!(output.status.code(), Some(1), "{args:?}");
        String::from_utf8(output.stderr).unwrap()
    }

    /// Ann makes the group, the others join, and all have tokens.
    fn group(&self, others: &[&str], tokens: u64) {
        let (issuer, relay) = (self.issuer.url(), self.relay.url());
        let create = ["group", "create", "friends", "--relay", relay, "--issuer", issuer];
        self.of("ann", &[&create[..], &["--as", "Ann"]].concat());
        let invite = self.of("ann", &["group", "invite", "friends"]);
        for person in others {
            let mut join = self.world.tocyn_of(person, &["group", "join", "-", "--as", person]);
            let said = with_input(&mut join, invite.as_bytes());
            assert!(said.contains("you are a member of friends"), "{said}");
        }
        for person in others.iter().chain(&["ann"]) {
            self.buy(person, tokens);
        }
    }

    fn buy(&self, person: &str, tokens: u64) {
        let (voucher, count) = (self.world.voucher(tokens), tokens.to_string());
        let request = ["request", "--group", "friends"];
        self.of(person, &[&request[..], &["--voucher", &voucher, "--count", &count]].concat());
    }

    /// Cells that all can read, so that the log gets longer.
    async fn fill(&self, cells: usize) {
        let http = http_client();
        let tokens = buy(&http, self.issuer.url(), &self.world.voucher(512), cells).await;
        for (n, token) in tokens.iter().enumerate() {
            let cell = cell(&format!("filler {n}"));
            let answer = post(&http, self.relay.url(), &bound(token, &cell), &cell).await.unwrap();
            assert_eq!(answer.status().as_u16(), 201);
        }
    }
}

impl Scene {
    /// Starts the relay again, so that it keeps so many cells.
    async fn keep(self, cells: u64) -> Self {
        let config = self.world.relay_data().join("config.toml");
        let text = std::fs::read_to_string(&config).unwrap();
        let line = text.lines().find(|line| line.starts_with("max_bytes = ")).unwrap();
        let bounded = text.replace(line, &format!("max_bytes = {}", cells * 2048));
        std::fs::write(&config, bounded).unwrap();
        let relay = self.world.start_relay_after(self.relay);
        let scene = Self { relay, ..self };
        // Retention runs at the start.
        loop {
            let info = member::relay(scene.relay.url()).info().await.unwrap();
            if info.head + 1 - info.oldest <= cells {
                return scene;
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    }
}

/// Runs a command with this input that must succeed; gives its stdout.
fn with_input(command: &mut Command, input: &[u8]) -> String {
    command.stdin(Stdio::piped()).stdout(Stdio::piped());
    let mut child = command.spawn().unwrap();
    child.stdin.take().unwrap().write_all(input).unwrap();
    let output = child.wait_with_output().unwrap();
    assert!(output.status.success(), "{command:?}");
    String::from_utf8(output.stdout).unwrap()
}

/// Who said what, in the order in which it is shown.
fn said(shown: &str) -> Vec<(String, String)> {
    shown
        .lines()
        .map(|line| {
            let message: serde_json::Value = serde_json::from_str(line).unwrap();
            let text = |name: &str| message[name].as_str().unwrap_or_default().to_owned();
            (text("name"), text("text"))
        })
        .collect()
}

#[test]
fn a_conversation_from_the_invite_on() {
    let scene = Scene::new();
    scene.group(&["Bob", "Cyd"], 16);
    assert_eq!(scene.of("ann", &["send", "friends", "hello"]), "sent in 1 cells\n");
    assert!(scene.of("Bob", &["sync"]).contains("1 new messages in 1 cells"));
    with_input(&mut scene.world.tocyn_of("Bob", &["send", "friends", "-"]), b"hello Ann\n");
    // A long one: several cells, several tokens, and its price is told before.
    let long = "abcdefghi\n".repeat(1000);
    let file = scene.world.path().join("long.txt");
    std::fs::write(&file, &long).unwrap();
    let send = ["send", "friends", "--file", file.to_str().unwrap()];
    let cost = scene.of("Cyd", &[&["--json"], &send[..], &["--cost"]].concat());
    assert_eq!(cost, "{\"cells\":6,\"tokens\":16,\"waiting\":0}\n");
    let sent = output(&mut scene.world.tocyn_of("Cyd", &send));
    assert_eq!(String::from_utf8(sent.stdout).unwrap(), "sent in 6 cells\n");
    let told = String::from_utf8(sent.stderr).unwrap();
    assert!(told.contains("takes 6 cells") && told.contains("the wallet has 16"), "{told}");

    for person in ["ann", "Bob", "Cyd"] {
        let synced = scene.of(person, &["sync"]);
        assert!(synced.contains("the log has 8 messages"), "{synced}");
        let shown = scene.of(person, &["--json", "show", "friends"]);
        let mut said = said(&shown);
        said.sort();
        let expected = [("Ann", "hello"), ("Bob", "hello Ann\n"), ("Cyd", long.as_str())];
        assert_eq!(said, expected.map(|(name, text)| (name.to_owned(), text.to_owned())));
        assert!(scene.of(person, &["check"]).starts_with("friends: 3 messages of 3 members\n"));
    }
    let shown = scene.of("ann", &["show", "friends"]);
    assert!(shown.contains("Bob [") && shown.contains("\thello Ann\n"), "{shown}");
    assert!(shown.contains("] (you)\n\thello\n"), "{shown}");
    // Everything again gives nothing new.
    let again = scene.of("Bob", &["sync", "--resync"]);
    assert!(again.contains("0 new messages in 8 cells"), "{again}");
    assert_eq!(scene.of("Bob", &["check"]), "friends: 3 messages of 3 members\n");
    // Who joins later reads all that was said.
    let invite = scene.of("Bob", &["--json", "group", "invite", "friends"]);
    let invite: serde_json::Value = serde_json::from_str(&invite).unwrap();
    let join = ["group", "join", invite["invite"].as_str().unwrap(), "--name", "pals"];
    scene.of("dai", &join);
    assert!(scene.of("dai", &["sync"]).contains("3 new messages in 8 cells"));
    assert!(scene.of("dai", &["group", "list"]).starts_with("pals: 3 messages of 3 members, at "));
    assert!(scene.refuses("dai", &join).contains("already"));
    scene.of("dai", &["group", "leave", "pals"]);
    assert!(scene.of("dai", &["group", "list"]).contains("in no group"));
}

#[test]
fn what_cannot_be_done_is_said() {
    let scene = Scene::new();
    scene.group(&[], 16);
    let refuses = |args: &[&str]| scene.refuses("ann", args);
    assert!(refuses(&["send", "foes", "x"]).contains("no group called foes"));
    assert!(refuses(&["show", "foes"]).contains("no group called foes"));
    assert!(refuses(&["send", "friends", ""]).contains("is empty"));
    let long = scene.world.path().join("long");
    std::fs::write(&long, vec![b'x'; 40_000]).unwrap();
    let long = long.to_str().unwrap();
    let error = refuses(&["send", "friends", "--file", long]);
    assert!(error.contains("22 tokens are needed and the wallet has 16"), "{error}");
    let too_long = scene.world.path().join("too long");
    std::fs::write(&too_long, vec![b'x'; 9_000_000]).unwrap();
    let error = refuses(&["send", "friends", "--file", too_long.to_str().unwrap()]);
    assert!(error.contains("has at most"), "{error}");
    assert_eq!(scene.of("ann", &["send", "friends", "--resume"]), "nothing waits to be sent\n");
    let (issuer, relay) = (scene.issuer.url(), scene.relay.url());
    let create = |name: &'static str| {
        refuses(&["group", "create", name, "--relay", relay, "--issuer", issuer])
    };
    assert!(create("friends").contains("another group called friends"));
    assert!(create(" ").contains("must not be empty"));
    for invite in ["tocyn:group:AAAA", "hello", "tocyn:group:"] {
        let error = refuses(&["group", "join", invite]);
        assert!(error.contains("invite"), "{error}");
    }
    assert!(scene.refuses("bob", &["sync"]).contains("there is no wallet in"));
    let no_file = refuses(&["evidence", "verify", "/nonexistent"]);
    assert!(no_file.contains("/nonexistent"), "{no_file}");
    assert!(refuses(&["evidence", "verify", long]).contains("no evidence file"));
    // A relay that answers with another log's key.
    let other = World::default();
    let other_relay = other.start_relay();
    let mirror = refuses(&["sync", "--mirror", other_relay.url()]);
    assert!(mirror.contains("another relay"), "{mirror}");
}

#[test]
fn who_follows_sees_what_is_said_and_others_may_use_the_wallet_meanwhile() {
    let scene = Scene::new();
    scene.group(&["Bob"], 16);
    let mut follow = scene.world.tocyn_of("Bob", &["show", "friends", "--follow"]);
    let mut follow = follow.stdout(Stdio::piped()).spawn().unwrap();
    let lines = BufReader::new(follow.stdout.take().unwrap()).lines();
    let mut texts = lines.map(Result::unwrap).filter(|line| line.starts_with('\t'));
    for n in 0..4 {
        scene.of("ann", &["send", "friends", &format!("ann {n}")]);
        assert_eq!(texts.next().unwrap(), format!("\tann {n}"));
        scene.of("Bob", &["send", "friends", &format!("bob {n}")]);
        assert_eq!(texts.next().unwrap(), format!("\tbob {n}"));
    }
    follow.kill().unwrap();
    follow.wait().unwrap();
}

#[test]
fn a_relay_that_moves_takes_its_groups_with_it() {
    let mut scene = Scene::new();
    scene.group(&[], 16);
    scene.of("ann", &["send", "friends", "before"]);
    let moved = scene.world.start_relay_after(scene.relay);
    scene.relay = moved;
    let error = scene.refuses("ann", &["send", "friends", "lost"]);
    assert!(error.contains("does not answer"), "{error}");
    scene.of("ann", &["relay", "look", scene.relay.url()]);
    scene.of("ann", &["send", "friends", "after"]);
    assert!(scene.of("ann", &["sync"]).contains("2 new messages in 2 cells"));
}

fn files(dir: &Path) -> Vec<String> {
    let mut found = Vec::new();
    let mut dirs = vec![dir.to_owned()];
    while let Some(next) = dirs.pop() {
        for entry in std::fs::read_dir(next).unwrap() {
            let path = entry.unwrap().path();
            match path.is_dir() {
                true => dirs.push(path),
                false => found.push(path.strip_prefix(dir).unwrap().to_str().unwrap().to_owned()),
            }
        }
    }
    found.sort();
    found
}

#[tokio::test(flavor = "multi_thread")]
async fn a_mirror_gives_the_same_and_one_that_lies_is_found_out() {
    let scene = Scene::new();
    scene.group(&["Bob", "Cyd", "Dai", "Eve", "Fay"], 16);
    scene.fill(250).await;
    scene.of("ann", &["send", "friends", "hello"]);
    let dir = scene.world.path().join("mirror");
    let mirror = ["mirror", dir.to_str().unwrap(), "--relay", scene.relay.url()];
    std::fs::create_dir(&dir).unwrap();
    std::fs::write(dir.join("index.html"), "mine").unwrap();
    assert!(scene.refuses("ann", &mirror).contains("has other files than those of a mirror"));
    std::fs::remove_file(dir.join("index.html")).unwrap();
    assert_eq!(scene.of("ann", &mirror), "251 new messages; messages 1 to 251 are here\n");
    assert_eq!(
        files(&dir),
        ["checkpoint", "lock", "tile/0/000.p/251", "tile/entries/000.p/251", "v1/info"]
    );
    scene.fill(20).await;
    std::fs::write(scene.world.path().join("text"), "y".repeat(5000)).unwrap();
    let text = scene.world.path().join("text");
    scene.of("ann", &["send", "friends", "--file", text.to_str().unwrap()]);
    assert_eq!(scene.of("ann", &mirror), "23 new messages; messages 1 to 274 are here\n");
    assert_eq!(scene.of("ann", &mirror), "0 new messages; messages 1 to 274 are here\n");
    assert_eq!(
        files(&dir),
        [
            "checkpoint",
            "lock",
            "tile/0/000",
            "tile/0/001.p/18",
            "tile/1/000.p/1",
            "tile/entries/000",
            "tile/entries/001.p/18",
            "v1/info"
        ]
    );
    // A mirror of the mirror is the same again.
    let server = FileServer::start(&dir).await;
    let copy = scene.world.path().join("copy");
    scene.of("ann", &["mirror", copy.to_str().unwrap(), "--relay", server.url()]);
    assert_eq!(files(&copy), files(&dir));
    for file in files(&copy).iter().filter(|file| *file != "v1/info") {
        assert!(std::fs::read(copy.join(file)).unwrap() == std::fs::read(dir.join(file)).unwrap());
    }
    // Bob reads from the relay, Cyd from the mirror; both get the same.
    let by_relay = scene.of("Bob", &["sync"]);
    let by_mirror = scene.of("Cyd", &["sync", "--mirror", server.url()]);
    assert_eq!(by_relay, by_mirror);
    assert!(by_mirror.contains("2 new messages in 274 cells"), "{by_mirror}");
    let show = |person| said(&scene.of(person, &["--json", "show", "friends"]));
    assert_eq!(show("Bob"), show("Cyd"));
    // A copy that lags behind is no fault; the rest comes from the relay.
    scene.of("Cyd", &["send", "friends", "more"]);
    scene.of("Cyd", &["sync"]);
    let lagging = scene.of("Cyd", &["sync", "--resync", "--mirror", server.url()]);
    assert!(lagging.contains("in 274 cells"), "{lagging}");
    assert!(scene.of("Cyd", &["sync"]).contains("in 1 cells"));
    scene.of("Bob", &["sync"]);
    scene.of("Bob", &["sync", "--mirror", server.url()]);
    assert_eq!(show("Bob").len(), 3);

    // A copy that claims to begin later makes nobody pass anything over.
    let info = std::fs::read_to_string(dir.join("v1/info")).unwrap();
    std::fs::write(dir.join("v1/info"), info.replace("\"oldest\": 1,", "\"oldest\": 275,"))
        .unwrap();
    let error = scene.refuses("Dai", &["sync", "--mirror", server.url()]);
    assert!(error.contains("begins with message 275"), "{error}");
    std::fs::write(dir.join("v1/info"), info).unwrap();

    // A mirror that lies: in a cell, in a hash, in the checkpoint.
    let sync = ["sync", "--mirror", server.url()];
    for (person, file, at, expected) in [
        ("Dai", "tile/entries/000", 5_000, "another message 3 than the log"),
        ("Eve", "tile/0/000", 40, "do not lead to the checkpoint"),
        ("Fay", "checkpoint", 20, "checkpoint that cannot be used"),
    ] {
        let path = dir.join(file);
        let good = std::fs::read(&path).unwrap();
        let mut bad = good.clone();
        bad[at] = if bad[at] == b'0' { b'1' } else { b'0' };
        std::fs::write(&path, bad).unwrap();
        let error = scene.refuses(person, &sync);
        assert!(error.contains(expected), "{file}: {error}");
        std::fs::write(&path, good).unwrap();
    }
    // What is true again is read, and nothing is held against the relay.
    for person in ["Dai", "Eve", "Fay"] {
        let synced = output(&mut scene.world.tocyn_of(person, &sync));
        assert_eq!(show(person).len(), 2, "{synced:?}");
        assert_eq!(synced.status.code(), Some(0), "{synced:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_mirror_keeps_what_the_relay_drops() {
    let mut scene = Scene::new();
    let dir = scene.world.path().join("mirror");
    let late = scene.world.path().join("late");
    let mirror = |scene: &Scene, dir: &Path| {
        scene.of("ann", &["mirror", dir.to_str().unwrap(), "--relay", scene.relay.url()])
    };
    scene.fill(10).await;
    assert_eq!(mirror(&scene, &dir), "10 new messages; messages 1 to 10 are here\n");
    // The relay drops the first ones, but none that the copy lacks.
    scene.fill(6).await;
    scene = scene.keep(8).await;
    assert_eq!(mirror(&scene, &dir), "6 new messages; messages 1 to 16 are here\n");
    // A copy that begins now has to wait for the next bundle.
    assert!(mirror(&scene, &late).contains("after message 16"), "{}", mirror(&scene, &late));
    // The relay drops some that the copy lacks: the bundle cannot be had whole any more.
    scene.fill(20).await;
    scene = scene.keep(3).await;
    assert!(mirror(&scene, &dir).contains("what comes after message 36 will be here"));
    scene = scene.keep(1000).await;
    scene.fill(222).await;
    for dir in [&dir, &late] {
        let said = mirror(&scene, dir);
        assert!(said.ends_with("messages 257 to 258 are here\n"), "{said}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn buying_posting_and_reading_have_nothing_in_common_on_the_way() {
    let scene = Scene::new();
    let proxy = SocksProxy::start([
        ("issuer.test", scene.issuer.address()),
        ("relay.test", scene.relay.address()),
    ])
    .await;
    let through = |args: &[&str]| {
        // The names are known to the proxy alone: whoever looked them up here would fail.
        scene.of("ann", &[&["--proxy", proxy.url()], args].concat());
        proxy.take_connections()
    };
    let urls = ["--relay", "http://relay.test", "--issuer", "http://issuer.test"];
    let create = through(&[&["group", "create", "friends"], &urls[..]].concat());
    let voucher = scene.world.voucher(16);
    let paying = ["--voucher", &voucher, "--count", "16"];
    let request = through(&[&["request"], &urls[..], &paying].concat());
    let send = through(&["send", "friends", "hello"]);
    let sync = through(&["sync"]);
    let again = through(&["sync", "--resync"]);
    let runs = [create, request, send, sync, again];
    for run in &runs {
        assert!(run.len() >= 2, "{run:?}");
    }
    let mut credentials: Vec<_> =
        runs.iter().flatten().map(|c| (&c.credentials, &c.host)).collect();
    let all = credentials.len();
    credentials.sort();
    credentials.dedup();
    assert_eq!(credentials.len(), all, "no two connections share a circuit");
}
