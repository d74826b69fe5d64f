//! State that the mount and the test share: the model, the plan, and requests that wait.

use std::ffi::OsString;
use std::sync::{Condvar, Mutex, MutexGuard};
use std::time::Duration;

use fuser::Errno;

use super::model::{Ino, Model, Rules};
use super::plan::{Fate, Plan, What};

/// A reply that can be an error.
pub(super) trait Refuse: Send {
    fn refuse(self: Box<Self>, errno: Errno);
}

/// How the disk answers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Phase {
    /// As it should.
    Running,
    /// Not at all.
    Frozen,
    /// With EIO, to processes that were killed: none of their code runs any more.
    Dead,
}

/// How much was asked of a disk.
#[derive(Clone, Copy, Debug, Default)]
pub struct Counts {
    /// Writes, syncs and changes of names.
    pub requests: u64,
    /// Syncs among them.
    pub syncs: u64,
    /// Syncs that failed by plan.
    pub failed_syncs: u64,
    /// Requests that the plan refused with EIO or ENOSPC.
    pub refused: u64,
}

pub(super) struct State {
    pub(super) model: Model,
    pub(super) plan: Plan,
    pub(super) phase: Phase,
    pub(super) held: Vec<Box<dyn Refuse>>,
    pub(super) counts: Counts,
    /// Bytes of all files when the plan began.
    pub(super) used: u64,
}

pub(super) struct Shared {
    state: Mutex<State>,
    frozen: Condvar,
}

impl Shared {
    pub(super) fn new(model: Model) -> Self {
        let used = model.used();
        let state = State {
            model,
            plan: Plan::default(),
            phase: Phase::Running,
            held: Vec::new(),
            counts: Counts::default(),
            used,
        };
        Self { state: Mutex::new(state), frozen: Condvar::new() }
    }

    pub(super) fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().expect("no panic under the lock")
    }

    /// The name by which plans know a file.
    pub(super) fn name(&self, ino: Ino) -> OsString {
        let state = self.state();
        state.model.nodes.get(&ino).map(|node| node.name.clone()).unwrap_or_default()
    }

    /// ENOSPC where the plan leaves no room for a file up to this size.
    pub(super) fn make_room(&self, ino: Ino, size: u64) -> Result<(), Errno> {
        let mut state = self.state();
        let Some(room) = state.plan.room else { return Ok(()) };
        let old = state.model.file(ino)?.cached.len() as u64;
        let used = state.model.used() + size.saturating_sub(old);
        if size > old && used > state.used + room {
            state.counts.refused += 1;
            return Err(Errno::ENOSPC);
        }
        Ok(())
    }

    /// Answers a request, or holds the answer back. `counted` is what plans know it by.
    pub(super) fn answer<R: Refuse + 'static, T>(
        &self,
        counted: Option<(What, OsString)>,
        reply: R,
        act: impl FnOnce(&mut Model) -> Result<T, Errno>,
        send: impl FnOnce(R, T),
    ) {
        let mut state = self.state();
        match state.phase {
            Phase::Frozen => return state.held.push(Box::new(reply)),
            Phase::Dead => return Box::new(reply).refuse(Errno::EIO),
            Phase::Running => {}
        }
        let fate = match &counted {
            Some((what, name)) => {
                state.counts.requests += 1;
                state.counts.syncs += u64::from(*what == What::Sync);
                state.plan.fate(*what, name)
            }
            None => Fate::Done,
        };
        match fate {
            Fate::Done => match act(&mut state.model) {
                Ok(done) => {
                    drop(state);
                    send(reply, done);
                }
                Err(errno) => {
                    drop(state);
                    Box::new(reply).refuse(errno);
                }
            },
            Fate::Failed => {
                state.counts.refused += 1;
                let is_sync = matches!(counted, Some((What::Sync, _)));
                state.counts.failed_syncs += u64::from(is_sync);
                if let (Some((What::Sync, name)), true) =
                    (&counted, state.model.rules != Rules::Lying)
                {
                    let nodes = state.model.nodes.values_mut();
                    let named = nodes.filter(|node| node.name == *name);
                    named.filter_map(|node| node.file.as_mut()).for_each(|file| file.fail_sync());
                }
                drop(state);
                Box::new(reply).refuse(Errno::EIO);
            }
            Fate::NotDone | Fate::NotAnswered => {
                if fate == Fate::NotAnswered {
                    let _ = act(&mut state.model);
                }
                state.held.push(Box::new(reply));
                self.freeze(state);
            }
        }
    }

    pub(super) fn freeze(&self, mut state: MutexGuard<'_, State>) {
        state.phase = Phase::Frozen;
        drop(state);
        self.frozen.notify_all();
    }

    /// Waits until the disk does not answer any more; says whether it came to that.
    pub(super) fn wait_frozen(&self, limit: Duration) -> bool {
        let running = |state: &mut State| state.phase == Phase::Running;
        let waited = self.frozen.wait_timeout_while(self.state(), limit, running);
        !waited.expect("no panic under the lock").1.timed_out()
    }
}
