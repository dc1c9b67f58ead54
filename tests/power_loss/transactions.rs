//! What stores are filled with: transactions as SQLite makes them, and the daemon's lock tables.

use std::collections::BTreeMap;
use std::fs;
use std::sync::Mutex;

use litefs_py::core::ports::{ByteRange, DaemonLocks, LockFile, LockKind};
use litefs_py::core::{Checksum, Position, Txid};
use litefs_py::locks::LockTable;
use litefs_py::ltx::{Encoder, Header, WalSpan, page_checksum};

/// As the daemon's lock tables.
#[derive(Default)]
pub struct Locks(Mutex<BTreeMap<LockFile, LockTable<u64>>>);

impl DaemonLocks for Locks {
    fn lock(&self, slot: u64, file: LockFile, range: ByteRange, kind: LockKind) -> bool {
        let mut tables = self.0.lock().unwrap();
        tables.entry(file).or_default().try_lock(slot, 0, range, kind).is_ok()
    }

    fn is_locked_exclusively(&self, file: LockFile, range: ByteRange) -> bool {
        let mut tables = self.0.lock().unwrap();
        tables.entry(file).or_default().is_locked_exclusively(range)
    }
}

/// One transaction: its LTX file, and the database after it.
pub struct Transaction {
    pub ltx: Vec<u8>,
    pub image: Vec<u8>,
    pub position: Position,
}

/// What SQLite makes of some statements, one transaction each.
pub fn history(page_size: u32, wal: bool, statements: &[&str]) -> Vec<Transaction> {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("origin");
    let connection = rusqlite::Connection::open(&path).unwrap();
    let settings = format!("PRAGMA page_size={page_size}; PRAGMA journal_mode=MEMORY");
    connection.execute_batch(&settings).unwrap();
    let (mut image, mut position) = (Vec::new(), Position::EMPTY);
    let mut made = Vec::new();
    for statement in statements {
        connection.execute_batch(statement).unwrap();
        let mut next = fs::read(&path).unwrap();
        if wal {
            next[18..20].copy_from_slice(&[2, 2]);
        }
        let transaction = transaction(page_size as usize, &image, position, next);
        (image, position) = (transaction.image.clone(), transaction.position);
        made.push(transaction);
    }
    made
}

/// The whole database after the last of them, as a snapshot.
pub fn snapshot(page_size: u32, of: &Transaction) -> Transaction {
    let (base, image) = (Position::EMPTY, of.image.clone());
    let mut whole = transaction(page_size as usize, &[], base, image);
    whole.position.txid = of.position.txid;
    whole.ltx = encode(page_size as usize, &[], base, &whole.image, whole.position, Txid(1));
    whole
}

fn transaction(size: usize, old: &[u8], base: Position, image: Vec<u8>) -> Transaction {
    let sums = (1..).zip(image.chunks(size)).map(|(number, page)| page_checksum(number, page));
    let checksum = sums.fold(Checksum(0), Checksum::toggle);
    let position = Position { txid: Txid(base.txid.0 + 1), checksum };
    let ltx = encode(size, old, base, &image, position, position.txid);
    Transaction { ltx, image, position }
}

fn encode(
    size: usize,
    old: &[u8],
    base: Position,
    image: &[u8],
    to: Position,
    min_txid: Txid,
) -> Vec<u8> {
    let header = Header {
        page_size: size as u32,
        commit: (image.len() / size) as u32,
        min_txid,
        max_txid: to.txid,
        timestamp_ms: 0,
        pre_apply: base.checksum,
        node_id: 1,
        wal: WalSpan::default(),
    };
    let mut encoder = Encoder::new(Vec::new(), header).unwrap();
    for (number, page) in (1..).zip(image.chunks(size)) {
        let offset = (number as usize - 1) * size;
        if old.get(offset..offset + size) != Some(page) {
            encoder.page(number, page).unwrap();
        }
    }
    encoder.finish(to.checksum).unwrap().0
}
