//! One database on this node: its lock tables, who holds its write lock, and what is still to be
//! applied. Every file operation of the mount comes through here.

use std::collections::{HashMap, VecDeque};
use std::fmt;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};
use std::sync::{Arc, Condvar, Mutex, RwLock, Weak};
use std::time::Duration;

use tokio::runtime::Handle as Runtime;
use tokio::sync::{Notify, watch};
use tokio::time::Instant;

use super::apply::Queued;
use super::arbiter::Arbiter;
use super::cluster_lock::ClusterLock;
use super::counters::Counters;
use super::door::{Errno, FileKind, Handle, LockRequest, Owner, Reply};
use super::gate::{Pending, Waiter};
use super::hold::{Hold, KEEPER, LockOwner};
use super::lock;
use super::notice::Notices;
use super::peers::{Leadership, SharedGroup};
use super::propose::Proposer;
use super::rot::RottenPages;
use super::settings::{LiveSettings, Settings};
use super::stop::stop_to_recover;
use super::turns::Turns;
use crate::core::ports::{
    ByteRange, CommittedMark, DaemonLocks, KernelCache, LockFile, LockKind, NoKernelCache,
};
use crate::core::{Boot, DatabaseName, EntryId, Incarnation, hex};
use crate::locks::LockTable;
use crate::sqlite::locks;
use crate::store::{self, JournalMode};

/// Between two looks at a database whose log is replayed.
const LOOK: Duration = Duration::from_millis(50);

/// What all databases of a node share.
pub struct Shared {
    pub group: SharedGroup,
    pub runtime: Runtime,
    pub settings: LiveSettings,
    pub proposer: Arc<Proposer>,
    pub arbiter: RwLock<Weak<Arbiter>>,
    /// Large transactions are staged here.
    pub staged: std::path::PathBuf,
    pub counters: Counters,
    /// Pages that reads found rotten.
    pub rotten: RottenPages,
    /// The number of the next request for a write lock.
    pub tickets: AtomicU64,
    /// The node is stopping: nobody begins to write any more.
    pub closing: AtomicBool,
    /// The node has stopped: nothing more is applied.
    pub stopped: AtomicBool,
    /// The node is a learner: it replicates, and its applications only read.
    pub read_only: AtomicBool,
    /// How far the log has been applied here; the databases follow.
    pub applied: watch::Sender<EntryId>,
}

pub struct Database {
    pub name: DatabaseName,
    pub(super) slot: u64,
    pub(super) store: Arc<store::Database>,
    pub(super) shared: Arc<Shared>,
    pub(super) group: SharedGroup,
    pub(super) runtime: Runtime,
    pub(super) settings: LiveSettings,
    pub(super) state: Mutex<State>,
    /// Something was applied, or became visible.
    pub(super) applied: Notify,
    /// What applications wait for before they are let in was applied.
    pub(super) replayed: Condvar,
    pub(super) cache: RwLock<Arc<dyn KernelCache>>,
    pub(super) notices: Notices,
    /// One checkpoint at a time.
    pub(super) checkpointing: Mutex<()>,
    /// How many frames the WAL had at the last checkpoint.
    pub(super) tried_frames: AtomicU32,
    /// In WAL mode.
    wal: AtomicBool,
    pub(super) me: Weak<Database>,
}

#[allow(clippy::struct_excessive_bools)] // independent facts, each set at one place
pub(super) struct State {
    pub db_locks: LockTable<LockOwner>,
    pub shm_locks: LockTable<LockOwner>,
    pub waiters: Vec<Waiter>,
    pub pending: Option<Pending>,
    /// Those who ask for it and were refused.
    pub turns: Turns,
    /// When an application last asked for the write lock.
    pub wanted: Option<Instant>,
    pub hold: Option<Hold>,
    pub cluster: ClusterLock,
    /// A recall that overtook the grant it is about.
    pub recalled_early: Option<crate::cluster::Ticket>,
    /// Committed by other nodes, not yet in this node's files.
    pub queue: VecDeque<Queued>,
    /// A thread is applying from the queue.
    pub pumping: bool,
    /// The entry that it applies, or applied last, and since when that was due. None: a snapshot, or
    /// nothing that is an entry's.
    pub applying: Option<(u64, Instant)>,
    /// Up to here the log is replayed; what comes after is applied beneath applications, once they may
    /// come.
    pub replay_until: Option<u64>,
    pub incarnation: Option<Incarnation>,
    /// The last entry of this database that a new reader sees (Rule 18).
    pub visible: u64,
    pub deleted: bool,
    /// The open files, and who took locks through each. A process (POSIX locks) is taken off when it
    /// closes (FLUSH); who is left at the last close is the open file description itself (OFD locks).
    pub open: HashMap<Handle, Vec<Owner>>,
    /// Being turned to WAL.
    pub turning: bool,
    /// The last transaction was made on this node.
    pub wrote_here: bool,
    /// Rule 10, for the application that checkpoints: the log's mark covers what it copies.
    pub app_marked: bool,
    /// [`KEEPER`] has its locks.
    pub kept: bool,
    /// The log up to the start was replayed: applications may come.
    pub serving: bool,
    /// Its files were damaged, and are not fetched yet (Rule 13): how many bytes it had.
    pub lost: Option<u64>,
    ids: u64,
}

