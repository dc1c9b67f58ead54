//! The giver's side.

use std::io;
use std::sync::Arc;

use bytes::Bytes;
use tokio::sync::mpsc;

use super::progress::{Stage, Transferring};
use super::{Offer, PageSet};
use crate::ltx::{lock_page, pack, page_checksum};
use crate::raft::links::{LinkError, Stream};
use crate::raft::machine::blocking;
use crate::raft::replica::{Offered, Replica};
use crate::raft::snapshot::DatabaseHeader;
use crate::raft::snapshot_stream::{AHEAD, Answer, Part, read_item, receive, send_parts};
use crate::raft::wire::encode;

/// Up to so many bytes missing are sent of one position, with the place in the database held.
const AT_ONCE: u64 = if cfg!(test) { 16 << 10 } else { 64 << 20 };
/// Rounds after which it is held whatever is missing: writers change more than can be sent.
const ROUNDS: u32 = 6;
/// Bytes of pages that go in one frame, before compression.
const FRAME: usize = 256 << 10;
/// Bytes that are read before the place is given up for a moment.
const HOLD: u64 = 8 << 20;

/// Gives a database as of the entry `wanted.index` or later. `false`, and nothing was sent: it is given
/// only as a whole.
pub(in crate::raft) async fn give(
    replica: &Arc<dyn Replica>,
    stream: &mut Stream,
    wanted: &DatabaseHeader,
    progress: &Arc<Transferring>,
) -> Result<bool, LinkError> {
    for round in 1.. {
        let (asked, name) = (Arc::clone(replica), wanted.clone());
        let offered = blocking(move || asked.offer(&name.name, name.incarnation, name.index)).await;
        let offered = match offered {
            Ok(Some(offered)) => offered,
            Ok(None) => return Ok(false),
            Err(error) => {
                stream.sender.send(encode(&Part::Failed(error.to_string()))).await?;
                return Err(LinkError::new(error.to_string()));
            }
        };
        let offer = Offer {
            header: DatabaseHeader { index: offered.index, ..wanted.clone() },
            page_size: offered.page_size,
            pages: u32::try_from(offered.sums.len()).unwrap_or(u32::MAX),
            position: offered.position,
        };
        let mut offered = offered;
        let short = round > 1 || offer.bytes() <= AT_ONCE;
        if !short {
            offered.pages.let_go();
        }
        send_offer(stream, &offer, &offered.sums).await?;
        let missing = missing(stream, offer.pages).await?;
        let bytes = missing.len() * u64::from(offer.page_size);
        progress.compared(offer.bytes(), offer.bytes().saturating_sub(bytes), Stage::Sending);
        let last = bytes == 0 || short && bytes <= AT_ONCE || round >= ROUNDS;
        stream.sender.send(encode(&Part::Round { last })).await?;
        let (give, mut parts) = mpsc::channel(AHEAD);
        let counted = Arc::clone(progress);
        read_item(give, Some(Part::End), move |give| {
            read_missing(offered, &offer, &missing, last, &counted, give)
        });
        send_parts(&mut *stream.sender, &mut parts).await?;
        taken(stream).await?;
        if last {
            return Ok(true);
        }
    }
    Ok(true)
}

async fn send_offer(stream: &mut Stream, offer: &Offer, sums: &[u64]) -> Result<(), LinkError> {
    stream.sender.send(encode(&Part::Offer(offer.clone()))).await?;
    for sums in sums.chunks(FRAME / 8) {
        let bytes: Vec<u8> = sums.iter().flat_map(|sum| sum.to_be_bytes()).collect();
        stream.sender.send(encode(&Part::Piece(bytes.into()))).await?;
    }
    stream.sender.send(encode(&Part::End)).await
}

/// What the other node says it lacks.
async fn missing(stream: &mut Stream, pages: u32) -> Result<PageSet, LinkError> {
    let len = PageSet::bytes_for(pages);
    let mut bytes = Vec::with_capacity(len);
    while bytes.len() < len {
        match receive(&mut *stream.receiver, "the pages that are wanted").await? {
            Answer::AtWork => {}
            Answer::Wanted(more) => bytes.extend_from_slice(&more),
            other => return Err(unexpected(other)),
        }
    }
    bytes.truncate(len);
    Ok(PageSet::of(bytes))
}

/// Waits until the pages of a round are in the other node's file.
async fn taken(stream: &mut Stream) -> Result<(), LinkError> {
    loop {
        match receive(&mut *stream.receiver, "an answer to pages").await? {
            Answer::AtWork => {}
            Answer::Taken => return Ok(()),
            other => return Err(unexpected(other)),
        }
    }
}

fn unexpected(answer: Answer) -> LinkError {
    match answer {
        Answer::Failed(why) => LinkError::new(why),
        _ => LinkError::new("another answer came than one to pages"),
    }
}

fn read_missing(
    mut offered: Offered,
    offer: &Offer,
    missing: &PageSet,
    last: bool,
    progress: &Transferring,
    give: &mut dyn FnMut(Part) -> io::Result<()>,
) -> io::Result<()> {
    let size = offer.page_size as usize;
    let lock = lock_page(offer.page_size);
    let (mut numbers, mut bytes) = (Vec::new(), Vec::with_capacity(FRAME));
    let (mut page, mut read) = (Vec::new(), 0_u64);
    if !last {
        offered.pages.hold()?;
    }
    for pgno in (1..=offer.pages).filter(|pgno| *pgno != lock && missing.contains(*pgno)) {
        // One that is no longer in the database: the next offer does not have it.
        if !offered.pages.read(pgno, &mut page)? {
            continue;
        }
        let sum = offered.sums.get(pgno as usize - 1).copied();
        if last && Some(page_checksum(pgno, &page).0) != sum {
            let name = &offer.header.name;
            return Err(io::Error::other(format!("page {pgno} of {name} is rotten on this node")));
        }
        numbers.push(pgno);
        bytes.extend_from_slice(&page);
        read += size as u64;
        if bytes.len() + size > FRAME {
            give_pages(&mut numbers, &mut bytes, progress, give)?;
            if !last && read >= HOLD {
                offered.pages.let_go();
                offered.pages.hold()?;
                read = 0;
            }
        }
    }
    give_pages(&mut numbers, &mut bytes, progress, give)
}

fn give_pages(
    numbers: &mut Vec<u32>,
    bytes: &mut Vec<u8>,
    progress: &Transferring,
    give: &mut dyn FnMut(Part) -> io::Result<()>,
) -> io::Result<()> {
    if numbers.is_empty() {
        return Ok(());
    }
    progress.moved(bytes.len() as u64);
    let lz4 = Bytes::from(pack(bytes));
    bytes.clear();
    give(Part::Pages { numbers: std::mem::take(numbers), lz4 })
}
