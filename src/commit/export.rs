//! A database goes out: its bytes as of one position, while it is read and written.

use std::fs::{self, File};
use std::io;
use std::path::Path;
use std::time::Duration;

use super::databases::AllDatabases;
use super::import::disk;
use super::patience::patiently;
use crate::core::DatabaseName;
use crate::core::transfer::{Export, TransferError};
use crate::store::{Image, JournalMode};

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
        let begun = patiently(patience, || {
            let missing = || TransferError::Missing(format!("there is no database {name}"));
            let Some(database) = self.find(name) else { return Ok(Err(missing())) };
            if database.is_lost() {
                let why =
                    format!("{name} was damaged here and is not fetched yet; ask another node");
                return Ok(Err(TransferError::Unavailable(why)));
            }
            if database.incarnation().is_none() {
                return Ok(Err(missing()));
            }
            database.store().image().map(Ok)
        });
        let image = begun.map_err(|error| TransferError::Unavailable(error.to_string()))??;
        if image.mode != JournalMode::Wal {
            return copied(name, image, folder);
        }
        let (position, bytes) = (Some(image.position), image.bytes());
        Ok(Export { position, bytes, file: Box::new(image) })
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
