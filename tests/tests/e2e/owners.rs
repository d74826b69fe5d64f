//! A service that is led to another one's database or folder by mistake is refused, and leaves it as
//! it was. A service that is led back to its own goes on.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use reqwest::StatusCode;
use sqlx::{AssertSqlSafe, Connection, SqliteConnection};
use tocyn_e2e::bearer::{bound, buy, cell, http_client, post};
use tocyn_e2e::programs::program;
use tocyn_e2e::service::Service;
use tocyn_e2e::world::{World, output};
use tocyn_protocol::token::Token;
use tocyn_test_postgres::Postgres;

/// Two pairs with the same names; the databases of the first one are in use.
struct Pairs {
    own: World,
    other: World,
    issuer_url: String,
    relay_url: String,
}

impl Pairs {
    fn on_sqlite() -> Self {
        let own = World::default();
        let url = |path: PathBuf| format!("sqlite://{}", path.display());
        let issuer_url = url(own.issuer_data().join("issuer.sqlite"));
        let relay_url = url(own.relay_data().join("relay.sqlite"));
        Self { own, other: World::default(), issuer_url, relay_url }
    }

    fn on_postgres() -> Self {
        let (own, other) = (World::default(), World::default());
        let (issuer_url, relay_url) = (Postgres::shared().new_url(), Postgres::shared().new_url());
        Self { own, other, issuer_url, relay_url }
    }

    fn issuer(&self) -> Service {
        let data = self.own.issuer_data();
        Service::run(&mut serve("tocyn-issuer", &data, &self.issuer_url), &data)
    }

    fn relay(&self) -> Service {
        let data = self.own.relay_data();
        Service::run(&mut serve("tocyn-relay", &data, &self.relay_url), &data)
    }

    /// Rows of all tables of both databases.
    async fn contents(&self) -> [String; 2] {
        [contents(&self.issuer_url).await, contents(&self.relay_url).await]
    }

    fn voucher(&self) -> String {
        let mut create = command("tocyn-issuer", &self.own.issuer_data(), &self.issuer_url);
        let created = output(create.args(["voucher", "create", "--tokens", "64"]));
        let text = String::from_utf8(created.stdout).unwrap();
        text.split_whitespace().find(|word| word.starts_with("tv1-")).unwrap().to_owned()
    }
}

fn command(name: &str, data: &Path, url: &str) -> Command {
    let mut command = Command::new(program(name));
    command.arg("--data").arg(data).args(["--database", url]).stdin(Stdio::null());
    command
}

fn serve(name: &str, data: &Path, url: &str) -> Command {
    let mut command = command(name, data, url);
    command.args(["serve", "--listen", "127.0.0.1:0"]);
    command
}

/// The service does not start on this database; returns what it says.
fn refused(name: &str, data: &Path, url: &str) -> String {
    let refused = output(&mut serve(name, data, url));
    let text = String::from_utf8(refused.stderr).unwrap();
    assert_eq!(refused.status.code(), Some(1), "{name} on {url}: {text}");
    text
}

async fn send(relay: &Service, token: &Token, text: &str) -> StatusCode {
    let cell = cell(text);
    post(&http_client(), relay.url(), &bound(token, &cell), &cell).await.unwrap().status()
}

async fn contents(url: &str) -> String {
    let Some(path) = url.strip_prefix("sqlite://") else {
        let database = url.split('?').next().unwrap().rsplit('/').next().unwrap();
        let tables = "SELECT relname FROM pg_class WHERE relkind IN ('r', 'p') AND relnamespace =
            'public'::regnamespace ORDER BY 1";
        let server = Postgres::shared();
        let rows = |table: &str| {
            server.sql(database, &format!("SELECT t::text FROM {table} AS t ORDER BY 1"))
        };
        return server.sql(database, tables).lines().map(rows).collect();
    };
    let mut db = SqliteConnection::connect(&format!("sqlite://{path}")).await.unwrap();
    let tables = "SELECT name FROM sqlite_schema WHERE type = 'table' ORDER BY 1";
    let tables: Vec<String> = sqlx::query_scalar(tables).fetch_all(&mut db).await.unwrap();
    let mut all = String::new();
    for table in tables {
        let columns =
            "SELECT group_concat('quote(' || name || ')', ' || ') FROM pragma_table_info(?1)";
        let columns: String =
            sqlx::query_scalar(columns).bind(&table).fetch_one(&mut db).await.unwrap();
        let rows = AssertSqlSafe(format!("SELECT {columns} FROM {table} ORDER BY 1"));
        let rows: Vec<String> = sqlx::query_scalar(rows).fetch_all(&mut db).await.unwrap();
        all += &format!("{table}: {rows:?}\n");
    }
    all
}

