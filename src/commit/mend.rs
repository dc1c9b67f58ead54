//! Looking for rotten pages, and mending them with what another node has (see `store`'s scrub).

use std::time::Duration;

use super::counters::count;
use super::databases::AllDatabases;
use super::patience::patiently;
use crate::core::{DatabaseName, Incarnation};
use crate::store::{Scrubbed, StoreError};

/// How long writers, or what is being applied, may be in the way.
const PATIENCE: Duration = Duration::from_secs(10);

impl AllDatabases {
    /// Reads all pages of a database of this node, and names those that are rotten. Nothing: there is no
    /// such database, or it is being fetched. Blocks.
    ///
    /// # Errors
    /// The disk's, or writers were in the way all the time.
    pub fn scrub(
        &self,
        name: &DatabaseName,
        pause: &dyn Fn(),
    ) -> Result<Option<(Incarnation, Scrubbed)>, StoreError> {
        let Some(database) = self.find(name).filter(|database| !database.is_lost()) else {
            return Ok(None);
        };
        let Some(incarnation) = database.incarnation() else { return Ok(None) };
        let scrubbed = patiently(PATIENCE, || database.store().scrub(pause))?;
        for _ in &scrubbed.rotten {
            count(&self.shared().counters.rotten);
        }
        Ok(Some((incarnation, scrubbed)))
    }

    /// A page for a node whose own is rotten. Blocks.
    ///
    /// # Errors
    /// It is not here, of another life of the name, or rotten here, too.
    pub fn page_for(
        &self,
        name: &DatabaseName,
        incarnation: Incarnation,
        pgno: u32,
    ) -> Result<Vec<u8>, String> {
        let database = self.find(name).filter(|database| !database.is_lost());
        let database = database.ok_or_else(|| format!("{name} is not here"))?;
        if database.incarnation() != Some(incarnation) {
            return Err(format!("{name} is of another life here"));
        }
        let page =
            patiently(PATIENCE, || database.store().sound_page(pgno)).map_err(|e| e.to_string())?;
        page.ok_or_else(|| format!("page {pgno} of {name} is rotten or missing here, too"))
    }

    /// Puts a page in the place of a rotten one, if it is the right one. Blocks.
    ///
    /// # Errors
    /// The disk's.
    pub fn mend(&self, name: &DatabaseName, pgno: u32, bytes: &[u8]) -> Result<bool, StoreError> {
        let Some(database) = self.find(name) else { return Ok(false) };
        let mended = patiently(PATIENCE, || database.store().mend(pgno, bytes))?;
        if mended {
            count(&self.shared().counters.mended);
        }
        Ok(mended)
    }
}
