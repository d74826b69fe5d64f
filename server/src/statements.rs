//! The relay's statements of keys: signed once for each pairing, and again when addresses change,
//! kept in the database, named by every checkpoint.

use std::sync::{Arc, RwLock};

use tocyn_protocol::log::note::{LogKey, VerifierKey};
use tocyn_protocol::pairing::{Epoch, Pairing};
use tocyn_protocol::relay::ProvenKey;
use tocyn_protocol::schedule::CLOCK_TOLERANCE_SECONDS;
use tocyn_protocol::statement::chain::{MAX_STATEMENTS, follows};
use tocyn_protocol::statement::tree::EpochTree;
use tocyn_protocol::statement::{Commitment, Signed, Statement};
use tocyn_service::time_text;

use crate::config::Config;
use crate::store::{Store, StoreError, StoredStatement};

/// The relay's statements, and the trees that keys are proven in.
pub struct Statements {
    store: Store,
    verifier: VerifierKey,
    tree: EpochTree,
    known: RwLock<Arc<Known>>,
}

/// What pairing and settings say.
struct Own {
    /// Without its place in the chain.
    wanted: Statement,
    tree: EpochTree,
}

impl Own {
    fn of(pairing: &Pairing, config: &Config) -> Self {
        let tree = EpochTree::of(pairing);
        let wanted = Statement {
            serial: 0,
            previous: None,
            origin_name: pairing.origin_name().to_owned(),
            issuer_name: pairing.issuer_name().to_owned(),
            issuer_address: config.issuer_address.clone(),
            addresses: config.addresses.clone(),
            schedule: pairing.schedule(),
            root: tree.root(),
        };
        Self { wanted, tree }
    }

    /// The statement to sign after those that are stored; None where the newest one says the same.
    /// Refuses what clients would not take, and what would make tokens worthless unsaid.
    async fn next(
        &self,
        store: &Store,
        stored: &[StoredStatement],
        verifier: &VerifierKey,
        now: u64,
    ) -> Result<Option<Statement>, StoreError> {
        let signed = open_all(stored, verifier)?;
        if signed.last().is_some_and(|newest| newest.says_the_same(&self.wanted)) {
            return Ok(None);
        }
        let Some(newest) = signed.last() else { return Ok(Some(self.wanted.clone())) };
        if self.wanted.schedule.genesis > now.saturating_add(CLOCK_TOLERANCE_SECONDS) {
            return Err(refusal(format!(
                "this pairing begins at {}, and this machine's clock shows {}: one of the clocks, here \
                 or where the issuer made it, is wrong. Set it right, and make a new pairing with \
                 `tocyn-issuer pairing renew` if it was the issuer's",
                time_text(self.wanted.schedule.genesis),
                time_text(now)
            )));
        }
        let was_replaced = signed.iter().any(|old| old.has_keys_of(&self.wanted));
        if was_replaced && !newest.has_keys_of(&self.wanted) {
            return Err(StoreError::PairingReplaced);
        }
        let (old, new) = (newest.schedule, self.wanted.schedule);
        if new.genesis < old.genesis {
            return Err(refusal(format!(
                "statement {} of keys in it is of a pairing that began at {old}, later than this one, \
                 which began at {}: clients refuse to go back. Set the issuer's clock right, and \
                 renew once it is past {old}; or begin a new data folder, with another relay name",
                newest.serial,
                time_text(new.genesis),
                old = time_text(old.genesis),
            )));
        }
        let next = Statement {
            serial: newest.serial + 1,
            previous: Some(newest.commitment().hash),
            ..self.wanted.clone()
        };
        follows(newest, &next).map_err(|error| {
            refusal(format!(
                "clients would not take this pairing after statement {} of keys in it ({error}): \
                 install a pairing that `tocyn-issuer pairing renew` made from the one before; \
                 other names need a new data folder",
                newest.serial
            ))
        })?;
        if new.genesis == old.genesis && !newest.has_keys_of(&next) {
            let leaves = store.statement_leaves(newest.serial).await?;
            let before = EpochTree::from_bytes(&leaves).ok_or(StoreError::Tree)?;
            let end = old.epoch_at(now).map_or(0, |epoch| epoch.saturating_add(1)).min(old.count);
            if !before.agrees_below(&self.tree, end) {
                return Err(refusal(format!(
                    "this pairing has other keys than statement {} of keys, which clients have, for \
                     epochs that have begun by this machine's clock ({}): tokens that were bought in \
                     them would be void, and nobody told. If a clock is wrong, here or at the issuer, \
                     set it right. Else bring the pairing.toml that this relay served last back to \
                     both sides (each keeps the ones before as pairing.toml.old-*), and plan the \
                     renewal again from it with `tocyn-issuer pairing renew --planned`; or let all \
                     tokens be void with `tocyn-issuer pairing renew`",
                    newest.serial,
                    time_text(now)
                )));
            }
        }
        Ok(Some(next))
    }
}

/// What the database has.
struct Known {
    /// Signed notes, the newest last, at most 64.
    notes: Vec<String>,
    /// From how many messages on checkpoints name which statement, in rising order.
    named: Vec<(u64, Commitment)>,
    /// The tree that was replaced last by a planned renewal: clients that have not accepted the
    /// renewal check keys in it.
    replaced: Option<EpochTree>,
}