async fn each_is_refused_and_nothing_is_changed(pairs: Pairs) {
    let http = http_client();
    let (issuer, relay) = (pairs.issuer(), pairs.relay());
    let tokens = buy(&http, issuer.url(), &pairs.voucher(), 64).await;
    assert_eq!(send(&relay, &tokens[0], "one").await, 201);
    assert_eq!((issuer.stop().code(), relay.stop().code()), (Some(0), Some(0)));
    let before = pairs.contents().await;

    let (other, own) = (&pairs.other, &pairs.own);
    let (issuer_url, relay_url) = (&*pairs.issuer_url, &*pairs.relay_url);
    let said = refused("tocyn-relay", &other.relay_data(), relay_url);
    assert!(said.contains("log.key"), "{said}");
    let said = refused("tocyn-issuer", &other.issuer_data(), issuer_url);
    assert!(said.contains("does not name as replaced") && said.contains("database.url"), "{said}");
    // With other names.
    let named = own.path().join("named");
    let mut init = Command::new(program("tocyn-issuer"));
    let names = ["--issuer-name", "other.example", "--origin-name", "relay.example"];
    assert!(output(init.arg("--data").arg(&named).arg("init").args(names)).status.success());
    let said = refused("tocyn-issuer", &named, issuer_url);
    assert!(said.contains("other.example") && said.contains("issuer.example"), "{said}");
    // Each on the other kind's.
    for (name, data, url) in [
        ("tocyn-relay", own.relay_data(), issuer_url),
        ("tocyn-issuer", own.issuer_data(), relay_url),
    ] {
        let said = refused(name, &data, url);
        assert!(said.contains("holds the tables of"), "{said}");
    }
    // A pairing of somebody else, in a folder with the right key.
    let mixed = own.path().join("mixed");
    std::fs::create_dir(&mixed).unwrap();
    for (world, file) in [(own, "log.key"), (own, "config.toml"), (other, "pairing.toml")] {
        std::fs::copy(world.relay_data().join(file), mixed.join(file)).unwrap();
    }
    refused("tocyn-relay", &mixed, relay_url);
    // And a renewed one, which names the pairing of its own database, not of this one.
    other.issuer_command(&["pairing", "renew"]);
    let said = refused("tocyn-issuer", &other.issuer_data(), issuer_url);
    assert!(said.contains("does not name as replaced"), "{said}");
    std::fs::copy(other.pairing_file(), mixed.join("pairing.toml")).unwrap();
    refused("tocyn-relay", &mixed, relay_url);
    assert_eq!(pairs.contents().await, before);

    // Their own services go on: the token is spent, and the others are good.
    let (issuer, relay) = (pairs.issuer(), pairs.relay());
    assert_eq!(send(&relay, &tokens[0], "another").await, 409);
    assert_eq!(send(&relay, &tokens[1], "two").await, 201);
    drop(issuer);
}

#[tokio::test(flavor = "multi_thread")]
async fn another_ones_sqlite_is_left_as_it_was() {
    each_is_refused_and_nothing_is_changed(Pairs::on_sqlite()).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn another_ones_postgres_is_left_as_it_was() {
    each_is_refused_and_nothing_is_changed(Pairs::on_postgres()).await;
}

/// A renewed pairing names the one before it, wherever it is copied to, and all before that.
#[tokio::test(flavor = "multi_thread")]
async fn a_relay_that_slept_through_two_renewals_goes_on() {
    let pairs = Pairs::on_postgres();
    assert_eq!((pairs.issuer().stop().code(), pairs.relay().stop().code()), (Some(0), Some(0)));
    for _ in 0..2 {
        pairs.own.issuer_command(&["pairing", "renew"]);
    }
    pairs.relay_takes_the_pairing_by_hand();
    assert_eq!((pairs.issuer().stop().code(), pairs.relay().stop().code()), (Some(0), Some(0)));
}

impl Pairs {
    /// As where a unit takes it from /etc: nobody has run `pairing install`.
    fn relay_takes_the_pairing_by_hand(&self) {
        let to = self.own.relay_data().join("pairing.toml");
        std::fs::copy(self.own.pairing_file(), to).unwrap();
    }
}

#[test]
fn an_issuers_commands_leave_another_ones_vouchers_alone_and_make_no_second_database() {
    let (own, other) = (World::default(), World::default());
    drop(own.start_issuer());
    own.voucher(64);
    let file = own.issuer_data().join("issuer.sqlite");
    let url = format!("sqlite://{}", file.display());
    for args in
        [&["voucher", "create", "--tokens", "64"][..], &["voucher", "list"], &["ledger", "show"]]
    {
        let said = output(command("tocyn-issuer", &other.issuer_data(), &url).args(args));
        let text = String::from_utf8(said.stderr).unwrap();
        assert_eq!(said.status.code(), Some(1), "{args:?}: {text}");
        assert!(text.contains("another issuer"), "{args:?}: {text}");
    }
    assert_eq!(own.vouchers_left(), 64);
    // Its disk is not mounted.
    let aside = own.path().join("aside");
    std::fs::rename(&file, &aside).unwrap();
    for args in
        [&["voucher", "create", "--tokens", "64"][..], &["voucher", "list"], &["db", "check"]]
    {
        let said = output(command("tocyn-issuer", &own.issuer_data(), &url).args(args));
        let text = String::from_utf8(said.stderr).unwrap();
        assert!(said.status.code() == Some(1) && text.contains("is not there"), "{args:?}: {text}");
    }
    let said = refused("tocyn-issuer", &own.issuer_data(), &url);
    assert!(said.contains("mounted") && !file.exists(), "{said}");
    std::fs::rename(&aside, &file).unwrap();
    assert_eq!(own.vouchers_left(), 64);
}
