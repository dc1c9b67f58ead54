//! The shm: how the applications and the daemon come to map the same memory.
//!
//! - **Passthrough** (kernel 6.9 and later, with `CAP_SYS_ADMIN`): the kernel hands reads, writes
//!   and mappings to the backing file, which the daemon maps as well. Locks still come here.
//! - **Through the mount** (elsewhere): the kernel keeps one page cache of the shm, and the daemon
//!   uses that one, by opening the file through its own mount; the room's head says with what care.
//!
//! Rule 3: in both cases before the first application has it open. The daemon's own open cannot
//! be made by a FUSE worker, which would wait for itself; a thread makes it, and the application's
//! open is answered afterwards. That an application holds no lock of the folder meanwhile, which
//! the thread's own lookup needs, is why a shm is looked up as present before it is there
//! ([`folder`](super::folder)): then the kernel asks for OPEN, never for CREATE.

use std::fs::File;
use std::io;
use std::os::unix::fs::MetadataExt;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use fuser::{BackingId, Errno, FileHandle};

use super::filesystem::Shared;
use super::inodes::Inode;
use super::names::Part;
use super::tree::Known;
use crate::commit::door;

/// What waits until the daemon has the shm open.
pub(super) type Waiting = Box<dyn FnOnce(Result<(), Errno>) + Send>;

/// No handle has this number.
const NONE: u64 = 0;

/// How the shm of one database is shared.
pub(super) struct Shm {
    state: Mutex<State>,
    /// The daemon's own handle, of which the write path is told nothing.
    own: AtomicU64,
}

#[derive(Default)]
enum State {
    #[default]
    New,
    /// The kernel demands the same one of every open of an inode, as long as any is open.
    Passthrough(Arc<BackingId>),
    Opening {
        /// Which thread's OPEN is the daemon's own.
        thread: Option<u32>,
        waiting: Vec<Waiting>,
    },
    Opened,
}

impl Default for Shm {
    fn default() -> Self {
        Self { state: Mutex::default(), own: AtomicU64::new(NONE) }
    }
}

impl Shm {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The backing file's number in the kernel, made by `register` at the first open.
    pub(super) fn backing(
        &self,
        files: &dyn door::DatabaseFiles,
        register: impl FnOnce(&File) -> io::Result<BackingId>,
    ) -> Result<Arc<BackingId>, Errno> {
        let mut state = self.state();
        if let State::Passthrough(backing) = &*state {
            return Ok(backing.clone());
        }
        let file = files.shm_backing().map_err(|e| Errno::from_i32(e.0))?;
        let backing = register(&file).map(Arc::new).map_err(|error| {
            tracing::error!(database = %files.name(), %error, "the kernel refused the shm for passthrough");
            Errno::EIO
        })?;
        *state = State::Passthrough(backing.clone());
        Ok(backing)
    }

    /// Whether this OPEN is the daemon's own.
    pub(super) fn is_opener(&self, thread: u32) -> bool {
        matches!(&*self.state(), State::Opening { thread: Some(t), .. } if *t == thread)
    }

    pub(super) fn set_own(&self, handle: FileHandle) {
        self.own.store(handle.0, Ordering::Release);
    }

    pub(super) fn is_own(&self, handle: FileHandle) -> bool {
        handle.0 != NONE && self.own.load(Ordering::Acquire) == handle.0
    }

    fn finish(&self, result: Result<(), Errno>) {
        let next = if result.is_ok() { State::Opened } else { State::New };
        let before = std::mem::replace(&mut *self.state(), next);
        if let State::Opening { waiting, .. } = before {
            for then in waiting {
                then(result);
            }
        }
    }
}

/// Calls `then` once the daemon has the shm open through the mount; opens it when nobody did.
pub(super) fn when_opened(shared: &Arc<Shared>, known: &Arc<Known>, then: Waiting) {
    let mut state = known.shm.state();
    match &mut *state {
        State::Opening { waiting, .. } => return waiting.push(then),
        State::New => *state = State::Opening { thread: None, waiting: vec![then] },
        State::Opened | State::Passthrough(_) => {
            drop(state);
            return then(Ok(()));
        }
    }
    drop(state);
    let (shared, opened) = (shared.clone(), known.clone());
    let thread =
        std::thread::Builder::new().name("shm-open".into()).spawn(move || open(&shared, &opened));
    if let Err(error) = thread {
        tracing::error!(%error, "no thread to open a shm through the mount");
        known.shm.finish(Err(Errno::EAGAIN));
    }
}

fn open(shared: &Shared, known: &Known) {
    let thread = rustix::thread::gettid().as_raw_nonzero().get().unsigned_abs();
    if let State::Opening { thread: opener, .. } = &mut *known.shm.state() {
        *opener = Some(thread);
    }
    let result = open_through_mount(shared, known);
    if let Err(error) = result {
        tracing::error!(database = %known.name, error = error.code(), "cannot open the shm through the mount");
    }
    known.shm.finish(result);
}

fn open_through_mount(shared: &Shared, known: &Known) -> Result<(), Errno> {
    let path = shared.path.join(format!("{}{}", known.name, Part::Shm.suffix()));
    let file = File::options().read(true).write(true).open(path)?;
    // The name may stand for another incarnation by now.
    let expected = Inode::Part { slot: known.slot, part: Part::Shm }.number();
    if Some(file.metadata()?.ino()) != expected.map(|number| number.0) {
        return Err(Errno::ESTALE);
    }
    known.files.use_shm(file).map_err(|e| Errno::from_i32(e.0))
}
