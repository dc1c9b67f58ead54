//! From a TCP stream to a connection whose other end is known: TLS, then the hello.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use rustls::server::Acceptor;
use tokio::net::TcpStream;
use tokio::time::timeout;
use tokio_rustls::{LazyConfigAcceptor, TlsConnector, TlsStream};

use super::socket::{self, Resolved};
use super::tls::{self, Tls};
use super::{Connection, FrameError, MeshError, Peer, Purpose, Rejection, join, names};
use crate::core::NodeId;

/// For TLS and the hello together. Who takes longer is half-open, or frozen.
pub(super) const HANDSHAKE: Duration = Duration::from_secs(2);
/// Of the hello and its answer.
const VERSION: u8 = 1;
const HELLO_MAX: usize = 64;

/// The first frame, from the dialer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Hello {
    pub(super) version: u8,
    pub(super) from: NodeId,
    pub(super) to: NodeId,
}

impl Hello {
    pub(super) fn encode(self) -> Bytes {
        let mut bytes = vec![self.version];
        bytes.extend(self.from.0.to_be_bytes());
        bytes.extend(self.to.0.to_be_bytes());
        bytes.into()
    }

    /// Later versions may be longer; the version is always the first byte.
    pub(super) fn decode(bytes: &[u8]) -> Option<Hello> {
        let (version, rest) = bytes.split_first()?;
        let (from, rest) = rest.split_first_chunk()?;
        let (to, _) = rest.split_first_chunk()?;
        Some(Hello {
            version: *version,
            from: NodeId(u64::from_be_bytes(*from)),
            to: NodeId(u64::from_be_bytes(*to)),
        })
    }
}

fn verdict_code(verdict: Result<(), Rejection>) -> u8 {
    match verdict {
        Ok(()) => 0,
        Err(Rejection::UnknownMember) => 1,
        Err(Rejection::WrongNode) => 2,
        Err(Rejection::Version) => 3,
    }
}

pub(super) fn verdict_of(answer: &[u8]) -> Option<Result<(), Rejection>> {
    match *answer.get(1)? {
        0 => Some(Ok(())),
        1 => Some(Err(Rejection::UnknownMember)),
        2 => Some(Err(Rejection::WrongNode)),
        3 => Some(Err(Rejection::Version)),
        _ => None,
    }
}

fn invalid(what: &'static str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, what)
}

fn as_io(error: FrameError) -> io::Error {
    match error {
        FrameError::Io(error) => error,
        other => io::Error::other(other),
    }
}

async fn one_frame(connection: &mut Connection) -> io::Result<Bytes> {
    let frame = connection.receiver.recv().await.map_err(as_io)?;
    frame.ok_or_else(|| invalid("the other side ended the connection before the hello"))
}

/// Who dials, and with which settings.
pub(super) struct Dialer<'a> {
    pub(super) me: NodeId,
    pub(super) cluster: &'a str,
    pub(super) tls: Arc<Tls>,
}

impl Dialer<'_> {
    pub(super) async fn dial(
        &self,
        peer: &Peer,
        resolved: &Resolved,
        purpose: Purpose,
    ) -> Result<Connection, MeshError> {
        let stream = socket::connect(peer, resolved, purpose).await?;
        let failed =
            |source| MeshError::Handshake { node: peer.id, address: peer.address.clone(), source };
        let verdict = timeout(HANDSHAKE, self.greet(stream, peer, purpose))
            .await
            .map_err(|_| failed(io::Error::new(io::ErrorKind::TimedOut, "took too long")))??;
        verdict.map_err(|reason| MeshError::Rejected {
            node: peer.id,
            address: peer.address.clone(),
            reason,
        })
    }

    async fn greet(
        &self,
        stream: TcpStream,
        peer: &Peer,
        purpose: Purpose,
    ) -> Result<Result<Connection, Rejection>, MeshError> {
        let failed =
            |source| MeshError::Handshake { node: peer.id, address: peer.address.clone(), source };
        let name = tls::server_name(names::node(&peer.name, self.cluster)?)?;
        let stream = TlsConnector::from(self.tls.client(purpose))
            .connect(name, stream)
            .await
            .map_err(failed)?;
        if stream.get_ref().1.alpn_protocol() != Some(purpose.alpn()) {
            return Err(failed(invalid("the other side does not speak this protocol (ALPN)")));
        }
        let mut connection = Connection::new(TlsStream::Client(stream), HELLO_MAX);
        let hello = Hello { version: VERSION, from: self.me, to: peer.id };
        connection.sender.send(hello.encode()).await.map_err(|e| failed(as_io(e)))?;
        let answer = one_frame(&mut connection).await.map_err(failed)?;
        let verdict = verdict_of(&answer)
            .ok_or_else(|| failed(invalid("the answer to the hello makes no sense")))?;
        connection.admit(peer.id, purpose.max_frame());
        Ok(verdict.map(|()| connection))
    }
}

