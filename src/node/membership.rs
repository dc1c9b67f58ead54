//! Who belongs to the cluster, and how that changes: wishes of operators, new nodes at the door.
//!
//! The leader decides: it writes what should be into the registry (an entry of the log), and then brings
//! Raft's membership there, a voter at a time ([`super::steps`]). Whoever leads next goes on with it.
//! Anything that would cost the quorum is refused before it begins.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use tokio::sync::{Mutex, watch};
use tokio::time::{Instant, sleep, timeout};

use super::certificates::{Certificates, Shown};
use super::leaders::Leaders;
use super::roster::{Known, Roster};
use super::service::{ADMINISTER, IDENTITY};
use super::steps::{self, Step};
use crate::cluster::{Authority, Change, Node, Part, Refused, Root, TokenState};
use crate::commit::{AllDatabases, Arbiter};
use crate::core::NodeId;
use crate::core::clock::unix_seconds;
use crate::core::history::Cause;
use crate::core::members::{NotDone, TokenStatus, TokenUse, Told, Wish};
use crate::mesh::{Ca, JoinToken, Mesh, PeerEventKind, secret_sha256};
use crate::raft::{ProposeError, RaftError, RaftNode};

/// For one change of Raft's membership.
const STEP: Duration = Duration::from_secs(10);
/// For another node to say what it shows and trusts.
const ANSWER: Duration = Duration::from_secs(2);
/// Between two looks for a leader.
const AGAIN: Duration = Duration::from_millis(50);
/// A learner that lacks at most so many entries may vote.
const CAUGHT_UP: u64 = 256;
/// The longest that a token may hold: a month.
const TTL_MAX: u64 = 31 * 24 * 3600;

pub struct Membership {
    pub me: NodeId,
    pub cluster: String,
    pub mesh: Mesh,
    pub raft: Arc<RaftNode>,
    pub leaders: Arc<Leaders>,
    pub roster: Arc<Roster>,
    pub certificates: Arc<Certificates>,
    pub databases: Arc<AllDatabases>,
    pub arbiter: Arc<Arbiter>,
    /// One change at a time on this leader; two operators wait for each other.
    pub busy: Mutex<()>,
    /// Why this node is no member any more, once it is none.
    pub removed: watch::Sender<Option<String>>,
}

#[allow(clippy::needless_pass_by_value)] // for `map_err`
pub(super) fn unavailable(why: impl ToString) -> NotDone {
    NotDone::Unavailable(why.to_string())
}

impl Membership {
    pub fn leads(&self) -> bool {
        let leadership = *self.raft.leadership().borrow();
        leadership.me_leading && leadership.first_entry_applied
    }

    pub(super) fn leader(&self) -> Result<NodeId, String> {
        let leader = self.raft.leadership().borrow().leader;
        leader.ok_or_else(|| "no leader is known; try again".to_owned())
    }

    pub fn is_up(&self, node: NodeId) -> bool {
        node == self.me || self.mesh.peer_state(node) == Some(PeerEventKind::Up)
    }

    /// Has it done, here or at the leader; waits for one, if there is none.
    ///
    /// # Errors
    /// As they say; nothing changed then.
    pub async fn ask(&self, wish: Wish, time: Duration) -> Result<Told, NotDone> {
        let deadline = Instant::now() + time;
        loop {
            let left = deadline.saturating_duration_since(Instant::now());
            match self.ask_once(&wish, left).await {
                Err(NotDone::NoLeader(_)) if left > AGAIN => sleep(AGAIN).await,
                told => return told,
            }
        }
    }

    async fn ask_once(&self, wish: &Wish, time: Duration) -> Result<Told, NotDone> {
        let leader = self.leader().map_err(NotDone::NoLeader)?;
        if leader == self.me {
            return self.decide_within(wish.clone(), time).await;
        }
        let request = serde_json::to_vec(&(wish, time.as_millis() as u64)).map_err(unavailable)?;
        let answer = self.mesh.call(leader, ADMINISTER, request.into(), time).await;
        let answer = answer.map_err(|error| {
            let why = error.to_string();
            if error.never_arrived() { NotDone::NoLeader(why) } else { NotDone::Unavailable(why) }
        })?;
        serde_json::from_slice::<Result<Told, NotDone>>(&answer).map_err(unavailable)?
    }

