//! What strangers without a token may cost, and what they may see: readers that read nothing, those
//! that follow, silent connections where files are few, browsers, names that must not leave.

use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use reqwest::header::{AUTHORIZATION, CONTENT_TYPE};
use tocyn_e2e::bearer::{batch, bound, buy, cell, current_key, http_client, post, send};
use tocyn_e2e::programs::program;
use tocyn_e2e::raw_http::head;
use tocyn_e2e::service::{Service, serve};
use tocyn_e2e::socks::SocksProxy;
use tocyn_e2e::world::{RELAY_ADDRESS, World, output, succeed};
use tocyn_protocol::problem::{Problem, ProblemType};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use crate::heavy;

const ONION: &str = "abcdefghijklmnopqrstuvwxyz234567abcdefghijklmnopqrstuvwxyz23.onion";

/// Posts so many messages.
async fn fill(world: &World, issuer: &Service, relay: &Service, messages: usize) {
    let http = http_client();
    for from in (0..messages).step_by(512) {
        let count = 512.min(messages - from);
        let voucher = world.voucher(512);
        let tokens = buy(&http, issuer.url(), &voucher, 512).await;
        let posts = tokens.iter().take(count).enumerate().map(|(n, token)| {
            let (http, url) = (http.clone(), relay.url().to_owned());
            let cell = cell(&format!("message {}", from + n));
            let authorization = bound(token, &cell);
            async move { post(&http, &url, &authorization, &cell).await.unwrap().status() }
        });
        let posted = futures_util::future::join_all(posts).await;
        assert!(posted.iter().all(|status| *status == 201), "{posted:?}");
    }
}

fn resident_bytes(id: u32, what: &str) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{id}/status")).unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix(what)).unwrap();
    line.trim().strip_suffix(" kB").unwrap().parse::<u64>().unwrap() << 10
}

/// Memory of the kernel for what was sent from this port and not taken, as `ss` shows it.
fn unsent_bytes(port: &str) -> u64 {
    let listed = Command::new("ss").args(["-tmnH", "sport", "=", port]).output().unwrap();
    let text = String::from_utf8(listed.stdout).unwrap();
    let of = |memory: &str| {
        let (_, rest) = memory.split_once("skmem:(")?;
        let fields = rest.split([',', ')']);
        let field = |name: &str| {
            let found = fields.clone().find_map(|field| field.strip_prefix(name));
            found.and_then(|number| number.parse::<u64>().ok()).unwrap_or(0)
        };
        Some(field("t").max(field("w")))
    };
    text.lines().filter_map(of).sum()
}

/// A thousand readers, each of which asks for everything and takes nothing.
#[tokio::test(flavor = "multi_thread")]
async fn a_thousand_readers_that_take_nothing_cost_little_memory() {
    let _turn = heavy().await;
    let world = World::default();
    let (issuer, relay) = (world.start_issuer(), world.start_relay());
    fill(&world, &issuer, &relay, 1024).await;
    let mut readers = Vec::new();
    for _ in 0..1000 {
        let socket = tokio::net::TcpSocket::new_v4().unwrap();
        socket.set_recv_buffer_size(4096).unwrap();
        let mut stream = socket.connect(relay.address().parse().unwrap()).await.unwrap();
        stream.write_all(&head("GET", "/v1/messages?after=0", &[])).await.unwrap();
        readers.push(stream);
    }
    tokio::time::sleep(Duration::from_secs(3)).await;
    let port = format!(":{}", relay.address().rsplit_once(':').unwrap().1);
    let (resident, unsent) = (resident_bytes(relay.id(), "VmRSS:"), unsent_bytes(&port));
    println!("1000 readers: {} MiB resident, {} MiB unsent", resident >> 20, unsent >> 20);
    assert!(resident < 100 << 20, "{resident} bytes");
    assert!(unsent > 1 << 20, "they hold something: {unsent}");
    assert!(unsent < 300 << 20, "{unsent} bytes");
    // One that does read gets everything meanwhile.
    let all = http_client().get(format!("{}/v1/messages", relay.url())).send().await.unwrap();
    assert_eq!(all.bytes().await.unwrap().len(), 1024 * (8 + 2048));
}

