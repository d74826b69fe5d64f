//! Whom tokens are bought from and shown to. An origin's statement of keys is pinned at first sight;
//! from then on every look, over a connection that is used for nothing else, must show it. What
//! contradicts it is kept as evidence.

use tocyn_protocol::log::checkpoint::Checkpoint;
use tocyn_protocol::log::note::VerifierKey;
use tocyn_protocol::relay::RelayInfo;
use tocyn_protocol::statement::chain::{Chain, Standing};
use tocyn_protocol::statement::{Signed, StatementHash};

use crate::evidence::Fault;
use crate::keys::{EpochKey, KeysError, Shown, check_clock, check_origin};
use crate::log::growth::check_growth;
use crate::log::{LogError, check_chain, check_names, follow};
use crate::relay::RelayClient;
use crate::renewal::Renewal;
use crate::session::{News, Session};
use crate::transport::ServiceUrl;
use crate::trust::TrustError;
use crate::wallet::{Offer, Pin};

/// Looks at first sight, through a proxy.
const FIRST_LOOKS: u32 = 3;
/// A later statement is accepted by itself when it was first shown at least this long ago, in
/// seconds: a day.
pub const ACCEPT_AFTER_SECONDS: u64 = 86_400;

/// What must be true of an origin beforehand: what an invite says.
#[derive(Clone, Copy, Debug)]
pub struct Expected<'a> {
    /// Its key.
    pub key: &'a VerifierKey,
    /// The hash of one of its statements.
    pub statement: StatementHash,
}

/// An origin that shows what is pinned of it.
#[derive(Clone, Debug)]
pub struct Met {
    /// What is pinned.
    pub pin: Pin,
    /// What it says about itself.
    pub info: RelayInfo,
    /// Its keys.
    pub shown: Shown,
    /// Its newest statement.
    pub newest: Signed,
    /// Its log's newest checkpoint, a signed note. It names that statement.
    pub checkpoint: String,
}

impl Met {
    /// The keys under which tokens are bought and spent.
    pub fn keys(&self) -> &[EpochKey] {
        &self.shown.pinned
    }

    /// The statement that is not accepted yet, if there is one.
    pub fn renewal(&self) -> Option<Renewal> {
        self.pin.offer.as_ref().map(|offer| Renewal::of(&self.pin, offer))
    }
}

/// One look.
struct Look {
    info: RelayInfo,
    chain: Chain,
    checkpoint: String,
}

impl Look {
    /// Whether the statement with this hash is among those that are shown.
    fn has(&self, hash: StatementHash) -> bool {
        self.chain.statements().iter().any(|one| one.commitment().hash == hash)
    }
}

/// Asks for the statements and, over another connection, for the log's newest checkpoint, which must
/// name the newest of them: so whatever is shown is signed together with the size of the log, and a
/// relay that shows another one later contradicts itself as soon as its log is longer.
async fn look(
    session: &Session<'_>,
    relay: &RelayClient,
    known: Option<&str>,
) -> Result<Look, TrustError> {
    let (wallet, url) = (session.wallet, relay.url().to_string());
    // A statement may come between the two answers, once.
    let mut is_second = false;
    loop {
        let info = relay.info().await?;
        check_clock(&url, info.now, session.now())?;
        let key = &info.log_key;
        if let Some(known) = known.filter(|known| *known != key.to_string()) {
            let (known, shown) = (known.to_owned(), key.to_string());
            return Err(TrustError::OtherKey { url, known, shown });
        }
        let chain = Chain::open(&info.statements, key);
        let chain = chain.map_err(|error| TrustError::Chain { url: url.clone(), error })?;
        check_chain(wallet, key, &chain).await?;
        let named = follow::newest(&relay.log_files()?, key).await;
        let (shown, checkpoint) = named.map_err(|error| match error {
            LogError::Http(error) => TrustError::Http(error),
            error => error.into(),
        })?;
        check_names(wallet, key, &shown, &checkpoint).await?;
        if shown.keys == chain.newest().commitment() {
            return Ok(Look { info, chain, checkpoint });
        }
        if std::mem::replace(&mut is_second, true) {
            let (shown, named) = (chain.newest().serial, shown.keys.serial);
            return Err(TrustError::NamesOther { url, shown, named });
        }
    }
}

