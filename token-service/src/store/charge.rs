//! Charging: many requests in one transaction. What the database knows about them is read in one
//! statement, what becomes of each is decided here, and what changed is written in one statement
//! for each table, so that a batch of any size is the same few trips to the database.

use std::collections::HashMap;

use sqlx::{Row, SqliteConnection};
use tocyn_protocol::pairing::Epoch;

use super::{Store, StoreError};

type Hash = [u8; 32];

/// What a request asks of a voucher.
#[derive(Clone, Copy)]
pub struct Charge {
    /// SHA-256 of the voucher's code.
    pub code_hash: Hash,
    /// SHA-256 of the request body.
    pub body_hash: Hash,
    /// Tokens asked for.
    pub tokens: usize,
    /// The epoch to issue under; None refuses all but repeats.
    pub epoch: Option<Epoch>,
}

/// Which repeats are answered.
#[derive(Clone, Copy, Debug)]
pub struct Rules {
    /// Repeats of one request in one window.
    pub max_replays: u32,
    /// Length of the window.
    pub replay_window_seconds: u64,
    /// The oldest epoch whose repeats are answered.
    pub oldest_epoch: Epoch,
}

/// Charged, or charged before: the epoch under whose key to answer. Or why not.
pub type Charged = Result<Epoch, Refusal>;

/// Why a request is not answered. It was not charged, unless it was charged before.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Refusal {
    /// Repeated too often; wait this many seconds.
    #[error("this request was repeated too often; wait {0} s")]
    TooManyReplays(u64),
    /// No key fits, or the key of then is no longer used.
    #[error("the key is not, or no longer, in use; read the directory and ask again")]
    UnknownKey,
    /// There is no such voucher.
    #[error("this issuer has no such voucher")]
    Unknown,
    /// Revoked.
    #[error("the voucher was revoked by the operator")]
    Revoked,
    /// Expired.
    #[error("the voucher has expired; ask for a new one")]
    Expired,
    /// Too few tokens: this many are left.
    #[error("{0} tokens are left on the voucher; ask for no more")]
    Exhausted(u64),
}

impl Store {
    /// Charges requests to vouchers, in one transaction, and answers for each in order. A
    /// request is charged exactly once however often it is sent: a body that was charged to the
    /// voucher before, earlier in this batch too, is answered under the key of then and not
    /// charged again.
    ///
    /// When this returns `Ok` all of it is durable; on an error
    /// nothing was charged, or, if the commit itself failed, all or nothing: a repeat finds out.
    pub async fn charge_batch(
        &self,
        charges: &[Charge],
        rules: Rules,
        now: u64,
    ) -> Result<Vec<Charged>, StoreError> {
        let mut tx = self.writer.begin_with("BEGIN IMMEDIATE").await?;
        let mut ledger = Ledger::read(&mut tx, charges).await?;
        let outcomes = charges.iter().map(|charge| ledger.charge(charge, rules, now)).collect();
        ledger.write(&mut tx).await?;
        tx.commit().await?;
        Ok(outcomes)
    }
}

/// What the database knows about the requests of a batch, and what they change.
#[derive(Default)]
struct Ledger {
    closed_below: Epoch,
    /// By the hash of the code.
    vouchers: HashMap<Hash, Voucher>,
}

struct Voucher {
    id: i64,
    balance: u64,
    expires_at: u64,
    revoked: bool,
    charged_now: u64,
    /// By the hash of the body.
    requests: HashMap<Hash, Request>,
}

/// A request that was charged, now or before.
struct Request {
    epoch: Epoch,
    tokens: usize,
    replays: u64,
    window_start: u64,
    state: RequestState,
}

#[derive(Clone, Copy, PartialEq)]
enum RequestState {
    New,
    Unchanged,
    Repeated,
}

impl Ledger {
    async fn read(tx: &mut SqliteConnection, charges: &[Charge]) -> Result<Self, sqlx::Error> {
        let asked = charges.iter().map(|c| (hex::encode(c.code_hash), hex::encode(c.body_hash)));
        let asked: Vec<_> = asked.collect();
        let rows = sqlx::query(
            "SELECT asked.key AS at, (SELECT closed_below FROM issuer) AS closed_below,
                 v.id, v.balance, v.expires_at, v.revoked_at, c.epoch, c.replays, c.window_start
             FROM json_each(?1) AS asked
             JOIN vouchers AS v ON v.code_hash = unhex(asked.value ->> 0)
             LEFT JOIN charges AS c ON c.voucher_id = v.id
                 AND c.body_hash = unhex(asked.value ->> 1)",
        )
        .bind(json(&asked))
        .fetch_all(tx)
        .await?;
        let mut ledger = Self::default();
        for row in rows {
            let asked = &charges[row.try_get::<i64, _>("at")? as usize];
            ledger.closed_below = row.try_get::<i64, _>("closed_below")? as u64;
            let voucher = Voucher {
                id: row.try_get("id")?,
                balance: row.try_get::<i64, _>("balance")? as u64,
                expires_at: row.try_get::<i64, _>("expires_at")? as u64,
                revoked: row.try_get::<Option<i64>, _>("revoked_at")?.is_some(),
                charged_now: 0,
                requests: HashMap::new(),
            };
            let voucher = ledger.vouchers.entry(asked.code_hash).or_insert(voucher);
            if let Some(epoch) = row.try_get::<Option<i64>, _>("epoch")? {
                let request = Request {
                    epoch: epoch as u64,
                    tokens: asked.tokens,
                    replays: row.try_get::<i64, _>("replays")? as u64,
                    window_start: row.try_get::<i64, _>("window_start")? as u64,
                    state: RequestState::Unchanged,
                };
                voucher.requests.insert(asked.body_hash, request);
            }
        }
        Ok(ledger)
    }