impl State {
    pub fn table(&self, file: LockFile) -> &LockTable<LockOwner> {
        match file {
            LockFile::Database => &self.db_locks,
            LockFile::Shm => &self.shm_locks,
        }
    }

    pub fn table_mut(&mut self, file: LockFile) -> &mut LockTable<LockOwner> {
        match file {
            LockFile::Database => &mut self.db_locks,
            LockFile::Shm => &mut self.shm_locks,
        }
    }

    /// Takes a lock for an application; the error is who stands in the way.
    pub fn try_lock(&mut self, request: LockRequest) -> Result<(), LockOwner> {
        self.table_mut(request.file)
            .try_lock(LockOwner::App(request.owner), request.pid, request.range, request.kind)
            .map_err(|conflict| conflict.with.owner)
    }

    /// Who would stand in the way.
    pub fn conflict(&self, request: LockRequest) -> Option<LockOwner> {
        self.table(request.file)
            .get_lock(LockOwner::App(request.owner), request.range, request.kind)
            .map(|held| held.owner)
    }

    pub fn app_checkpoints_other_than(&self, request: LockRequest) -> bool {
        let byte = ByteRange { start: locks::CKPT, end: locks::CKPT };
        request.file == LockFile::Shm
            && self
                .shm_locks
                .get_lock(LockOwner::App(request.owner), byte, LockKind::Exclusive)
                .is_some_and(|held| matches!(held.owner, LockOwner::App(_)))
    }

    /// An application holds the checkpoint lock: its writes to the database are no transaction.
    pub fn app_checkpoints(&self) -> bool {
        let byte = ByteRange { start: locks::CKPT, end: locks::CKPT };
        self.shm_locks.holder_of(byte).is_some_and(|held| matches!(held.owner, LockOwner::App(_)))
    }

    pub fn next_id(&mut self) -> u64 {
        self.ids += 1;
        self.ids
    }
}

/// What is done after a database's mutex was let go: answers, and work for other threads.
#[derive(Default)]
pub(super) struct Later {
    answers: Vec<Box<dyn FnOnce() + Send>>,
    pub tasks: Vec<Box<dyn FnOnce() + Send>>,
    pub pump: bool,
    pub turn: bool,
    pub checkpoint: bool,
}

impl Later {
    pub fn answer<T: Send + 'static>(&mut self, reply: Reply<T>, result: Result<T, Errno>) {
        self.answers.push(Box::new(move || reply(result)));
    }

    pub fn run(self, database: &Arc<Database>) {
        for answer in self.answers {
            answer();
        }
        for task in self.tasks {
            database.runtime.spawn_blocking(task);
        }
        if self.pump {
            let database = Arc::clone(database);
            database.runtime.clone().spawn_blocking(move || database.pump());
        }
        if self.turn {
            let database = Arc::clone(database);
            database.runtime.clone().spawn_blocking(move || database.turn_to_wal());
        }
        if self.checkpoint {
            let database = Arc::clone(database);
            database.runtime.clone().spawn_blocking(move || database.checkpoint_now());
        }
    }
}