/// Looks at an origin over a fresh connection, and compares with what is pinned; at first sight pins
/// it.
pub async fn meet(
    session: &Session<'_>,
    relay: &RelayClient,
    expected: Option<Expected<'_>>,
) -> Result<Met, TrustError> {
    let (wallet, url) = (session.wallet, relay.url().to_string());
    let known = match expected {
        Some(expected) => Some(expected.key.to_string()),
        None => known_at(session, relay).await?,
    };
    let shown = look(session, relay, known.as_deref()).await?;
    let key = shown.info.log_key.clone();
    let pin = match wallet.pin(&key).await? {
        Some(pin) => {
            if let Some(Expected { statement, .. }) = expected
                && !shown.has(statement)
                && !wallet.is_named(&key, statement).await?
            {
                return Err(TrustError::NoWay { url, pinned: "of the invite".to_owned() });
            }
            go_on(session, relay, pin, &shown).await?
        }
        None => first_sight(session, relay, &shown, expected).await?,
    };
    check_address(&pin, relay.url())?;
    if shown.info.cell_bytes != pin.cell_bytes {
        let (shown, known) = (shown.info.cell_bytes, pin.cell_bytes);
        return Err(TrustError::CellSize { url, shown, known });
    }
    let newest = shown.chain.newest();
    let keys = check_origin(&url, &shown.info, newest, &pin.statement);
    let keys = match keys {
        Ok(keys) => keys,
        Err(error) => {
            let document = serde_json::to_string(&shown.info).expect("it is plain data");
            return Err(kept(session, newest, &key, &url, document, None, error).await);
        }
    };
    wallet.add_address(&key, &url).await?;
    let newest = newest.clone();
    Ok(Met { pin, info: shown.info, shown: keys, newest, checkpoint: shown.checkpoint })
}

/// The key of the origin that was met at this address, or whose pinned statement lists it.
async fn known_at(
    session: &Session<'_>,
    relay: &RelayClient,
) -> Result<Option<String>, TrustError> {
    let met = session.wallet.origin_at(&relay.url().to_string()).await?;
    let (Some(address), None) = (relay.url().address(), &met) else { return Ok(met) };
    let pins = session.wallet.pins().await?;
    let lists = pins.iter().find(|pin| pin.statement.lists(&address));
    Ok(lists.map(|pin| pin.key.to_string()))
}

/// Keeps a document with a key that is refused, as evidence: the relay's, or the issuer's together
/// with what the relay has `proven`. Not of a key that is not in use yet: an honest issuer shows one
/// while a planned renewal is installed.
pub(crate) async fn kept(
    session: &Session<'_>,
    statement: &Signed,
    key: &VerifierKey,
    shown_by: &str,
    document: String,
    proven: Option<&RelayInfo>,
    error: KeysError,
) -> TrustError {
    let KeysError::Unproven { epoch, is_to_come: false, .. } = error else { return error.into() };
    let of_epoch = |info: &RelayInfo| {
        info.token_keys.iter().find(|proven| proven.key.epoch == epoch).cloned().map(Box::new)
    };
    let (statement, shown_by) = (statement.note().to_owned(), shown_by.to_owned());
    let proven = proven.and_then(of_epoch);
    let fault = Fault::Unproven { statement, document, epoch, shown_by, proven };
    match LogError::fault(session.wallet, key, fault).await {
        LogError::Fault { file, .. } => TrustError::Kept { error, file },
        LogError::Wallet(failed) => failed.into(),
        _ => error.into(),
    }
}

/// Refuses an address that the pinned statement does not list. Loopback is for trials on one machine,
/// where nobody else can be.
fn check_address(pin: &Pin, url: &ServiceUrl) -> Result<(), TrustError> {
    let address = url.address();
    let listed = address.as_ref().is_some_and(|address| pin.statement.lists(address));
    if listed || url.is_loopback() {
        return Ok(());
    }
    Err(TrustError::Unlisted {
        origin: pin.key.name().to_owned(),
        url: url.to_string(),
        listed: pin.statement.addresses.iter().map(ToString::to_string).collect(),
        renewal: pin.offer.as_ref().map(|offer| Box::new(Renewal::of(pin, offer))),
    })
}

/// Refuses an issuer's address that the pinned statement does not name.
pub(crate) fn check_issuer_address(pin: &Pin, url: &ServiceUrl) -> Result<(), TrustError> {
    let named = &pin.statement.issuer_address;
    if url.is_loopback() || named.is_some() && url.address() == *named {
        return Ok(());
    }
    Err(TrustError::UnlistedIssuer {
        origin: pin.key.name().to_owned(),
        url: url.to_string(),
        listed: named.iter().map(ToString::to_string).collect(),
    })
}

