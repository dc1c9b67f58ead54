//! Follows who leads, and finds out why that changed: for the log, for `/history`, and to be asked
//! by the other nodes.
//!
//! The node that takes office knows best: it has seen the leader before go, or was told by it that
//! it hands over. The others ask it, and keep what they saw themselves until it answers.
//!
//! Decides nothing: whatever it gets wrong is a wrong word, never a wrong leader.

use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use bytes::Bytes;
use serde::{Deserialize, Serialize};
use tokio::sync::broadcast::error::RecvError;
use tokio::time::Instant;

use super::history::History;
use super::roster::Roster;
use crate::commit::lock;
use crate::core::NodeId;
use crate::core::clock::signed_unix_ms;
use crate::core::history::{Cause, LeaderChange};
use crate::mesh::{Mesh, PeerEventKind};
use crate::raft::{RaftError, RaftNode};

/// The method number of "I hand over to you, and this is why".
pub const HAND_OVER: u8 = 80;

/// The method number of "who led when?".
pub const HISTORY: u8 = 81;

/// How long a call about it may take: nothing waits for more than a word.
const CALL: Duration = Duration::from_millis(500);

/// How often, and how long apart, a new leader is asked until it has told why it leads.
const ASKED: u32 = 10;
const ASK_AGAIN: Duration = Duration::from_millis(100);

/// A word that somebody hands over holds so long.
const WORD: Duration = Duration::from_secs(30);

/// What a leader says to the one that it hands over to.
#[derive(Debug, Clone, Serialize, Deserialize)]
struct Word {
    term: u64,
    cause: Cause,
    asked: Option<String>,
}

/// What a node tells another.
#[derive(Debug, Default, Serialize, Deserialize)]
struct Told {
    /// The term in which it leads now.
    leading: Option<u64>,
    changes: Vec<LeaderChange>,
}

pub struct Leaders {
    me: NodeId,
    roster: Arc<Roster>,
    /// How long a leader is silent before anybody asks for votes.
    silence: Duration,
    /// The node began with an empty log.
    new_log: bool,
    /// The term that the node remembered when it began. Who led in it may be gone long since.
    remembered: u64,
    /// The term of that kind whose leader said that it leads.
    heard: AtomicU64,
    raft: Arc<RaftNode>,
    mesh: Mesh,
    history: Mutex<History>,
    /// One at a time writes the history's file.
    saving: tokio::sync::Mutex<()>,
    word: Mutex<Option<(NodeId, Word, Instant)>>,
    changes: AtomicU64,
}

/// What has been seen of the leader in office.
#[derive(Default)]
struct Seen {
    leader: Option<(NodeId, u64)>,
    /// Nodes whose connection is gone: since when, and whether the process is known to be dead.
    gone: HashMap<NodeId, (Instant, bool)>,
    /// Since when nobody leads.
    vacant: Option<Instant>,
}

impl Leaders {
    pub fn new(
        me: NodeId,
        roster: Arc<Roster>,
        silence: Duration,
        history: History,
        raft: Arc<RaftNode>,
        mesh: Mesh,
    ) -> Arc<Self> {
        // The members' entry, and that of the first leader.
        let status = raft.status();
        let new_log = status.last_log.is_none_or(|index| index <= 1);
        Arc::new(Self {
            me,
            roster,
            silence,
            new_log,
            remembered: status.term,
            heard: AtomicU64::new(0),
            raft,
            mesh,
            history: Mutex::new(history),
            saving: tokio::sync::Mutex::default(),
            word: Mutex::default(),
            changes: AtomicU64::new(0),
        })
    }

    /// The newest last.
    pub fn history(&self) -> Vec<LeaderChange> {
        lock(&self.history).changes().to_vec()
    }

    /// Leaders seen since this process began.
    pub fn changes(&self) -> u64 {
        self.changes.load(Ordering::Relaxed)
    }

    fn name(&self, id: NodeId) -> String {
        self.roster.now().name_of(id)
    }

