//! The taker's side.

use std::future::Future;
use std::io;
use std::path::PathBuf;
use std::sync::Arc;

use bytes::Bytes;
use tokio::sync::{Mutex, OwnedMutexGuard, watch};

use super::partial::{Partial, ReceivedPages};
use super::{DatabaseTransfers, Offer, PageSet};
use crate::raft::links::{LinkError, Receiver, Sender};
use crate::raft::machine::blocking;
use crate::raft::replica::Replica;
use crate::raft::snapshot_stream::{Answer, Part, at_work, piece, receive};
use crate::raft::wire::encode;

/// Bytes of the set of pages that go in one frame.
const FRAME: usize = 256 << 10;

/// Held as long as anything is written into a file.
pub(in crate::raft) type Turn = Arc<OwnedMutexGuard<()>>;

/// Who may write into the files: one at a time.
pub(in crate::raft) struct Turns {
    busy: Arc<Mutex<()>>,
    latest: watch::Sender<u64>,
}

impl Default for Turns {
    fn default() -> Self {
        Self { busy: Arc::default(), latest: watch::Sender::new(0) }
    }
}

impl Turns {
    /// After whoever has it now.
    pub async fn wait(&self) -> Turn {
        Arc::new(Arc::clone(&self.busy).lock_owned().await)
    }

    /// A leader of later sends a snapshot: does `work`, and whoever does it now is broken off, as this will
    /// be by the next one.
    pub async fn supersede<T, F>(&self, work: impl FnOnce(Turn) -> F) -> Result<T, LinkError>
    where
        F: Future<Output = Result<T, LinkError>>,
    {
        let mut mine = 0;
        self.latest.send_modify(|latest| {
            *latest += 1;
            mine = *latest;
        });
        let mut later = self.latest.subscribe();
        let all = async {
            let turn = self.wait().await;
            work(turn).await
        };
        tokio::select! {
            done = all => done,
            _ = later.wait_for(|latest| *latest != mine) => {
                Err(LinkError::new("another snapshot has begun to come"))
            }
        }
    }
}

/// What taking a database needs.
pub(in crate::raft) struct Taking<'a> {
    pub replica: &'a Arc<dyn Replica>,
    pub transfers: &'a DatabaseTransfers,
    pub folder: PathBuf,
    pub from: u64,
    pub turn: Turn,
}

/// Takes a database of which this is the first offer. Returns the last one, and the pages; `None`: it is
/// here already.
pub(in crate::raft) async fn take(
    taking: &Taking<'_>,
    sender: &mut dyn Sender,
    receiver: &mut dyn Receiver,
    mut offer: Offer,
) -> Result<(Offer, Option<ReceivedPages>), LinkError> {
    let failed = |error: io::Error| LinkError::new(format!("cannot take in a database: {error}"));
    let first = offer.header.clone();
    let progress = taking.transfers.begin(&first.name, taking.from);
    let mut begun: Option<Partial> = None;
    loop {
        let sums = sums(receiver, offer.pages).await?;
        offer.check(&sums).map_err(LinkError::new)?;
        if taking.replica.is_at(&first.name, first.incarnation, offer.position) {
            want(sender, &PageSet::empty(offer.pages)).await?;
            expect_nothing(receiver).await?;
            sender.send(encode(&Answer::Taken)).await?;
            return Ok((offer, None));
        }
        let (replica, now) = (Arc::clone(taking.replica), offer.clone());
        let (folder, turn) = (taking.folder.clone(), Arc::clone(&taking.turn));
        let counted = Arc::clone(&progress);
        let compare = blocking(move || {
            let mut partial = match begun {
                Some(partial) => partial,
                None => Partial::open(&folder, now.header.incarnation, counted, turn)?,
            };
            let mut here = replica.pages_here(&now.header.name);
            let compared = partial.compare(&now, sums, here.as_mut());
            settle(partial, compared)
        });
        let (mut partial, missing) = at_work(sender, compare).await?.map_err(failed)?;
        want(sender, &missing).await?;
        let last = match receive(receiver, "a round of pages").await? {
            Part::Round { last } => last,
            other => return Err(out_of_order(other)),
        };
        loop {
            match receive(receiver, "pages").await? {
                Part::Pages { numbers, lz4 } => {
                    let write = blocking(move || {
                        let written = partial.write(&numbers, &lz4, last);
                        settle(partial, written)
                    });
                    (partial, ()) = write.await.map_err(failed)?;
                }
                Part::End => break,
                other => return Err(out_of_order(other)),
            }
        }
        if last {
            let whole = offer.clone();
            let finish = blocking(move || partial.finish(&whole));
            let received = at_work(sender, finish).await?.map_err(failed)?;
            sender.send(encode(&Answer::Taken)).await?;
            let came = progress.now();
            tracing::info!(
                database = %came.database, from = taking.from, bytes = came.of,
                there_before = came.before, seconds = came.since.as_secs_f32(),
                "a database came from another node"
            );
            return Ok((offer, Some(received)));
        }
        begun = Some(partial);
        sender.send(encode(&Answer::Taken)).await?;
        offer = match receive(receiver, "another offer").await? {
            Part::Offer(offer) if offer.header.is_later_than(&first) => offer,
            other => return Err(out_of_order(other)),
        };
    }
}

async fn want(sender: &mut dyn Sender, missing: &PageSet) -> Result<(), LinkError> {
    for bytes in missing.as_bytes().chunks(FRAME) {
        let wanted = Answer::Wanted(Bytes::copy_from_slice(bytes));
        sender.send(encode(&wanted)).await?;
    }
    Ok(())
}

/// The round of who lacks nothing.
async fn expect_nothing(receiver: &mut dyn Receiver) -> Result<(), LinkError> {
    match receive(receiver, "a round of pages").await? {
        Part::Round { last: true } => {}
        other => return Err(out_of_order(other)),
    }
    match receive(receiver, "the end of a round").await? {
        Part::End => Ok(()),
        other => Err(out_of_order(other)),
    }
}

/// The file goes on to whoever works with it next; on a full disk it makes room.
fn settle<T>(partial: Partial, done: io::Result<T>) -> io::Result<(Partial, T)> {
    match done {
        Ok(done) => Ok((partial, done)),
        Err(error) => {
            if error.kind() == io::ErrorKind::StorageFull {
                partial.discard();
            }
            Err(error)
        }
    }
}

async fn sums(receiver: &mut dyn Receiver, pages: u32) -> Result<Vec<u64>, LinkError> {
    let mut sums = Vec::new();
    while let Some(bytes) = piece(receiver).await? {
        if sums.len() + bytes.len() / 8 > pages as usize {
            return Err(LinkError::new("more checksums than pages"));
        }
        let (whole, _) = bytes.as_chunks::<8>();
        sums.extend(whole.iter().map(|bytes| u64::from_be_bytes(*bytes)));
    }
    Ok(sums)
}

fn out_of_order(part: Part) -> LinkError {
    match part {
        Part::Failed(why) => LinkError::new(why),
        _ => LinkError::new("the parts of a database are out of order"),
    }
}
