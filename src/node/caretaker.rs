//! What a node sees to by itself, as long as it runs: that it knows the members, that its certificate holds,
//! that it notices when it was removed; and, while it leads, that the members become what they should be.

use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use tokio::time::sleep;

use super::admission::warn_of_clock;
use super::certificates::Shown;
use super::membership::Membership;
use super::service::{LEAVE, RENEW};
use crate::cluster::{Authority, Change, Part, Rotation};
use crate::core::NodeId;
use crate::mesh::{Identity, ca_sha256, request_certificate};

/// Between two looks: what cannot wait so long has an event of its own (docs/decisions/few-wake-ups.md).
const LOOK: Duration = Duration::from_secs(1);
/// For a removed node to hear that it is.
const FAREWELL: Duration = Duration::from_secs(1);
/// A node that so many of the others do not know, for so long, was removed while it was away.
const UNKNOWN: Duration = Duration::from_secs(3);
/// Between two looks at the certificate, and two tries to renew it.
const CERTIFICATE: Duration = Duration::from_secs(5);
/// Between two comparisons of clocks.
const CLOCKS: Duration = Duration::from_mins(5);

/// Follows the log's word on who the members are, from before the first connection on.
pub async fn follow_members(membership: Arc<Membership>) {
    let mut changes = membership.raft.membership();
    loop {
        changes.mark_unchanged();
        follow_once(&membership).await;
        tokio::select! {
            changed = changes.changed() => if changed.is_err() { return },
            () = sleep(LOOK) => {}
        }
    }
}

async fn follow_once(membership: &Membership) {
    let before = membership.roster.now();
    if membership.raft.membership().borrow().index == before.index {
        return;
    }
    let current = is_current(membership).await;
    let now = membership.raft.membership().borrow().clone();
    if !membership.roster.follow(&now, current) {
        return;
    }
    let known = membership.roster.now();
    let gone = before.members.keys().filter(|id| !known.members.contains_key(id));
    let gone: Vec<NodeId> = gone.copied().filter(|id| *id != membership.me).collect();
    if membership.leads() {
        // Nobody else would tell them: from now on they are refused everywhere.
        let told = gone.iter().map(|id| membership.mesh.call(*id, LEAVE, Bytes::new(), FAREWELL));
        futures::future::join_all(told).await;
    }
    if let Err(error) = membership.mesh.set_peers(known.peers()) {
        tracing::error!(%error, "the members of the log cannot be used");
    }
    for id in gone {
        // Its write locks are free: nobody is left who could give them back.
        membership.arbiter.node_lost(id);
    }
}

/// Whether this node has applied all that the leader has committed by now. What this node has heard of as
/// committed says nothing of that: while it catches up, it hears no further than it was sent, and the members
/// of long ago would be the present ones.
async fn is_current(membership: &Membership) -> bool {
    let Ok(committed) = membership.raft.read_index(LOOK).await else { return false };
    membership.raft.status().applied.is_some_and(|applied| applied.index >= committed.index)
}

/// All the rest, until the node ends.
pub async fn take_care(membership: Arc<Membership>) {
    let mut unknown_since = None;
    let mut looked: Option<Instant> = None;
    let mut clocks: Option<Instant> = None;
    loop {
        membership.databases.set_read_only(is_learner(&membership));
        sleep(LOOK).await;
        notice_removal(&membership, &mut unknown_since);
        trust_what_the_log_says(&membership);
        if looked.is_none_or(|at| at.elapsed() > CERTIFICATE) {
            looked = Some(Instant::now());
            keep_certificate(&membership).await;
        }
        if !membership.leads() {
            continue;
        }
        membership.adopt_authority().await;
        if let Ok(_one) = membership.busy.try_lock() {
            if let Err(error) = membership.reconcile().await {
                tracing::debug!(%error, "the members are not what they should be yet");
            }
            rotate_on(&membership).await;
        }
        if clocks.is_none_or(|at| at.elapsed() > CLOCKS) {
            clocks = Some(Instant::now());
            compare_clocks(&membership).await;
        }
    }
}

