//! Raft's messages to the other nodes, as openraft asks for them.
//!
//! Entries go over one `raft` stream a node, several appends in flight ([`super::append_stream`]);
//! heartbeats, votes and the rest are calls, so that they never wait behind entries; snapshots
//! and staged files have streams of their own.

use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures::future::BoxFuture;
use futures::stream::BoxStream;
use openraft::OptionalSend;
use openraft::errors::{NetworkError, RPCError, ReplicationClosed, StreamingError, Unreachable};
use openraft::network::{
    Backoff, RPCOption, RaftNetworkFactory, RaftNetworkV2, stream_append_sequential,
};
use openraft::raft::{
    AppendEntriesRequest, AppendEntriesResponse, SnapshotResponse, StreamAppendResult,
    TransferLeaderError, TransferLeaderRequest, TransferLeaderResponse, VoteRequest, VoteResponse,
};
use openraft::type_config::alias::SnapshotOf;
use serde::Serialize;
use serde::de::DeserializeOwned;

use super::links::{LinkError, Links, Stream};
use super::pages::DatabaseTransfers;
use super::snapshot::SnapshotData;
use super::types::{Member, Types, Vote, entry_id, log_id};
use super::wire::{
    WireAppend, WireAppended, WireEntry, WireError, WireTransfer, WireTransferred, WireVote,
    WireVoteRequest, WireVoteResponse, decode, encode,
};
use super::{append_stream, snapshot_pages, snapshot_stream};
use crate::mesh::Quiet;

/// The numbers of this room's calls. Those from 64 on belong to the room above.
pub(super) mod method {
    pub const APPEND: u8 = 1;
    pub const VOTE: u8 = 2;
    pub const PRE_VOTE: u8 = 3;
    pub const TRANSFER: u8 = 4;
    pub const READ_INDEX: u8 = 5;
    pub const STANDING: u8 = 6;
}

/// Waits before a node is tried again that could not be reached: a node that starts again is to be
/// caught up soon, and a connect costs little.
const BACKOFF: [Duration; 4] = [
    Duration::from_millis(10),
    Duration::from_millis(20),
    Duration::from_millis(50),
    Duration::from_millis(100),
];

/// A node whose disk is full refuses snapshots all the time.
static SNAPSHOTS: Quiet = Quiet::new();

pub(super) struct Network {
    pub links: Arc<dyn Links>,
    pub pins: Arc<super::compact::Pins>,
    pub transfers: Arc<DatabaseTransfers>,
}

/// What a client is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Use {
    Entries,
    Heartbeats,
    Snapshots,
}

pub(super) struct Client {
    to: u64,
    what: Use,
    links: Arc<dyn Links>,
    pins: Arc<super::compact::Pins>,
    transfers: Arc<DatabaseTransfers>,
    /// Kept between two sessions of appends.
    stream: Option<Stream>,
}

impl Network {
    fn client(&self, to: u64, what: Use) -> Client {
        Client {
            to,
            what,
            links: Arc::clone(&self.links),
            pins: Arc::clone(&self.pins),
            transfers: Arc::clone(&self.transfers),
            stream: None,
        }
    }
}

impl RaftNetworkFactory<Types> for Network {
    type Network = Client;

    async fn new_client(&mut self, target: u64, _: &Member) -> Client {
        self.client(target, Use::Entries)
    }

    async fn new_heartbeat_client(&mut self, target: u64, _: &Member) -> Client {
        self.client(target, Use::Heartbeats)
    }

    async fn new_snapshot_client(&mut self, target: u64, _: &Member) -> Client {
        self.client(target, Use::Snapshots)
    }
}

pub(super) fn rpc_error(error: &LinkError) -> RPCError<Types> {
    if error.unreachable {
        RPCError::Unreachable(Unreachable::new(error))
    } else {
        RPCError::Network(NetworkError::new(error))
    }
}

fn wire_error(error: &WireError) -> RPCError<Types> {
    RPCError::Network(NetworkError::new(error))
}