impl Database {
    pub fn new(
        shared: &Arc<Shared>,
        store: Arc<store::Database>,
        name: DatabaseName,
        incarnation: Option<Incarnation>,
        visible: u64,
    ) -> Arc<Self> {
        let database = Arc::new_cyclic(|me| Self {
            name,
            slot: store.slot(),
            store,
            group: Arc::clone(&shared.group),
            runtime: shared.runtime.clone(),
            settings: shared.settings.clone(),
            shared: Arc::clone(shared),
            state: Mutex::new(State {
                db_locks: LockTable::new(),
                shm_locks: LockTable::new(),
                waiters: Vec::new(),
                pending: None,
                turns: Turns::default(),
                wanted: None,
                hold: None,
                cluster: ClusterLock::None,
                recalled_early: None,
                queue: VecDeque::new(),
                pumping: false,
                applying: None,
                replay_until: None,
                incarnation,
                visible,
                deleted: false,
                open: HashMap::new(),
                turning: false,
                wrote_here: false,
                app_marked: false,
                kept: false,
                serving: false,
                lost: None,
                ids: 0,
            }),
            applied: Notify::new(),
            replayed: Condvar::new(),
            cache: RwLock::new(Arc::new(NoKernelCache)),
            notices: Notices::default(),
            checkpointing: Mutex::new(()),
            tried_frames: AtomicU32::new(0),
            wal: AtomicBool::new(false),
            me: Weak::clone(me),
        });
        let locks: Arc<dyn DaemonLocks> = database.clone();
        database.store.connect(locks, Arc::new(NoKernelCache));
        let mark = Mark { shared: Arc::clone(shared), covered: AtomicU64::new(0) };
        database.store.use_mark(Arc::new(mark));
        database
    }

    /// The log up to the start was replayed: what it says must be what the files hold (Rule 13),
    /// and then applications may come. Returns whether that is so yet: what was queued when this was
    /// asked first has to be applied, and what comes after that waits until the caller has it applied.
    ///
    /// # Errors
    /// The files hold something else, or cannot be read.
    pub fn begin_to_serve(&self) -> Result<bool, store::StoreError> {
        let mut state = lock(&self.state);
        if state.serving {
            return Ok(true);
        }
        if state.lost.is_some() {
            let what = "its files are damaged, and not fetched yet";
            return Err(store::StoreError::Busy { name: self.name.clone(), what });
        }
        let last = state.queue.back().map_or(0, |last| last.entry.index);
        state.replay_until.get_or_insert(last);
        if !state.is_replayed() {
            return Ok(false);
        }
        self.store.finish_recovery()?;
        self.mode_may_have_changed()?;
        self.keep_wal(&mut state);
        state.serving = true;
        Ok(true)
    }

    /// Waits, for a moment at most, until applications may be let in.
    pub(super) fn wait_until_replayed(&self) {
        let state = lock(&self.state);
        // It may also be deleted or lost meanwhile, which is told nobody: hence the end of the wait.
        drop(self.replayed.wait_timeout_while(state, LOOK, |state| !state.is_replayed()));
    }

    /// How the database commits now.
    pub(super) fn mode(&self) -> JournalMode {
        if self.wal.load(Ordering::Acquire) { JournalMode::Wal } else { JournalMode::Rollback }
    }

    /// Reads it from the file again: whoever changed the first page in place calls this.
    pub(super) fn mode_may_have_changed(&self) -> Result<(), store::StoreError> {
        let wal = self.store.journal_mode()? == JournalMode::Wal;
        self.wal.store(wal, Ordering::Release);
        Ok(())
    }

    /// The daemon's own locks that keep WAL and shm alive when the last application leaves (Rule
    /// 3), taken as soon as nobody's exclusive lock stands in the way.
    pub(super) fn keep_wal(&self, state: &mut State) {
        if self.mode() == JournalMode::Wal && !state.kept {
            let byte = ByteRange { start: locks::DMS, end: locks::DMS };
            state.kept = state.shm_locks.try_lock(KEEPER, 0, byte, LockKind::Shared).is_ok()
                && state.db_locks.try_lock(KEEPER, 0, SHARED_RANGE, LockKind::Shared).is_ok();
        }
    }

    pub(super) fn leadership(&self) -> Leadership {
        *self.group.leadership().borrow()
    }

    pub(super) fn arbiter(&self) -> Arc<Arbiter> {
        self.shared.arbiter()
    }

    /// Runs something on this database after some time, if it still exists.
    pub(super) fn after(
        &self,
        time: Duration,
        action: impl FnOnce(&Arc<Database>) + Send + 'static,
    ) {
        let me = Weak::clone(&self.me);
        self.runtime.spawn(async move {
            tokio::time::sleep(time).await;
            if let Some(database) = me.upgrade() {
                action(&database);
            }
        });
    }

    /// An error of the store on an operation that has promised nothing yet.
    pub(super) fn failed(&self, what: &str, error: &dyn fmt::Display) -> Errno {
        tracing::error!(database = %self.name, %error, "{what} failed");
        Errno(libc::EIO)
    }

    /// Rule 7: what fails after the quorum cannot be taken back, and cannot be told to anybody. The
    /// process stops; the next start recovers from the log.
    pub(super) fn stop_after_quorum(&self, what: &str, error: &dyn fmt::Display) -> ! {
        tracing::error!(
            database = %self.name, %error,
            "{what} failed after the cluster committed it; stopping to recover from the log"
        );
        stop_to_recover()
    }