impl Statements {
    /// Signs a statement if the newest one says something else than pairing and settings do, and
    /// adds it to the database. Nobody uses a database with two relays of different keys: posts are
    /// refused from then on by those that have other ones.
    pub async fn publish(
        store: &Store,
        key: &LogKey,
        pairing: &Pairing,
        config: &Config,
        now: u64,
    ) -> Result<Self, StoreError> {
        let (verifier, own) = (key.verifier(), Own::of(pairing, config));
        let mut tried = None;
        let stored = loop {
            let stored = store.statements().await?;
            let Some(next) = own.next(store, &stored, &verifier, now).await? else { break stored };
            let statement = next.sign(key);
            // What nobody could open must not be stored.
            Signed::open(statement.note(), &verifier).map_err(|error| {
                refusal(format!("its statement of keys cannot be signed: {error}"))
            })?;
            // Refused without another relay's statement: the database has another pairing by now.
            if tried.replace(next.serial) == Some(next.serial) {
                return Err(StoreError::PairingReplaced);
            }
            if store.add_statement(next.serial, statement.note(), &own.tree).await? {
                tracing::info!(serial = next.serial, "signed a statement of keys and addresses");
            }
        };
        store.sign_for(own.tree.root());
        let known = Known::load(store, &stored, &verifier).await?;
        let known = RwLock::new(Arc::new(known));
        Ok(Self { store: store.clone(), verifier, tree: own.tree, known })
    }

    /// Whether this pairing may follow what the database has, before the database is tied to it: if
    /// not, which of its tokens were spent stays known.
    pub async fn check(
        store: &Store,
        verifier: &VerifierKey,
        pairing: &Pairing,
        config: &Config,
        now: u64,
    ) -> Result<(), StoreError> {
        let stored = store.statements().await?;
        Own::of(pairing, config).next(store, &stored, verifier, now).await.map(drop)
    }

    fn known(&self) -> Arc<Known> {
        self.known.read().expect("no panic under the lock").clone()
    }

    /// Takes in what other relays have added. Fails if that is of another pairing than this relay's:
    /// it would sign what contradicts them.
    pub async fn refresh(&self) -> Result<(), StoreError> {
        let newest = self.known().newest().serial;
        if self.store.statements_heard_of().is_none_or(|number| number <= newest + 1) {
            return Ok(());
        }
        let stored = self.store.statements().await?;
        let newest = open_all(&stored, &self.verifier)?.pop().ok_or(StoreError::Tree)?;
        if (newest.root, newest.schedule.count) != (self.tree.root(), self.tree.count()) {
            return Err(StoreError::PairingReplaced);
        }
        let known = Known::load(&self.store, &stored, &self.verifier).await?;
        *self.known.write().expect("no panic under the lock") = Arc::new(known);
        Ok(())
    }

    /// The signed notes, the newest last.
    pub fn notes(&self) -> Vec<String> {
        self.known().notes.clone()
    }

    /// The statement that a checkpoint of so many messages names. For a longer log it is never an
    /// earlier one, whichever relay signs.
    pub fn named_at(&self, size: u64) -> Commitment {
        let known = self.known();
        let named = known.named.iter().rev().find(|(since, _)| *since <= size);
        named.unwrap_or(&known.named[0]).1
    }

    /// That an epoch's key is in the tree of the newest statement; and in the one before it, if that
    /// has the epoch.
    pub fn proofs(&self, epoch: Epoch) -> Vec<Vec<String>> {
        let known = self.known();
        let trees = std::iter::once(&self.tree).chain(&known.replaced);
        let proofs = trees.filter_map(|tree| tree.proof(epoch));
        proofs.map(|proof| ProvenKey::encode_proof(&proof)).collect()
    }
}

impl Known {
    async fn load(
        store: &Store,
        stored: &[StoredStatement],
        key: &VerifierKey,
    ) -> Result<Self, StoreError> {
        let signed = open_all(stored, key)?;
        let newest = signed.last().ok_or(StoreError::Tree)?;
        let differs = |old: &&Signed| !old.has_keys_of(newest);
        let replaced = signed.iter().rev().find(differs);
        let replaced = replaced.filter(|old| old.schedule.genesis == newest.schedule.genesis);
        let replaced = match replaced {
            None => None,
            Some(old) => {
                let leaves = store.statement_leaves(old.serial).await?;
                Some(EpochTree::from_bytes(&leaves).ok_or(StoreError::Tree)?)
            }
        };
        let first = stored.len().saturating_sub(MAX_STATEMENTS);
        let notes = stored[first..].iter().map(|statement| statement.note.clone()).collect();
        let named = stored.iter().zip(&signed).map(|(s, signed)| (s.since, signed.commitment()));
        Ok(Self { notes, named: named.collect(), replaced })
    }

    fn newest(&self) -> Commitment {
        self.named.last().expect("there is a statement").1
    }
}

fn open_all(stored: &[StoredStatement], key: &VerifierKey) -> Result<Vec<Signed>, StoreError> {
    let open = |stored: &StoredStatement| {
        Signed::open(&stored.note, key).map_err(|error| {
            refusal(format!(
                "statement {} of keys in it cannot be used ({error}); restore the database from a \
                 backup",
                stored.serial
            ))
        })
    };
    stored.iter().map(open).collect()
}

fn refusal(reason: String) -> StoreError {
    StoreError::Open { database: "the relay's database".to_owned(), reason }
}