impl WireAppend {
    pub fn of(request: &AppendEntriesRequest<Types>) -> Self {
        Self {
            vote: WireVote::of(&request.vote),
            previous: request.prev_log_id.as_ref().map(entry_id),
            commit: request.leader_commit.as_ref().map(entry_id),
            entries: request.entries.iter().map(WireEntry::of).collect(),
            quiet: false,
        }
    }

    pub fn request(self) -> Result<AppendEntriesRequest<Types>, WireError> {
        Ok(AppendEntriesRequest {
            vote: self.vote.vote(),
            prev_log_id: self.previous.map(log_id),
            leader_commit: self.commit.map(log_id),
            entries: self
                .entries
                .into_iter()
                .map(WireEntry::into_entry)
                .collect::<Result<_, _>>()?,
        })
    }
}

impl WireAppended {
    pub fn of(response: &AppendEntriesResponse<Types>) -> Self {
        match response {
            AppendEntriesResponse::Success => Self::Success,
            AppendEntriesResponse::PartialSuccess(upto) => {
                Self::Partial(upto.as_ref().map(entry_id))
            }
            AppendEntriesResponse::Conflict => Self::Conflict,
            AppendEntriesResponse::HigherVote(vote) => Self::HigherVote(WireVote::of(vote)),
        }
    }

    pub fn response(self) -> AppendEntriesResponse<Types> {
        match self {
            Self::Success => AppendEntriesResponse::Success,
            Self::Partial(upto) => AppendEntriesResponse::PartialSuccess(upto.map(log_id)),
            Self::Conflict => AppendEntriesResponse::Conflict,
            Self::HigherVote(vote) => AppendEntriesResponse::HigherVote(vote.vote()),
        }
    }
}

impl WireVoteRequest {
    pub fn of(request: &VoteRequest<Types>) -> Self {
        Self {
            vote: WireVote::of(&request.vote),
            last: request.last_log_id.as_ref().map(entry_id),
            transfer: request.leadership_transfer,
        }
    }

    pub fn request(self) -> VoteRequest<Types> {
        VoteRequest {
            vote: self.vote.vote(),
            last_log_id: self.last.map(log_id),
            leadership_transfer: self.transfer,
        }
    }
}

impl WireVoteResponse {
    pub fn of(response: &VoteResponse<Types>) -> Self {
        Self {
            vote: WireVote::of(&response.vote),
            last: response.last_log_id.as_ref().map(entry_id),
            granted: response.vote_granted,
        }
    }

    pub fn response(self) -> VoteResponse<Types> {
        VoteResponse::new(self.vote.vote(), self.last.map(log_id), self.granted)
    }
}

impl WireTransferred {
    pub fn of(response: &TransferLeaderResponse<Types>) -> Self {
        match response {
            Ok(()) => Self::Ok,
            Err(TransferLeaderError::VoteChanged { expected, actual }) => {
                Self::VoteChanged { expected: WireVote::of(expected), actual: WireVote::of(actual) }
            }
            Err(TransferLeaderError::LogNotFlushed { expected, actual }) => Self::NotFlushed {
                expected: expected.as_ref().map(entry_id),
                actual: actual.as_ref().map(entry_id),
            },
        }
    }

    fn response(self) -> TransferLeaderResponse<Types> {
        match self {
            Self::Ok => Ok(()),
            Self::VoteChanged { expected, actual } => Err(TransferLeaderError::VoteChanged {
                expected: expected.vote(),
                actual: actual.vote(),
            }),
            Self::NotFlushed { expected, actual } => Err(TransferLeaderError::LogNotFlushed {
                expected: expected.map(log_id),
                actual: actual.map(log_id),
            }),
        }
    }
}

impl Client {
    async fn send_snapshot(
        &self,
        vote: &Vote,
        snapshot: SnapshotOf<Types, SnapshotData>,
    ) -> Result<Vote, LinkError> {
        let by_pages =
            snapshot_pages::send(&*self.links, &self.transfers, self.to, vote, &snapshot).await?;
        match by_pages {
            Some(vote) => Ok(vote),
            None => snapshot_stream::send(&*self.links, self.to, vote, snapshot).await,
        }
    }

