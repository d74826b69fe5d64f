//! Buying tokens. Batches have one of three sizes, so that the size of one says nothing about
//! who asks; each is saved before it is asked for, so that a crash or a lost answer costs
//! nothing.

use getrandom::SysRng;
use rand_core::UnwrapErr;
use tocyn_protocol::challenge::TokenChallenge;
use tocyn_protocol::error::DecodeError;
use tocyn_protocol::issuance::{AmortizedBatchTokenRequest, FinalizeError, PendingBatch};
use tocyn_protocol::pairing::Epoch;
use tocyn_protocol::problem::{Problem, ProblemType};
use tocyn_protocol::schedule::{Purchase, ScheduleError};

use crate::issuer::{Counter, IssuerClient, Paid};
use crate::keys::{EpochKey, check_clock, check_issuer};
use crate::pins::{Met, check_issuer_address, kept};
use crate::session::{News, Session};
use crate::transport::{HttpError, random_up_to};
use crate::trust::TrustError;
use crate::wallet::{SavedBatch, Wallet, WalletError};
use crate::work::{self, Progress, WorkError};
use zeroize::Zeroizing;

/// The sizes of a batch, the largest first.
pub const BATCH_SIZES: [u64; 3] = [256, 64, 16];

/// Proofs of work that may come too late before it is given up.
const MAX_STALE: u32 = 3;

/// Why no more tokens came. Those that came before are in the wallet.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum RequestError {
    /// The issuer did not answer, or refused.
    #[error(transparent)]
    Http(#[from] HttpError),
    /// Issuer or relay cannot be trusted.
    #[error(transparent)]
    Trust(#[from] TrustError),
    /// There is no key to buy under now.
    #[error(transparent)]
    Schedule(#[from] ScheduleError),
    /// The key of the current epoch is not listed.
    #[error(
        "issuer and relay do not both list a key for epoch {0} yet; run the same command again"
    )]
    NotListed(Epoch),
    /// The wallet failed.
    #[error(transparent)]
    Wallet(#[from] WalletError),
    /// The answer was not made with the issuer's published key. The request is kept.
    #[error(
        "the issuer's answer is refused: {0}. Run the same command again; if this stays, tell the operator"
    )]
    Finalize(#[from] FinalizeError),
    /// The saved batch is damaged.
    #[error("the wallet is damaged: {0}")]
    Damaged(#[from] DecodeError),
    /// There is no proof of work.
    #[error(transparent)]
    Work(#[from] WorkError),
    /// The voucher has fewer tokens left than the smallest batch.
    #[error(
        "{left} tokens are left on the voucher, but tokens are asked for {smallest} at a time; ask for another voucher"
    )]
    Exhausted {
        /// Tokens left on the voucher.
        left: u64,
        /// The smallest batch.
        smallest: u64,
    },
}

/// What the user pays with.
pub enum Pays<'a> {
    /// A voucher's code.
    Voucher(&'a str),
    /// Work, of which this is told how far it is.
    Work(&'a mut (dyn FnMut(Progress) + Send)),
    /// The issuer is open to all.
    Nothing,
}

impl Pays<'_> {
    /// Whether this voucher has paid for that batch. What else was paid for is not asked for in the
    /// same run: the issuer would know both for one buyer's, which it knows of a voucher anyway.
    fn has_paid(&self, batch: &SavedBatch) -> bool {
        match (self, &batch.paid) {
            (Self::Voucher(mine), Paid::Voucher(theirs)) => *mine == theirs.as_str(),
            _ => false,
        }
    }

    async fn pay(
        &mut self,
        counter: &Counter,
        request: &AmortizedBatchTokenRequest,
    ) -> Result<Paid, WorkError> {
        Ok(match self {
            Self::Voucher(code) => Paid::Voucher(Zeroizing::new((*code).to_owned())),
            Self::Work(tell) => Paid::Work(work::solve(counter, request, *tell).await?),
            Self::Nothing => Paid::Nothing,
        })
    }
}