    /// Hands leadership over, on the leader: to the named node, or to the one that is furthest. It is
    /// told why first, which need not arrive.
    ///
    /// # Errors
    /// As the room below says; this node leads on then.
    pub async fn hand_over(
        &self,
        to: Option<NodeId>,
        cause: Cause,
        asked: Option<String>,
    ) -> Result<NodeId, RaftError> {
        let status = self.raft.status();
        let furthest = || {
            let voters = status.peers.iter().filter(|(id, _)| status.voters.contains(id));
            voters.max_by_key(|(_, progress)| progress.matched).map(|(id, _)| *id)
        };
        let to = to.or_else(furthest).ok_or(RaftError::NoLeader)?;
        let word = Word { term: status.term, cause, asked };
        if let Ok(said) = serde_json::to_vec(&word).map(Bytes::from) {
            *lock(&self.word) = Some((self.me, word, Instant::now()));
            for other in status.voters.into_iter().filter(|id| *id != self.me && *id != to) {
                let (mesh, said) = (self.mesh.clone(), said.clone());
                tokio::spawn(async move { mesh.call(other, HAND_OVER, said, CALL).await });
            }
            if let Err(error) = self.mesh.call(to, HAND_OVER, said, CALL).await {
                tracing::debug!(%error, "the next leader was not told why it leads");
            }
        }
        self.raft.transfer_leadership(to).await?;
        Ok(self.raft.leadership().borrow().leader.unwrap_or(to))
    }

    /// Another node hands over to this one.
    pub fn hear(&self, from: NodeId, word: &[u8]) -> Result<(), String> {
        let word: Word = serde_json::from_slice(word).map_err(|error| error.to_string())?;
        *lock(&self.word) = Some((from, word, Instant::now()));
        Ok(())
    }

    /// What this node tells others.
    pub fn tell(&self) -> Result<Bytes, String> {
        let leadership = *self.raft.leadership().borrow();
        let leading = leadership.me_leading.then_some(leadership.term);
        let told = Told { leading, changes: self.history() };
        serde_json::to_vec(&told).map(Bytes::from).map_err(|error| error.to_string())
    }

    /// Follows the leaders, until the node stops.
    pub async fn follow(self: Arc<Self>) {
        let mut leadership = self.raft.leadership();
        let mut events = self.mesh.peer_events();
        for node in self.roster.others(self.me) {
            if self.mesh.peer_state(node) == Some(PeerEventKind::Up) {
                tokio::spawn(Arc::clone(&self).catch_up(node));
            }
        }
        let mut seen = Seen { vacant: Some(Instant::now()), ..Seen::default() };
        loop {
            // What was seen of the connections comes before what it led to.
            while let Ok(event) = events.try_recv() {
                self.connection(event.node, event.kind, &mut seen);
            }
            let now = *leadership.borrow_and_update();
            match now.leader {
                Some(leader) if seen.leader != Some((leader, now.term)) => {
                    self.took_office(leader, now.term, &seen).await;
                    seen.leader = Some((leader, now.term));
                    seen.vacant = None;
                }
                None => _ = seen.vacant.get_or_insert_with(Instant::now),
                Some(_) => {}
            }
            tokio::select! {
                changed = leadership.changed() => if changed.is_err() { return },
                event = events.recv() => match event {
                    Ok(event) => self.connection(event.node, event.kind, &mut seen),
                    Err(RecvError::Lagged(_)) => {}
                    Err(RecvError::Closed) => return,
                },
            }
        }
    }

    fn connection(self: &Arc<Self>, node: NodeId, kind: PeerEventKind, seen: &mut Seen) {
        let led = seen.leader.is_some_and(|(leader, _)| leader == node);
        let name = self.name(node);
        let name = if led { format!("{name}, the leader,") } else { name };
        match kind {
            PeerEventKind::Up => {
                tokio::spawn(Arc::clone(self).catch_up(node));
                if let Some((since, _)) = seen.gone.remove(&node) {
                    let seconds = since.elapsed().as_secs_f64();
                    tracing::info!("connected to {name} again, after {seconds:.1} s");
                }
            }
            PeerEventKind::Broken => {
                tracing::info!("the connection to {name} broke");
                seen.gone.entry(node).or_insert_with(|| (Instant::now(), false));
            }
            // So it is also for a node that was not started yet when this one was.
            PeerEventKind::Refused => {
                if let Some(gone) = seen.gone.get_mut(&node) {
                    tracing::warn!("{name} is lost: its process has ended");
                    gone.1 = true;
                } else if led {
                    seen.gone.insert(node, (Instant::now(), true));
                }
            }
        }
    }

    async fn took_office(self: &Arc<Self>, leader: NodeId, term: u64, seen: &Seen) {
        self.changes.fetch_add(1, Ordering::Relaxed);
        let known = lock(&self.history).last().filter(|last| last.term >= term).cloned();
        match known {
            // It leads since before this process began, or another node was quicker to tell.
            Some(known) if known.is_first_hand() => {
                if seen.leader.is_none() {
                    tracing::info!(term, "{} leads", self.name(leader));
                } else {
                    log(&known);
                }
                return;
            }
            Some(known) if leader != self.me => {
                tokio::spawn(Arc::clone(self).ask(leader, term, known));
                return;
            }
            _ => {}
        }
        let change = self.explain(leader, term, seen);
        if lock(&self.history).learn(vec![change.clone()]) {
            self.save().await;
        }
        if leader == self.me {
            log(&change);
        } else {
            tokio::spawn(Arc::clone(self).ask(leader, term, change));
        }
    }

