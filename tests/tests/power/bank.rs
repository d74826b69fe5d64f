//! Folders as `init` leaves them, and tokens for all runs.

use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, OnceLock};

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

/// Folders as `init` leaves them, and tokens for the relay.
pub(crate) struct Bank {
    pub(crate) world: World,
    /// Balances and tokens of the pair now.
    pub(crate) key: KeyPair,
    tokens: OnceLock<Vec<Token>>,
}

impl Bank {
    fn new() -> Self {
        let world = World::default();
        for data in [world.relay_data(), world.issuer_data()] {
            set(&data.join("config.toml"), "listen = [\"unix:admin.sock\"]", "listen = []");
        }
        Self { key: current_key(&world), world, tokens: OnceLock::new() }
    }

    /// [`TOKENS`] of them.
    pub(crate) fn tokens(&self) -> &[Token] {
        self.tokens.get_or_init(|| {
            let mut tokens = Vec::new();
            while tokens.len() < TOKENS {
                let (request, pending) = batch(self.key.public(), 500);
                let issuer = Issuer::new(current_key(&self.world));
                let response = issuer.evaluate_batch(&request, &mut UnwrapErr(SysRng));
                tokens.extend(pending.finalize(&response).expect("genuine tokens"));
            }
            tokens
        })
    }
}

/// The one of all issuers' runs.
pub(crate) fn bank() -> &'static Bank {
    static BANK: OnceLock<Bank> = OnceLock::new();
    BANK.get_or_init(Bank::new)
}

/// Those that no relay's run uses now. Two relays with one pairing do not run on one machine.
static FREE: Mutex<Vec<Bank>> = Mutex::new(Vec::new());

/// A bank for one run, which others have after it.
pub(crate) struct Lease(Option<Bank>);

/// One that is free, or a new one.
pub(crate) fn lease() -> Arc<Lease> {
    let free = FREE.lock().expect("no panic under the lock").pop();
    Arc::new(Lease(Some(free.unwrap_or_else(Bank::new))))
}

impl std::ops::Deref for Lease {
    type Target = Bank;

    fn deref(&self) -> &Bank {
        self.0.as_ref().expect("only the drop takes it")
    }
}

impl Drop for Lease {
    fn drop(&mut self) {
        FREE.lock().expect("no panic under the lock").extend(self.0.take());
    }
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
pub(crate) fn prepared(bank: &Bank, cell_bytes: usize, retained: Option<u64>) -> PathBuf {
    let world = &bank.world;
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
