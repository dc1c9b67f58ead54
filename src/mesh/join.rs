//! The door for those who are no members yet: one question, one answer, over TLS in which only the
//! listener shows a certificate.
//!
//! The joiner checks the listener by the hash of the CA in its token, before it says anything; the
//! listener lets in by the token's secret (no-open-door). The joiner's private key never leaves it: it
//! sends a certificate request.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures::future::BoxFuture;
use rustls::client::WebPkiServerVerifier;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::{ClientConfig, DigitallySignedStruct, RootCertStore, SignatureScheme};
use serde::{Deserialize, Serialize};
use tokio::net::TcpStream;
use tokio::time::timeout;
use tokio_rustls::{TlsConnector, TlsStream};
use x509_parser::prelude::{FromDer, X509Certificate};

use super::{Connection, JoinToken, names, tls, token};
use crate::core::NodeId;

/// The ALPN protocol of this door (RFC 7301).
pub(super) const ALPN: &[u8] = b"litefs-py/1 join";
/// The longest question and answer, in bytes.
pub(super) const MAX: usize = 256 << 10;
/// For the question to arrive, and for its answer.
pub(super) const PATIENCE: Duration = Duration::from_secs(20);
/// A clock that is off by more is told of, in milliseconds.
pub const CLOCK_OFF: u64 = 10_000;
const CONNECT: Duration = Duration::from_secs(5);
const VERSION: u8 = 1;

/// Answers those who want to join.
pub trait JoinHandler: Send + Sync + 'static {
    fn join(&self, request: JoinRequest) -> BoxFuture<'_, JoinAnswer>;
}

/// Lets nobody in.
#[derive(Debug, Clone, Copy, Default)]
pub struct NoJoins;

impl JoinHandler for NoJoins {
    fn join(&self, _request: JoinRequest) -> BoxFuture<'_, JoinAnswer> {
        Box::pin(std::future::ready(JoinAnswer::Later("this node lets nobody in".into())))
    }
}

/// What a new node says of itself.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct JoinRequest {
    pub token_id: String,
    pub secret: [u8; 16],
    pub name: String,
    /// Where the others are to reach its mesh.
    pub address: String,
    /// A certificate request, PEM (RFC 2986). Only its key counts.
    pub request_pem: String,
    /// Its clock: milliseconds since 1970.
    pub unix_ms: u64,
}

/// What it is answered.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum JoinAnswer {
    Admitted(Box<Admission>),
    /// This token, name or address will not do.
    Refused(String),
    /// Nobody can decide now: no leader, no majority.
    Later(String),
}

/// All that a new node needs to start.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Admission {
    pub cluster: String,
    pub node: NodeId,
    /// The new node's certificate, PEM.
    pub chain_pem: String,
    /// What it is to trust, PEM.
    pub ca_pem: String,
    /// The members, the new one included.
    pub members: Vec<Member>,
    /// The clock of who decided: milliseconds since 1970.
    pub unix_ms: u64,
}

/// A member, as a new node is told of it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Member {
    pub id: NodeId,
    pub name: String,
    pub address: String,
}

/// Why there was no answer to a wish to join.
#[derive(Debug, thiserror::Error)]
pub enum JoinError {
    #[error("cannot reach {address}: {why}")]
    Unreachable { address: String, why: String },
    #[error(
        "{address} is no node of the cluster that the token is for: {why}; nothing was told to it"
    )]
    Stranger { address: String, why: String },
    #[error("the node at {address} broke off: {why}; the same command may be tried again")]
    Broken { address: String, why: String },
}

/// Asks the node at `address` to let this one in.
///
/// # Errors
/// It was not asked, or did not answer.
pub async fn ask_to_join(
    address: &str,
    token: &JoinToken,
    request: &JoinRequest,
) -> Result<JoinAnswer, JoinError> {
    let unreachable = |why: String| JoinError::Unreachable { address: address.into(), why };
    let stream = timeout(CONNECT, TcpStream::connect(address))
        .await
        .map_err(|_| unreachable("no answer".into()))?
        .map_err(|error| unreachable(error.to_string()))?;
    let stranger = |why: String| JoinError::Stranger { address: address.into(), why };
    let settings = client(token.ca_sha256).map_err(stranger)?;
    // The name is not known yet; the check finds it in the certificate.
    let name = ServerName::try_from("joining.litefs.internal")
        .map_err(|error| stranger(error.to_string()))?;
    let stream = timeout(CONNECT, TlsConnector::from(settings).connect(name, stream))
        .await
        .map_err(|_| stranger("the handshake took too long".into()))?
        .map_err(|error| stranger(error.to_string()))?;
    if stream.get_ref().1.alpn_protocol() != Some(ALPN) {
        return Err(stranger("it does not speak this protocol".into()));
    }
    let broken = |why: String| JoinError::Broken { address: address.into(), why };
    let exchange = async {
        let mut connection = Connection::new(TlsStream::Client(stream), MAX);
        connection.sender.send(encode(request)).await.map_err(|e| broken(e.to_string()))?;
        let answer = connection.receiver.recv().await.map_err(|e| broken(e.to_string()))?;
        let answer = answer.ok_or_else(|| broken("it closed the connection".into()))?;
        decode(&answer).ok_or_else(|| broken("its answer makes no sense".into()))
    };
    timeout(PATIENCE, exchange).await.map_err(|_| broken("no answer in time".into()))?
}

