//! One database over a `bulk` stream, for a node whose own was damaged (Rule 13, converges).
//!
//! Like those of a snapshot it goes page by page ([`super::pages`]), and is handed on only when it came
//! whole.

use std::fs::File;
use std::io::{self, BufReader};
use std::sync::Arc;

use tokio::sync::mpsc;

use super::links::{LinkError, Receiver, Stream};
use super::pages;
use super::replica::{Content, IncomingDatabase, Replica};
use super::serve::Services;
use super::snapshot::DatabaseHeader;
use super::snapshot_stream::{
    AHEAD, Part, Request, pieces, read_all, receive, receive_ltx, send_parts,
};
use super::wire::encode;
use crate::mesh::Purpose;

/// Sends this node's database to who asked for it.
pub(super) async fn send(
    replica: &Arc<dyn Replica>,
    wanted: DatabaseHeader,
    stream: Stream,
) -> Result<(), LinkError> {
    let (give, mut parts) = mpsc::channel(AHEAD);
    let replica = Arc::clone(replica);
    read_all(give, move |give| {
        let mut database = replica.database(&wanted.name, wanted.incarnation, wanted.index)?;
        give(Part::Database(DatabaseHeader {
            name: database.name,
            incarnation: database.incarnation,
            index: database.index,
        }))?;
        pieces(&mut *database.reader, give)
    });
    let Stream { mut sender, .. } = stream;
    send_parts(&mut *sender, &mut parts).await?;
    sender.close().await
}

/// As [`send`], page by page where that can be.
pub(super) async fn send_pages(
    services: &Services,
    from: u64,
    wanted: DatabaseHeader,
    mut stream: Stream,
) -> Result<(), LinkError> {
    let progress = services.transfers.begin(&wanted.name, from);
    if pages::give(&services.replica, &mut stream, &wanted, &progress).await? {
        stream.sender.close().await
    } else {
        send(&services.replica, wanted, stream).await
    }
}

/// Fetches a database from another node.
pub(super) async fn fetch(
    services: &Services,
    from: u64,
    wanted: DatabaseHeader,
) -> Result<IncomingDatabase, LinkError> {
    let Stream { mut sender, mut receiver } = services.links.stream(from, Purpose::Bulk).await?;
    sender.send(encode(&Request::DatabasePages(wanted.clone()))).await?;
    match receive(&mut *receiver, "a database").await {
        Ok(Part::Offer(offer)) if offer.header.is_later_than(&wanted) => {
            let taking = services.taking(from, services.receiving.turns.wait().await);
            let (offer, pages) = pages::take(&taking, &mut *sender, &mut *receiver, offer).await?;
            let DatabaseHeader { name, incarnation, index } = offer.header;
            let content = match pages {
                Some(pages) => Content::Pages(Arc::new(pages)),
                None => Content::Here(offer.position),
            };
            Ok(IncomingDatabase { name, incarnation, index, content })
        }
        Ok(Part::Database(header)) if header.is_later_than(&wanted) => {
            fetch_ltx(services, &mut *receiver, header).await
        }
        Ok(Part::Offer(_) | Part::Database(_)) => Err(another()),
        Ok(Part::Failed(why)) => Err(LinkError::new(why)),
        // An earlier version ends the stream.
        _ => fetch_whole(services, from, wanted).await,
    }
}

fn another() -> LinkError {
    LinkError::new("another database came than was asked for")
}

/// From a node that knows of no other way.
async fn fetch_whole(
    services: &Services,
    from: u64,
    wanted: DatabaseHeader,
) -> Result<IncomingDatabase, LinkError> {
    let Stream { mut sender, mut receiver } = services.links.stream(from, Purpose::Bulk).await?;
    sender.send(encode(&Request::Database(wanted.clone()))).await?;
    match receive(&mut *receiver, "a database").await? {
        Part::Database(header) if header.is_later_than(&wanted) => {
            fetch_ltx(services, &mut *receiver, header).await
        }
        Part::Database(_) => Err(another()),
        Part::Failed(why) => Err(LinkError::new(why)),
        _ => Err(LinkError::new("something else came than a database")),
    }
}

async fn fetch_ltx(
    services: &Services,
    receiver: &mut dyn Receiver,
    header: DatabaseHeader,
) -> Result<IncomingDatabase, LinkError> {
    let failed = |error: io::Error| LinkError::new(format!("cannot spool a database: {error}"));
    let spool = services.spool().map_err(failed)?;
    let path = spool.path(0);
    receive_ltx(receiver, &path).await?;
    match receive(receiver, "the end of a database").await? {
        Part::Done => {}
        Part::Failed(why) => return Err(LinkError::new(why)),
        _ => return Err(LinkError::new("a database came without its end")),
    }
    // What is open stays readable when the spool goes.
    let reader = BufReader::new(File::open(&path).map_err(failed)?);
    let DatabaseHeader { name, incarnation, index } = header;
    let content = Content::Ltx(Box::new(reader));
    Ok(IncomingDatabase { name, incarnation, index, content })
}
