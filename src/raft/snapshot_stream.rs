//! Snapshots and staged files over `bulk` streams.
//!
//! One request, then one or more items: a header, its bytes in pieces, its end. A snapshot's
//! first item is the state, the others are its databases; then the receiver installs it and
//! answers. The receiver spools to files first, and only what came whole is handed on: an
//! installation that has begun must not hang on a network.

use std::fs::File;
use std::future::Future;
use std::io::{self, Read, Write};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use openraft::type_config::alias::SnapshotOf;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use tokio::sync::mpsc;
use tokio::time::{interval, timeout};

use super::links::{LinkError, Links, Receiver, Sender, Stream};
use super::machine::blocking;
use super::pages::Offer;
use super::replica::Content;
use super::serve::Services;
use super::snapshot::{DatabaseHeader, Received, ReceivedContent, SnapshotData};
use super::staged::{StagedFiles, StagedName};
use super::types::{SnapshotMeta, Types, Vote};
use super::wire::{WireMeta, WireVote, decode, encode};
use crate::cluster::State;
use crate::mesh::Purpose;

/// Bytes of a piece.
const PIECE: usize = 256 << 10;
/// Pieces read ahead of the network.
pub(super) const AHEAD: usize = 8;
/// How long the other side may say nothing.
const SILENCE: Duration = Duration::from_secs(15);
/// How often a receiver that installs says so.
const AT_WORK: Duration = Duration::from_secs(1);
/// The longest state, in bytes.
const MAX_STATE: usize = 256 << 20;
/// The most databases of a snapshot.
pub(super) const MAX_DATABASES: usize = 100_000;

/// What a `bulk` stream is opened for.
#[derive(Debug, Serialize, Deserialize)]
pub(super) enum Request {
    Snapshot {
        vote: WireVote,
        meta: WireMeta,
    },
    Staged {
        sha256: [u8; 32],
        len: u64,
    },
    /// This life of a database, as of the entry of this index or later.
    Database(DatabaseHeader),
    /// As `Snapshot`, page by page where that can be; answered by `Ready`.
    SnapshotPages {
        vote: WireVote,
        meta: WireMeta,
    },
    /// As `Database`, page by page.
    DatabasePages(DatabaseHeader),
}

/// A part of what is sent.
#[derive(Debug, Serialize, Deserialize)]
pub(super) enum Part {
    State,
    Database(DatabaseHeader),
    Piece(Bytes),
    /// The item is whole.
    End,
    /// That was all.
    Done,
    /// It cannot be sent.
    Failed(String),
    /// A database, page by page.
    Offer(Offer),
    /// The pages that are wanted follow. `last`: all of them, of the position that was offered.
    Round {
        last: bool,
    },
    Pages {
        numbers: Vec<u32>,
        /// Their bytes, one after the other.
        lz4: Bytes,
    },
}

/// What a receiver of a snapshot says.
#[derive(Debug, Serialize, Deserialize)]
pub(super) enum Answer {
    AtWork,
    /// Installed, or not needed; with the receiver's vote.
    Installed(WireVote),
    Failed(String),
    /// It knows how to take a database page by page.
    Ready,
    /// A part of the set of pages that are missing.
    Wanted(Bytes),
    /// The pages of a round came.
    Taken,
}

/// Reads on another thread, and hands it over in parts.
pub(super) fn read_all(
    parts: mpsc::Sender<Part>,
    read: impl FnOnce(&mut dyn FnMut(Part) -> io::Result<()>) -> io::Result<()> + Send + 'static,
) {
    read_item(parts, Some(Part::Done), read);
}

/// As [`read_all`], with another part at the end, or none.
pub(super) fn read_item(
    parts: mpsc::Sender<Part>,
    end: Option<Part>,
    read: impl FnOnce(&mut dyn FnMut(Part) -> io::Result<()>) -> io::Result<()> + Send + 'static,
) {
    tokio::task::spawn_blocking(move || {
        let mut give =
            |part| parts.blocking_send(part).map_err(|_| io::Error::other("the stream has ended"));
        let last = match read(&mut give) {
            Ok(()) => end,
            Err(error) => Some(Part::Failed(error.to_string())),
        };
        // Nobody listens any more: then nobody is to be told.
        let _ = last.map(give);
    });
}

pub(super) fn pieces(
    mut reader: &mut dyn Read,
    give: &mut dyn FnMut(Part) -> io::Result<()>,
) -> io::Result<()> {
    loop {
        let mut piece = Vec::with_capacity(PIECE);
        Read::take(&mut reader, PIECE as u64).read_to_end(&mut piece)?;
        if piece.is_empty() {
            return give(Part::End);
        }
        give(Part::Piece(piece.into()))?;
    }
}

