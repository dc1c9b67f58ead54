//! The network between the nodes, and the world's list of what happens when.
//!
//! A call may be lost, late, doubled, and overtaken by another. A stream is TCP's: in order and whole,
//! held up while its direction is cut, and broken at any moment. A cut is of one direction, or of both.
//!
//! Nothing of one node is ever touched by another's thread: a node that was killed may have held any
//! lock. What is sent is put on the world's list, and the world's own thread hands it over.

use std::collections::{BTreeMap, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use futures::future::BoxFuture;
use litefs_py::mesh::Purpose;
use litefs_py::raft::links::{LinkError, Links, Receiver, Sender, Stream};
use tokio::sync::{mpsc, oneshot};

use crate::os::Chance;
use crate::os::threads::{NODES, machine};

/// A stream whose direction is cut for so long is broken.
const BROKEN_AFTER: u64 = 1_500_000_000;
/// How long the opening of a stream may take.
const OPENS: Duration = Duration::from_millis(600);

/// A node, and which of its lives.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Life {
    pub node: usize,
    pub life: u64,
}

pub enum Event {
    Request {
        from: Life,
        to: usize,
        method: u8,
        request: Bytes,
        call: u64,
    },
    Answer {
        to: Life,
        from: usize,
        call: u64,
        answer: Result<Bytes, LinkError>,
    },
    Open {
        from: Life,
        to: usize,
        purpose: Purpose,
        stream: u64,
    },
    Frames {
        stream: u64,
        there: bool,
    },
    /// Of the run: a fault, a check, an end.
    Run(u64),
}

type Frame = Result<Option<Bytes>, LinkError>;

/// One direction of a stream.
struct Direction {
    to: Life,
    frames: VecDeque<(u64, Option<Bytes>)>,
    last: u64,
    held: Option<u64>,
    receiver: Option<mpsc::UnboundedSender<Frame>>,
}

struct Open {
    there: Direction,
    back: Direction,
    /// It broke, which its ends do not know yet.
    broken: bool,
    /// Told when the other side has taken it.
    opened: Option<oneshot::Sender<Result<(), LinkError>>>,
}

#[derive(Default, Clone)]
pub struct NetCounts {
    pub lost: u64,
    pub late: u64,
    pub doubled: u64,
    pub broken: u64,
    pub cut: u64,
    pub messages: u64,
}

#[derive(Default)]
pub struct Inner {
    events: BTreeMap<(u64, u64), Event>,
    sequence: u64,
    calls: BTreeMap<u64, oneshot::Sender<Result<Bytes, LinkError>>>,
    streams: BTreeMap<u64, Open>,
    numbers: u64,
    /// From, to.
    cuts: [[bool; NODES]; NODES],
    /// One in so many, or 0.
    pub loses: u64,
    pub doubles: u64,
    pub delays: u64,
    /// The longest of an ordinary delay, in nanoseconds.
    pub usual: u64,
    pub counts: NetCounts,
}

/// The network; handles are the same one.
#[derive(Clone, Default)]
pub struct Net(Arc<Mutex<Inner>>);

fn chance() -> &'static mut Chance {
    &mut machine().chance
}

impl Inner {
    fn number(&mut self) -> u64 {
        self.numbers += 1;
        self.numbers
    }

    fn push(&mut self, at: u64, event: Event) {
        self.sequence += 1;
        self.events.insert((at, self.sequence), event);
        machine().world_wakes_by(at);
    }

    fn arrival(&mut self) -> u64 {
        let chance = chance();
        let late = self.delays > 0 && chance.one_in(self.delays);
        self.counts.late += u64::from(late);
        self.counts.messages += 1;
        let most = if late { 150_000_000 } else { self.usual.max(1) };
        machine().now + 50_000 + chance.below(most)
    }

    fn is_lost(&mut self) -> bool {
        let lost = self.loses > 0 && chance().one_in(self.loses);
        self.counts.lost += u64::from(lost);
        lost
    }

    fn is_cut(&self, from: usize, to: usize) -> bool {
        self.cuts[from][to]
    }
}

