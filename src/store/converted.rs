//! A database written as the one engine or the other keeps it (`litefs-py convert`).
//!
//! What was written is read again, and held against the checksum that it had before.

use std::fs::{self, File};
use std::io::{self, BufWriter, Write};
use std::path::Path;

use super::durable;
use super::litefs_folder::ltx_name;
use super::outside::{Outside, OutsideError, at, quick_check};
use super::record::Record;
use crate::core::{Checksum, Position, Txid};
use crate::ltx::{EncoderV1, Header, WalSpan};

/// Bytes that are written at once.
const PIECE: usize = 1 << 20;

/// Makes the folder of a slot: the database, and its record. Answers the checksum of what is there.
///
/// # Errors
/// The disk's; or SQLite finds the database damaged, if `check` asks it.
pub fn make_slot(
    outside: &Outside,
    folder: &Path,
    record: &Record,
    check: bool,
) -> Result<Checksum, OutsideError> {
    fs::create_dir_all(folder).map_err(at("make", folder))?;
    let sum = copy(outside, &folder.join("database"), record.position.checksum, check)?;
    let path = folder.join("record");
    let bytes = record.encode().map_err(|error| at("write", &path)(io::Error::other(error)))?;
    durable::write(&path, &bytes).map_err(at("write", &path))?;
    Ok(sum)
}

/// Makes the folder that LiteFS has of a database: the database, and one LTX file that holds all of it and
/// leads to its position. Answers the checksum of what is there.
///
/// # Errors
/// The same.
pub fn make_for_litefs(
    outside: &Outside,
    folder: &Path,
    position: Position,
    timestamp_ms: i64,
    check: bool,
) -> Result<Checksum, OutsideError> {
    let ltx = folder.join("ltx");
    fs::create_dir_all(&ltx).map_err(at("make", &ltx))?;
    let sum = copy(outside, &folder.join("database"), position.checksum, check)?;
    let path = ltx.join(ltx_name(Txid(1), position.txid));
    let failed = |source| OutsideError::Ltx { path: path.clone(), source };
    let header = Header {
        page_size: outside.page_size(),
        commit: outside.pages(),
        min_txid: Txid(1),
        max_txid: position.txid,
        timestamp_ms,
        pre_apply: Checksum(0),
        node_id: 0,
        wal: WalSpan::default(),
    };
    let file = File::create_new(&path).map_err(at("make", &path))?;
    let mut snapshot =
        EncoderV1::new(BufWriter::with_capacity(PIECE, file), header).map_err(failed)?;
    outside.each_page(|pgno, page| snapshot.page(pgno, page).map_err(failed))?;
    let (file, _) = snapshot.finish(position.checksum).map_err(failed)?;
    let file = file.into_inner().map_err(|error| at("write", &path)(error.into_error()))?;
    file.sync_all().map_err(at("sync", &path))?;
    for changed in [&ltx, folder] {
        durable::sync_folder(changed).map_err(at("sync", changed))?;
    }
    Ok(sum)
}

/// Copies it, synced, with the transactions of its WAL in it, and reads it again.
fn copy(
    outside: &Outside,
    to: &Path,
    expected: Checksum,
    check: bool,
) -> Result<Checksum, OutsideError> {
    let file = File::create_new(to).map_err(at("make", to))?;
    let mut writer = BufWriter::with_capacity(PIECE, &file);
    let mut reader = io::BufReader::with_capacity(PIECE, outside.reader());
    io::copy(&mut reader, &mut writer).map_err(at("write", to))?;
    writer.flush().map_err(at("write", to))?;
    drop(writer);
    file.sync_all().map_err(at("sync", to))?;
    let none = to.with_extension("none");
    let written = Outside::open_parts(to, &none, &none)?;
    let sum = written.checksum()?;
    if sum != expected {
        let why = format!(
            "what was written of it has the checksum {:016x}, and should have {:016x}",
            sum.0, expected.0
        );
        return Err(OutsideError::Damaged { path: to.to_owned(), why });
    }
    if check {
        quick_check(to)?;
    }
    Ok(sum)
}
