//! What the other nodes ask of this one.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::{Duration, SystemTime};

use bytes::Bytes;
use futures::future::BoxFuture;
use openraft::raft::TransferLeaderRequest;
use serde::Serialize;
use serde::de::DeserializeOwned;

use super::database_stream;
use super::joining::Joining;
use super::links::{LinkError, Links, Stream};
use super::log::Log;
use super::network::method;
use super::pages::{self, DatabaseTransfers, Turns};
use super::read_index::ask_here;
use super::replica::Replica;
use super::snapshot::Spool;
use super::snapshot_pages;
use super::snapshot_stream::{self, Request};
use super::staged::{StagedFiles, StagedName};
use super::types::{Raft, log_id};
use super::wire::{
    WireAppend, WireAppended, WireEntry, WirePayload, WireTransfer, WireTransferred, WireVote,
    WireVoteRequest, WireVoteResponse, decode, encode,
};
use crate::core::NodeId;
use crate::mesh::{Connection, Purpose, Quiet, RpcHandler, StreamHandler};

/// How long a read index may take at the leader.
const READ_INDEX: Duration = Duration::from_secs(2);

/// A node that is away breaks its transfers off, and one that is broken may do so all the time.
static TRANSFERS: Quiet = Quiet::new();

/// What the answers are made of.
pub(super) struct Services {
    /// Set once, when openraft runs; until then callers are told to come again.
    pub raft: OnceLock<Raft>,
    pub links: Arc<dyn Links>,
    pub staged: Arc<dyn StagedFiles>,
    pub replica: Arc<dyn Replica>,
    pub joining: Arc<Joining>,
    pub log: Log,
    pub transfers: Arc<DatabaseTransfers>,
    pub receiving: Receiving,
}

/// For what is being received.
pub(super) struct Receiving {
    pub folder: PathBuf,
    spools: AtomicU64,
    pub turns: Turns,
}

impl Receiving {
    pub fn new(folder: &Path) -> Self {
        Self { folder: folder.to_owned(), spools: AtomicU64::new(0), turns: Turns::default() }
    }

    /// At a start: what an earlier life of the process left, and cannot be used any more.
    pub fn clean(folder: &Path, now: SystemTime) -> io::Result<()> {
        Spool::clean(folder)?;
        pages::clean(folder, now)
    }
}

impl Services {
    pub fn raft(&self) -> Result<&Raft, LinkError> {
        self.raft.get().ok_or_else(|| LinkError::new("this node is still starting"))
    }

    /// The staged files that entries name and that are not here.
    pub fn missing_staged(&self, append: &WireAppend) -> Vec<StagedName> {
        let commands = append.entries.iter().filter_map(|entry: &WireEntry| match &entry.payload {
            WirePayload::Command(command) => StagedName::of(command),
            _ => None,
        });
        commands.filter(|name| !self.staged.has(name.sha256, name.len)).collect()
    }

    pub async fn fetch_staged(
        self: &Arc<Self>,
        from: u64,
        names: Vec<StagedName>,
    ) -> Result<(), LinkError> {
        for name in names {
            snapshot_stream::fetch_staged(&*self.links, from, name, &self.staged).await?;
        }
        Ok(())
    }

    /// A number for a new folder to receive into.
    pub fn spool(&self) -> io::Result<Spool> {
        let number = self.receiving.spools.fetch_add(1, Ordering::Relaxed);
        Spool::new(&self.receiving.folder, number)
    }

    /// Answers a call.
    pub async fn answer(&self, from: u64, method: u8, request: &[u8]) -> Result<Bytes, String> {
        let raft = self.raft().map_err(text)?;
        match method {
            method::APPEND => {
                let append: WireAppend = read("an append", request)?;
                check_sender(from, append.vote).map_err(text)?;
                self.joining.may_append(append.vote.term).map_err(text)?;
                if !append.entries.is_empty() {
                    return Err("entries come over a stream".into());
                }
                let request = append.request().map_err(text)?;
                let response = raft.append_entries(request).await.map_err(text)?;
                Ok(write(&WireAppended::of(&response)))
            }
            method::VOTE => {
                let request: WireVoteRequest = read("a vote", request)?;
                check_sender(from, request.vote).map_err(text)?;
                self.joining.may_vote().map_err(text)?;
                let response = raft.vote(request.request()).await.map_err(text)?;
                Ok(write(&WireVoteResponse::of(&response)))
            }
            method::PRE_VOTE => {
                let request: WireVoteRequest = read("a pre-vote", request)?;
                check_sender(from, request.vote).map_err(text)?;
                self.joining.may_vote().map_err(text)?;
                let response = raft.pre_vote(request.request()).await.map_err(text)?;
                Ok(write(&WireVoteResponse::of(&response)))
            }
            method::TRANSFER => {
                let request: WireTransfer = read("a transfer", request)?;
                check_sender(from, request.from).map_err(text)?;
                self.joining.may_vote().map_err(text)?;
                let request = TransferLeaderRequest::new(
                    request.from.vote(),
                    request.to,
                    request.last.map(log_id),
                );
                let response = raft.handle_transfer_leader(request).await.map_err(text)?;
                Ok(write(&WireTransferred::of(&response)))
            }
            method::READ_INDEX => {
                let asked = tokio::time::timeout(READ_INDEX, ask_here(raft)).await;
                let index = asked.map_err(|_| "no quorum answered".to_owned())?;
                Ok(write(&index.map_err(text)?))
            }
            method::STANDING => {
                // Who asks has no log. If it had one, a leader still counts what it acknowledged then:
                // that is over, and everything is sent anew. Nobody else has anything to take back.
                let _ = raft.trigger().allow_next_revert(&from, true).await;
                Ok(write(&self.joining.standing(&self.log)))
            }
            _ => Err(format!("there is no method {method}")),
        }
    }