    /// Why, as far as it can be seen from here.
    fn explain(&self, leader: NodeId, term: u64, seen: &Seen) -> LeaderChange {
        let word = lock(&self.word).take().filter(|(from, word, at)| {
            seen.leader == Some((*from, word.term)) && at.elapsed() < WORD
        });
        let heard =
            |term: u64| term > self.remembered || term == self.heard.load(Ordering::Relaxed);
        let office = seen.leader.filter(|(_, term)| heard(*term));
        let gone = office.and_then(|(before, _)| seen.gone.get(&before).copied());
        let asked = word.as_ref().and_then(|(_, word, _)| word.asked.clone());
        let cause = match (word, office, gone) {
            (Some((_, word, _)), ..) => word.cause,
            // Whoever leads is out of office only by a majority that leads on without it.
            (None, Some((before, _)), _) if before == self.me => Cause::NoQuorum,
            (None, Some(_), Some((_, true))) => Cause::Died,
            (None, Some(_), _) => Cause::Silent,
            (None, None, _) if leader != self.me => Cause::Unseen,
            (None, None, _) if self.new_log && lock(&self.history).last().is_none() => Cause::First,
            (None, None, _) => Cause::NoQuorum,
        };
        let known = lock(&self.history).last().map(|last| last.leader.clone());
        let before = office.map(|(before, _)| self.name(before)).or(known);
        // A silent leader was so for an election timeout before anything could be noticed.
        let silence = if cause == Cause::Silent { self.silence } else { Duration::ZERO };
        let since = match (gone, seen.vacant) {
            (Some((at, _)), _) => Some(at.elapsed()),
            (None, Some(at)) => Some(at.elapsed() + silence),
            (None, None) if cause == Cause::Silent => Some(silence),
            (None, None) => None,
        };
        let since = since.filter(|_| !matches!(cause, Cause::First | Cause::Unseen));
        LeaderChange {
            term,
            leader: self.name(leader),
            since_ms: signed_unix_ms(),
            before,
            cause,
            asked,
            without_leader_ms: since
                .map(|since| u64::try_from(since.as_millis()).unwrap_or(u64::MAX)),
            told_by: self.name(self.me),
        }
    }

    /// Asks the leader why it leads, and what was before. If it does not say, what was seen from here
    /// stands.
    async fn ask(self: Arc<Self>, leader: NodeId, term: u64, mut change: LeaderChange) {
        for _ in 0..ASKED {
            if self.raft.leadership().borrow().leader != Some(leader) {
                break;
            }
            // It may not have come to it yet.
            let told = self.ask_once(leader).await;
            if let Some(first_hand) = told.into_iter().find(|told| told.term == term) {
                change = first_hand;
                break;
            }
            tokio::time::sleep(ASK_AGAIN).await;
        }
        log(&change);
    }

    /// Another node can be reached again: what it saw meanwhile is of interest here.
    async fn catch_up(self: Arc<Self>, node: NodeId) {
        self.ask_once(node).await;
    }

    /// What another node tells; nothing, if it does not answer.
    async fn ask_once(&self, node: NodeId) -> Vec<LeaderChange> {
        let answer = self.mesh.call(node, HISTORY, Bytes::new(), CALL).await;
        let told: Option<Told> =
            answer.ok().and_then(|answer| serde_json::from_slice(&answer).ok());
        let Told { leading, changes } = told.unwrap_or_default();
        if let Some(term) = leading {
            self.heard.store(term, Ordering::Relaxed);
        }
        if lock(&self.history).learn(changes.clone()) {
            self.save().await;
        }
        changes
    }

    async fn save(&self) {
        let _turn = self.saving.lock().await;
        let history = lock(&self.history).clone();
        let written = tokio::task::spawn_blocking(move || {
            history.write().map_err(|error| (history.path().to_owned(), error))
        });
        if let Ok(Err((path, error))) = written.await {
            tracing::warn!(path = %path.display(), %error, "the history cannot be kept");
        }
    }
}

fn log(change: &LeaderChange) {
    let pause = change.without_leader_ms;
    let pause = pause.map(|ms| format!("; no leader for {ms} ms")).unwrap_or_default();
    tracing::info!(term = change.term, "{} leads: {change}{pause}", change.leader);
}
