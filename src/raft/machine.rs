//! The state machine, as openraft drives it: [`State`] in memory, the databases behind
//! [`Replica`], the state file on disk.

use std::io;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use futures::{Stream, TryStreamExt};
use openraft::OptionalSend;
use openraft::storage::{EntryResponder, RaftSnapshotBuilder, RaftStateMachine};
use openraft::type_config::alias::SnapshotOf;
use tokio::sync::watch;

use super::log::Log;
use super::replica::{Applied, Replica};
use super::snapshot::SnapshotData;
use super::state_file::StateFile;
use super::types::{
    Answer, Entry, LogId, Payload, Proposal, SnapshotMeta, StoredMembership, Types, entry_id,
    log_id,
};
use super::wire::WireMeta;
use crate::cluster::State;
use crate::core::EntryId;

/// Between two tries to make durable what an application keeps busy.
const NOT_YET: Duration = Duration::from_secs(1);

type Snapshot = SnapshotOf<Types, SnapshotData>;

/// The state and what it is as of.
#[derive(Clone, Default)]
pub(super) struct Now {
    pub state: Arc<State>,
    pub applied: Option<LogId>,
    pub membership: StoredMembership,
}

impl Now {
    fn meta(&self) -> SnapshotMeta {
        SnapshotMeta { last_log_id: self.applied, last_membership: self.membership.clone() }
    }
}

/// What the machine shares with the rest of the room.
pub(super) struct Shared {
    now: Mutex<Now>,
    /// The last entry that was applied.
    applied: watch::Sender<Option<EntryId>>,
    pub replica: Arc<dyn Replica>,
    pub file: StateFile,
    pub log: Log,
    /// Off only for openraft's suite, which applies what was never in a log.
    waits_for_log: bool,
}

impl Shared {
    pub fn new(replica: Arc<dyn Replica>, file: StateFile, log: Log, now: Now) -> Self {
        let applied = watch::Sender::new(now.applied.as_ref().map(entry_id));
        Self { now: Mutex::new(now), applied, replica, file, log, waits_for_log: true }
    }

    #[cfg(test)]
    pub fn unflushed(mut self) -> Self {
        self.waits_for_log = false;
        self
    }

    /// A copy of the state; cheap, unless entries are applied while it lives.
    pub fn now(&self) -> Now {
        self.lock().clone()
    }

    pub fn applied(&self) -> watch::Receiver<Option<EntryId>> {
        self.applied.subscribe()
    }

    fn lock(&self) -> MutexGuard<'_, Now> {
        self.now.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Rule 11, in this order: committed mark, databases, state file; only then the log may be
    /// purged up to there.
    async fn make_durable(self: &Arc<Self>, now: Now) -> io::Result<()> {
        let Some(applied) = now.applied.as_ref().map(entry_id) else { return Ok(()) };
        let shared = Arc::clone(self);
        blocking(move || {
            shared.sync_committed()?;
            shared.replica.make_durable(applied)?;
            let meta = WireMeta::of(now.applied.as_ref(), &now.membership);
            shared.file.write(&meta, &now.state)?;
            shared.log.state_is_durable(applied.index);
            Ok(())
        })
        .await
    }

    /// Rule 10: what was applied so far is marked as committed, durably, before any of it goes
    /// into database files. Blocks: the log has a thread of its own, which does it.
    pub fn sync_committed(&self) -> io::Result<()> {
        let (sender, receiver) = std::sync::mpsc::channel();
        self.log.sync_committed(Box::new(move |result| {
            // Nobody waits any more.
            let _ = sender.send(result);
        }))?;
        receiver.recv().map_err(|_| io::Error::other("the Raft log is closed"))?
    }
}

/// Runs something that blocks away from the runtime's own threads.
pub(super) async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> io::Result<T> + Send + 'static,
) -> io::Result<T> {
    tokio::task::spawn_blocking(work).await.map_err(io::Error::other)?
}

/// One for openraft to own.
pub(super) struct Machine(pub Arc<Shared>);

