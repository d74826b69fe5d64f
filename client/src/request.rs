//! Buying tokens. Batches have one of three sizes, so that the size of one says nothing about
//! who asks; each is saved before it is asked for, so that a crash or a lost answer costs
//! nothing.

use getrandom::SysRng;
use rand_core::UnwrapErr;
use tocyn_protocol::error::DecodeError;
use tocyn_protocol::issuance::{AmortizedBatchTokenRequest, FinalizeError, PendingBatch};
use tocyn_protocol::problem::{Problem, ProblemType};

use crate::issuer::{IssuerClient, Paid};
use crate::keys::{Agreed, KeysError, shown};
use crate::transport::HttpError;
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
    /// Names or keys cannot be used.
    #[error(transparent)]
    Keys(#[from] KeysError),
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
    /// The issuer's newest key is past its end.
    #[error("the issuer's key has expired by this machine's clock; set the clock right")]
    Clock,
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
    async fn pay(
        &mut self,
        issuer: &IssuerClient,
        request: &AmortizedBatchTokenRequest,
    ) -> Result<Paid, WorkError> {
        Ok(match self {
            Self::Voucher(code) => Paid::Voucher(Zeroizing::new((*code).to_owned())),
            Self::Work(tell) => Paid::Work(work::solve(issuer, request, *tell).await?),
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
}

/// Buys tokens until the wallet has got `count` more, rounded up to whole batches. What an
/// earlier run asked for at this issuer and did not receive comes first and counts. `progress`
/// is told the number so far.
pub async fn request(
    wallet: &Wallet,
    issuer: &IssuerClient,
    agreed: &Agreed,
    mut pays: Pays<'_>,
    count: u64,
    now: u64,
    mut progress: impl FnMut(u64),
) -> Result<Bought, RequestError> {
    let issuer_url = issuer.url().to_string();
    let mut bought = Bought::default();
    let shows = shown(&agreed.info)?;
    for batch in wallet.pending(&agreed.pair, &issuer_url).await? {
        if !shows.contains(&batch.key) {
            bought.stuck.push((batch.tokens(), "their key is no longer in use".to_owned()));
            continue;
        }
        match ask(wallet, issuer, agreed, &batch).await {
            Ok(()) => bought.received += batch.tokens(),
            // The issuer knows what it was paid for, and this was not: work is for one request.
            Err(RequestError::Http(error)) if work_is_stale(&error) => {
                wallet.drop_batch(&batch).await?;
            }
            // It may be paid for, so it is kept whatever the issuer says; others need not wait.
            Err(error) if error.is_final() => {
                bought.stuck.push((batch.tokens(), error.to_string()))
            }
            Err(error) => return Err(error),
        }
        progress(bought.received);
    }
    if agreed.key.not_after <= now {
        return Err(RequestError::Clock);
    }
    let mut largest = match pays {
        // More than one puzzle, so that each takes less than the issuer waits.
        Pays::Work(_) => BATCH_SIZES[2],
        _ => BATCH_SIZES[0],
    };
    let mut stale = 0;
    while bought.received < count {
        let size = next_batch(count - bought.received, largest);
        let rng = &mut UnwrapErr(SysRng);
        let challenge = agreed.pair.challenge()?;
        let (request, pending) =
            AmortizedBatchTokenRequest::new(&agreed.key.key, &challenge, size as usize, rng)?;
        let (pair, key) = (&agreed.pair, &agreed.key);
        let paid = pays.pay(issuer, &request).await?;
        let batch = wallet.save_batch(pair, key, &issuer_url, paid, &pending).await?;
        match ask(wallet, issuer, agreed, &batch).await {
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
    issuer: &IssuerClient,
    agreed: &Agreed,
    batch: &SavedBatch,
) -> Result<(), RequestError> {
    let challenge = agreed.pair.challenge()?;
    let (request, pending) = PendingBatch::from_bytes(&batch.key.key, &challenge, &batch.secrets)?;
    let response = issuer.send(&agreed.request_url, &batch.paid, &request).await?;
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
