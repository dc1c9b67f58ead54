//! Any bytes from another node: before and after it is known.

#![allow(clippy::missing_panics_doc)] // a panic is what is looked for

use bytes::Bytes;

use super::frame::Decoder;
use super::handshake::{Hello, verdict_of};
use super::wire::Message;
use super::{JoinAnswer, JoinRequest, JoinToken, join};
use crate::core::NodeId;

const MAX: usize = 300;

/// Frames, in pieces as a network brings them.
pub fn frame(bytes: &[u8]) {
    let Some((&piece, bytes)) = bytes.split_first() else { return };
    let mut decoder = Decoder::new(MAX);
    let mut encoded = Vec::new();
    for piece in bytes.chunks(usize::from(piece) + 1) {
        decoder.room().extend_from_slice(piece);
        loop {
            match decoder.next() {
                Ok(Some(frame)) => {
                    assert!(frame.len() <= MAX);
                    encoded.extend((frame.len() as u32).to_be_bytes());
                    encoded.extend_from_slice(&frame);
                }
                Ok(None) => break,
                Err(_) => {
                    assert!(bytes.starts_with(&encoded));
                    return;
                }
            }
        }
        assert!(decoder.room().capacity() <= 1 << 17, "memory for what did not arrive");
    }
    assert!(bytes.starts_with(&encoded));
    assert_eq!(encoded.len() == bytes.len(), decoder.is_empty());
}

pub fn frames() -> Vec<Vec<u8>> {
    vec![[&[3][..], &[0, 0, 0, 2, 7, 7], &[0, 0, 0, 0], &[0, 0, 0, 9, 1]].concat()]
}

/// The hello, its answer, and the messages of a connection.
pub fn message(bytes: &[u8]) {
    if let Some(hello) = Hello::decode(bytes) {
        assert_eq!(Some(&hello.encode()[..]), bytes.get(..17));
    }
    let _ = verdict_of(bytes);
    if let Some(message) = Message::decode(Bytes::copy_from_slice(bytes)) {
        let (head, len, body) = message.encode();
        let encoded = [head.get(..len).unwrap_or_default(), body].concat();
        assert!(bytes.starts_with(&encoded));
        assert_eq!(Message::decode(encoded.into()), Some(message));
    }
}

pub fn messages() -> Vec<Vec<u8>> {
    let hello = Hello { version: 1, from: NodeId(1), to: NodeId(2) };
    let request = Bytes::from_static(b"what");
    let call = Message::Call { id: 9, method: 64, request };
    let (head, len, body) = call.encode();
    vec![hello.encode().to_vec(), [head.get(..len).unwrap_or_default(), body].concat()]
}

/// A token, and what comes through the door for those who are no members yet: from anybody.
pub fn joining(bytes: &[u8]) {
    if let Ok(token) = String::from_utf8_lossy(bytes).parse::<JoinToken>() {
        assert_eq!(token.to_string().parse(), Ok(token));
    }
    if let Some(request) = join::decode::<JoinRequest>(bytes) {
        assert_eq!(join::decode(&join::encode(&request)), Some(request));
    }
    if let Some(answer) = join::decode::<JoinAnswer>(bytes) {
        assert_eq!(join::decode(&join::encode(&answer)), Some(answer));
    }
}

pub fn joinings() -> Vec<Vec<u8>> {
    let request = JoinRequest {
        token_id: "0011223344556677".into(),
        secret: [7; 16],
        name: "n4".into(),
        address: "10.0.0.4:4321".into(),
        request_pem: "-----BEGIN CERTIFICATE REQUEST-----".into(),
        unix_ms: 1_700_000_000_000,
    };
    let text = format!("lfs1.{}.{}.{}", "ab".repeat(32), request.token_id, "07".repeat(16));
    let refused = JoinAnswer::Refused("no".into());
    vec![text.into(), join::encode(&request).to_vec(), join::encode(&refused).to_vec()]
}
