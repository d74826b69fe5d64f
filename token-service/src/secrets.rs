//! Secrets that only the issuer has. They are not made from the pairing's secret, since the relay has
//! that too: it could make the codes of other people's payments, and challenges of proof of work for
//! a time to come.

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::sync::{Arc, Mutex};

use getrandom::SysRng;
use hkdf::Hkdf;
use rand_core::{Rng, UnwrapErr};
use sha2::Sha256;
use zeroize::{Zeroize, ZeroizeOnDrop, Zeroizing};

use crate::store::{Store, StoreError};
use crate::voucher::VoucherCode;

/// Length of a day in seconds: a secret of its own for each.
pub(crate) const DAY_SECONDS: u64 = 86_400;
/// Days for which a code can be asked for again.
const REPEAT_DAYS: u64 = 3;
/// Days for which an id is known to have had a code.
const GRANT_DAYS: u64 = 365;
/// HKDF salts.
const GRANT_ID_SALT: &[u8] = b"tocyn/v1 grant id";
const GRANT_CODE_SALT: &[u8] = b"tocyn/v1 grant";

/// What a secret is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Purpose {
    /// Hashing the ids of grants; one for all time.
    GrantIds = 0,
    /// Making codes of ids; one for each day.
    GrantCodes = 1,
    /// Authenticating challenges of proof of work; one for each day.
    #[cfg_attr(not(feature = "pow"), allow(dead_code))]
    Work = 2,
}

/// 32 random bytes. Wiped on drop, never shown.
#[derive(Clone, Zeroize, ZeroizeOnDrop)]
pub(crate) struct Secret([u8; 32]);

impl Secret {
    fn expand<const N: usize>(&self, salt: &[u8], info: &[u8]) -> Zeroizing<[u8; N]> {
        let mut out = Zeroizing::new([0; N]);
        let hkdf = Hkdf::<Sha256>::new(Some(salt), &self.0);
        hkdf.expand(info, out.as_mut()).expect("it is short enough for HKDF");
        out
    }

    /// What an id of a grant is noted as.
    pub(crate) fn id_hash(&self, id: &[u8]) -> [u8; 32] {
        *self.expand(GRANT_ID_SALT, id)
    }

    /// The code for an id, the same one each time.
    pub(crate) fn code(&self, id: &[u8]) -> VoucherCode {
        let of_round = |round: u8| {
            VoucherCode::from_bytes(*self.expand(GRANT_CODE_SALT, &[&[round], id].concat()))
        };
        (0..=u8::MAX).find_map(of_round).expect("nine of ten have a code")
    }

    /// What authenticates challenges.
    #[cfg(feature = "pow")]
    pub(crate) fn pow_key(&self) -> tocyn_protocol::pow::PowKey {
        tocyn_protocol::pow::PowKey::new(self.0)
    }
}

/// The secrets, each read from the database once.
#[derive(Clone)]
pub(crate) struct Secrets {
    store: Store,
    known: Arc<Mutex<HashMap<(Purpose, u64), Secret>>>,
    /// Whether copies of what was wiped may still be somewhere.
    unflushed: Arc<AtomicBool>,
}

impl Secrets {
    pub(crate) fn new(store: Store) -> Self {
        Self { store, known: Arc::default(), unflushed: Arc::new(true.into()) }
    }

    fn known(&self, purpose: Purpose, number: u64) -> Option<Secret> {
        self.known.lock().expect("no panic under the lock").get(&(purpose, number)).cloned()
    }

    fn learn(&self, purpose: Purpose, number: u64, bytes: [u8; 32]) -> Secret {
        let secret = Secret(bytes);
        let mut known = self.known.lock().expect("no panic under the lock");
        known.insert((purpose, number), secret.clone());
        secret
    }

    /// The secret of this number, made if there was none yet; None if it was wiped.
    pub(crate) async fn get(
        &self,
        purpose: Purpose,
        number: u64,
    ) -> Result<Option<Secret>, StoreError> {
        if let Some(secret) = self.known(purpose, number) {
            return Ok(Some(secret));
        }
        let mut fresh = Zeroizing::new([0; 32]);
        UnwrapErr(SysRng).fill_bytes(fresh.as_mut());
        let stored = self.store.secret(purpose, number, &fresh).await?;
        Ok(stored.map(|bytes| self.learn(purpose, number, bytes)))
    }

