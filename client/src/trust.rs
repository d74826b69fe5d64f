//! Why an origin is not trusted, and what to do about it.

use tocyn_protocol::statement::chain::ChainError;

use crate::keys::KeysError;
use crate::log::LogError;
use crate::renewal::Renewal;
use crate::transport::HttpError;
use crate::wallet::WalletError;

/// Why an origin is not trusted. Nothing was bought, sent or spent.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum TrustError {
    /// No answer.
    #[error(transparent)]
    Http(#[from] HttpError),
    /// Its keys cannot be used.
    #[error(transparent)]
    Keys(#[from] KeysError),
    /// Its keys cannot be used, and what it showed is kept.
    #[error("{error}. What was shown is in {file}")]
    Kept {
        /// What is wrong.
        error: KeysError,
        /// Where the wallet keeps it.
        file: String,
    },
    /// Its statements are none.
    #[error("{url}: {error}; tell the operator")]
    Chain {
        /// Who.
        url: String,
        /// What is wrong.
        error: ChainError,
    },
    /// Another origin key than before.
    #[error(
        "{url} has the key {shown} now, and had {known} when this wallet first met it. That is \
         another relay, or it wants to know you again: ask its operator. `tocyn relay forget {url}` \
         begins anew, and drops the tokens that were bought for it"
    )]
    OtherKey {
        /// The address.
        url: String,
        /// As it was first.
        known: String,
        /// As it is now.
        shown: String,
    },
    /// An address that the origin has not signed.
    #[error(
        "{origin} does not list the address {url}: an address for one client only would mark that \
         client. It lists {}. {}", list(.listed),
        .renewal.as_ref().map_or_else(
            || "If it has moved, its operator must add the address; until then use one of these"
                .to_owned(),
            |renewal| format!("Something is not accepted yet: {renewal}")
        )
    )]
    Unlisted {
        /// The origin's name.
        origin: String,
        /// The address that was used.
        url: String,
        /// Those that it lists.
        listed: Vec<String>,
        /// A statement that is not accepted yet: it may list the address.
        renewal: Option<Box<Renewal>>,
    },
    /// An issuer's address that the origin has not signed.
    #[error(
        "the statement of keys of {origin} does not name {url} as its issuer's address, but {}: an \
         address for one client only would mark that client. Use the one that it names, or ask the \
         operators", list(.listed)
    )]
    UnlistedIssuer {
        /// The origin's name.
        origin: String,
        /// The address that was used.
        url: String,
        /// The one that it names, or none.
        listed: Vec<String>,
    },
    /// Two looks that show different statements.
    #[error(
        "{url} shows different statements of keys over different connections. If it has just been \
         renewed, try again; if this stays, it wants to mark its users: tell the operator"
    )]
    LooksDiffer {
        /// Who.
        url: String,
    },
    /// A log that names another statement than the newest one that is shown.
    #[error(
        "{url} shows statement of keys number {shown} as its newest, and its log names number \
         {named}. If it has just been renewed, try again; if this stays, it wants to mark its users: \
         tell the operator"
    )]
    NamesOther {
        /// Who.
        url: String,
        /// Serial of the newest one that it shows.
        shown: u64,
        /// Serial that its checkpoint names.
        named: u64,
    },
    /// An older statement than one that was seen.
    #[error(
        "{url} shows statement of keys number {shown} as its newest, and this wallet has seen number \
         {seen}: it hides that, was restored from an old backup, or this is an old copy. Try \
         again later, and tell the operator: a relay that lost it signs the same one again once it has \
         the same pairing and addresses"
    )]
    Older {
        /// Who.
        url: String,
        /// Serial of the newest one that it shows.
        shown: u64,
        /// The highest serial that this wallet has seen.
        seen: u64,
    },
    /// Cells of another size than before.
    #[error(
        "{url} says that its cells have {shown} bytes, and said {known} before, which no relay can \
         change: cells of another size would mark whose they are. Tell the operator"
    )]
    CellSize {
        /// Who.
        url: String,
        /// Bytes, now.
        shown: u64,
        /// Bytes, at first sight.
        known: u64,
    },
    /// Nothing leads from the pinned statement to those that are shown.
    #[error(
        "{url} shows statements of keys of which none follows from number {pinned}, which this \
         wallet has pinned, or the invite has named: it was offline for long, or this is not the \
         relay that it was. Ask the operator, or another member for a new invite; `tocyn relay forget \
         {url}` begins anew, and drops the tokens that were bought for it"
    )]
    NoWay {
        /// Who.
        url: String,
        /// The pinned serial, or what is known of it.
        pinned: String,
    },
    /// The keys were renewed, and the renewal is not accepted.
    #[error("{0}")]
    Renewed(Box<Renewal>),
    /// The log, or evidence.
    #[error(transparent)]
    Log(#[from] LogError),
    /// The wallet failed.
    #[error(transparent)]
    Wallet(#[from] WalletError),
}

fn list(addresses: &[String]) -> String {
    match addresses.is_empty() {
        true => "none".to_owned(),
        false => addresses.join(", "),
    }
}