/// The budget is so small that readers who take nothing hold all of it: they are cut off for others.
#[tokio::test(flavor = "multi_thread")]
async fn readers_that_hold_the_budget_are_cut_off_for_others() {
    let world = World::default();
    let issuer = world.start_issuer();
    let mut command = serve("tocyn-relay", &world.relay_data(), "127.0.0.1:0");
    command.env("TOCYN_RELAY__LIMITS__READER_BYTES", (1 << 20).to_string());
    command.env("TOCYN_RELAY__LIMITS__SEND_BUFFER_BYTES", "16384");
    command.env("TOCYN_RELAY__LIMITS__WRITE_TIMEOUT", "1h");
    let relay = Service::run(&mut command, &world.relay_data());
    fill(&world, &issuer, &relay, 512).await;
    let mut readers = Vec::new();
    for _ in 0..60 {
        let socket = tokio::net::TcpSocket::new_v4().unwrap();
        socket.set_recv_buffer_size(4096).unwrap();
        let mut stream = socket.connect(relay.address().parse().unwrap()).await.unwrap();
        stream.write_all(&head("GET", "/v1/messages?after=0", &[])).await.unwrap();
        readers.push(stream);
    }
    let ask = http_client().get(format!("{}/v1/messages", relay.url())).send();
    let all = tokio::time::timeout(Duration::from_secs(30), ask).await.expect("in time").unwrap();
    assert_eq!(all.bytes().await.unwrap().len(), 512 * (8 + 2048));
    assert!(resident_bytes(relay.id(), "VmHWM:") < 100 << 20);
}

/// One more than there are places: the one that follows longest is sent away, and goes on by itself.
#[tokio::test(flavor = "multi_thread")]
async fn the_oldest_follower_makes_room_for_a_new_one() {
    let world = World::default();
    let mut command = serve("tocyn-relay", &world.relay_data(), "127.0.0.1:0");
    command.env("TOCYN_RELAY__LIMITS__MAX_FOLLOWERS", "2");
    let relay = Service::run(&mut command, &world.relay_data());
    let follow = async || {
        let url = format!("{}/v1/messages?follow=true", relay.url());
        let answer = http_client().get(url).send().await.unwrap();
        assert_eq!(answer.status(), 200);
        answer
    };
    let mut followers = vec![follow().await, follow().await, follow().await];
    let mut oldest = followers.remove(0);
    let end = tokio::time::timeout(Duration::from_secs(10), oldest.chunk()).await;
    assert_eq!(end.expect("its stream ends").unwrap(), None, "as one that has all");
    for follower in &mut followers {
        let waits = tokio::time::timeout(Duration::from_millis(300), follower.chunk()).await;
        assert!(waits.is_err(), "{waits:?}");
    }
}

/// Silent connections where the limit on open files is below `max_connections`: as few as the hard
/// limit leaves are kept, and a soft one is raised.
#[tokio::test(flavor = "multi_thread")]
async fn silent_connections_shut_nobody_out_where_files_are_few() {
    let _turn = heavy().await;
    for (limits, silent) in [("ulimit -Sn 1024", 1100), ("ulimit -n 256", 400)] {
        let world = World::default();
        let mut command = Command::new("bash");
        let start = format!("{limits}; exec \"$@\"");
        command.args(["-c", &start, "bash"]).arg(program("tocyn-relay")).arg("--data");
        command.arg(world.relay_data()).args(["serve", "--listen", "127.0.0.1:0"]);
        let relay = Service::run(&mut command, &world.relay_data());
        let mut crowd = Vec::new();
        for _ in 0..silent {
            crowd.push(TcpStream::connect(relay.address()).await.unwrap());
        }
        for _ in 0..5 {
            let start = Instant::now();
            let answer =
                http_client().get(format!("{}/v1/info", relay.url())).send().await.unwrap();
            assert_eq!(answer.status(), 200);
            let waited = start.elapsed();
            println!("{limits}: answered after {waited:?}");
            assert!(waited < Duration::from_secs(5), "{limits}: {waited:?}");
            crowd.push(TcpStream::connect(relay.address()).await.unwrap());
        }
        let said = relay.log().matches("Too many open files").count();
        assert!(said <= 1, "it is said once: {said}");
        let warned = relay.log().contains("limit on open files has room for");
        assert_eq!(warned, limits.contains("-n 256"), "{}", relay.log());
    }
}