    /// Serves a stream of appends.
    pub async fn appends(self: &Arc<Self>, from: u64, stream: Stream) {
        if let Err(error) = super::append_stream::serve(self, from, stream).await {
            tracing::debug!(from, %error, "a stream of appends ended");
        }
    }

    /// Serves a stream of something large.
    pub async fn bulk(self: &Arc<Self>, from: u64, stream: Stream) {
        if let Err(error) = self.serve_bulk(from, stream).await
            && let Some(others) = TRANSFERS.may_log()
        {
            tracing::warn!(from, %error, others, "a transfer ended");
        }
    }

    async fn serve_bulk(self: &Arc<Self>, from: u64, mut stream: Stream) -> Result<(), LinkError> {
        match snapshot_stream::request(&mut stream).await? {
            Request::Snapshot { vote, meta } => {
                check_sender(from, vote)?;
                self.joining.may_append(vote.term)?;
                snapshot_stream::receive_snapshot(self, vote, &meta, stream).await
            }
            Request::Staged { sha256, len } => {
                snapshot_stream::send_staged(&self.staged, StagedName { sha256, len }, stream).await
            }
            Request::Database(wanted) => database_stream::send(&self.replica, wanted, stream).await,
            Request::SnapshotPages { vote, meta } => {
                check_sender(from, vote)?;
                self.joining.may_append(vote.term)?;
                snapshot_pages::receive_snapshot(self, from, vote, &meta, stream).await
            }
            Request::DatabasePages(wanted) => {
                database_stream::send_pages(self, from, wanted, stream).await
            }
        }
    }
}

/// A member speaks for itself alone.
pub(super) fn check_sender(from: u64, vote: WireVote) -> Result<(), LinkError> {
    if vote.node == from {
        return Ok(());
    }
    Err(LinkError::new(format!("node {from} speaks in the name of node {}", vote.node)))
}

fn text(error: impl std::fmt::Display) -> String {
    error.to_string()
}

fn read<T: DeserializeOwned>(what: &'static str, bytes: &[u8]) -> Result<T, String> {
    decode(what, bytes).map_err(text)
}

fn write<T: Serialize>(answer: &T) -> Bytes {
    encode(answer)
}

/// This room's parts of the mesh's handlers. Calls of method numbers from 64 on are not this
/// room's.
#[derive(Clone)]
pub struct RaftHandlers {
    pub(super) services: Arc<Services>,
}

impl RaftHandlers {
    /// Method numbers below belong to this room.
    pub const METHODS: u8 = 64;

    /// Serves a stream that another node opened, over whatever network, until it ends.
    pub async fn serve(&self, from: NodeId, purpose: Purpose, stream: Stream) {
        match purpose {
            Purpose::Raft => self.services.appends(from.0, stream).await,
            Purpose::Bulk | Purpose::Rpc | Purpose::Litefs => {
                self.services.bulk(from.0, stream).await;
            }
        }
    }

    /// Takes the streams of [`crate::mesh::Purpose::Raft`].
    pub fn raft(&self) -> Arc<dyn StreamHandler> {
        Arc::new(AppendStreams(Arc::clone(&self.services)))
    }

    /// Takes the streams of [`crate::mesh::Purpose::Bulk`].
    pub fn bulk(&self) -> Arc<dyn StreamHandler> {
        Arc::new(BulkStreams(Arc::clone(&self.services)))
    }
}

impl RpcHandler for RaftHandlers {
    fn call(
        &self,
        from: NodeId,
        method: u8,
        request: Bytes,
    ) -> BoxFuture<'_, Result<Bytes, String>> {
        Box::pin(async move { self.services.answer(from.0, method, &request).await })
    }
}

struct AppendStreams(Arc<Services>);

impl StreamHandler for AppendStreams {
    fn accept(&self, from: NodeId, connection: Connection) -> BoxFuture<'_, ()> {
        Box::pin(async move { self.0.appends(from.0, connection.into()).await })
    }
}

struct BulkStreams(Arc<Services>);

impl StreamHandler for BulkStreams {
    fn accept(&self, from: NodeId, connection: Connection) -> BoxFuture<'_, ()> {
        Box::pin(async move { self.0.bulk(from.0, connection.into()).await })
    }
}
