//! New nodes at the door, and certificates that run out.

use std::time::Duration;

use tokio::time::timeout;

use super::membership::{Membership, ca_of, unavailable};
use super::service::JOIN;
use crate::cluster::{Change, Part, Refused, State, TokenState};
use crate::core::NodeId;
use crate::core::clock::{unix_ms, unix_seconds};
use crate::core::members::NotDone;
use crate::mesh::{Admission, CLOCK_OFF, JoinAnswer, JoinRequest, secret_sha256};

/// For the leader to decide about a joiner: less than the door's patience.
const JOINING: Duration = Duration::from_secs(15);

impl Membership {
    /// A node that wants to join came to this one's door.
    pub async fn join(&self, request: JoinRequest) -> JoinAnswer {
        let leader = match self.leader() {
            Ok(leader) => leader,
            Err(why) => return JoinAnswer::Later(why),
        };
        if leader == self.me {
            return self.admit(request).await;
        }
        let passed_on = async {
            let request = serde_json::to_vec(&request).map_err(|error| error.to_string())?;
            let answer = self.mesh.call(leader, JOIN, request.into(), JOINING).await;
            serde_json::from_slice(&answer.map_err(|error| error.to_string())?)
                .map_err(|error| error.to_string())
        };
        passed_on.await.unwrap_or_else(JoinAnswer::Later)
    }

    /// The leader decides about a joiner.
    pub async fn admit(&self, request: JoinRequest) -> JoinAnswer {
        if !self.leads() {
            return JoinAnswer::Later("the leader has just changed; try again".into());
        }
        let admitted = timeout(JOINING, self.let_in(&request)).await;
        match admitted.unwrap_or_else(|_| Err(unavailable("not decided in time; try again"))) {
            Ok(admission) => {
                tracing::info!(name = request.name, node = %admission.node, "let a new node in");
                JoinAnswer::Admitted(Box::new(admission))
            }
            Err(NotDone::NoLeader(why) | NotDone::Unavailable(why)) => JoinAnswer::Later(why),
            Err(why) => {
                tracing::warn!(name = request.name, token = request.token_id, %why, "refused a node");
                JoinAnswer::Refused(why.to_string())
            }
        }
    }

    async fn let_in(&self, request: &JoinRequest) -> Result<Admission, NotDone> {
        let _one = self.busy.lock().await;
        let refused = |why: &dyn std::fmt::Display| NotDone::Refused(why.to_string());
        let state = self.raft.state();
        let token = state.registry().tokens().get(&request.token_id);
        let token = token.ok_or_else(|| refused(&Refused::TokenUnknown))?;
        if token.secret_sha256 != secret_sha256(&request.secret) {
            return Err(NotDone::Refused("the token's secret is wrong".into()));
        }
        crate::core::config::check_member(&request.name, &request.address)
            .map_err(NotDone::Refused)?;
        let authority = self.authority().await?;
        let ca = ca_of(&authority)?;
        let validity = self.certificates.validity();
        let (chain_pem, key_sha256) =
            ca.sign(&request.name, &request.request_pem, validity).map_err(|e| refused(&e))?;
        let known = self.roster.now();
        let node = match token.state {
            // Its answer was lost: it is told again, what it was told before and nothing else.
            TokenState::Used { node, key_sha256: before }
                if before == key_sha256 && is_still(&state, node, &request.name) =>
            {
                node
            }
            _ => {
                if known.by_name(&request.name).is_some() {
                    return Err(refused(&Refused::NameTaken));
                }
                let node = self.next_number(&known);
                let change = Change::Admit {
                    token: request.token_id.clone(),
                    key_sha256,
                    node,
                    name: request.name.clone(),
                    address: request.address.clone(),
                    now: unix_seconds(),
                };
                self.change(change).await?;
                node
            }
        };
        warn_of_clock(&request.name, request.unix_ms);
        self.reconcile().await.map_err(unavailable)?;
        let members = self.raft.membership().borrow().members.clone();
        let members = members.into_iter().map(|(id, member)| crate::mesh::Member {
            id,
            name: member.name,
            address: member.address,
        });
        Ok(Admission {
            cluster: self.cluster.clone(),
            node,
            chain_pem,
            ca_pem: authority.trusted_pem(),
            members: members.collect(),
            unix_ms: unix_ms(),
        })
    }

    /// A member's certificate runs out: the leader signs another.
    pub fn renew(&self, from: NodeId, request_pem: &str) -> Result<String, String> {
        if !self.leads() {
            return Err("this node does not lead; ask the leader".into());
        }
        let known = self.roster.now();
        let member = known.members.get(&from).ok_or("you are no member")?;
        let state = self.raft.state();
        let authority = state.registry().authority();
        let authority = authority.ok_or("the cluster does not hold its CA's key")?;
        let ca = ca_of(authority).map_err(|error| error.to_string())?;
        let signed = ca.sign(&member.name, request_pem, self.certificates.validity());
        signed.map(|(chain, _)| chain).map_err(|error| error.to_string())
    }
}

/// Whether the node was let in by this name, and was not removed since.
fn is_still(state: &State, node: NodeId, name: &str) -> bool {
    let known = state.registry().nodes().get(&node);
    known.is_some_and(|known| known.name == name && known.part != Part::Removed)
}

/// Says so if another node's clock is far from this one's.
pub fn warn_of_clock(name: &str, theirs: u64) {
    let off = unix_ms().abs_diff(theirs);
    if off > CLOCK_OFF {
        tracing::warn!(
            node = name,
            off_seconds = off / 1000,
            "its clock differs from this node's; the cluster works on, but certificates and tokens \
             have dates: set the clocks (NTP)"
        );
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cluster::Node;
    use crate::core::EntryId;

    /// no-open-door: a used token gives its holder what it was given, and nobody else's name.
    #[test]
    fn an_answer_is_repeated_for_the_same_name_alone() {
        let mut state = State::default();
        let id = |index| EntryId { term: 1, index };
        let (token, name, address) = ("ab".to_owned(), "n4".to_owned(), "h:1".to_owned());
        let create = Change::CreateToken {
            id: token.clone(),
            secret_sha256: [1; 32],
            expires: 9,
            part: Part::Voter,
            now: 1,
        };
        state.change(id(1), &create).unwrap();
        let node = NodeId(4);
        let (key_sha256, now) = ([2; 32], 2);
        let (admitted, at) = (name.clone(), address.clone());
        let admit = Change::Admit { token, key_sha256, node, name: admitted, address: at, now };
        state.change(id(2), &admit).unwrap();
        assert!(is_still(&state, node, "n4"));
        assert!(!is_still(&state, node, "n1"));
        let record = Node { name, address, part: Part::Removed };
        state.change(id(3), &Change::Register { node, record }).unwrap();
        assert!(!is_still(&state, node, "n4"), "it was removed");
    }
}
