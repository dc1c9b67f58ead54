//! This node's certificate and the CAs it trusts: read at the start, renewed by themselves, written back to
//! the files that the configuration names.

use std::path::Path;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, SystemTime};

use serde::{Deserialize, Serialize};

use super::{NoFile, read};
use crate::core::clock::unix_ms;
use crate::core::config::{Config, TlsSettings};
use crate::mesh::{
    Identity, Mesh, MeshError, ca_sha256, is_signed_by, write_private, write_public,
};

/// What a node shows and trusts, as it says to the leader.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Shown {
    /// The CAs that it trusts: SHA-256 of each certificate.
    pub trusted: Vec<[u8; 32]>,
    /// The one that its own certificate is of.
    pub signed_by: Option<[u8; 32]>,
    /// Its clock: milliseconds since 1970.
    pub unix_ms: u64,
}

pub struct Certificates {
    settings: TlsSettings,
    name: String,
    cluster: String,
    now: Mutex<Loaded>,
}

#[derive(Clone)]
struct Loaded {
    identity: Identity,
    ca_pem: String,
}

impl Certificates {
    /// # Errors
    /// A file cannot be read.
    pub fn read(config: &Config) -> Result<Self, NoFile> {
        let settings = config.mesh.tls.clone();
        let identity = Identity { chain_pem: read(&settings.cert)?, key_pem: read(&settings.key)? };
        let now = Mutex::new(Loaded { identity, ca_pem: read(&settings.ca)? });
        let (name, cluster) = (config.node.name.clone(), config.cluster.clone());
        Ok(Self { settings, name, cluster, now })
    }

    fn now(&self) -> Loaded {
        self.now.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    pub fn identity(&self) -> Identity {
        self.now().identity
    }

    pub fn ca_pem(&self) -> String {
        self.now().ca_pem
    }

    pub fn validity(&self) -> Duration {
        self.settings.validity
    }

    /// The CA's key and certificate, where the configuration names the key.
    pub fn configured_ca(&self) -> Option<Result<(String, String), NoFile>> {
        let key = self.settings.ca_key.as_deref()?;
        Some(read(key).map(|key| (self.ca_pem(), key)))
    }

    pub fn shown(&self) -> Shown {
        let now = self.now();
        let cas = split(&now.ca_pem);
        let signer = cas.iter().find(|ca| self.is_of(&now, ca));
        Shown {
            trusted: cas.iter().filter_map(|ca| ca_sha256(ca).ok()).collect(),
            signed_by: signer.and_then(|ca| ca_sha256(ca).ok()),
            unix_ms: unix_ms(),
        }
    }

    /// Whether it is time for another certificate: less than a third is left, or it is of another CA
    /// than `signs`.
    pub fn is_due(&self, signs: &str) -> bool {
        let now = self.now();
        let left =
            now.identity.expires().ok().and_then(|at| at.duration_since(SystemTime::now()).ok());
        left.is_none_or(|left| left < self.settings.validity / 3) || !self.is_of(&now, signs)
    }

    fn is_of(&self, loaded: &Loaded, ca_pem: &str) -> bool {
        is_signed_by(&loaded.identity.chain_pem, ca_pem, &self.name, &self.cluster)
    }

    /// Trusts these CAs from now on, and no others.
    ///
    /// # Errors
    /// They are none; nothing changed then.
    pub fn trust(&self, mesh: &Mesh, ca_pem: &str) -> Result<(), MeshError> {
        let identity = self.identity();
        self.change(mesh, &Loaded { identity, ca_pem: ca_pem.to_owned() })
    }

    /// Shows this certificate from now on.
    ///
    /// # Errors
    /// It is not of a trusted CA, or not for this node; nothing changed then.
    pub fn show(&self, mesh: &Mesh, identity: Identity) -> Result<(), MeshError> {
        let ca_pem = self.ca_pem();
        self.change(mesh, &Loaded { identity, ca_pem })
    }

    fn change(&self, mesh: &Mesh, next: &Loaded) -> Result<(), MeshError> {
        mesh.set_identity(&next.identity, &next.ca_pem)?;
        let before = std::mem::replace(
            &mut *self.now.lock().unwrap_or_else(PoisonError::into_inner),
            next.clone(),
        );
        let keep = |path: &Path, old: &str, new: &str, private: bool| {
            if old == new {
                return;
            }
            let written = if private { write_private(path, new) } else { write_public(path, new) };
            if let Err(error) = written {
                // It runs on with what it has; the next start would begin with the old file.
                tracing::error!(path = %path.display(), %error, "cannot write the renewed file; see mesh.tls");
            }
        };
        let tls = &self.settings;
        keep(&tls.ca, &before.ca_pem, &next.ca_pem, false);
        // The key first: a certificate without its key is of no use, and `check` says so at the start.
        keep(&tls.key, &before.identity.key_pem, &next.identity.key_pem, true);
        keep(&tls.cert, &before.identity.chain_pem, &next.identity.chain_pem, false);
        Ok(())
    }
}

/// The certificates of a PEM text, each by itself.
fn split(pem: &str) -> Vec<String> {
    const END: &str = "-----END CERTIFICATE-----";
    pem.split_inclusive(END)
        .filter(|part| part.ends_with(END))
        .map(|part| format!("{}\n", part.trim_start()))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::mesh::Ca;

    #[test]
    fn a_bundle_is_told_apart() {
        let (one, two) = (Ca::create("test").unwrap(), Ca::create("test").unwrap());
        let bundle = format!("{}{}", one.certificate_pem(), two.certificate_pem());
        let parts = split(&bundle);
        assert_eq!(parts.len(), 2);
        for (part, ca) in parts.iter().zip([&one, &two]) {
            assert_eq!(ca_sha256(part), ca_sha256(ca.certificate_pem()));
            let identity = ca.issue("n1").unwrap();
            assert!(is_signed_by(&identity.chain_pem, part, "n1", "test"));
        }
        let identity = one.issue("n1").unwrap();
        assert!(!is_signed_by(&identity.chain_pem, &parts[1], "n1", "test"));
    }
}
