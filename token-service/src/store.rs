//! Vouchers and what was charged to them. The contract is here; SQLite and PostgreSQL keep it, and
//! `tests/issuer` holds both to it.

mod bound;
mod charge;
mod copy;
mod error;
mod issued;
mod labels;
mod look;
mod postgres;
mod report;
mod secrets;
mod sqlite;

use std::collections::HashSet;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, RwLock};

use tocyn_protocol::pairing::{Epoch, Pairing};

use tocyn_service::database::Database;

use crate::attester::Attester;
use bound::Bound;

pub use charge::{Charge, Charged, Refusal, Rules};
pub use copy::{Copied, Copying};
pub use error::StoreError;
pub use issued::{Issued, LedgerRow, out_of_line};
use postgres::PostgresStore;
pub use report::Stats;
use sqlite::SqliteStore;

/// SHA-256, of a voucher's code or of a request.
type Hash = [u8; 32];

/// Vouchers that are remembered to exist: 32 bytes each, and some for the table.
const MAX_KNOWN: usize = 65_536;

/// What the log says when another pairing takes the place of one.
const NEW_PAIRING: &str = "the pairing is new: what was charged under the old one is forgotten, and \
    its tokens are worth nothing";

/// Bytes of a code's hash that a voucher is called by: no two of them begin alike.
pub const VOUCHER_ID_BYTES: usize = 8;

/// A voucher as `voucher list` shows it; its code is not known.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize)]
pub struct VoucherRow {
    /// The first 16 hexadecimal digits of the code's hash.
    pub id: String,
    /// Who decided.
    pub attester: Attester,
    /// Tokens granted; of an allowance, in each epoch.
    pub granted: u64,
    /// Tokens left; of an allowance, in the last epoch that it was used in.
    pub balance: u64,
    /// Unix seconds.
    pub expires_at: u64,
    /// Unix seconds, if revoked.
    pub revoked_at: Option<u64>,
}

impl VoucherRow {
    /// In a word: whether it can be used at `now`, in unix seconds.
    pub fn state(&self, now: u64) -> &'static str {
        match self.validity(now) {
            "usable" if self.balance == 0 && self.attester != Attester::Allowance => "used up",
            validity => validity,
        }
    }

    /// The same without what its use has left, to stand beside a label: labels are kept apart
    /// from use.
    pub fn validity(&self, now: u64) -> &'static str {
        match self.revoked_at {
            Some(_) => "revoked",
            None if self.expires_at <= now => "expired",
            None => "usable",
        }
    }
}

/// The database.
#[derive(Clone)]
pub struct Store {
    backend: Backend,
    /// Hashes of codes that were found, at most [`MAX_KNOWN`].
    known: Arc<RwLock<HashSet<Hash>>>,
    /// Tokens that this process handed out, by attester.
    tally: Arc<[AtomicU64; 5]>,
}

#[derive(Clone)]
enum Backend {
    /// A file, for one issuer.
    Sqlite(SqliteStore),
    /// A server, for any number of issuers.
    Postgres(PostgresStore),
}

/// Calls the same method of whichever backend it is.
macro_rules! on_backend {
    ($self:ident.$method:ident($($argument:expr),*)) => {
        match &$self.backend {
            Backend::Sqlite(store) => store.$method($($argument),*).await,
            Backend::Postgres(store) => store.$method($($argument),*).await,
        }
    };
}
use on_backend;

impl Store {
    /// Opens the database, makes its tables if they are not there, and brings them up to date.
    pub async fn open(database: &Database) -> Result<Self, StoreError> {
        let backend = match database {
            Database::Sqlite(path) => Backend::Sqlite(SqliteStore::open(path, false).await?),
            Database::Postgres(server) => Backend::Postgres(PostgresStore::open(server).await?),
        };
        Ok(Self { backend, known: Arc::default(), tally: Arc::default() })
    }

    /// Opens a file whose vouchers are to be moved elsewhere, or were.
    pub async fn open_to_move(path: &Path) -> Result<Self, StoreError> {
        let backend = Backend::Sqlite(SqliteStore::open(path, true).await?);
        Ok(Self { backend, known: Arc::default(), tally: Arc::default() })
    }

    /// Refuses where vouchers in this file would be left behind.
    pub async fn leave_file(path: &Path) -> Result<(), StoreError> {
        if !path.exists() || !SqliteStore::is_in_use(path).await? {
            return Ok(());
        }
        let reason = "there are vouchers in this file, which another database does not know; move \
            them with `tocyn-issuer db copy --to URL` before database.url is set, or move the \
            file away";
        Err(StoreError::Open { database: path.display().to_string(), reason: reason.to_owned() })
    }

    /// The database's file, if it is one.
    pub fn file(&self) -> Option<PathBuf> {
        match &self.backend {
            Backend::Sqlite(store) => Some(store.file()),
            Backend::Postgres(_) => None,
        }
    }

    /// Does what the database needs beside the requests, until this is dropped: SQLite's WAL is
    /// kept short.
    pub async fn work_forever(&self) {
        if let Backend::Sqlite(store) = &self.backend {
            store.work_forever().await;
        }
    }

    /// Lets go of the database.
    pub async fn close(&self) {
        on_backend!(self.close());
    }

    /// Whether requests can be charged.
    pub async fn ping(&self) -> Result<(), StoreError> {
        on_backend!(self.ping())
    }

    /// Writes what changes nothing, as durably as a charge and over the same connections. Where
    /// charges failed because the disk `was_full`, it must also have room for some.
    pub async fn try_write(&self, was_full: bool) -> Result<(), StoreError> {
        match &self.backend {
            Backend::Sqlite(store) => store.try_write(was_full).await,
            Backend::Postgres(store) => store.try_write().await,
        }
    }

