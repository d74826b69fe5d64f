//! Dashboard, alerts and documentation speak of the metrics that the services export, and of no
//! others.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use tocyn_e2e::bearer::{bound, buy, cell, http_client, post, read_all, send};
use tocyn_e2e::service::{Service, serve};
use tocyn_e2e::unix_http;
use tocyn_e2e::world::World;

fn read(path: &str) -> String {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("..").join(path);
    std::fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

/// Every word of a text that is the name of a metric.
fn names(text: &str) -> BTreeSet<String> {
    let words = text.split(|c: char| !c.is_ascii_alphanumeric() && c != '_');
    let ours = |word: &&str| word.starts_with("tocyn_issuer_") || word.starts_with("tocyn_relay_");
    words.filter(ours).map(str::to_owned).collect()
}

/// The PromQL expressions of all panels.
fn expressions(dashboard: &serde_json::Value) -> Vec<String> {
    let panels = dashboard["panels"].as_array().expect("a dashboard has panels");
    let targets = panels.iter().filter_map(|panel| panel["targets"].as_array()).flatten();
    targets.map(|target| target["expr"].as_str().expect("an expression").to_owned()).collect()
}

/// What a service exports: the names of its samples, and those of its metrics as they are looked
/// up (counters with `_total`, histograms without an ending).
#[derive(Default)]
struct Exported {
    samples: BTreeSet<String>,
    metrics: BTreeSet<String>,
}

impl Exported {
    fn add(&mut self, text: &str) {
        for line in text.lines() {
            if let Some(described) = line.strip_prefix("# TYPE ") {
                let (name, kind) = described.split_once(' ').expect("a name and a type");
                let ending = if kind == "counter" { "_total" } else { "" };
                self.metrics.insert(format!("{name}{ending}"));
            } else if !line.starts_with('#') {
                self.samples.extend(names(line.split(['{', ' ']).next().unwrap_or_default()));
            }
        }
    }
}

/// Both services after something of everything: tokens, a post and a repeat, a read, refusals.
async fn exported() -> Exported {
    let world = World::default();
    let mut command = serve("tocyn-issuer", &world.issuer_data(), "127.0.0.1:0");
    command.env("TOCYN_ISSUER__ATTESTERS__BUDGET", "1000");
    let issuer = Service::run(&mut command, &world.issuer_data());
    let (relay, http) = (world.start_relay(), http_client());
    let token = buy(&http, issuer.url(), &world.voucher(16), 16).await.remove(0);
    let cell = cell("counted");
    for status in [201, 200] {
        let answer = post(&http, relay.url(), &bound(&token, &cell), &cell).await.unwrap();
        assert_eq!(answer.status(), status);
    }
    assert_eq!(read_all(&http, relay.url()).await.len(), 1);
    let refused = send(&http, issuer.url(), "tv1-none", Vec::new()).await.unwrap();
    assert!(refused.status().is_client_error(), "{refused:?}");
    let refused = post(&http, relay.url(), "PrivateToken token=none", &cell).await.unwrap();
    assert!(refused.status().is_client_error(), "{refused:?}");
    // Spent tokens are counted at the start and from time to time: the next start counts the one.
    let relay = world.start_relay_after(relay);
    let again = post(&http, relay.url(), &bound(&token, &cell), &cell).await.unwrap();
    assert_eq!(again.status(), 200);
    let refused = post(&http, relay.url(), "PrivateToken token=none", &cell).await.unwrap();
    assert!(refused.status().is_client_error(), "{refused:?}");
    let metrics = |data: PathBuf| unix_http::get(&data.join("admin.sock"), "/metrics");
    let mut of_relay = metrics(world.relay_data());
    for _ in 0..300 {
        if of_relay.contains("tocyn_relay_spent_tokens{") {
            break;
        }
        tokio::time::sleep(std::time::Duration::from_millis(100)).await;
        of_relay = metrics(world.relay_data());
    }
    // As an operator whose relay is on another machine does it.
    let file = world.path().join("metrics");
    std::fs::write(&file, &of_relay).unwrap();
    world.issuer_command(&["ledger", "read", file.to_str().unwrap()]);
    let mut exported = Exported::default();
    exported.add(&of_relay);
    exported.add(&metrics(world.issuer_data()));
    exported
}

#[tokio::test(flavor = "multi_thread")]
async fn what_they_name_is_exported_and_what_is_exported_is_documented() {
    let exported = exported().await;
    let dashboard: serde_json::Value = serde_json::from_str(&read("deploy/grafana/tocyn.json"))
        .unwrap_or_else(|error| panic!("the dashboard is no JSON: {error}"));
    let shown = expressions(&dashboard);
    assert!(shown.len() > 30, "{shown:?}");
    let alerts = read("deploy/prometheus/alerts.yml");
    // The names in queries of variables, and in comments, are held to the same.
    let mut wanted = names(&dashboard.to_string());
    assert!(names(&shown.concat()).is_subset(&wanted));
    wanted.extend(names(&alerts));
    wanted.extend(names(&read("deploy/prometheus/alerts.test.yml")));
    let missing: Vec<&String> = wanted.difference(&exported.samples).collect();
    assert!(missing.is_empty(), "nobody exports {missing:?}, but only {:?}", exported.samples);

    let operations = read("docs/OPERATIONS.md");
    let section = operations.split("\n## ").find(|section| section.starts_with("Metrics\n"));
    let rows = section.expect("a section on metrics").lines();
    let documented: BTreeSet<String> = rows
        .filter_map(|row| row.strip_prefix("| `"))
        .filter_map(|row| row.split(['`', '{']).next().map(str::to_owned))
        .collect();
    let missing: Vec<&String> = exported.metrics.difference(&documented).collect();
    assert!(missing.is_empty(), "not in the table of docs/OPERATIONS.md: {missing:?}");
    let wrong: Vec<&String> = documented.difference(&exported.metrics).collect();
    assert!(wrong.is_empty(), "in the table, but not exported: {wrong:?}");
}