pub(super) async fn send_parts(
    sender: &mut dyn Sender,
    parts: &mut mpsc::Receiver<Part>,
) -> Result<(), LinkError> {
    while let Some(part) = parts.recv().await {
        let failed = match &part {
            Part::Failed(why) => Some(LinkError::new(why.clone())),
            _ => None,
        };
        sender.send(encode(&part)).await?;
        if let Some(failed) = failed {
            return Err(failed);
        }
    }
    Ok(())
}

pub(super) async fn receive<T: DeserializeOwned>(
    receiver: &mut dyn Receiver,
    what: &'static str,
) -> Result<T, LinkError> {
    let frame = timeout(SILENCE, receiver.receive())
        .await
        .map_err(|_| LinkError::new(format!("the other side is silent for {SILENCE:?}")))??
        .ok_or_else(|| LinkError::new("the other side ended the stream"))?;
    decode(what, &frame).map_err(|error| LinkError::new(error.to_string()))
}

/// The request that a stream begins with.
pub(super) async fn request(stream: &mut Stream) -> Result<Request, LinkError> {
    receive(&mut *stream.receiver, "a request").await
}

/// Sends a snapshot to a node that knows of no other way, and waits until it is installed. Returns the
/// receiver's vote.
pub(super) async fn send(
    links: &dyn Links,
    to: u64,
    vote: &Vote,
    snapshot: SnapshotOf<Types, SnapshotData>,
) -> Result<Vote, LinkError> {
    let Stream { mut sender, mut receiver } = links.stream(to, Purpose::Bulk).await?;
    let meta = &snapshot.meta;
    let meta = WireMeta::of(meta.last_log_id.as_ref(), &meta.last_membership);
    tracing::info!(to, applied = ?meta.applied, "sending a snapshot");
    sender.send(encode(&Request::Snapshot { vote: WireVote::of(vote), meta })).await?;
    let (give, mut parts) = mpsc::channel(AHEAD);
    read_all(give, move |give| {
        let data = snapshot.snapshot;
        give(Part::State)?;
        pieces(&mut data.state.encode().as_slice(), give)?;
        for database in data.databases()? {
            let mut database = database?;
            give(Part::Database(DatabaseHeader {
                name: database.name,
                incarnation: database.incarnation,
                index: database.index,
            }))?;
            match &mut database.content {
                Content::Ltx(reader) => pieces(&mut **reader, give)?,
                Content::Pages(_) | Content::Here(_) => {
                    return Err(io::Error::other("what was received is not sent on"));
                }
            }
        }
        Ok(())
    });
    send_parts(&mut *sender, &mut parts).await?;
    installed(&mut *receiver).await
}

/// Waits until a snapshot is installed.
pub(super) async fn installed(receiver: &mut dyn Receiver) -> Result<Vote, LinkError> {
    loop {
        match receive(receiver, "an answer to a snapshot").await? {
            Answer::AtWork => {}
            Answer::Installed(vote) => return Ok(vote.vote()),
            Answer::Failed(why) => return Err(LinkError::new(why)),
            _ => return Err(LinkError::new("another answer came than one to a snapshot")),
        }
    }
}

/// Receives a snapshot, installs it and answers.
pub(super) async fn receive_snapshot(
    services: &Arc<Services>,
    vote: WireVote,
    meta: &WireMeta,
    stream: Stream,
) -> Result<(), LinkError> {
    let Stream { mut sender, mut receiver } = stream;
    let install = async {
        let data = spool(services, &mut *receiver).await?;
        install(services, vote, meta, data).await
    };
    let answer = match at_work(&mut *sender, install).await? {
        Ok(vote) => Answer::Installed(WireVote::of(&vote)),
        Err(error) => Answer::Failed(error.to_string()),
    };
    sender.send(encode(&answer)).await?;
    sender.close().await
}

/// Hands what came whole to openraft.
pub(super) async fn install(
    services: &Services,
    vote: WireVote,
    meta: &WireMeta,
    data: SnapshotData,
) -> Result<Vote, LinkError> {
    let text = |error: &dyn std::fmt::Display| LinkError::new(error.to_string());
    let membership = meta.membership().map_err(|error| text(&error))?;
    let last = meta.applied.map(super::types::log_id);
    let meta = SnapshotMeta { last_log_id: last, last_membership: membership };
    let snapshot = SnapshotOf::<Types, SnapshotData> { meta, snapshot: data };
    let raft = services.raft()?;
    let installed = raft.install_full_snapshot(vote.vote(), snapshot).await;
    Ok(installed.map_err(|error| text(&error))?.vote)
}

