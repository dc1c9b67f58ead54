//! The cluster's certificate authority, the nodes' identities, and their PEM files.

use std::fmt;
use std::fs;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use rcgen::{
    BasicConstraints, CertificateParams, CertificateSigningRequestParams, DistinguishedName,
    DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair, KeyUsagePurpose, PublicKeyData,
    date_time_ymd,
};
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;
use sha2::{Digest, Sha256};
use x509_parser::prelude::{FromDer, X509Certificate};

use super::durable;
use super::names::{self, IdentityNameError};

const DAY: Duration = Duration::from_hours(24);
/// Ten years: who loses the CA's key must build a new cluster, so it should not run out.
const CA_VALIDITY: Duration = Duration::from_hours(3650 * 24);
/// Two years.
const NODE_VALIDITY: Duration = Duration::from_hours(730 * 24);
/// Certificates begin in the past, for nodes whose clocks are behind.
const BACKDATED: Duration = DAY;
/// What the year 4000 is from 1970: no clock may bring the dates out of what X.509 can write.
const LATEST: Duration = Duration::from_hours(17_794_608);

const CA_CERTIFICATE: &str = "ca.crt";
const CA_KEY: &str = "ca.key";
const NODE_CERTIFICATE: &str = "node.crt";
const NODE_KEY: &str = "node.key";

/// What can go wrong with certificates and their files.
#[derive(Debug, thiserror::Error)]
pub enum CaError {
    #[error(transparent)]
    Name(#[from] IdentityNameError),
    #[error("cannot make a certificate for {name:?}: {source}")]
    Make { name: String, source: rcgen::Error },
    #[error("cannot {what} {}: {source}", path.display())]
    File { what: &'static str, path: PathBuf, source: std::io::Error },
    #[error("{what} is not a usable PEM file: {reason}; restore it, or issue it anew")]
    Unreadable { what: String, reason: String },
    #[error("the CA's key does not belong to its certificate; restore both from the same backup")]
    KeyMismatch,
}

/// The certificate authority of one cluster. Holds the key: keep it where nodes are issued.
pub struct Ca {
    cluster: String,
    certificate_pem: String,
    issuer: Issuer<'static, KeyPair>,
}

impl fmt::Debug for Ca {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Ca").field("cluster", &self.cluster).finish_non_exhaustive()
    }
}

impl Ca {
    /// A new CA with a new key, valid for ten years.
    ///
    /// # Errors
    /// If the cluster's name is no DNS label, or no key can be made.
    pub fn create(cluster: &str) -> Result<Ca, CaError> {
        let name = names::cluster(cluster)?;
        let make = |source| CaError::Make { name: name.clone(), source };
        let mut params = params(&name, CA_VALIDITY).map_err(make)?;
        params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
        let key = KeyPair::generate().map_err(make)?;
        let certificate = params.self_signed(&key).map_err(make)?;
        Ok(Ca {
            cluster: cluster.to_ascii_lowercase(),
            certificate_pem: certificate.pem(),
            issuer: Issuer::new(params, key),
        })
    }

    pub fn cluster(&self) -> &str {
        &self.cluster
    }

    pub fn certificate_pem(&self) -> &str {
        &self.certificate_pem
    }

    /// A certificate and a new key for a node, valid for two years.
    ///
    /// # Errors
    /// If the node's name is no DNS label, or no key can be made.
    pub fn issue(&self, node_name: &str) -> Result<Identity, CaError> {
        let name = names::node(node_name, &self.cluster)?;
        let make = |source| CaError::Make { name: name.clone(), source };
        let params = node_params(&name, NODE_VALIDITY).map_err(make)?;
        let key = KeyPair::generate().map_err(make)?;
        let certificate = params.signed_by(&key, &self.issuer).map_err(make)?;
        Ok(Identity { chain_pem: certificate.pem(), key_pem: key.serialize_pem() })
    }

