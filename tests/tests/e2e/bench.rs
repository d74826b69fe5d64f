//! Every benchmark runs, tiny, and its reports hold what they promise. No time is judged.

use std::process::Stdio;

use serde_json::Value;
use tocyn_e2e::world::{World, output, succeed};
use tocyn_test_postgres::Postgres;

/// Runs a benchmark that must succeed; gives its JSON and its page.
fn bench(args: &[&str]) -> (Value, String) {
    let dir = tempfile::tempdir().unwrap();
    let (json, html) = (dir.path().join("report.json"), dir.path().join("report.html"));
    let files = ["--json", json.to_str().unwrap(), "--html", html.to_str().unwrap()];
    let table = run(&[args, &files].concat());
    assert!(table.starts_with("tocyn bench ") && table.contains("processor"), "{table}");
    let json: Value = serde_json::from_str(&std::fs::read_to_string(json).unwrap()).unwrap();
    for member in ["cpu", "arithmetic", "version"] {
        assert!(json["machine"][member].is_string(), "{member}: {json}");
    }
    assert!(json["machine"]["cores"].as_u64().unwrap() > 0);
    assert!(json["machine"]["optimised"].is_boolean());
    (json, std::fs::read_to_string(html).unwrap())
}

fn run(args: &[&str]) -> String {
    succeed(&mut World::default().tocyn(&[&["bench"], args].concat()))
}

/// The page needs nothing from elsewhere, and has these plots.
fn assert_page(html: &str, plots: &[&str]) {
    assert_eq!(html.matches("<svg").count(), plots.len(), "{html}");
    for plot in plots {
        assert!(html.contains(plot), "{plot}");
    }
    let html = html.replace("xmlns=\"http://www.w3.org/2000/svg\"", "");
    for elsewhere in ["http:", "https:", "src=", "href=", "<script", "<link", "url(", "@import"] {
        assert!(!html.contains(elsewhere), "{elsewhere}");
    }
}

const SERIES: [&str; 3] =
    ["Throughput over time", "Latency percentiles", "Throughput against connections"];

fn count(value: &Value) -> u64 {
    value.as_u64().unwrap_or_else(|| panic!("a count: {value}"))
}

fn number(value: &Value) -> f64 {
    value.as_f64().unwrap_or_else(|| panic!("a number: {value}"))
}

fn assert_latency(latency: &Value, at_least: u64) {
    assert!(count(&latency["count"]) >= at_least, "{latency}");
    let quantiles = ["p50", "p90", "p99", "p999", "max"].map(|name| count(&latency[name]));
    assert!(quantiles.is_sorted() && quantiles[4] > 0, "{latency}");
}

/// What is the same in every run of the load generator.
fn assert_run(run: &Value, connections: u64, requests: u64) {
    assert_eq!(count(&run["connections"]), connections, "{run}");
    assert_eq!(count(&run["requests"]), requests, "{run}");
    assert_eq!((count(&run["wrong"]), count(&run["busy"])), (0, 0), "{run}");
    let rate = requests as f64 / number(&run["seconds"]);
    assert!((number(&run["requests_per_second"]) / rate - 1.0).abs() < 1e-6, "{run}");
    let mut sum = 0;
    for kind in run["kinds"].as_object().unwrap().values() {
        let good = count(&kind["good"]);
        sum += good;
        assert_eq!(count(&kind["latency_us"]["raw"]["count"]), good);
        assert_latency(&kind["latency_us"]["raw"], good);
        assert_latency(&kind["latency_us"]["corrected"], good);
        let slots: u64 = kind["over_time"].as_array().unwrap().iter().map(count).sum();
        assert_eq!(slots, good);
    }
    assert_eq!(sum, requests);
    let cpu = &run["cpu"];
    let left = number(&cpu["cores_left"]);
    assert!(left >= 0.0 && number(&cpu["load_seconds"]) >= 0.0, "{cpu}");
}

#[test]
fn crypto() {
    let (json, html) = bench(&["crypto", "--rounds", "1", "--batch", "16"]);
    assert_page(&html, &[]);
    for step in ["blind", "issue", "finalize", "redeem", "redeem, bound"] {
        let step = &json["steps"][step];
        for member in ["us", "per_second_1_core", "per_second_all_cores"] {
            assert!(number(&step[member]) > 0.0, "{member}: {step}");
        }
    }
}

#[test]
fn versus() {
    let (json, html) = bench(&["versus", "--rounds", "1"]);
    assert_page(&html, &[]);
    for step in ["issue_1", "issue_64", "issue_256", "redeem_64", "finalize_64", "blind"] {
        let row = &json[step];
        let peers = row["peers"].as_object().unwrap();
        let fastest = peers.values().map(number).fold(f64::INFINITY, f64::min);
        assert_eq!(peers.len(), 3);
        let ratio = fastest / number(&row["ours_us"]);
        assert!((number(&row["ratio"]) - ratio).abs() < 1e-9, "{step}: {row}");
    }
}

