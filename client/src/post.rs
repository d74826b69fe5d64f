//! Posting. A token is reserved for the message before the post is sent, and the same bytes
//! are sent until the outcome is known, so that a message is stored once and paid for once.
//!
//! A token that was sent stays with its message: with another one it would tell the relay that
//! both come from one sender.

use std::time::Duration;

use getrandom::SysRng;
use rand_core::{Rng, UnwrapErr};
use tocyn_protocol::log::checkpoint::Checkpoint;
use tocyn_protocol::log::evidence::{EvidenceError, SignedProof};
use tocyn_protocol::log::note::{NoteError, VerifierKey};
use tocyn_protocol::problem::ProblemType;
use tocyn_protocol::redemption::BoundToken;
use tocyn_protocol::relay::{MessageId, ProvenReceipt};

use crate::log::growth::check_growth;
use crate::log::{LogError, check_receipt};
use crate::pins::Met;
use crate::relay::{Poster, RelayClient};
use crate::renewal::Renewal;
use crate::session::{News, Session};
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
        "the wallet has no token that relay {origin} takes now; buy some with `tocyn request`{}",
        renewal.as_ref().map(|renewal| format!(". {renewal}")).unwrap_or_default()
    )]
    NoToken {
        /// The relay's name.
        origin: String,
        /// A statement that is not accepted yet: after it there may be other tokens.
        renewal: Option<Box<Renewal>>,
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
    #[error("{0}. The message is saved in the wallet; `tocyn post --resume` sends it again")]
    Unknown(HttpError),
    /// The relay refused. Message and token are in the wallet, and stay together.
    #[error(
        "{0}. Message and token are kept together in the wallet: `tocyn post --resume` sends \
         them again, `tocyn post --resume --give-up` drops both"
    )]
    Refused(HttpError),
    /// The relay says that the token paid for another message.
    #[error(
        "the relay says that the token paid for another message before: either a copy of this \
         wallet is in use, or the relay lies. The message is kept: `tocyn post --resume --again` \
         pays with another token, `--give-up` drops it"
    )]
    Disputed,
    /// The token was sent, its receipt did not come, and its key is no longer taken.
    #[error(
        "the message may or may not be stored: its receipt never came, and the relay no longer \
         takes its token. Look for its id in `tocyn read --json`; then `tocyn post --resume` with \
         `--again` posts it with another token, with `--give-up` drops it"
    )]
    Unclear,
    /// The receipt is for another message: the relay is at fault.
    #[error(
        "the relay gave a receipt for another message ({got}) than was posted ({posted}); tell \
         the operator"
    )]
    WrongReceipt {
        /// The message that was posted.
        posted: MessageId,
        /// The one in the receipt.
        got: MessageId,
    },
    /// The receipt proves nothing. Message and token are in the wallet.
    #[error(
        "the relay's receipt does not prove that the message is in its log: {0}. Message and token \
         are kept; `tocyn post --resume` asks for another receipt"
    )]
    Unproven(EvidenceError),
    /// There is a receipt that the relay does not keep to, or may not keep to. The token is spent.
    #[error("posted as number {seq}, but the relay is at fault: {error}")]
    Log {
        /// What the receipt says.
        seq: u64,
        /// What is wrong.
        error: LogError,
    },
    /// No connection can be made.
    #[error(transparent)]
    Http(HttpError),
    /// The wallet failed.
    #[error(transparent)]
    Wallet(#[from] WalletError),
}

impl PostError {
    /// What went wrong, without what to do about it with `tocyn post`.
    pub fn cause(&self) -> String {
        match self {
            Self::Unknown(error) | Self::Refused(error) => error.to_string(),
            Self::Unproven(error) => {
                format!("the relay's receipt does not prove that it has the message: {error}")
            }
            error => error.to_string(),
        }
    }
}

/// Posts a cell with a token drawn at random, over a connection for this message alone, and returns
/// the receipt. One token is shown to the relay and no more, whatever it answers.
pub async fn post(
    session: &Session<'_>,
    poster: &Poster,
    met: &Met,
    cell: &[u8],
) -> Result<ProvenReceipt, PostError> {
    if cell.len() as u64 != met.info.cell_bytes {
        return Err(PostError::CellSize { expected: met.info.cell_bytes, got: cell.len() });
    }
    let reserved = session.wallet.reserve(&met.pin.key, met.keys(), cell, session.now()).await?;
    match reserved {
        Some(reserved) => pay(session.wallet, poster, &met.pin.key, &reserved).await,
        None => Err(PostError::NoToken {
            origin: met.pin.key.name().to_owned(),
            renewal: met.renewal().map(Box::new),
        }),
    }
}

/// Posts a cell of which it does no harm that it is in the log twice: where it cannot be known
/// whether an earlier run got it there, it is paid for again.
pub async fn deliver(
    session: &Session<'_>,
    poster: &Poster,
    met: &Met,
    cell: &[u8],
) -> Result<ProvenReceipt, PostError> {
    let (wallet, origin, id) = (session.wallet, &met.pin.key, MessageId::of(cell));
    let begun = wallet.reserved(origin).await?.into_iter().find(|begun| begun.message_id == id);
    let Some(begun) = begun else { return post(session, poster, met, cell).await };
    if met.keys().contains(&begun.key) && !begun.disputed {
        return pay(wallet, poster, origin, &begun).await;
    }
    wallet.give_up(origin, &begun.token).await?;
    post(session, poster, met, cell).await
}

