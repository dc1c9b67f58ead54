//! What rustls is told: TLS 1.3 only, provider `ring`, certificates on both sides, no resumption.

use std::sync::Arc;
use std::time::Duration;

use rustls::client::danger::ServerCertVerifier;
use rustls::client::{Resumption, WebPkiServerVerifier};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName, UnixTime};
use rustls::server::{ClientHello, NoServerSessionStorage, WebPkiClientVerifier};
use rustls::{ClientConfig, RootCertStore, ServerConfig};
use x509_parser::prelude::{FromDer, X509Certificate};

use super::{Identity, MeshError, Purpose, join, names};

/// The settings of both sides.
#[derive(Debug, Clone)]
pub(super) struct Tls {
    server: Arc<ServerConfig>,
    /// For who is no member yet, and shows no certificate.
    joins: Arc<ServerConfig>,
    rpc: Arc<ClientConfig>,
    raft: Arc<ClientConfig>,
    bulk: Arc<ClientConfig>,
    litefs: Arc<ClientConfig>,
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
        let trusted = certificates(ca_pem, "the CA's certificate")?;
        let mut roots = RootCertStore::empty();
        for certificate in trusted.clone() {
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

        // The CA as well: the joiner knows it by its hash alone.
        let mut joins = ServerConfig::builder_with_provider(provider.clone())
            .with_protocol_versions(&tls13)
            .map_err(|e| bad("TLS 1.3", e))?
            .with_no_client_auth()
            .with_single_cert([chain.clone(), trusted].concat(), key.clone_key())
            .map_err(|e| bad("certificate and key", e))?;
        joins.alpn_protocols = vec![join::ALPN.to_vec()];
        joins.session_storage = Arc::new(NoServerSessionStorage {});
        joins.send_tls13_tickets = 0;

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
            joins: Arc::new(joins),
            rpc: client(Purpose::Rpc),
            raft: client(Purpose::Raft),
            bulk: client(Purpose::Bulk),
            litefs: client(Purpose::Litefs),
        })
    }

    /// By what the dialer says it speaks.
    pub(super) fn server(&self, hello: &ClientHello<'_>) -> Arc<ServerConfig> {
        let joins = hello.alpn().is_some_and(|mut offered| offered.any(|one| one == join::ALPN));
        if joins { self.joins.clone() } else { self.server.clone() }
    }

    pub(super) fn client(&self, purpose: Purpose) -> Arc<ClientConfig> {
        match purpose {
            Purpose::Rpc => self.rpc.clone(),
            Purpose::Raft => self.raft.clone(),
            Purpose::Bulk => self.bulk.clone(),
            Purpose::Litefs => self.litefs.clone(),
        }
    }
}

/// Whether a node's certificate is of this CA, for this node of this cluster; its dates aside.
pub fn is_signed_by(chain_pem: &str, ca_pem: &str, node: &str, cluster: &str) -> bool {
    let check = || {
        let own = names::node(node, cluster)?;
        let mut roots = RootCertStore::empty();
        for certificate in certificates(ca_pem, "the CA's certificate")? {
            roots.add(certificate).map_err(|e| bad("the CA's certificate", e))?;
        }
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let verifier = WebPkiServerVerifier::builder_with_provider(Arc::new(roots), provider)
            .build()
            .map_err(|e| bad("the CA's certificate", e))?;
        let chain = certificates(chain_pem, "the node's certificate")?;
        check_own(&chain, &own, verifier.as_ref())
    };
    check().is_ok()
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