/// A node that was removed while it was away is told so by nobody but by being refused: by a majority of
/// the voters that it knows.
fn notice_removal(membership: &Membership, since: &mut Option<Instant>) {
    let known = membership.roster.now();
    let others = known.voters.iter().filter(|id| **id != membership.me);
    let (mut all, mut refusing) = (0, 0);
    for id in others {
        all += 1;
        refusing += usize::from(membership.mesh.is_rejected_by(*id));
    }
    // A new node is not known everywhere yet; an old one has applied something.
    let is_old = membership.raft.applied().borrow().is_some();
    if !is_old || refusing == 0 || refusing * 2 <= all {
        *since = None;
        return;
    }
    if since.get_or_insert_with(Instant::now).elapsed() > UNKNOWN {
        let why = format!("{refusing} of {all} voters do not know it as a member any more");
        membership.removed.send_replace(Some(why));
    }
}

/// A learner's mount is read-only: it is not counted on, so nothing may begin there. A node that is to vote
/// and only has to catch up first may write already.
fn is_learner(membership: &Membership) -> bool {
    membership.raft.state().registry().part(membership.me) == Some(Part::Learner)
}

fn trust_what_the_log_says(membership: &Membership) {
    let state = membership.raft.state();
    let Some(authority) = state.registry().authority() else { return };
    let trusted = authority.trusted_pem();
    if trusted == membership.certificates.ca_pem() {
        return;
    }
    match membership.certificates.trust(&membership.mesh, &trusted) {
        Ok(()) => tracing::info!("the trusted CAs changed"),
        // Its own certificate is of a CA that goes: it has to be renewed first.
        Err(error) => tracing::debug!(%error, "the trusted CAs cannot change yet"),
    }
}

/// Asks for another certificate, when it is time for one.
async fn keep_certificate(membership: &Membership) {
    let state = membership.raft.state();
    let Some(authority) = state.registry().authority() else { return };
    if !membership.certificates.is_due(&authority.signs.certificate_pem) {
        return;
    }
    match renew(membership).await {
        Ok(()) => tracing::info!("this node's certificate was renewed"),
        Err(why) => {
            tracing::warn!(why, "this node's certificate could not be renewed; trying again");
        }
    }
}

async fn renew(membership: &Membership) -> Result<(), String> {
    let (key_pem, request) = request_certificate().map_err(|error| error.to_string())?;
    let leader = membership.raft.leadership().borrow().leader.ok_or("no leader is known")?;
    let chain_pem = if leader == membership.me {
        membership.renew(membership.me, &request)?
    } else {
        let answer = membership.mesh.call(leader, RENEW, request.into(), CERTIFICATE).await;
        let answer = answer.map_err(|error| error.to_string())?;
        String::from_utf8(answer.to_vec()).map_err(|error| error.to_string())?
    };
    let identity = Identity { chain_pem, key_pem };
    membership.certificates.show(&membership.mesh, identity).map_err(|error| error.to_string())
}

/// The next step of a rotation of the CA, once every member is ready for it.
async fn rotate_on(membership: &Membership) {
    let state = membership.raft.state();
    let Some(Authority { signs, rotation: Some(rotation) }) = state.registry().authority() else {
        return;
    };
    let next = match rotation {
        Rotation::Spreading { next } => next,
        Rotation::Renewing { .. } => signs,
    };
    let Ok(hash) = ca_sha256(&next.certificate_pem) else { return };
    let ready = |shown: &Shown| match rotation {
        Rotation::Spreading { .. } => shown.trusted.contains(&hash),
        Rotation::Renewing { .. } => shown.signed_by == Some(hash),
    };
    for (id, member) in &membership.roster.now().members {
        match membership.ask_what_it_shows(*id).await {
            Ok(shown) if ready(&shown) => {}
            Ok(_) => return,
            Err(why) => {
                tracing::debug!(node = member.name, why, "the rotation of the CA waits for it");
                return;
            }
        }
    }
    let authority = match rotation {
        Rotation::Spreading { next } => {
            let old_pem = signs.certificate_pem.clone();
            Authority { signs: next.clone(), rotation: Some(Rotation::Renewing { old_pem }) }
        }
        Rotation::Renewing { .. } => Authority { signs: signs.clone(), rotation: None },
    };
    let done = authority.rotation.is_none();
    match membership.change(Change::Certify(authority)).await {
        Ok(()) if done => tracing::info!("the CA was rotated; the old one is trusted no more"),
        Ok(()) => tracing::info!("every member trusts the new CA: it signs from now on"),
        Err(why) => tracing::debug!(%why, "the rotation of the CA goes on later"),
    }
}

async fn compare_clocks(membership: &Membership) {
    for node in membership.roster.others(membership.me) {
        if let Ok(shown) = membership.ask_what_it_shows(node).await {
            warn_of_clock(&membership.roster.now().name_of(node), shown.unix_ms);
        }
    }
}
