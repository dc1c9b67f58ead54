//! The Raft log on disk: entries, the vote, and how far it is committed.
//!
//! docs/decisions/own-raft-log.md says why it is our own. Append-only segments of a fixed size,
//! written beforehand with zeros; one writer thread with group commit ([`writer`]); every record
//! checked by CRC-32C ([`record`]); a torn tail is cut at the start, damage is an error
//! ([`recover`]); the newest entries stay in memory, bounded by bytes ([`memory`]).
//!
//! Keeps no-lost-ack: an entry or a vote is acknowledged when it is durable, and after the first
//! failed write or sync nothing is. Rule 10: [`Log::wait_flushed`] and [`Log::sync_committed`].
//! Rule 19: an entry counts as flushed only when the staged file that it names is there.

pub(in crate::raft) mod disk;
#[cfg(any(test, fuzzing))]
pub(in crate::raft) mod fuzzing;
mod memory;
mod read;
mod record;
mod recover;
mod segments;
mod storage;
mod writer;

#[cfg(test)]
mod bench;
#[cfg(test)]
mod sim;
#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, HashSet, VecDeque};
use std::io;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;

use tokio::sync::watch;

use self::disk::Disk;
use self::memory::{Memory, Slot};
use self::segments::{JanitorJobs, Segment};
use self::writer::EntryRecord;
use super::staged::{StagedFiles, StagedName};
use super::types::Entry;
use super::wire::{WireEntry, WireVote, encode_body};
use crate::core::EntryId;

/// Why the log could not be opened.
#[derive(Debug, thiserror::Error)]
pub enum LogError {
    #[error("cannot {what} of the Raft log: {source}")]
    Io { what: &'static str, source: io::Error },
    #[error(
        "the Raft log is damaged: {file} at offset {offset}: {why}; what follows may have been \
         acknowledged, so nothing is dropped: take this node's data from another node"
    )]
    Damaged { file: String, offset: u64, why: String },
    #[error("the Raft log lacks {file}, though later segments are there")]
    Missing { file: String },
    #[error("the Raft log is purged up to entry {purged}, but begins with entry {first}")]
    Hole { purged: u64, first: u64 },
    #[error(
        "{file} of the Raft log is of version {version}, which this program does not know; use \
         the version of litefs-py that wrote it, or a later one"
    )]
    Version { file: String, version: u32 },
}

/// Sizes, all in bytes.
#[derive(Debug, Clone, Copy)]
pub struct LogConfig {
    /// Of one file.
    pub segment: u64,
    /// Of the entries kept in memory.
    pub cache: u64,
    /// Of the entries read at once for another node.
    pub read: u64,
    /// Whether files are made and taken away on a thread beside.
    pub background: bool,
}

impl Default for LogConfig {
    fn default() -> Self {
        Self { segment: 16 << 20, cache: 8 << 20, read: 1 << 20, background: true }
    }
}

/// How long a committed mark may wait for something else that is written, before it is written
/// alone (and not synced).
const MARK_WAITS: Duration = Duration::from_millis(50);

/// What "flushed" is set to when nothing will be flushed any more.
const CLOSED: u64 = u64::MAX;

/// Called when it is durable, or failed.
pub(super) type Done = Box<dyn FnOnce(io::Result<()>) + Send>;

/// Called once, with what failed: the process must stop.
pub(super) type OnFatal = Arc<dyn Fn(String) + Send + Sync>;

/// Something to write. The order is that of the calls.
enum Work {
    Entries { records: Vec<EntryRecord>, done: Done },
    Vote { vote: WireVote, done: Done },
    Truncate { after: Option<EntryId> },
    Purge { upto: EntryId },
}

/// How far the log is committed.
#[derive(Clone, Copy)]
struct Mark(Option<EntryId>);

/// What is written together.
struct Group {
    works: Vec<Work>,
    /// The committed mark, if it is to be written.
    mark: Option<Mark>,
    /// Those who wait for the committed mark.
    syncs: Vec<Done>,
}