    /// A certificate for a node that made its key itself, and what that key is known by.
    ///
    /// # Errors
    /// The request cannot be read, is not signed by its own key, or the name is no DNS label.
    pub fn sign(
        &self,
        node_name: &str,
        request_pem: &str,
        validity: Duration,
    ) -> Result<(String, [u8; 32]), CaError> {
        let name = names::node(node_name, &self.cluster)?;
        let make = |source| CaError::Make { name: name.clone(), source };
        let request = CertificateSigningRequestParams::from_pem(request_pem).map_err(make)?;
        let params = node_params(&name, validity).map_err(make)?;
        let certificate = params.signed_by(&request.public_key, &self.issuer).map_err(make)?;
        let key = Sha256::digest(request.public_key.subject_public_key_info());
        Ok((certificate.pem(), key.into()))
    }

    /// Its key, PEM: whoever has it can make members.
    #[must_use]
    pub fn key_pem(&self) -> String {
        self.issuer.key().serialize_pem()
    }

    /// Writes `ca.crt` and `ca.key` (mode 0600) into a folder, durably.
    pub fn write(&self, folder: &Path) -> Result<(), CaError> {
        write(folder, CA_KEY, 0o600, &self.issuer.key().serialize_pem())?;
        write(folder, CA_CERTIFICATE, 0o644, &self.certificate_pem)
    }

    /// Reads what [`Ca::write`] wrote.
    ///
    /// # Errors
    /// If a file is missing, no PEM, or of another cluster's key.
    pub fn read(folder: &Path) -> Result<Ca, CaError> {
        let place = |what| folder.join(what).display().to_string();
        let (certificate, key) = (read(folder, CA_CERTIFICATE)?, read(folder, CA_KEY)?);
        Self::from_pem(certificate, &key, &place(CA_CERTIFICATE), &place(CA_KEY))
    }

    /// Of its certificate and its key; `place` and `key_place` say where they are from.
    ///
    /// # Errors
    /// One is no PEM, or they do not belong together.
    pub fn from_pem(
        certificate_pem: String,
        key_pem: &str,
        place: &str,
        key_place: &str,
    ) -> Result<Ca, CaError> {
        let unreadable =
            |what: &str, reason: String| CaError::Unreadable { what: what.to_owned(), reason };
        let key = KeyPair::from_pem(key_pem).map_err(|e| unreadable(key_place, e.to_string()))?;
        let der = first_certificate(&certificate_pem).map_err(|why| unreadable(place, why))?;
        let (_, parsed) =
            X509Certificate::from_der(&der).map_err(|e| unreadable(place, e.to_string()))?;
        if parsed.public_key().raw != key.subject_public_key_info() {
            return Err(CaError::KeyMismatch);
        }
        let cluster = names::of_certificate(&parsed)
            .and_then(names::cluster_of)
            .ok_or_else(|| unreadable(place, "it names no cluster".to_owned()))?
            .to_owned();
        let issuer =
            Issuer::from_ca_cert_der(&der, key).map_err(|e| unreadable(place, e.to_string()))?;
        Ok(Ca { cluster, certificate_pem, issuer })
    }
}

/// A node's certificate (with any intermediates after it) and its key, both PEM.
#[derive(Clone)]
pub struct Identity {
    pub chain_pem: String,
    pub key_pem: String,
}

impl fmt::Debug for Identity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Identity").field("chain_pem", &self.chain_pem).finish_non_exhaustive()
    }
}

impl Identity {
    /// Writes `node.crt` and `node.key` (mode 0600) into a folder, durably.
    pub fn write(&self, folder: &Path) -> Result<(), CaError> {
        write(folder, NODE_KEY, 0o600, &self.key_pem)?;
        write(folder, NODE_CERTIFICATE, 0o644, &self.chain_pem)
    }

    /// Reads what [`Identity::write`] wrote. Whether it is any good, [`super::Mesh::new`] says.
    pub fn read(folder: &Path) -> Result<Identity, CaError> {
        Ok(Identity {
            chain_pem: read(folder, NODE_CERTIFICATE)?,
            key_pem: read(folder, NODE_KEY)?,
        })
    }

