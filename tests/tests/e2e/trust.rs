//! What a wallet does when the pair changes, as pairs do: wrong clocks, renewals, new addresses, a
//! change of epochs. Each time it goes on, or says what to do.

use std::process::{Command, Stdio};
use std::time::Duration;

use tocyn_client::group::GroupSecret;
use tocyn_client::group::invite::Invite;
use tocyn_e2e::bearer::{clock, http_client};
use tocyn_e2e::programs::program;
use tocyn_e2e::service::Service;
use tocyn_e2e::socks::SocksProxy;
use tocyn_e2e::tap::{Hold, Tap};
use tocyn_e2e::world::{RELAY_ADDRESS, World, output, succeed};
use tocyn_protocol::pairing::Pairing;
use tocyn_protocol::relay::RelayInfo;

struct Scene {
    world: World,
    issuer: Service,
    relay: Service,
}

impl Scene {
    fn new(epoch: &str) -> Self {
        let world = World::with_epoch(epoch);
        let (issuer, relay) = (world.start_issuer(), world.start_relay());
        Self { world, issuer, relay }
    }

    fn tocyn(&self, args: &[&str]) -> (Option<i32>, String) {
        let output = output(self.world.tocyn(args).stdin(Stdio::null()));
        let said = [output.stdout, output.stderr].concat();
        (output.status.code(), String::from_utf8(said).unwrap())
    }

    fn buy(&self) -> (Option<i32>, String) {
        let voucher = self.world.voucher(16);
        let urls = ["request", "--issuer", self.issuer.url(), "--relay", self.relay.url()];
        self.tocyn(&[&urls[..], &["--voucher", &voucher, "--count", "16"]].concat())
    }

    fn post(&self, text: &str) -> (Option<i32>, String) {
        let file = self.world.path().join("message");
        std::fs::write(&file, text).unwrap();
        self.tocyn(&["post", "--relay", self.relay.url(), file.to_str().unwrap()])
    }

    /// Stops both, renews, and starts both again where they were.
    fn renew(self, how: &[&str]) -> Self {
        let Self { world, issuer, relay } = self;
        let (at_issuer, at_relay) = (issuer.address().to_owned(), relay.address().to_owned());
        assert_eq!((issuer.stop().code(), relay.stop().code()), (Some(0), Some(0)));
        world.issuer_command(&[&["pairing", "renew"], how].concat());
        world.relay_command(&["pairing", "install", world.pairing_file().to_str().unwrap()]);
        let issuer = Service::start_at("tocyn-issuer", &world.issuer_data(), &at_issuer);
        let relay = Service::start_at("tocyn-relay", &world.relay_data(), &at_relay);
        Self { world, issuer, relay }
    }

    /// Starts the relay again with these addresses, where it was.
    fn restate(self, addresses: &[&str]) -> Self {
        let Self { world, issuer, relay } = self;
        let address = relay.address().to_owned();
        assert_eq!(relay.stop().code(), Some(0));
        world.set_addresses(addresses, "http://issuer.example");
        let relay = Service::start_at("tocyn-relay", &world.relay_data(), &address);
        Self { world, issuer, relay }
    }

    fn pairing(&self) -> Pairing {
        toml::from_str(&std::fs::read_to_string(self.world.pairing_file()).unwrap()).unwrap()
    }

    async fn info(&self) -> RelayInfo {
        let answer = http_client().get(format!("{}/v1/info", self.relay.url())).send().await;
        answer.unwrap().json().await.unwrap()
    }

    /// Pretends that what is offered was shown first so many hours ago.
    async fn age_the_offer(&self, hours: i64) {
        use sqlx::ConnectOptions;
        let file = self.world.wallet().join("wallet.sqlite");
        let options = sqlx::sqlite::SqliteConnectOptions::new().filename(file);
        let mut wallet = options.connect().await.unwrap();
        let update = sqlx::query("UPDATE origins SET offered_at = offered_at - ?1");
        let done = update.bind(hours * 3600).execute(&mut wallet).await.unwrap();
        assert_eq!(done.rows_affected(), 1);
    }
}

