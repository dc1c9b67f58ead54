//! All databases of this node: where the mount finds them, and where the log's entries arrive.

use std::collections::{BTreeMap, HashMap};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, RwLock, RwLockReadGuard, Weak};
use std::time::Duration;

use tokio::sync::watch;
use tokio::time::Instant;

use super::apply::Queued;
use super::arbiter::{Arbiter, Holder};
use super::database::{Database, Later, Shared};
use super::door::{self, DatabaseFiles, Errno, Reply};
use super::lock;
use super::propose::Event;
use crate::cluster::{Command, Effect, State, Ticket, Verdict};
use crate::core::{Clock, DatabaseName, EntryId, Incarnation, NodeId};
use crate::store::{self, Store, StoreError};

/// Between two questions for what is committed, when nobody could say.
const ASK_AGAIN: Duration = Duration::from_millis(50);

/// Told when a database comes or goes without the mount having asked.
pub trait Listener: Send + Sync {
    fn appeared(&self, name: &DatabaseName);
    fn gone(&self, name: &DatabaseName);
}

pub struct AllDatabases {
    shared: Arc<Shared>,
    store: Store,
    by_name: RwLock<BTreeMap<DatabaseName, Arc<Database>>>,
    /// The last entry that changed each database, as the log was applied.
    last_index: Mutex<HashMap<DatabaseName, u64>>,
    /// The last entry that deleted one.
    last_deletion: AtomicU64,
    names: Names,
    listener: RwLock<Option<Arc<dyn Listener>>>,
    serving: AtomicBool,
    catching_up: AtomicBool,
}

/// What a node is called.
pub type Names = Box<dyn Fn(NodeId) -> Option<String> + Send + Sync>;

impl AllDatabases {
    /// `found`: what the start found in the store, to be served.
    pub fn new(
        shared: &Arc<Shared>,
        store: Store,
        found: Vec<Arc<store::Database>>,
        names: Names,
    ) -> Arc<Self> {
        let all = Self {
            shared: Arc::clone(shared),
            store,
            by_name: RwLock::default(),
            last_index: Mutex::default(),
            last_deletion: AtomicU64::new(0),
            names,
            listener: RwLock::new(None),
            serving: AtomicBool::new(false),
            catching_up: AtomicBool::new(false),
        };
        for store in found {
            let (name, incarnation) = (store.name().clone(), store.incarnation());
            let visible = store.applied().index;
            all.adopt(Database::new(shared, store, name, incarnation, visible));
        }
        Arc::new(all)
    }

    /// The leader's side of the write locks, over these databases.
    pub fn with_arbiter(self: &Arc<Self>, clock: Arc<dyn Clock>) -> Arc<Arbiter> {
        let holder: Weak<dyn Holder> = Arc::downgrade(self) as _;
        let last_index = {
            let all = Arc::downgrade(self);
            Arc::new(move |name: &_| all.upgrade().map_or(0, |all| all.last_index(name)))
        };
        let (group, runtime) = (Arc::clone(&self.shared.group), self.shared.runtime.clone());
        let arbiter = Arbiter::new(group, runtime, clock, last_index, holder);
        self.shared.set_arbiter(&arbiter);
        arbiter
    }

    pub fn shared(&self) -> &Arc<Shared> {
        &self.shared
    }

    pub(super) fn name_of(&self, node: NodeId) -> String {
        (self.names)(node).unwrap_or_else(|| node.to_string())
    }

    pub fn listen(&self, listener: Arc<dyn Listener>) {
        *self.listener.write().unwrap_or_else(std::sync::PoisonError::into_inner) = Some(listener);
    }