#[test]
fn issuer() {
    let args = ["issuer", "--spawn", "--requests", "40", "--batch", "16", "--connections", "1,4"];
    let (json, html) = bench(&args);
    assert_page(&html, &SERIES);
    assert!(number(&json["crypto_tokens_per_second_all_cores"]) > 0.0);
    assert!(count(&json["proofs_checked"]) > 0);
    assert_eq!(count(&json["settings"]["batch"]), 16);
    let runs = json["runs"].as_array().unwrap();
    assert_eq!(runs.len(), 2);
    for (run, connections) in runs.iter().zip([1, 4]) {
        assert_run(run, connections, 40);
        let tokens = number(&run["requests_per_second"]) * 16.0;
        assert!((number(&run["tokens_per_second"]) / tokens - 1.0).abs() < 1e-6, "{run}");
        assert!(number(&run["share_of_crypto"]) > 0.0);
    }
}

#[test]
fn relay_with_all_kinds_of_posts() {
    let mix = "valid=50,retry=10,double=10,invalid=20,reject=10,healthz=5";
    let args = ["relay", "--spawn", "--posts", "300", "--mix", mix, "--connections", "1,4"];
    let (json, html) = bench(&args);
    assert_page(&html, &SERIES);
    let settings = &json["settings"];
    assert_eq!((&settings["mix"], &settings["loop"]), (&mix.into(), &"closed".into()));
    assert_eq!(count(&settings["cell_bytes"]), 2048);
    assert!(settings["durability"].as_str().unwrap().contains("synchronous=FULL"));
    for floor in ["redeems_per_second_1_core", "inserts_per_second"] {
        assert!(number(&json["floors"][floor]) > 0.0, "{floor}");
    }
    for (run, connections) in json["runs"].as_array().unwrap().iter().zip([1, 4]) {
        assert_run(run, connections, 300);
        let kinds = run["kinds"].as_object().unwrap();
        assert_eq!(kinds.len(), 6);
        let valid = number(&kinds["valid"]["per_second"]);
        assert_eq!(number(&run["stored_per_second"]), valid);
        assert_eq!(run["share_of_floor"], Value::Null, "others take a part of the cores");
        assert!(number(&run["cpu"]["relay_seconds"]) >= 0.0);
        assert!(count(&run["relay_peak_bytes"]) > 1_000_000);
    }
}

#[test]
fn several_relays_on_postgres_and_nothing_is_left_there() {
    let (server, databases) = (Postgres::shared(), "SELECT count(*) FROM pg_database");
    let url = server.new_url();
    let before = server.sql("postgres", databases);
    let args = ["relay", "--spawn", "--posts", "100", "--database", &url, "--relays", "2"];
    let (json, _) = bench(&[&args[..], &["--connections", "4"]].concat());
    let settings = &json["settings"];
    assert_eq!((&settings["relays"], &settings["database"]), (&2.into(), &"PostgreSQL".into()));
    assert!(settings["durability"].as_str().unwrap().contains("synchronous_commit"));
    assert!(number(&json["floors"]["inserts_per_second"]) > 0.0);
    assert_run(&json["runs"][0], 4, 100);
    assert!(number(&json["runs"][0]["share_of_floor"]) > 0.0);
    assert_eq!(server.sql("postgres", databases), before);
}

#[test]
fn relay_by_schedule_and_json_on_standard_output() {
    let args = ["relay", "--spawn", "--rate", "300", "--seconds", "1", "--connections", "4"];
    let text = run(&[&args[..], &["--mix", "reject", "--json"]].concat());
    let json: Value = serde_json::from_str(&text).unwrap();
    assert_eq!(json["settings"]["loop"], "open");
    assert_eq!(number(&json["settings"]["rate"]), 300.0);
    assert_run(&json["runs"][0], 4, 300);
    assert_eq!(count(&json["runs"][0]["kinds"]["reject"]["good"]), 300);
}

#[test]
fn running_services_are_measured_too() {
    let world = World::default();
    let (issuer, relay) = (world.start_issuer(), world.start_relay());
    let voucher = world.voucher(1000);
    let services =
        ["--issuer", issuer.url(), "--relay", relay.url(), "--voucher", &voucher, "--posts", "50"];
    let args = [&["--json", "bench", "relay", "--connections", "2"], &services[..]].concat();
    let json: Value = serde_json::from_str(&succeed(&mut world.tocyn(&args))).unwrap();
    assert_run(&json["runs"][0], 2, 50);
    assert_eq!(json["runs"][0]["cpu"]["relay_seconds"], Value::Null);
    assert_eq!(world.vouchers_left(), 1000 - 256);

    let read = ["--json", "bench", "read", "--relay", relay.url()];
    let json: Value = serde_json::from_str(&succeed(&mut world.tocyn(&read))).unwrap();
    assert_eq!(count(&json["runs"][0]["messages"]), 50, "all that it keeps");
}