struct State {
    memory: Memory,
    segments: BTreeMap<u64, Segment>,
    queue: VecDeque<Work>,
    mark_changed: bool,
    syncs: Vec<Done>,
    /// The writer sleeps until it is woken.
    asleep: bool,
    stop: bool,
    failed: Option<String>,
}

struct Shared {
    state: Mutex<State>,
    work: Condvar,
    flushed: watch::Sender<u64>,
    /// Entries before this index are in a durable state, and may be purged.
    state_next: watch::Sender<u64>,
    staged: Arc<dyn StagedFiles>,
    on_fatal: OnFatal,
    config: LogConfig,
}

/// The log. Clones are the same log.
#[derive(Clone)]
pub(super) struct Log {
    shared: Arc<Shared>,
    owner: Arc<Owner>,
}

/// Stops the writer when the last handle goes.
struct Owner {
    shared: Arc<Shared>,
    thread: Mutex<Option<JoinHandle<()>>>,
}

impl Drop for Owner {
    fn drop(&mut self) {
        self.shared.state().stop = true;
        self.shared.work.notify_all();
    }
}

impl Log {
    /// Opens the log, or begins one.
    ///
    /// # Errors
    /// The disk fails, or the log is damaged; then nothing was changed.
    pub fn open(
        disk: Arc<dyn Disk>,
        config: LogConfig,
        staged: Arc<dyn StagedFiles>,
        on_fatal: OnFatal,
    ) -> Result<Self, LogError> {
        let io = |what| move |source| LogError::Io { what, source };
        let found = recover::recover(&*disk)?;
        let state = State {
            segments: found.segments,
            queue: VecDeque::new(),
            mark_changed: false,
            syncs: Vec::new(),
            asleep: false,
            stop: false,
            failed: None,
            memory: found.memory,
        };
        let flushed = watch::Sender::new(state.memory.flushed);
        let durable = state.memory.purged.map_or(0, |id| id.index.saturating_add(1));
        let shared = Arc::new(Shared {
            state: Mutex::new(state),
            work: Condvar::new(),
            flushed,
            state_next: watch::Sender::new(durable),
            staged,
            on_fatal,
            config,
        });
        let janitor =
            JanitorJobs::start(Arc::clone(&disk), config.segment, found.spares, config.background)
                .map_err(io("tidy the files"))?;
        let writer = writer::writer(Arc::clone(&shared), disk, janitor, found.active)
            .map_err(io("begin a segment"))?;
        let thread = std::thread::Builder::new()
            .name("raft-log".into())
            .spawn(move || writer.run())
            .map_err(io("start the writer"))?;
        let owner =
            Arc::new(Owner { shared: Arc::clone(&shared), thread: Mutex::new(Some(thread)) });
        Ok(Self { shared, owner })
    }

    /// Writes what still waits, and stops.
    pub fn close(&self) {
        self.shared.state().stop = true;
        self.shared.work.notify_all();
        let thread = self.owner.thread.lock().unwrap_or_else(PoisonError::into_inner).take();
        if let Some(thread) = thread
            && thread.join().is_err()
        {
            tracing::error!("the writer of the Raft log ended by a panic");
        }
    }

    /// Appends entries: they can be read at once, and `done` is called when they are durable.
    pub fn append(&self, entries: Vec<Entry>, done: Done) -> io::Result<()> {
        let encoded: Vec<_> = entries
            .into_iter()
            .map(|entry| {
                let wire = WireEntry::of(&entry);
                let staged = StagedName::in_entry(&wire);
                (entry, EntryRecord { id: wire.id, body: encode_body(&wire), staged })
            })
            .collect();
        let mut state = self.shared.usable()?;
        let mut records = Vec::with_capacity(encoded.len());
        for (entry, record) in encoded {
            let slot = Slot {
                id: record.id,
                len: record.body.len() as u32,
                place: None,
                staged: record.staged.map(Box::new),
            };
            if !state.memory.push(slot, entry) {
                return Err(io::Error::other(format!(
                    "entry {} does not follow the last one of the log",
                    record.id.index
                )));
            }
            records.push(record);
        }
        state.memory.shrink_cache(self.shared.config.cache);
        self.shared.give(state, Work::Entries { records, done });
        Ok(())
    }