    /// When the certificate runs out: the node cannot reach others from then on.
    pub fn expires(&self) -> Result<SystemTime, CaError> {
        certificate_expires(&self.chain_pem)
            .map_err(|reason| CaError::Unreadable { what: "the node's certificate".into(), reason })
    }
}

/// A new key and the request for a certificate of it, both PEM: the key stays with who made it.
///
/// # Errors
/// No key can be made.
pub fn request_certificate() -> Result<(String, String), CaError> {
    let make = |source| CaError::Make { name: "a request".into(), source };
    let key = KeyPair::generate().map_err(make)?;
    let request = CertificateParams::default().serialize_request(&key).map_err(make)?;
    Ok((key.serialize_pem(), request.pem().map_err(make)?))
}

/// When the first certificate of a PEM file runs out; or why it is none.
pub fn certificate_expires(pem: &str) -> Result<SystemTime, String> {
    let der = first_certificate(pem)?;
    let (_, parsed) = X509Certificate::from_der(&der).map_err(|error| error.to_string())?;
    let seconds = u64::try_from(parsed.validity().not_after.timestamp()).unwrap_or(0);
    Ok(UNIX_EPOCH + Duration::from_secs(seconds))
}

/// Reads the CA's certificate, which every node holds, from the folder's `ca.crt`.
pub fn read_ca_certificate(folder: &Path) -> Result<String, CaError> {
    read(folder, CA_CERTIFICATE)
}

/// Writes a PEM file that only its owner may read, durably.
///
/// # Errors
/// The file system's.
pub fn write_private(path: &Path, pem: &str) -> std::io::Result<()> {
    write_at(path, 0o600, pem)
}

/// Writes a PEM file that anybody may read, durably.
///
/// # Errors
/// The file system's.
pub fn write_public(path: &Path, pem: &str) -> std::io::Result<()> {
    write_at(path, 0o644, pem)
}

fn write_at(path: &Path, mode: u32, pem: &str) -> std::io::Result<()> {
    let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty());
    let name = path.file_name().and_then(|name| name.to_str());
    let name = name.ok_or_else(|| std::io::Error::other("this is no name of a file"))?;
    durable::write(folder.unwrap_or(Path::new(".")), name, mode, pem.as_bytes())
}

fn node_params(name: &str, validity: Duration) -> Result<CertificateParams, rcgen::Error> {
    let mut params = params(name, validity)?;
    params.use_authority_key_identifier_extension = true;
    params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
    params.extended_key_usages =
        vec![ExtendedKeyUsagePurpose::ServerAuth, ExtendedKeyUsagePurpose::ClientAuth];
    Ok(params)
}

fn params(name: &str, validity: Duration) -> Result<CertificateParams, rcgen::Error> {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    let now = now.min(LATEST);
    let epoch = date_time_ymd(1970, 1, 1);
    let mut params = CertificateParams::default();
    params.not_before = epoch + now.saturating_sub(BACKDATED);
    params.not_after = epoch + now + validity;
    params.distinguished_name = DistinguishedName::new();
    // For people; a common name holds 64 characters (RFC 5280, appendix A.1). The SAN is what counts.
    params.distinguished_name.push(DnType::CommonName, name.chars().take(64).collect::<String>());
    params.subject_alt_names = CertificateParams::new(vec![name.to_owned()])?.subject_alt_names;
    Ok(params)
}

fn first_certificate(pem: &str) -> Result<CertificateDer<'static>, String> {
    CertificateDer::from_pem_slice(pem.as_bytes()).map_err(|e| e.to_string())
}

fn write(folder: &Path, name: &str, mode: u32, pem: &str) -> Result<(), CaError> {
    let failed = |source| CaError::File { what: "write", path: folder.join(name), source };
    durable::write(folder, name, mode, pem.as_bytes()).map_err(failed)
}