    /// Whether there is such a voucher: the look before the costly part of a request. One that
    /// was found before is not looked for again: vouchers are revoked, but never deleted.
    pub async fn knows(&self, code_hash: &Hash) -> Result<bool, StoreError> {
        if self.known.read().expect("no panic under the lock").contains(code_hash) {
            return Ok(true);
        }
        let found = on_backend!(self.finds(code_hash))?;
        if found {
            let mut known = self.known.write().expect("no panic under the lock");
            if known.len() >= MAX_KNOWN {
                known.clear();
            }
            known.insert(*code_hash);
        }
        Ok(found)
    }

    /// Ties the database to a pairing, and this store to it: it charges under no other one from
    /// now on. The charges of another one are forgotten: their keys are void, and their epochs
    /// have other numbers. A pairing that was replaced before is refused.
    /// A planned renewal of the one in use forgets nothing, and is not taken back either.
    pub async fn bind(&self, pairing: &Pairing) -> Result<(), StoreError> {
        let bound = Bound::of(pairing);
        on_backend!(self.bind(bound))
    }

    /// Charges requests to vouchers, in one transaction, and answers for each in order. A
    /// request is charged exactly once however often it is sent, to whichever issuer: a body that
    /// was charged to the voucher before, earlier in this batch too, is answered under the key of
    /// then and not charged again.
    ///
    /// When this returns `Ok` all of it is durable; on an error nothing was charged, or, if the
    /// commit itself failed, all or nothing: a repeat finds out.
    pub async fn charge_batch(
        &self,
        charges: &[Charge],
        rules: Rules,
        now: u64,
    ) -> Result<Vec<Charged>, StoreError> {
        let (outcomes, tally) = on_backend!(self.charge_batch(charges, rules, now))?;
        for (all, new) in self.tally.iter().zip(tally) {
            all.fetch_add(new, Relaxed);
        }
        Ok(outcomes)
    }

    /// Tokens that this process handed out, without repeats.
    pub fn handed_out(&self, attester: Attester) -> u64 {
        self.tally[attester as usize].load(Relaxed)
    }

    /// Makes the account of an attester that has one for all, if it is not there.
    pub async fn make_account(&self, attester: Attester) -> Result<(), StoreError> {
        on_backend!(self.make_account(attester))
    }

    /// Whether this body was charged to this voucher before.
    pub async fn was_charged(
        &self,
        code_hash: &Hash,
        body_hash: &Hash,
    ) -> Result<bool, StoreError> {
        on_backend!(self.was_charged(code_hash, body_hash))
    }

    /// Adds vouchers of `tokens` tokens each (of an allowance: in each epoch), all or none. Those
    /// that are there already stay as they are.
    pub async fn create_vouchers(
        &self,
        code_hashes: &[Hash],
        attester: Attester,
        tokens: u64,
        expires_at: u64,
    ) -> Result<(), StoreError> {
        on_backend!(self.create_vouchers(code_hashes, attester, tokens, expires_at))
    }

    /// The voucher whose code has this hash.
    pub async fn voucher(&self, code_hash: &Hash) -> Result<Option<VoucherRow>, StoreError> {
        on_backend!(self.voucher(code_hash))
    }

    /// Every voucher, the oldest first.
    pub async fn list_vouchers(&self) -> Result<Vec<VoucherRow>, StoreError> {
        on_backend!(self.list_vouchers())
    }

    /// Revokes vouchers for good: those whose code's hash begins with `hash_prefix`, the whole
    /// hash or the id that [`VoucherRow`] shows. Gives how many.
    pub async fn revoke_voucher(&self, hash_prefix: &[u8], now: u64) -> Result<u64, StoreError> {
        on_backend!(self.revoke_voucher(hash_prefix, now))
    }

    /// Refuses a clock that is not the database's: an epoch that one process closes by a wrong
    /// clock is closed for all that share the database. A file has one process, and no other clock.
    pub async fn check_clock(&self, now: u64) -> Result<(), StoreError> {
        match &self.backend {
            Backend::Sqlite(_) => Ok(()),
            Backend::Postgres(store) => store.check_clock(now).await,
        }
    }

    /// Forgets the charges of closed epochs, and closes these for good; gives how many.
    pub async fn prune(&self, oldest_epoch: Epoch) -> Result<u64, StoreError> {
        on_backend!(self.prune(oldest_epoch))
    }
}

/// A voucher in the database.
#[derive(serde::Serialize, sqlx::FromRow)]
struct VoucherRecord {
    code_hash: Vec<u8>,
    attester: i64,
    refilled_epoch: i64,
    granted: i64,
    balance: i64,
    expires_at: i64,
    revoked_at: Option<i64>,
}

/// All of them and the shared accounts, the oldest first.
const VOUCHERS: &str = "SELECT code_hash, CAST(attester AS bigint) AS attester, refilled_epoch,
     granted, balance, expires_at, revoked_at FROM vouchers ORDER BY id";

/// The one with this hash.
const VOUCHER: &str = "SELECT code_hash, CAST(attester AS bigint) AS attester, refilled_epoch,
     granted, balance, expires_at, revoked_at FROM vouchers WHERE code_hash = $1";

impl VoucherRecord {
    /// None for a shared account.
    fn row(self) -> Option<VoucherRow> {
        let record = self;
        let attester = Attester::from_number(record.attester)?;
        (!attester.is_shared()).then(|| VoucherRow {
            id: hex::encode(&record.code_hash[..VOUCHER_ID_BYTES]),
            attester,
            granted: record.granted as u64,
            balance: record.balance as u64,
            expires_at: record.expires_at as u64,
            revoked_at: record.revoked_at.map(|at| at as u64),
        })
    }
}