    fn names(&self) -> RwLockReadGuard<'_, BTreeMap<DatabaseName, Arc<Database>>> {
        self.by_name.read().unwrap_or_else(std::sync::PoisonError::into_inner)
    }

    pub fn all(&self) -> Vec<Arc<Database>> {
        self.names().values().cloned().collect()
    }

    pub fn find(&self, name: &DatabaseName) -> Option<Arc<Database>> {
        self.names().get(name).cloned()
    }

    /// The last entry of the log that changed the database. If there is none of that name, all that was
    /// applied here: who begins it anew must know of the end of the one before.
    pub fn last_index(&self, name: &DatabaseName) -> u64 {
        let known = lock(&self.last_index).get(name).copied();
        known.unwrap_or_else(|| {
            let applied = self.shared.applied.borrow().index;
            applied.max(self.last_deletion.load(Ordering::Acquire))
        })
    }

    /// Takes note of an entry that changed the database.
    pub(super) fn knows(&self, name: &DatabaseName, index: u64) {
        let mut known = lock(&self.last_index);
        let last = known.entry(name.clone()).or_default();
        *last = (*last).max(index);
    }

    /// The log was applied up to this entry.
    pub(super) fn passed(&self, entry: EntryId) {
        self.shared.applied.send_replace(entry);
    }

    /// How far the log has been applied here; the databases follow.
    pub fn applied(&self) -> watch::Receiver<EntryId> {
        self.shared.applied.subscribe()
    }

    /// Puts a database of the data folder, or a new one, among those served.
    pub fn adopt(&self, database: Arc<Database>) {
        let name = database.name.clone();
        self.knows(&name, database.store().applied().index);
        self.by_name
            .write()
            .unwrap_or_else(std::sync::PoisonError::into_inner)
            .insert(name, database);
    }

    fn make(&self, name: &DatabaseName) -> Result<Arc<Database>, Errno> {
        self.made(name).map_err(|error| {
            tracing::error!(database = %name, %error, "the database's folder cannot be made");
            Errno(libc::EIO)
        })
    }

    /// The database of that name, begun if there is none.
    pub(super) fn made(&self, name: &DatabaseName) -> Result<Arc<Database>, StoreError> {
        let mut names = self.by_name.write().unwrap_or_else(std::sync::PoisonError::into_inner);
        if let Some(database) = names.get(name) {
            return Ok(Arc::clone(database));
        }
        let slot = self.store.create_slot(name)?;
        let database = Database::new(&self.shared, slot, name.clone(), None, 0);
        if self.serving.load(Ordering::Acquire) {
            database.begin_to_serve()?;
        }
        names.insert(name.clone(), Arc::clone(&database));
        Ok(database)
    }

    /// Serves what came whole under a name that nobody has. `false`: somebody has it now.
    pub(super) fn adopt_new(
        &self,
        name: &DatabaseName,
        store: &Arc<store::Database>,
        incarnation: Incarnation,
        entry: EntryId,
    ) -> Result<bool, StoreError> {
        let mut names = self.by_name.write().unwrap_or_else(std::sync::PoisonError::into_inner);
        if names.contains_key(name) {
            return Ok(false);
        }
        let (store, life) = (Arc::clone(store), Some(incarnation));
        let database = Database::new(&self.shared, store, name.clone(), life, entry.index);
        if self.serving.load(Ordering::Acquire) {
            database.begin_to_serve()?;
        }
        names.insert(name.clone(), database);
        Ok(true)
    }

    /// One entry of the log, in order. Never blocks: what takes time is queued.
    pub fn entry(&self, entry: EntryId, command: Option<&Command>, effect: Option<Effect>) {
        if let (Some(command), Some(effect)) = (command, effect) {
            self.command(entry, command, effect);
        }
        self.passed(entry);
    }

    fn command(&self, entry: EntryId, command: &Command, effect: Effect) {
        let verdict = effect.verdict();
        let fresh = !matches!(effect, Effect::Duplicate(_));
        if let (Command::Commit(commit), Verdict::Accepted { incarnation, .. }, true) =
            (command, verdict, fresh)
        {
            self.knows(&commit.database, entry.index);
            if !self.shared.proposer.decide(commit.id, verdict, entry) {
                self.enqueue(entry, commit, incarnation);
            }
        } else if let (Command::Delete { id, database, .. }, Verdict::Accepted { .. }, true) =
            (command, verdict, fresh)
        {
            self.last_deletion.store(entry.index, Ordering::Release);
            lock(&self.last_index).remove(database);
            // Rule 10: the files of a database are gone only for who knows why, also after a power loss.
            if let Err(error) = self.shared.group.sync_committed_mark() {
                tracing::error!(%database, %error, "the log's mark cannot be synced; stopping");
                super::stop::stop_to_recover();
            }
            self.remove(database);
            self.shared.proposer.decide(*id, verdict, entry);
        } else {
            self.shared.proposer.decide(command.id(), verdict, entry);
        }
        self.shared.arbiter().proposal_finished(command.id());
    }

    fn enqueue(&self, entry: EntryId, commit: &crate::cluster::Commit, incarnation: Incarnation) {
        let known = self.find(&commit.database).is_some();
        let (new, payload) = (commit.new, commit.payload.clone());
        let queued = Queued { entry, incarnation, new, payload, since: Instant::now() };
        loop {
            let database = match self.make(&commit.database) {
                Ok(database) => database,
                Err(_logged) => super::stop::stop_to_recover(),
            };
            // Recovery: files that already hold this entry are not changed by it again.
            if database.store().applied().index >= entry.index {
                return;
            }
            if database.enqueue(&queued) {
                break;
            }
            // An application removed an empty file of this name just now; it will be gone at once.
            std::thread::yield_now();
        }
        if !known {
            self.tell(|listener| listener.appeared(&commit.database));
        }
    }

    pub(super) fn remove(&self, name: &DatabaseName) {
        if let Some(database) = self.withdraw(name)
            && let Err(error) = self.store.delete(database.store())
        {
            tracing::warn!(database = %name, %error, "files of a deleted database remain");
        }
    }

    /// Serves the name no longer; whoever has it open gets errors.
    pub(super) fn withdraw(&self, name: &DatabaseName) -> Option<Arc<Database>> {
        let database =
            self.by_name.write().unwrap_or_else(std::sync::PoisonError::into_inner).remove(name)?;
        lock(&self.last_index).remove(name);
        self.shared.proposer.leave_open(name);
        database.delete();
        self.tell(|listener| listener.gone(name));
        Some(database)
    }

    pub(super) fn announce(&self, name: &DatabaseName) {
        self.tell(|listener| listener.appeared(name));
    }

    pub(super) fn store(&self) -> &Store {
        &self.store
    }

    /// A snapshot took the place of all entries up to the state's.
    pub(super) fn replica_is_at(&self, state: &State) {
        let mut last_index = lock(&self.last_index);
        last_index.clear();
        last_index.extend(state.databases().map(|(name, at)| (name.clone(), at.index)));
        self.passed(state.applied());
    }

    /// The log up to the start was replayed into the files: from now on applications may come.
    /// Those whose files are not what the log says are set aside, and stay closed until
    /// [`AllDatabases::fetch_lost`] has fetched them (Rule 13).
    ///
    /// # Errors
    /// The files cannot be read or moved.
    pub fn begin_to_serve(&self) -> Result<(), StoreError> {
        // First: one that appears meanwhile serves by itself.
        self.serving.store(true, Ordering::Release);
        for database in self.all() {
            // Nothing of it is here.
            if database.is_lost() && database.store().incarnation().is_none() {
                self.tell_of_lost(&database.name, "its files are missing");
                continue;
            }
            match serve_when_ready(&database) {
                Ok(()) => {}
                Err(error) if error.is_damage() || database.is_lost() => {
                    tracing::error!(database = %database.name, %error, "not what the log says");
                    self.replace_damaged(&database, &error.to_string())?;
                }
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }

    /// Since its start this node has not yet shown all that was committed then: who comes to it now may
    /// see less than he saw here before.
    pub fn set_catching_up(&self, catching_up: bool) {
        self.catching_up.store(catching_up, Ordering::Release);
    }

    pub fn is_catching_up(&self) -> bool {
        self.catching_up.load(Ordering::Acquire)
    }

    pub(super) fn is_serving(&self) -> bool {
        self.serving.load(Ordering::Acquire)
    }

    fn tell(&self, what: impl FnOnce(&dyn Listener)) {
        let listener = self.listener.read().unwrap_or_else(std::sync::PoisonError::into_inner);
        if let Some(listener) = listener.as_ref() {
            what(listener.as_ref());
        }
    }

    /// Waits until a new reader on this node sees all that was committed before the call
    /// (Rule 18). The answer is the index it waited for.
    ///
    /// # Errors
    /// Says what was not reached within `timeout`.
    pub async fn barrier(&self, timeout: Duration) -> Result<u64, String> {
        let deadline = Instant::now() + timeout;
        // While there is no leader, or another one every moment, it is asked again.
        let index = loop {
            let left = deadline.saturating_duration_since(Instant::now());
            match self.shared.group.read_index(left).await {
                Ok(index) => break index,
                Err(why) if Instant::now() + ASK_AGAIN >= deadline => return Err(why),
                Err(_) => tokio::time::sleep(ASK_AGAIN).await,
            }
        };
        let mut applied = self.applied();
        let reached = applied.wait_for(|entry| entry.index >= index);
        match tokio::time::timeout_at(deadline, reached).await {
            Ok(Ok(_)) => {}
            Ok(Err(_)) => return Err("the node is stopping".into()),
            Err(_) => return Err(format!("this node has not applied entry {index} in time")),
        }
        if tokio::time::timeout_at(deadline, self.until_all_show(index)).await.is_ok() {
            return Ok(index);
        }
        let late = self.all().into_iter().find(|database| !database.shows(index));
        let name = late.map_or_else(|| "a database".to_owned(), |late| late.name.to_string());
        Err(format!(
            "{name} does not show entry {index} yet: it is being applied, or an application holds its \
             write lock"
        ))
    }

    /// Waits until a new reader sees all up to the entry of this index, which the log has applied (Rule 18).
    pub async fn until_all_show(&self, index: u64) {
        for database in self.all() {
            loop {
                let changed = database.applied.notified();
                tokio::pin!(changed);
                changed.as_mut().enable();
                if database.shows(index) {
                    break;
                }
                changed.await;
            }
        }
    }

    /// For how long what the log has applied waits to be shown here, of the database that is furthest
    /// behind.
    pub fn delay(&self) -> Duration {
        self.all().iter().map(|database| database.delay()).max().unwrap_or_default()
    }
}

/// Waits until all that is queued now is applied, and lets applications in.
pub(super) fn serve_when_ready(database: &Arc<Database>) -> Result<(), StoreError> {
    while !database.begin_to_serve()? {
        database.wait_until_replayed();
    }
    // By another thread: it goes on for as long as more comes.
    let mut later = Later::default();
    later.pump = true;
    later.run(database);
    Ok(())
}

impl Holder for AllDatabases {
    fn recall(&self, term: u64, database: &DatabaseName, ticket: Ticket) {
        match self.find(database) {
            Some(database) => database.recalled(term, ticket),
            // Deleted meanwhile: whoever makes the name anew must not wait for us.
            None => self.shared.tell_release(database, term, ticket),
        }
    }

    fn held(&self, term: u64) -> Vec<(DatabaseName, Ticket)> {
        self.all()
            .into_iter()
            .filter_map(|database| Some((database.name.clone(), database.held_from(term)?)))
            .collect()
    }
}

impl door::Databases for AllDatabases {
    fn list(&self) -> Vec<Arc<dyn DatabaseFiles>> {
        self.all().into_iter().map(|database| database as Arc<dyn DatabaseFiles>).collect()
    }

    fn get(&self, name: &DatabaseName) -> Option<Arc<dyn DatabaseFiles>> {
        self.find(name).map(|database| database as Arc<dyn DatabaseFiles>)
    }

    fn create(&self, name: &DatabaseName) -> Result<Arc<dyn DatabaseFiles>, Errno> {
        if self.shared.is_read_only() && self.find(name).is_none() {
            return Err(Errno(libc::EROFS));
        }
        self.make(name).map(|database| database as Arc<dyn DatabaseFiles>)
    }

    fn unlink(&self, name: &DatabaseName, reply: Reply<()>) {
        let Some(database) = self.find(name) else { return reply(Err(Errno(libc::ENOENT))) };
        if self.shared.is_read_only() {
            return reply(Err(Errno(libc::EROFS)));
        }
        if database.delete_if_only_here() {
            self.remove(name);
            return reply(Ok(()));
        }
        // Its first commit is under way: whether it will be there is not known yet.
        let Some(incarnation) = database.incarnation() else {
            return reply(Err(Errno(libc::EBUSY)));
        };
        let gone = name.clone();
        let make = move |id| Command::Delete { id, database: gone, incarnation };
        let mut reply = Some(reply);
        let on_event = Box::new(move |_, event| {
            let Some(reply) = reply.take() else { return };
            reply(match event {
                Event::Verdict { verdict: Verdict::Accepted { .. }, .. } => Ok(()),
                Event::Verdict { .. } | Event::TimedOut | Event::NotProposed => {
                    Err(Errno(libc::EIO))
                }
            });
        });
        self.shared.proposer.submit(
            None,
            make,
            self.shared.settings.now().unlink_timeout,
            on_event,
        );
    }

    fn primary(&self) -> Option<String> {
        let leader = self.shared.group.leadership().borrow().leader?;
        (leader != self.shared.group.me()).then(|| (self.names)(leader))?
    }

    fn lag_ms(&self) -> i64 {
        let delay = i64::try_from(self.delay().as_millis()).unwrap_or(i64::MAX);
        self.shared.group.lag_ms().max(delay)
    }
}
