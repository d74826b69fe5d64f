//! Folders as `init` leaves them, and tokens for all runs.

use std::path::{Path, PathBuf};
use std::sync::{Mutex, OnceLock};

use getrandom::SysRng;
use rand_core::UnwrapErr;
use tocyn_e2e::bearer::batch;
use tocyn_e2e::faults::Dice;
use tocyn_e2e::world::World;
use tocyn_protocol::issuance::Issuer;
use tocyn_protocol::keys::KeyPair;
use tocyn_protocol::relay::pack;
use tocyn_protocol::token::Token;
use tocyn_relay::data_dir::DataDir;

/// Tokens that runs share: each run has a relay of its own, with nothing spent.
pub(crate) const TOKENS: usize = 6000;

/// A relay's folder as `init` leaves it, and tokens for it.
pub(crate) struct Bank {
    pub(crate) world: World,
    /// What the pair has now.
    pub(crate) key: KeyPair,
    pub(crate) tokens: Vec<Token>,
}

/// Made once for all runs.
pub(crate) fn bank() -> &'static Bank {
    static BANK: OnceLock<Bank> = OnceLock::new();
    BANK.get_or_init(|| {
        let world = World::default();
        let key = current_key(&world);
        let mut tokens = Vec::new();
        while tokens.len() < TOKENS {
            let (request, pending) = batch(key.public(), 500);
            let issuer = Issuer::new(current_key(&world));
            let response = issuer.evaluate_batch(&request, &mut UnwrapErr(SysRng));
            tokens.extend(pending.finalize(&response).expect("genuine tokens"));
        }
        for data in [world.relay_data(), world.issuer_data()] {
            set(&data.join("config.toml"), "listen = [\"unix:admin.sock\"]", "listen = []");
        }
        Bank { world, key, tokens }
    })
}

/// The key that the pair of a world has now.
fn current_key(world: &World) -> KeyPair {
    let pairing = DataDir::new(world.relay_data()).pairing().expect("init wrote it");
    let epoch = pairing.schedule().epoch_at((tocyn_relay::system_clock())()).expect("it runs");
    pairing.key_pair(epoch)
}

/// Changes a line of a settings file.
pub(crate) fn set(path: &Path, old: &str, new: &str) {
    let text = std::fs::read_to_string(path).expect("the settings");
    assert!(text.contains(old), "{old} is in the settings");
    std::fs::write(path, text.replace(old, new)).expect("the settings");
}

/// The cell that a token pays for.
pub(crate) fn cell_of(token: usize, cell_bytes: usize) -> Vec<u8> {
    let mut cell = pack(format!("message {token}").as_bytes(), cell_bytes).expect("a short text");
    // Bytes that no other cell has, so that a torn page is noticed.
    let filler = Dice::new(token as u64).throw().to_le_bytes();
    let half = cell.len() / 2;
    cell[half..].iter_mut().zip(filler.iter().cycle()).for_each(|(byte, filler)| *byte = *filler);
    cell
}

/// The relay's folder with these settings; made once for each.
pub(crate) fn prepared(cell_bytes: usize, retained: Option<u64>) -> PathBuf {
    static LOCK: Mutex<()> = Mutex::new(());
    let _one = LOCK.lock();
    let world = &bank().world;
    let folder = world.path().join(format!("{cell_bytes}-{}", retained.unwrap_or(0)));
    let data = folder.join("relay");
    if !data.exists() {
        std::fs::create_dir_all(&folder).expect("it is ours");
        let mut copy = std::process::Command::new("cp");
        tocyn_e2e::world::succeed(copy.arg("-a").arg(world.relay_data()).arg(&folder));
        let config = data.join("config.toml");
        set(&config, "cell_bytes = 2048", &format!("cell_bytes = {cell_bytes}"));
        if let Some(bytes) = retained {
            set(&config, "max_bytes = 10000000000", &format!("max_bytes = {bytes}"));
        }
    }
    data
}