    async fn decide_within(&self, wish: Wish, time: Duration) -> Result<Told, NotDone> {
        self.until_leading().await;
        if !self.leads() {
            return Err(NotDone::NoLeader("the leader has just changed; try again".into()));
        }
        let decided = timeout(time, self.decide(wish)).await;
        decided.unwrap_or_else(|_| {
            Ok(Told::Accepted { what: "not done in time; it goes on by itself".into() })
        })
    }

    /// Another node's question, on the leader.
    pub async fn answer(&self, request: &[u8]) -> Result<Bytes, String> {
        let (wish, ms): (Wish, u64) = serde_json::from_slice(request).map_err(|e| e.to_string())?;
        let told = self.decide_within(wish, Duration::from_millis(ms)).await;
        serde_json::to_vec(&told).map(Bytes::from).map_err(|error| error.to_string())
    }

    /// Who was just elected leads in full only once an entry of its term is applied.
    async fn until_leading(&self) {
        let mut leadership = self.raft.leadership();
        let in_full = leadership.wait_for(|now| !now.me_leading || now.first_entry_applied);
        // Whether it does is asked again after this.
        let _ = timeout(ANSWER, in_full).await;
    }

    async fn decide(&self, wish: Wish) -> Result<Told, NotDone> {
        match wish {
            Wish::ListTokens => Ok(Told::Tokens { tokens: self.tokens() }),
            Wish::CreateToken { learner, ttl_seconds } => {
                self.create_token(learner, ttl_seconds).await
            }
            Wish::RevokeToken { id } => {
                self.change(Change::RevokeToken { id: id.clone() }).await?;
                Ok(Told::Revoked { id })
            }
            Wish::Add { name, address, learner } => self.add(name, address, learner).await,
            Wish::Remove { name } => self.set_part(&name, Part::Removed).await,
            Wish::Promote { name } => self.set_part(&name, Part::Voter).await,
            Wish::Demote { name } => self.set_part(&name, Part::Learner).await,
            Wish::RotateCa => self.rotate().await,
        }
    }

    /// An entry of the log.
    pub async fn change(&self, change: Change) -> Result<(), NotDone> {
        // An older version could not read its own log any more.
        for node in self.roster.others(self.me) {
            if self.is_up(node)
                && let Err(why) = self.ask_what_it_shows(node).await
                && why.contains("method")
            {
                let name = self.roster.now().name_of(node);
                return Err(NotDone::Refused(format!(
                    "{name} runs a version without this; upgrade all nodes first"
                )));
            }
        }
        let changed = self.raft.change_registry(change).await.map_err(|error| match error {
            ProposeError::NotLeader { .. } => NotDone::NoLeader(error.to_string()),
            error => unavailable(error),
        })?;
        changed.map_err(|refused| match refused {
            Refused::TokenUnknown => NotDone::Unknown(refused.to_string()),
            Refused::NameTaken | Refused::NumberTaken | Refused::TokenExists => {
                NotDone::Conflict(refused.to_string())
            }
            _ => NotDone::Refused(refused.to_string()),
        })
    }

    pub async fn ask_what_it_shows(&self, node: NodeId) -> Result<Shown, String> {
        if node == self.me {
            return Ok(self.certificates.shown());
        }
        let answer = self.mesh.call(node, IDENTITY, Bytes::new(), ANSWER).await;
        let answer = answer.map_err(|error| error.to_string())?;
        serde_json::from_slice(&answer).map_err(|error| error.to_string())
    }

    fn tokens(&self) -> Vec<TokenStatus> {
        let state = self.raft.state();
        let registry = state.registry();
        let now = unix_seconds();
        let tokens = registry.tokens().iter().map(|(id, token)| {
            let (state, node) = match token.state {
                TokenState::Used { node, .. } => {
                    (TokenUse::Used, registry.nodes().get(&node).map(|node| node.name.clone()))
                }
                TokenState::Revoked => (TokenUse::Revoked, None),
                TokenState::Unused if token.expires <= now => (TokenUse::Expired, None),
                TokenState::Unused => (TokenUse::Unused, None),
            };
            let role = if token.part == Part::Learner { "learner" } else { "voter" }.to_owned();
            TokenStatus { id: id.clone(), expires_seconds: token.expires, role, state, node }
        });
        tokens.collect()
    }