impl Net {
    /// To be held for a moment only, and while nobody is woken.
    pub fn inner(&self) -> MutexGuard<'_, Inner> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub fn at(&self, time: u64, event: Event) {
        self.inner().push(time, event);
    }

    pub fn cut(&self, from: usize, to: usize, is: bool) {
        self.inner().cuts[from][to] = is;
    }

    pub fn heal(&self) {
        self.inner().cuts = Default::default();
    }

    pub fn is_cut(&self, from: usize, to: usize) -> bool {
        self.inner().is_cut(from, to)
    }

    /// What is due now, or else when the next is.
    pub fn due(&self) -> Result<Event, Option<u64>> {
        let mut inner = self.inner();
        match inner.events.first_key_value() {
            Some((&(time, sequence), _)) if time <= machine().now => {
                inner.events.remove(&(time, sequence)).ok_or(None)
            }
            Some((&(time, _), _)) => Err(Some(time)),
            None => Err(None),
        }
    }

    /// The answer to a call, on its way back.
    pub fn answers(&self, from: usize, to: Life, call: u64, answer: Result<Bytes, LinkError>) {
        let mut inner = self.inner();
        if inner.is_lost() || inner.is_cut(from, to.node) {
            return;
        }
        let at = inner.arrival();
        inner.push(at, Event::Answer { to, from, call, answer });
    }

    /// Whose answer it is; the caller, the world, sends it.
    pub fn caller(&self, call: u64) -> Option<oneshot::Sender<Result<Bytes, LinkError>>> {
        self.inner().calls.remove(&call)
    }

    /// The other side's half of a stream, and whoever waits for its opening.
    #[allow(clippy::type_complexity)]
    pub fn accepts(
        &self,
        stream: u64,
        to: Life,
    ) -> Option<(Stream, oneshot::Sender<Result<(), LinkError>>)> {
        let mut inner = self.inner();
        let open = inner.streams.get_mut(&stream)?;
        let (sender, frames) = mpsc::unbounded_channel();
        open.there.to = to;
        open.there.receiver = Some(sender);
        let opened = open.opened.take()?;
        let other = Stream {
            sender: Box::new(Half { net: self.clone(), stream, there: false }),
            receiver: Box::new(Frames(frames)),
        };
        Some((other, opened))
    }

    pub fn refuses(&self, stream: u64) -> Option<oneshot::Sender<Result<(), LinkError>>> {
        self.inner().streams.get_mut(&stream)?.opened.take()
    }

    /// What a stream has for its receiver now. The caller, the world, sends it.
    pub fn frames(&self, stream: u64, there: bool) -> Vec<(mpsc::UnboundedSender<Frame>, Frame)> {
        let mut inner = self.inner();
        let now = machine().now;
        let mut out = Vec::new();
        let Some(open) = inner.streams.get(&stream) else { return out };
        if open.broken {
            drop(inner);
            return self.breaks(stream);
        }
        let (from, to) = if there {
            (open.back.to.node, open.there.to.node)
        } else {
            (open.there.to.node, open.back.to.node)
        };
        let cut = inner.is_cut(from, to);
        let Some(open) = inner.streams.get_mut(&stream) else { return out };
        let direction = if there { &mut open.there } else { &mut open.back };
        if cut {
            let since = *direction.held.get_or_insert(now);
            if now - since > BROKEN_AFTER {
                drop(inner);
                return self.breaks(stream);
            }
            inner.push(now + 10_000_000, Event::Frames { stream, there });
            return out;
        }
        direction.held = None;
        while let Some((at, _)) = direction.frames.front()
            && *at <= now
        {
            let Some((_, frame)) = direction.frames.pop_front() else { break };
            if let Some(receiver) = &direction.receiver {
                out.push((receiver.clone(), Ok(frame)));
            }
        }
        if let Some((at, _)) = direction.frames.front() {
            let at = *at;
            inner.push(at, Event::Frames { stream, there });
        }
        out
    }

    /// Which nodes are at its ends.
    pub fn ends(&self, stream: u64) -> Option<(usize, usize)> {
        let inner = self.inner();
        let open = inner.streams.get(&stream)?;
        Some((open.there.to.node, open.back.to.node))
    }

    /// Both ends see it break.
    pub fn breaks(&self, stream: u64) -> Vec<(mpsc::UnboundedSender<Frame>, Frame)> {
        let mut inner = self.inner();
        let Some(open) = inner.streams.remove(&stream) else { return Vec::new() };
        inner.counts.broken += 1;
        let broken = || Err(LinkError::new("the stream broke"));
        let ends = [open.there, open.back].into_iter().filter_map(|end| end.receiver);
        ends.map(|receiver| (receiver, broken())).collect()
    }

    /// All streams and calls of a node that is no more. What only its own memory knows is forgotten,
    /// what others wait for breaks.
    pub fn gone(&self, node: usize) -> Vec<(mpsc::UnboundedSender<Frame>, Frame)> {
        let mut inner = self.inner();
        let streams: Vec<u64> = inner
            .streams
            .iter()
            .filter(|(_, open)| open.there.to.node == node || open.back.to.node == node)
            .map(|(stream, _)| *stream)
            .collect();
        let mut out = Vec::new();
        for stream in streams {
            let Some(open) = inner.streams.remove(&stream) else { continue };
            for end in [open.there, open.back] {
                match end.receiver {
                    Some(receiver) if end.to.node == node => std::mem::forget(receiver),
                    Some(receiver) => {
                        out.push((receiver, Err(LinkError::new("the other end is gone"))));
                    }
                    None => {}
                }
            }
            std::mem::forget(open.opened);
        }
        out
    }
}

