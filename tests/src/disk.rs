//! A disk in memory that loses power: a FUSE file system under real processes.
//!
//! All writes go to a model of the page cache until the process syncs. A cut keeps what was
//! synced, and of the rest what a seed draws: that is the disk of the next start. Names are kept by
//! one of two [`Rules`]; a third one lies, so that a trial can show that it would notice.

mod file;
mod fuse;
mod model;
mod plan;
mod shared;
mod survive;

use std::ffi::OsStr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use fuser::{BackgroundSession, Config, Errno, MountOption};
use rustix::mount::{UnmountFlags, unmount};

pub use model::Rules;
pub use plan::{Plan, Point, What};
pub use shared::Counts;
pub use survive::Strategy;

use crate::faults::Dice;
use model::{Model, ROOT};
use shared::{Phase, Shared};

/// How long a disk may be busy after its processes have ended.
const PATIENCE: Duration = Duration::from_secs(10);

/// All that is on a disk whose processes have ended.
pub struct Image(Model);

/// A mounted disk. Kill the processes on it before it is dropped.
pub struct Disk {
    path: PathBuf,
    shared: Arc<Shared>,
    session: Option<BackgroundSession>,
}

impl Disk {
    /// An empty disk at an empty folder.
    pub fn new(path: &Path, rules: Rules) -> std::io::Result<Self> {
        Self::mount(path, Model::new(rules))
    }

    /// A disk with copies of these folders, under their names.
    pub fn with(path: &Path, rules: Rules, folders: &[&Path]) -> std::io::Result<Self> {
        let mut model = Model::new(rules);
        for folder in folders {
            let name = folder.file_name().unwrap_or(OsStr::new("copy"));
            model.import(folder, ROOT, name)?;
        }
        Self::mount(path, model)
    }

    /// A disk with all of an image on it, durable.
    pub fn of(path: &Path, rules: Rules, image: &Image) -> std::io::Result<Self> {
        Self::mount(path, Model { rules, ..image.0.clone() })
    }

    /// A copy of all that is on it.
    pub fn image(&self) -> Image {
        let state = self.shared.state();
        Image(survive::survivors(&state.model, Strategy::Kept, &mut Dice::new(0)))
    }

    fn mount(path: &Path, model: Model) -> std::io::Result<Self> {
        let shared = Arc::new(Shared::new(model));
        let mut config = Config::default();
        config.mount_options.push(MountOption::FSName("tocyn-power".to_owned()));
        let session = fuser::spawn_mount(fuse::Fuse(shared.clone()), path, &config)?;
        Ok(Self { path: path.to_owned(), shared, session: Some(session) })
    }

    /// Where it is mounted.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Puts a plan in place of the last one.
    pub fn plan(&self, plan: Plan) {
        let mut state = self.shared.state();
        state.used = state.model.used();
        state.plan = plan;
    }

    /// Requests since it was mounted.
    pub fn counts(&self) -> Counts {
        self.shared.state().counts
    }

    /// From now on it does not answer.
    pub fn freeze(&self) {
        self.shared.freeze(self.shared.state());
    }

    /// Waits until the plan freezes it; says whether it came to that.
    pub fn wait_frozen(&self, limit: Duration) -> bool {
        self.shared.wait_frozen(limit)
    }

    /// Lets go of the threads that wait for it. Their processes must have been killed: the error
    /// that they are sent must not be seen.
    pub fn release(&self) {
        let mut state = self.shared.state();
        state.phase = Phase::Dead;
        let held = std::mem::take(&mut state.held);
        drop(state);
        held.into_iter().for_each(|reply| reply.refuse(Errno::EIO));
    }

    /// Goes on with all that is in the page cache: the processes on it are dead, the machine is not.
    pub fn thaw(&self) {
        let mut state = self.shared.state();
        state.plan = Plan::default();
        state.phase = Phase::Running;
    }

    /// The power goes. Its processes must have ended. Mounts what is left at the same place.
    pub fn cut(mut self, strategy: Strategy, dice: &mut Dice) -> std::io::Result<Self> {
        let model = survive::survivors(&self.shared.state().model, strategy, dice);
        self.unmount()?;
        Self::mount(&self.path, model)
    }

    fn unmount(&mut self) -> std::io::Result<()> {
        self.release();
        let Some(session) = self.session.take() else { return Ok(()) };
        // A process that another thread is starting may hold copies of our files until it runs.
        let since = Instant::now();
        loop {
            match unmount(&self.path, UnmountFlags::empty()) {
                Ok(()) => return session.join(),
                Err(rustix::io::Errno::BUSY) if since.elapsed() < PATIENCE => {
                    std::thread::sleep(Duration::from_millis(2));
                }
                // Not as root: with the help of fusermount.
                Err(_) => return session.umount_and_join(),
            }
        }
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        if let Err(error) = self.unmount() {
            eprintln!("{} stays mounted: {error}", self.path.display());
        }
    }
}
