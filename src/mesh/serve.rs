//! The listener's side of an `rpc` connection: each call in a task, answers as they come.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc};
use tokio::task::JoinSet;

use super::calls::{Caller, ping, write_messages};
use super::wire::Message;
use super::{FrameReceiver, RpcHandler};
use crate::core::NodeId;

/// Callers ping every second; one that is silent for longer is gone.
const SILENCE: Duration = Duration::from_secs(10);
/// Of one connection's calls that are in hand, in KiB of requests (each counts at least one): so
/// many bytes, and so many calls.
const IN_HAND_KIB: u32 = 64 << 10;
/// Answers that wait for the connection. Handlers wait when it is full.
const QUEUE: usize = 1024;

type Answer = (Message, Option<OwnedSemaphorePermit>);

/// Serves until the connection ends, then lets the handlers that run come to their end.
pub(super) async fn serve(
    from: NodeId,
    connection: super::Connection,
    handler: Arc<dyn RpcHandler>,
) {
    let (answers, queue) = mpsc::channel::<Answer>(QUEUE);
    let pings = answers.clone();
    let mut running = JoinSet::new();
    let outcome = tokio::select! {
        outcome = read_calls(from, connection.receiver, &handler, answers, &mut running) => outcome,
        () = ping(pings, || (Message::Ping, None)) => Ok(()),
        outcome = write_messages(connection.sender, queue, |(message, _)| message) => {
            outcome.map_err(|e| e.to_string())
        }
    };
    if let Err(reason) = outcome {
        tracing::debug!(node = %from, reason, "calls from a node ended");
    }
    while running.join_next().await.is_some() {}
}

async fn read_calls(
    from: NodeId,
    mut receiver: FrameReceiver,
    handler: &Arc<dyn RpcHandler>,
    answers: mpsc::Sender<Answer>,
    running: &mut JoinSet<()>,
) -> Result<(), String> {
    receiver.silence = Some(SILENCE);
    let in_hand = Arc::new(Semaphore::new(IN_HAND_KIB as usize));
    loop {
        let frame = match receiver.recv().await {
            Ok(Some(frame)) => frame,
            Ok(None) => return Ok(()),
            Err(error) => return Err(error.to_string()),
        };
        while running.try_join_next().is_some() {}
        match Message::decode(frame) {
            Some(Message::Call { id, method, request }) => {
                let kib = u32::try_from(request.len() >> 10).unwrap_or(IN_HAND_KIB) + 1;
                let Ok(permit) = Arc::clone(&in_hand).try_acquire_many_owned(kib) else {
                    queue(&answers, Message::Busy { id }).await?;
                    continue;
                };
                let handler = Arc::clone(handler);
                let answers = answers.clone();
                running.spawn(async move {
                    let answer = answer(id, handler.call(from, method, request).await);
                    // If the connection is gone, so is who asked.
                    let _ = answers.send((answer, Some(permit))).await;
                });
            }
            Some(Message::Ping) => {}
            _ => return Err("it sent something that is no call".to_owned()),
        }
    }
}

/// One that is too long is a failure of this call, not of the connection.
fn answer(id: u64, outcome: Result<Bytes, String>) -> Message {
    let body = outcome.as_ref().map_or_else(String::len, Bytes::len);
    match outcome {
        _ if body > Caller::MAX => {
            let text =
                format!("the answer of {body} bytes is too long; the bound is {}", Caller::MAX);
            Message::Failure { id, text: text.into() }
        }
        Ok(body) => Message::Answer { id, body },
        Err(text) => Message::Failure { id, text: text.into() },
    }
}

async fn queue(answers: &mpsc::Sender<Answer>, message: Message) -> Result<(), String> {
    answers.send((message, None)).await.map_err(|_| "the connection broke".to_owned())
}
