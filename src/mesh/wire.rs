//! What the frames of an `rpc` connection say. Calls go one way only: from the dialer.
//!
//! A kind (1 byte), then: *call*: id (8 bytes, big-endian), method (1 byte), request. *Answer*,
//! *failure* (a text), *busy*: id, body. *Ping*, both ways, unasked and unanswered: nothing.

use bytes::{Buf, Bytes};

const CALL: u8 = 1;
const ANSWER: u8 = 2;
const FAILURE: u8 = 3;
const BUSY: u8 = 4;
const PING: u8 = 5;

/// The most bytes before the body.
pub(super) const HEAD_MAX: usize = 10;

#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Message {
    Call { id: u64, method: u8, request: Bytes },
    Answer { id: u64, body: Bytes },
    Failure { id: u64, text: Bytes },
    Busy { id: u64 },
    Ping,
}

impl Message {
    /// What comes before the body, as (bytes, how many of them count), and the body.
    pub(super) fn encode(&self) -> ([u8; HEAD_MAX], usize, &[u8]) {
        let mut head = [0; HEAD_MAX];
        let (kind, id, body): (u8, Option<u64>, &[u8]) = match self {
            Message::Call { id, method, request } => {
                head[9] = *method;
                (CALL, Some(*id), request)
            }
            Message::Answer { id, body } => (ANSWER, Some(*id), body),
            Message::Failure { id, text } => (FAILURE, Some(*id), text),
            Message::Busy { id } => (BUSY, Some(*id), &[]),
            Message::Ping => (PING, None, &[]),
        };
        head[0] = kind;
        if let Some(id) = id {
            head[1..9].copy_from_slice(&id.to_be_bytes());
        }
        let len = match (kind, id) {
            (CALL, _) => 10,
            (_, Some(_)) => 9,
            (_, None) => 1,
        };
        (head, len, body)
    }

    /// `None`: no message of this protocol.
    pub(super) fn decode(mut frame: Bytes) -> Option<Message> {
        let kind = frame.try_get_u8().ok()?;
        if kind == PING {
            return Some(Message::Ping);
        }
        let id = frame.try_get_u64().ok()?;
        match kind {
            CALL => {
                let method = frame.try_get_u8().ok()?;
                Some(Message::Call { id, method, request: frame })
            }
            ANSWER => Some(Message::Answer { id, body: frame }),
            FAILURE => Some(Message::Failure { id, text: frame }),
            BUSY => Some(Message::Busy { id }),
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn message() -> impl Strategy<Value = Message> {
        let body = || proptest::collection::vec(any::<u8>(), 0..100).prop_map(Bytes::from);
        prop_oneof![
            (any::<u64>(), any::<u8>(), body()).prop_map(|(id, method, request)| Message::Call {
                id,
                method,
                request
            }),
            (any::<u64>(), body()).prop_map(|(id, body)| Message::Answer { id, body }),
            (any::<u64>(), body()).prop_map(|(id, text)| Message::Failure { id, text }),
            any::<u64>().prop_map(|id| Message::Busy { id }),
            Just(Message::Ping),
        ]
    }

    proptest! {
        #[test]
        fn what_is_written_is_read(message in message()) {
            let (head, len, body) = message.encode();
            let frame = [&head[..len], body].concat();
            prop_assert_eq!(Message::decode(frame.into()), Some(message));
        }

        #[test]
        fn any_bytes_are_survived(bytes in proptest::collection::vec(any::<u8>(), 0..30)) {
            let _ = Message::decode(bytes.into());
        }
    }
}
