//! What a connection is for. The ALPN name says it within the TLS handshake.

use std::time::Duration;

/// The purposes, each with its own bound on frames.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Purpose {
    /// Calls with an answer; [`super::Mesh::call`] keeps these connections itself.
    Rpc,
    /// Raft's append streams and votes.
    Raft,
    /// Large things in pieces: snapshots, staged transactions.
    Bulk,
    /// The HTTP of LiteFS, the other engine, as it is.
    Litefs,
}

impl Purpose {
    pub const ALL: [Purpose; 4] = [Purpose::Rpc, Purpose::Raft, Purpose::Bulk, Purpose::Litefs];

    /// The longest frame, in bytes. A longer one is refused from its header alone.
    pub const fn max_frame(self) -> usize {
        match self {
            Purpose::Rpc | Purpose::Raft => 16 << 20,
            Purpose::Bulk | Purpose::Litefs => 1 << 20,
        }
    }

    /// The ALPN protocol (RFC 7301). The number is the version of what goes over the wire.
    pub(super) const fn alpn(self) -> &'static [u8] {
        match self {
            Purpose::Rpc => b"litefs-py/1 rpc",
            Purpose::Raft => b"litefs-py/1 raft",
            Purpose::Bulk => b"litefs-py/1 bulk",
            Purpose::Litefs => b"litefs-py/1 litefs",
        }
    }

    pub(super) fn of_alpn(protocol: &[u8]) -> Option<Purpose> {
        Self::ALL.into_iter().find(|purpose| purpose.alpn() == protocol)
    }

    /// How long sent bytes may stay unacknowledged before the connection breaks
    /// (`TCP_USER_TIMEOUT`). Without it a connection that went through a partition sleeps in TCP's
    /// own back-off, minutes after the network healed (converges). Bulk has longer: its
    /// receiver may be waiting for a disk.
    pub(super) const fn unacknowledged(self) -> Duration {
        match self {
            Purpose::Rpc | Purpose::Raft | Purpose::Litefs => Duration::from_secs(3),
            Purpose::Bulk => Duration::from_secs(15),
        }
    }
}
