//! The log, as openraft asks for it.

use std::fmt::Debug;
use std::io;
use std::ops::{Bound, RangeBounds};

use openraft::storage::{IOFlushed, LogState, RaftLogReader, RaftLogStorage};
use openraft::{OptionalSend, type_config::alias::VoteOf};
use tokio::sync::oneshot;

use super::super::types::{Entry, LogId, Types, Vote, entry_id, log_id};
use super::super::wire::WireVote;
use super::Log;

impl RaftLogReader<Types> for Log {
    async fn try_get_log_entries<RB: RangeBounds<u64> + Clone + Debug + OptionalSend>(
        &mut self,
        range: RB,
    ) -> Result<Vec<Entry>, io::Error> {
        let start = match range.start_bound() {
            Bound::Included(start) => *start,
            Bound::Excluded(before) => before.saturating_add(1),
            Bound::Unbounded => 0,
        };
        let end = match range.end_bound() {
            Bound::Included(last) => last.saturating_add(1),
            Bound::Excluded(end) => *end,
            Bound::Unbounded => u64::MAX,
        };
        self.read(start..end, u64::MAX)
    }

    /// Bounded in bytes: an entry may be large.
    async fn limited_get_log_entries(
        &mut self,
        start: u64,
        end: u64,
    ) -> Result<Vec<Entry>, io::Error> {
        self.read(start..end, self.read_limit())
    }

    async fn read_vote(&mut self) -> Result<Option<Vote>, io::Error> {
        Ok(self.vote().map(WireVote::vote))
    }
}

impl RaftLogStorage<Types> for Log {
    type LogReader = Self;

    async fn get_log_state(&mut self) -> Result<LogState<Types>, io::Error> {
        Ok(LogState {
            last_purged_log_id: self.purged().map(log_id),
            last_log_id: self.last().map(log_id),
        })
    }

    async fn get_log_reader(&mut self) -> Self {
        self.clone()
    }

    async fn save_vote(&mut self, vote: &VoteOf<Types>) -> Result<(), io::Error> {
        let (sender, receiver) = oneshot::channel();
        let done = Box::new(|result| {
            // Nobody waits for it any more: openraft has stopped.
            let _ = sender.send(result);
        });
        Log::save_vote(self, WireVote::of(vote), done)?;
        receiver.await.map_err(|_| io::Error::other("the Raft log is closed"))?
    }

    async fn save_committed(&mut self, committed: Option<LogId>) -> Result<(), io::Error> {
        Log::save_committed(self, committed.as_ref().map(entry_id))
    }

    async fn read_committed(&mut self) -> Result<Option<LogId>, io::Error> {
        Ok(self.committed().map(log_id))
    }

    async fn append<I>(&mut self, entries: I, callback: IOFlushed<Types>) -> Result<(), io::Error>
    where
        I: IntoIterator<Item = Entry> + OptionalSend,
        I::IntoIter: OptionalSend,
    {
        let done = Box::new(|result| callback.io_completed(result));
        Log::append(self, entries.into_iter().collect(), done)
    }

    async fn truncate_after(&mut self, last: Option<LogId>) -> Result<(), io::Error> {
        Log::truncate_after(self, last.as_ref().map(entry_id))
    }

    async fn purge(&mut self, upto: LogId) -> Result<(), io::Error> {
        Log::purge(self, entry_id(&upto))
    }
}
