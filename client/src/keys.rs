//! Whose tokens, under which key. A key that is shown to one user only would tag that user's
//! tokens, so issuer and relay are asked over separate connections and must show the same.

use reqwest::Url;
use tocyn_protocol::challenge::TokenChallenge;
use tocyn_protocol::directory::TokenKey;
use tocyn_protocol::error::DecodeError;
use tocyn_protocol::keys::PublicKey;
use tocyn_protocol::pairing::Epoch;
use tocyn_protocol::relay::RelayInfo;

use crate::group::message::SeenKey;
use crate::issuer::IssuerClient;
use crate::relay::RelayClient;
use crate::transport::HttpError;

/// Why no key can be trusted.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum KeysError {
    /// One of them did not answer.
    #[error(transparent)]
    Http(#[from] HttpError),
    /// A key that is none.
    #[error("{who} shows an unusable key: {error}")]
    Key {
        /// Issuer or relay.
        who: &'static str,
        /// What is wrong with it.
        error: DecodeError,
    },
    /// Names that no challenge can hold.
    #[error("the relay shows an unusable name: {0}")]
    Name(DecodeError),
    /// Different keys for one epoch, or no epoch in common.
    #[error(
        "issuer and relay do not show the same keys (epoch {epoch}). Tokens bought now could be \
         worthless, or could mark you. Check both addresses and tell the operators"
    )]
    Mismatch {
        /// The first epoch that differs.
        epoch: Epoch,
    },
    /// Numbers that no pairing gives.
    #[error("{0} shows epochs whose times do not fit together; tell the operator")]
    Times(&'static str),
    /// A relay that shows another key now than when the tokens were bought.
    #[error(
        "the relay now shows another key for epoch {epoch} than when your tokens were bought; \
         spending one could mark you. Tell the operator"
    )]
    Changed {
        /// The epoch that differs.
        epoch: Epoch,
    },
    /// A member of a group was shown another key.
    #[error(
        "{by}, a member of one of your groups, was shown another key of this relay for epoch \
         {epoch} than you: spending or buying tokens could mark you. Ask the others what they see \
         with `tocyn info`, and the operators; if that member lies, leave the group"
    )]
    SeenOtherwise {
        /// The epoch that differs.
        epoch: Epoch,
        /// Who.
        by: String,
    },
}

/// Which issuer's tokens, at which relay. The names are in the tokens' challenge; the address
/// keeps a relay that borrows another one's names from being paid with that one's tokens.
#[derive(Clone, Debug, PartialEq, Eq, Hash, serde::Serialize)]
pub struct Pair {
    /// The issuer's name.
    pub issuer_name: String,
    /// The relay's name.
    pub relay_name: String,
    /// The relay's address.
    pub relay_url: String,
}

impl Pair {
    /// The pair that a relay's info document names.
    pub fn of(relay: &RelayClient, info: &RelayInfo) -> Self {
        Self {
            issuer_name: info.issuer_name.clone(),
            relay_name: info.relay_name.clone(),
            relay_url: relay.url().to_string(),
        }
    }

    /// The challenge of all tokens of the pair.
    pub fn challenge(&self) -> Result<TokenChallenge, KeysError> {
        TokenChallenge::new(&self.issuer_name, None, &self.relay_name).map_err(KeysError::Name)
    }
}

/// A decoded entry of a key list.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EpochKey {
    /// The public key.
    pub key: PublicKey,
    /// Its epoch.
    pub epoch: Epoch,
    /// First unix second of issuance.
    pub not_before: u64,
    /// First unix second at which the relay no longer takes its tokens.
    pub not_after: u64,
}

fn decode(who: &'static str, keys: &[TokenKey]) -> Result<Vec<EpochKey>, KeysError> {
    let keys: Vec<EpochKey> = keys
        .iter()
        .map(|entry| {
            let key = entry.public_key().map_err(|error| KeysError::Key { who, error })?;
            let TokenKey { epoch, not_before, not_after, .. } = *entry;
            if [epoch, not_before, not_after].iter().any(|&number| number > i64::MAX as u64) {
                let error = DecodeError::Text { what: "epoch or time", why: "it is out of range" };
                return Err(KeysError::Key { who, error });
            }
            Ok(EpochKey { key, epoch, not_before, not_after })
        })
        .collect::<Result<_, _>>()?;
    if fits_together(&keys) { Ok(keys) } else { Err(KeysError::Times(who)) }
}

/// Whether the times are those of epochs of one length from one start: a time of its own would
/// mark those who were shown it. Tokens live for two epochs.
fn fits_together(keys: &[EpochKey]) -> bool {
    let start = |key: &EpochKey| {
        let two_epochs = key.not_after.checked_sub(key.not_before).filter(|two| two % 2 == 0)?;
        let start = key.not_before.checked_sub(key.epoch.checked_mul(two_epochs / 2)?)?;
        (two_epochs > 0).then_some((start, two_epochs))
    };
    let starts: Vec<_> = keys.iter().map(start).collect();
    starts.iter().all(|one| one.is_some() && *one == starts[0])
}

/// The keys that a relay shows.
pub fn shown(info: &RelayInfo) -> Result<Vec<EpochKey>, KeysError> {
    decode("the relay", &info.token_keys)
}

/// What issuer and relay agree on.
#[derive(Debug)]
pub struct Agreed {
    /// Their names.
    pub pair: Pair,
    /// The key that tokens are issued under now.
    pub key: EpochKey,
    /// What the relay says about itself.
    pub info: RelayInfo,
    /// Where to ask for tokens.
    pub request_url: Url,
}