#[test]
fn read_downloads() {
    let args = ["read", "--spawn", "--size", "256KiB", "--connections", "1,2"];
    let (json, html) = bench(&args);
    assert_page(&html, &[SERIES[0], SERIES[2]]);
    for (run, connections) in json["runs"].as_array().unwrap().iter().zip([1, 2]) {
        assert_eq!(count(&run["messages"]), 128 * connections);
        assert_eq!(count(&run["bytes"]), 262_144 * connections);
        let frames: u64 = run["over_time_bytes"].as_array().unwrap().iter().map(count).sum();
        assert_eq!(frames, 128 * 2056 * connections);
        assert!(number(&run["megabytes_per_second"]) > 0.0);
        assert!(count(&run["relay_peak_bytes"]) > 0 && count(&run["relay_before_bytes"]) > 0);
    }
}

#[test]
fn read_with_followers() {
    let args = ["read", "--spawn", "--followers", "20", "--posts", "10", "--rate", "50"];
    let (json, html) = bench(&args);
    assert_page(&html, &[SERIES[1]]);
    let measured = &json["measured"];
    assert_eq!(count(&measured["each_from_receipt_us"]["count"]), 200);
    assert_eq!(count(&measured["last_from_receipt_us"]["count"]), 10);
    assert_latency(&measured["last_from_sent_us"], 10);
}

#[test]
fn exhaustion() {
    let (json, html) = bench(&["exhaustion", "--cores", "1,10000", "--vouchers", "5"]);
    assert_page(&html, &["Spam posts an hour", "What an honest phone pays"]);
    assert_eq!(number(&json["assumed"]["vouchers"]), 5.0);
    for unit in ["sha256", "token_client", "token_redeem", "token_issue"] {
        assert!(number(&json["measured_us"][unit]) > 0.0, "{unit}");
    }
    let attackers = json["attackers"].as_array().unwrap();
    let spam = |n: usize, name: &str| number(&attackers[n]["spam_per_hour"][name]);
    assert!((spam(1, "hashcash") / spam(0, "hashcash") - 10_000.0).abs() < 1e-6);
    assert_eq!(spam(0, "tokens"), spam(1, "tokens"), "cores buy no tokens");
    assert!((spam(1, "tokens") - 5.0 * 1000.0 / 168.0).abs() < 1e-9);
}

#[test]
fn wrong_answers_and_wrong_usage_are_errors() {
    let world = World::default();
    let fails = |args: &[&str]| {
        let output = output(world.tocyn(&[&["bench"], args].concat()).stdin(Stdio::null()));
        (output.status.code(), String::from_utf8(output.stderr).unwrap())
    };
    let issuer = world.start_issuer();
    let voucher = world.voucher(16);
    let poor = ["issuer", "--issuer", issuer.url(), "--voucher", &voucher, "--connections", "1"];
    let (code, err) = fails(&[&poor[..], &["--batch", "16", "--requests", "3"]].concat());
    assert_eq!(code, Some(1), "{err}");
    assert!(err.contains("2 answers were wrong") && err.contains("0 tokens are left"), "{err}");

    for (args, status, expected) in [
        (&["relay"][..], 2, "give --spawn, or --issuer URL"),
        (&["issuer", "--spawn", "--voucher", "tv1-x"], 2, "cannot be used with"),
        (&["read"], 2, "--relay URL"),
        (&["read", "--spawn", "--size", "many"], 2, "256MiB"),
        (&["relay", "--spawn", "--mix", "free=1"], 2, "healthz"),
        (&["relay", "--spawn", "--rate", "0"], 2, "requests a second"),
        (&["exhaustion", "--honest", "20"], 1, "--capacity"),
        (&["crypto", "--json", "/nowhere/at/all"], 1, "/nowhere/at/all"),
        (&["read", "--relay", "http://127.0.0.1:1"], 1, "does not answer"),
        (&["issuer", "--spawn", "--folder", "/nowhere/at/all"], 1, "--folder"),
    ] {
        let (code, err) = fails(args);
        assert_eq!(code, Some(status), "{args:?}: {err}");
        assert!(err.contains(expected), "{args:?}: {err}");
    }
}

#[test]
fn a_stopped_benchmark_stops_what_it_started() {
    let folder = tempfile::tempdir().unwrap();
    let mut command = World::default().tocyn(&["bench", "relay", "--spawn", "--seconds", "3600"]);
    command.arg("--folder").arg(folder.path());
    let mut bench = command.stdout(Stdio::null()).stderr(Stdio::piped()).spawn().unwrap();
    // The relay's address is the last thing that is known before it is measured.
    let started = || {
        let mut folders = std::fs::read_dir(folder.path()).unwrap();
        folders.any(|entry| entry.unwrap().path().join("relay/relay.sqlite").exists())
    };
    while !started() {
        assert!(bench.try_wait().unwrap().is_none(), "it has ended by itself");
        std::thread::sleep(std::time::Duration::from_millis(20));
    }
    let id = rustix::process::Pid::from_child(&bench);
    rustix::process::kill_process(id, rustix::process::Signal::TERM).unwrap();
    let output = bench.wait_with_output().unwrap();
    assert_eq!(output.status.code(), Some(1));
    assert!(String::from_utf8(output.stderr).unwrap().contains("stopped by a signal"));
    assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 0, "its folders are gone");
}
