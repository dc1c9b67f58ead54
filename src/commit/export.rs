//! A database goes out: its bytes as of one position, while it is read and written.

use std::fs::{self, File};
use std::io;
use std::path::Path;
use std::time::{Duration, Instant};

use super::databases::AllDatabases;
use super::import::disk;
use crate::core::DatabaseName;
use crate::core::transfer::{Export, TransferError};
use crate::store::{Image, JournalMode, StoreError};

/// Between two tries when a writer, or what is being applied, is in the way.
const AGAIN: Duration = Duration::from_millis(20);

impl AllDatabases {
    /// Begins to read a database as a reader does, in one snapshot. In WAL mode writers go on. With a
    /// rollback journal they would wait for as long as somebody takes to receive it: so it is copied
    /// first, into `folder`, and they wait for that. Blocks.
    ///
    /// # Errors
    /// There is none of that name here, it is in use past `patience`, or the disk is full.
    pub fn export(
        &self,
        name: &DatabaseName,
        folder: &Path,
        patience: Duration,
    ) -> Result<Export, TransferError> {
        let deadline = Instant::now() + patience;
        loop {
            let missing = || TransferError::Missing(format!("there is no database {name}"));
            let database = self.find(name).ok_or_else(missing)?;
            if database.is_lost() {
                let why =
                    format!("{name} was damaged here and is not fetched yet; ask another node");
                return Err(TransferError::Unavailable(why));
            }
            database.incarnation().ok_or_else(missing)?;
            match database.store().image() {
                Ok(image) if image.mode == JournalMode::Wal => {
                    let (position, bytes) = (Some(image.position), image.bytes());
                    return Ok(Export { position, bytes, file: Box::new(image) });
                }
                Ok(image) => return copied(name, image, folder),
                Err(StoreError::Busy { .. } | StoreError::Unpublished { .. })
                    if Instant::now() < deadline =>
                {
                    std::thread::sleep(AGAIN);
                }
                Err(error) => return Err(TransferError::Unavailable(error.to_string())),
            }
        }
    }
}

fn copied(name: &DatabaseName, mut image: Image, folder: &Path) -> Result<Export, TransferError> {
    let (position, bytes) = (image.position, image.bytes());
    let mut copy = || {
        let path = folder.join(format!("export-{}", rand::random::<u64>()));
        let mut file = File::options().read(true).write(true).create_new(true).open(&path)?;
        // Without a name from here on: whatever happens, it is gone when it is closed.
        fs::remove_file(&path)?;
        io::copy(&mut image, &mut file)?;
        io::Seek::rewind(&mut file)?;
        Ok(file)
    };
    let file = copy().map_err(|error| disk(name, &error))?;
    Ok(Export { position: Some(position), bytes, file: Box::new(file) })
}