    /// The secret of this number; None once it is wiped.
    pub(crate) async fn find(
        &self,
        purpose: Purpose,
        number: u64,
    ) -> Result<Option<Secret>, StoreError> {
        if let Some(secret) = self.known(purpose, number) {
            return Ok(Some(secret));
        }
        let found = self.store.find_secret(purpose, number).await?;
        Ok(found.map(|bytes| self.learn(purpose, number, bytes)))
    }

    /// The code for an id, and the same one for three days at least; None after that.
    pub(crate) async fn grant(
        &self,
        id: &[u8],
        now: u64,
    ) -> Result<Option<VoucherCode>, StoreError> {
        let Some(ids) = self.get(Purpose::GrantIds, 0).await? else { return Ok(None) };
        // There before an id is noted under it. After a clock that was ahead it may be wiped already:
        // then the next one serves.
        let mut number = now / DAY_SECONDS;
        while self.get(Purpose::GrantCodes, number).await?.is_none() {
            number += 1;
        }
        let number = self.store.note_grant(&ids.id_hash(id), number, now).await?;
        let secret = self.find(Purpose::GrantCodes, number).await?;
        Ok(secret.map(|secret| secret.code(id)))
    }

    /// Wipes what has served its time, here and in the database.
    pub(crate) async fn wipe(&self, now: u64) -> Result<(), StoreError> {
        let today = now / DAY_SECONDS;
        // Each id under a secret is older than that many days once its day is over for so long.
        let codes = today.saturating_sub(REPEAT_DAYS);
        // Yesterday's challenges are good for some minutes of today.
        let work = today.saturating_sub(u64::from(now % DAY_SECONDS < WORK_OVERLAP_SECONDS));
        for (purpose, below) in [(Purpose::GrantCodes, codes), (Purpose::Work, work)] {
            self.known
                .lock()
                .expect("no panic under the lock")
                .retain(|(of, number), _| *of != purpose || *number >= below);
            // A challenge of a day that comes again after a wrong clock may have a new secret.
            let wiped = match purpose {
                Purpose::Work => self.store.forget_secrets(purpose, below).await?,
                _ => self.store.wipe_secrets(purpose, below).await?,
            };
            if wiped > 0 {
                self.unflushed.store(true, Relaxed);
            }
        }
        self.store.forget_grants(now.saturating_sub(GRANT_DAYS * DAY_SECONDS)).await?;
        let forgotten = today.saturating_sub(2 * GRANT_DAYS);
        self.store.forget_secrets(Purpose::GrantCodes, forgotten).await?;
        if self.unflushed.load(Relaxed) && self.store.flush_wiped().await? {
            self.unflushed.store(false, Relaxed);
            tracing::debug!("secrets that have served their time are wiped");
        }
        Ok(())
    }
}

/// How long a secret for challenges serves after its day: as long as a challenge is taken, and clocks
/// may differ.
pub(crate) const WORK_OVERLAP_SECONDS: u64 = 600 + 60;

#[cfg(test)]
mod tests {
    use super::*;
    use tocyn_service::database::Database;
    use tocyn_test_postgres::Postgres;

    const NOW: u64 = 20_000 * DAY_SECONDS + 40_000;

    /// A database of each kind.
    fn databases() -> (tempfile::TempDir, [Database; 2]) {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("issuer.sqlite");
        let server = Postgres::shared().new_url();
        let parse = |url: &str| Database::parse(url, file.clone()).unwrap();
        (dir, [parse(""), parse(&server)])
    }