    /// What signs. Taken from the configuration's files if the cluster does not hold it yet.
    pub(super) async fn authority(&self) -> Result<Authority, NotDone> {
        if let Some(authority) = self.raft.state().registry().authority() {
            return Ok(authority.clone());
        }
        let configured = self.certificates.configured_ca().ok_or_else(|| {
            NotDone::Refused(
                "the cluster does not hold its CA's key: set mesh.tls.ca_key on the leader, and \
                 restart it"
                    .into(),
            )
        })?;
        let refused = |error: &dyn std::fmt::Display| NotDone::Refused(error.to_string());
        let (certificate, key) = configured.map_err(|error| refused(&error))?;
        Ca::from_pem(certificate.clone(), &key, "mesh.tls.ca", "mesh.tls.ca_key")
            .map_err(|error| refused(&error))?;
        let signs = Root { certificate_pem: certificate, key_pem: key };
        let authority = Authority { signs, rotation: None };
        self.change(Change::Certify(authority.clone())).await?;
        tracing::info!("the cluster holds its CA's key from now on");
        Ok(authority)
    }

    /// Gives the cluster its CA's key, where the configuration has it and the cluster does not.
    pub async fn adopt_authority(&self) {
        let held = self.raft.state().registry().authority().is_some();
        if held || self.certificates.configured_ca().is_none() {
            return;
        }
        if let Err(why) = self.authority().await {
            tracing::debug!(%why, "the CA's key is not taken over yet");
        }
    }

    async fn create_token(&self, learner: bool, ttl: u64) -> Result<Told, NotDone> {
        if ttl == 0 || ttl > TTL_MAX {
            return Err(NotDone::Refused(format!("a token holds from 1s to {}h", TTL_MAX / 3600)));
        }
        let authority = self.authority().await?;
        let token = JoinToken::create(&authority.signs.certificate_pem).map_err(unavailable)?;
        let now = unix_seconds();
        let expires = now + ttl;
        let part = if learner { Part::Learner } else { Part::Voter };
        let (id, secret_sha256) = (token.id.clone(), secret_sha256(&token.secret()));
        let change = Change::CreateToken { id: id.clone(), secret_sha256, expires, part, now };
        self.change(change).await?;
        Ok(Told::Token { token: token.to_string(), id, expires_seconds: expires })
    }

    /// The members as the log has them: the list follows it a moment later, and whoever asks for two changes
    /// one after the other must not meet the list of before.
    async fn listed(&self) -> Arc<Known> {
        let mut list = self.roster.changes();
        let index = self.raft.membership().borrow().index;
        let _ = timeout(ANSWER, list.wait_for(|known| known.index >= index)).await;
        self.roster.now()
    }

    pub(super) fn next_number(&self, known: &Known) -> NodeId {
        let present: BTreeSet<NodeId> = known.members.keys().copied().collect();
        self.raft.state().registry().next_number(&present)
    }

    async fn add(&self, name: String, address: String, learner: bool) -> Result<Told, NotDone> {
        let _one = self.busy.lock().await;
        crate::core::config::check_member(&name, &address).map_err(NotDone::Refused)?;
        let known = self.listed().await;
        if known.by_name(&name).is_some() {
            return Err(NotDone::Conflict(format!("there is a member named {name:?} already")));
        }
        let id = self.next_number(&known);
        let part = if learner { Part::Learner } else { Part::Voter };
        let record = Node { name: name.clone(), address, part };
        self.change(Change::Register { node: id, record }).await?;
        self.reconcile().await.map_err(unavailable)?;
        Ok(Told::Done { name, id })
    }

    async fn set_part(&self, name: &str, part: Part) -> Result<Told, NotDone> {
        let one = self.busy.lock().await;
        let known = self.listed().await;
        let id = known.by_name(name);
        let id =
            id.ok_or_else(|| NotDone::Unknown(format!("there is no member named {name:?}")))?;
        let votes = known.voters.contains(&id);
        match part {
            Part::Voter if votes => {
                return Err(NotDone::Conflict(format!("{name} votes already")));
            }
            Part::Learner if !votes => {
                return Err(NotDone::Conflict(format!("{name} is a learner already")));
            }
            Part::Voter => self.may_vote(&known, id, name)?,
            Part::Learner | Part::Removed if votes => self.may_go(&known, id, name)?,
            Part::Learner | Part::Removed => {}
        }
        if id == self.me && part != Part::Voter {
            // Another has to lead before this one goes: it is asked, and goes on with it.
            drop(one);
            let to = self.hand_over().await.map_err(unavailable)?;
            tracing::info!(to = known.name_of(to), "handed over before leaving");
            return Err(NotDone::NoLeader("another leads now; it is to be asked".into()));
        }
        let member = known.members.get(&id);
        let address = member.map(|member| member.address.clone()).unwrap_or_default();
        let record = Node { name: known.name_of(id), address, part };
        self.change(Change::Register { node: id, record }).await?;
        self.reconcile().await.map_err(unavailable)?;
        let done = match part {
            Part::Voter => self.raft.membership().borrow().voters.contains(&id),
            _ => true,
        };
        if !done {
            let what = format!("{name} votes once it has caught up");
            return Ok(Told::Accepted { what });
        }
        Ok(Told::Done { name: name.to_owned(), id })
    }

