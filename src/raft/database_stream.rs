//! One database over a `bulk` stream, for a node whose own was damaged (Rule 13, converges).
//!
//! Like a snapshot of the whole state it is spooled to a file first, and handed on only when it
//! came whole.

use std::fs::File;
use std::io::{self, BufReader, Write};
use std::sync::Arc;

use tokio::sync::mpsc;

use super::links::{LinkError, Stream};
use super::machine::blocking;
use super::replica::{IncomingDatabase, Replica};
use super::serve::Services;
use super::snapshot::DatabaseHeader;
use super::snapshot_stream::{AHEAD, Part, Request, piece, pieces, read_all, receive, send_parts};
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

/// Fetches a database from another node.
pub(super) async fn fetch(
    services: &Services,
    from: u64,
    wanted: DatabaseHeader,
) -> Result<IncomingDatabase, LinkError> {
    let failed = |error: io::Error| LinkError::new(format!("cannot spool a database: {error}"));
    let Stream { mut sender, mut receiver } = services.links.stream(from, Purpose::Bulk).await?;
    sender.send(encode(&Request::Database(wanted.clone()))).await?;
    let header = match receive(&mut *receiver, "a database").await? {
        Part::Database(header) => header,
        Part::Failed(why) => return Err(LinkError::new(why)),
        _ => return Err(LinkError::new("something else came than a database")),
    };
    let asked_for = header.name == wanted.name
        && header.incarnation == wanted.incarnation
        && header.index >= wanted.index;
    if !asked_for {
        return Err(LinkError::new("another database came than was asked for"));
    }
    let spool = services.spool().map_err(failed)?;
    let path = spool.path(0);
    let mut file = File::create(&path).map_err(failed)?;
    while let Some(piece) = piece(&mut *receiver).await? {
        file = blocking(move || file.write_all(&piece).map(|()| file)).await.map_err(failed)?;
    }
    match receive(&mut *receiver, "the end of a database").await? {
        Part::Done => {}
        Part::Failed(why) => return Err(LinkError::new(why)),
        _ => return Err(LinkError::new("a database came without its end")),
    }
    // What is open stays readable when the spool goes.
    let reader = BufReader::new(File::open(&path).map_err(failed)?);
    let DatabaseHeader { name, incarnation, index } = header;
    Ok(IncomingDatabase { name, incarnation, index, reader: Box::new(reader) })
}
