//! The pairing file, and its epochs at any time.

use std::time::Duration;

use tocyn_protocol::pairing::{MAX_NAME_BYTES, Pairing};
use tocyn_protocol::schedule::{MAX_EPOCHS, MIN_EPOCHS, Purchase, ScheduleError};

use crate::fixed::Drawn;
use crate::text;

/// A time, then the file: what is valid writes and reads as the same, and has epochs from its
/// genesis to its end.
pub(crate) fn pairing(bytes: &[u8]) {
    let Some((now, file)) = bytes.split_first_chunk() else { return };
    let (now, Some(file)) = (u64::from_be_bytes(*now), text(file)) else { return };
    let Ok(pairing) = toml::from_str::<Pairing>(file) else { return };
    if pairing.validate().is_err() {
        return;
    }
    for name in [pairing.issuer_name(), pairing.origin_name()] {
        assert!((1..=MAX_NAME_BYTES).contains(&name.len()));
    }
    // TOML has no numbers above those of an i64, and so no such time comes from a file.
    let written = toml::to_string(&pairing).unwrap();
    let again: Pairing = toml::from_str(&written).unwrap();
    again.validate().unwrap();
    assert_eq!(again.challenge(), pairing.challenge());
    let schedule = pairing.schedule();
    assert_eq!(again.schedule(), schedule);
    assert_eq!((again.id(), again.renewed_at()), (pairing.id(), pairing.renewed_at()));
    assert!((MIN_EPOCHS..=MAX_EPOCHS).contains(&schedule.count));
    let at = Duration::from_secs(now);
    let Ok(epoch) = schedule.epoch_at(now) else {
        assert!(now < schedule.genesis);
        assert!(schedule.redeemable_epochs(now).is_err() && schedule.issuing_epochs(now).is_err());
        assert!(schedule.listed_by_issuer(now).is_err() && schedule.purchase(at).is_err());
        assert!(schedule.listed_by_origin(now).is_err());
        assert!(pairing.renewed(now, &mut Drawn::from(40)).is_err());
        return;
    };
    assert_eq!(again.key_pair(epoch).public(), pairing.key_pair(epoch).public());
    assert!(schedule.start(epoch) <= now);
    assert!(now < schedule.end(epoch) || schedule.end(epoch) == u64::MAX);

    let ended = ScheduleError::Ended { now, end: schedule.last_end() };
    let has_key = epoch < schedule.count;
    assert_eq!(schedule.last_end() > now, has_key);
    let (issuing, redeemable) = (schedule.issuing_epochs(now), schedule.redeemable_epochs(now));
    // After the last epoch its tokens are still taken, and for a minute issued.
    match (epoch.saturating_sub(schedule.count), has_key) {
        (_, true) => assert_eq!(issuing.as_ref().unwrap()[0], epoch),
        (0, _) => {
            assert!(
                issuing.as_ref().is_ok_and(|last| *last == [epoch - 1]) || {
                    issuing == Err(ended.clone()) && now - schedule.last_end() >= 60
                }
            );
            assert_eq!(redeemable, Ok(vec![epoch - 1]));
        }
        _ => assert_eq!((&issuing, &redeemable), (&Err(ended.clone()), &Err(ended.clone()))),
    }
    let (issuing, redeemable) = (issuing.unwrap_or_default(), redeemable.unwrap_or_default());
    assert_eq!(redeemable.contains(&epoch), has_key);
    assert!(issuing.len() <= 2 && redeemable.len() <= 3 && redeemable.is_sorted());
    assert!(issuing.iter().all(|epoch| redeemable.contains(epoch)), "tokens nobody takes");
    assert!(redeemable.iter().all(|epoch| *epoch < schedule.count), "tokens without a key");
    let by_issuer = schedule.listed_by_issuer(now).unwrap();
    let by_origin = schedule.listed_by_origin(now).unwrap();
    assert_eq!(by_issuer.first().copied(), has_key.then_some(epoch));
    assert!(by_issuer.len() <= 2 && by_origin.starts_with(&by_issuer));
    assert!(redeemable.iter().all(|epoch| by_origin.contains(epoch)), "tokens of a key unseen");

    match schedule.purchase(at) {
        Ok(Purchase::Now(bought)) => {
            assert_eq!(issuing[0], bought);
            assert!(schedule.not_after(bought) - now > schedule.epoch_seconds);
        }
        // Who waits as long as is said does not wait twice.
        Ok(Purchase::After(wait)) => {
            assert!(!wait.is_zero() && wait <= 2 * schedule.quiet_time());
            let later = schedule.purchase(at + wait);
            let ended = matches!(later, Err(ScheduleError::Ended { .. }));
            assert!(matches!(later, Ok(Purchase::Now(_))) || ended && epoch + 1 == schedule.count);
        }
        Err(error) => assert_eq!((error, has_key), (ended, false)),
    }
    renewed(&pairing, now, epoch, &redeemable);
}

/// A planned renewal leaves every key that is in use, and the times of epochs, as they were.
fn renewed(pairing: &Pairing, now: u64, epoch: u64, redeemable: &[u64]) {
    let Ok(new) = pairing.renewed(now, &mut Drawn::from(40)) else { return };
    new.validate().unwrap();
    assert_eq!((new.id(), new.challenge()), (pairing.id(), pairing.challenge()));
    let below = new.renewed_at().expect("it was renewed");
    assert!((epoch + 1..=epoch + 2).contains(&below));
    let key_id = |pairing: &Pairing, epoch| pairing.key_pair(epoch).public().token_key_id();
    for epoch in redeemable.iter().filter(|epoch| **epoch < below) {
        assert_eq!(key_id(&new, *epoch), key_id(pairing, *epoch));
    }
    assert_ne!(key_id(&new, below), key_id(pairing, below));
    let (old, new) = (pairing.schedule(), new.schedule());
    assert_eq!((new.genesis, new.epoch_seconds), (old.genesis, old.epoch_seconds));
    assert!(new.count >= old.count && new.count > below);
}