    async fn hand_over(&self) -> Result<NodeId, RaftError> {
        let asked = format!("a change of the members, on {}", self.roster.now().name_of(self.me));
        self.leaders.hand_over(None, Cause::Switchover, Some(asked)).await
    }

    fn may_vote(&self, known: &Known, id: NodeId, name: &str) -> Result<(), NotDone> {
        let mut voters = known.voters.clone();
        voters.insert(id);
        if steps::has_quorum(&voters, |node| self.is_up(node)) {
            return Ok(());
        }
        Err(NotDone::Refused(format!(
            "with {name} as a voter, only a minority of {} would answer now: the cluster would lose \
             its quorum",
            voters.len()
        )))
    }

    fn may_go(&self, known: &Known, id: NodeId, name: &str) -> Result<(), NotDone> {
        let rest: BTreeSet<NodeId> = known.voters.iter().copied().filter(|v| *v != id).collect();
        if rest.is_empty() {
            return Err(NotDone::Refused(format!(
                "{name} is the last voter: without it there is no cluster"
            )));
        }
        if !steps::has_quorum(&rest, |node| self.is_up(node)) {
            return Err(NotDone::Refused(format!(
                "without {name}, only a minority of the {} voters left would answer now: the cluster \
                 would lose its quorum",
                rest.len()
            )));
        }
        Ok(())
    }

    /// Brings Raft's membership to what the registry says, as far as that is possible now. To be called
    /// with `busy` held.
    pub async fn reconcile(&self) -> Result<(), RaftError> {
        loop {
            let state = self.raft.state();
            let present = self.raft.membership().borrow().clone();
            let progress = self.raft.status();
            let ready = |id: NodeId| self.is_up(id) && progress.has_caught_up(id, CAUGHT_UP);
            let Some(step) = steps::next(self.me, state.registry().nodes(), &present, ready) else {
                return Ok(());
            };
            tracing::info!(?step, "changing the members");
            let late = |_| RaftError::Timeout(STEP);
            match step {
                Step::AddLearner(id, member) => {
                    timeout(STEP, self.raft.add_learner(id, member)).await.map_err(late)??;
                }
                Step::Voters { voters, keep } => {
                    timeout(STEP, self.raft.set_voters(voters, keep)).await.map_err(late)??;
                }
                Step::RemoveLearner(id) => {
                    timeout(STEP, self.raft.remove_learner(id)).await.map_err(late)??;
                }
                Step::HandOver => {
                    self.hand_over().await?;
                    return Ok(());
                }
            }
        }
    }

    async fn rotate(&self) -> Result<Told, NotDone> {
        let _one = self.busy.lock().await;
        let mut authority = self.authority().await?;
        if authority.rotation.is_some() {
            return Err(NotDone::Conflict("a rotation of the CA is under way already".into()));
        }
        let next = Ca::create(&self.cluster).map_err(unavailable)?;
        let next =
            Root { certificate_pem: next.certificate_pem().to_owned(), key_pem: next.key_pem() };
        authority.rotation = Some(crate::cluster::Rotation::Spreading { next });
        self.change(Change::Certify(authority)).await?;
        tracing::info!("the CA is being rotated: first, all members are to trust the new one");
        Ok(Told::Accepted {
            what:
                "the new CA is spread; it signs once every member trusts it, and the old one goes \
                   once every member shows a certificate of the new one"
                    .into(),
        })
    }
}

pub(super) fn ca_of(authority: &Authority) -> Result<Ca, NotDone> {
    let root = &authority.signs;
    let place = "the cluster's CA";
    Ca::from_pem(root.certificate_pem.clone(), &root.key_pem, place, place).map_err(unavailable)
}
