//! Frames: a length (4 bytes, big-endian), then that many bytes.

use std::time::{Duration, Instant};

use bytes::{Bytes, BytesMut};
use tokio::io::{AsyncReadExt, AsyncWriteExt, BufWriter, ReadHalf, WriteHalf};
use tokio::net::TcpStream;
use tokio::time::timeout;
use tokio_rustls::TlsStream;

use super::Quiet;
use crate::core::NodeId;

/// Length of a frame's header, in bytes.
const HEADER: usize = 4;
/// How much room is made before a read, at least: one TLS record's worth (RFC 8446, 5.1: 2^14).
const READ: usize = 16 << 10;
/// A read buffer that grew beyond this is given back once it is empty.
const KEEP: usize = 256 << 10;
/// What small frames are gathered in before they go out as one TLS record.
const GATHER: usize = 16 << 10;
/// How long the other side may take for a frame: this, and a second for each MiB. Slower is dead.
const PATIENCE: Duration = Duration::from_secs(10);

fn limit(patience: Duration, bytes: usize) -> Duration {
    patience + Duration::from_secs((bytes >> 20) as u64)
}

/// Why a connection is of no more use.
#[derive(Debug, thiserror::Error)]
pub enum FrameError {
    #[error("a frame of {len} bytes; the bound is {max}")]
    TooLong { len: usize, max: usize },
    #[error("a frame stood still for more than {0:?}")]
    Stalled(Duration),
    #[error("the other side was silent for more than {0:?}")]
    Silent(Duration),
    #[error("the connection ended within a frame")]
    Cut,
    #[error("an earlier send was given up half-way")]
    Abandoned,
    #[error("the connection broke: {0}")]
    Io(#[from] std::io::Error),
}

/// Of members that announce frames that nobody may send: no fault of the network does that.
static GIANTS: Quiet = Quiet::new();

/// An open connection to one node, for one purpose. The halves may go to two tasks.
#[derive(Debug)]
pub struct Connection {
    pub sender: FrameSender,
    pub receiver: FrameReceiver,
}

impl Connection {
    pub(super) fn new(stream: TlsStream<TcpStream>, max: usize) -> Connection {
        let (read, write) = tokio::io::split(stream);
        Connection {
            sender: FrameSender {
                io: BufWriter::with_capacity(GATHER, write),
                max,
                patience: PATIENCE,
                halfway: false,
            },
            receiver: FrameReceiver {
                io: read,
                decoder: Decoder::new(max),
                patience: PATIENCE,
                silence: None,
                from: None,
                began: None,
            },
        }
    }

    /// After the hello it is known who it is, and frames may be longer than that.
    pub(super) fn admit(&mut self, from: NodeId, max: usize) {
        self.sender.max = max;
        self.receiver.decoder.max = max;
        self.receiver.from = Some(from);
    }
}

/// The sending half. Dropping it without [`FrameSender::close`] is seen by the other side as a
/// break, not as an end.
#[derive(Debug)]
pub struct FrameSender {
    io: BufWriter<WriteHalf<TlsStream<TcpStream>>>,
    max: usize,
    pub(super) patience: Duration,
    /// Set while a write is under way: if it is still set at the next, that one was dropped in
    /// the middle, and what follows would be read as its rest.
    halfway: bool,
}

impl FrameSender {
    /// Sends a frame now. Not to be dropped half-way: later sends fail then.
    ///
    /// # Errors
    /// If it is longer than the purpose allows (the connection stays good), or the connection
    /// broke, or the other side does not take it in time (10 s, and 1 s for each MiB).
    pub async fn send(&mut self, frame: Bytes) -> Result<(), FrameError> {
        self.feed(frame).await?;
        self.flush().await
    }

    /// Like [`FrameSender::send`], but small frames may wait for the next
    /// [`FrameSender::flush`], so that several go out together.
    pub async fn feed(&mut self, frame: Bytes) -> Result<(), FrameError> {
        self.feed_parts(&[], &frame).await
    }

