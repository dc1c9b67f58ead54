//! Who belongs to the cluster, as far as the mesh must know.

use std::collections::BTreeMap;

use super::MeshError;
use super::names;
use crate::core::NodeId;

/// One node of the cluster.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Peer {
    pub id: NodeId,
    /// One DNS label; the certificate's DNS name begins with it.
    pub name: String,
    /// `host:port`. The host may be a name; it plays no part in the identity.
    pub address: String,
}

/// The other members, by id. Names are unique without regard to case.
#[derive(Debug, Default)]
pub(super) struct Members {
    by_id: BTreeMap<NodeId, Peer>,
}

impl Members {
    /// `peers` may contain `me`, which is left out.
    pub(super) fn new(me: &Peer, peers: Vec<Peer>) -> Result<Members, MeshError> {
        names::check(&me.name)?;
        let mut by_id = BTreeMap::new();
        for peer in peers.into_iter().filter(|peer| peer.id != me.id) {
            names::check(&peer.name)?;
            let same_name = |other: &Peer| other.name.eq_ignore_ascii_case(&peer.name);
            if same_name(me) || by_id.values().any(same_name) || by_id.contains_key(&peer.id) {
                return Err(MeshError::Duplicate { id: peer.id, name: peer.name });
            }
            by_id.insert(peer.id, peer);
        }
        Ok(Members { by_id })
    }

    pub(super) fn get(&self, id: NodeId) -> Option<&Peer> {
        self.by_id.get(&id)
    }

    pub(super) fn by_name(&self, name: &str) -> Option<&Peer> {
        self.by_id.values().find(|peer| peer.name.eq_ignore_ascii_case(name))
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = &Peer> {
        self.by_id.values()
    }
}
