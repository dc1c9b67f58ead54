//! Hands what arrives over the mesh to the room it is for.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures::future::BoxFuture;

use super::leaders::{HAND_OVER, HISTORY};
use super::membership::Membership;
use super::{scrub, switchover};
use crate::commit::{METHOD, Service};
use crate::core::engine::Copy;
use crate::core::{DatabaseName, NodeId};
use crate::litefs::{self, Litefs};
use crate::mesh::{Handlers, JoinAnswer, JoinHandler, JoinRequest, NoStreams, RpcHandler};
use crate::raft::{RaftHandlers, RaftNode};

/// The method number of "hand leadership over": which node to, if any is wished for; and who asked.
pub const SWITCHOVER: u8 = 65;

/// The method number of "read this database, and say what you have": its name, and milliseconds.
pub const CHECK: u8 = 66;

/// "Change the members": a wish and milliseconds, JSON.
pub const ADMINISTER: u8 = 67;

/// "What do you show and trust?"
pub const IDENTITY: u8 = 68;

/// "You are no member any more."
pub const LEAVE: u8 = 69;

/// "Sign this request, my certificate runs out."
pub const RENEW: u8 = 70;

/// "A node wants to join": its request, JSON.
pub const JOIN: u8 = 71;

/// "Give me this page, mine is rotten": JSON.
pub const PAGE: u8 = 72;

struct Calls {
    /// The other engine, where it is this one's.
    litefs: Option<Arc<Litefs>>,
    raft: RaftHandlers,
    writes: Service,
    membership: Arc<Membership>,
}

impl RpcHandler for Calls {
    fn call(
        &self,
        from: NodeId,
        method: u8,
        request: Bytes,
    ) -> BoxFuture<'_, Result<Bytes, String>> {
        if method == METHOD {
            Box::pin(async move { self.writes.call(from, &request).await })
        } else if method == SWITCHOVER {
            Box::pin(async move {
                let (to, rest) =
                    postcard::take_from_bytes(&request).map_err(|error| error.to_string())?;
                // Nodes of the first version do not say who asked.
                let asked =
                    postcard::from_bytes(rest).unwrap_or_else(|_| "another node".to_owned());
                let leader = self.membership.switch_over(to, asked).await;
                let leader = leader.map_err(switchover::told)?;
                postcard::to_allocvec(&leader).map(Bytes::from).map_err(|error| error.to_string())
            })
        } else if method == HAND_OVER {
            Box::pin(
                async move { self.membership.leaders.hear(from, &request).map(|()| Bytes::new()) },
            )
        } else if method == HISTORY {
            Box::pin(async move { self.membership.leaders.tell() })
        } else if method == CHECK {
            Box::pin(async move {
                let (name, patience): (DatabaseName, u64) =
                    postcard::from_bytes(&request).map_err(|error| error.to_string())?;
                let patience = Duration::from_millis(patience);
                let copy = check(&self.membership, name, patience).await;
                serde_json::to_vec(&copy).map(Bytes::from).map_err(|error| error.to_string())
            })
        } else if method == litefs::METHOD {
            if let Some(litefs) = &self.litefs {
                return litefs.call(from, method, request);
            }
            // As an older version says it.
            let why = format!("there is no method {method}: the engine is embedded");
            Box::pin(std::future::ready(Err(why)))
        } else if (ADMINISTER..=PAGE).contains(&method) {
            Box::pin(self.about_members(from, method, request))
        } else {
            self.raft.call(from, method, request)
        }
    }
}

impl Calls {
    async fn about_members(
        &self,
        from: NodeId,
        method: u8,
        request: Bytes,
    ) -> Result<Bytes, String> {
        let json = |value: serde_json::Result<Vec<u8>>| {
            value.map(Bytes::from).map_err(|error| error.to_string())
        };
        match method {
            ADMINISTER => self.membership.answer(&request).await,
            IDENTITY => json(serde_json::to_vec(&self.membership.certificates.shown())),
            PAGE => scrub::give(&self.membership, &request).await,
            LEAVE => {
                let by = self.membership.roster.now().name_of(from);
                let why = format!("{by} says that it was removed");
                self.membership.removed.send_replace(Some(why));
                Ok(Bytes::new())
            }
            RENEW => {
                let request = std::str::from_utf8(&request).map_err(|error| error.to_string())?;
                self.membership.renew(from, request).map(Bytes::from)
            }
            _ => {
                let request = serde_json::from_slice(&request).map_err(|e| e.to_string())?;
                json(serde_json::to_vec(&self.membership.admit(request).await))
            }
        }
    }
}

/// Those who want to become members.
struct Joins(Arc<Membership>);

impl JoinHandler for Joins {
    fn join(&self, request: JoinRequest) -> BoxFuture<'_, JoinAnswer> {
        Box::pin(self.0.join(request))
    }
}

pub fn handlers(
    raft: &Arc<RaftNode>,
    writes: Service,
    membership: &Arc<Membership>,
    litefs: Option<Arc<Litefs>>,
) -> Handlers {
    let parts = raft.handlers();
    let streams = litefs.as_ref().map_or_else(|| Arc::new(NoStreams) as _, |one| one.streams());
    Handlers {
        raft: parts.raft(),
        bulk: parts.bulk(),
        litefs: streams,
        joins: Arc::new(Joins(Arc::clone(membership))),
        rpc: Arc::new(Calls { litefs, raft: parts, writes, membership: Arc::clone(membership) }),
    }
}

/// Reads this node's copy of a database. What is rotten is mended right after, so that the next reading
/// finds it sound.
pub async fn check(membership: &Arc<Membership>, name: DatabaseName, patience: Duration) -> Copy {
    let (databases, read) = (Arc::clone(&membership.databases), name.clone());
    let read = tokio::task::spawn_blocking(move || databases.check(&read, patience)).await;
    let copy = read.unwrap_or_else(|error| Copy::Unread { why: error.to_string() });
    if matches!(copy, Copy::Damaged { .. }) {
        let membership = Arc::clone(membership);
        tokio::spawn(async move { scrub::scrub(&membership, name, Duration::ZERO).await });
    }
    copy
}
