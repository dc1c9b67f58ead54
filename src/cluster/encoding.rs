//! The state as bytes, for snapshots and for the file beside the log.
//!
//! Eight bytes of magic, then big-endian the version (4 bytes) and the CRC-32C of what follows
//! (4 bytes); then the state as postcard. A version is never changed after a release: another
//! shape of the state is another version, with a function that makes the present one of it.
//!
//! - 1: databases, verdicts, the applied entry.
//! - 2: the same, then the registry. Written only once there is something in it, so that a node of the
//!   version before reads what a cluster without tokens and changed members writes.
//! - 3: the same, then the lease of LiteFS; written only where there is one.

use super::{Lease, Registry, State};

/// "litefs-py cluster state".
const MAGIC: [u8; 8] = *b"LFSPYCST";
const VERSION: u32 = 3;
const WITHOUT_LEASE: u32 = 2;
const WITHOUT_REGISTRY: u32 = 1;
const HEADER: usize = 16;

/// Why bytes are no state.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum DecodeError {
    #[error("not a cluster state: {0} bytes are too few")]
    Short(usize),
    #[error("not a cluster state: it begins with other bytes than one does")]
    Magic,
    #[error(
        "the cluster state is of version {0}, and this program knows version {VERSION}; \
         use the version of litefs-py that wrote it, or a later one"
    )]
    Version(u32),
    #[error("the cluster state is damaged: its checksum is {found:08x}, {expected:08x} was noted")]
    Checksum { expected: u32, found: u32 },
    #[error("the cluster state cannot be read, though its checksum is right: {0}")]
    Content(String),
}

impl State {
    /// This state as bytes.
    #[must_use]
    pub fn encode(&self) -> Vec<u8> {
        let version = if self.lease != Lease::default() {
            VERSION
        } else if self.registry != Registry::default() {
            WITHOUT_LEASE
        } else {
            WITHOUT_REGISTRY
        };
        let mut bytes = Vec::from(MAGIC);
        bytes.extend(version.to_be_bytes());
        bytes.extend([0; 4]);
        // Into memory, and every map knows its length: there is no error that this could give. If
        // there were, the empty bytes would be refused by `decode`.
        let parts = (&self.databases, &self.verdicts, &self.applied);
        let mut bytes = postcard::to_extend(&parts, bytes).unwrap_or_default();
        if version >= WITHOUT_LEASE {
            bytes = postcard::to_extend(&self.registry, bytes).unwrap_or_default();
        }
        if version >= VERSION {
            bytes = postcard::to_extend(&self.lease, bytes).unwrap_or_default();
        }
        let crc = crc_fast::crc32_iscsi(bytes.get(HEADER..).unwrap_or_default());
        if let Some(place) = bytes.get_mut(12..HEADER) {
            place.copy_from_slice(&crc.to_be_bytes());
        }
        bytes
    }

