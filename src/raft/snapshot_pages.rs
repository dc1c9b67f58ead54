//! A snapshot, its databases page by page ([`super::pages`]).
//!
//! As [`super::snapshot_stream`] has it: first the state, then its databases; what came whole is installed.

use std::sync::Arc;

use openraft::type_config::alias::SnapshotOf;
use tokio::sync::mpsc;

use super::links::{LinkError, Links, Stream};
use super::pages::{self, DatabaseTransfers, Taking, Turn};
use super::replica::Replica;
use super::serve::Services;
use super::snapshot::{DatabaseHeader, Received, ReceivedContent, SnapshotData};
use super::snapshot_stream::{
    AHEAD, Answer, MAX_DATABASES, Part, Request, at_work, install, installed, pieces, read_item,
    receive, receive_ltx, receive_state, send_parts,
};
use super::types::{Types, Vote};
use super::wire::{WireMeta, WireVote, encode};
use crate::mesh::Purpose;

/// Sends a snapshot and waits until it is installed. Returns the receiver's vote; `None`: the other node
/// knows only of the other way.
pub(super) async fn send(
    links: &dyn Links,
    transfers: &DatabaseTransfers,
    to: u64,
    vote: &Vote,
    snapshot: &SnapshotOf<Types, SnapshotData>,
) -> Result<Option<Vote>, LinkError> {
    let data = &snapshot.snapshot;
    let Some(replica) = data.live_replica() else { return Ok(None) };
    let mut stream = links.stream(to, Purpose::Bulk).await?;
    let meta = &snapshot.meta;
    let meta = WireMeta::of(meta.last_log_id.as_ref(), &meta.last_membership);
    let request = Request::SnapshotPages { vote: WireVote::of(vote), meta };
    stream.sender.send(encode(&request)).await?;
    match receive(&mut *stream.receiver, "an answer to a snapshot").await {
        Ok(Answer::Ready) => {}
        Ok(Answer::Failed(why)) => return Err(LinkError::new(why)),
        // An earlier version ends the stream.
        _ => return Ok(None),
    }
    tracing::info!(to, applied = ?data.state.applied(), "sending a snapshot");
    replica.sends_snapshot();
    let state = data.state.encode();
    let (give, mut parts) = mpsc::channel(AHEAD);
    read_item(give, None, move |give| {
        give(Part::State)?;
        pieces(&mut state.as_slice(), give)
    });
    send_parts(&mut *stream.sender, &mut parts).await?;
    let index = data.state.applied().index;
    for (name, at) in data.state.databases() {
        let header = DatabaseHeader { name: name.clone(), incarnation: at.incarnation, index };
        let progress = transfers.begin(name, to);
        if !pages::give(replica, &mut stream, &header, &progress).await? {
            give_whole(replica, &mut stream, header).await?;
        }
    }
    stream.sender.send(encode(&Part::Done)).await?;
    installed(&mut *stream.receiver).await.map(Some)
}

async fn give_whole(
    replica: &Arc<dyn Replica>,
    stream: &mut Stream,
    header: DatabaseHeader,
) -> Result<(), LinkError> {
    let (give, mut parts) = mpsc::channel(AHEAD);
    let replica = Arc::clone(replica);
    read_item(give, None, move |give| {
        let mut found = replica.database(&header.name, header.incarnation, header.index)?;
        give(Part::Database(DatabaseHeader { index: found.index, ..header }))?;
        pieces(&mut *found.reader, give)
    });
    send_parts(&mut *stream.sender, &mut parts).await
}

/// Receives a snapshot, installs it and answers. One that begins to come later breaks it off.
pub(super) async fn receive_snapshot(
    services: &Arc<Services>,
    from: u64,
    vote: WireVote,
    meta: &WireMeta,
    mut stream: Stream,
) -> Result<(), LinkError> {
    let all = services.receiving.turns.supersede(|turn| async {
        stream.sender.send(encode(&Answer::Ready)).await?;
        match take_all(services, from, turn, &mut stream).await {
            Ok(data) => {
                let installing = install(services, vote, meta, data);
                at_work(&mut *stream.sender, installing).await?
            }
            Err(error) => Err(error),
        }
    });
    let answer = match all.await {
        Ok(vote) => Answer::Installed(WireVote::of(&vote)),
        Err(error) => Answer::Failed(error.to_string()),
    };
    stream.sender.send(encode(&answer)).await?;
    stream.sender.close().await
}

async fn take_all(
    services: &Services,
    from: u64,
    turn: Turn,
    stream: &mut Stream,
) -> Result<SnapshotData, LinkError> {
    let Stream { sender, receiver } = stream;
    let failed = |error: std::io::Error| LinkError::new(format!("cannot take a snapshot: {error}"));
    let spool = services.spool().map_err(failed)?;
    let mut state = None;
    let mut databases: Vec<Received> = Vec::new();
    let taking = services.taking(from, turn);
    loop {
        match receive(&mut **receiver, "a part of a snapshot").await? {
            Part::State if state.is_none() => {
                state = Some(receive_state(&mut **receiver).await?);
            }
            Part::Offer(offer) if databases.len() < MAX_DATABASES => {
                let taken = pages::take(&taking, &mut **sender, &mut **receiver, offer).await?;
                let (offer, pages) = taken;
                let content = match pages {
                    Some(pages) => ReceivedContent::Pages(Arc::new(pages)),
                    None => ReceivedContent::Here(offer.position),
                };
                databases.push(Received { header: offer.header, content });
            }
            Part::Database(header) if databases.len() < MAX_DATABASES => {
                let file = spool.path(databases.len() as u64);
                receive_ltx(&mut **receiver, &file).await?;
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

impl Services {
    /// For what another node gives.
    pub fn taking(&self, from: u64, turn: Turn) -> Taking<'_> {
        Taking {
            replica: &self.replica,
            transfers: &self.transfers,
            folder: self.receiving.folder.clone(),
            from,
            turn,
        }
    }
}
