//! The end of a database on this node.

use std::sync::Arc;

use super::cluster_lock::ClusterLock;
use super::database::{Database, Later, State};
use super::door::Errno;
use super::hold::Hold;
use super::lock;

impl State {
    /// An empty file that this node made, and nobody committed to, nor is about to.
    fn is_only_here(&self) -> bool {
        self.incarnation.is_none()
            && self.queue.is_empty()
            && !self.pumping
            && !self.hold.as_ref().is_some_and(Hold::must_outlive_owner)
    }
}

impl Database {
    /// Whether nobody else can know of it.
    pub(super) fn is_nowhere_else(&self) -> bool {
        lock(&self.state).is_only_here()
    }

    /// Closes it for good if nobody else knows of it. The caller then removes its files.
    pub(super) fn delete_if_only_here(&self) -> bool {
        let mut state = lock(&self.state);
        let only_here = state.is_only_here();
        state.deleted |= only_here;
        only_here
    }

    /// The database was deleted: its files go, and whoever has them open gets errors.
    pub(super) fn delete(self: &Arc<Self>) {
        let mut later = Later::default();
        let mut state = lock(&self.state);
        state.deleted = true;
        if let ClusterLock::Held(held) = std::mem::replace(&mut state.cluster, ClusterLock::None) {
            self.tell_release(held.term, held.ticket);
        }
        state.queue.clear();
        if let Some(pending) = state.pending.take() {
            later.answer(pending.reply, Err(Errno(libc::EIO)));
        }
        drop(state);
        // Nobody waits any more for what it was to show.
        self.applied.notify_waiters();
        later.run(self);
    }
}