/// One node's way into it.
pub struct NetLinks {
    pub net: Net,
    pub me: Life,
}

impl Links for NetLinks {
    fn call(
        &self,
        to: u64,
        method: u8,
        request: Bytes,
        timeout: Duration,
    ) -> BoxFuture<'_, Result<Bytes, LinkError>> {
        let to = to as usize;
        let (sender, receiver) = oneshot::channel();
        let call = {
            let mut inner = self.net.inner();
            let call = inner.number();
            inner.calls.insert(call, sender);
            let doubled = inner.doubles > 0 && chance().one_in(inner.doubles);
            inner.counts.doubled += u64::from(doubled);
            for _ in 0..=u8::from(doubled) {
                if inner.is_lost() {
                    continue;
                }
                let at = inner.arrival();
                let (from, request) = (self.me, request.clone());
                inner.push(at, Event::Request { from, to, method, request, call });
            }
            call
        };
        Box::pin(async move {
            let answer = tokio::time::timeout(timeout, receiver).await;
            self.net.inner().calls.remove(&call);
            match answer {
                Ok(Ok(answer)) => answer,
                Ok(Err(_)) => Err(LinkError::new("the call was forgotten")),
                Err(_) => Err(LinkError::new("no answer in time")),
            }
        })
    }

    fn stream(&self, to: u64, purpose: Purpose) -> BoxFuture<'_, Result<Stream, LinkError>> {
        let to = to as usize;
        Box::pin(async move {
            let (opened, opens) = oneshot::channel();
            let (sender, frames) = mpsc::unbounded_channel();
            let direction = |to: Life, receiver| Direction {
                to,
                frames: VecDeque::new(),
                last: 0,
                held: None,
                receiver,
            };
            let stream = {
                let mut inner = self.net.inner();
                let stream = inner.number();
                let there = direction(Life { node: to, life: 0 }, None);
                let back = direction(self.me, Some(sender));
                inner
                    .streams
                    .insert(stream, Open { there, back, broken: false, opened: Some(opened) });
                let at = inner.arrival();
                inner.push(at, Event::Open { from: self.me, to, purpose, stream });
                stream
            };
            match tokio::time::timeout(OPENS, opens).await {
                Ok(Ok(Ok(()))) => Ok(Stream {
                    sender: Box::new(Half { net: self.net.clone(), stream, there: true }),
                    receiver: Box::new(Frames(frames)),
                }),
                Ok(Ok(Err(error))) => Err(error),
                _ => {
                    self.net.forget(stream);
                    Err(LinkError { why: "cannot connect".into(), unreachable: true })
                }
            }
        })
    }
}

impl Net {
    /// Its opener gave up.
    fn forget(&self, stream: u64) {
        let open = self.inner().streams.remove(&stream);
        if let Some(Open { there, back, opened, .. }) = open {
            // The other side's, if any, is not this thread's to touch.
            std::mem::forget(there);
            drop((back, opened));
        }
    }
}

/// The end of a stream that one side sends by. `there`: from the one who opened it.
struct Half {
    net: Net,
    stream: u64,
    there: bool,
}

impl Half {
    fn put(&self, frame: Option<Bytes>) -> Result<(), LinkError> {
        let mut inner = self.net.inner();
        let breaks = inner.loses > 0 && chance().one_in(inner.loses * 4);
        let arrival = inner.arrival();
        let (stream, there) = (self.stream, self.there);
        let Some(open) = inner.streams.get_mut(&stream) else {
            return Err(LinkError::new("the stream is broken"));
        };
        let direction = if there { &mut open.there } else { &mut open.back };
        if breaks {
            // The world tells both ends.
            open.broken = true;
            inner.push(arrival, Event::Frames { stream, there });
            return Err(LinkError::new("the stream broke"));
        }
        // In order: never before the one before.
        direction.last = direction.last.max(arrival);
        let at = direction.last;
        let first = direction.frames.is_empty();
        direction.frames.push_back((at, frame));
        if first {
            inner.push(at, Event::Frames { stream, there });
        }
        Ok(())
    }
}

impl Sender for Half {
    fn send(&mut self, frame: Bytes) -> BoxFuture<'_, Result<(), LinkError>> {
        let sent = self.put(Some(frame));
        Box::pin(async move { sent })
    }

    fn close(self: Box<Self>) -> BoxFuture<'static, Result<(), LinkError>> {
        let closed = self.put(None);
        Box::pin(async move { closed })
    }
}

impl Drop for Half {
    fn drop(&mut self) {
        // The other side sees the end, in order, if it was not broken.
        let _ended = self.put(None);
    }
}

struct Frames(mpsc::UnboundedReceiver<Frame>);

impl Receiver for Frames {
    fn receive(&mut self) -> BoxFuture<'_, Result<Option<Bytes>, LinkError>> {
        Box::pin(async move { self.0.recv().await.unwrap_or(Ok(None)) })
    }
}
