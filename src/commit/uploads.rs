//! The bytes of databases that are being imported, until they are all here.
//!
//! ```text
//! imports/<id>/upload    what is to come: JSON
//! imports/<id>/data      what came so far
//! ```
//! An upload that broke off goes on at the length of `data`, also after a restart of the node. What came
//! is believed only when all of it has the announced hash, so that nothing here is synced. Bounded:
//! pieces have a size, an upload ends at what it announced, and one that nobody goes on with for a day
//! is removed.

use std::collections::HashMap;
use std::fs::{self, File};
use std::io;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use futures::future::BoxFuture;
use sha2::{Digest, Sha256};
use tokio::sync::watch;
use tokio::time::timeout;

use super::import::disk;
use super::lock;
use crate::core::DatabaseName;
use crate::core::transfer::{Imported, PIECE_MAX, TransferError, Upload, UploadId, Uploaded};

/// How long an upload waits for its next piece.
const KEPT: Duration = Duration::from_hours(24);

/// How many outcomes are remembered, for who did not hear the answer.
const REMEMBERED: usize = 64;

/// What an import takes on a node's disk at once, in times of the database: the upload, the transaction
/// that it travels as, and the database itself.
const ROOM: u64 = 3;

/// Who makes databases of what was uploaded: the engine.
pub trait Intake: Send + Sync + 'static {
    /// The name is free, as far as this node knows.
    ///
    /// # Errors
    /// It is taken.
    fn must_be_free(&self, name: &DatabaseName) -> Result<(), TransferError>;

    /// All of it is in the file `data`: checks it, and makes it a database on all nodes.
    fn take_in(
        self: Arc<Self>,
        id: UploadId,
        upload: Upload,
        data: PathBuf,
    ) -> BoxFuture<'static, Result<Imported, TransferError>>;
}

/// Uploads to this node.
pub struct Uploads {
    folder: PathBuf,
    intake: Arc<dyn Intake>,
    known: Mutex<HashMap<UploadId, Arc<Known>>>,
}

/// One of them, in this life of the process.
struct Known {
    /// One piece at a time.
    writing: Mutex<()>,
    outcome: watch::Sender<Outcome>,
}

#[derive(Clone)]
enum Outcome {
    /// Pieces are to come, or it is to be finished.
    Open,
    AtWork,
    Over(Result<Imported, TransferError>),
}

impl Uploads {
    /// Opens the folder, or makes it.
    ///
    /// # Errors
    /// It cannot be made.
    pub fn open(folder: &Path, intake: Arc<dyn Intake>) -> io::Result<Arc<Self>> {
        fs::create_dir_all(folder)?;
        let known = Mutex::default();
        let uploads = Arc::new(Self { folder: folder.to_owned(), intake, known });
        uploads.remove_old()?;
        Ok(uploads)
    }

    /// For what is read once and has no name.
    pub fn folder(&self) -> &Path {
        &self.folder
    }

    /// Begins an upload, or finds the one of the same bytes. Blocks.
    ///
    /// # Errors
    /// The name is taken, what is announced cannot be, or there is no room for it.
    pub fn begin(&self, upload: &Upload) -> Result<Uploaded, TransferError> {
        let hexadecimal = |b: u8| b.is_ascii_digit() || (b'a'..=b'f').contains(&b);
        if upload.sha256.len() != 64 || !upload.sha256.bytes().all(hexadecimal) {
            let why = "sha256: 64 hexadecimal digits, in lower case".to_owned();
            return Err(TransferError::Unfit(why));
        }
        let id = name_of(upload)?;
        let known = self.known(&id);
        if matches!(*known.outcome.borrow(), Outcome::AtWork) {
            return Ok(Uploaded { upload: id, received: upload.bytes });
        }
        self.intake.must_be_free(&upload.database)?;
        // Of a database that has been removed since.
        known.outcome.send_replace(Outcome::Open);
        let failed = |error: io::Error| disk(&upload.database, &error);
        self.remove_old().map_err(failed)?;
        let _one = lock(&known.writing);
        let folder = self.folder_of(&id);
        fs::create_dir_all(&folder).map_err(failed)?;
        let text = serde_json::to_vec(upload).map_err(|error| failed(error.into()))?;
        fs::write(folder.join("upload"), text).map_err(failed)?;
        let data = open_data(&folder).map_err(failed)?;
        let received = data.metadata().map_err(failed)?.len().min(upload.bytes);
        let free = free_bytes(&folder).map_err(failed)?;
        let wanted = upload.bytes.saturating_mul(ROOM) - received;
        if free < wanted {
            if received == 0 {
                self.remove(&id);
            }
            return Err(TransferError::NoSpace(format!(
                "{}: the node's disk has {free} bytes free, and this takes {wanted}; make room in \
                 its data folder",
                upload.database
            )));
        }
        Ok(Uploaded { upload: id, received })
    }

    /// Takes the next piece. Blocks.
    ///
    /// # Errors
    /// It is not the next, or more than was announced; or the disk is full: what came before stays.
    pub fn piece(
        &self,
        id: &UploadId,
        offset: u64,
        piece: &[u8],
    ) -> Result<Uploaded, TransferError> {
        let known = self.known(id);
        let _one = lock(&known.writing);
        let upload = self.read(id)?;
        let failed = |error: io::Error| disk(&upload.database, &error);
        let data = open_data(&self.folder_of(id)).map_err(failed)?;
        let received = data.metadata().map_err(failed)?.len();
        let end = offset.saturating_add(piece.len() as u64);
        if matches!(*known.outcome.borrow(), Outcome::AtWork) {
            let why = "all of it is here, and being imported".to_owned();
            return Err(TransferError::OutOfStep(why));
        }
        if offset != received || end > upload.bytes || piece.len() > PIECE_MAX {
            return Err(TransferError::OutOfStep(format!(
                "{} of {} bytes are here: the next piece begins there, and has at most {PIECE_MAX}",
                received, upload.bytes
            )));
        }
        if let Err(error) = data.write_all_at(piece, offset) {
            // A piece is here whole, or not at all.
            data.set_len(received).map_err(failed)?;
            return Err(failed(error));
        }
        Ok(Uploaded { upload: id.clone(), received: end })
    }