    /// `done` is called when the vote is durable.
    pub fn save_vote(&self, vote: WireVote, done: Done) -> io::Result<()> {
        let mut state = self.shared.usable()?;
        state.memory.vote = Some(vote);
        self.shared.give(state, Work::Vote { vote, done });
        Ok(())
    }

    pub fn vote(&self) -> Option<WireVote> {
        self.shared.state().memory.vote
    }

    /// Notes how far the log is committed; durable only with [`Self::sync_committed`].
    pub fn save_committed(&self, committed: Option<EntryId>) -> io::Result<()> {
        let mut state = self.shared.usable()?;
        state.memory.committed = committed;
        state.mark_changed = true;
        if state.asleep {
            self.shared.work.notify_all();
        }
        Ok(())
    }

    pub fn committed(&self) -> Option<EntryId> {
        self.shared.state().memory.committed
    }

    /// Calls `done` when the committed mark, as it is now, is durable (Rule 10). In a log that was
    /// closed it is: what was applied before may still be on its way into the databases, in a stop.
    pub fn sync_committed(&self, done: Done) -> io::Result<()> {
        let mut state = self.shared.unfailed()?;
        if *self.shared.flushed.borrow() == CLOSED {
            drop(state);
            done(Ok(()));
            return Ok(());
        }
        state.syncs.push(done);
        self.shared.work.notify_all();
        Ok(())
    }

    /// Drops everything after `after`.
    pub fn truncate_after(&self, after: Option<EntryId>) -> io::Result<()> {
        let mut state = self.shared.usable()?;
        state.memory.truncate_after(after);
        self.shared.flushed.send_replace(state.memory.flushed);
        self.shared.give(state, Work::Truncate { after });
        Ok(())
    }

    /// Drops everything up to `upto`: at once for readers; on disk when the state is durable up to
    /// there ([`Self::state_is_durable`]). Until then nothing that comes later is written or
    /// acknowledged: a crash would otherwise leave a log that its state does not reach.
    pub fn purge(&self, upto: EntryId) -> io::Result<()> {
        let mut state = self.shared.usable()?;
        state.memory.purge(upto);
        self.shared.give(state, Work::Purge { upto });
        Ok(())
    }

    /// The state file and all databases hold durably what entries up to `index` say (Rule 11).
    pub fn state_is_durable(&self, index: u64) {
        let next = index.saturating_add(1);
        self.shared.state_next.send_if_modified(|now| {
            let before = std::mem::replace(now, next.max(*now));
            before != *now
        });
        // Taken, so that the writer does not just now look and then sleep.
        drop(self.shared.state());
        self.shared.work.notify_all();
    }

    /// The index after the last one that the state file holds.
    pub fn state_durable(&self) -> watch::Receiver<u64> {
        self.shared.state_next.subscribe()
    }

    /// Waits until the entry of this index is durable here (Rule 10: only then it is applied).
    pub async fn wait_flushed(&self, index: u64) -> io::Result<()> {
        let mut flushed = self.shared.flushed.subscribe();
        let next = *flushed.wait_for(|next| *next > index).await.map_err(io::Error::other)?;
        if next == CLOSED { Err(io::Error::other("the Raft log is closed")) } else { Ok(()) }
    }

    /// The id of the entry, if it is there.
    pub fn id_at(&self, index: u64) -> Option<EntryId> {
        self.shared.state().memory.slot(index).map(|slot| slot.id)
    }

    /// The last entry, or the last purged one.
    pub fn last(&self) -> Option<EntryId> {
        self.shared.state().memory.last()
    }

    pub fn purged(&self) -> Option<EntryId> {
        self.shared.state().memory.purged
    }

    /// Bytes of the entries that are there.
    pub fn bytes(&self) -> u64 {
        self.shared.state().memory.bytes()
    }

    /// The last index that can be purged so that `keep` bytes stay.
    pub fn purgeable(&self, keep: u64) -> Option<u64> {
        self.shared.state().memory.purgeable(keep)
    }

    /// The staged files that entries of the log name (Rule 19).
    pub fn staged(&self) -> HashSet<[u8; 32]> {
        self.shared.state().memory.staged()
    }