    fn charge(&mut self, charge: &Charge, rules: Rules, now: u64) -> Charged {
        let voucher = self.vouchers.get_mut(&charge.code_hash).ok_or(Refusal::Unknown)?;
        if let Some(request) = voucher.requests.get_mut(&charge.body_hash) {
            return request.repeat(rules, now);
        }
        // The charges of closed epochs are forgotten: a body of theirs would be charged twice.
        let closed = |epoch: &Epoch| *epoch < self.closed_below;
        let epoch = charge.epoch.filter(|e| !closed(e)).ok_or(Refusal::UnknownKey)?;
        let tokens = charge.tokens as u64;
        if voucher.revoked {
            return Err(Refusal::Revoked);
        } else if voucher.expires_at <= now {
            return Err(Refusal::Expired);
        } else if voucher.balance < tokens {
            return Err(Refusal::Exhausted(voucher.balance));
        }
        voucher.balance -= tokens;
        voucher.charged_now += tokens;
        let request = Request {
            epoch,
            tokens: charge.tokens,
            replays: 0,
            window_start: now,
            state: RequestState::New,
        };
        voucher.requests.insert(charge.body_hash, request);
        Ok(epoch)
    }

    /// Writes what changed. The database has the last word: a balance has a `CHECK`, and a
    /// request that is new is a new primary key, or the transaction fails.
    async fn write(&self, tx: &mut SqliteConnection) -> Result<(), sqlx::Error> {
        let charged = self.vouchers.values().filter(|v| v.charged_now > 0);
        write_rows(
            tx,
            "UPDATE vouchers SET balance = balance - (charged.value ->> 1)
             FROM json_each(?1) AS charged WHERE vouchers.id = charged.value ->> 0",
            charged.map(|v| (v.id, v.charged_now)),
        )
        .await?;
        write_rows(
            tx,
            "INSERT INTO charges (voucher_id, body_hash, replays, window_start, epoch, tokens)
             SELECT value ->> 0, unhex(value ->> 1), value ->> 2, value ->> 3, value ->> 4,
                 value ->> 5
             FROM json_each(?1)",
            self.requests(RequestState::New).map(|(id, body_hash, r)| {
                (id, body_hash, r.replays, r.window_start, r.epoch, r.tokens)
            }),
        )
        .await?;
        write_rows(
            tx,
            "UPDATE charges
             SET replays = repeated.value ->> 2, window_start = repeated.value ->> 3
             FROM json_each(?1) AS repeated
             WHERE voucher_id = repeated.value ->> 0 AND body_hash = unhex(repeated.value ->> 1)",
            self.requests(RequestState::Repeated)
                .map(|(id, body_hash, r)| (id, body_hash, r.replays, r.window_start)),
        )
        .await
    }

    /// Those in this state: the voucher's id, the body's hash in hexadecimal, the request.
    fn requests(&self, state: RequestState) -> impl Iterator<Item = (i64, String, &Request)> {
        self.vouchers.values().flat_map(move |voucher| {
            let requests = voucher.requests.iter().filter(move |(_, r)| r.state == state);
            requests.map(|(hash, request)| (voucher.id, hex::encode(hash), request))
        })
    }
}

impl Request {
    /// Counts a repeat.
    fn repeat(&mut self, rules: Rules, now: u64) -> Charged {
        let window_end = |start: u64| start.saturating_add(rules.replay_window_seconds);
        let max = u64::from(rules.max_replays);
        let (replays, window_start) = if window_end(self.window_start) <= now {
            (1, now)
        } else {
            (self.replays.min(max) + 1, self.window_start)
        };
        if self.state == RequestState::Unchanged
            && (replays, window_start) != (self.replays, self.window_start)
        {
            self.state = RequestState::Repeated;
        }
        (self.replays, self.window_start) = (replays, window_start);
        if replays > max {
            let wait = window_end(window_start).saturating_sub(now);
            Err(Refusal::TooManyReplays(wait.max(1)))
        } else if self.epoch < rules.oldest_epoch {
            Err(Refusal::UnknownKey)
        } else {
            Ok(self.epoch)
        }
    }
}

/// Runs a statement once for all rows, if there are any.
async fn write_rows<T: serde::Serialize>(
    tx: &mut SqliteConnection,
    statement: &'static str,
    rows: impl Iterator<Item = T>,
) -> Result<(), sqlx::Error> {
    let rows: Vec<T> = rows.collect();
    if !rows.is_empty() {
        sqlx::query(statement).bind(json(&rows)).execute(tx).await?;
    }
    Ok(())
}

/// Rows as one parameter: the text of a statement does not depend on how many there are.
fn json<T: serde::Serialize>(rows: &[T]) -> String {
    serde_json::to_string(rows).expect("numbers and text")
}
