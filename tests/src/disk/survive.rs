//! Content of a disk after the power was cut, drawn from a seed.

use std::collections::BTreeSet;

use super::file::{Change, File, PAGE};
use super::model::{Model, ROOT, Rules, apply};
use crate::faults::Dice;

/// Bytes that a medium writes at once.
const SECTOR: usize = 512;

/// Of what was not synced.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Strategy {
    /// Nothing is left.
    Lost,
    /// All is left.
    Kept,
    /// All bytes, no names.
    Data,
    /// All names, no bytes.
    Names,
    /// Something of each.
    Random,
}

impl Strategy {
    /// Half of them random.
    pub fn draw(dice: &mut Dice) -> Self {
        let all = [Self::Lost, Self::Kept, Self::Data, Self::Names];
        *all.get(dice.below(8) as usize).unwrap_or(&Self::Random)
    }
}

/// The disk that the next start finds: all of it durable.
pub(super) fn survivors(model: &Model, strategy: Strategy, dice: &mut Dice) -> Model {
    let mut tree = model.durable.clone();
    let prefix = dice.below(model.journal.len() as u64 + 1) as usize;
    for (number, change) in model.journal.iter().enumerate() {
        let survives = match strategy {
            Strategy::Lost | Strategy::Data => false,
            Strategy::Kept | Strategy::Names => true,
            Strategy::Random if model.rules == Rules::Ext4 => number < prefix,
            Strategy::Random => dice.below(2) == 0,
        };
        if survives {
            apply(change, &mut tree);
        }
    }
    let mut next = Model::new(model.rules);
    next.nodes.clone_from(&model.nodes);
    let mut inodes: Vec<_> = next.nodes.keys().copied().collect();
    inodes.sort_unstable(); // the same seed, the same survivors
    for ino in inodes {
        if let Some(file) = next.nodes.get_mut(&ino).and_then(|node| node.file.as_mut()) {
            let bytes = match strategy {
                Strategy::Lost | Strategy::Names => file.durable.clone(),
                Strategy::Kept | Strategy::Data => all_of(file),
                Strategy::Random => some_of(file, model.rules, dice),
            };
            *file = File::durable(bytes);
        }
    }
    // A file without a name is gone. Numbers go on from the highest one, so that only bytes go.
    let mut reached = BTreeSet::from([ROOT]);
    let mut folders = vec![ROOT];
    while let Some(folder) = folders.pop() {
        for ino in tree.get(&folder).into_iter().flat_map(|names| names.values()) {
            if reached.insert(*ino) && tree.contains_key(ino) {
                folders.push(*ino);
            }
        }
    }
    for (ino, node) in &mut next.nodes {
        if let (false, Some(file)) = (reached.contains(ino), &mut node.file) {
            *file = File::default();
        }
    }
    tree.retain(|folder, _| reached.contains(folder));
    next.cached.clone_from(&tree);
    next.durable = tree;
    next
}

fn all_of(file: &File) -> Vec<u8> {
    let mut bytes = file.durable.clone();
    file.changes.iter().for_each(|change| change.apply(&mut bytes));
    bytes
}

/// Copies a piece of `from` that may lie beyond the end of either.
fn copy(from: &[u8], start: usize, end: usize, to: &mut Vec<u8>) {
    let end = end.min(from.len());
    if start < end {
        Change::Write(start, from[start..end].to_vec()).apply(to);
    }
}

/// One of the ways in which bytes that were not synced may survive.
fn some_of(file: &File, rules: Rules, dice: &mut Dice) -> Vec<u8> {
    // A truncation divides what comes before from what comes after: blocks are used again after it.
    let mut base = file.durable.clone();
    let mut changes = &file.changes[..];
    let is_size = |change: &Change| matches!(change, Change::Size(_));
    if let Some(last) = changes.iter().rposition(is_size) {
        match dice.below(2) {
            0 => changes = &changes[..changes.iter().position(is_size).unwrap_or(last)],
            _ => {
                changes[..=last].iter().for_each(|change| change.apply(&mut base));
                changes = &changes[last + 1..];
            }
        }
    }
    let mut whole = base.clone();
    changes.iter().for_each(|change| change.apply(&mut whole));
    let way = dice.below(7);
    match way {
        0 => return base,
        1 => return whole,
        _ => {}
    }
    let old_size = base.len();
    // POSIX lets the new size survive without the data: zeros, or what lay there before.
    let mut bytes = base.clone();
    if rules != Rules::Ext4 {
        let filler = [None, Some(0), Some(0x5a)][dice.below(3) as usize];
        bytes.resize(if filler.is_some() { whole.len() } else { old_size }, filler.unwrap_or(0));
    }
    match way {
        2 => return prefix(bytes, changes, rules, dice),
        3 => {
            let survives = odds(dice);
            let some = changes.iter().filter(|_| dice.below(8) < survives);
            some.for_each(|change| change.apply(&mut bytes));
        }
        _ => pieces(&whole, changes, way, &mut bytes, dice),
    }
    if rules == Rules::Ext4 && whole.len() > old_size {
        // The size grows after the data was written: a prefix of the new pages, without holes.
        let pages = (whole.len() - old_size).div_ceil(PAGE) as u64;
        let kept = dice.below(pages + 1) as usize;
        let size = match kept {
            0 => old_size,
            _ => (old_size / PAGE * PAGE + kept * PAGE).clamp(old_size, whole.len()),
        };
        if kept > 0 {
            copy(&whole, old_size / PAGE * PAGE, size, &mut bytes);
        }
        bytes.truncate(size);
    }
    bytes
}

/// Survivors of eight: few, half, most.
fn odds(dice: &mut Dice) -> u64 {
    [1, 4, 7][dice.below(3) as usize]
}

/// Any pages, any sectors, or all but one of them.
fn pieces(whole: &[u8], changes: &[Change], way: u64, bytes: &mut Vec<u8>, dice: &mut Dice) {
    let unit = if way == 4 { PAGE } else { SECTOR };
    let mut dirty = BTreeSet::new();
    for change in changes {
        if let Change::Write(offset, data) = change {
            dirty.extend(offset / unit..(offset + data.len()).div_ceil(unit));
        }
    }
    let (survives, missing) = (odds(dice), dice.below(dirty.len().max(1) as u64));
    for (number, piece) in dirty.into_iter().enumerate() {
        let kept = if way == 6 { number as u64 != missing } else { dice.below(8) < survives };
        if kept {
            copy(whole, piece * unit, (piece + 1) * unit, bytes);
        }
    }
}

/// The first writes, and some sectors of the next one.
fn prefix(mut bytes: Vec<u8>, changes: &[Change], rules: Rules, dice: &mut Dice) -> Vec<u8> {
    let kept = dice.below(changes.len() as u64 + 1) as usize;
    changes[..kept].iter().for_each(|change| change.apply(&mut bytes));
    if let Some(Change::Write(offset, data)) = changes.get(kept) {
        let sectors = (data.len() / SECTOR) as u64 + 1;
        let end = (offset / SECTOR + dice.below(sectors) as usize) * SECTOR;
        let end = end.clamp(*offset, offset + data.len());
        let size = bytes.len();
        Change::Write(*offset, data[..end - offset].to_vec()).apply(&mut bytes);
        if rules == Rules::Ext4 {
            bytes.truncate(size.max(bytes.len() / PAGE * PAGE));
        }
    }
    bytes
}