    /// The state that [`Self::encode`] made these bytes of.
    ///
    /// # Errors
    /// The bytes are none, are of another version, or are damaged.
    pub fn decode(bytes: &[u8]) -> Result<Self, DecodeError> {
        let short = || DecodeError::Short(bytes.len());
        let (magic, rest) = bytes.split_first_chunk::<8>().ok_or_else(short)?;
        let (version, rest) = rest.split_first_chunk::<4>().ok_or_else(short)?;
        let (crc, body) = rest.split_first_chunk::<4>().ok_or_else(short)?;
        if *magic != MAGIC {
            return Err(DecodeError::Magic);
        }
        let version = u32::from_be_bytes(*version);
        if !(WITHOUT_REGISTRY..=VERSION).contains(&version) {
            return Err(DecodeError::Version(version));
        }
        let (expected, found) = (u32::from_be_bytes(*crc), crc_fast::crc32_iscsi(body));
        if found != expected {
            return Err(DecodeError::Checksum { expected, found });
        }
        let content = |error: postcard::Error| DecodeError::Content(error.to_string());
        let (parts, rest) = postcard::take_from_bytes(body).map_err(content)?;
        let (databases, verdicts, applied) = parts;
        let (registry, rest) = if version >= WITHOUT_LEASE {
            postcard::take_from_bytes(rest).map_err(content)?
        } else {
            (Registry::default(), rest)
        };
        let (lease, rest) = if version >= VERSION {
            postcard::take_from_bytes(rest).map_err(content)?
        } else {
            (Lease::default(), rest)
        };
        let state = State { databases, verdicts, applied, registry, lease };
        if !rest.is_empty() {
            return Err(DecodeError::Content(format!("{} bytes are left over", rest.len())));
        }
        if !state.is_consistent() {
            return Err(DecodeError::Content("its parts contradict each other".into()));
        }
        Ok(state)
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use proptest::prelude::*;

    use super::*;
    use crate::cluster::{
        Authority, Change, Command, Commit, End, LeaseChange, Part, Payload, Root, Rotation,
    };
    use crate::core::{
        Boot, Checksum, DatabaseName, EntryId, NodeId, Position, TransactionId, Txid,
    };

    fn state() -> State {
        let mut state = State::default();
        let id = |sequence| TransactionId { node: NodeId(2), boot: Boot(3), sequence };
        state.apply(
            EntryId { term: 4, index: 300 },
            &Command::Commit(Commit {
                id: id(1),
                database: DatabaseName::new("app.db").unwrap(),
                incarnation: None,
                base: Position::EMPTY,
                new: Position { txid: Txid(1), checksum: Checksum(Checksum::FLAG | 5) },
                page_size: 4096,
                pages: 2,
                payload: Payload::Inline(Bytes::new()),
            }),
        );
        state.apply(EntryId { term: 4, index: 301 }, &Command::Abandon { id: id(2) });
        state
    }

    /// With a right checksum over whatever the content is.
    fn sealed(body: &[u8]) -> Vec<u8> {
        sealed_as(WITHOUT_REGISTRY, body)
    }

    fn sealed_as(version: u32, body: &[u8]) -> Vec<u8> {
        let mut bytes = Vec::from(MAGIC);
        bytes.extend(version.to_be_bytes());
        bytes.extend(crc_fast::crc32_iscsi(body).to_be_bytes());
        bytes.extend(body);
        bytes
    }

    /// Bytes that a release wrote must be read by every later one. If this fails, the shape of
    /// the state changed: raise VERSION, and keep the reader of this one.
    #[test]
    fn version_1_is_what_it_was() {
        assert_eq!(State::decode(&VERSION_1), Ok(state()));
        assert_eq!(state().encode(), VERSION_1);
    }
    #[rustfmt::skip]
    const VERSION_1: [u8; 59] = [
        0x4c, 0x46, 0x53, 0x50, 0x59, 0x43, 0x53, 0x54, 0x00, 0x00, 0x00, 0x01, 0xb3, 0x66, 0xff, 0x96,
        0x01, 0x06, 0x61, 0x70, 0x70, 0x2e, 0x64, 0x62, 0xac, 0x02, 0x01, 0x85, 0x80, 0x80, 0x80, 0x80,
        0x80, 0x80, 0x80, 0x80, 0x01, 0x80, 0x20, 0x02, 0xac, 0x02, 0x01, 0x02, 0x02, 0x03, 0x01, 0x00,
        0xac, 0x02, 0xac, 0x02, 0x03, 0x02, 0x01, 0x03, 0x04, 0xad, 0x02,
    ];

    #[test]
    fn version_2_is_what_it_was() {
        let mut state = state();
        let token = Change::CreateToken {
            id: "ab".into(),
            secret_sha256: [1; 32],
            expires: 300,
            part: Part::Learner,
            now: 1,
        };
        state.change(EntryId { term: 4, index: 302 }, &token).unwrap();
        let admit = Change::Admit {
            token: "ab".into(),
            key_sha256: [2; 32],
            node: NodeId(4),
            name: "n4".into(),
            address: "h:1".into(),
            now: 2,
        };
        state.change(EntryId { term: 4, index: 303 }, &admit).unwrap();
        let root = |name: &str| Root { certificate_pem: name.into(), key_pem: "k".into() };
        let rotation = Some(Rotation::Spreading { next: root("b") });
        let authority = Authority { signs: root("a"), rotation };
        state.change(EntryId { term: 4, index: 304 }, &Change::Certify(authority)).unwrap();
        assert_eq!(state.encode(), VERSION_2);
        assert_eq!(State::decode(&VERSION_2), Ok(state.clone()));
        // Whatever is cut off or left over is noticed beneath a right checksum, too.
        let body = &VERSION_2[HEADER..];
        for len in 0..body.len() {
            let cut = sealed_as(WITHOUT_LEASE, &body[..len]);
            assert!(State::decode(&cut).is_err(), "cut at {len}");
        }
    }
    #[rustfmt::skip]
    const VERSION_2: [u8; 153] = [
        0x4c, 0x46, 0x53, 0x50, 0x59, 0x43, 0x53, 0x54, 0x00, 0x00, 0x00, 0x02, 0xbb, 0x6b, 0xa8, 0x91,
        0x01, 0x06, 0x61, 0x70, 0x70, 0x2e, 0x64, 0x62, 0xac, 0x02, 0x01, 0x85, 0x80, 0x80, 0x80, 0x80,
        0x80, 0x80, 0x80, 0x80, 0x01, 0x80, 0x20, 0x02, 0xac, 0x02, 0x01, 0x02, 0x02, 0x03, 0x01, 0x00,
        0xac, 0x02, 0xac, 0x02, 0x03, 0x02, 0x01, 0x03, 0x04, 0xb0, 0x02, 0x01, 0x04, 0x02, 0x6e, 0x34,
        0x03, 0x68, 0x3a, 0x31, 0x01, 0x01, 0x02, 0x61, 0x62, 0x01, 0x01, 0x01, 0x01, 0x01, 0x01, 0x01,
        0x01, 0x01, 0x01, 0x01, 0x01, 0x01, 0x01, 0x01, 0x01, 0x01, 0x01, 0x01, 0x01, 0x01, 0x01, 0x01,
        0x01, 0x01, 0x01, 0x01, 0x01, 0x01, 0x01, 0x01, 0x01, 0xac, 0x02, 0x01, 0x01, 0x04, 0x02, 0x02,
        0x02, 0x02, 0x02, 0x02, 0x02, 0x02, 0x02, 0x02, 0x02, 0x02, 0x02, 0x02, 0x02, 0x02, 0x02, 0x02,
        0x02, 0x02, 0x02, 0x02, 0x02, 0x02, 0x02, 0x02, 0x02, 0x02, 0x02, 0x02, 0x02, 0x02, 0x01, 0x01,
        0x61, 0x01, 0x6b, 0x01, 0x00, 0x01, 0x62, 0x01, 0x6b,
    ];

    #[test]
    fn version_3_is_what_it_was() {
        let mut state = state();
        let session = || "s".to_owned();
        let changes = [
            LeaseChange::Identify { cluster_id: "LFSC".into() },
            LeaseChange::Choose { node: NodeId(1), asked: None },
            LeaseChange::Acquire { node: NodeId(1), session: session(), ttl_ms: 3000, now_ms: 5 },
            LeaseChange::End { node: NodeId(1), session: session(), end: End::Died, now_ms: 6 },
            LeaseChange::Choose { node: NodeId(2), asked: Some("n".into()) },
            LeaseChange::Acquire { node: NodeId(2), session: session(), ttl_ms: 3000, now_ms: 7 },
            LeaseChange::Choose { node: NodeId(1), asked: Some("m".into()) },
        ];
        for (index, change) in (302..).zip(changes) {
            state.change(EntryId { term: 4, index }, &Change::Lease(change)).unwrap();
        }
        assert_eq!(state.encode(), VERSION_3);
        assert_eq!(State::decode(&VERSION_3), Ok(state.clone()));
        let body = &VERSION_3[HEADER..];
        for len in 0..body.len() {
            assert!(State::decode(&sealed_as(VERSION, &body[..len])).is_err(), "cut at {len}");
        }
        state
            .change(
                EntryId { term: 4, index: 310 },
                &Change::Lease(LeaseChange::End {
                    node: NodeId(2),
                    session: session(),
                    end: End::Hung,
                    now_ms: 9,
                }),
            )
            .unwrap();
        assert_eq!(State::decode(&state.encode()), Ok(state), "also while it is free");
    }
    #[rustfmt::skip]
    const VERSION_3: [u8; 101] = [
        0x4c, 0x46, 0x53, 0x50, 0x59, 0x43, 0x53, 0x54, 0x00, 0x00, 0x00, 0x03, 0xb7, 0x40, 0xa4, 0x51,
        0x01, 0x06, 0x61, 0x70, 0x70, 0x2e, 0x64, 0x62, 0xac, 0x02, 0x01, 0x85, 0x80, 0x80, 0x80, 0x80,
        0x80, 0x80, 0x80, 0x80, 0x01, 0x80, 0x20, 0x02, 0xac, 0x02, 0x01, 0x02, 0x02, 0x03, 0x01, 0x00,
        0xac, 0x02, 0xac, 0x02, 0x03, 0x02, 0x01, 0x03, 0x04, 0xb4, 0x02, 0x00, 0x00, 0x00, 0x01, 0x04,
        0x4c, 0x46, 0x53, 0x43, 0x01, 0x01, 0x01, 0x01, 0x6d, 0x01, 0x02, 0x01, 0x73, 0xb8, 0x17, 0x02,
        0x00, 0x02, 0x02, 0x01, 0x01, 0x05, 0x00, 0x00, 0x00, 0x00, 0x02, 0x02, 0x07, 0x01, 0x01, 0x01,
        0x00, 0x01, 0x01, 0x6e, 0x01,
    ];

    #[test]
    fn other_bytes_are_refused_with_the_reason() {
        let good = state().encode();
        assert_eq!(State::decode(&good), Ok(state()));
        assert_eq!(State::decode(&good[..15]), Err(DecodeError::Short(15)));
        let mut bytes = good.clone();
        bytes[0] = b'X';
        assert_eq!(State::decode(&bytes), Err(DecodeError::Magic));
        let mut bytes = good.clone();
        bytes[11] = 4;
        assert_eq!(State::decode(&bytes), Err(DecodeError::Version(4)));

        let mut body = good[HEADER..].to_vec();
        body.push(0);
        assert!(matches!(State::decode(&sealed(&body)), Err(DecodeError::Content(_))));
        // A map of 2^63 entries, of which none is there.
        let huge = [0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x7f];
        assert!(matches!(State::decode(&sealed(&huge)), Err(DecodeError::Content(_))));
        // The database's last entry lies beyond the last that was applied.
        let mut body = good[HEADER..].to_vec();
        let end = body.len() - 2;
        body[end] = 0;
        body.truncate(end + 1);
        assert!(matches!(State::decode(&sealed(&body)), Err(DecodeError::Content(_))));
    }

    #[test]
    fn every_damaged_bit_and_every_cut_is_noticed() {
        let good = state().encode();
        for bit in 0..good.len() * 8 {
            let mut bytes = good.clone();
            bytes[bit / 8] ^= 1 << (bit % 8);
            assert!(State::decode(&bytes).is_err(), "bit {bit}");
        }
        for len in 0..good.len() {
            assert!(State::decode(&good[..len]).is_err(), "cut at {len}");
        }
    }

    proptest! {
        /// No content makes it panic, and what it takes is encoded back to what means the same.
        #[test]
        fn any_content_is_an_error_or_a_state(
            body in prop::collection::vec(any::<u8>(), 0..200),
            change in any::<(prop::sample::Index, u8)>(),
        ) {
            let mut near = state().encode()[HEADER..].to_vec();
            *change.0.get_mut(&mut near) = change.1;
            for content in [body, near] {
                if let Ok(state) = State::decode(&sealed(&content)) {
                    prop_assert_eq!(State::decode(&state.encode()), Ok(state));
                }
            }
        }
    }
}