/// The Authorization header that takes longest to refuse, end to end, beside one that is harmless.
#[tokio::test(flavor = "multi_thread")]
async fn the_worst_header_costs_little_more_than_a_harmless_one() {
    let _turn = heavy().await;
    let world = World::default();
    let relay = world.start_relay();
    let numbered: String = (0..4000).map(|n| format!("{n:x}=,")).collect();
    let worst = format!("PrivateToken {}", &numbered[..8000]);
    let harmless = format!("PrivateToken token=\"{}\"", "A".repeat(8000));
    let mut fastest = [Duration::MAX; 2];
    for _ in 0..10 {
        for (value, fastest) in [&harmless, &worst].into_iter().zip(&mut fastest) {
            let headers =
                [("Authorization", value.as_str()), ("Content-Type", "application/octet-stream")];
            let request = [head("POST", "/v1/messages", &headers), b"".to_vec()].concat();
            let start = Instant::now();
            for _ in 0..20 {
                let mut stream = TcpStream::connect(relay.address()).await.unwrap();
                stream.write_all(&request).await.unwrap();
                let mut answer = String::new();
                stream.read_to_string(&mut answer).await.unwrap();
                assert!(answer.starts_with("HTTP/1.1 401"), "{answer}");
            }
            *fastest = start.elapsed().min(*fastest);
        }
    }
    let ratio = fastest[1].as_secs_f64() / fastest[0].as_secs_f64();
    println!("the worst header takes {ratio:.2} times as long as a harmless one");
    assert!(ratio < 3.0, "{ratio}");
}

/// Pages of any site may use both services.
#[tokio::test(flavor = "multi_thread")]
async fn browsers_may_read_and_buy() {
    let world = World::default();
    let (issuer, relay) = (world.start_issuer(), world.start_relay());
    let http = http_client();
    let open = |answer: &reqwest::Response| {
        assert_eq!(answer.headers()["access-control-allow-origin"], "*", "{answer:?}");
    };
    for (service, path, status) in [
        (&relay, "/checkpoint", 200),
        (&relay, "/v1/info", 200),
        (&relay, "/v1/messages", 200),
        (&relay, "/tile/0/000", 404),
        (&relay, "/openapi.json", 200),
        (&issuer, "/.well-known/private-token-issuer-directory", 200),
        (&issuer, "/nothing", 404),
    ] {
        let asked =
            http.get(format!("{}{path}", service.url())).header("Origin", "https://a.example");
        let answer = asked.send().await.unwrap();
        assert_eq!(answer.status(), status, "{path}");
        open(&answer);
    }
    for (service, path, method) in
        [(&issuer, "/token-request", "POST"), (&relay, "/v1/messages", "POST")]
    {
        let preflight = http
            .request(reqwest::Method::OPTIONS, format!("{}{path}", service.url()))
            .header("Origin", "https://a.example")
            .header("Access-Control-Request-Method", method)
            .header("Access-Control-Request-Headers", "authorization,content-type");
        let answer = preflight.send().await.unwrap();
        assert_eq!(answer.status(), 200, "{path}");
        open(&answer);
        let allowed = answer.headers()["access-control-allow-headers"].to_str().unwrap();
        assert!(allowed.contains("authorization"), "{allowed}");
    }
    let key = current_key(&http, issuer.url()).await;
    let body = batch(&key, 16).0.to_bytes();
    let answer = send(&http, issuer.url(), &world.voucher(16), body).await.unwrap();
    assert_eq!(answer.status(), 200);
    open(&answer);
    let refused = http.post(format!("{}/v1/messages", relay.url())).send().await.unwrap();
    assert_eq!(refused.status(), 401);
    open(&refused);
    let exposed = &refused.headers()["access-control-expose-headers"];
    assert_eq!(exposed, "retry-after,www-authenticate,date");
}