    /// Removes what came so far. Blocks.
    ///
    /// # Errors
    /// There is no such upload, or it is being imported.
    pub fn forget(&self, id: &UploadId) -> Result<Uploaded, TransferError> {
        let known = self.known(id);
        let _one = lock(&known.writing);
        self.read(id)?;
        if matches!(*known.outcome.borrow(), Outcome::AtWork) {
            return Err(TransferError::OutOfStep("it is being imported".to_owned()));
        }
        self.remove(id);
        Ok(Uploaded { upload: id.clone(), received: 0 })
    }

    /// Checks it and brings it in; `None`: it is still at that after `patience`.
    ///
    /// # Errors
    /// Not all of it is here, it is refused, or nobody can take it now: then it stays, and this is
    /// asked again.
    pub async fn finish(
        self: &Arc<Self>,
        id: UploadId,
        patience: Duration,
    ) -> Result<Option<Imported>, TransferError> {
        let known = self.known(&id);
        let mut outcome = known.outcome.subscribe();
        if !matches!(*outcome.borrow(), Outcome::AtWork | Outcome::Over(Ok(_))) {
            let upload = self.read(&id)?;
            let begun = known.outcome.send_if_modified(|outcome| {
                let idle = !matches!(outcome, Outcome::AtWork);
                if idle {
                    *outcome = Outcome::AtWork;
                }
                idle
            });
            if begun {
                let (uploads, known) = (Arc::clone(self), Arc::clone(&known));
                tokio::spawn(async move {
                    let result = uploads.import(&id, upload).await;
                    known.outcome.send_replace(Outcome::Over(result));
                });
            }
        }
        let over = outcome.wait_for(|outcome| matches!(outcome, Outcome::Over(_)));
        match timeout(patience, over).await {
            Ok(Ok(outcome)) => match &*outcome {
                Outcome::Over(result) => result.clone().map(Some),
                Outcome::Open | Outcome::AtWork => Ok(None),
            },
            Ok(Err(_)) | Err(_) => Ok(None),
        }
    }

    async fn import(
        self: &Arc<Self>,
        id: &UploadId,
        upload: Upload,
    ) -> Result<Imported, TransferError> {
        let data = self.folder_of(id).join("data");
        let received = fs::metadata(&data).map_or(0, |data| data.len());
        let result = if received == upload.bytes {
            Arc::clone(&self.intake).take_in(id.clone(), upload, data).await
        } else {
            let why = format!("only {received} of {} bytes are here", upload.bytes);
            Err(TransferError::OutOfStep(why))
        };
        // What is refused is refused tomorrow, too; the rest can be tried again.
        if matches!(result, Ok(_) | Err(TransferError::Unfit(_) | TransferError::Exists(_))) {
            self.remove(id);
        }
        result
    }

    fn known(&self, id: &UploadId) -> Arc<Known> {
        let mut known = lock(&self.known);
        if known.len() > REMEMBERED {
            known.retain(|_, one| Arc::strong_count(one) > 1);
        }
        let new =
            || Known { writing: Mutex::default(), outcome: watch::Sender::new(Outcome::Open) };
        Arc::clone(known.entry(id.clone()).or_insert_with(|| Arc::new(new())))
    }

    fn folder_of(&self, id: &UploadId) -> PathBuf {
        self.folder.join(id.as_str())
    }

    fn read(&self, id: &UploadId) -> Result<Upload, TransferError> {
        let text = fs::read(self.folder_of(id).join("upload")).ok();
        let upload = text.and_then(|text| serde_json::from_slice(&text).ok());
        upload.ok_or_else(|| TransferError::Missing("there is no such upload; begin it".to_owned()))
    }

    fn remove(&self, id: &UploadId) {
        if let Err(error) = fs::remove_dir_all(self.folder_of(id))
            && error.kind() != io::ErrorKind::NotFound
        {
            tracing::warn!(upload = id.as_str(), %error, "an upload's bytes are left behind");
        }
    }

    /// Those that nobody goes on with.
    fn remove_old(&self) -> io::Result<()> {
        for entry in fs::read_dir(&self.folder)? {
            let path = entry?.path();
            let changed = fs::metadata(path.join("data")).and_then(|data| data.modified());
            // Without data it has just been begun, or is just being removed.
            let old =
                changed.is_ok_and(|changed| changed.elapsed().is_ok_and(|since| since > KEPT));
            if old && path.is_dir() {
                fs::remove_dir_all(&path)?;
            }
        }
        Ok(())
    }
}

fn open_data(folder: &Path) -> io::Result<File> {
    let options = File::options().read(true).write(true).create(true).truncate(false).clone();
    options.open(folder.join("data"))
}

fn free_bytes(folder: &Path) -> io::Result<u64> {
    let found = rustix::fs::statvfs(folder)?;
    Ok(found.f_bavail.saturating_mul(found.f_frsize))
}

/// The same for the same bytes under the same name.
fn name_of(upload: &Upload) -> Result<UploadId, TransferError> {
    let mut hash = Sha256::new();
    let Upload { database, bytes, sha256 } = upload;
    hash.update(format!("{database}\0{bytes}\0{sha256}"));
    let digits = format!("{:x}", hash.finalize()).chars().take(32).collect::<String>();
    UploadId::try_from(digits).map_err(TransferError::Unfit)
}
