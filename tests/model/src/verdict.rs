//! What follows a verdict, and the end of a hold: `commit::verdict`.

use crate::core::TransactionId;
use crate::world::{App, ClusterLock, LockOwner, Phase, Told, World};

impl World {
    /// `Database::accepted`: the withheld write is done, and answered.
    pub fn accepted(&mut self, node: usize, id: TransactionId, index: u64) {
        let database = &mut self.nodes[node].database;
        let Some(hold) = database.hold.as_mut() else { return };
        let Phase::Committing { new, .. } = hold.phase else { return };
        database.head = new;
        hold.phase = Phase::Committed { index };
        // `reservation_used`
        if let ClusterLock::Held(held) = &mut database.cluster {
            held.reserved = false;
        }
        self.tell(node, id, Told::Committed);
        self.end_if_orphaned(node);
    }

    /// `Database::refused`: EIO.
    pub fn refused(&mut self, node: usize, id: TransactionId) {
        let Some(hold) = self.nodes[node].database.hold.as_mut() else { return };
        hold.phase = Phase::Doomed;
        self.tell(node, id, Told::Refused);
        self.end_if_orphaned(node);
    }

    /// `Database::outcome_open`: EIO, and the lock stays until the log says.
    pub fn outcome_open(&mut self, node: usize, id: TransactionId) {
        let Some(hold) = self.nodes[node].database.hold.as_mut() else { return };
        hold.phase = Phase::Unknown;
        self.tell(node, id, Told::Open);
    }

    /// `Database::settled`: the verdict came after that.
    pub fn settled(&mut self, node: usize) {
        let Some(hold) = self.nodes[node].database.hold.as_mut() else { return };
        hold.phase = Phase::Doomed;
        self.end_if_orphaned(node);
    }

    fn end_if_orphaned(&mut self, node: usize) {
        let hold = self.nodes[node].database.hold;
        if hold.is_some_and(|hold| hold.owner == LockOwner::Heir) {
            self.end_hold(node);
        }
    }

    /// `Database::end_hold` and what follows an unlock. Rule 2: what was committed is made visible
    /// here. The daemon keeps the lock while the fate of its transaction is open.
    pub fn end_hold(&mut self, node: usize) {
        let database = &mut self.nodes[node].database;
        let Some(hold) = database.hold.as_mut() else { return };
        match hold.phase {
            Phase::Committing { .. } | Phase::Unknown => {
                hold.owner = LockOwner::Heir;
                return;
            }
            Phase::Committed { index } => {
                database.visible = index;
                database.shown = database.head;
            }
            Phase::Open | Phase::Doomed => {}
        }
        database.hold = None;
        self.after_release(node);
    }

    /// The application has its answer, or rolls back, and unlocks byte 120.
    pub fn unlock(&mut self, node: usize) {
        if self.nodes[node].app == App::Writing {
            self.left.retreats -= 1;
        }
        self.nodes[node].app = App::Idle;
        self.end_hold(node);
    }

    /// The application is killed, wherever it is.
    pub fn die(&mut self, node: usize) {
        self.left.deaths -= 1;
        self.nodes[node].app = App::Idle;
        self.nodes[node].database.pending = false;
        self.end_hold(node);
    }
}