    fn read_limit(&self) -> u64 {
        self.shared.config.read
    }
}

impl Shared {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The state, unless the log failed or is closed.
    fn usable(&self) -> io::Result<MutexGuard<'_, State>> {
        let state = self.unfailed()?;
        if state.stop { Err(io::Error::other("the Raft log is closed")) } else { Ok(state) }
    }

    fn unfailed(&self) -> io::Result<MutexGuard<'_, State>> {
        let state = self.state();
        match &state.failed {
            Some(why) => Err(io::Error::other(format!("the Raft log failed before: {why}"))),
            None => Ok(state),
        }
    }

    fn give(&self, mut state: MutexGuard<'_, State>, work: Work) {
        state.queue.push_back(work);
        drop(state);
        self.work.notify_all();
    }

    /// What to write next; waits for it. `None`: the log is closed, and nothing is left that can
    /// be written.
    fn next_group(&self) -> Option<Group> {
        let mut state = self.state();
        let mut waited = false;
        loop {
            let state_next = *self.state_next.borrow();
            let queue = &state.queue;
            let early =
                |work: &Work| matches!(work, Work::Purge { upto } if upto.index >= state_next);
            let ready = queue.iter().position(early).unwrap_or(queue.len());
            let mark_due = state.mark_changed && (waited || state.stop);
            if ready > 0 || !state.syncs.is_empty() || mark_due {
                let works = state.queue.drain(..ready).collect();
                let changed = std::mem::take(&mut state.mark_changed);
                let mark = changed.then_some(Mark(state.memory.committed));
                return Some(Group { works, mark, syncs: std::mem::take(&mut state.syncs) });
            }
            if state.stop {
                return None;
            }
            // After the first wait without a mark to write there is nothing that time brings.
            state.asleep = waited && !state.mark_changed;
            state = if state.asleep {
                self.work.wait(state).unwrap_or_else(PoisonError::into_inner)
            } else {
                let result = self.work.wait_timeout(state, MARK_WAITS);
                let (state, timeout) = result.unwrap_or_else(PoisonError::into_inner);
                waited = timeout.timed_out();
                state
            };
            if state.asleep {
                state.asleep = false;
                waited = false;
            }
        }
    }

    /// Entries are durable.
    fn written(&self, entries: &[(EntryId, memory::Place)]) {
        let mut state = self.state();
        for (id, place) in entries {
            state.memory.written(*id, *place);
            if let Some(segment) = state.segments.get_mut(&place.segment) {
                segment.last_index = segment.last_index.max(Some(id.index));
            }
        }
        state.memory.shrink_cache(self.config.cache);
        let flushed = state.memory.flushed;
        self.flushed.send_if_modified(|now| std::mem::replace(now, flushed) != flushed);
    }

    /// Nothing is written any more: nobody is to wait for it.
    fn ended(&self) {
        let syncs = {
            let mut state = self.state();
            state.stop = true;
            self.flushed.send_replace(CLOSED);
            std::mem::take(&mut state.syncs)
        };
        // A failure told those who waited then: all that is written is synced.
        for done in syncs {
            done(Ok(()));
        }
    }

    fn check_staged(&self, staged: &StagedName) -> io::Result<()> {
        if self.staged.has(staged.sha256, staged.len) {
            return Ok(());
        }
        Err(io::Error::new(io::ErrorKind::NotFound, format!("the staged file {staged} is gone")))
    }

    fn fail(&self, error: &io::Error) {
        tracing::error!(%error, "writing the Raft log failed; the node must stop");
        let why = error.to_string();
        let mut state = self.state();
        state.failed = Some(why.clone());
        let queue = std::mem::take(&mut state.queue);
        let syncs = std::mem::take(&mut state.syncs);
        drop(state);
        for work in queue {
            if let Work::Entries { done, .. } | Work::Vote { done, .. } = work {
                done(Err(io::Error::other(why.clone())));
            }
        }
        for done in syncs {
            done(Err(io::Error::other(why.clone())));
        }
        (self.on_fatal)(format!("the Raft log: {why}"));
    }
}
