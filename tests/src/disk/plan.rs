//! Faults of a disk, and their times.

use std::ffi::OsStr;

/// A kind of request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum What {
    /// A write of bytes, or a truncation.
    Write,
    /// An fsync or fdatasync, of a file or a folder.
    Sync,
    /// A name that is made, changed or taken away.
    Names,
}

/// A moment: the n-th request of a kind, to files whose names end so.
#[derive(Clone, Copy, Debug)]
pub struct Point {
    /// None: of any kind.
    pub what: Option<What>,
    /// The end of the name; empty fits all, a folder's own sync has the folder's name.
    pub name: &'static str,
    /// 1 is the next one.
    pub nth: u64,
}

impl Point {
    fn fits(&self, what: What, name: &OsStr) -> bool {
        self.what.is_none_or(|kind| kind == what)
            && name.to_str().is_some_and(|name| name.ends_with(self.name))
    }

    /// Counts a request; says whether it is the one.
    fn is_reached(&mut self, what: What, name: &OsStr) -> bool {
        if self.nth == 0 || !self.fits(what, name) {
            return false;
        }
        self.nth -= 1;
        self.nth == 0
    }
}

/// Faults; none by default.
#[derive(Clone, Debug, Default)]
pub struct Plan {
    /// From here on the disk does not answer. Whether this request is done, though not answered.
    pub freeze: Option<(Point, bool)>,
    /// This sync fails with EIO.
    pub failed_sync: Option<Point>,
    /// From here on so many requests of this kind fail with EIO.
    pub failed_writes: Option<(Point, u64)>,
    /// Bytes that files may grow by.
    pub room: Option<u64>,
}

/// Reaction of a disk to a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fate {
    /// As it should.
    Done,
    /// EIO.
    Failed,
    /// Freezes before it.
    NotDone,
    /// Freezes after it.
    NotAnswered,
}

impl Plan {
    /// A plan to freeze.
    pub fn freeze(point: Point, done: bool) -> Self {
        Self { freeze: Some((point, done)), ..Self::default() }
    }

    /// Counts a request, and says what becomes of it.
    pub fn fate(&mut self, what: What, name: &OsStr) -> Fate {
        if let Some((point, done)) = &mut self.freeze
            && point.is_reached(what, name)
        {
            return if *done { Fate::NotAnswered } else { Fate::NotDone };
        }
        if let Some(point) = &mut self.failed_sync
            && point.is_reached(what, name)
        {
            return Fate::Failed;
        }
        if let Some((point, left)) = &mut self.failed_writes
            && *left > 0
            && (point.is_reached(what, name) || (point.nth == 0 && point.fits(what, name)))
        {
            *left -= 1;
            return Fate::Failed;
        }
        Fate::Done
    }
}
