//! A client that does as the test likes, below the mesh.

use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use rustls::{ClientConfig, RootCertStore, SupportedProtocolVersion};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

use super::*;

pub(super) struct Raw<'a> {
    /// Trusted for the server.
    pub(super) ca: &'a Ca,
    pub(super) identity: Option<Identity>,
    pub(super) alpn: &'a [u8],
    pub(super) version: &'static SupportedProtocolVersion,
}

impl Raw<'_> {
    /// TLS to node 2; the client may think it is through before the server has judged.
    pub(super) async fn connect(&self, address: &str) -> std::io::Result<TlsStream<TcpStream>> {
        let mut roots = RootCertStore::empty();
        let ca = CertificateDer::from_pem_slice(self.ca.certificate_pem().as_bytes());
        roots.add(ca.expect("PEM")).expect("a CA");
        let builder =
            ClientConfig::builder_with_provider(Arc::new(rustls::crypto::ring::default_provider()))
                .with_protocol_versions(&[self.version])
                .expect("a version")
                .with_root_certificates(roots);
        let mut config = match &self.identity {
            None => builder.with_no_client_auth(),
            Some(identity) => {
                let chain = CertificateDer::from_pem_slice(identity.chain_pem.as_bytes());
                let key = PrivateKeyDer::from_pem_slice(identity.key_pem.as_bytes());
                builder
                    .with_client_auth_cert(vec![chain.expect("PEM")], key.expect("PEM"))
                    .expect("a pair")
            }
        };
        if !self.alpn.is_empty() {
            config.alpn_protocols = vec![self.alpn.to_vec()];
        }
        let name = ServerName::try_from(format!("node2.{}.litefs.internal", self.ca.cluster()));
        let stream = TcpStream::connect(address).await?;
        TlsConnector::from(Arc::new(config)).connect(name.expect("a name"), stream).await
    }

    /// As far as the hello's answer: its verdict, or why there is none.
    pub(super) async fn hello(&self, address: &str) -> std::io::Result<(TlsStream<TcpStream>, u8)> {
        let mut stream = self.connect(address).await?;
        let mut hello = vec![0, 0, 0, 17, 1];
        hello.extend(1u64.to_be_bytes());
        hello.extend(2u64.to_be_bytes());
        stream.write_all(&hello).await?;
        let mut answer = [0; 6];
        stream.read_exact(&mut answer).await?;
        assert_eq!(answer[..5], [0, 0, 0, 2, 1]);
        Ok((stream, answer[5]))
    }
}

/// A good client: node 1.
pub(super) fn good(ca: &Ca, purpose: Purpose) -> Raw<'_> {
    Raw {
        ca,
        identity: Some(ca.issue("node1").expect("an identity")),
        alpn: purpose.alpn(),
        version: &rustls::version::TLS13,
    }
}