/// After a post: checks that the relay's log has only grown, over a connection of its own, unless
/// this wallet follows the log anyway. If it cannot be checked, that is told and is no error.
pub async fn check_log(
    session: &Session<'_>,
    relay: &RelayClient,
    key: &VerifierKey,
    proven: &ProvenReceipt,
) -> Result<(), LogError> {
    if session.wallet.checked_log(key).await?.is_some() {
        return Ok(());
    }
    let proof = proven.proof.parse::<SignedProof>().map_err(NoteError::from);
    let note = proof.map_err(EvidenceError::from)?.checkpoint;
    let (shown, note) = Checkpoint::open_bare(&note, key).map_err(EvidenceError::from)?;
    let files = relay.log_files()?;
    match check_growth(session.wallet, &files, key, &shown, &note).await {
        Err(error @ (LogError::Http(_) | LogError::Tiles(_))) => {
            (session.tell)(News::NotChecked(error.to_string()));
            Ok(())
        }
        checked => checked,
    }
}

/// What to do with messages that cannot simply be sent again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unclear {
    /// Keep them.
    Keep,
    /// Pay again, with another token.
    PayAgain,
    /// Drop message and token.
    GiveUp,
}

/// What became of a message that an earlier run began.
#[derive(Debug)]
pub enum Resumed {
    /// It has a receipt now.
    Posted(ProvenReceipt),
    /// It was dropped.
    GivenUp(MessageId),
    /// It is still without a receipt.
    Open(MessageId, PostError),
}

/// Sends again the public messages that earlier runs began and did not end: each over a connection of
/// its own, with a random time between two of them, so that a relay that refuses messages does not
/// learn which ones have one author. Cells of groups are left to `tocyn send`.
pub async fn resume(
    session: &Session<'_>,
    relay: &RelayClient,
    met: &Met,
    unclear: Unclear,
) -> Result<Vec<Resumed>, PostError> {
    let (wallet, origin) = (session.wallet, &met.pin.key);
    let mut resumed = Vec::new();
    let mut is_first = true;
    for reserved in wallet.reserved(origin).await? {
        if reserved.is_to_group {
            continue;
        }
        let (id, is_shown) = (reserved.message_id, met.keys().contains(&reserved.key));
        let is_sent = match unclear {
            Unclear::GiveUp => {
                wallet.give_up(origin, &reserved.token).await?;
                resumed.push(Resumed::GivenUp(id));
                continue;
            }
            Unclear::Keep => is_shown && !reserved.disputed,
            Unclear::PayAgain => true,
        };
        if is_sent && !std::mem::take(&mut is_first) {
            relay.gap().await;
        }
        let result = match unclear {
            _ if is_shown && !reserved.disputed => {
                let poster = relay.poster().map_err(PostError::Http)?;
                pay(wallet, &poster, origin, &reserved).await
            }
            Unclear::PayAgain => {
                let poster = relay.poster().map_err(PostError::Http)?;
                let result = post(session, &poster, met, &reserved.cell).await;
                // Once it is with its new token, whatever came of it, the old one can go.
                if is_with_another_token(&result) {
                    wallet.give_up(origin, &reserved.token).await?;
                }
                result
            }
            _ if reserved.disputed => Err(PostError::Disputed),
            _ => Err(PostError::Unclear),
        };
        resumed.push(match result {
            Ok(receipt) => Resumed::Posted(receipt),
            Err(PostError::Wallet(error)) => return Err(error.into()),
            Err(error) => Resumed::Open(id, error),
        });
    }
    Ok(resumed)
}

fn is_with_another_token<T>(result: &Result<T, PostError>) -> bool {
    use PostError::{Disputed, Log, Refused, Unknown, Unproven, WrongReceipt};
    match result {
        Ok(_) | Err(Unknown(_) | Refused(_) | Disputed | Unproven(_) | WrongReceipt { .. }) => true,
        Err(Log { .. }) => true,
        Err(_) => false,
    }
}

/// Sends a reserved token with its message until the outcome is known, and books it.
async fn pay(
    wallet: &Wallet,
    poster: &Poster,
    origin: &VerifierKey,
    reserved: &Reserved,
) -> Result<ProvenReceipt, PostError> {
    let bound = BoundToken::new(&reserved.token, origin.name(), &reserved.message_id);
    let mut attempt = 1;
    let error = loop {
        match poster.post(&bound, reserved.cell.clone()).await {
            Ok(proven) if proven.receipt.message_id != reserved.message_id => {
                return Err(PostError::WrongReceipt {
                    posted: reserved.message_id,
                    got: proven.receipt.message_id,
                });
            }
            Ok(proven) => {
                if let Err(error) = proven.verify(origin) {
                    let error = PostError::Unproven(error);
                    wallet.keep_fault(origin, &error.to_string(), None).await?;
                    return Err(error);
                }
                wallet.spend(origin, &reserved.token, &proven).await?;
                let seq = proven.receipt.seq;
                let checked = check_receipt(wallet, origin, &proven).await;
                return checked.map(|()| proven).map_err(|error| PostError::Log { seq, error });
            }
            Err(error) if error.is_transient() && attempt < ATTEMPTS => {
                tokio::time::sleep(wait_after(&error, attempt)).await;
                attempt += 1;
            }
            Err(error) => break error,
        }
    };
    match &error {
        _ if error.is_transient() => Err(PostError::Unknown(error)),
        HttpError::Refused { problem, .. }
            if problem.problem_type() == Some(ProblemType::TokenSpent) =>
        {
            wallet.dispute(&reserved.token).await?;
            Err(PostError::Disputed)
        }
        HttpError::Refused { .. } => Err(PostError::Refused(error)),
        _ => Err(PostError::Unknown(error)),
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
