//! A giver and a taker over a stream in memory, which breaks where it is told to.

use std::io;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use bytes::Bytes;
use futures::future::BoxFuture;
use proptest::prelude::*;
use rand::rngs::StdRng;
use rand::{RngCore, SeedableRng};
use tokio::sync::mpsc;

use super::*;
use crate::cluster::State;
use crate::core::{DatabaseName, EntryId, Incarnation, Txid};
use crate::ltx::page_checksum;
use crate::raft::links::{LinkError, Receiver, Sender, Stream};
use crate::raft::replica::{Offered, Pages, Replica};
use crate::raft::snapshot_stream::{Part, receive};
use crate::raft::{Applied, IncomingDatabase, SnapshotDatabase};

const SIZE: usize = 512;
type Image = Vec<[u8; SIZE]>;

fn sums(image: &Image) -> Vec<u64> {
    (1..).zip(image).map(|(pgno, page)| page_checksum(pgno, page).0).collect()
}

fn position(image: &Image, txid: u64) -> Position {
    let total = sums(image).into_iter().fold(Checksum(0), |sum, page| sum.toggle(Checksum(page)));
    Position { txid: Txid(txid), checksum: total }
}

/// One database; each time that it is held anew, the next of the images is the present one.
#[derive(Default)]
struct Node {
    images: Vec<Image>,
    holds: Arc<AtomicUsize>,
    here: Option<Image>,
}

struct Held {
    images: Vec<Image>,
    holds: Arc<AtomicUsize>,
    now: Option<Image>,
}

impl Held {
    fn present(&self) -> (usize, Image) {
        let at = self.holds.load(Ordering::SeqCst).min(self.images.len() - 1);
        (at, self.images[at].clone())
    }
}

impl Pages for Held {
    fn page_size(&self) -> u32 {
        SIZE as u32
    }

    fn read(&mut self, pgno: u32, page: &mut Vec<u8>) -> io::Result<bool> {
        let now = self.now.as_ref().ok_or_else(|| io::Error::other("nothing is held"))?;
        let Some(found) = now.get(pgno as usize - 1) else { return Ok(false) };
        page.clear();
        page.extend_from_slice(found);
        Ok(true)
    }

    fn hold(&mut self) -> io::Result<()> {
        self.holds.fetch_add(1, Ordering::SeqCst);
        self.now = Some(self.present().1);
        Ok(())
    }

    fn let_go(&mut self) {
        self.now = None;
    }
}

impl Replica for Node {
    fn begins(&self, _: &State) -> io::Result<()> {
        Ok(())
    }

    fn applied(&self, _: Applied) {}

    fn make_durable(&self, _: EntryId) -> io::Result<()> {
        Ok(())
    }

    fn databases_for_snapshot(&self, _: &State) -> io::Result<Vec<SnapshotDatabase>> {
        Ok(Vec::new())
    }

    fn database(&self, _: &DatabaseName, _: Incarnation, _: u64) -> io::Result<SnapshotDatabase> {
        Err(io::Error::other("only page by page"))
    }

    fn install_snapshot(
        &self,
        _: &State,
        _: &mut dyn Iterator<Item = io::Result<IncomingDatabase>>,
    ) -> io::Result<()> {
        Ok(())
    }

    fn offer(
        &self,
        _: &DatabaseName,
        _: Incarnation,
        at_least: u64,
    ) -> io::Result<Option<Offered>> {
        let mut held =
            Held { images: self.images.clone(), holds: Arc::clone(&self.holds), now: None };
        held.hold()?;
        let (at, image) = held.present();
        Ok(Some(Offered {
            index: at_least + at as u64,
            position: position(&image, 1 + at as u64),
            page_size: SIZE as u32,
            sums: sums(&image),
            pages: Box::new(held),
        }))
    }

    fn pages_here(&self, _: &DatabaseName) -> Option<Box<dyn Pages>> {
        let now = Some(self.here.clone()?);
        Some(Box::new(Held { images: Vec::new(), holds: Arc::default(), now }))
    }

    fn is_at(&self, _: &DatabaseName, _: Incarnation, at: Position) -> bool {
        self.here.as_ref().is_some_and(|here| position(here, at.txid.0) == at)
    }
}

/// One way; `left` frames go through, then it is cut.
struct Pipe {
    to: mpsc::Sender<Bytes>,
    left: Arc<AtomicUsize>,
}

impl Sender for Pipe {
    fn send(&mut self, frame: Bytes) -> BoxFuture<'_, Result<(), LinkError>> {
        Box::pin(async move {
            let left = self.left.load(Ordering::SeqCst);
            if left == 0 {
                return Err(LinkError::new("cut"));
            }
            self.left.store(left - 1, Ordering::SeqCst);
            self.to.send(frame).await.map_err(|_| LinkError::new("cut"))
        })
    }

    fn close(self: Box<Self>) -> BoxFuture<'static, Result<(), LinkError>> {
        Box::pin(async { Ok(()) })
    }
}

