//! Any bytes from another node: before and after it is known.

#![allow(clippy::missing_panics_doc)] // a panic is what is looked for

use bytes::Bytes;

use super::frame::Decoder;
use super::handshake::{Hello, verdict_of};
use super::wire::Message;
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
