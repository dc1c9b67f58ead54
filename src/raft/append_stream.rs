//! Appends in flight: several requests on their way over one stream, answered in order.
//!
//! The leader's half is [`session`], the follower's [`serve`]. A follower that has to fetch a
//! staged file first says so meanwhile; silence means that it is gone.
//!
//! After each commit the followers hear of it. That they did says nothing new of their logs, so
//! such an append is *quiet*: no answer comes, and openraft hears of it with the next one's.

use std::collections::VecDeque;
use std::future::ready;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures::StreamExt;
use futures::future::BoxFuture;
use futures::stream::{BoxStream, FuturesOrdered, unfold};
use openraft::errors::RPCError;
use openraft::raft::{AppendEntriesRequest, AppendEntriesResponse, StreamAppendResult};
use serde::{Deserialize, Serialize};
use tokio::time::{Instant, interval, sleep_until};

use super::commit_notes::Notes;
use super::links::{LinkError, Links, Stream};
use super::network::rpc_error;
use super::serve::{Services, check_sender};
use super::types::{LogId, Types};
use super::wire::{WireAppend, WireAppended, decode, encode};
use crate::mesh::Purpose;

/// Requests on their way at once.
const IN_FLIGHT: usize = 64;
/// Bytes on their way at once; one request may be larger.
const BYTES_IN_FLIGHT: usize = 8 << 20;
/// How long a follower may say nothing while it has something to answer.
const SILENCE: Duration = Duration::from_secs(5);
/// How often it says that it is at work.
const AT_WORK: Duration = Duration::from_secs(1);

/// What a follower sends.
#[derive(Debug, Serialize, Deserialize)]
enum Answer {
    /// To the oldest request that has none yet.
    Appended(WireAppended),
    AtWork,
}

type Item = Result<StreamAppendResult<Types>, RPCError<Types>>;
type Input<S> = Option<S>;

/// What was sent and is not answered: the entries before and the last, and its bytes.
struct Sent {
    previous: Option<LogId>,
    last: Option<LogId>,
    bytes: usize,
}

struct Session<'s, S> {
    /// Where the stream is kept for the next session, if this one ends in order.
    home: &'s mut Option<Stream>,
    stream: Option<Stream>,
    input: Input<S>,
    in_flight: VecDeque<Sent>,
    bytes: usize,
    heard: Instant,
    /// The last entry that the follower has said, in this session, to have.
    answered: Option<LogId>,
    notes: Notes,
}

/// Sends what comes from `input`; the stream it returns gives the answers in order.
pub(super) async fn session<'s, S>(
    links: &dyn Links,
    to: u64,
    home: &'s mut Option<Stream>,
    input: S,
) -> Result<BoxStream<'s, Item>, RPCError<Types>>
where
    S: futures::Stream<Item = AppendEntriesRequest<Types>> + Send + Unpin + 'static,
{
    let mut input = input;
    let (stream, first) = if let Some(stream) = home.take() {
        (stream, None)
    } else {
        // openraft's back-off is in the wait for the first request. Whoever connects without having
        // asked for it tries a dead node again at once, and again.
        let Some(first) = input.next().await else { return Ok(futures::stream::empty().boxed()) };
        let stream = links.stream(to, Purpose::Raft).await;
        (stream.map_err(|error| rpc_error(&error))?, Some(first))
    };
    let session = Session {
        home,
        stream: Some(stream),
        input: Some(futures::stream::iter(first).chain(input)),
        in_flight: VecDeque::new(),
        bytes: 0,
        heard: Instant::now(),
        answered: None,
        notes: Notes::new(to),
    };
    Ok(unfold(session, |mut session| async move {
        let item = session.next().await?;
        Some((item, session))
    })
    .boxed())
}