/// Pins what several looks agree on.
async fn first_sight(
    session: &Session<'_>,
    relay: &RelayClient,
    shown: &Look,
    expected: Option<Expected<'_>>,
) -> Result<Pin, TrustError> {
    let (url, key) = (relay.url().to_string(), &shown.info.log_key);
    let newest = shown.chain.newest();
    if let Some(Expected { statement, .. }) = expected
        && !shown.has(statement)
    {
        return Err(TrustError::NoWay { url, pinned: "of the invite".to_owned() });
    }
    let pin = Pin {
        key: key.clone(),
        statement: newest.clone(),
        pinned_at: session.now(),
        cell_bytes: shown.info.cell_bytes,
        offer: None,
    };
    check_address(&pin, relay.url())?;
    if relay.transport().is_proxied() {
        for number in 2..=FIRST_LOOKS {
            (session.tell)(News::Look { number, of: FIRST_LOOKS });
            relay.gap().await;
            let again = look(session, relay, None).await?;
            let agrees = (&again.info.log_key, again.chain.newest(), again.info.cell_bytes);
            if agrees != (key, newest, pin.cell_bytes) {
                return Err(TrustError::LooksDiffer { url });
            }
        }
    } else {
        (session.tell)(News::DirectLook { origin: key.name().to_owned() });
    }
    session.wallet.pin_first(&pin).await?;
    Ok(pin)
}

/// Compares with the pin. A later statement is offered; one that was offered a day ago is accepted if
/// the log names it too.
async fn go_on(
    session: &Session<'_>,
    relay: &RelayClient,
    mut pin: Pin,
    shown: &Look,
) -> Result<Pin, TrustError> {
    let (wallet, url, key) = (session.wallet, relay.url().to_string(), pin.key.clone());
    let newest = shown.chain.newest();
    // What was shown once must be shown again: who hides it, shows it to some only.
    if let Some(offer) = pin.offer.as_ref().filter(|offer| newest.serial < offer.statement.serial) {
        let (shown, seen) = (newest.serial, offer.statement.serial);
        return Err(TrustError::Older { url, shown, seen });
    }
    match shown.chain.standing(pin.statement.commitment()) {
        Standing::Same => return Ok(pin),
        Standing::GoesOn => {
            let error = shown.chain.check_start(&pin.statement);
            error.map_err(|error| TrustError::Chain { url: url.clone(), error })?;
        }
        Standing::Contradicts(other) => {
            let (first, second) = (pin.statement.note().to_owned(), other.note().to_owned());
            let fault = Fault::Keys { first, second };
            return Err(LogError::fault(wallet, &key, fault).await.into());
        }
        Standing::Older => {
            let (shown, seen) = (newest.serial, pin.statement.serial);
            return Err(TrustError::Older { url, shown, seen });
        }
        Standing::TooNew => {
            return Err(TrustError::NoWay { url, pinned: pin.statement.serial.to_string() });
        }
    }
    let shown_at = wallet.offer(&key, newest, session.now()).await?;
    let offer = Offer { statement: newest.clone(), shown_at };
    let is_due = session.now().saturating_sub(shown_at) >= ACCEPT_AFTER_SECONDS;
    pin.offer = Some(offer.clone());
    if is_due && log_names(session, relay, &key, newest).await? {
        wallet.accept_offer(&pin, session.now()).await?;
        let (origin, serial) = (key.name().to_owned(), newest.serial);
        (session.tell)(News::Accepted { origin, serial });
        return Ok(Pin { statement: newest.clone(), offer: None, pinned_at: session.now(), ..pin });
    }
    (session.tell)(News::Offered(Box::new(Renewal::of(&pin, &offer))));
    Ok(pin)
}

/// Whether the origin's log, which only grows, names this statement. Over connections of their own.
async fn log_names(
    session: &Session<'_>,
    relay: &RelayClient,
    key: &VerifierKey,
    statement: &Signed,
) -> Result<bool, TrustError> {
    let files = relay.log_files()?;
    let (checkpoint, note) = follow::newest(&files, key).await?;
    check_growth(session.wallet, &files, key, &checkpoint, &note).await?;
    Ok(Checkpoint::open(&note, key).is_ok_and(|shown| shown.keys == statement.commitment()))
}
