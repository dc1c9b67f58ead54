//! A network that loses, delays and reorders, and that can be cut.
//!
//! The fault model: a call may be lost on the way there or back, and two calls may overtake each
//! other. A stream is TCP's: in order, whole, and broken at any moment. A cut stops everything
//! between two nodes until it heals.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, Weak};
use std::time::Duration;

use bytes::Bytes;
use futures::future::BoxFuture;
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};
use tokio::sync::mpsc;
use tokio::time::{Instant, sleep, sleep_until};

use super::super::links::{LinkError, Links, Receiver, Sender, Stream};
use super::super::serve::Services;
use crate::mesh::Purpose;

pub struct Net {
    nodes: Mutex<BTreeMap<u64, Weak<Services>>>,
    cuts: Mutex<BTreeSet<(u64, u64)>>,
    rng: Mutex<StdRng>,
    /// Of calls that are lost, and of frames at which a stream breaks; in percent.
    pub loss: Mutex<f64>,
}

impl Net {
    pub fn new(seed: u64) -> Arc<Self> {
        Arc::new(Self {
            nodes: Mutex::default(),
            cuts: Mutex::default(),
            rng: Mutex::new(StdRng::seed_from_u64(seed)),
            loss: Mutex::new(0.0),
        })
    }

    pub fn join(&self, id: u64, services: &Arc<Services>) {
        self.nodes.lock().unwrap().insert(id, Arc::downgrade(services));
    }

    pub fn leave(&self, id: u64) {
        self.nodes.lock().unwrap().remove(&id);
    }

    /// Between these and all others nothing passes.
    pub fn cut(&self, side: &[u64], all: &[u64]) {
        let mut cuts = self.cuts.lock().unwrap();
        cuts.clear();
        for a in side {
            for b in all.iter().filter(|b| !side.contains(b)) {
                cuts.extend([(*a, *b), (*b, *a)]);
            }
        }
    }

    fn is_cut(&self, from: u64, to: u64) -> bool {
        self.cuts.lock().unwrap().contains(&(from, to))
    }

    fn lost(&self) -> bool {
        let loss = *self.loss.lock().unwrap() / 100.0;
        self.rng.lock().unwrap().random_bool(loss)
    }

    fn delay(&self) -> Duration {
        let mut rng = self.rng.lock().unwrap();
        // Mostly quick, sometimes late.
        let most = if rng.random_bool(0.05) { 30_000 } else { 2_000 };
        Duration::from_micros(rng.random_range(0..most))
    }

    fn node(&self, id: u64) -> Option<Arc<Services>> {
        self.nodes.lock().unwrap().get(&id)?.upgrade()
    }
}

/// One node's way into it.
pub struct NetLinks {
    pub net: Arc<Net>,
    pub id: u64,
}

fn gone() -> LinkError {
    LinkError { why: "nobody is there".into(), unreachable: true }
}

impl Links for NetLinks {
    fn call(
        &self,
        to: u64,
        method: u8,
        request: Bytes,
        timeout: Duration,
    ) -> BoxFuture<'_, Result<Bytes, LinkError>> {
        Box::pin(async move {
            let deadline = Instant::now() + timeout;
            let there_and_back = async {
                for lost in [self.net.lost(), self.net.is_cut(self.id, to)] {
                    if lost {
                        std::future::pending::<()>().await;
                    }
                }
                sleep(self.net.delay()).await;
                let services = self.net.node(to).ok_or_else(gone)?;
                // It is carried out, whether the caller still waits or not.
                let from = self.id;
                let answer =
                    tokio::spawn(async move { services.answer(from, method, &request).await });
                let answer = answer.await.map_err(|error| LinkError::new(error.to_string()))?;
                if self.net.lost() || self.net.is_cut(to, self.id) {
                    std::future::pending::<()>().await;
                }
                sleep(self.net.delay()).await;
                answer.map_err(LinkError::new)
            };
            tokio::select! {
                answer = there_and_back => answer,
                () = sleep_until(deadline) => Err(LinkError::new("no answer in time")),
            }
        })
    }

    fn stream(&self, to: u64, purpose: Purpose) -> BoxFuture<'_, Result<Stream, LinkError>> {
        Box::pin(async move {
            if self.net.is_cut(self.id, to) {
                sleep(Duration::from_millis(50)).await;
                return Err(gone());
            }
            let services = self.net.node(to).ok_or_else(gone)?;
            let (there, here) = (pipe(&self.net, self.id, to), pipe(&self.net, to, self.id));
            let other = Stream { sender: here.0, receiver: there.1 };
            let from = self.id;
            tokio::spawn(async move {
                match purpose {
                    Purpose::Raft => services.appends(from, other).await,
                    _ => services.bulk(from, other).await,
                }
            });
            Ok(Stream { sender: there.0, receiver: here.1 })
        })
    }
}

/// A frame and when it arrives.
type Frames = (Instant, Bytes);

struct PipeSender {
    net: Arc<Net>,
    ends: (u64, u64),
    frames: mpsc::UnboundedSender<Frames>,
    last: Instant,
}

struct PipeReceiver {
    net: Arc<Net>,
    ends: (u64, u64),
    frames: mpsc::UnboundedReceiver<Frames>,
    next: Option<Frames>,
}

fn pipe(net: &Arc<Net>, from: u64, to: u64) -> (Box<dyn Sender>, Box<dyn Receiver>) {
    let (sender, frames) = mpsc::unbounded_channel();
    let ends = (from, to);
    let sender = PipeSender { net: Arc::clone(net), ends, frames: sender, last: Instant::now() };
    let receiver = PipeReceiver { net: Arc::clone(net), ends, frames, next: None };
    (Box::new(sender), Box::new(receiver))
}

impl Sender for PipeSender {
    fn send(&mut self, frame: Bytes) -> BoxFuture<'_, Result<(), LinkError>> {
        Box::pin(async move {
            if self.net.lost() || self.net.is_cut(self.ends.0, self.ends.1) {
                // The other end sees it break.
                self.frames = mpsc::unbounded_channel().0;
                return Err(LinkError::new("the stream broke"));
            }
            // In order: never before the one before.
            self.last = self.last.max(Instant::now() + self.net.delay());
            let sent = self.frames.send((self.last, frame));
            sent.map_err(|_| LinkError::new("the other end is gone"))
        })
    }

    fn close(self: Box<Self>) -> BoxFuture<'static, Result<(), LinkError>> {
        Box::pin(async { Ok(()) })
    }
}

impl Receiver for PipeReceiver {
    fn receive(&mut self) -> BoxFuture<'_, Result<Option<Bytes>, LinkError>> {
        Box::pin(async move {
            if self.next.is_none() {
                self.next = self.frames.recv().await;
            }
            let Some((at, _)) = &self.next else { return Ok(None) };
            sleep_until(*at).await;
            if self.net.is_cut(self.ends.0, self.ends.1) {
                return Err(LinkError::new("the stream was cut"));
            }
            Ok(self.next.take().map(|(_, frame)| frame))
        })
    }
}