fn read(folder: &Path, name: &str) -> Result<String, CaError> {
    let path = folder.join(name);
    fs::read_to_string(&path).map_err(|source| CaError::File { what: "read", path, source })
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    fn validity(pem: &str) -> (i64, i64) {
        let der = first_certificate(pem).expect("PEM");
        let (_, parsed) = X509Certificate::from_der(&der).expect("a certificate");
        (parsed.validity().not_before.timestamp(), parsed.validity().not_after.timestamp())
    }

    #[test]
    fn certificates_hold_from_yesterday_for_their_years() {
        let ca = Ca::create("test").expect("a CA");
        let identity = ca.issue("node1").expect("an identity");
        let now = SystemTime::now().duration_since(UNIX_EPOCH).expect("a clock").as_secs();
        let now = i64::try_from(now).expect("fits");
        let day = 24 * 60 * 60;
        for (pem, days) in [(ca.certificate_pem(), 3650), (&identity.chain_pem, 730)] {
            let (from, to) = validity(pem);
            assert!((from - (now - day)).abs() < 100, "{from}");
            assert!((to - (now + days * day)).abs() < 100, "{to}");
        }
        let expires = identity.expires().expect("a date");
        let left = expires.duration_since(SystemTime::now()).expect("in the future");
        assert!(left + DAY > NODE_VALIDITY && left <= NODE_VALIDITY);
    }

    #[test]
    fn what_is_written_is_read_and_keys_are_private() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path();
        let ca = Ca::create("Test-1").expect("a CA");
        ca.write(path).expect("written");
        let identity = ca.issue("node1").expect("an identity");
        identity.write(path).expect("written");
        // Again, over what is there, and over the remains of a crash with an open mode.
        fs::write(path.join(".ca.key.tmp"), "half").expect("written");
        ca.write(path).expect("written");

        let again = Ca::read(path).expect("read");
        assert_eq!(again.cluster(), "test-1");
        assert_eq!(again.certificate_pem(), ca.certificate_pem());
        assert_eq!(read_ca_certificate(path).expect("read"), ca.certificate_pem());
        let read = Identity::read(path).expect("read");
        assert_eq!((read.chain_pem, read.key_pem), (identity.chain_pem, identity.key_pem));
        for key in [CA_KEY, NODE_KEY] {
            let mode = fs::metadata(path.join(key)).expect("there").permissions().mode();
            assert_eq!(mode & 0o777, 0o600, "{key}");
        }
        assert_eq!(fs::read_dir(path).expect("a folder").count(), 4, "no temporary file is left");
    }

    #[test]
    fn bad_files_are_errors() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path();
        assert!(matches!(Ca::read(path), Err(CaError::File { what: "read", .. })));
        Ca::create("test").expect("a CA").write(path).expect("written");
        let other = Ca::create("test").expect("a CA");
        fs::write(path.join(CA_KEY), other.issuer.key().serialize_pem()).expect("written");
        assert!(matches!(Ca::read(path), Err(CaError::KeyMismatch)));
        fs::write(path.join(CA_KEY), "rubbish").expect("written");
        assert!(matches!(Ca::read(path), Err(CaError::Unreadable { .. })));
        fs::write(path.join(CA_CERTIFICATE), [0xff; 9]).expect("written");
        assert!(Ca::read(path).is_err());
    }

    #[test]
    fn names_are_checked_and_the_longest_ones_work() {
        assert!(matches!(Ca::create("two words"), Err(CaError::Name(_))));
        let long = "x".repeat(63);
        let ca = Ca::create(&long).expect("a CA");
        assert!(matches!(ca.issue("a.b"), Err(CaError::Name(_))));
        ca.issue(&long).expect("an identity");
        let folder = tempfile::tempdir().expect("a folder");
        ca.write(folder.path()).expect("written");
        assert_eq!(Ca::read(folder.path()).expect("read").cluster(), long);
    }

    #[test]
    fn keys_are_not_logged() {
        let ca = Ca::create("test").expect("a CA");
        let identity = ca.issue("node1").expect("an identity");
        assert!(!format!("{ca:?} {identity:?}").contains("PRIVATE"));
    }
}
