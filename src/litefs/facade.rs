//! Consul, as far as LiteFS knows it: on loopback, for the one LiteFS of this node.
//!
//! bounded-answer, one-primary: LiteFS's calls have no time limit of their own, and a call that hangs leaves
//! a primary writable for ever. So every call is answered within an eighth of the lease's time to live,
//! whatever Raft does: a lease that is not certainly given is not given, a session that was not confirmed for
//! too long is over.
//!
//! no-open-door: the token is drawn anew at each start, and only LiteFS's configuration has it.

use std::convert::Infallible;
use std::net::Ipv4Addr;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http_body_util::{BodyExt, Full, Limited};
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper::{Request, Response, StatusCode};
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::net::TcpListener;
use tokio::task::JoinSet;
use tokio::time::{Instant, timeout};

use super::consul::{Ask, Reply, primary, read};
use super::engine::Litefs;
use super::timing;
use crate::cluster::{End, LeaseChange};
use crate::core::clock::unix_ms;
use crate::core::hex;

/// The largest body that is read: LiteFS's are of a few hundred bytes.
const BODY_MAX: usize = 16 << 10;
/// In which a request's head must have arrived.
const HEAD_TIME: Duration = Duration::from_secs(30);
/// Connections at once.
const CONNECTIONS: usize = 64;

/// The open port.
pub struct Facade {
    listener: TcpListener,
    token: String,
}

impl Facade {
    /// Opens a port of its own.
    ///
    /// # Errors
    /// There is none.
    pub async fn open() -> std::io::Result<Self> {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await?;
        Ok(Self { listener, token: hex(&rand::random::<[u8; 16]>()) })
    }

    /// As LiteFS is to be told of it.
    ///
    /// # Errors
    /// The port has no address.
    pub fn url(&self) -> std::io::Result<String> {
        let port = self.listener.local_addr()?.port();
        Ok(format!("http://litefs:{}@127.0.0.1:{port}", self.token))
    }

    /// Answers, until it is dropped.
    pub async fn serve(self, litefs: Arc<Litefs>) {
        let token: Arc<str> = self.token.into();
        let mut connections = JoinSet::new();
        loop {
            while connections.try_join_next().is_some() {}
            let stream = match self.listener.accept().await {
                Ok((stream, _)) if connections.len() < CONNECTIONS => stream,
                Ok(_) => continue,
                Err(error) => {
                    tracing::warn!(%error, "cannot accept a connection of LiteFS");
                    tokio::time::sleep(Duration::from_millis(50)).await;
                    continue;
                }
            };
            let (litefs, token) = (Arc::clone(&litefs), Arc::clone(&token));
            let service = service_fn(move |request| {
                let (litefs, token) = (Arc::clone(&litefs), Arc::clone(&token));
                async move { Ok::<_, Infallible>(litefs.respond(request, &token).await) }
            });
            connections.spawn(async move {
                let served = hyper::server::conn::http1::Builder::new()
                    .timer(TokioTimer::new())
                    .header_read_timeout(HEAD_TIME)
                    .serve_connection(TokioIo::new(stream), service)
                    .await;
                if let Err(error) = served {
                    tracing::debug!(%error, "a connection of LiteFS to the facade ended");
                }
            });
        }
    }
}

impl Litefs {
    async fn respond(
        self: Arc<Self>,
        request: Request<Incoming>,
        token: &str,
    ) -> Response<Full<Bytes>> {
        let within = timing::answer(self.settings.ttl);
        let (head, body) = request.into_parts();
        let has_token = head.headers.get("X-Consul-Token").is_some_and(|given| given == token);
        let query = head.uri.query().unwrap_or_default().to_owned();
        let (method, path) = (head.method.as_str().to_owned(), head.uri.path().to_owned());
        let answered = async {
            if !has_token {
                return Reply::Forbidden;
            }
            let Ok(body) = Limited::new(body, BODY_MAX).collect().await else {
                return Reply::Unavailable("the request did not arrive".to_owned());
            };
            let ask = read(&method, &path, &query, &body.to_bytes());
            tracing::trace!(?ask, "LiteFS asks");
            let asked = ask.clone();
            // Something is left for the answer itself.
            let decided = timeout(within * 9 / 10, self.decide(ask, within * 8 / 10)).await;
            decided.unwrap_or_else(|_| self.late(&asked))
        };
        let unavailable = |_| Reply::Unavailable("not within the time".to_owned());
        let reply = timeout(within, answered).await.unwrap_or_else(unavailable);
        tracing::trace!(?reply, method, path, "LiteFS is answered");
        let (code, body) = reply.write();
        let mut response = Response::new(Full::new(Bytes::from(body)));
        *response.status_mut() = StatusCode::from_u16(code).unwrap_or_default();
        response
    }

