//! The dialer's side of an `rpc` connection: many calls in flight, answers in any order.

use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use tokio::sync::{mpsc, oneshot};
use tokio::time::{Instant, timeout_at};

use super::wire::{HEAD_MAX, Message};
use super::{CallError, Connection, FrameError, FrameReceiver, FrameSender, Purpose};
use crate::core::NodeId;

const PING_EVERY: Duration = Duration::from_secs(1);
/// The other side pings too, whatever else it does: so long without a byte means a frozen process
/// or a lost host. (Raft's heartbeats notice sooner; this is for getting a working connection
/// again.)
const SILENCE: Duration = Duration::from_secs(3);
/// Calls that wait for the connection. Callers wait when it is full.
const QUEUE: usize = 1024;
/// Messages that go out with one flush, at most.
const BATCH: usize = 64;

/// One open connection for calls.
#[derive(Debug)]
pub(super) struct Caller {
    node: NodeId,
    next: AtomicU64,
    queue: mpsc::Sender<Message>,
    waiting: Arc<Waiting>,
}

/// Who waits for which answer. `None` once the connection is gone.
#[derive(Debug)]
struct Waiting(Mutex<Option<HashMap<u64, oneshot::Sender<Message>>>>);

impl Waiting {
    fn lock(&self) -> MutexGuard<'_, Option<HashMap<u64, oneshot::Sender<Message>>>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn take(&self, id: u64) -> Option<oneshot::Sender<Message>> {
        self.lock().as_mut()?.remove(&id)
    }
}

/// Takes the caller's place away when it stops waiting.
struct Place<'a> {
    waiting: &'a Waiting,
    id: u64,
}

impl Drop for Place<'_> {
    fn drop(&mut self) {
        self.waiting.take(self.id);
    }
}

/// The connection's own work; to be polled for as long as it is used.
pub(super) struct Driver {
    connection: Connection,
    queue: mpsc::Receiver<Message>,
    pings: mpsc::Sender<Message>,
    waiting: EndOfWaiting,
}

/// Ends every wait when the connection's work ends, however that comes about.
struct EndOfWaiting(Arc<Waiting>);

impl Drop for EndOfWaiting {
    fn drop(&mut self) {
        self.0.lock().take();
    }
}

pub(super) fn start(node: NodeId, connection: Connection) -> (Arc<Caller>, Driver) {
    let (sender, queue) = mpsc::channel(QUEUE);
    let waiting = Arc::new(Waiting(Mutex::new(Some(HashMap::new()))));
    let driver = Driver {
        connection,
        queue,
        pings: sender.clone(),
        waiting: EndOfWaiting(Arc::clone(&waiting)),
    };
    let caller = Caller { node, next: AtomicU64::new(0), queue: sender, waiting };
    (Arc::new(caller), driver)
}

impl Caller {
    /// The longest request or answer, in bytes.
    pub(super) const MAX: usize = Purpose::Rpc.max_frame() - HEAD_MAX;

    /// How many wait for an answer.
    #[cfg(test)]
    pub(super) fn waiting(&self) -> usize {
        self.waiting.lock().as_ref().map_or(0, HashMap::len)
    }

    /// One call, until `deadline`, which is `waited` from when it began.
    /// `None`: the connection was gone before it could be sent.
    pub(super) async fn call(
        &self,
        method: u8,
        request: Bytes,
        deadline: Instant,
        waited: Duration,
    ) -> Option<Result<Bytes, CallError>> {
        let node = self.node;
        let id = self.next.fetch_add(1, Ordering::Relaxed);
        let (sender, answer) = oneshot::channel();
        self.waiting.lock().as_mut()?.insert(id, sender);
        let _place = Place { waiting: &self.waiting, id };
        let exchange = async {
            self.queue.send(Message::Call { id, method, request }).await.ok()?;
            Some(answer.await)
        };
        let answer = match timeout_at(deadline, exchange).await {
            Ok(answer) => answer?,
            Err(_) => return Some(Err(CallError::Timeout { node, waited })),
        };
        Some(match answer {
            Ok(Message::Answer { body, .. }) => Ok(body),
            Ok(Message::Failure { text, .. }) => {
                let message = String::from_utf8_lossy(&text).into_owned();
                Err(CallError::Handler { node, message })
            }
            Ok(Message::Busy { .. }) => Err(CallError::Busy { node }),
            Ok(_) | Err(_) => Err(CallError::Broken { node }),
        })
    }
}

impl Driver {
    /// Works until the connection is of no more use, and says why. Every call that waits then
    /// ends as [`CallError::Broken`], also when this is dropped.
    pub(super) async fn run(self) -> String {
        let Driver { connection, queue, pings, waiting } = self;
        tokio::select! {
            reason = read_answers(connection.receiver, &waiting.0) => reason,
            outcome = write_messages(connection.sender, queue, |message| message) => match outcome {
                Ok(()) => "no longer used".to_owned(),
                Err(error) => error.to_string(),
            },
            () = ping(pings, || Message::Ping) => "no longer used".to_owned(),
        }
    }
}

/// Lets the other side know every second that this one lives.
pub(super) async fn ping<T>(queue: mpsc::Sender<T>, ping: impl Fn() -> T) {
    loop {
        tokio::time::sleep(PING_EVERY).await;
        // A full queue says that there is something else to send.
        if let Err(mpsc::error::TrySendError::Closed(_)) = queue.try_send(ping()) {
            return;
        }
    }
}

async fn read_answers(mut receiver: FrameReceiver, waiting: &Waiting) -> String {
    receiver.silence = Some(SILENCE);
    loop {
        let frame = match receiver.recv().await {
            Ok(Some(frame)) => frame,
            Ok(None) => return "ended by the other side".to_owned(),
            Err(error) => return error.to_string(),
        };
        let message = Message::decode(frame);
        let id = match &message {
            Some(
                Message::Answer { id, .. } | Message::Failure { id, .. } | Message::Busy { id },
            ) => *id,
            Some(Message::Ping) => continue,
            _ => return "it sent something that is no answer".to_owned(),
        };
        // Nobody waits any more: too late, or never asked.
        if let (Some(message), Some(waiter)) = (message, waiting.take(id)) {
            let _ = waiter.send(message);
        }
    }
}

/// Writes what is queued. What is there at once goes out together; nothing waits for more.
pub(super) async fn write_messages<T>(
    mut sender: FrameSender,
    mut queue: mpsc::Receiver<T>,
    message_of: impl Fn(T) -> Message,
) -> Result<(), FrameError> {
    let mut batch = Vec::with_capacity(BATCH);
    while queue.recv_many(&mut batch, BATCH).await > 0 {
        for message in batch.drain(..) {
            let message = message_of(message);
            let (head, len, body) = message.encode();
            sender.feed_parts(head.get(..len).unwrap_or_default(), body).await?;
        }
        sender.flush().await?;
    }
    sender.close().await
}
