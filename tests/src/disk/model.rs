//! Files and names as the page cache has them and as the medium has them.

use std::collections::{BTreeMap, HashMap};
use std::ffi::{OsStr, OsString};
use std::path::Path;
use std::time::SystemTime;

use fuser::Errno;

use super::file::File;

/// Number of a file or folder.
pub(super) type Ino = u64;
/// The topmost folder.
pub(super) const ROOT: Ino = 1;

/// Promises of a disk.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Rules {
    /// ext4 with data=ordered: names and new sizes wait in one journal, which any sync of an inode
    /// in it commits; a cut keeps a prefix of the rest.
    Ext4,
    /// POSIX and no more: only a sync of the folder makes its names durable; a cut keeps any subset.
    Strict,
    /// Syncs do nothing: a program that trusts it loses data, and a trial that does not notice is broken.
    Lying,
}

/// A change of names that is not durable yet.
#[derive(Clone, Debug)]
pub(super) enum NameChange {
    /// A name for an inode, new or in place of another; a rename has the name that goes as well.
    Link { at: (Ino, OsString), ino: Ino, from: Option<(Ino, OsString)> },
    /// A name that goes.
    Unlink { at: (Ino, OsString) },
}

impl NameChange {
    fn is_in(&self, folder: Ino) -> bool {
        match self {
            Self::Link { at, from, .. } => {
                at.0 == folder || from.as_ref().is_some_and(|from| from.0 == folder)
            }
            Self::Unlink { at } => at.0 == folder,
        }
    }

    fn touches(&self, ino: Ino) -> bool {
        self.is_in(ino) || matches!(self, Self::Link { ino: linked, .. } if *linked == ino)
    }
}

/// Names of a folder.
pub(super) type Names = BTreeMap<OsString, Ino>;

/// Names of all folders.
pub(super) type Tree = HashMap<Ino, Names>;

/// Makes a change of names in a tree.
pub(super) fn apply(change: &NameChange, tree: &mut Tree) {
    match change {
        NameChange::Link { at, ino, from } => {
            if let Some((folder, name)) = from {
                tree.entry(*folder).or_default().remove(name);
            }
            tree.entry(at.0).or_default().insert(at.1.clone(), *ino);
        }
        NameChange::Unlink { at } => {
            tree.entry(at.0).or_default().remove(&at.1);
        }
    }
}

/// A file or folder.
#[derive(Clone, Debug)]
pub(super) struct Node {
    /// None of a folder.
    pub(super) file: Option<File>,
    /// Permission bits.
    pub(super) mode: u16,
    /// The last change.
    pub(super) modified: SystemTime,
    /// The last name that it got, by which plans know it.
    pub(super) name: OsString,
}

/// All that is on a disk.
#[derive(Clone, Debug)]
pub(super) struct Model {
    /// Its promises.
    pub(super) rules: Rules,
    /// By number. What has no name any more stays.
    pub(super) nodes: HashMap<Ino, Node>,
    /// Names as a process sees them.
    pub(super) cached: Tree,
    /// Names that survive every cut.
    pub(super) durable: Tree,
    /// Names that were changed since, in order.
    pub(super) journal: Vec<NameChange>,
}

impl Model {
    /// An empty disk.
    pub(super) fn new(rules: Rules) -> Self {
        let mut model = Self {
            rules,
            nodes: HashMap::new(),
            cached: Tree::new(),
            durable: Tree::new(),
            journal: Vec::new(),
        };
        model.add(ROOT, OsStr::new(""), None, 0o700);
        model
    }

    fn add(&mut self, ino: Ino, name: &OsStr, file: Option<File>, mode: u16) {
        if file.is_none() {
            self.cached.insert(ino, Names::new());
            self.durable.insert(ino, Names::new());
        }
        let (name, modified) = (name.to_owned(), SystemTime::now());
        self.nodes.insert(ino, Node { file, mode, modified, name });
    }

    /// Copies a folder with all that is in it onto the disk, durable.
    pub(super) fn import(&mut self, from: &Path, parent: Ino, name: &OsStr) -> std::io::Result<()> {
        use std::os::unix::fs::PermissionsExt;
        let metadata = std::fs::metadata(from)?;
        let mode = (metadata.permissions().mode() & 0o777) as u16;
        let file = match metadata.is_dir() {
            true => None,
            false => Some(File::durable(std::fs::read(from)?)),
        };
        let ino = self.nodes.len() as Ino + 1;
        self.add(ino, name, file, mode);
        for tree in [&mut self.cached, &mut self.durable] {
            tree.entry(parent).or_default().insert(name.to_owned(), ino);
        }
        if metadata.is_dir() {
            for entry in std::fs::read_dir(from)? {
                let entry = entry?;
                self.import(&entry.path(), ino, &entry.file_name())?;
            }
        }
        Ok(())
    }

