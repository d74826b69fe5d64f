//! Saying something to a group: signed, in parts that fit a cell each, saved whole, then posted in
//! order, one token a cell.

use getrandom::SysRng;
use rand_core::UnwrapErr;

use crate::group::cell::CellKeys;
use crate::group::message::{Content, Message};
use crate::group::parts::{self, TooLong};
use crate::log::LogError;
use crate::pins::Met;
use crate::post::{PostError, deliver};
use crate::relay::RelayClient;
use crate::session::Session;
use crate::transport::HttpError;
use crate::wallet::{Group, Wallet, WalletError};

/// Why a message was not sent.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum SendError {
    /// It does not fit.
    #[error(transparent)]
    TooLong(#[from] TooLong),
    /// The relay's cells are too small for anything.
    #[error("this relay's cells of {0} bytes are too small for messages to groups")]
    SmallCells(u16),
    /// Cells of another size would mark who was told of it, and nobody might take them.
    #[error(
        "the relay says that its cells have {shown} bytes, and the invite says {known}; nothing was \
         saved or sent. Ask the others what they see with `tocyn info`"
    )]
    OtherCells {
        /// As the relay says.
        shown: u64,
        /// As the invite says.
        known: u16,
    },
    /// The relay's log.
    #[error(transparent)]
    Log(#[from] LogError),
    /// No connection can be made.
    #[error(transparent)]
    Http(#[from] HttpError),
    /// The wallet failed. Nothing was sent.
    #[error(transparent)]
    Wallet(#[from] WalletError),
    /// It was sent, but its receipt shows that the relay is at fault.
    #[error(transparent)]
    Fault(PostError),
    /// Some cells have no receipt. They are saved.
    #[error(
        "{waiting} cells have no receipt yet: {}. They are saved; `tocyn send GROUP --resume` sends \
         them", error.cause()
    )]
    Waiting {
        /// Cells.
        waiting: usize,
        /// Why.
        error: PostError,
    },
}

/// A message that is signed and sealed, and not saved yet.
pub struct Composed {
    message: Message,
    /// Its cells. Each costs a token.
    pub cells: Vec<Vec<u8>>,
}

/// Signs a message that answers to all that this member has seen. It passes on the checkpoint that
/// was shown with the relay's statement of keys, over a connection of its own, so that it tells the
/// relay nothing about who posts.
pub async fn compose(
    session: &Session<'_>,
    group: &Group,
    met: &Met,
    body: Vec<u8>,
) -> Result<Composed, SendError> {
    let wallet = session.wallet;
    let cell_bytes = group.invite.cell_bytes;
    if met.info.cell_bytes != u64::from(cell_bytes) {
        return Err(SendError::OtherCells { shown: met.info.cell_bytes, known: cell_bytes });
    }
    if parts::capacity(cell_bytes.into()) == 0 {
        return Err(SendError::SmallCells(cell_bytes));
    }
    wallet.add_claim(group.log_key(), &met.checkpoint).await?;
    let content = Content {
        counter: group.counter + 1,
        time: session.now(),
        name: group.own_name.clone(),
        parents: wallet.heads(group).await?,
        checkpoint: Some(met.checkpoint.clone()),
        body,
    };
    let bytes = content.encode(group.author.author());
    let keys = CellKeys::new(&group.invite.secret, group.log_key());
    let rng = &mut UnwrapErr(SysRng);
    let parts = parts::split(&bytes, &group.author, &group.group_id(), cell_bytes.into())?;
    let cells = parts.iter().map(|part| keys.seal(part, rng)).collect();
    Ok(Composed { message: Message::decode(&bytes).map_err(WalletError::from)?, cells })
}

/// Saves a message, to be sent after those that wait already.
pub async fn queue(wallet: &Wallet, group: &Group, composed: &Composed) -> Result<(), WalletError> {
    wallet.queue(group, &composed.message, &composed.cells).await
}

/// Sends the cells of a group that wait, in their order, until one has no receipt: the cells of one
/// message over one connection, each message over another, with a random time between two of them.
/// Returns how many cells were sent.
pub async fn send_waiting(
    session: &Session<'_>,
    relay: &RelayClient,
    met: &Met,
    group: &Group,
) -> Result<usize, SendError> {
    let waiting = session.wallet.waiting(group).await?;
    let mut sent = 0;
    for message in waiting.chunk_by(|one, next| one.said == next.said) {
        if sent > 0 {
            relay.gap().await;
        }
        let poster = relay.poster()?;
        for cell in message {
            let delivered = deliver(session, &poster, met, &cell.cell).await;
            delivered.map_err(|error| match error {
                PostError::Log { .. } => SendError::Fault(error),
                _ => SendError::Waiting { waiting: waiting.len() - sent, error },
            })?;
            sent += 1;
        }
    }
    Ok(sent)
}