struct End(mpsc::Receiver<Bytes>);

impl Receiver for End {
    fn receive(&mut self) -> BoxFuture<'_, Result<Option<Bytes>, LinkError>> {
        Box::pin(async move { Ok(self.0.recv().await) })
    }
}

fn streams(frames: usize) -> (Stream, Stream) {
    let (there, back) = (mpsc::channel(1), mpsc::channel(1));
    let pipe = |to| Pipe { to, left: Arc::new(AtomicUsize::new(frames)) };
    let ours = Stream { sender: Box::new(pipe(there.0)), receiver: Box::new(End(back.1)) };
    let theirs = Stream {
        sender: Box::new(Pipe { to: back.0, left: Arc::new(AtomicUsize::new(usize::MAX)) }),
        receiver: Box::new(End(there.1)),
    };
    (ours, theirs)
}

/// What the taker has in the end: the position, the bytes, and how many bytes travelled. `None`: it was cut.
async fn once(
    giver: &Arc<dyn Replica>,
    taker: &Arc<dyn Replica>,
    folder: &std::path::Path,
    frames: usize,
) -> Option<(Position, Option<Vec<u8>>, DatabaseTransferred)> {
    let (mut ours, mut theirs) = streams(frames);
    let name = DatabaseName::new("a.db").unwrap();
    let header = DatabaseHeader { name: name.clone(), incarnation: Incarnation(7), index: 20 };
    let (giving, taking) = (DatabaseTransfers::default(), DatabaseTransfers::default());
    let sent = giving.begin(&name, 2);
    let give = async {
        let given = give(giver, &mut ours, &header, &sent).await;
        drop(ours);
        given
    };
    let turns = Turns::default();
    let progress: Mutex<Vec<DatabaseTransfer>> = Mutex::default();
    let take = async {
        let first = receive(&mut *theirs.receiver, "a database").await?;
        let Part::Offer(offer) = first else { return Err(LinkError::new("no offer")) };
        let folder = folder.to_owned();
        let turn = turns.wait().await;
        let taking = Taking { replica: taker, transfers: &taking, folder, from: 1, turn };
        let taken = take(&taking, &mut *theirs.sender, &mut *theirs.receiver, offer).await?;
        progress.lock().unwrap().extend(taking.transfers.now());
        Ok(taken)
    };
    let (given, taken) = tokio::join!(give, take);
    let (offer, pages) = taken.ok()?;
    assert!(given.unwrap());
    let bytes = pages.map(|pages| {
        let bytes = std::fs::read(&pages.file().path).unwrap();
        // Taken from where it lay.
        std::fs::remove_file(&pages.file().path).unwrap();
        bytes
    });
    let moved = sent.now();
    Some((offer.position, bytes, DatabaseTransferred(moved.done - moved.before)))
}

/// Bytes of pages that were sent.
struct DatabaseTransferred(u64);

fn runtime() -> tokio::runtime::Runtime {
    tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap()
}

/// Of noise: the checksum of a database is linear, and the same change in two pages takes itself back.
fn image(seed: u64, pages: usize) -> Image {
    (0..pages)
        .map(|at| {
            // Every fourth page is the same in all of them.
            let of = if at % 4 == 0 { 0 } else { seed };
            let mut noise = StdRng::seed_from_u64((of << 32) + at as u64);
            let mut page = [0; SIZE];
            noise.fill_bytes(&mut page);
            page
        })
        .collect()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    /// one-history, converges: however often it breaks, and whatever is written meanwhile, what is whole in
    /// the end is the database at the position that is said.
    #[test]
    fn what_comes_whole_is_what_the_position_names(
        sizes in prop::collection::vec(1_usize..200, 1..12),
        here in prop::option::of((0_u64..4, 1_usize..200)),
        cuts in prop::collection::vec(1_usize..12, 0..4),
    ) {
        let images: Vec<Image> = (1..).zip(sizes).map(|(seed, pages)| image(seed, pages)).collect();
        let known: Vec<(Position, Vec<u8>)> = (1..).zip(&images)
            .map(|(txid, image)| (position(image, txid), image.concat()))
            .collect();
        let giver: Arc<dyn Replica> =
            Arc::new(Node { images, holds: Arc::default(), here: None });
        let here = here.map(|(seed, pages)| image(seed, pages));
        let taker: Arc<dyn Replica> =
            Arc::new(Node { images: Vec::new(), holds: Arc::default(), here: here.clone() });
        let folder = tempfile::tempdir().unwrap();
        runtime().block_on(async {
            for frames in cuts.into_iter().chain([usize::MAX]) {
                let Some((at, bytes, _)) = once(&giver, &taker, folder.path(), frames).await else {
                    continue;
                };
                let expected = known.iter().find(|(position, _)| *position == at);
                let expected = &expected.expect("a position that there was").1;
                // What was here already does not come.
                let bytes = bytes.unwrap_or_else(|| here.clone().unwrap().concat());
                assert!(bytes == *expected);
                return;
            }
            panic!("it never came");
        });
        let left = std::fs::read_dir(folder.path()).unwrap().count();
        prop_assert_eq!(left, 0);
    }
}