/// A connection that was let in.
pub(super) enum Admitted {
    /// Of a member.
    Member { from: NodeId, purpose: Purpose, connection: Connection },
    /// Of somebody who wants to become one; nothing is known of it yet.
    Joiner(Connection),
}

/// Why one was not: for the log.
#[derive(Debug, thiserror::Error)]
pub(super) enum NotAdmitted {
    #[error("the handshake took longer than {HANDSHAKE:?}")]
    TooSlow,
    #[error("{0}")]
    Tls(io::Error),
    #[error("{name}: {reason}")]
    Rejected { name: String, reason: Rejection },
}

/// The listener's side (no-open-door). `member` finds the id of the member with a name.
pub(super) async fn admit(
    stream: TcpStream,
    tls: &Tls,
    cluster: &str,
    me: NodeId,
    member: impl Fn(&str) -> Option<NodeId>,
) -> Result<Admitted, NotAdmitted> {
    timeout(HANDSHAKE, check(stream, tls, cluster, me, member))
        .await
        .map_err(|_| NotAdmitted::TooSlow)?
}

async fn check(
    stream: TcpStream,
    tls: &Tls,
    cluster: &str,
    me: NodeId,
    member: impl Fn(&str) -> Option<NodeId>,
) -> Result<Admitted, NotAdmitted> {
    // Until the purpose is known, the strictest setting.
    socket::prepare(&stream, Purpose::Rpc.unacknowledged()).map_err(NotAdmitted::Tls)?;
    let begun = LazyConfigAcceptor::new(Acceptor::default(), stream).await;
    let begun = begun.map_err(NotAdmitted::Tls)?;
    let settings = tls.server(&begun.client_hello());
    let stream = begun.into_stream(settings).await.map_err(NotAdmitted::Tls)?;
    let (socket, session) = stream.get_ref();
    if session.alpn_protocol() == Some(join::ALPN) {
        return Ok(Admitted::Joiner(Connection::new(TlsStream::Server(stream), join::MAX)));
    }
    let purpose = session
        .alpn_protocol()
        .and_then(Purpose::of_alpn)
        .ok_or_else(|| NotAdmitted::Tls(invalid("it names no purpose (ALPN)")))?;
    socket::prepare(socket, purpose.unacknowledged()).map_err(NotAdmitted::Tls)?;
    let name = tls::dns_name(session.peer_certificates())
        .ok_or_else(|| NotAdmitted::Tls(invalid("its certificate has no single DNS name")))?;
    let known = names::node_of(&name, cluster).and_then(|label| member(&label));

    let mut connection = Connection::new(TlsStream::Server(stream), HELLO_MAX);
    let hello = one_frame(&mut connection).await.map_err(NotAdmitted::Tls)?;
    let verdict = judge(&hello, known, me);
    let answer = Bytes::from(vec![VERSION, verdict_code(verdict.map(|_| ()))]);
    connection.sender.send(answer).await.map_err(|e| NotAdmitted::Tls(as_io(e)))?;
    let from = match verdict {
        Ok(from) => from,
        Err(reason) => {
            // Without this the dialer might see the break before the reason.
            let _ = connection.sender.close().await;
            return Err(NotAdmitted::Rejected { name, reason });
        }
    };
    connection.admit(from, purpose.max_frame());
    Ok(Admitted::Member { from, purpose, connection })
}

/// `known`: the member that the certificate names.
fn judge(hello: &[u8], known: Option<NodeId>, me: NodeId) -> Result<NodeId, Rejection> {
    let hello = match Hello::decode(hello) {
        Some(hello) if hello.version == VERSION => hello,
        _ => return Err(Rejection::Version),
    };
    let from = known.filter(|id| *id == hello.from).ok_or(Rejection::UnknownMember)?;
    if hello.to == me { Ok(from) } else { Err(Rejection::WrongNode) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn verdicts() {
        let me = NodeId(2);
        let from = NodeId(1);
        let hello = |version, from, to| Hello { version, from, to }.encode();
        assert_eq!(judge(&hello(1, from, me), Some(from), me), Ok(from));
        assert_eq!(judge(&hello(2, from, me), Some(from), me), Err(Rejection::Version));
        assert_eq!(judge(&hello(1, from, me), None, me), Err(Rejection::UnknownMember));
        // The certificate counts, not what the hello says.
        assert_eq!(judge(&hello(1, from, me), Some(NodeId(3)), me), Err(Rejection::UnknownMember));
        assert_eq!(judge(&hello(1, from, NodeId(9)), Some(from), me), Err(Rejection::WrongNode));
        assert_eq!(judge(&hello(1, from, me)[..16], Some(from), me), Err(Rejection::Version));
        assert_eq!(judge(&[], Some(from), me), Err(Rejection::Version));
        for verdict in [
            Ok(()),
            Err(Rejection::UnknownMember),
            Err(Rejection::WrongNode),
            Err(Rejection::Version),
        ] {
            assert_eq!(verdict_of(&[VERSION, verdict_code(verdict)]), Some(verdict));
        }
    }
}
