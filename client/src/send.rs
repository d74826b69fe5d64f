//! Saying something to a group: signed, in parts that fit a cell each, saved whole, then posted in
//! order, one token a cell.

use getrandom::SysRng;
use rand_core::UnwrapErr;
use tocyn_protocol::relay::RelayInfo;

use crate::group::cell::CellKeys;
use crate::group::message::{Content, Message, SeenKey};
use crate::group::parts::{self, TooLong};
use crate::keys::{KeysError, Pair, check_seen, check_unchanged};
use crate::log::LogError;
use crate::log::follow::newest;
use crate::post::{PostError, deliver};
use crate::relay::RelayClient;
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
    /// The relay's keys cannot be trusted.
    #[error(transparent)]
    Keys(#[from] KeysError),
    /// The wallet failed. Nothing was sent.
    #[error(transparent)]
    Wallet(#[from] WalletError),
    /// It was sent, but its receipt shows that the relay is at fault.
    #[error(transparent)]
    Fault(PostError),
    /// Some cells have no receipt. They are saved.
    #[error(
        "{waiting} cells have no receipt yet: {}. They are saved, and go out with the next `tocyn send`; \
         `tocyn send GROUP --resume` sends no more than them", error.cause()
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

/// Signs a message that answers to all that this member has seen. It passes on the relay's checkpoint
/// of now, asked for over the connection that posts, so that it tells the relay no more than the post
/// does; and the keys of this member's tokens, which issuer and relay have both shown.
pub async fn compose(
    wallet: &Wallet,
    group: &Group,
    relay: &RelayClient,
    info: &RelayInfo,
    body: Vec<u8>,
    now: u64,
) -> Result<Composed, SendError> {
    let cell_bytes = group.invite.cell_bytes;
    if info.cell_bytes != u64::from(cell_bytes) {
        return Err(SendError::OtherCells { shown: info.cell_bytes, known: cell_bytes });
    }
    if parts::capacity(cell_bytes.into()) == 0 {
        return Err(SendError::SmallCells(cell_bytes));
    }
    let pair = Pair::of(relay, info);
    let bought = wallet.keys(&pair).await?;
    check_seen(&check_unchanged(info, &bought)?, &wallet.seen_keys(group.log_key()).await?)?;
    let (_, note) = newest(&relay.log_files_for_posts(), group.log_key()).await?;
    wallet.add_claim(group.log_key(), &note).await?;
    let token_keys = bought.iter().filter(|key| key.not_after > now).map(|key| SeenKey {
        epoch: key.epoch,
        not_before: key.not_before,
        key_id: key.key.token_key_id().0,
    });
    let content = Content {
        counter: group.counter + 1,
        time: now,
        name: group.own_name.clone(),
        parents: wallet.heads(group).await?,
        checkpoint: Some(note),
        token_keys: token_keys.collect(),
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

/// Sends the cells of a group that wait, in their order, until one has no receipt. Gives how many
/// were sent.
pub async fn send_waiting(
    wallet: &Wallet,
    relay: &RelayClient,
    info: &RelayInfo,
    group: &Group,
    now: u64,
) -> Result<usize, SendError> {
    let waiting = wallet.waiting(group).await?;
    for (sent, cell) in waiting.iter().enumerate() {
        let delivered = deliver(wallet, relay, info, &cell.cell, now).await;
        delivered.map_err(|error| match error {
            PostError::Log { .. } => SendError::Fault(error),
            _ => SendError::Waiting { waiting: waiting.len() - sent, error },
        })?;
    }
    Ok(waiting.len())
}
