//! TCP: resolving, connecting, and what is set on each socket.

use std::io;
use std::net::SocketAddr;
use std::sync::Mutex;
use std::time::Duration;

use rustix::net::sockopt;
use tokio::net::{TcpStream, lookup_host};
use tokio::time::timeout;

use super::{MeshError, Peer, Purpose};

/// For resolving, and again for connecting to each address.
const CONNECT: Duration = Duration::from_millis(500);

/// The addresses that a peer's name had when last asked, for when the name service is away: its
/// outage must not keep the nodes apart.
#[derive(Debug, Default)]
pub(super) struct Resolved(Mutex<Vec<SocketAddr>>);

impl Resolved {
    async fn resolve(&self, address: &str) -> io::Result<Vec<SocketAddr>> {
        let outcome = match timeout(CONNECT, lookup_host(address)).await {
            Ok(Ok(found)) => Ok(found.collect::<Vec<_>>()),
            Ok(Err(error)) => Err(error),
            Err(_) => Err(io::Error::new(io::ErrorKind::TimedOut, "no answer from name service")),
        };
        let mut known = self.0.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        match outcome {
            Ok(found) if !found.is_empty() => known.clone_from(&found),
            Err(error) if known.is_empty() => return Err(error),
            _ => {}
        }
        Ok(known.clone())
    }
}

/// Connects to the first of the peer's addresses that answers. Only if nobody listens at any of
/// them is that [`MeshError::Refused`].
pub(super) async fn connect(
    peer: &Peer,
    resolved: &Resolved,
    purpose: Purpose,
) -> Result<TcpStream, MeshError> {
    let address = || peer.address.clone();
    let unreachable = |source| MeshError::Unreachable { node: peer.id, address: address(), source };
    let addresses = resolved.resolve(&peer.address).await.map_err(|source| MeshError::Resolve {
        node: peer.id,
        address: address(),
        source,
    })?;
    let mut failure = None;
    for to in addresses {
        let error = match timeout(CONNECT, TcpStream::connect(to)).await {
            Ok(Ok(stream)) => {
                prepare(&stream, purpose.unacknowledged()).map_err(unreachable)?;
                return Ok(stream);
            }
            Ok(Err(error)) => error,
            Err(_) => io::Error::new(io::ErrorKind::TimedOut, "no answer to the connection"),
        };
        // A refusal is the weaker finding: another address may be the one that is only cut off.
        if failure.is_none() || error.kind() != io::ErrorKind::ConnectionRefused {
            failure = Some(error);
        }
    }
    match failure {
        Some(error) if error.kind() == io::ErrorKind::ConnectionRefused => {
            Err(MeshError::Refused { node: peer.id, address: address() })
        }
        Some(error) => Err(unreachable(error)),
        None => Err(unreachable(io::Error::new(io::ErrorKind::NotFound, "no address"))),
    }
}

/// No delay, a bound on unacknowledged bytes, and probes on an idle connection, so that one to a
/// host that is gone ends by itself within seconds.
pub(super) fn prepare(stream: &TcpStream, unacknowledged: Duration) -> io::Result<()> {
    stream.set_nodelay(true)?;
    let millis = u32::try_from(unacknowledged.as_millis()).unwrap_or(u32::MAX);
    sockopt::set_tcp_user_timeout(stream, millis)?;
    sockopt::set_socket_keepalive(stream, true)?;
    sockopt::set_tcp_keepidle(stream, Duration::from_secs(5))?;
    sockopt::set_tcp_keepintvl(stream, Duration::from_secs(1))?;
    sockopt::set_tcp_keepcnt(stream, 3)?;
    Ok(())
}