    /// One frame out of two parts.
    pub(super) async fn feed_parts(&mut self, head: &[u8], body: &[u8]) -> Result<(), FrameError> {
        let len = head.len() + body.len();
        if len > self.max {
            return Err(FrameError::TooLong { len, max: self.max });
        }
        let header = u32::try_from(len)
            .map_err(|_| FrameError::TooLong { len, max: self.max })?
            .to_be_bytes();
        self.begin()?;
        let io = &mut self.io;
        let write = async {
            io.write_all(&header).await?;
            io.write_all(head).await?;
            io.write_all(body).await
        };
        let limit = limit(self.patience, len);
        timeout(limit, write).await.map_err(|_| FrameError::Stalled(limit))??;
        self.halfway = false;
        Ok(())
    }

    /// Sends what was fed.
    pub async fn flush(&mut self) -> Result<(), FrameError> {
        self.begin()?;
        let limit = limit(self.patience, GATHER);
        timeout(limit, self.io.flush()).await.map_err(|_| FrameError::Stalled(limit))??;
        self.halfway = false;
        Ok(())
    }

    /// Ends the stream in order: the other side receives `None`.
    pub async fn close(mut self) -> Result<(), FrameError> {
        self.flush().await?;
        let limit = limit(self.patience, GATHER);
        timeout(limit, self.io.shutdown()).await.map_err(|_| FrameError::Stalled(limit))??;
        Ok(())
    }

    fn begin(&mut self) -> Result<(), FrameError> {
        if self.halfway {
            return Err(FrameError::Abandoned);
        }
        self.halfway = true;
        Ok(())
    }
}

/// The receiving half.
#[derive(Debug)]
pub struct FrameReceiver {
    io: ReadHalf<TlsStream<TcpStream>>,
    decoder: Decoder,
    pub(super) patience: Duration,
    /// The longest time without a byte, for those who know that the other side has some to say.
    pub(super) silence: Option<Duration>,
    /// The member at the other end, once that is known.
    from: Option<NodeId>,
    /// When the frame that is under way began to arrive.
    began: Option<Instant>,
}

impl FrameReceiver {
    /// The other side always has something to say: so long without a byte, and the connection is of no
    /// more use ([`FrameError::Silent`]).
    pub fn expect_within(&mut self, silence: Duration) {
        self.silence = Some(silence);
    }

    /// The next frame; `None`: the other side ended the stream in order. May be dropped and called
    /// again without loss. Waits without bound for a frame to begin; one that began must
    /// be complete in time (10 s, and 1 s for each MiB).
    ///
    /// The bytes may share a buffer with their neighbours: copy what is kept for long.
    ///
    /// # Errors
    /// If a frame is too long or stands still, or the connection broke; also if it ended without
    /// the TLS goodbye, as it does when a process dies.
    pub async fn recv(&mut self) -> Result<Option<Bytes>, FrameError> {
        loop {
            if let Some(frame) = self.decoder.next().inspect_err(|error| self.tell(error))? {
                self.began = None;
                return Ok(Some(frame));
            }
            let begun = self.decoder.begun;
            let read = self.io.read_buf(self.decoder.room());
            let stalled = begun.map(|len| {
                let limit = limit(self.patience, len);
                let spent = self.began.get_or_insert_with(Instant::now).elapsed();
                (limit.saturating_sub(spent), FrameError::Stalled(limit))
            });
            let silent = self.silence.map(|limit| (limit, FrameError::Silent(limit)));
            let first = stalled.into_iter().chain(silent).min_by_key(|(left, _)| *left);
            let received = match first {
                None => read.await?,
                Some((left, error)) => timeout(left, read).await.map_err(|_| error)??,
            };
            if received == 0 {
                return if self.decoder.is_empty() { Ok(None) } else { Err(FrameError::Cut) };
            }
        }
    }
}

impl FrameReceiver {
    fn tell(&self, error: &FrameError) {
        // A stranger's is told of where it is refused.
        if let Some(from) = self.from
            && let Some(others) = GIANTS.may_log()
        {
            tracing::warn!(%from, %error, others, "ended a node's connection");
        }
    }
}

/// Cuts a stream of bytes into frames. Pure.
#[derive(Debug)]
pub(super) struct Decoder {
    buffer: BytesMut,
    max: usize,
    /// The length of the frame of which a part is in the buffer (0 while that is not known).
    begun: Option<usize>,
}

impl Decoder {
    pub(super) fn new(max: usize) -> Decoder {
        Decoder { buffer: BytesMut::new(), max, begun: None }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.buffer.is_empty()
    }

