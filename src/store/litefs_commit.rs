//! A commit that SQLite had answered, and a LiteFS that was killed had not come to.
//!
//! In WAL mode SQLite answers once the commit is in the WAL; LiteFS makes its LTX file of it when the write lock
//! is let go, and at its next start cuts the WAL off where its last LTX file ends (`syncWALToLTX`). What an
//! application was told to be there would be gone. So the LTX file that is missing is made here, before LiteFS
//! starts again and before anybody asks how far this node is: as SQLite itself takes what it finds in a WAL.
//!
//! nothing-discarded: if another node has become primary meanwhile, the database differs from then on, and is set
//! aside as every other that does.

use std::fs;
use std::io::{self, BufWriter, Write};
use std::os::unix::fs::FileExt;
use std::path::Path;

use super::durable;
use super::litefs_folder::{LitefsDatabase, ltx_name};
use super::outside::{Outside, OutsideError, at};
use crate::core::clock::signed_unix_ms;
use crate::core::{DatabaseName, Position, Txid};
use crate::ltx::{EncoderV1, Header, WalSpan, lock_page, page_checksum};
use crate::sqlite::FrameHeader;
use crate::sqlite::wal::FRAME_HEADER_SIZE;

/// Finishes what a LiteFS that has ended did not: the databases in its data folder of which the WAL holds more
/// than the last LTX file, and where they are now. What cannot be finished is logged, and left to LiteFS. Blocks;
/// a database that is finished is read from its first page to its last, as LiteFS does at its start.
pub fn finish_litefs_commits(folder: &Path) -> Vec<(DatabaseName, Position)> {
    let Ok(listing) = fs::read_dir(folder.join("dbs")) else { return Vec::new() };
    let mut finished = Vec::new();
    for folder in listing.flatten().map(|entry| entry.path()) {
        match finish(&folder) {
            Ok(Some(done)) => finished.push(done),
            Ok(None) => {}
            Err(error) => {
                tracing::warn!(%error, "what LiteFS had not finished here cannot be finished");
            }
        }
    }
    finished
}

fn finish(folder: &Path) -> Result<Option<(DatabaseName, Position)>, OutsideError> {
    let Some(database) = LitefsDatabase::in_folder(folder.to_owned())? else { return Ok(None) };
    let known = database.wal;
    let end = known.offset.saturating_add(known.size);
    let [main, wal, journal] = database.parts();
    // Of most databases the WAL ends there, or goes on with frames of an earlier life.
    if known.size == 0 || !goes_on(&wal, end, known)? {
        return Ok(None);
    }
    let before = Outside::open_until(&main, &wal, &journal, Some(known))?;
    let after = Outside::open_parts(&main, &wal, &journal)?;
    if before.wal_end() != end || after.wal_end() <= end {
        return Ok(None); // begun, and not committed
    }
    let base = database.position;
    let mut checksum = base.checksum;
    let pages = after.pages_since(end);
    let gone = after.pages() + 1..=before.pages();
    let lock = lock_page(after.page_size());
    for pgno in pages.iter().copied().chain(gone).filter(|pgno| *pgno != lock) {
        if pgno <= before.pages() {
            checksum = checksum.toggle(page_checksum(pgno, &before.page(pgno)?));
        }
        if pgno <= after.pages() {
            checksum = checksum.toggle(page_checksum(pgno, &after.page(pgno)?));
        }
    }
    // LiteFS would not start over a file that says otherwise than the database is.
    if after.checksum()? != checksum {
        let why = "the database is not what its last LTX file and its WAL make of it".to_owned();
        return Err(OutsideError::Damaged { path: folder.to_owned(), why });
    }
    let position = Position { txid: Txid(base.txid.0 + 1), checksum };
    let header = Header {
        page_size: after.page_size(),
        commit: after.pages(),
        min_txid: position.txid,
        max_txid: position.txid,
        timestamp_ms: signed_unix_ms(),
        pre_apply: base.checksum,
        node_id: 0,
        wal: WalSpan { offset: end, size: after.wal_end() - end, ..known },
    };
    let path = folder.join("ltx").join(ltx_name(position.txid, position.txid));
    write(&path, header, &after, &pages, position)?;
    Ok(Some((database.name, position)))
}

/// Whether there is a frame of the same life of the WAL at this offset.
fn goes_on(wal: &Path, offset: u64, known: WalSpan) -> Result<bool, OutsideError> {
    let file = match fs::File::open(wal) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(false),
        file => file.map_err(at("open", wal))?,
    };
    let mut head = [0; FRAME_HEADER_SIZE];
    match file.read_exact_at(&mut head, offset) {
        Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => return Ok(false),
        read => read.map_err(at("read", wal))?,
    }
    Ok(FrameHeader::parse(&head).salts.0 == known.salts())
}

/// The LTX file appears whole, or not at all.
fn write(
    path: &Path,
    header: Header,
    after: &Outside,
    pages: &[u32],
    position: Position,
) -> Result<(), OutsideError> {
    let produce = |file: &mut fs::File| {
        let mut file = EncoderV1::new(BufWriter::new(file), header).map_err(io::Error::other)?;
        for pgno in pages {
            let page = after.page(*pgno).map_err(io::Error::other)?;
            file.page(*pgno, &page).map_err(io::Error::other)?;
        }
        let (mut file, _) = file.finish(position.checksum).map_err(io::Error::other)?;
        file.flush()
    };
    durable::write_with(path, produce).map_err(at("write", path))
}

#[cfg(test)]
mod tests {
    use std::path::PathBuf;

    use rusqlite::Connection;