    /// The inode of a name.
    pub(super) fn find(&self, folder: Ino, name: &OsStr) -> Result<Ino, Errno> {
        let names = self.cached.get(&folder).ok_or(Errno::ENOENT)?;
        names.get(name).copied().ok_or(Errno::ENOENT)
    }

    /// A node that the kernel knows.
    pub(super) fn node(&mut self, ino: Ino) -> Result<&mut Node, Errno> {
        self.nodes.get_mut(&ino).ok_or(Errno::ENOENT)
    }

    /// The bytes of a file.
    pub(super) fn file(&mut self, ino: Ino) -> Result<&mut File, Errno> {
        self.node(ino)?.file.as_mut().ok_or(Errno::EISDIR)
    }

    fn change_names(&mut self, change: NameChange) {
        apply(&change, &mut self.cached);
        self.journal.push(change);
    }

    /// Makes a file or a folder.
    pub(super) fn create(
        &mut self,
        folder: Ino,
        name: &OsStr,
        is_file: bool,
        mode: u32,
    ) -> Result<Ino, Errno> {
        if self.find(folder, name).is_ok() {
            return Err(Errno::EEXIST);
        }
        let ino = self.nodes.len() as Ino + 1;
        self.add(ino, name, is_file.then(File::default), (mode & 0o777) as u16);
        self.link(ino, folder, name)?;
        Ok(ino)
    }

    /// Another name for a file.
    pub(super) fn link(&mut self, ino: Ino, folder: Ino, name: &OsStr) -> Result<(), Errno> {
        if self.find(folder, name).is_ok() {
            return Err(Errno::EEXIST);
        }
        self.node(ino)?.name = name.to_owned();
        self.change_names(NameChange::Link { at: (folder, name.to_owned()), ino, from: None });
        Ok(())
    }

    /// Takes a name away; of a folder only where it is empty.
    pub(super) fn unlink(&mut self, folder: Ino, name: &OsStr) -> Result<(), Errno> {
        let ino = self.find(folder, name)?;
        if self.cached.get(&ino).is_some_and(|names| !names.is_empty()) {
            return Err(Errno::ENOTEMPTY);
        }
        self.change_names(NameChange::Unlink { at: (folder, name.to_owned()) });
        Ok(())
    }

    /// Renames, in place of what has the new name.
    pub(super) fn rename(&mut self, from: (Ino, &OsStr), to: (Ino, &OsStr)) -> Result<(), Errno> {
        let ino = self.find(from.0, from.1)?;
        let replaced = self.find(to.0, to.1).ok().and_then(|ino| self.cached.get(&ino));
        if replaced.is_some_and(|names| !names.is_empty()) {
            return Err(Errno::ENOTEMPTY);
        }
        self.node(ino)?.name = to.1.to_owned();
        let owned = |(folder, name): (Ino, &OsStr)| (folder, name.to_owned());
        self.change_names(NameChange::Link { at: owned(to), ino, from: Some(owned(from)) });
        Ok(())
    }

    /// A sync that succeeds, of a file or a folder.
    pub(super) fn sync(&mut self, ino: Ino) -> Result<(), Errno> {
        if self.rules == Rules::Lying {
            return Ok(());
        }
        let file = self.node(ino)?.file.as_mut();
        let new_size = file.as_ref().is_some_and(|file| file.has_new_size());
        if let Some(file) = file {
            file.sync();
        }
        let journal = std::mem::take(&mut self.journal);
        let whole = new_size || journal.iter().any(|change| change.touches(ino));
        for change in journal {
            let commit = match self.rules {
                Rules::Ext4 => whole,
                _ => change.is_in(ino),
            };
            match commit {
                true => apply(&change, &mut self.durable),
                false => self.journal.push(change),
            }
        }
        Ok(())
    }

    /// Bytes of all files that have a name.
    pub(super) fn used(&self) -> u64 {
        let named = self.cached.values().flat_map(BTreeMap::values);
        let files = named.filter_map(|ino| self.nodes[ino].file.as_ref());
        files.map(|file| file.cached.len() as u64).sum()
    }

    /// How many names a file has.
    pub(super) fn links(&self, ino: Ino) -> u32 {
        let named = self.cached.values().flat_map(BTreeMap::values);
        named.filter(|named| **named == ino).count() as u32
    }
}