    async fn call<T: DeserializeOwned>(
        &self,
        method: u8,
        what: &'static str,
        request: &impl Serialize,
        option: &RPCOption,
    ) -> Result<T, RPCError<Types>> {
        let request: Bytes = encode(request);
        let answer = self.links.call(self.to, method, request, option.hard_ttl()).await;
        decode(what, &answer.map_err(|error| rpc_error(&error))?)
            .map_err(|error| wire_error(&error))
    }
}

impl RaftNetworkV2<Types> for Client {
    type SnapshotData = SnapshotData;

    async fn append_entries(
        &mut self,
        request: AppendEntriesRequest<Types>,
        option: RPCOption,
    ) -> Result<AppendEntriesResponse<Types>, RPCError<Types>> {
        let request = WireAppend::of(&request);
        self.call(method::APPEND, "an answer to an append", &request, &option)
            .await
            .map(WireAppended::response)
    }

    fn stream_append<S>(
        &mut self,
        input: S,
        option: RPCOption,
    ) -> BoxFuture<
        '_,
        Result<BoxStream<'_, Result<StreamAppendResult<Types>, RPCError<Types>>>, RPCError<Types>>,
    >
    where
        S: futures::Stream<Item = AppendEntriesRequest<Types>> + OptionalSend + Unpin + 'static,
    {
        if self.what == Use::Heartbeats {
            return stream_append_sequential(self, input, option);
        }
        let to = self.to;
        Box::pin(append_stream::session(&*self.links, to, &mut self.stream, input))
    }

    async fn vote(
        &mut self,
        request: VoteRequest<Types>,
        option: RPCOption,
    ) -> Result<VoteResponse<Types>, RPCError<Types>> {
        let request = WireVoteRequest::of(&request);
        self.call(method::VOTE, "an answer to a vote", &request, &option)
            .await
            .map(WireVoteResponse::response)
    }

    async fn pre_vote(
        &mut self,
        request: VoteRequest<Types>,
        option: RPCOption,
    ) -> Result<VoteResponse<Types>, RPCError<Types>> {
        let request = WireVoteRequest::of(&request);
        self.call(method::PRE_VOTE, "an answer to a pre-vote", &request, &option)
            .await
            .map(WireVoteResponse::response)
    }

    async fn full_snapshot(
        &mut self,
        vote: Vote,
        snapshot: SnapshotOf<Types, SnapshotData>,
        cancel: impl Future<Output = ReplicationClosed> + OptionalSend + 'static,
        _: RPCOption,
    ) -> Result<SnapshotResponse<Types>, StreamingError<Types>> {
        let pin = self.pins.pin(snapshot.meta.last_log_id.as_ref().map_or(0, |id| id.index));
        let outcome = tokio::select! {
            closed = cancel => return Err(StreamingError::Closed(closed)),
            outcome = self.send_snapshot(&vote, snapshot) => outcome,
        };
        // The entries after it are asked for in a moment.
        pin.release_later();
        match outcome {
            Ok(vote) => Ok(SnapshotResponse::new(vote)),
            Err(error) => {
                if error.unreachable {
                    tracing::debug!(to = self.to, %error, "nobody is there to send a snapshot to");
                } else if let Some(others) = SNAPSHOTS.may_log() {
                    tracing::warn!(to = self.to, %error, others, "a snapshot could not be sent");
                }
                // Always with a pause before it is tried again: it may cost gigabytes.
                Err(StreamingError::Unreachable(Unreachable::new(&error)))
            }
        }
    }

    async fn transfer_leader(
        &mut self,
        request: TransferLeaderRequest<Types>,
        option: RPCOption,
    ) -> Result<TransferLeaderResponse<Types>, RPCError<Types>> {
        let request = WireTransfer {
            from: WireVote::of(request.from_leader()),
            to: *request.to_node_id(),
            last: request.last_log_id().map(entry_id),
        };
        self.call(method::TRANSFER, "an answer to a transfer", &request, &option)
            .await
            .map(WireTransferred::response)
    }

    fn backoff(&self) -> Option<Backoff> {
        let longest = *BACKOFF.last().unwrap_or(&Duration::from_millis(100));
        Some(Backoff::new(BACKOFF.into_iter().chain(std::iter::repeat(longest))))
    }
}
