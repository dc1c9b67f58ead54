//! Reads a whole database, to see whether its bytes are what its position says (one-history).

use std::io;
use std::time::{Duration, Instant};

use super::databases::AllDatabases;
use crate::core::DatabaseName;
use crate::core::engine::Copy;
use crate::store::StoreError;

/// Between two tries when a writer, or what is being applied, is in the way.
const AGAIN: Duration = Duration::from_millis(20);

impl AllDatabases {
    /// Reads every page as a reader does, in one snapshot: writers go on, the WAL does not begin anew
    /// meanwhile. Blocks for as long as the disk takes.
    pub fn check(&self, name: &DatabaseName, patience: Duration) -> Copy {
        let deadline = Instant::now() + patience;
        loop {
            let Some(database) = self.find(name) else { return Copy::Missing };
            if database.is_lost() {
                return Copy::Damaged { why: "it is being fetched from another node".to_owned() };
            }
            let Some(incarnation) = database.incarnation() else { return Copy::Missing };
            let node = self.shared().group.me().0;
            match database.store().snapshot(node, 0) {
                Ok(mut snapshot) => {
                    let (position, pages) = (snapshot.position, snapshot.pages);
                    // The end of it is refused if the pages do not add up to the position's checksum.
                    return match io::copy(&mut snapshot, &mut io::sink()) {
                        Ok(_) => Copy::Sound { incarnation, position, pages },
                        Err(error) => Copy::Damaged { why: error.to_string() },
                    };
                }
                Err(StoreError::Busy { .. } | StoreError::Unpublished { .. })
                    if Instant::now() < deadline =>
                {
                    std::thread::sleep(AGAIN);
                }
                Err(error) => return Copy::Unread { why: error.to_string() },
            }
        }
    }
}