/// RFC 9110: types compare without regard to case, and may have parameters.
#[tokio::test(flavor = "multi_thread")]
async fn media_types_may_be_written_in_other_ways() {
    let world = World::default();
    let (issuer, relay, http) = (world.start_issuer(), world.start_relay(), http_client());
    let tokens = buy(&http, issuer.url(), &world.voucher(16), 16).await;
    for (token, written) in tokens.iter().zip([
        "Application/Octet-Stream",
        "application/octet-stream; charset=binary",
        "application/octet-stream;x=\"y\"",
    ]) {
        let cell = cell(written);
        let posted = http
            .post(format!("{}/v1/messages", relay.url()))
            .header(CONTENT_TYPE, written)
            .header(AUTHORIZATION, bound(token, &cell))
            .body(cell);
        assert_eq!(posted.send().await.unwrap().status(), 201, "{written}");
    }
}

/// A voucher that is empty pays for no more than some refusals a minute.
#[tokio::test(flavor = "multi_thread")]
async fn an_empty_voucher_buys_no_work_without_end() {
    let world = World::default();
    let (issuer, http) = (world.start_issuer(), http_client());
    let key = current_key(&http, issuer.url()).await;
    let (empty, good) = (world.voucher(16), world.voucher(16));
    let body = batch(&key, 512).0.to_bytes();
    let mut seen = Vec::new();
    for _ in 0..70 {
        let answer = send(&http, issuer.url(), &empty, body.clone()).await.unwrap();
        let retry_after = answer.headers().get("retry-after").cloned();
        let problem: Problem = answer.json().await.unwrap();
        let kind = problem.problem_type().unwrap();
        assert_eq!(kind == ProblemType::TooManyRefusals, retry_after.is_some());
        seen.push(kind);
    }
    assert!(seen[..60].iter().all(|kind| *kind == ProblemType::VoucherExhausted), "{seen:?}");
    assert!(seen[60..].iter().all(|kind| *kind == ProblemType::TooManyRefusals), "{seen:?}");
    // Nobody else is refused for it.
    let body = batch(&key, 16).0.to_bytes();
    assert_eq!(send(&http, issuer.url(), &good, body).await.unwrap().status(), 200);
}

/// The name of an onion service is asked of no resolver, whoever would.
#[test]
fn an_onion_name_leaves_through_a_proxy_or_not_at_all() {
    let world = World::default();
    let _relay = world.start_relay();
    let message = world.path().join("message");
    std::fs::write(&message, "hello").unwrap();
    let refused = |args: &[&str]| {
        let refused = output(world.tocyn(args).stdin(Stdio::null()));
        let said = String::from_utf8(refused.stderr).unwrap();
        assert_eq!(refused.status.code(), Some(1), "{args:?}: {said}");
        assert!(said.contains("is an onion service, which only Tor reaches"), "{args:?}: {said}");
        assert!(said.contains("TOCYN_PROXY"), "{said}");
    };
    for url in [
        format!("http://{ONION}"),
        format!("https://{ONION}:8443/relay"),
        format!("http://{}", ONION.to_uppercase()),
        format!("http://{ONION}."),
        format!("http://www.{ONION}"),
    ] {
        refused(&["info", &url]);
        refused(&["read", "--relay", &url]);
        refused(&["post", "--relay", &url, message.to_str().unwrap()]);
        refused(&["relay", "look", &url]);
        refused(&["mirror", world.path().join("copy").to_str().unwrap(), "--relay", &url]);
    }
    for host in [ONION.to_owned(), ONION.to_uppercase(), format!("{ONION}.")] {
        let mut doctor = Command::new(program("tocyn-relay"));
        doctor.arg("--data").arg(world.relay_data()).arg("doctor");
        doctor.arg("--issuer").arg(format!("http://{host}:80/issuer"));
        let said = String::from_utf8(output(&mut doctor).stdout).unwrap();
        assert!(said.contains("is an onion service; give the address behind it"), "{said}");
    }
}

