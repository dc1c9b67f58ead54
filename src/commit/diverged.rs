//! What was set aside on this node, as it is told, given out and dropped (nothing-discarded).

use super::databases::AllDatabases;
use crate::core::DatabaseName;
use crate::core::transfer::{Diverged, DivergedDatabase, Export, TransferError};
use crate::store::{Kept, KeptDatabase, StoreError};

impl AllDatabases {
    /// All of it. Blocks.
    ///
    /// # Errors
    /// The folder cannot be read.
    pub fn diverged(&self) -> Result<Vec<Diverged>, TransferError> {
        Ok(self.store().kept().map_err(|error| unread(&error))?.iter().map(told).collect())
    }

    /// The bytes of a database that was set aside. Blocks.
    ///
    /// # Errors
    /// There is none of that name, or several, or they cannot be read.
    pub fn export_diverged(
        &self,
        id: &str,
        database: Option<&DatabaseName>,
    ) -> Result<Export, TransferError> {
        let kept = self.kept(id)?;
        let fits = |one: &&KeptDatabase| database.is_none() || name_of(one) == database;
        let mut fitting = kept.databases.iter().filter(fits);
        let (found, more) = (fitting.next(), fitting.next());
        match (found, more) {
            (Some(one), None) => {
                let opened = one.open();
                let (bytes, file) =
                    opened.map_err(|e| TransferError::Unavailable(e.to_string()))?;
                Ok(Export { position: None, bytes, file })
            }
            (None, _) => Err(TransferError::Missing(format!("{id} holds no such database"))),
            (Some(_), Some(_)) => {
                let why = format!("{id} holds several databases; say which: --database NAME");
                Err(TransferError::OutOfStep(why))
            }
        }
    }

    /// Removes it for good. Blocks.
    ///
    /// # Errors
    /// There is none of that name, or it cannot be removed.
    pub fn drop_diverged(&self, id: &str) -> Result<Diverged, TransferError> {
        let kept = self.kept(id)?;
        self.store().drop_kept(&kept).map_err(|error| unread(&error))?;
        tracing::warn!(id, "what was set aside is dropped, as was asked");
        Ok(told(&kept))
    }

    /// By its whole name only.
    fn kept(&self, id: &str) -> Result<Kept, TransferError> {
        let mut all = self.store().kept().map_err(|error| unread(&error))?;
        let at = all.iter().position(|kept| kept.id == id);
        let missing = || TransferError::Missing(format!("nothing called {id} was set aside here"));
        Ok(all.swap_remove(at.ok_or_else(missing)?))
    }
}

fn unread(error: &StoreError) -> TransferError {
    TransferError::Unavailable(error.to_string())
}

fn name_of(database: &KeptDatabase) -> Option<&DatabaseName> {
    database.record.as_ref().map(|record| &record.name)
}

fn told(kept: &Kept) -> Diverged {
    let database = |one: &KeptDatabase| DivergedDatabase {
        name: name_of(one).cloned(),
        position: one.record.as_ref().map(|record| record.position.to_string()),
        bytes: one.bytes,
    };
    Diverged {
        id: kept.id.clone(),
        set_aside: kept.since,
        why: kept.why.clone(),
        bytes: kept.bytes,
        databases: kept.databases.iter().map(database).collect(),
    }
}