/// `serve` under a clock that is off, as Debian's faketime makes it.
fn serve_at(name: &str, world: &World, offset: &str) -> Service {
    let data = world.path().join(name);
    // Not by its program, which would be stopped in the place of the service.
    let libraries = std::fs::read_dir("/usr/lib").unwrap().map(|dir| dir.unwrap().path());
    let mut faketime = libraries.map(|dir| dir.join("faketime/libfaketimeMT.so.1"));
    let faketime = faketime.find(|path| path.exists()).expect("Debian's faketime is installed");
    let mut serve = Command::new(program(&format!("tocyn-{name}")));
    serve.env("LD_PRELOAD", faketime).env("FAKETIME", offset);
    serve.arg("--data").arg(&data).args(["serve", "--listen", "127.0.0.1:0"]);
    Service::run(&mut serve, &data)
}

/// Both services 35 days ahead: today's client would have bought tokens of an epoch to come.
#[test]
fn services_whose_clocks_are_wrong_sell_nothing_and_both_times_are_named() {
    let world = World::default();
    let (issuer, relay) = (serve_at("issuer", &world, "+35d"), serve_at("relay", &world, "+35d"));
    let voucher = world.voucher(16);
    let urls = ["request", "--issuer", issuer.url(), "--relay", relay.url()];
    let mut buy = world.tocyn(&[&urls[..], &["--voucher", &voucher, "--count", "16"]].concat());
    let refused = output(&mut buy);
    let said = String::from_utf8(refused.stderr).unwrap();
    assert_eq!(refused.status.code(), Some(1), "{said}");
    let day = |seconds: u64| {
        let at = std::time::UNIX_EPOCH + Duration::from_secs(seconds);
        humantime::format_rfc3339_seconds(at).to_string()[..10].to_owned()
    };
    let (today, later) = (day(clock().as_secs()), day(clock().as_secs() + 35 * 86_400));
    assert!(said.contains(&later) && said.contains(&today), "{today}, {later}: {said}");
    assert_eq!(world.vouchers_left(), 16, "nothing was bought");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_wallet_that_slept_through_two_renewals_says_what_to_do_and_goes_on() {
    let mut scene = Scene::new("7d");
    assert_eq!(scene.buy().0, Some(0));
    for _ in 0..2 {
        std::thread::sleep(Duration::from_secs(1)); // a genesis of its own
        scene = scene.renew(&[]);
    }
    let (code, said) = scene.post("hello");
    assert_eq!(code, Some(1));
    assert!(said.contains("statement of keys, number 2: a renewal that began at"), "{said}");
    assert!(said.contains("`tocyn relay accept relay.example`"), "{said}");
    let (code, said) = scene.buy();
    assert_eq!(code, Some(1), "{said}");
    // By itself a day after it was shown first, and not an hour before.
    scene.age_the_offer(23).await;
    assert_eq!(scene.buy().0, Some(1));
    scene.age_the_offer(1).await;
    let (code, said) = scene.buy();
    assert_eq!(code, Some(0), "{said}");
    assert!(said.contains("number 2 of relay.example is accepted"), "{said}");
    assert_eq!(scene.world.balance()["unspent"], 16, "those from before are void, and gone");
    assert_eq!(scene.post("hello").0, Some(0));
    let list = scene.tocyn(&["relay", "list"]).1;
    assert!(list.contains("statement  number 2"), "{list}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_planned_renewal_voids_no_token_and_stops_nobody() {
    let scene = Scene::new("40s");
    let start = scene.pairing().schedule();
    let wait_for = |epoch: u64, seconds: u64| {
        let until = Duration::from_secs(start.start(epoch) + seconds);
        std::thread::sleep(until.saturating_sub(clock()));
    };
    wait_for(0, 3);
    assert_eq!(scene.buy().0, Some(0));
    assert_eq!(scene.post("before").0, Some(0));
    let scene = scene.renew(&["--planned"]);
    let below = scene.pairing().renewed_at().unwrap();
    // Bought and spent as before while the renewal is only shown.
    let (code, said) = scene.buy();
    assert_eq!(code, Some(0), "{said}");
    assert!(said.contains("a planned renewal: new keys from a later epoch on"), "{said}");
    assert_eq!(scene.post("shown").0, Some(0));
    assert_eq!(scene.info().await.statements.len(), 2);
    let (code, said) = scene.tocyn(&["relay", "accept", "relay.example"]);
    assert_eq!(code, Some(0));
    assert!(!said.contains("void"), "{said}");
    assert_eq!(scene.post("accepted").0, Some(0));
    // Past the change: old tokens still pay, and new ones come under the new secret.
    wait_for(below, 3);
    assert_eq!(scene.post("old token, new epoch").0, Some(0));
    let (code, said) = scene.buy();
    assert_eq!(code, Some(0), "{said}");
    assert_eq!(scene.post("new epoch").0, Some(0));
    // Once the old epochs are over, only those of the new secret are left.
    wait_for(below + 2, 3);
    let (code, said) = scene.buy();
    assert_eq!(code, Some(0), "{said}");
    assert_eq!(scene.post("long after").0, Some(0));
}

/// The batch was asked for before the change of epochs, and its answer never came.
#[tokio::test(flavor = "multi_thread")]
async fn a_wallet_that_was_offline_at_a_change_of_epoch_gets_what_it_paid_for() {
    let world = World::with_epoch("12s");
    let (issuer, relay) = (world.start_issuer(), world.start_relay());
    let tap = Tap::new(issuer.address()).await;
    let text = std::fs::read_to_string(world.pairing_file()).unwrap();
    let schedule = toml::from_str::<Pairing>(&text).unwrap().schedule();
    let wait_for = |epoch: u64, seconds: f64| {
        let start = Duration::from_secs(schedule.start(epoch));
        std::thread::sleep((start + Duration::from_secs_f64(seconds)).saturating_sub(clock()));
    };
    let voucher = world.voucher(64);
    let request = || {
        let urls = ["request", "--issuer", tap.url(), "--relay", relay.url()];
        let mut command =
            world.tocyn(&[&urls[..], &["--voucher", &voucher, "--count", "16"]].concat());
        command.stdin(Stdio::null());
        command
    };
    wait_for(1, 5.0);
    tap.hold(Hold::Answer("POST /token-request"));
    let mut child = request().stderr(Stdio::null()).spawn().unwrap();
    tap.something_held().await;
    child.kill().unwrap();
    child.wait().unwrap();
    tap.hold(Hold::Nothing);
    assert_eq!(world.vouchers_left(), 48);
    // In the quiet time beside the change nothing new is made, and the client says that it waits.
    wait_for(2, 0.2);
    let resumed = output(&mut request());
    let said = String::from_utf8(resumed.stderr).unwrap();
    assert!(resumed.status.success(), "{said}");
    assert_eq!(world.vouchers_left(), 48, "what was saved before the change came, and counts");
    wait_for(3, 0.1);
    let bought = output(&mut request());
    let said = String::from_utf8(bought.stderr).unwrap();
    assert!(bought.status.success(), "{said}");
    assert!(said.contains("the epoch changes: waiting"), "{said}");
    assert_eq!(world.vouchers_left(), 32);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_invite_from_before_a_renewal_leads_to_the_newest_statement() {
    let scene = Scene::new("7d");
    let (issuer, relay) = (scene.issuer.url().to_owned(), scene.relay.url().to_owned());
    let create = ["group", "create", "friends", "--relay", &relay, "--issuer", &issuer];
    succeed(&mut scene.world.tocyn(&create));
    let invite = succeed(&mut scene.world.tocyn(&["group", "invite", "friends"]));
    std::thread::sleep(Duration::from_secs(1));
    let scene = scene.renew(&[]);
    let of = |person: &str, args: &[&str]| {
        let output = output(scene.world.tocyn_of(person, args).stdin(Stdio::null()));
        let said = [output.stdout, output.stderr].concat();
        (output.status.code(), String::from_utf8(said).unwrap())
    };
    assert_eq!(of("bob", &["group", "join", invite.trim()]).0, Some(0));
    let voucher = scene.world.voucher(16);
    let buy = ["request", "--group", "friends", "--voucher", &voucher, "--count", "16"];
    let (code, said) = of("bob", &buy);
    assert_eq!(code, Some(0), "{said}");
    assert_eq!(of("bob", &["send", "friends", "hello"]).0, Some(0));
    // Of another relay the invite leads nowhere.
    let mut other: Invite = invite.trim().parse().unwrap();
    other.statement.0[0] ^= 1;
    let other = other.to_secret_text();
    assert_eq!(of("cyd", &["group", "join", &other]).0, Some(0));
    let (code, said) = of("cyd", &buy);
    assert_eq!(code, Some(1));
    assert!(said.contains("which this wallet has pinned, or the invite has named"), "{said}");
    assert_eq!(scene.world.vouchers_left(), 0, "Bob's, and no other");
    // Nor where the relay is known already.
    let mut third: Invite = other.parse().unwrap();
    third.secret = GroupSecret::generate(&mut rand_core::UnwrapErr(getrandom::SysRng));
    third.name = "strangers".to_owned();
    assert_eq!(of("bob", &["group", "join", &third.to_secret_text()]).0, Some(0));
    let (code, said) = of("bob", &["send", "strangers", "hello"]);
    assert_eq!(code, Some(1));
    assert!(said.contains("which this wallet has pinned, or the invite has named"), "{said}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_relay_that_moves_is_followed_to_addresses_that_it_has_signed() {
    let scene = Scene::new("7d");
    assert_eq!(scene.buy().0, Some(0));
    let real = scene.relay.address().to_owned();
    let other = World::default();
    let stranger = other.start_relay();
    let proxy = SocksProxy::start([
        ("relay.example", &*real),
        ("new.example", &*real),
        ("elsewhere.example", &*real),
        ("issuer.example", scene.issuer.address()),
        ("stolen.example", stranger.address()),
    ])
    .await;
    let at = |scene: &Scene, url: &str| {
        let file = scene.world.path().join("message");
        std::fs::write(&file, "hello").unwrap();
        let post = ["--proxy", proxy.url(), "post", "--relay", url, file.to_str().unwrap()];
        scene.tocyn(&post)
    };
    // To an address in the pinned statement it goes without a word.
    assert_eq!(at(&scene, RELAY_ADDRESS).0, Some(0));
    assert_eq!(scene.world.balance()["unspent"], 15, "one stock of tokens for all addresses");
    // One that is not listed is refused by name.
    let (code, said) = at(&scene, "http://new.example");
    assert_eq!(code, Some(1));
    assert!(said.contains("does not list the address http://new.example"), "{said}");
    // Its operator adds it: the wallet says what to do.
    let scene = scene.restate(&[RELAY_ADDRESS, "http://new.example"]);
    let (code, said) = at(&scene, "http://new.example");
    assert_eq!(code, Some(1));
    let change = "http://relay.example, http://new.example; before: http://relay.example";
    assert!(said.contains(&format!("number 1: other addresses: {change}. Its hash is")), "{said}");
    assert!(said.contains("`tocyn relay accept relay.example`"), "{said}");
    // The known address works all the while, since the keys are the same.
    assert_eq!(at(&scene, RELAY_ADDRESS).0, Some(0));
    assert_eq!(scene.tocyn(&["relay", "accept", "http://relay.example"]).0, Some(0));
    assert_eq!(at(&scene, "http://new.example").0, Some(0));
    assert_eq!(at(&scene, "http://elsewhere.example").0, Some(1));
    assert_eq!(scene.world.balance()["unspent"], 13);
    // A group is where its relay is now, and so is who is invited.
    let create = ["--proxy", proxy.url(), "group", "create", "friends", "--relay", RELAY_ADDRESS];
    assert_eq!(
        scene.tocyn(&[&create[..], &["--issuer", "http://issuer.example"]].concat()).0,
        Some(0)
    );
    let scene = scene.restate(&["http://new.example", "http://stolen.example"]);
    assert_eq!(at(&scene, "http://new.example").0, Some(0));
    assert_eq!(scene.tocyn(&["relay", "accept", "relay.example"]).0, Some(0));
    assert!(scene.tocyn(&["group", "list"]).1.contains("at http://new.example"));
    let invite = scene.world.tocyn(&["group", "invite", "friends"]).output().unwrap().stdout;
    let invite: Invite = String::from_utf8(invite).unwrap().trim().parse().unwrap();
    let relays: Vec<String> = invite.relays.iter().map(ToString::to_string).collect();
    assert_eq!(relays, ["http://new.example", "http://stolen.example"]);
    // Where the statement says that it is, nobody else is taken for it.
    let (code, said) = at(&scene, "http://stolen.example");
    assert_eq!(code, Some(1));
    assert!(said.contains("and had relay.example+"), "{said}");
}

/// While a planned renewal is installed at the issuer alone nobody buys, and what is said blames nobody.
#[tokio::test(flavor = "multi_thread")]
async fn a_planned_renewal_on_one_side_stops_purchases_until_the_other_has_it() {
    let scene = Scene::new("7d");
    assert_eq!(scene.buy().0, Some(0));
    let Scene { world, issuer, relay } = scene;
    let at = issuer.address().to_owned();
    assert_eq!(issuer.stop().code(), Some(0));
    world.issuer_command(&["pairing", "renew", "--planned"]);
    let issuer = Service::start_at("tocyn-issuer", &world.issuer_data(), &at);
    let scene = Scene { world, issuer, relay };
    let (code, said) = scene.buy();
    assert_eq!(code, Some(1), "{said}");
    assert!(said.contains("perhaps a planned renewal is not installed on both sides"), "{said}");
    assert!(!scene.world.wallet().join("evidence").exists(), "an honest pair");
    assert_eq!(scene.post("tokens from before are good").0, Some(0));
    let Scene { world, issuer, relay } = scene;
    let at = relay.address().to_owned();
    assert_eq!(relay.stop().code(), Some(0));
    world.relay_command(&["pairing", "install", world.pairing_file().to_str().unwrap()]);
    let relay = Service::start_at("tocyn-relay", &world.relay_data(), &at);
    let (code, said) = Scene { world, issuer, relay }.buy();
    assert_eq!(code, Some(0), "{said}");
}

/// A relay that was started again with the same pairing and settings signs nothing new; one that has
/// an older pairing than it has stated does not start.
#[tokio::test(flavor = "multi_thread")]
async fn a_relay_signs_what_is_new_and_goes_back_to_nothing() {
    let scene = Scene::new("7d");
    let old = scene.world.path().join("old.toml");
    std::fs::copy(scene.world.pairing_file(), &old).unwrap();
    let scene = scene.restate(&[RELAY_ADDRESS]);
    assert_eq!(scene.info().await.statements.len(), 1);
    let scene = scene.restate(&[]).restate(&[RELAY_ADDRESS]);
    assert_eq!(scene.info().await.statements.len(), 3);
    let scene = scene.renew(&["--planned"]);
    assert_eq!(scene.info().await.statements.len(), 4);
    let Scene { world, relay, .. } = scene;
    assert_eq!(relay.stop().code(), Some(0));
    std::fs::copy(&old, world.relay_data().join("pairing.toml")).unwrap();
    let mut serve = tocyn_e2e::service::serve("tocyn-relay", &world.relay_data(), "127.0.0.1:0");
    let refused = output(serve.stdin(Stdio::null()));
    assert_eq!(refused.status.code(), Some(1));
    let said = String::from_utf8(refused.stderr).unwrap();
    assert!(said.contains("the pairing was replaced"), "{said}");
}

/// An issuer behind a path of another server.
#[tokio::test(flavor = "multi_thread")]
async fn an_issuer_below_a_path_is_asked_there_and_nowhere_else() {
    let scene = Scene::new("7d");
    let real = scene.issuer.url().to_owned();
    let asked = std::sync::Arc::<std::sync::Mutex<Vec<String>>>::default();
    let seen = asked.clone();
    let pass = move |method: axum::http::Method,
                     uri: axum::http::Uri,
                     headers: axum::http::HeaderMap,
                     body: axum::body::Bytes| {
        let (real, seen) = (real.clone(), seen.clone());
        async move {
            seen.lock().unwrap().push(uri.path().to_owned());
            let Some(path) = uri.path().strip_prefix("/tocyn/issuer") else {
                return (axum::http::StatusCode::NOT_FOUND, String::new().into_bytes());
            };
            let method = method.as_str().parse().unwrap();
            let mut request = http_client().request(method, format!("{real}{path}"));
            for name in ["authorization", "content-type"] {
                if let Some(value) = headers.get(name) {
                    request = request.header(name, value.as_bytes());
                }
            }
            let answer = request.body(body.to_vec()).send().await.unwrap();
            let status = answer.status().as_u16().try_into().unwrap();
            (status, answer.bytes().await.unwrap().to_vec())
        }
    };
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}/tocyn/issuer", listener.local_addr().unwrap());
    let router = axum::Router::new().fallback(pass);
    tokio::spawn(async move { axum::serve(listener, router).await.unwrap() });
    let voucher = scene.world.voucher(16);
    let buy = ["request", "--issuer", &url, "--relay", scene.relay.url(), "--count", "16"];
    let (code, said) = scene.tocyn(&[&buy[..], &["--voucher", &voucher]].concat());
    assert_eq!(code, Some(0), "{said}");
    let expected =
        ["/tocyn/issuer/.well-known/private-token-issuer-directory", "/tocyn/issuer/token-request"];
    assert_eq!(*asked.lock().unwrap(), expected);
}
