//! The document on the operator's listener.

use std::io::{BufRead, BufReader};
use std::process::{Child, Stdio};

use serde_json::{Value, json};
use sqlx::{Connection, SqliteConnection};
use tocyn_e2e::service::serve;
use tocyn_e2e::world::World;

use super::{Document, takes_the_methods, without_table};

const GRANTS: (&str, &str) = ("POST", "/v1/grants");
const WEBHOOK: &str = "0123456789abcdef0123456789abcdef";
const PREFIX: &str = "TOCYN_ISSUER__ATTESTERS__WEBHOOK";

/// An issuer, and where its operator's listener is. Dropping it kills it.
struct Issuer(Child, String);

impl Issuer {
    fn start(world: &World, webhook: bool) -> Self {
        let mut command = serve("tocyn-issuer", &world.issuer_data(), "127.0.0.1:0");
        command.env("TOCYN_ISSUER__ADMIN__LISTEN", "127.0.0.1:0");
        command.env(format!("{PREFIX}__ENABLED"), webhook.to_string());
        command.env(format!("{PREFIX}__CREDENTIAL"), WEBHOOK);
        let mut child = command.stdout(Stdio::piped()).stderr(Stdio::null()).spawn().unwrap();
        let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
        let line = lines.nth(1).expect("a second line").unwrap();
        let address = line.strip_prefix("metrics and status page on http://").unwrap();
        Self(child, address.to_owned())
    }
}

impl Drop for Issuer {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_the_webhook_is_answered_is_described() {
    let world = World::default();
    let authorization = format!("Bearer {WEBHOOK}");
    let known = ("Authorization", authorization.as_str());
    let json_type = ("Content-Type", "application/json");
    let body = |value: Value| value.to_string().into_bytes();
    let good = body(json!({"id": "order 1", "tokens": 16}));
    {
        let issuer = Issuer::start(&world, false);
        let mut document = Document::of(&issuer.1);
        let answer = document.ask(&issuer.1, GRANTS, GRANTS.1, &[known, json_type], &good);
        assert_eq!(answer.problem().urn, "urn:tocyn:problem:attester-off");
    }
    let issuer = Issuer::start(&world, true);
    let mut document = Document::of(&issuer.1);
    takes_the_methods(&mut document, &issuer.1, false);
    for (headers, body, status) in [
        (&[known, json_type][..], good.clone(), 200),
        (&[known, json_type], body(json!({"id": "a", "tokens": 1, "expires_seconds": 60})), 200),
        (&[json_type], good.clone(), 401),
        (&[("Authorization", "Bearer x"), json_type], good.clone(), 401),
        (&[known], good.clone(), 400),
        (&[known, json_type], b"{".to_vec(), 400),
        (&[known, json_type], body(json!({"id": "", "tokens": 1})), 400),
        (&[known, json_type], body(json!({"id": "b", "tokens": 0})), 400),
        (&[known, json_type], body(json!({"id": "b", "tokens": 1, "x": 1})), 400),
        (&[known, json_type], body(json!({"id": "order 1", "tokens": 17})), 400),
    ] {
        let answer = document.ask(&issuer.1, GRANTS, GRANTS.1, headers, &body);
        assert_eq!(answer.status, status, "{answer:?}");
    }
    // As after three days.
    drop(issuer);
    let database = world.issuer_data().join("issuer.sqlite");
    let mut db =
        SqliteConnection::connect(&format!("sqlite://{}", database.display())).await.unwrap();
    let days_ago = "UPDATE grants SET number = number - 9; DELETE FROM secrets WHERE purpose = 1";
    sqlx::raw_sql(days_ago).execute(&mut db).await.unwrap();
    db.close().await.unwrap();
    let issuer = Issuer::start(&world, true);
    let answer = document.ask(&issuer.1, GRANTS, GRANTS.1, &[known, json_type], &good);
    assert_eq!(answer.problem().urn, "urn:tocyn:problem:grant-over");
    without_table(&database, "vouchers").await;
    let good = body(json!({"id": "order 2", "tokens": 16}));
    let answer = document.ask(&issuer.1, GRANTS, GRANTS.1, &[known, json_type], &good);
    assert_eq!(answer.problem().urn, "urn:tocyn:problem:database-down");
    assert_eq!(document.unseen_successes(), Vec::<String>::new());
}