/// Asks both. An epoch may end between the two answers, so a difference is looked at twice.
pub async fn agree(issuer: &IssuerClient, relay: &RelayClient) -> Result<Agreed, KeysError> {
    match ask_both(issuer, relay).await {
        Err(KeysError::Mismatch { .. }) => ask_both(issuer, relay).await,
        result => result,
    }
}

async fn ask_both(issuer: &IssuerClient, relay: &RelayClient) -> Result<Agreed, KeysError> {
    let directory = issuer.directory().await?;
    let info = relay.info().await?;
    let theirs = decode("the issuer", &directory.token_keys)?;
    let key = compare(&theirs, &shown(&info)?)?.clone();
    let pair = Pair::of(relay, &info);
    Ok(Agreed { pair, key, info, request_url: issuer.request_url(&directory)? })
}

/// The issuer's first key, if the relay shows the same for every epoch that both list.
fn compare<'a>(issuer: &'a [EpochKey], relay: &[EpochKey]) -> Result<&'a EpochKey, KeysError> {
    let current = issuer.first().ok_or(KeysError::Mismatch { epoch: 0 })?;
    for entry in issuer {
        match relay.iter().find(|other| other.epoch == entry.epoch) {
            Some(other) if other != entry => {
                return Err(KeysError::Mismatch { epoch: entry.epoch });
            }
            None if entry == current => return Err(KeysError::Mismatch { epoch: entry.epoch }),
            _ => {}
        }
    }
    Ok(current)
}

/// Before a token is spent: gives what the relay shows, unless it contradicts a key that was
/// `bought`. Only tokens of a key that it shows may then be spent.
pub fn check_unchanged(info: &RelayInfo, bought: &[EpochKey]) -> Result<Vec<EpochKey>, KeysError> {
    let shows = shown(info)?;
    for shown in &shows {
        // A renewed pairing starts its epochs anew, so only entries of one start are compared.
        let same_time = |b: &&EpochKey| b.epoch == shown.epoch && b.not_before == shown.not_before;
        if bought.iter().find(same_time).is_some_and(|bought| bought != shown) {
            return Err(KeysError::Changed { epoch: shown.epoch });
        }
    }
    Ok(shows)
}

/// Refuses what the relay shows if members of groups were shown another key for the same epoch.
pub fn check_seen(shows: &[EpochKey], seen: &[(SeenKey, String)]) -> Result<(), KeysError> {
    for (key, by) in seen {
        let same_epoch = |e: &&EpochKey| e.epoch == key.epoch && e.not_before == key.not_before;
        let mine = shows.iter().find(same_epoch);
        if mine.is_some_and(|mine| mine.key.token_key_id().0 != key.key_id) {
            return Err(KeysError::SeenOtherwise { epoch: key.epoch, by: by.clone() });
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use tocyn_protocol::keys::KeyPair;

    fn entry(seed: u8, epoch: Epoch) -> EpochKey {
        let key = *KeyPair::derive(&[seed; 32], b"test").public();
        EpochKey { key, epoch, not_before: epoch * 10, not_after: epoch * 10 + 20 }
    }

    #[test]
    fn the_same_lists_agree_on_the_current_key() {
        let list = [entry(1, 7), entry(2, 8)];
        assert_eq!(compare(&list, &list).unwrap(), &list[0]);
    }

    #[test]
    fn lists_one_epoch_apart_do_not_agree_yet() {
        let (early, late) = ([entry(1, 7), entry(2, 8)], [entry(2, 8), entry(3, 9)]);
        assert!(matches!(compare(&early, &late), Err(KeysError::Mismatch { epoch: 7 })));
    }

    #[test]
    fn times_of_their_own_are_refused() {
        let list = [entry(1, 7), entry(2, 8)];
        assert!(fits_together(&list) && fits_together(&[]));
        let late = EpochKey { not_before: 71, ..entry(1, 7) };
        assert!(!fits_together(&[late]));
        let shifted = EpochKey { not_before: 71, not_after: 91, ..entry(1, 7) };
        assert!(!fits_together(&[shifted, entry(2, 8)]));
        let backwards = EpochKey { not_before: 9, not_after: 3, ..entry(1, 0) };
        assert!(!fits_together(&[backwards]));
    }

    #[test]
    fn a_key_that_a_member_was_not_shown_is_refused() {
        let mine = [entry(1, 7), entry(2, 8)];
        let seen = |key: &EpochKey| {
            let key_id = key.key.token_key_id().0;
            let seen = SeenKey { epoch: key.epoch, not_before: key.not_before, key_id };
            (seen, "Ceri".to_owned())
        };
        check_seen(&mine, &[seen(&entry(1, 7)), seen(&entry(9, 9))]).unwrap();
        let other = check_seen(&mine, &[seen(&entry(1, 7)), seen(&entry(9, 8))]);
        assert!(matches!(other, Err(KeysError::SeenOtherwise { epoch: 8, .. })), "{other:?}");
        // A renewed pairing begins its epochs anew.
        let renewed = EpochKey { not_before: 81, not_after: 101, ..entry(9, 8) };
        check_seen(&mine, &[seen(&renewed)]).unwrap();
    }

    #[test]
    fn any_difference_in_a_common_epoch_is_refused() {
        let issuer = [entry(1, 7), entry(2, 8)];
        let other_key = [entry(1, 7), entry(9, 8)];
        assert!(matches!(compare(&issuer, &other_key), Err(KeysError::Mismatch { epoch: 8 })));
        let other_time = [EpochKey { not_after: 1, ..entry(1, 7) }, entry(2, 8)];
        assert!(matches!(compare(&issuer, &other_time), Err(KeysError::Mismatch { epoch: 7 })));
        assert!(compare(&[], &issuer).is_err());
        assert!(compare(&issuer, &[]).is_err());
    }
}
