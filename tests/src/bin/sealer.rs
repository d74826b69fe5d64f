//! Seals what is full in a stopped relay's log, then drops what is before a message, and kills itself
//! right after a given step: `sealer DATA URL STEP SEQ`. Prints the steps. `URL` may be empty.

#![allow(clippy::print_stdout)]

use std::path::PathBuf;
use std::sync::atomic::{AtomicUsize, Ordering};

use tocyn_relay::config::Config;
use tocyn_relay::data_dir::DataDir;
use tocyn_relay::log::Log;
use tocyn_relay::messages::Messages;
use tocyn_relay::seal::{Step, remove_dropped, seal};
use tocyn_relay::store::Store;
use tocyn_service::config::Places;
use tocyn_service::database::Database;

#[tokio::main]
async fn main() {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let [data, url, last, before] = &args[..] else { panic!("DATA URL STEP SEQ, not {args:?}") };
    let (last, before): (usize, u64) =
        (last.parse().expect("a number"), before.parse().expect("a number"));
    let data = DataDir::new(PathBuf::from(data));
    let (config, pairing) = (
        Places::new("relay", None, data.path()).read::<Config>().expect("settings").settings,
        data.pairing().expect("a pairing"),
    );
    let _lock = data.lock().expect("no relay runs");
    let database = Database::parse(url, data.database_path()).expect("a URL");
    let key = data.log_key(pairing.origin_name()).expect("a key");
    let verifier = key.verifier();
    let store = Store::open(&database, &pairing, &verifier, config.cell_bytes);
    let store = store.await.expect("a database");
    let log = Log::open(store.clone(), key, &pairing, &config, tocyn_service::system_clock()())
        .await
        .expect("a log");
    log.put_away().await.expect("tiles are put away");
    let folder = Some(data.log_folder_path());
    let messages = Messages::open(store, folder.as_deref(), log.verifier(), config.cell_bytes);
    let messages = messages.await.expect("a folder");
    let steps = AtomicUsize::new(0);
    let reached = |step: &str| {
        println!("{step}");
        if steps.fetch_add(1, Ordering::Relaxed) + 1 == last {
            std::process::abort();
        }
    };
    let observe = |step: Step| reached(&format!("{step:?}"));
    seal(&messages, &observe).await.expect("it is sealed");
    messages.store().trim(before, 0).await.expect("it is dropped");
    reached("Dropped");
    remove_dropped(&messages, &observe).await.expect("files are removed");
}