    /// Where the next bytes go. The buffer grows with what arrives, never by what a header says.
    pub(super) fn room(&mut self) -> &mut BytesMut {
        self.buffer.reserve(READ);
        &mut self.buffer
    }

    /// The next whole frame in the buffer.
    pub(super) fn next(&mut self) -> Result<Option<Bytes>, FrameError> {
        let Some(header) = self.buffer.first_chunk::<HEADER>() else {
            self.begun = (!self.buffer.is_empty()).then_some(0);
            return Ok(None);
        };
        let len = u32::from_be_bytes(*header) as usize;
        if len > self.max {
            return Err(FrameError::TooLong { len, max: self.max });
        }
        if self.buffer.len() - HEADER < len {
            self.begun = Some(len);
            return Ok(None);
        }
        let frame = self.buffer.split_to(HEADER + len).freeze().slice(HEADER..);
        if self.buffer.is_empty() && self.buffer.capacity() + len > KEEP {
            self.buffer = BytesMut::new();
        }
        Ok(Some(frame))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn frames() -> impl Strategy<Value = Vec<Vec<u8>>> {
        proptest::collection::vec(proptest::collection::vec(any::<u8>(), 0..300), 0..20)
    }

    fn encode(frames: &[Vec<u8>]) -> Vec<u8> {
        let mut bytes = Vec::new();
        for frame in frames {
            bytes.extend(u32::try_from(frame.len()).expect("short").to_be_bytes());
            bytes.extend(frame);
        }
        bytes
    }

    proptest! {
        #[test]
        fn frames_come_out_as_they_went_in_however_they_are_split(
            frames in frames(),
            pieces in proptest::collection::vec(1usize..400, 1..50),
        ) {
            let bytes = encode(&frames);
            let mut decoder = Decoder::new(300);
            let mut out = Vec::new();
            let mut rest = &bytes[..];
            for piece in pieces.iter().cycle() {
                while let Some(frame) = decoder.next().expect("short enough") {
                    out.push(frame.to_vec());
                }
                prop_assert_eq!(decoder.begun.is_some(), !decoder.is_empty());
                if rest.is_empty() {
                    break;
                }
                let (now, later) = rest.split_at((*piece).min(rest.len()));
                decoder.room().extend_from_slice(now);
                rest = later;
            }
            prop_assert_eq!(out, frames);
            prop_assert!(decoder.is_empty());
        }

        #[test]
        fn any_bytes_are_survived(bytes in proptest::collection::vec(any::<u8>(), 0..2000)) {
            let mut decoder = Decoder::new(1 << 16);
            decoder.room().extend_from_slice(&bytes);
            let mut out = 0;
            while let Ok(Some(frame)) = decoder.next() {
                out += frame.len() + HEADER;
            }
            prop_assert!(out <= bytes.len());
        }
    }

    #[test]
    fn a_giant_is_refused_from_its_header_and_stays_refused() {
        let mut decoder = Decoder::new(1000);
        decoder.room().extend_from_slice(&1001u32.to_be_bytes());
        let capacity = decoder.buffer.capacity();
        for _ in 0..2 {
            let refused = decoder.next().expect_err("too long");
            assert!(matches!(refused, FrameError::TooLong { len: 1001, max: 1000 }));
        }
        assert_eq!(decoder.buffer.capacity(), capacity);
    }

    #[test]
    fn memory_follows_what_arrived_and_is_given_back() {
        let max = 16 << 20;
        let mut decoder = Decoder::new(max);
        decoder.room().extend_from_slice(&u32::try_from(max).expect("fits").to_be_bytes());
        assert!(decoder.next().expect("allowed").is_none());
        assert!(decoder.room().capacity() < 1 << 16);
        decoder.room().extend_from_slice(&vec![0; max]);
        assert_eq!(decoder.next().expect("allowed").expect("whole").len(), max);
        assert!(decoder.room().capacity() < 1 << 16);
    }
}