impl Machine {
    /// Applies one entry.
    async fn entry(&self, entry: Entry) -> io::Result<Answer> {
        let id = entry_id(&entry.log_id);
        // Rule 10: openraft applies what a majority flushed; here it has to be this node too.
        if self.0.waits_for_log {
            self.0.log.wait_flushed(id.index).await?;
        }
        let mut answer = Answer::default();
        let (command, effect) = {
            let mut now = self.0.lock();
            let state = Arc::make_mut(&mut now.state);
            let applied = match entry.payload {
                Payload::Blank => {
                    state.pass(id);
                    (None, None)
                }
                Payload::Membership(membership) => {
                    state.pass(id);
                    now.membership = StoredMembership::new(Some(entry.log_id), membership);
                    (None, None)
                }
                Payload::Normal(Proposal::Command(command)) => {
                    let effect = state.apply(id, &command);
                    (Some(command), Some(effect))
                }
                Payload::Normal(Proposal::Change(change)) => {
                    answer = Answer(state.change(id, &change).err());
                    (None, None)
                }
            };
            now.applied = Some(entry.log_id);
            applied
        };
        self.0.replica.applied(Applied { entry: id, command, effect });
        self.0.applied.send_replace(Some(id));
        Ok(answer)
    }
}

impl RaftStateMachine<Types> for Machine {
    type SnapshotData = SnapshotData;
    type SnapshotBuilder = Builder;

    async fn applied_state(&mut self) -> Result<(Option<LogId>, StoredMembership), io::Error> {
        let now = self.0.lock();
        Ok((now.applied, now.membership.clone()))
    }

    async fn apply<Strm>(&mut self, mut entries: Strm) -> Result<(), io::Error>
    where
        Strm: Stream<Item = Result<EntryResponder<Types>, io::Error>> + Unpin + OptionalSend,
    {
        while let Some((entry, responder)) = entries.try_next().await? {
            let answer = self.entry(entry).await?;
            if let Some(responder) = responder {
                responder.send(answer);
            }
        }
        Ok(())
    }

    async fn get_snapshot_builder(&mut self) -> Builder {
        Builder { shared: Arc::clone(&self.0), now: self.0.now() }
    }

    async fn install_snapshot(
        &mut self,
        meta: &SnapshotMeta,
        snapshot: SnapshotData,
    ) -> Result<(), io::Error> {
        let now = Now {
            state: Arc::clone(&snapshot.state),
            applied: meta.last_log_id,
            membership: meta.last_membership.clone(),
        };
        let Some(applied) = now.applied.as_ref().map(entry_id) else { return Ok(()) };
        let shared = Arc::clone(&self.0);
        let installed = now.clone();
        blocking(move || {
            shared.replica.install_snapshot(&installed.state, &mut *snapshot.databases()?)?;
            let meta = WireMeta::of(installed.applied.as_ref(), &installed.membership);
            shared.file.write(&meta, &installed.state)?;
            Ok(())
        })
        .await?;
        *self.0.lock() = now;
        self.0.applied.send_replace(Some(applied));
        // The log waits for this before it forgets what the snapshot replaces.
        self.0.log.state_is_durable(applied.index);
        Ok(())
    }

    /// The snapshot is the live state and the live databases; nothing is copied until it is sent.
    async fn get_current_snapshot(&mut self) -> Result<Option<Snapshot>, io::Error> {
        let now = self.0.now();
        Ok(now.applied.is_some().then(|| snapshot(&self.0, &now)))
    }
}

fn snapshot(shared: &Shared, now: &Now) -> Snapshot {
    Snapshot {
        meta: now.meta(),
        snapshot: SnapshotData::live(Arc::clone(&now.state), Arc::clone(&shared.replica)),
    }
}

/// Makes the state durable: what openraft calls building a snapshot.
pub(super) struct Builder {
    shared: Arc<Shared>,
    now: Now,
}

impl RaftSnapshotBuilder<Types> for Builder {
    type SnapshotData = SnapshotData;

    async fn build_snapshot(&mut self) -> Result<Snapshot, io::Error> {
        // To openraft an error is the end of the node. An application that keeps a database busy is
        // no reason for that: the log stays until it is done.
        while let Err(error) = self.shared.make_durable(self.now.clone()).await {
            if !matches!(error.kind(), io::ErrorKind::TimedOut | io::ErrorKind::ResourceBusy) {
                return Err(error);
            }
            tracing::warn!(%error, "the log cannot be purged yet; trying again");
            tokio::time::sleep(NOT_YET).await;
        }
        Ok(snapshot(&self.shared, &self.now))
    }
}

impl Now {
    /// As the state file has it.
    pub fn read(meta: &WireMeta, state: State) -> Result<Self, super::wire::WireError> {
        Ok(Self {
            state: Arc::new(state),
            applied: meta.applied.map(log_id),
            membership: meta.membership()?,
        })
    }
}
