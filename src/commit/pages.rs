//! A database page by page, for another node, or for what comes from one.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use super::databases::AllDatabases;
use super::lost::SOON;
use super::patience::patiently;
use super::snapshots::wait_until;
use crate::core::{DatabaseName, Incarnation};
use crate::raft::{Offered, Pages};
use crate::store::{self, Snapshot};

/// How long writers may be in the way of a place to read from.
const PATIENCE: Duration = Duration::from_secs(10);

/// A database that this node serves.
struct Live {
    database: Arc<store::Database>,
    incarnation: Option<Incarnation>,
    page_size: u32,
    held: Option<Snapshot>,
}

impl Pages for Live {
    fn page_size(&self) -> u32 {
        self.page_size
    }

    fn read(&mut self, pgno: u32, page: &mut Vec<u8>) -> io::Result<bool> {
        let held = self.held.as_ref().ok_or_else(|| io::Error::other("nothing is held"))?;
        if pgno == 0 || pgno > held.pages {
            return Ok(false);
        }
        held.page(pgno, page).map(|()| true).map_err(io::Error::other)
    }

    fn hold(&mut self) -> io::Result<()> {
        self.held = None;
        let held =
            patiently(PATIENCE, || self.database.snapshot(0, 0)).map_err(io::Error::other)?;
        if held.incarnation != self.incarnation || held.page_size() != self.page_size {
            let name = self.database.name();
            return Err(io::Error::other(format!("{name} became another database meanwhile")));
        }
        self.held = Some(held);
        Ok(())
    }

    fn let_go(&mut self) {
        self.held = None;
    }
}

impl AllDatabases {
    /// What is offered to a node that may have some of its pages already.
    pub(super) fn offered(
        &self,
        name: &DatabaseName,
        incarnation: Incarnation,
        at_least: u64,
    ) -> io::Result<Offered> {
        let refused = |why: &str| io::Error::other(format!("{name} {why}"));
        let database = self.find(name).ok_or_else(|| refused("is not served by this node"))?;
        if database.is_lost() {
            return Err(refused("is damaged on this node, too"));
        }
        wait_until(&database, SOON, "to show what is asked for", || database.shows(at_least))?;
        let store = Arc::clone(database.store());
        let found = patiently(PATIENCE, || store.snapshot_with_sums());
        let (held, sums) = found.map_err(io::Error::other)?;
        // What a database shows of entries that did not change it is not in its files.
        let index = held.entry.index.max(at_least);
        if held.incarnation != Some(incarnation) {
            return Err(refused("was deleted and made anew meanwhile"));
        }
        let (position, page_size) = (held.position, held.page_size());
        let incarnation = held.incarnation;
        let pages = Box::new(Live { database: store, incarnation, page_size, held: Some(held) });
        Ok(Offered { index, position, page_size, sums, pages })
    }

    /// Of what this node serves, or else of what it set aside last: a damaged database differs in few pages
    /// from the one that takes its place.
    pub(super) fn pages_of(&self, name: &DatabaseName) -> Option<Box<dyn Pages>> {
        let served = self.find(name).filter(|database| !database.is_lost());
        if let Some(database) = served {
            let store = Arc::clone(database.store());
            let held = patiently(PATIENCE, || store.snapshot(0, 0)).ok()?;
            let (incarnation, page_size) = (held.incarnation, held.page_size());
            return Some(Box::new(Live {
                database: store,
                incarnation,
                page_size,
                held: Some(held),
            }));
        }
        let aside = self.store().pages_aside(name).ok().flatten()?;
        Some(Box::new(Aside(aside)))
    }
}

/// One that was set aside: nobody changes it.
struct Aside(store::PagesAside);

impl Pages for Aside {
    fn page_size(&self) -> u32 {
        self.0.page_size()
    }

    fn read(&mut self, pgno: u32, page: &mut Vec<u8>) -> io::Result<bool> {
        self.0.read(pgno, page)
    }

    fn hold(&mut self) -> io::Result<()> {
        Ok(())
    }

    fn let_go(&mut self) {}
}