    #[tokio::test]
    async fn a_code_can_be_asked_for_again_for_three_days_and_never_becomes_another() {
        let (_dir, databases) = databases();
        for database in databases {
            let store = Store::open(&database).await.unwrap();
            let secrets = Secrets::new(store.clone());
            let ask = async |secrets: &Secrets, id: &str, now| {
                secrets.wipe(now).await.unwrap();
                secrets.grant(id.as_bytes(), now).await.unwrap().map(|code| code.text().to_string())
            };
            let code = ask(&secrets, "order-1", NOW).await.expect("it is new");
            assert_eq!(ask(&secrets, "order-1", NOW).await.as_ref(), Some(&code));
            assert_ne!(ask(&secrets, "order-2", NOW).await.as_ref(), Some(&code));
            // Another issuer, or this one started again, has the same; also the next days.
            let other = Secrets::new(Store::open(&database).await.unwrap());
            for days in [0, 1, 3] {
                let again = ask(&other, "order-1", NOW + days * DAY_SECONDS).await;
                assert_eq!(again.as_ref(), Some(&code), "{days}");
            }
            // Its secret is wiped then, in memory and in the database, and the id stays known.
            for days in [5, 100, 364] {
                for secrets in [&other, &secrets] {
                    assert_eq!(
                        ask(secrets, "order-1", NOW + days * DAY_SECONDS).await,
                        None,
                        "{days}"
                    );
                }
            }
            let first = NOW / DAY_SECONDS;
            assert_eq!(store.find_secret(Purpose::GrantCodes, first).await.unwrap(), None);
            // A year later it is as if it had never been there.
            let much_later = ask(&other, "order-1", NOW + 366 * DAY_SECONDS).await;
            assert!(much_later.is_some_and(|new| new != code));
            store.close().await;
        }
    }

    #[tokio::test]
    async fn a_clock_that_was_ahead_gives_no_second_code() {
        let (_dir, databases) = databases();
        for database in databases {
            let secrets = Secrets::new(Store::open(&database).await.unwrap());
            let ask = async |id: &str| secrets.grant(id.as_bytes(), NOW).await.unwrap();
            assert!(ask("order-1").await.is_some());
            secrets.wipe(NOW + 5 * DAY_SECONDS).await.unwrap();
            assert!(ask("order-1").await.is_none(), "its code cannot be made again");
            let other = ask("order-2").await.expect("a new one has a code all the same");
            assert_eq!(ask("order-2").await.as_ref(), Some(&other));
        }
    }

    /// Nothing of a secret is left in the files, also where somebody has read meanwhile.
    #[tokio::test]
    async fn what_is_wiped_is_gone_from_the_files() {
        use sqlx::{Connection, SqliteConnection};
        let (dir, [database, _]) = databases();
        let store = Store::open(&database).await.unwrap();
        let secrets = Secrets::new(store.clone());
        let secret = secrets.get(Purpose::GrantCodes, NOW / DAY_SECONDS).await.unwrap().unwrap();
        let file = dir.path().join("issuer.sqlite");
        let is_there = || {
            let has = |path: &std::path::Path| {
                let bytes = std::fs::read(path).unwrap_or_default();
                bytes.windows(32).any(|window| window == secret.0)
            };
            has(&file) || has(&dir.path().join("issuer.sqlite-wal"))
        };
        assert!(is_there());
        let mut reader =
            SqliteConnection::connect(&format!("sqlite://{}", file.display())).await.unwrap();
        sqlx::raw_sql("BEGIN; SELECT * FROM secrets").execute(&mut reader).await.unwrap();
        let later = NOW + 5 * DAY_SECONDS;
        secrets.wipe(later).await.unwrap();
        sqlx::raw_sql("COMMIT").execute(&mut reader).await.unwrap();
        secrets.wipe(later).await.unwrap();
        assert!(!is_there());
    }

    #[tokio::test]
    async fn yesterdays_challenges_are_good_for_some_minutes() {
        let (_dir, databases) = databases();
        for database in databases {
            let secrets = Secrets::new(Store::open(&database).await.unwrap());
            let day = NOW / DAY_SECONDS;
            let first = secrets.get(Purpose::Work, day).await.unwrap().unwrap();
            assert_eq!(secrets.get(Purpose::Work, day).await.unwrap().unwrap().0, first.0);
            let midnight = (day + 1) * DAY_SECONDS;
            for (now, is_there) in
                [(midnight, true), (midnight + 600, true), (midnight + WORK_OVERLAP_SECONDS, false)]
            {
                secrets.wipe(now).await.unwrap();
                let found = secrets.find(Purpose::Work, day).await.unwrap();
                assert_eq!(found.is_some(), is_there, "{now}");
            }
        }
    }
}