/// The listener's side, after the handshake.
pub(super) async fn serve(mut connection: Connection, handler: Arc<dyn JoinHandler>) {
    let answered = timeout(PATIENCE, async {
        let request = connection.receiver.recv().await.ok().flatten()?;
        let answer = match decode::<JoinRequest>(&request) {
            Some(request) => handler.join(request).await,
            None => {
                JoinAnswer::Refused("the request makes no sense; is it of another version?".into())
            }
        };
        connection.sender.send(encode(&answer)).await.ok()?;
        connection.sender.close().await.ok()
    });
    if !matches!(answered.await, Ok(Some(()))) {
        tracing::debug!("a wish to join came to no end");
    }
}

pub(super) fn encode<T: Serialize>(message: &T) -> Bytes {
    // Into memory: nothing here can fail, and what is left of it would be refused.
    postcard::to_extend(message, vec![VERSION]).unwrap_or_default().into()
}

pub(super) fn decode<T: for<'a> Deserialize<'a>>(bytes: &[u8]) -> Option<T> {
    let (version, body) = bytes.split_first()?;
    let (message, rest) = postcard::take_from_bytes(body).ok()?;
    (*version == VERSION && rest.is_empty()).then_some(message)
}

fn client(ca_sha256: [u8; 32]) -> Result<Arc<ClientConfig>, String> {
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let verifier = ByHash { ca_sha256, provider: Arc::clone(&provider) };
    let mut client = ClientConfig::builder_with_provider(provider)
        .with_protocol_versions(&[&rustls::version::TLS13])
        .map_err(|error| error.to_string())?
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(verifier))
        .with_no_client_auth();
    client.alpn_protocols = vec![ALPN.to_vec()];
    Ok(Arc::new(client))
}

/// Accepts a listener whose certificate is of the CA with this hash, which it has to show as well.
#[derive(Debug)]
struct ByHash {
    ca_sha256: [u8; 32],
    provider: Arc<rustls::crypto::CryptoProvider>,
}

impl ByHash {
    fn check(
        &self,
        leaf: &CertificateDer<'_>,
        others: &[CertificateDer<'_>],
        now: UnixTime,
    ) -> Result<(), String> {
        let root = others.iter().find(|other| token::der_sha256(other) == self.ca_sha256);
        let root = root.ok_or(
            "it shows no CA with the token's hash (the CA was rotated since: make a new token; or it \
             is another cluster)",
        )?;
        let mut roots = RootCertStore::empty();
        roots.add(root.clone().into_owned()).map_err(|error| error.to_string())?;
        let verifier = WebPkiServerVerifier::builder_with_provider(
            Arc::new(roots),
            Arc::clone(&self.provider),
        );
        let verifier = verifier.build().map_err(|error| error.to_string())?;
        let (_, parsed) = X509Certificate::from_der(leaf).map_err(|error| error.to_string())?;
        let own = names::of_certificate(&parsed).ok_or("its certificate has no single DNS name")?;
        let name = tls::server_name(own.to_owned()).map_err(|error| error.to_string())?;
        let verified = verifier.verify_server_cert(leaf, &[], &name, &[], now);
        verified.map(drop).map_err(|error| error.to_string())
    }
}

impl ServerCertVerifier for ByHash {
    fn verify_server_cert(
        &self,
        leaf: &CertificateDer<'_>,
        others: &[CertificateDer<'_>],
        _name: &ServerName<'_>,
        _ocsp: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        match self.check(leaf, others, now) {
            Ok(()) => Ok(ServerCertVerified::assertion()),
            Err(why) => Err(rustls::Error::General(why)),
        }
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        let algorithms = &self.provider.signature_verification_algorithms;
        rustls::crypto::verify_tls12_signature(message, certificate, signed, algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        let algorithms = &self.provider.signature_verification_algorithms;
        rustls::crypto::verify_tls13_signature(message, certificate, signed, algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.provider.signature_verification_algorithms.supported_schemes()
    }
}
