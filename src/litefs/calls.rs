//! What the nodes ask of each other about LiteFS: one method of the mesh, JSON both ways.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use super::engine::{Litefs, METHOD};
use super::positions::{Positions, Stand, compare};
use crate::cluster::LeaseChange;
use crate::core::NodeId;
use crate::mesh::RpcHandler;

/// For the daemon to ask its own LiteFS on behalf of another node.
const LOOK: Duration = Duration::from_millis(300);
/// The same, where it has to be LiteFS's own word.
const CERTAIN: Duration = Duration::from_secs(2);

/// A question.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub enum Ask {
    /// Whether it knows of leases.
    Hello,
    /// Of the leader: to have the lease changed.
    Change(LeaseChange),
    /// Of the leader: to confirm a session.
    Renew { session: String },
    /// How far it is.
    Standing,
    /// Of the primary: how these positions stand to its own.
    Compare(Positions),
    /// To read its copy of a database.
    Check { database: String, within_ms: u64 },
    /// Of the primary: to hand over.
    HandOver { to: Option<NodeId>, asked: String, within_ms: u64 },
}

impl Litefs {
    /// Asks another node.
    ///
    /// # Errors
    /// It does not answer, or not that.
    pub(super) async fn ask<T: DeserializeOwned>(
        &self,
        node: NodeId,
        ask: &Ask,
        within: Duration,
    ) -> Result<T, String> {
        let request = serde_json::to_vec(ask).map_err(|error| error.to_string())?;
        let answer = self.mesh.call(node, METHOD, request.into(), within).await;
        let answer = answer.map_err(|error| error.to_string())?;
        serde_json::from_slice(&answer).map_err(|error| error.to_string())
    }

    /// Answers another node.
    ///
    /// # Errors
    /// Told to it as it stands.
    pub async fn answer(self: &Arc<Self>, from: NodeId, request: &[u8]) -> Result<Bytes, String> {
        let ask: Ask = serde_json::from_slice(request).map_err(|error| error.to_string())?;
        match ask {
            Ask::Hello => json(&()),
            Ask::Change(change) => {
                if let LeaseChange::Acquire { node, .. } | LeaseChange::End { node, .. } = &change
                    && *node != from
                {
                    return Err("a node takes and ends the lease for itself alone".to_owned());
                }
                json(&self.propose_here(change).await?)
            }
            Ask::Renew { session } => {
                let within = super::timing::answer(self.settings.ttl);
                json(&self.renew_here(&session, within).await?)
            }
            Ask::Standing => json(&self.standing(LOOK).await),
            Ask::Compare(positions) => json(&self.compare(positions).await?),
            Ask::Check { database, within_ms } => {
                json(&self.check_here(&database, Duration::from_millis(within_ms)).await)
            }
            Ask::HandOver { to, asked, within_ms } => {
                let within = Duration::from_millis(within_ms);
                json(&self.hand_over(to, Some(asked), within).await)
            }
        }
    }

    /// How another node's databases stand to the ones here.
    async fn compare(&self, theirs: Positions) -> Result<BTreeMap<String, Stand>, String> {
        // Only a primary knows: others may be about to be overwritten themselves.
        let seen = self.client.look(CERTAIN).await.map_err(|error| error.to_string())?;
        if !seen.primary {
            return Err("this node is not primary".to_owned());
        }
        let folder = self.settings.folder.clone();
        let compared = tokio::task::spawn_blocking(move || {
            let one = |(name, at): (String, crate::core::Position)| {
                let ours = seen.positions.get(&name).copied();
                let then = crate::store::litefs_checksum_at(&folder, &name, at.txid);
                let stand = compare(at, ours, then);
                (name, stand)
            };
            theirs.into_iter().map(one).collect()
        });
        compared.await.map_err(|error| error.to_string())
    }
}

fn json(value: &impl Serialize) -> Result<Bytes, String> {
    serde_json::to_vec(value).map(Bytes::from).map_err(|error| error.to_string())
}

impl RpcHandler for Litefs {
    fn call(
        &self,
        from: NodeId,
        _method: u8,
        request: Bytes,
    ) -> futures::future::BoxFuture<'_, Result<Bytes, String>> {
        Box::pin(async move {
            let this = self.this().ok_or_else(|| "the node is stopping".to_owned())?;
            this.answer(from, &request).await
        })
    }
}