    /// Of its last commit; `None` while it is only a file on this node.
    pub fn incarnation(&self) -> Option<Incarnation> {
        lock(&self.state).incarnation
    }

    pub fn is_deleted(&self) -> bool {
        lock(&self.state).deleted
    }

    /// Committed entries that no reader here sees yet.
    pub fn behind(&self) -> usize {
        lock(&self.state).queue.len()
    }

    /// The process that holds the write lock on this node.
    pub fn writer_pid(&self) -> Option<u32> {
        lock(&self.state).hold.as_ref().map(|hold| hold.pid)
    }

    /// Whether this node has the cluster's write lock.
    pub fn holds_cluster_lock(&self) -> bool {
        matches!(lock(&self.state).cluster, ClusterLock::Held(_))
    }

    pub fn store(&self) -> &Arc<store::Database> {
        &self.store
    }

    pub(super) fn table_file(kind: FileKind) -> Option<LockFile> {
        match kind {
            FileKind::Database => Some(LockFile::Database),
            FileKind::Shm => Some(LockFile::Shm),
            FileKind::Journal | FileKind::Wal => None,
        }
    }
}

/// The bytes of SHARED on the database file.
pub(super) const SHARED_RANGE: ByteRange =
    ByteRange { start: locks::SHARED_FIRST, end: locks::SHARED_FIRST + locks::SHARED_SIZE - 1 };

impl Shared {
    /// Nothing is proposed yet, and nothing applied. `staged`: the folder of large transactions.
    pub fn new(
        group: SharedGroup,
        runtime: Runtime,
        boot: Boot,
        settings: Settings,
        staged: std::path::PathBuf,
    ) -> Arc<Self> {
        Arc::new(Self {
            proposer: Arc::new(Proposer::new(Arc::clone(&group), runtime.clone(), boot)),
            group,
            runtime,
            settings: LiveSettings::new(settings),
            arbiter: RwLock::new(Weak::new()),
            staged,
            counters: Counters::default(),
            rotten: RottenPages::default(),
            tickets: AtomicU64::new(1),
            closing: AtomicBool::new(false),
            stopped: AtomicBool::new(false),
            read_only: AtomicBool::new(false),
            applied: watch::Sender::new(EntryId::default()),
        })
    }

    /// The leader's side of the write locks. Set once, before anything is served.
    pub fn set_arbiter(&self, arbiter: &Arc<Arbiter>) {
        *self.arbiter.write().unwrap_or_else(std::sync::PoisonError::into_inner) =
            Arc::downgrade(arbiter);
        self.proposer.set_arbiter(arbiter);
    }

    /// Where a staged transaction's file lies.
    pub fn staged_path(&self, sha256: &[u8; 32]) -> std::path::PathBuf {
        self.staged.join(hex(sha256))
    }

    pub fn arbiter(&self) -> Arc<Arbiter> {
        let arbiter = self.arbiter.read().unwrap_or_else(std::sync::PoisonError::into_inner);
        // Set before the first database is served and alive as long as the node.
        arbiter.upgrade().unwrap_or_else(|| stop_to_recover())
    }
}

/// The log's mark, as `store` asks for it (Rule 10).
struct Mark {
    shared: Arc<Shared>,
    /// Up to here it is durable.
    covered: AtomicU64,
}

impl CommittedMark for Mark {
    fn sync(&self) -> std::io::Result<()> {
        let applied = self.shared.applied.borrow().index;
        self.shared.group.sync_committed_mark()?;
        self.covered.fetch_max(applied, Ordering::AcqRel);
        Ok(())
    }

    fn covers(&self, index: u64) -> bool {
        index <= self.covered.load(Ordering::Acquire)
    }
}

impl DaemonLocks for Database {
    fn lock(&self, slot: u64, file: LockFile, range: ByteRange, kind: LockKind) -> bool {
        let Some(me) = self.me.upgrade() else { return false };
        let owner = LockOwner::Daemon(slot);
        let mut later = Later::default();
        let mut state = lock(&self.state);
        let granted = if kind == LockKind::Unlock {
            state.table_mut(file).unlock(owner, range);
            me.after_release(&mut state, &mut later);
            true
        } else {
            state.table_mut(file).try_lock(owner, 0, range, kind).is_ok()
        };
        drop(state);
        later.run(&me);
        granted
    }

    fn is_locked_exclusively(&self, file: LockFile, range: ByteRange) -> bool {
        lock(&self.state).table(file).is_locked_exclusively(range)
    }
}
