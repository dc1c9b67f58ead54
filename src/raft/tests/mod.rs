//! The room's tests that need its private parts.

mod network;
mod simulation;
mod start;
mod suite;

use std::io;
use std::sync::{Arc, Mutex};

use super::*;
use crate::cluster::State;
use crate::core::{DatabaseName, EntryId, Incarnation};

/// Remembers what it is told, and has no bytes to lose.
#[derive(Default)]
struct Recorder {
    applied: Mutex<Vec<Applied>>,
}

impl Replica for Recorder {
    fn begins(&self, _: &State) -> io::Result<()> {
        Ok(())
    }

    fn applied(&self, applied: Applied) {
        self.applied.lock().unwrap().push(applied);
    }

    fn make_durable(&self, _: EntryId) -> io::Result<()> {
        Ok(())
    }

    fn databases_for_snapshot(&self, _: &State) -> io::Result<Vec<SnapshotDatabase>> {
        Ok(Vec::new())
    }

    fn database(
        &self,
        name: &DatabaseName,
        _: Incarnation,
        _: u64,
    ) -> io::Result<SnapshotDatabase> {
        Err(io::Error::other(format!("{name} is not here")))
    }

    fn install_snapshot(
        &self,
        _: &State,
        databases: &mut dyn Iterator<Item = io::Result<IncomingDatabase>>,
    ) -> io::Result<()> {
        assert_eq!(databases.count(), 0);
        Ok(())
    }
}

fn recorder() -> Arc<Recorder> {
    Arc::new(Recorder::default())
}