/// What came of a purchase.
#[derive(Debug, Default)]
pub struct Bought {
    /// Tokens that came, those of earlier runs included.
    pub received: u64,
    /// Batches of earlier runs that are still pending: their tokens, and why.
    pub stuck: Vec<(u64, String)>,
    /// Tokens that earlier runs asked for and did not get, not with this voucher; they were not asked
    /// for now.
    pub others: u64,
}

/// What issuer and relay agree on.
#[derive(Debug)]
pub struct Agreed {
    /// The relay, and what is pinned of it.
    pub met: Met,
    /// The epochs that the issuer lists.
    pub listed: Vec<Epoch>,
}

impl Agreed {
    /// The key of an epoch, if both list it.
    pub fn key(&self, epoch: Epoch) -> Option<&EpochKey> {
        let key = self.met.keys().iter().find(|key| key.epoch == epoch);
        key.filter(|_| self.listed.contains(&epoch))
    }

    /// What all tokens are for.
    pub fn challenge(&self) -> TokenChallenge {
        let statement = &self.met.pin.statement;
        TokenChallenge::new(&statement.issuer_name, None, &statement.origin_name)
            .expect("the names were checked")
    }
}

/// Looks at the issuer, over a connection of its own: it must list the keys that the relay has proven,
/// and no others.
pub async fn agree(
    session: &Session<'_>,
    issuer: &IssuerClient,
    met: Met,
) -> Result<Agreed, TrustError> {
    check_issuer_address(&met.pin, issuer.url())?;
    let who = issuer.url().to_string();
    let directory = issuer.directory().await?;
    check_clock(&who, directory.now, session.now())?;
    match check_issuer(&who, &directory, &met.newest, &met.shown) {
        Ok(listed) => Ok(Agreed { met, listed }),
        Err(error) => {
            let (key, newest) = (&met.pin.key, &met.newest);
            let document = serde_json::to_string(&directory).expect("it is plain data");
            Err(kept(session, newest, key, &who, document, Some(&met.info), error).await)
        }
    }
}

/// Buys tokens until the wallet has got `count` more, rounded up to whole batches. What an earlier
/// run asked for with the same voucher and did not receive comes first and counts. `progress` is told
/// the number so far.
pub async fn request(
    session: &Session<'_>,
    issuer: &IssuerClient,
    agreed: &Agreed,
    mut pays: Pays<'_>,
    count: u64,
    mut progress: impl FnMut(u64),
) -> Result<Bought, RequestError> {
    let (wallet, origin) = (session.wallet, &agreed.met.pin.key);
    let issuer_url = issuer.url().to_string();
    let mut bought = Bought::default();
    let counter = issuer.counter()?;
    for batch in wallet.pending(origin, &issuer_url).await? {
        if !pays.has_paid(&batch) {
            bought.others += batch.tokens();
            continue;
        }
        repeat(session, &counter, agreed, &batch, &mut bought).await?;
        progress(bought.received);
    }
    let mut largest = match pays {
        // More than one puzzle, so that each takes less than the issuer waits.
        Pays::Work(_) => BATCH_SIZES[2],
        _ => BATCH_SIZES[0],
    };
    let mut stale = 0;
    while bought.received < count {
        let key = current_key(session, agreed).await?;
        let size = next_batch(count - bought.received, largest);
        let rng = &mut UnwrapErr(SysRng);
        let challenge = agreed.challenge();
        let (request, pending) =
            AmortizedBatchTokenRequest::new(&key.key, &challenge, size as usize, rng)?;
        let paid = pays.pay(&counter, &request).await?;
        let batch = wallet.save_batch(origin, key, &issuer_url, paid, &pending).await?;
        match ask(wallet, &counter, agreed, &batch).await {
            Ok(()) => bought.received += batch.tokens(),
            Err(RequestError::Http(error)) if work_is_stale(&error) && stale < MAX_STALE => {
                wallet.drop_batch(&batch).await?;
                stale += 1;
            }
            // It was sent once and refused: nothing can have been charged for it.
            Err(RequestError::Http(error)) if refused_for_good(&error) => {
                wallet.drop_batch(&batch).await?;
                largest = smaller(error, size)?;
            }
            Err(error) => return Err(error),
        }
        progress(bought.received);
    }
    Ok(bought)
}