    async fn decide(self: &Arc<Self>, ask: Ask, within: Duration) -> Reply {
        match ask {
            Ask::Register => Reply::Done,
            Ask::ClusterId => {
                Reply::Value(self.raft.state().lease().cluster_id().map(str::to_owned))
            }
            Ask::SetClusterId(cluster_id) => {
                match self.propose(LeaseChange::Identify { cluster_id }, within).await {
                    Ok(Ok(())) => Reply::Done,
                    Ok(Err(refused)) => Reply::Unavailable(refused.to_string()),
                    Err(why) => Reply::Unavailable(why),
                }
            }
            Ask::Primary => self.who_is_primary().await,
            // Nobody but this node needs to know of a session before it holds something.
            Ask::CreateSession => Reply::Session(hex(&rand::random::<[u8; 16]>())),
            Ask::Acquire { session } => self.acquire(session, within).await,
            Ask::Renew { session } => self.may_go_on(&session, within).await,
            Ask::Release { session } => self.release(session, within).await,
            Ask::Destroy { session } => {
                self.release(session, within).await;
                Reply::Done
            }
            Ask::Unknown => Reply::NotFound,
        }
    }

    /// nothing-discarded: nobody, as long as the databases were not compared with the primary's.
    async fn who_is_primary(&self) -> Reply {
        let state = self.raft.state();
        let open = *self.gate.borrow();
        let holder = state.lease().holder().filter(|holder| holder.node != self.me);
        let Some(holder) = holder.filter(|holder| open == Some(holder.tenure)) else {
            return Reply::Value(None);
        };
        match self.tunnels.port(holder.node).await {
            Ok(port) => Reply::Value(Some(primary(&self.name_of(holder.node), port))),
            Err(error) => Reply::Unavailable(error.to_string()),
        }
    }

    /// one-primary: `true` only if the log says so.
    async fn acquire(&self, session: String, within: Duration) -> Reply {
        let state = self.raft.state();
        let lease = state.lease();
        // Its own again, and the same again: it changes nothing, and need not be in the log.
        let holds =
            |holder: &crate::cluster::Holder| holder.node == self.me && holder.session == session;
        let over = self.holding.lock().is_over(&session) && lease.holder().is_some_and(holds);
        if over || !lease.is_free_for(self.me, &session) || self.stopping() {
            return Reply::Granted(false);
        }
        if lease.holder().is_some_and(holds) {
            return Reply::Granted(true);
        }
        let (tried, asked) = (session.clone(), Instant::now());
        self.tried.lock().insert(tried.clone());
        let ttl_ms = u64::try_from(self.settings.ttl.as_millis()).unwrap_or(u64::MAX);
        let (node, now_ms) = (self.me, unix_ms());
        let change = LeaseChange::Acquire { node, session, ttl_ms, now_ms };
        match self.propose(change, within).await {
            Ok(Ok(())) => {
                self.holding.lock().grant(&tried, asked);
                Reply::Granted(true)
            }
            Ok(Err(_)) => {
                self.tried.lock().remove(&tried);
                Reply::Granted(false)
            }
            Err(why) => {
                tracing::debug!(
                    why,
                    "it is not known whether LiteFS has the lease: it is told that not"
                );
                Reply::Granted(false)
            }
        }
    }

    /// Gives back what the session holds, or may hold.
    async fn release(&self, session: String, within: Duration) -> Reply {
        // It was primary, or wanted to be; it says so before anybody has looked again.
        self.seen.send_if_modified(|seen| std::mem::take(&mut seen.primary));
        let tried = self.tried.lock().contains(&session);
        let state = self.raft.state();
        let holder = state.lease().holder().filter(|holder| holder.session == session);
        // Handed over, it is another node's.
        let others = holder.is_some_and(|holder| holder.node != self.me);
        if others || (!tried && holder.is_none()) {
            return Reply::Granted(false);
        }
        let (node, now_ms) = (self.me, unix_ms());
        let change =
            LeaseChange::End { node, session: session.clone(), end: End::Released, now_ms };
        let done = self.propose(change, within).await;
        if done.is_ok() {
            self.tried.lock().remove(&session);
        }
        Reply::Granted(matches!(done, Ok(Ok(()))))
    }

    /// What is answered when it took too long: the safe answer.
    fn late(&self, ask: &Ask) -> Reply {
        match ask {
            Ask::Acquire { .. } | Ask::Release { .. } => Reply::Granted(false),
            Ask::Renew { session } => self.end_holding(session),
            _ => Reply::Unavailable("not within the time".to_owned()),
        }
    }
}