/// A proxy that was given once is used by every later command of that wallet, and of its groups.
#[tokio::test(flavor = "multi_thread")]
async fn a_proxy_is_kept_with_the_wallet_and_its_groups() {
    let world = World::default();
    world.set_addresses(&[RELAY_ADDRESS], "http://issuer.example");
    let (issuer, relay) = (world.start_issuer(), world.start_relay());
    let names = [("relay.example", relay.address()), ("issuer.example", issuer.address())];
    let proxy = SocksProxy::start(names).await;
    let kept = world.wallet().join("proxy");
    let run = |args: &[&str]| output(world.tocyn(args).stdin(Stdio::null()));
    // Not known yet, and no resolver knows the name.
    assert_eq!(run(&["info", RELAY_ADDRESS]).status.code(), Some(1));
    let create = ["--proxy", proxy.url(), "group", "create", "friends", "--relay", RELAY_ADDRESS];
    succeed(&mut world.tocyn(&[&create[..], &["--issuer", "http://issuer.example"]].concat()));
    assert_eq!(std::fs::read_to_string(&kept).unwrap().trim(), proxy.url());
    for args in [&["info", RELAY_ADDRESS][..], &["sync"], &["relay", "look", RELAY_ADDRESS]] {
        proxy.take_connections();
        let done = run(args);
        assert!(done.status.success(), "{args:?}: {}", String::from_utf8_lossy(&done.stderr));
        assert!(!proxy.take_connections().is_empty(), "{args:?} went through the proxy");
    }
    // Not for what is on this machine, where it could reach nothing.
    assert!(run(&["info", relay.url()]).status.success());
    assert!(proxy.take_connections().is_empty());
    // --direct goes without, this time.
    let direct = run(&["--direct", "info", RELAY_ADDRESS]);
    assert_eq!(direct.status.code(), Some(1));
    assert!(proxy.take_connections().is_empty());
    // The group keeps it by itself.
    std::fs::remove_file(&kept).unwrap();
    assert!(run(&["sync"]).status.success());
    assert!(!proxy.take_connections().is_empty());
    assert_eq!(run(&["info", RELAY_ADDRESS]).status.code(), Some(1));
    // What needs no wallet keeps it too; a later proxy is for the groups as well.
    succeed(&mut world.tocyn_of("eve", &["--proxy", proxy.url(), "info", RELAY_ADDRESS]));
    assert!(output(&mut world.tocyn_of("eve", &["info", RELAY_ADDRESS])).status.success());
    let other = SocksProxy::start(names).await;
    assert!(run(&["--proxy", other.url(), "sync"]).status.success());
    proxy.take_connections();
    assert!(run(&["sync"]).status.success());
    assert!(proxy.take_connections().is_empty() && !other.take_connections().is_empty());
    std::fs::remove_file(&kept).unwrap();
    // The variable says it too.
    let mut info = world.tocyn(&["info", RELAY_ADDRESS]);
    assert!(output(info.env("TOCYN_PROXY", proxy.url())).status.success());
    // What cannot be used is named with its place.
    std::fs::write(&kept, "http://127.0.0.1:1").unwrap();
    let said = String::from_utf8(run(&["info", RELAY_ADDRESS]).stderr).unwrap();
    assert!(said.contains("proxy names no proxy that can be used"), "{said}");
}

