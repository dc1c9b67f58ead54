//! Pages that a read found rotten: the reader waits a moment while they are mended with what another node
//! has, and is told an error rather than wrong bytes if they are not.

use std::collections::BTreeMap;
use std::sync::Mutex;
use std::time::{Duration, Instant};

use tokio::sync::Notify;

use super::counters::count;
use super::database::Database;
use super::door::{Errno, FileKind, Reply};
use super::lock;
use crate::core::{DatabaseName, Incarnation};

/// How long a read waits (bounded-answer).
const PATIENCE: Duration = Duration::from_secs(3);
/// After this, a page that no node could mend is asked for again.
const AGAIN: Duration = Duration::from_secs(10);
/// Between two looks at the page.
const LOOK: Duration = Duration::from_millis(5);

/// A page, by its number, of one life of a database.
pub type RottenPage = (DatabaseName, Incarnation, u32);

/// What is done about one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Care {
    Waits,
    Mending,
    /// No node had the right bytes at this time; for a while nobody is asked again.
    Failed(Instant),
}

/// Those that were found, until they are mended.
#[derive(Default)]
pub struct RottenPages {
    pages: Mutex<BTreeMap<RottenPage, Care>>,
    found: Notify,
}

impl RottenPages {
    /// Whether it is new, and whether there is hope.
    fn add(&self, page: RottenPage) -> (bool, bool) {
        let mut pages = lock(&self.pages);
        let known = pages.get(&page).copied();
        match known {
            Some(Care::Failed(at)) if at.elapsed() < AGAIN => return (false, false),
            Some(Care::Waits | Care::Mending) => return (false, true),
            Some(Care::Failed(_)) | None => {}
        }
        pages.insert(page, Care::Waits);
        self.found.notify_one();
        (known.is_none(), true)
    }

    /// Waits for one that nobody mends yet; [`RottenPages::done`] says what came of it.
    pub async fn next(&self) -> RottenPage {
        loop {
            let waiting = {
                let mut pages = lock(&self.pages);
                let waiting = pages.iter_mut().find(|(_, care)| **care == Care::Waits);
                waiting.map(|(page, care)| {
                    *care = Care::Mending;
                    page.clone()
                })
            };
            match waiting {
                Some(page) => return page,
                None => self.found.notified().await,
            }
        }
    }

    /// It was mended, or cannot be now.
    pub fn done(&self, page: &RottenPage, mended: bool) {
        let mut pages = lock(&self.pages);
        if mended {
            pages.remove(page);
        } else if let Some(care) = pages.get_mut(page) {
            *care = Care::Failed(Instant::now());
        }
    }
}

impl Database {
    /// What is to be answered to who read these bytes from the database file: that they hold a page which
    /// the disk changed. `EUCLEAN`: it is being mended; `EIO`: it cannot be, for now.
    pub(super) fn check_rot(&self, offset: u64, bytes: &[u8]) -> Result<(), Errno> {
        let Some(pgno) = self.store.suspect(offset, bytes) else { return Ok(()) };
        // Writers in the way: then it was one of them.
        if !self.store.is_rotten(pgno).unwrap_or(false) {
            return Ok(());
        }
        let incarnation = self.store.incarnation().unwrap_or_default();
        let (new, hope) = self.shared.rotten.add((self.name.clone(), incarnation, pgno));
        if new {
            count(&self.shared.counters.rotten);
            tracing::error!(
                database = %self.name, pgno,
                "a page that is read is not what was written: the disk changed it; asking the other nodes"
            );
        }
        Err(Errno(if hope { libc::EUCLEAN } else { libc::EIO }))
    }

    /// Reads again what [`Database::check_rot`] refused, until it is mended.
    pub(super) fn read_mended(&self, offset: u64, len: u32, reply: Reply<Vec<u8>>) {
        let Some(me) = self.me.upgrade() else { return reply(Err(Errno(libc::EIO))) };
        self.runtime.spawn_blocking(move || {
            let deadline = Instant::now() + PATIENCE;
            let read = loop {
                match me.read_bytes(FileKind::Database, offset, len) {
                    Err(Errno(libc::EUCLEAN)) if Instant::now() < deadline => {
                        std::thread::sleep(LOOK);
                    }
                    Err(Errno(libc::EUCLEAN)) => break Err(Errno(libc::EIO)),
                    read => break read,
                }
            };
            reply(read);
        });
    }
}
