//! Reads a whole database, to see whether its bytes are what its position says (one-history).

use std::io;
use std::time::Duration;

use super::databases::AllDatabases;
use super::patience::patiently;
use crate::core::DatabaseName;
use crate::core::engine::Copy;

impl AllDatabases {
    /// Reads every page as a reader does, in one snapshot: writers go on, the WAL does not begin anew
    /// meanwhile. Blocks for as long as the disk takes.
    pub fn check(&self, name: &DatabaseName, patience: Duration) -> Copy {
        let begun = patiently(patience, || {
            let Some(database) = self.find(name) else { return Ok(Err(Copy::Missing)) };
            if database.is_lost() {
                let why = "it is being fetched from another node".to_owned();
                return Ok(Err(Copy::Damaged { why }));
            }
            let Some(incarnation) = database.incarnation() else { return Ok(Err(Copy::Missing)) };
            let snapshot = database.store().snapshot(self.shared().group.me().0, 0)?;
            Ok(Ok((incarnation, snapshot)))
        });
        let (incarnation, mut snapshot) = match begun {
            Ok(Ok(begun)) => begun,
            Ok(Err(copy)) => return copy,
            Err(error) => return Copy::Unread { why: error.to_string() },
        };
        let (position, pages) = (snapshot.position, snapshot.pages);
        // The end of it is refused if the pages do not add up to the position's checksum.
        match io::copy(&mut snapshot, &mut io::sink()) {
            Ok(_) => Copy::Sound { incarnation, position, pages },
            Err(error) => Copy::Damaged { why: error.to_string() },
        }
    }
}
