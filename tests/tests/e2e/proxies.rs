//! nginx, Caddy and HAProxy in front of a relay, as their own defaults have them: what is posted gets
//! to those who follow at once, and what a proxy says by itself is told as that.
//! Needs Debian's nginx-light, caddy and haproxy: `./test --proxies`.

use std::net::TcpListener;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use tocyn_e2e::bearer::{bound, buy, cell, http_client, post};
use tocyn_e2e::service::Service;
use tocyn_e2e::world::{World, output, succeed};

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Nginx,
    Caddy,
    Haproxy,
}

/// What is set beside the defaults.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Set {
    Nothing,
    /// Bodies of at most 1 KiB.
    SmallBodies,
    /// One second for an answer.
    ShortTimes,
}

/// A running proxy. Dropping it stops it.
struct Proxy {
    child: Child,
    port: u16,
}

impl Drop for Proxy {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn free_port() -> u16 {
    TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port()
}

impl Proxy {
    async fn start(kind: Kind, dir: &Path, upstream: &str, set: Set) -> Self {
        let port = free_port();
        let dir = dir.join(format!("{kind:?}-{port}"));
        std::fs::create_dir(&dir).unwrap();
        let d = dir.display();
        let file = dir.join("config");
        let (text, mut command) = match kind {
            Kind::Nginx => {
                let more = match set {
                    Set::Nothing => "",
                    Set::SmallBodies => "client_max_body_size 1k;",
                    Set::ShortTimes => "proxy_read_timeout 1s;",
                };
                let text = format!(
                    "user root; daemon off; pid {d}/pid; error_log {d}/error; events {{}}
                     http {{ access_log off; client_body_temp_path {d}/body; proxy_temp_path {d}/proxy;
                         fastcgi_temp_path {d}/f; uwsgi_temp_path {d}/u; scgi_temp_path {d}/s;
                         server {{ listen 127.0.0.1:{port}; {more}
                             location / {{ proxy_pass http://{upstream}; }} }} }}"
                );
                let mut command = Command::new("nginx");
                command.arg("-e").arg(dir.join("error")).arg("-p").arg(&dir).arg("-c").arg(&file);
                (text, command)
            }
            Kind::Caddy => {
                let (body, times) = match set {
                    Set::Nothing => ("", ""),
                    Set::SmallBodies => ("request_body {\nmax_size 1KB\n}", ""),
                    Set::ShortTimes => ("", "transport http {\nresponse_header_timeout 1s\n}"),
                };
                let text = format!(
                    "{{\nadmin off\n}}\nhttp://127.0.0.1:{port} {{\n{body}\n\
                     reverse_proxy {upstream} {{\n{times}\n}}\n}}\n"
                );
                let mut command = Command::new("caddy");
                command
                    .env("HOME", &dir)
                    .env("XDG_CONFIG_HOME", &dir)
                    .args(["run", "--adapter", "caddyfile", "--config"])
                    .arg(&file);
                (text, command)
            }
            Kind::Haproxy => {
                let more = match set {
                    Set::SmallBodies => {
                        "http-request deny deny_status 413 if { req.hdr_val(content-length) gt 1024 }"
                    }
                    _ => "",
                };
                let time = if set == Set::ShortTimes { "1s" } else { "30s" };
                let text = format!(
                    "defaults\n  mode http\n  timeout connect 5s\n  timeout client 30s\n  timeout \
                     server {time}\nfrontend f\n  bind 127.0.0.1:{port}\n  {more}\n  default_backend b\n\
                     backend b\n  server s {upstream}\n"
                );
                let mut command = Command::new("haproxy");
                command.arg("-db").arg("-f").arg(&file);
                (text, command)
            }
        };
        std::fs::write(&file, text).unwrap();
        let log = std::fs::File::create(dir.join("log")).unwrap();
        let child = command.stdout(Stdio::null()).stderr(log).spawn().unwrap_or_else(|error| {
            panic!("{kind:?} does not start ({error}); ./test --proxies installs it")
        });
        let proxy = Self { child, port };
        for _ in 0..100 {
            if tokio::net::TcpStream::connect(("127.0.0.1", port)).await.is_ok() {
                return proxy;
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        let log = std::fs::read_to_string(dir.join("log")).unwrap_or_default();
        let error = std::fs::read_to_string(dir.join("error")).unwrap_or_default();
        panic!("{kind:?} does not listen: {log}{error}");
    }

    fn url(&self) -> String {
        format!("http://127.0.0.1:{}", self.port)
    }
}

/// The six messages that are posted come to one who follows, each at once.
async fn follows(kind: Kind, world: &World, issuer: &Service, relay: &Service) {
    let proxy = Proxy::start(kind, world.path(), relay.address(), Set::Nothing).await;
    let http = http_client();
    let tokens = buy(&http, issuer.url(), &world.voucher(16), 16).await;
    let head = http_client().get(format!("{}/v1/info", proxy.url())).send().await.unwrap();
    let head: serde_json::Value = head.json().await.unwrap();
    let after = head["head"].as_u64().unwrap();
    let url = format!("{}/v1/messages?follow=true&after={after}", proxy.url());
    let mut stream = http_client().get(url).send().await.unwrap();
    let mut seen = 0;
    for (n, token) in tokens.iter().take(6).enumerate() {
        let cell = cell(&format!("{kind:?} {n}"));
        let sent = post(&http, &proxy.url(), &bound(token, &cell), &cell).await.unwrap();
        assert_eq!(sent.status(), 201, "{kind:?}");
        let next = async {
            while seen < (n + 1) * (8 + 2048) {
                seen += stream.chunk().await.unwrap().expect("it goes on").len();
            }
        };
        let came = tokio::time::timeout(Duration::from_secs(5), next).await;
        came.unwrap_or_else(|_| panic!("{kind:?} holds message {n} back"));
    }
}

/// What `tocyn post` says through a proxy; it must fail.
fn post_fails(world: &World, proxy: &Proxy) -> String {
    let message = world.path().join("message");
    std::fs::write(&message, "hello").unwrap();
    let url = proxy.url();
    let mut command = world.tocyn(&["post", "--relay", &url, message.to_str().unwrap()]);
    let failed = output(command.stdin(Stdio::null()));
    let said = String::from_utf8(failed.stderr).unwrap();
    assert_eq!(failed.status.code(), Some(1), "{said}");
    said
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs nginx, caddy and haproxy: ./test --proxies"]
async fn who_follows_behind_a_proxy_gets_every_message_at_once() {
    let world = World::default();
    let (issuer, relay) = (world.start_issuer(), world.start_relay());
    for kind in [Kind::Nginx, Kind::Caddy, Kind::Haproxy] {
        follows(kind, &world, &issuer, &relay).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs nginx, caddy and haproxy: ./test --proxies"]
async fn what_a_proxy_says_by_itself_is_told_as_that() {
    let world = World::default();
    let (issuer, relay) = (world.start_issuer(), world.start_relay());
    let buy = ["request", "--issuer", issuer.url(), "--relay", relay.url(), "--count", "16"];
    let voucher = world.voucher(16);
    succeed(&mut world.tocyn(&[&buy[..], &["--voucher", &voucher]].concat()));
    // Takes connections and answers nothing.
    let silent = TcpListener::bind("127.0.0.1:0").unwrap();
    let silent = silent.local_addr().map(|address| (silent, address.to_string())).unwrap();
    let nobody = format!("127.0.0.1:{}", free_port());
    for kind in [Kind::Nginx, Kind::Caddy, Kind::Haproxy] {
        let at = async |upstream: &str, set| Proxy::start(kind, world.path(), upstream, set).await;
        let said = post_fails(&world, &at(relay.address(), Set::SmallBodies).await);
        // Debian's Caddy says 502 where it cuts a body short.
        let status = if kind == Kind::Caddy { 502 } else { 413 };
        let expected = format!("status {status}: a proxy in front of it");
        assert!(said.contains(&expected), "{kind:?}: {said}");
        let said = post_fails(&world, &at(&nobody, Set::Nothing).await);
        let gone = said.contains("status 502: a proxy") || said.contains("status 503: a proxy");
        assert!(gone && !said.contains("swapped"), "{kind:?}: {said}");
        let said = post_fails(&world, &at(&silent.1, Set::ShortTimes).await);
        let late = said.contains("status 504: a proxy") || said.contains("status 502: a proxy");
        assert!(late && !said.contains("swapped"), "{kind:?}: {said}");
    }
    // Nothing is lost: the one that was refused for its size goes out with another run.
    succeed(&mut world.tocyn(&["post", "--relay", relay.url(), "--resume"]));
}