    use super::*;
    use crate::store::litefs_positions;

    /// A LiteFS's data folder, and SQLite on the same database with SQLite's own names.
    struct Place {
        dir: tempfile::TempDir,
        sqlite: Connection,
    }

    impl Place {
        /// With one LTX file that ends where the WAL does now.
        fn new() -> Self {
            let dir = tempfile::tempdir().unwrap();
            fs::create_dir_all(dir.path().join("data/dbs/a.db/ltx")).unwrap();
            let sqlite = Connection::open(dir.path().join("plain")).unwrap();
            let mode: String =
                sqlite.query_row("PRAGMA journal_mode = wal", [], |row| row.get(0)).unwrap();
            assert_eq!(mode, "wal");
            let place = Self { dir, sqlite };
            place.run("CREATE TABLE t(x); INSERT INTO t VALUES (zeroblob(20000))");
            place.copy();
            place.make_first_ltx();
            place
        }

        fn run(&self, sql: &str) {
            self.sqlite.execute_batch(sql).unwrap();
        }

        fn folder(&self) -> PathBuf {
            self.dir.path().join("data/dbs/a.db")
        }

        fn copy(&self) {
            for (name, to) in [("plain", "database"), ("plain-wal", "wal")] {
                fs::copy(self.dir.path().join(name), self.folder().join(to)).unwrap();
            }
        }

        fn opened(&self) -> Outside {
            let part = |name: &str| self.folder().join(name);
            Outside::open_parts(&part("database"), &part("wal"), &part("journal")).unwrap()
        }

        fn make_first_ltx(&self) {
            let now = self.opened();
            let mut salts = [0; 8];
            fs::File::open(self.folder().join("wal"))
                .unwrap()
                .read_exact_at(&mut salts, 16)
                .unwrap();
            let number = |bytes: &[u8]| u32::from_be_bytes(bytes.try_into().unwrap());
            let wal = WalSpan {
                offset: 32,
                size: now.wal_end() - 32,
                salt1: number(&salts[..4]),
                salt2: number(&salts[4..]),
            };
            let header = Header {
                page_size: now.page_size(),
                commit: now.pages(),
                min_txid: Txid(1),
                max_txid: Txid(1),
                timestamp_ms: 0,
                pre_apply: crate::core::Checksum(0),
                node_id: 0,
                wal,
            };
            let position = Position { txid: Txid(1), checksum: now.checksum().unwrap() };
            let pages: Vec<u32> = (1..=now.pages()).collect();
            let path = self.folder().join("ltx/0000000000000001-0000000000000001.ltx");
            write(&path, header, &now, &pages, position).unwrap();
        }

        fn finish(&self) -> Vec<(DatabaseName, Position)> {
            finish_litefs_commits(&self.dir.path().join("data"))
        }

        /// Where it is, by the last LTX file; its bytes with all of the WAL add up to that.
        fn position(&self) -> Position {
            let position = litefs_positions(&self.dir.path().join("data")).unwrap()["a.db"];
            assert_eq!(self.opened().checksum().unwrap(), position.checksum);
            position
        }
    }

    /// nothing-discarded: whatever the commit did to the database's size.
    #[test]
    fn what_was_answered_is_finished() {
        let place = Place::new();
        assert_eq!(place.finish(), [], "there is nothing to finish");
        let commits = [
            "INSERT INTO t VALUES (1)",
            "INSERT INTO t VALUES (zeroblob(100000))",
            "PRAGMA auto_vacuum = 1; DELETE FROM t WHERE length(x) > 10; VACUUM",
            "BEGIN; INSERT INTO t VALUES (2); UPDATE t SET x = 3; COMMIT",
        ];
        for (txid, commit) in (2..).zip(commits) {
            place.run(commit);
            place.copy();
            let finished = place.finish();
            assert_eq!(finished.len(), 1, "{commit}");
            assert_eq!(finished[0].1.txid, Txid(txid), "{commit}");
            assert_eq!(place.position(), finished[0].1, "{commit}");
            assert_eq!(place.finish(), [], "once");
        }
        let all = LitefsDatabase::list(&place.dir.path().join("data")).unwrap();
        all[0].open().unwrap();
    }

    #[test]
    fn what_was_not_committed_is_left_alone() {
        let place = Place::new();
        place.run("PRAGMA cache_size = 1; BEGIN; INSERT INTO t VALUES (zeroblob(300000))");
        place.copy();
        assert!(place.folder().join("wal").metadata().unwrap().len() > 300_000, "it was spilled");
        assert_eq!(place.finish(), []);
        place.run("COMMIT");
        place.copy();
        let wal = fs::OpenOptions::new().write(true).open(place.folder().join("wal")).unwrap();
        let len = wal.metadata().unwrap().len();
        wal.set_len(len - 1).unwrap();
        assert_eq!(place.finish(), [], "its last frame is not whole");
    }

    /// A damaged database is not declared sound.
    #[test]
    fn what_does_not_add_up_is_left_alone() {
        let place = Place::new();
        place.run("PRAGMA wal_checkpoint; INSERT INTO t VALUES (1)");
        // The WAL goes on from its beginning: it is another life of it.
        place.copy();
        assert_eq!(place.finish(), []);
        let place = Place::new();
        place.run("INSERT INTO t VALUES (1)");
        place.copy();
        let path = place.folder().join("ltx/0000000000000001-0000000000000001.ltx");
        let mut ltx = fs::read(&path).unwrap();
        let at = ltx.len() - 16;
        ltx[at + 7] ^= 1;
        fs::write(&path, ltx).unwrap();
        assert_eq!(place.finish(), []);
    }
}