impl<S> Session<'_, S>
where
    S: futures::Stream<Item = AppendEntriesRequest<Types>> + Send + Unpin + 'static,
{
    /// The next answer; `None`: the session is over.
    async fn next(&mut self) -> Option<Item> {
        let mut stream = self.stream.take()?;
        match self.answer(&mut stream).await {
            Ok(answer) => {
                let item = answer?;
                let over = item.is_err();
                if over && self.in_flight.is_empty() {
                    *self.home = Some(stream);
                } else if !over {
                    self.stream = Some(stream);
                }
                Some(Ok(item))
            }
            // The stream is dropped: what is in flight on it is not known.
            Err(error) => Some(Err(rpc_error(&error))),
        }
    }

    async fn answer(
        &mut self,
        stream: &mut Stream,
    ) -> Result<Option<StreamAppendResult<Types>>, LinkError> {
        loop {
            if self.input.is_none() && self.in_flight.is_empty() {
                return Ok(None);
            }
            let more = self.in_flight.len() < IN_FLIGHT && self.bytes < BYTES_IN_FLIGHT;
            let waiting = !self.in_flight.is_empty();
            tokio::select! {
                biased;
                frame = stream.receiver.receive() => {
                    self.heard = Instant::now();
                    let frame = frame?.ok_or_else(|| LinkError::new("the follower ended the stream"))?;
                    if let Some(result) = self.received(&frame)? {
                        return Ok(Some(result));
                    }
                }
                request = next(&mut self.input), if more && self.input.is_some() => match request {
                    Some(request) => {
                        if let Some(request) = self.notes.pass(request, Instant::now()) {
                            self.send(stream, request).await?;
                        }
                    }
                    None => self.input = None,
                },
                () = until(self.notes.due()) => {
                    if let Some(note) = self.notes.take() {
                        self.send(stream, note).await?;
                    }
                }
                () = sleep_until(self.heard + SILENCE), if waiting => {
                    return Err(LinkError::new(format!("the follower is silent for {SILENCE:?}")));
                }
            }
        }
    }

    async fn send(
        &mut self,
        stream: &mut Stream,
        request: AppendEntriesRequest<Types>,
    ) -> Result<(), LinkError> {
        let previous = request.prev_log_id;
        let last = request.entries.last().map(|entry| entry.log_id);
        // The first of a session is never quiet: openraft learns by it what the follower has.
        let quiet = last.is_none() && previous.is_some() && previous == self.answered;
        let frame = encode(&WireAppend { quiet, ..WireAppend::of(&request) });
        if quiet {
            return stream.sender.send(frame).await;
        }
        if self.in_flight.is_empty() {
            self.heard = Instant::now();
        }
        self.bytes += frame.len();
        let last = last.or(previous);
        self.in_flight.push_back(Sent { previous, last, bytes: frame.len() });
        stream.sender.send(frame).await
    }

    fn received(&mut self, frame: &[u8]) -> Result<Option<StreamAppendResult<Types>>, LinkError> {
        let answer = decode("an answer to an append", frame)
            .map_err(|error| LinkError::new(error.to_string()))?;
        let Answer::Appended(appended) = answer else { return Ok(None) };
        let sent = self
            .in_flight
            .pop_front()
            .ok_or_else(|| LinkError::new("the follower answered what was not asked"))?;
        self.bytes -= sent.bytes;
        let response = appended.response();
        self.answered = if response.is_success() { sent.last } else { None };
        // openraft takes for granted that only a request with a previous entry can conflict.
        if response.is_conflict() && sent.previous.is_none() {
            return Err(LinkError::new("the follower has a conflict with the very first entry"));
        }
        Ok(Some(response.into_stream_result(sent.previous, sent.last)))
    }
}

/// For ever, where nothing is due.
async fn until(due: Option<Instant>) {
    match due {
        Some(due) => sleep_until(due).await,
        None => std::future::pending().await,
    }
}

async fn next<S: futures::Stream + Unpin>(input: &mut Option<S>) -> Option<S::Item> {
    input.as_mut()?.next().await
}

