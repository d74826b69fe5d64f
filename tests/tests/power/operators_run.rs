//! Commands of operators on a disk that loses power: what said that it was done is done.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use tocyn_e2e::disk::{Plan, Point, Strategy, What};

use crate::bank::set;
use crate::machine::{Ended, Machine};

/// Files of a folder, with their bytes.
type Tree = BTreeMap<PathBuf, Vec<u8>>;

/// Whether a command has said that it was done.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Done {
    Yes,
    /// The power went within it.
    CutShort,
}

fn read(folder: &Path, tree: &mut Tree) -> std::io::Result<()> {
    for entry in std::fs::read_dir(folder)? {
        let path = entry?.path();
        let name = path.to_string_lossy();
        if path.is_dir() {
            read(&path, tree)?;
        } else if !name.ends_with("-wal") && !name.ends_with("-shm") && !name.ends_with("lock") {
            tree.insert(path.clone(), std::fs::read(&path)?);
        }
    }
    Ok(())
}

fn tree_of(folder: &Path) -> Tree {
    let mut tree = Tree::new();
    if folder.exists() {
        read(folder, &mut tree).expect("the disk answers");
    }
    tree
}

impl Machine {
    /// Runs a command, in which the disk may freeze, then cuts the power. What it made in the folder
    /// `changed` must be the same after the cut if it was done.
    pub(crate) fn command_and_cut(
        &mut self,
        name: &str,
        folder: &str,
        args: &[&str],
        changed: &str,
    ) -> Result<Done, String> {
        if self.dice.below(2) == 0 {
            let (what, most) = [(What::Names, 12), (What::Sync, 16), (What::Write, 40)]
                [self.dice.below(3) as usize];
            // The first ones most often: what was just begun must not be taken for more.
            let most = 1 + self.dice.below(most);
            let point = Point { what: Some(what), name: "", nth: 1 + self.dice.below(most) };
            let done = self.dice.below(2) == 0;
            self.plan(Plan::freeze(point, done));
        }
        let ended = self.command(name, folder, args);
        let before = match ended {
            // It may freeze in the midst of a later command.
            Ended::Exited(status, _) if status.success() => {
                self.plan(Plan::default());
                Some(tree_of(&self.path(changed)))
            }
            Ended::Killed => None,
            Ended::Exited(_, said) => return Err(format!("{name} {args:?} fails: {said}")),
        };
        match [Some(Strategy::Lost), Some(Strategy::Data), Some(Strategy::Names), None]
            [self.dice.below(4) as usize]
        {
            Some(strategy) => self.cut(strategy),
            None => self.cut_somehow(),
        }
        let Some(before) = before else { return Ok(Done::CutShort) };
        let after = tree_of(&self.path(changed));
        match before.iter().find(|(path, bytes)| after.get(*path) != Some(bytes)) {
            None => Ok(Done::Yes),
            Some((path, _)) => Err(format!(
                "{name} {args:?} was done, and after the cut {} is {}",
                path.strip_prefix(self.path("")).expect("it is on the disk").display(),
                if after.contains_key(path) { "another one" } else { "not there" }
            )),
        }
    }

    /// Removes a folder, as a message of the program says that one should. It need not be there.
    pub(crate) fn remove(&self, folder: &str) {
        let path = self.path(folder);
        if path.exists() {
            std::fs::remove_dir_all(path).expect("the disk answers");
        }
    }

    /// Starts a service that must need nothing by hand, and stops it.
    pub(crate) fn serves(&mut self, name: &str, folder: &str) -> Result<(), String> {
        match self.start(name, folder)? {
            Some(_) => self.stop(),
            None => return Err(format!("{name}: the disk has frozen")),
        }
        Ok(())
    }

    /// Sockets are nothing for this disk.
    pub(crate) fn without_sockets(&self, folder: &str) {
        let config = self.path(folder).join("config.toml");
        set(&config, "listen = [\"unix:admin.sock\"]", "listen = []");
    }
}
