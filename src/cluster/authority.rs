//! The certificate authority of the cluster, held by the cluster itself.
//!
//! Every node has it, so that whichever leads can let nodes in and renew certificates. A rotation goes in
//! steps, each an entry of the log, so that it goes on whoever leads, and at every moment each node
//! trusts what every other shows:
//!
//! 1. the new one is trusted beside the old, which still signs ([`Rotation::Spreading`]);
//! 2. once every member trusts it, it signs ([`Rotation::Renewing`]);
//! 3. once every member shows a certificate of it, the old one is trusted no more.

use serde::{Deserialize, Serialize};

/// A CA's certificate and its key, both PEM.
#[derive(Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Root {
    pub certificate_pem: String,
    pub key_pem: String,
}

/// Keys are not logged.
impl std::fmt::Debug for Root {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Root")
            .field("certificate_pem", &self.certificate_pem)
            .finish_non_exhaustive()
    }
}

/// A rotation that is under way.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum Rotation {
    /// This one is to sign as soon as every member trusts it.
    Spreading { next: Root },
    /// The certificate of the one before, still trusted.
    Renewing { old_pem: String },
}

/// What signs, and what is trusted.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Authority {
    pub signs: Root,
    pub rotation: Option<Rotation>,
}

impl Authority {
    /// The certificates to trust, PEM, one after the other; what signs comes first.
    #[must_use]
    pub fn trusted_pem(&self) -> String {
        let also = match &self.rotation {
            None => "",
            Some(Rotation::Spreading { next }) => &next.certificate_pem,
            Some(Rotation::Renewing { old_pem }) => old_pem,
        };
        format!("{}{also}", self.signs.certificate_pem)
    }
}