/// Answers the appends of one leader, until the stream ends.
pub(super) async fn serve(
    services: &Arc<Services>,
    from: u64,
    mut stream: Stream,
) -> Result<(), LinkError> {
    let text = |error: &dyn std::fmt::Display| LinkError::new(error.to_string());
    let mut appends: FuturesOrdered<BoxFuture<'_, _>> = FuturesOrdered::new();
    loop {
        tokio::select! {
            biased;
            Some((quiet, appended)) = appends.next(), if !appends.is_empty() => {
                let appended: Result<AppendEntriesResponse<Types>, _> = appended;
                let appended = appended.map_err(|error| text(&error))?;
                match (quiet, appended.is_success()) {
                    (false, _) => {
                        send(&mut stream, &Answer::Appended(WireAppended::of(&appended))).await?;
                    }
                    (true, true) => {}
                    // What is wrong the leader learns from the answer to its next session.
                    (true, false) => return Err(text(&"a quiet append failed")),
                }
            }
            frame = stream.receiver.receive(), if appends.len() < IN_FLIGHT => {
                let Some(frame) = frame? else { return Ok(()) };
                let append: WireAppend = decode("an append", &frame).map_err(|e| text(&e))?;
                drop(frame);
                check_sender(from, append.vote)?;
                services.joining.may_append(append.vote.term)?;
                fetch_staged(services, from, &append, &mut stream).await?;
                let quiet = append.quiet;
                let request = append.request().map_err(|error| text(&error))?;
                let raft = services.raft()?.clone();
                let mut append: BoxFuture<'_, _> =
                    Box::pin(async move { (quiet, raft.append_entries(request).await) });
                // Polled once, here: so openraft gets them in the order they came.
                match futures::poll!(&mut append) {
                    std::task::Poll::Ready(done) => appends.push_back(Box::pin(ready(done))),
                    std::task::Poll::Pending => appends.push_back(append),
                }
            }
        }
    }
}

/// Rule 19: an entry is handed on when the staged file that it names is here.
async fn fetch_staged(
    services: &Arc<Services>,
    from: u64,
    append: &WireAppend,
    stream: &mut Stream,
) -> Result<(), LinkError> {
    let missing = services.missing_staged(append);
    if missing.is_empty() {
        return Ok(());
    }
    let fetch = services.fetch_staged(from, missing);
    tokio::pin!(fetch);
    let mut at_work = interval(AT_WORK);
    loop {
        tokio::select! {
            fetched = &mut fetch => return fetched,
            _ = at_work.tick() => send(stream, &Answer::AtWork).await?,
        }
    }
}

async fn send(stream: &mut Stream, answer: &Answer) -> Result<(), LinkError> {
    let frame: Bytes = encode(answer);
    stream.sender.send(frame).await
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};
    use std::time::Duration;

    use bytes::Bytes;
    use futures::{FutureExt, stream};

    use super::*;
    use crate::raft::types::Vote;

    /// A node that is dead: how often somebody tried.
    #[derive(Default)]
    struct Nobody(AtomicUsize);

    impl Links for Nobody {
        fn call(
            &self,
            _: u64,
            _: u8,
            _: Bytes,
            _: Duration,
        ) -> BoxFuture<'_, Result<Bytes, LinkError>> {
            std::future::ready(Err(LinkError::new("dead"))).boxed()
        }

        fn stream(&self, _: u64, _: Purpose) -> BoxFuture<'_, Result<Stream, LinkError>> {
            self.0.fetch_add(1, Ordering::SeqCst);
            std::future::ready(Err(LinkError::new("dead"))).boxed()
        }
    }

    /// openraft waits, before its first request, as long as it backs off. A leader that did not
    /// wait for that tried a dead node as fast as it could, for as long as the node was dead.
    #[test]
    fn a_dead_node_is_tried_when_openraft_has_something_to_send() {
        let (nobody, mut home) = (Nobody::default(), None);
        let backing_off = stream::pending::<AppendEntriesRequest<Types>>();
        assert!(session(&nobody, 2, &mut home, backing_off).now_or_never().is_none());
        assert_eq!(nobody.0.load(Ordering::SeqCst), 0);
        let request = AppendEntriesRequest {
            vote: Vote::new(1, 1),
            prev_log_id: None,
            entries: Vec::new(),
            leader_commit: None,
        };
        let tried = session(&nobody, 2, &mut home, stream::iter([request])).now_or_never();
        assert!(tried.is_some_and(|tried| tried.is_err()));
        assert_eq!(nobody.0.load(Ordering::SeqCst), 1);
    }
}