/// Asks again for all batches that earlier runs asked for at this issuer and did not receive: each
/// over a connection of its own, with a random time between two of them.
pub async fn resume(
    session: &Session<'_>,
    issuer: &IssuerClient,
    agreed: &Agreed,
    mut progress: impl FnMut(u64),
) -> Result<Bought, RequestError> {
    let mut bought = Bought::default();
    let pending = session.wallet.pending(&agreed.met.pin.key, &issuer.url().to_string()).await?;
    for (n, batch) in pending.iter().enumerate() {
        if n > 0 {
            issuer.gap().await;
        }
        repeat(session, &issuer.counter()?, agreed, batch, &mut bought).await?;
        progress(bought.received);
    }
    Ok(bought)
}

/// Asks again for a saved batch, under the key that it was made under.
async fn repeat(
    session: &Session<'_>,
    counter: &Counter,
    agreed: &Agreed,
    batch: &SavedBatch,
    bought: &mut Bought,
) -> Result<(), RequestError> {
    if !agreed.met.keys().contains(&batch.key) {
        bought.stuck.push((batch.tokens(), "their key is no longer in use".to_owned()));
        return Ok(());
    }
    match ask(session.wallet, counter, agreed, batch).await {
        Ok(()) => bought.received += batch.tokens(),
        // The issuer knows what it was paid for, and this was not: work is for one request.
        Err(RequestError::Http(error)) if work_is_stale(&error) => {
            session.wallet.drop_batch(batch).await?;
        }
        // It may be paid for, so it is kept whatever the issuer says; others need not wait.
        Err(error) if error.is_final() => bought.stuck.push((batch.tokens(), error.to_string())),
        Err(error) => return Err(error),
    }
    Ok(())
}

/// The key of the epoch that this machine's clock is in. Beside a change of epochs waits until it is
/// over, so that it does not tell who buys that a clock is a little off.
pub async fn current_key<'a>(
    session: &Session<'_>,
    agreed: &'a Agreed,
) -> Result<&'a EpochKey, RequestError> {
    let schedule = agreed.met.pin.statement.schedule;
    loop {
        match schedule.purchase((session.clock)())? {
            Purchase::Now(epoch) => {
                return agreed.key(epoch).ok_or_else(|| match agreed.met.renewal() {
                    Some(renewal) => TrustError::Renewed(Box::new(renewal)).into(),
                    None => RequestError::NotListed(epoch),
                });
            }
            Purchase::After(wait) => {
                // All who wait would come at once, each as late as its clock is off.
                let wait = wait + random_up_to(schedule.quiet_time());
                (session.tell)(News::Waiting(wait));
                tokio::time::sleep(wait).await;
            }
        }
    }
}

impl RequestError {
    /// Whether asking again now would end in the same way.
    fn is_final(&self) -> bool {
        match self {
            Self::Http(error) => !error.is_transient() || is_too_many_replays(error),
            Self::Finalize(_) => true,
            _ => false,
        }
    }
}

fn is_too_many_replays(error: &HttpError) -> bool {
    matches!(problem(error), Some((ProblemType::TooManyReplays, _)))
}

/// Sends a saved batch, and brings its tokens into the wallet.
async fn ask(
    wallet: &Wallet,
    counter: &Counter,
    agreed: &Agreed,
    batch: &SavedBatch,
) -> Result<(), RequestError> {
    let challenge = agreed.challenge();
    let (request, pending) = PendingBatch::from_bytes(&batch.key.key, &challenge, &batch.secrets)?;
    let response = counter.send(&batch.paid, &request).await?;
    let tokens = pending.finalize(&response)?;
    Ok(wallet.finish_batch(batch, &tokens).await?)
}