/// What came before a break is not sent again, nor what the taker has anyway.
#[test]
fn only_what_is_missing_is_sent() {
    let whole = image(3, 4000);
    let giver: Arc<dyn Replica> =
        Arc::new(Node { images: vec![whole.clone()], holds: Arc::default(), here: None });
    let nothing: Arc<dyn Replica> = Arc::new(Node::default());
    let folder = tempfile::tempdir().unwrap();
    runtime().block_on(async {
        // The offer, its checksums, its end, a round, and two frames of 256 KiB of pages.
        assert!(once(&giver, &nothing, folder.path(), 6).await.is_none());
        let (_, bytes, moved) =
            once(&giver, &nothing, folder.path(), usize::MAX).await.expect("it comes");
        assert!(bytes.unwrap() == whole.concat());
        let all = (4000 * SIZE) as u64;
        assert_eq!(moved.0, all - 2 * (256 << 10));

        // One that has a quarter of them.
        let other = Node { here: Some(image(4, 4000)), ..Node::default() };
        let other: Arc<dyn Replica> = Arc::new(other);
        let (_, _, moved) = once(&giver, &other, folder.path(), usize::MAX).await.unwrap();
        assert_eq!(moved.0, all / 4 * 3);

        // And one that has it all: nothing is copied.
        let same: Arc<dyn Replica> =
            Arc::new(Node { here: Some(whole.clone()), ..Node::default() });
        let (_, bytes, moved) = once(&giver, &same, folder.path(), usize::MAX).await.unwrap();
        assert!(bytes.is_none());
        assert_eq!(moved.0, 0);
    });
}

/// A page that rotted on the giver's disk does not get through, and is named.
#[test]
fn checksums_that_do_not_add_up_are_refused() {
    let image = image(3, 20);
    let header = DatabaseHeader {
        name: DatabaseName::new("a.db").unwrap(),
        incarnation: Incarnation(1),
        index: 1,
    };
    let offer = Offer { header, page_size: SIZE as u32, pages: 20, position: position(&image, 4) };
    let mut sums = sums(&image);
    assert_eq!(offer.check(&sums), Ok(()));
    sums[3] ^= 1;
    assert!(offer.check(&sums).unwrap_err().contains("do not add up"));
    sums.pop();
    assert!(offer.check(&sums).unwrap_err().contains("19 checksums for 20 pages"));
}

#[test]
fn a_set_of_pages_is_its_bits() {
    let mut set = PageSet::empty(20);
    for pgno in [1, 8, 9, 20] {
        set.insert(pgno);
    }
    let again = PageSet::of(set.as_bytes().to_vec());
    let found: Vec<u32> = (1..=24).filter(|pgno| again.contains(*pgno)).collect();
    assert_eq!((found, again.len()), (vec![1, 8, 9, 20], 4));
}

/// A later life of the leader sends one too: the earlier one is broken off, and its file is free.
#[tokio::test]
async fn a_later_snapshot_breaks_off_an_earlier_one() {
    let turns = Arc::new(Turns::default());
    let (earlier, began) = (Arc::clone(&turns), Arc::new(tokio::sync::Notify::new()));
    let begun = Arc::clone(&began);
    let first = tokio::spawn(async move {
        let work = |turn| async move {
            begun.notify_one();
            let _turn: Turn = turn;
            std::future::pending::<Result<(), LinkError>>().await
        };
        earlier.supersede(work).await
    });
    began.notified().await;
    let second = turns.supersede(|_turn| async { Ok(5) }).await.unwrap();
    assert_eq!(second, 5);
    assert!(first.await.unwrap().unwrap_err().why.contains("another snapshot"));
}

/// A start keeps what came for the next try.
#[test]
fn what_was_begun_outlives_a_start() {
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str| folder.path().join(name);
    std::fs::write(path("12.3.received"), "whole").unwrap();
    std::fs::write(path("13.partial"), "half").unwrap();
    std::fs::write(path("other"), "").unwrap();
    let now = std::time::SystemTime::now();
    clean(folder.path(), now).unwrap();
    assert_eq!(std::fs::read(path("12.partial")).unwrap(), b"whole");
    assert!(path("13.partial").exists());
    clean(folder.path(), now + std::time::Duration::from_hours(25)).unwrap();
    assert!(!path("13.partial").exists() && path("other").exists());
}
