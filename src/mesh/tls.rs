//! What rustls is told: TLS 1.3 only, provider `ring`, certificates on both sides, no resumption.

use std::sync::Arc;
use std::time::Duration;

use rustls::client::danger::ServerCertVerifier;
use rustls::client::{Resumption, WebPkiServerVerifier};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName, UnixTime};
use rustls::server::{NoServerSessionStorage, WebPkiClientVerifier};
use rustls::{ClientConfig, RootCertStore, ServerConfig};
use x509_parser::prelude::{FromDer, X509Certificate};

use super::{Identity, MeshError, Purpose, names};

/// The settings of both sides.
#[derive(Debug, Clone)]
pub(super) struct Tls {
    pub(super) server: Arc<ServerConfig>,
    rpc: Arc<ClientConfig>,
    raft: Arc<ClientConfig>,
    bulk: Arc<ClientConfig>,
}

fn bad(what: &str, error: impl std::fmt::Display) -> MeshError {
    MeshError::Identity { reason: format!("{what}: {error}") }
}

impl Tls {
    /// Checks as well that the identity is what the others will accept: of this CA, for this name.
    /// Not its dates: a machine may start with its clock wrong, and be right a minute later.
    pub(super) fn new(identity: &Identity, ca_pem: &str, own: &str) -> Result<Tls, MeshError> {
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let chain = certificates(&identity.chain_pem, "the node's certificate")?;
        let key = PrivateKeyDer::from_pem_slice(identity.key_pem.as_bytes())
            .map_err(|e| bad("the node's key", e))?;
        let mut roots = RootCertStore::empty();
        for certificate in certificates(ca_pem, "the CA's certificate")? {
            roots.add(certificate).map_err(|e| bad("the CA's certificate", e))?;
        }
        let roots = Arc::new(roots);

        let servers = WebPkiServerVerifier::builder_with_provider(roots.clone(), provider.clone())
            .build()
            .map_err(|e| bad("the CA's certificate", e))?;
        check_own(&chain, own, servers.as_ref())?;
        let clients = WebPkiClientVerifier::builder_with_provider(roots, provider.clone())
            .build()
            .map_err(|e| bad("the CA's certificate", e))?;

        let tls13 = [&rustls::version::TLS13];
        let mut server = ServerConfig::builder_with_provider(provider.clone())
            .with_protocol_versions(&tls13)
            .map_err(|e| bad("TLS 1.3", e))?
            .with_client_cert_verifier(clients)
            .with_single_cert(chain.clone(), key.clone_key())
            .map_err(|e| bad("certificate and key", e))?;
        server.alpn_protocols = Purpose::ALL.map(|p| p.alpn().to_vec()).to_vec();
        // Each connection shows its certificate anew, so nothing older than it can speak for it.
        server.session_storage = Arc::new(NoServerSessionStorage {});
        server.send_tls13_tickets = 0;

        let mut client = ClientConfig::builder_with_provider(provider)
            .with_protocol_versions(&tls13)
            .map_err(|e| bad("TLS 1.3", e))?
            .with_webpki_verifier(servers)
            .with_client_auth_cert(chain, key)
            .map_err(|e| bad("certificate and key", e))?;
        client.resumption = Resumption::disabled();
        let client = |purpose: Purpose| {
            let mut client = client.clone();
            client.alpn_protocols = vec![purpose.alpn().to_vec()];
            Arc::new(client)
        };
        Ok(Tls {
            server: Arc::new(server),
            rpc: client(Purpose::Rpc),
            raft: client(Purpose::Raft),
            bulk: client(Purpose::Bulk),
        })
    }

    pub(super) fn client(&self, purpose: Purpose) -> Arc<ClientConfig> {
        match purpose {
            Purpose::Rpc => self.rpc.clone(),
            Purpose::Raft => self.raft.clone(),
            Purpose::Bulk => self.bulk.clone(),
        }
    }
}

/// The one DNS name in the certificate that the other side showed.
pub(super) fn dns_name(chain: Option<&[CertificateDer<'_>]>) -> Option<String> {
    let (_, certificate) = X509Certificate::from_der(chain?.first()?).ok()?;
    names::of_certificate(&certificate).map(str::to_owned)
}

/// As the type that the dialer checks against.
pub(super) fn server_name(dns_name: String) -> Result<ServerName<'static>, MeshError> {
    ServerName::try_from(dns_name).map_err(|e| bad("the name", e))
}

fn certificates(pem: &str, what: &str) -> Result<Vec<CertificateDer<'static>>, MeshError> {
    let found = CertificateDer::pem_slice_iter(pem.as_bytes())
        .collect::<Result<Vec<_>, _>>()
        .map_err(|e| bad(what, e))?;
    if found.is_empty() {
        return Err(bad(what, "no certificate in it"));
    }
    Ok(found)
}

fn check_own(
    chain: &[CertificateDer<'static>],
    own: &str,
    verifier: &dyn ServerCertVerifier,
) -> Result<(), MeshError> {
    let what = "the node's certificate";
    let (leaf, intermediates) = chain.split_first().ok_or_else(|| bad(what, "is missing"))?;
    let (_, parsed) = X509Certificate::from_der(leaf).map_err(|e| bad(what, e))?;
    let found = names::of_certificate(&parsed).unwrap_or("no single DNS name");
    if !found.eq_ignore_ascii_case(own) {
        return Err(bad(what, format!("it is for {found}, this node is {own}")));
    }
    let seconds = u64::try_from(parsed.validity().not_before.timestamp()).unwrap_or(0);
    let then = UnixTime::since_unix_epoch(Duration::from_secs(seconds + 1));
    verifier
        .verify_server_cert(leaf, intermediates, &server_name(own.to_owned())?, &[], then)
        .map_err(|e| bad(what, format!("not of this cluster's CA: {e}")))?;
    Ok(())
}