/// A copy is for a file server, which is another user.
#[test]
fn a_mirror_can_be_handed_out_whatever_the_umask_is() {
    use std::os::unix::fs::PermissionsExt;
    let world = World::default();
    let relay = world.start_relay();
    let copy = world.path().join("srv/copies/one");
    let mut mirror = Command::new("bash");
    mirror.args(["-c", "umask 077; exec \"$@\"", "bash"]).arg(program("tocyn"));
    mirror
        .arg("--wallet")
        .arg(world.wallet())
        .arg("mirror")
        .arg(&copy)
        .args(["--relay", relay.url()]);
    succeed(&mut mirror);
    let mode = |path: &std::path::Path| {
        std::fs::metadata(path).unwrap_or_else(|_| panic!("{path:?}")).permissions().mode() & 0o777
    };
    for folder in ["srv", "srv/copies", "srv/copies/one", "srv/copies/one/v1"] {
        assert_eq!(mode(&world.path().join(folder)), 0o755, "{folder}");
    }
    for file in ["checkpoint", "v1/info"] {
        assert_eq!(mode(&copy.join(file)), 0o644, "{file}");
    }
}

/// An error names the variable that it is about, and what is empty is said.
#[test]
fn errors_of_settings_name_their_place() {
    let world = World::default();
    for (name, value, says) in [
        ("TOCYN_RELAY__RETENTION__MAX_AGE", "30", "expected a duration"),
        ("TOCYN_RELAY__LIMITS__BODY_TIMEOUT", "soon", "expected"),
        ("TOCYN_RELAY__LISTEN", "7802", "ADDR:PORT"),
        ("TOCYN_RELAY__LIMITS__MAX_POSTS", "0", "must be"),
        ("TOCYN_RELAY__CELL_BYTES", "3", "cell_bytes must be"),
        ("TOCYN_RELAY__ADMIN__LISTEN", "", "is empty"),
        ("TOCYN_RELAY__LIMITS__SEND_BUFFER_BYTES", "1", "must be from"),
        ("TOCYN_RELAY__DATABASE__URL", "mysql://user@host/name", "give sqlite://"),
        ("TOCYN_RELAY__DATABASE__URL", "postgres://u@abc.onion/x", "onion service"),
        ("TOCYN_RELAY__ADMIN__HOSTS", "metrics.example:7812", "without a port"),
    ] {
        let mut show = Command::new(program("tocyn-relay"));
        show.arg("--data").arg(world.relay_data()).args(["config", "validate"]).env(name, value);
        let shown = output(&mut show);
        let said = String::from_utf8(shown.stderr).unwrap();
        assert_eq!(shown.status.code(), Some(1), "{name}: {said}");
        assert!(said.contains(&format!("{name}: ")), "{name}: {said}");
        assert!(said.contains(says) && !said.contains("config.toml"), "{name}: {said}");
    }
    // A list that is meant to be empty.
    let mut validate = Command::new(program("tocyn-relay"));
    validate.arg("--data").arg(world.relay_data()).args(["config", "validate"]);
    succeed(validate.env("TOCYN_RELAY__ADMIN__LISTEN", "[]"));
}

/// Whoever asks for what comes after the exact place of its last visit is known by it: `sync` asks from
/// the start of that place's bundle.
#[tokio::test(flavor = "multi_thread")]
async fn a_sync_does_not_say_where_the_last_one_ended() {
    let world = World::default();
    world.set_addresses(&[RELAY_ADDRESS], "http://issuer.example");
    let (issuer, relay) = (world.start_issuer(), world.start_relay());
    let names = [("relay.example", relay.address()), ("issuer.example", issuer.address())];
    let proxy = SocksProxy::start(names).await;
    let create = ["--proxy", proxy.url(), "group", "create", "friends", "--relay", RELAY_ADDRESS];
    succeed(&mut world.tocyn(&[&create[..], &["--issuer", "http://issuer.example"]].concat()));
    let mut asked = Vec::new();
    for messages in [3, 260, 4, 0] {
        fill(&world, &issuer, &relay, messages).await;
        proxy.take_connections();
        succeed(&mut world.tocyn(&["sync"]));
        for connection in proxy.take_connections() {
            let sent = connection.sent();
            let after = sent.lines().find_map(|line| line.split_once("/v1/messages?after="));
            asked.extend(after.map(|(_, rest)| rest.split(['&', ' ']).next().unwrap().to_owned()));
        }
    }
    assert_eq!(asked, ["0", "0", "256"], "after 3 and 263 messages, and nothing where none is new");
}