/// The price rose while we worked, or the puzzle grew old.
fn work_is_stale(error: &HttpError) -> bool {
    matches!(problem(error), Some((ProblemType::PowExpired | ProblemType::PowForged, _)))
}

fn problem(error: &HttpError) -> Option<(ProblemType, &Problem)> {
    match error {
        HttpError::Refused { problem, .. } => Some((problem.problem_type()?, problem)),
        _ => None,
    }
}

/// Refusals that an issuer gives before it charges.
fn refused_for_good(error: &HttpError) -> bool {
    use ProblemType::*;
    matches!(
        problem(error),
        Some((
            VoucherMissing
                | VoucherUnknown
                | VoucherExhausted
                | VoucherExpired
                | VoucherRevoked
                | BudgetSpent
                | AttesterOff
                | PowForged
                | PowExpired
                | PowUnsolved
                | UnknownTokenKey
                | MalformedTokenRequest
                | BatchTooLarge,
            _
        ))
    )
}

/// The largest batch that does not go beyond what is missing; the smallest one may.
fn next_batch(missing: u64, largest: u64) -> u64 {
    let fits = |size: &u64| *size <= missing && *size <= largest;
    BATCH_SIZES.into_iter().find(fits).unwrap_or(BATCH_SIZES[2])
}

/// After a batch of `size` was refused: the largest size that may still succeed.
fn smaller(error: HttpError, size: u64) -> Result<u64, RequestError> {
    let smallest = BATCH_SIZES[2];
    let bound = match problem(&error) {
        Some((ProblemType::VoucherExhausted | ProblemType::BudgetSpent, problem)) => {
            problem.balance
        }
        Some((ProblemType::BatchTooLarge, problem)) => problem.limit,
        _ => return Err(error.into()),
    };
    let fits = |s: &u64| *s < size && bound.is_none_or(|bound| *s <= bound);
    match BATCH_SIZES.into_iter().find(fits) {
        Some(smaller) => Ok(smaller),
        None => match problem(&error) {
            Some((ProblemType::VoucherExhausted, Problem { balance: Some(left), .. })) => {
                Err(RequestError::Exhausted { left: *left, smallest })
            }
            _ => Err(error.into()),
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn split(mut count: u64) -> Vec<u64> {
        let mut sizes = Vec::new();
        while count > 0 {
            let size = next_batch(count, 256);
            sizes.push(size);
            count = count.saturating_sub(size);
        }
        sizes
    }

    #[test]
    fn a_count_is_rounded_up_to_less_than_one_small_batch() {
        assert_eq!(split(1), [16]);
        assert_eq!(split(16), [16]);
        assert_eq!(split(100), [64, 16, 16, 16]);
        assert_eq!(split(600), [256, 256, 64, 16, 16]);
        for count in 1..2000 {
            assert!((count..count + 16).contains(&split(count).iter().sum()), "{count}");
        }
    }

    #[test]
    fn a_refusal_for_size_or_balance_leads_to_smaller_batches_and_ends() {
        let refused = |problem_type, balance, limit| HttpError::Refused {
            url: String::new(),
            problem: Box::new(Problem { balance, limit, ..Problem::new(problem_type, "") }),
            retry_after: None,
        };
        let too_large = || refused(ProblemType::BatchTooLarge, None, Some(100));
        assert_eq!(smaller(too_large(), 256).unwrap(), 64);
        let exhausted = |left| refused(ProblemType::VoucherExhausted, Some(left), None);
        assert_eq!(smaller(exhausted(40), 256).unwrap(), 16);
        assert!(matches!(
            smaller(exhausted(4), 64),
            Err(RequestError::Exhausted { left: 4, smallest: 16 })
        ));
        // An issuer that contradicts itself does not keep the client asking.
        assert!(smaller(exhausted(40), 16).is_err());
        assert!(smaller(refused(ProblemType::VoucherRevoked, None, None), 256).is_err());
    }
}
