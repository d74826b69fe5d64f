//! Posting. A token is reserved for the message before the post is sent, and the same bytes
//! are sent until the outcome is known, so that a message is stored once and paid for once.

use std::time::Duration;

use getrandom::SysRng;
use rand_core::{Rng, UnwrapErr};
use tocyn_protocol::keys::PublicKey;
use tocyn_protocol::problem::ProblemType;
use tocyn_protocol::redemption::BoundToken;
use tocyn_protocol::relay::{MessageId, PostReceipt, RelayInfo};

use crate::keys::{KeysError, Pair, check_unchanged};
use crate::printable::Printable;
use crate::relay::RelayClient;
use crate::transport::HttpError;
use crate::wallet::{Reserved, Wallet, WalletError};

/// How often a post is sent before it is left for later.
const ATTEMPTS: u32 = 4;
/// The longest wait between two attempts.
const MAX_WAIT: Duration = Duration::from_secs(30);

/// Why a message has no receipt.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum PostError {
    /// No token to pay with.
    #[error(
        "the wallet has no token for relay {} that it takes now; buy some with `tocyn request`",
        Printable(relay_name)
    )]
    NoToken {
        /// The relay's name.
        relay_name: String,
    },
    /// A cell of another size than the relay's.
    #[error("this relay takes cells of exactly {expected} bytes; this one has {got}")]
    CellSize {
        /// The relay's size.
        expected: u64,
        /// The cell's.
        got: usize,
    },
    /// The outcome is not known. Message and token are in the wallet.
    #[error("{cause}. The message is saved in the wallet; `tocyn post --resume` sends it again")]
    Unknown {
        /// Why the last attempt gave no outcome.
        cause: HttpError,
    },
    /// The relay refused the message. The token is unspent again.
    #[error("{0}. No token was spent")]
    Refused(HttpError),
    /// The receipt is for another message: the relay is at fault.
    #[error(
        "the relay gave a receipt for another message ({got}) than was posted ({posted}); tell the operator"
    )]
    WrongReceipt {
        /// The message that was posted.
        posted: MessageId,
        /// The one in the receipt.
        got: MessageId,
    },
    /// The relay's keys cannot be trusted.
    #[error(transparent)]
    Keys(#[from] KeysError),
    /// The wallet failed.
    #[error(transparent)]
    Wallet(#[from] WalletError),
}

/// What one token led to.
enum Ended {
    Stored(PostReceipt),
    /// The token was spent before on another message: a copy of this wallet was in use.
    SpentElsewhere,
    /// The relay does not take tokens of this key (any more).
    KeyRefused(HttpError),
}

/// Posts a cell with a token drawn at random, and gives the receipt.
pub async fn post(
    wallet: &Wallet,
    relay: &RelayClient,
    info: &RelayInfo,
    cell: &[u8],
    now: u64,
) -> Result<PostReceipt, PostError> {
    if cell.len() as u64 != info.cell_bytes {
        return Err(PostError::CellSize { expected: info.cell_bytes, got: cell.len() });
    }
    let pair = Pair::of(info);
    check_unchanged(info, &wallet.keys(&pair).await?)?;
    let mut refused: Vec<PublicKey> = Vec::new();
    let mut refusal = None;
    while let Some(reserved) = wallet.reserve(&pair, &refused, cell, now).await? {
        match pay(wallet, relay, &pair, &reserved).await? {
            Ended::Stored(receipt) => return Ok(receipt),
            Ended::SpentElsewhere => {}
            Ended::KeyRefused(error) => {
                refused.push(reserved.key.key);
                refusal = Some(PostError::Refused(error));
            }
        }
    }
    Err(refusal.unwrap_or(PostError::NoToken { relay_name: pair.relay_name }))
}

/// Sends again what an earlier run began and did not end. Gives the receipts.
pub async fn resume(
    wallet: &Wallet,
    relay: &RelayClient,
    info: &RelayInfo,
    now: u64,
) -> Result<Vec<PostReceipt>, PostError> {
    let pair = Pair::of(info);
    check_unchanged(info, &wallet.keys(&pair).await?)?;
    let mut receipts = Vec::new();
    for reserved in wallet.reserved(&pair).await? {
        receipts.push(match pay(wallet, relay, &pair, &reserved).await? {
            Ended::Stored(receipt) => receipt,
            // Not stored with this token: it is a new post.
            Ended::SpentElsewhere | Ended::KeyRefused(_) => {
                post(wallet, relay, info, &reserved.cell, now).await?
            }
        });
    }
    Ok(receipts)
}

/// Sends a reserved token with its message until the outcome is known, and books it.
async fn pay(
    wallet: &Wallet,
    relay: &RelayClient,
    pair: &Pair,
    reserved: &Reserved,
) -> Result<Ended, PostError> {
    let bound = BoundToken::new(&reserved.token, &pair.relay_name, &reserved.message_id);
    let mut attempt = 1;
    let error = loop {
        match relay.post(&bound, reserved.cell.clone()).await {
            Ok(receipt) if receipt.message_id != reserved.message_id => {
                return Err(PostError::WrongReceipt {
                    posted: reserved.message_id,
                    got: receipt.message_id,
                });
            }
            Ok(receipt) => {
                wallet.spend(pair, &reserved.token).await?;
                return Ok(Ended::Stored(receipt));
            }
            Err(error) if error.is_transient() && attempt < ATTEMPTS => {
                tokio::time::sleep(wait_after(&error, attempt)).await;
                attempt += 1;
            }
            Err(error) => break error,
        }
    };
    match &error {
        HttpError::Refused { problem, .. } if !error.is_transient() => {
            match problem.problem_type() {
                Some(ProblemType::TokenSpent) => {
                    wallet.spend(pair, &reserved.token).await?;
                    Ok(Ended::SpentElsewhere)
                }
                Some(ProblemType::UnknownKey) => {
                    wallet.release(&reserved.token).await?;
                    Ok(Ended::KeyRefused(error))
                }
                _ => {
                    wallet.release(&reserved.token).await?;
                    Err(PostError::Refused(error))
                }
            }
        }
        _ => Err(PostError::Unknown { cause: error }),
    }
}

/// What the relay asks for, else 1 s, 2 s, 4 s; and up to as much again at random, so that
/// clients of a relay that comes back do not all come at once.
fn wait_after(error: &HttpError, attempt: u32) -> Duration {
    let asked = match error {
        HttpError::Refused { retry_after, .. } => retry_after.map(Duration::from_secs),
        _ => None,
    };
    let wait = asked.unwrap_or(Duration::from_secs(1 << (attempt - 1))).min(MAX_WAIT);
    wait.mul_f64(1.0 + f64::from(UnwrapErr(SysRng).next_u32()) / f64::from(u32::MAX))
}