/// Tells the other side, for as long as something takes, that it is being done.
pub(super) async fn at_work<T>(
    sender: &mut dyn Sender,
    work: impl Future<Output = T>,
) -> Result<T, LinkError> {
    tokio::pin!(work);
    let mut at_work = interval(AT_WORK);
    loop {
        tokio::select! {
            done = &mut work => return Ok(done),
            _ = at_work.tick() => sender.send(encode(&Answer::AtWork)).await?,
        }
    }
}

/// Takes in all items of a snapshot.
async fn spool(
    services: &Services,
    receiver: &mut dyn Receiver,
) -> Result<SnapshotData, LinkError> {
    let failed = |error: io::Error| LinkError::new(format!("cannot spool a snapshot: {error}"));
    let spool = services.spool().map_err(failed)?;
    let mut state = None;
    let mut databases: Vec<Received> = Vec::new();
    loop {
        match receive(receiver, "a part of a snapshot").await? {
            Part::State if state.is_none() => state = Some(receive_state(receiver).await?),
            Part::Database(header) if databases.len() < MAX_DATABASES => {
                let file = spool.path(databases.len() as u64);
                receive_ltx(receiver, &file).await?;
                databases.push(Received { header, content: ReceivedContent::Ltx(file) });
            }
            Part::Done => break,
            Part::Failed(why) => return Err(LinkError::new(why)),
            _ => return Err(LinkError::new("the parts of the snapshot are out of order")),
        }
    }
    let state = state.ok_or_else(|| LinkError::new("the snapshot came without a state"))?;
    Ok(SnapshotData::received(state, spool, databases))
}

/// The state of a snapshot.
pub(super) async fn receive_state(receiver: &mut dyn Receiver) -> Result<State, LinkError> {
    let mut bytes = Vec::new();
    while let Some(piece) = piece(receiver).await? {
        if bytes.len() + piece.len() > MAX_STATE {
            return Err(LinkError::new("the state is longer than any can be"));
        }
        bytes.extend_from_slice(&piece);
    }
    State::decode(&bytes).map_err(|error| LinkError::new(error.to_string()))
}

/// A database as LTX, into a file.
pub(super) async fn receive_ltx(receiver: &mut dyn Receiver, file: &Path) -> Result<(), LinkError> {
    let failed = |error: io::Error| LinkError::new(format!("cannot spool a database: {error}"));
    let mut writer = File::create(file).map_err(failed)?;
    while let Some(piece) = piece(receiver).await? {
        writer =
            blocking(move || writer.write_all(&piece).map(|()| writer)).await.map_err(failed)?;
    }
    Ok(())
}

/// The next piece of an item; `None`: it is whole.
pub(super) async fn piece(receiver: &mut dyn Receiver) -> Result<Option<Bytes>, LinkError> {
    match receive(receiver, "a piece").await? {
        Part::Piece(piece) => Ok(Some(piece)),
        Part::End => Ok(None),
        Part::Failed(why) => Err(LinkError::new(why)),
        _ => Err(LinkError::new("an item came without its end")),
    }
}

/// Sends a staged file to who asked for it.
pub(super) async fn send_staged(
    staged: &Arc<dyn StagedFiles>,
    name: StagedName,
    stream: Stream,
) -> Result<(), LinkError> {
    let (give, mut parts) = mpsc::channel(AHEAD);
    let staged = Arc::clone(staged);
    read_all(give, move |give| pieces(&mut staged.open(name.sha256)?, give));
    let Stream { mut sender, .. } = stream;
    send_parts(&mut *sender, &mut parts).await?;
    sender.close().await
}

/// Fetches a staged file from the node that has it (Rule 19).
pub(super) async fn fetch_staged(
    links: &dyn Links,
    from: u64,
    name: StagedName,
    staged: &Arc<dyn StagedFiles>,
) -> Result<(), LinkError> {
    let failed = |error: io::Error| LinkError::new(format!("cannot stage {name}: {error}"));
    let Stream { mut sender, mut receiver } = links.stream(from, Purpose::Bulk).await?;
    sender.send(encode(&Request::Staged { sha256: name.sha256, len: name.len })).await?;
    let mut writer = Some(staged.receive(name.sha256, name.len).map_err(failed)?);
    while let Some(piece) = piece(&mut *receiver).await? {
        let Some(mut open) = writer.take() else { break };
        let written = blocking(move || open.write_all(&piece).map(|()| open)).await;
        writer = Some(written.map_err(failed)?);
    }
    let Some(writer) = writer else { return Ok(()) };
    blocking(move || writer.finish()).await.map_err(failed)
}
