//! When a follower hears how far the log is committed.
//!
//! Every append says it; openraft makes one without entries when it has no other to say it with: a
//! *note*, after each commit. While entries come in quick succession a note waits a moment for the
//! next entry to say the same, which saves every node a message a commit. Not where the follower
//! proposed what is committed: its application waits for it.

use std::collections::VecDeque;
use std::time::Duration;

use openraft::raft::AppendEntriesRequest;
use tokio::time::Instant;

use super::types::{Entry, Payload, Proposal, Types};

/// Entries that follow one another within this are in quick succession.
const QUICK: Duration = Duration::from_millis(2);
/// How long a note waits at most, but for what a timer adds.
const MOMENT: Duration = Duration::from_millis(1);

type Request = AppendEntriesRequest<Types>;

pub(super) struct Notes {
    to: u64,
    /// When entries were sent last, and whether soon after those before.
    sent: Option<Instant>,
    quick: bool,
    /// Entries that the follower proposed and does not know to be committed.
    theirs: VecDeque<u64>,
    waiting: Option<(Request, Instant)>,
}

impl Notes {
    pub fn new(to: u64) -> Self {
        Self { to, sent: None, quick: false, theirs: VecDeque::new(), waiting: None }
    }

    /// Takes the next request. Returns what is to be sent now, if anything.
    pub fn pass(&mut self, request: Request, now: Instant) -> Option<Request> {
        if request.entries.is_empty() {
            let urgent = self.theirs.front().is_some_and(|first| *first <= committed(&request));
            if self.quick && !urgent {
                let due = self.due().unwrap_or(now + MOMENT);
                self.waiting = Some((request, due));
                return None;
            }
        } else {
            self.quick = self.sent.is_some_and(|sent| now.duration_since(sent) < QUICK);
            self.sent = Some(now);
            let theirs = request.entries.iter().filter(|entry| proposer(entry) == Some(self.to));
            self.theirs.extend(theirs.map(|entry| entry.log_id.index));
        }
        // What waited says no more than this.
        self.waiting = None;
        self.told(&request);
        Some(request)
    }

    /// When the note that waits is to be sent.
    pub fn due(&self) -> Option<Instant> {
        self.waiting.as_ref().map(|(_, due)| *due)
    }

    /// The note that waited, to be sent now.
    pub fn take(&mut self) -> Option<Request> {
        let (request, _) = self.waiting.take()?;
        self.told(&request);
        Some(request)
    }

    fn told(&mut self, request: &Request) {
        let committed = committed(request);
        while self.theirs.front().is_some_and(|first| *first <= committed) {
            self.theirs.pop_front();
        }
    }
}

fn committed(request: &Request) -> u64 {
    request.leader_commit.as_ref().map_or(0, |id| id.index)
}

fn proposer(entry: &Entry) -> Option<u64> {
    match &entry.payload {
        Payload::Normal(Proposal::Command(command)) => Some(command.id().node.0),
        Payload::Normal(Proposal::Change(_)) | Payload::Blank | Payload::Membership(_) => None,
    }
}

#[cfg(test)]
mod tests {
    use super::super::types::{Vote, log_id};
    use super::*;
    use crate::cluster::Command;
    use crate::core::{Boot, EntryId, NodeId, TransactionId};

    fn id(index: u64) -> EntryId {
        EntryId { term: 1, index }
    }

    /// What node 1 sends: the entry of this index and its proposer, or a note.
    fn request(entry: Option<(u64, u64)>, committed: u64) -> Request {
        let entries = entry.map(|(index, node)| {
            let id = TransactionId { node: NodeId(node), boot: Boot(1), sequence: index };
            let payload = Payload::Normal(Proposal::Command(Command::Abandon { id }));
            Entry { log_id: log_id(self::id(index)), payload }
        });
        Request {
            vote: Vote::new_committed(1, 1),
            prev_log_id: None,
            leader_commit: Some(log_id(id(committed))),
            entries: entries.into_iter().collect(),
        }
    }

    #[test]
    fn a_note_waits_only_while_entries_come_quickly() {
        let (mut notes, now) = (Notes::new(2), Instant::now());
        assert!(notes.pass(request(Some((1, 1)), 0), now).is_some());
        assert!(notes.pass(request(None, 1), now).is_some());
        assert!(notes.pass(request(Some((2, 1)), 1), now + MOMENT).is_some());
        assert!(notes.pass(request(None, 2), now + MOMENT).is_none());
        // A later one says more, and waits no longer.
        assert!(notes.pass(request(None, 3), now + MOMENT + MOMENT / 2).is_none());
        assert_eq!(notes.due(), Some(now + 2 * MOMENT));
        assert_eq!(notes.take().map(|note| committed(&note)), Some(3));
        assert_eq!(notes.due(), None);
        // The next entry spares it.
        assert!(notes.pass(request(None, 4), now + 2 * MOMENT).is_none());
        assert!(notes.pass(request(Some((5, 1)), 4), now + 2 * MOMENT).is_some());
        assert_eq!(notes.due(), None);
        // Alone again.
        assert!(notes.pass(request(Some((6, 1)), 5), now + 9 * QUICK).is_some());
        assert!(notes.pass(request(None, 6), now + 9 * QUICK).is_some());
    }

    #[test]
    fn who_proposed_hears_at_once() {
        let (mut notes, now) = (Notes::new(2), Instant::now());
        for index in 1..9 {
            assert!(notes.pass(request(Some((index, 1)), 0), now).is_some());
        }
        assert!(notes.pass(request(Some((9, 2)), 0), now).is_some());
        assert!(notes.pass(request(Some((10, 2)), 0), now).is_some());
        assert!(notes.pass(request(None, 8), now).is_none());
        assert!(notes.pass(request(None, 9), now).is_some());
        assert!(notes.pass(request(None, 9), now).is_none());
        assert!(notes.pass(request(Some((11, 1)), 10), now).is_some());
        assert!(notes.pass(request(None, 11), now).is_none());
    }
}
