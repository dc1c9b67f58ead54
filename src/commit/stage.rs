//! A large transaction is on its way before it is proposed: the leader has its file first (Rule 19).

use std::time::Duration;

use tokio::time::{Instant, timeout_at};

use super::peers::SharedGroup;
use super::propose::unless_changed;
use super::rpc::{Answer, Request};
use super::settings::CALL_TIMEOUT;
use crate::cluster::Payload;
use crate::core::NodeId;

/// How long a new leader may take to fetch a file that is proposed to it.
pub(super) const STAGING: Duration = Duration::from_mins(1);

/// Between two tries.
const AGAIN: Duration = Duration::from_millis(20);

/// How often a node that is no leader is asked, and how long is waited in between: one that does not
/// take the file is behind afterwards, and the others go on.
const TRIES: u32 = 5;
const PAUSE: Duration = Duration::from_millis(500);

/// The file that a transaction travels as.
#[derive(Debug, Clone, Copy)]
pub struct StagedPayload {
    sha256: [u8; 32],
    len: u64,
}

impl StagedPayload {
    pub fn of(payload: &Payload) -> Option<Self> {
        match *payload {
            Payload::Staged { sha256, len } => Some(Self { sha256, len }),
            Payload::Inline(_) => None,
        }
    }

    /// Sees to it that a node has the file, leader or not, for as long as it says that it is under way.
    ///
    /// # Errors
    /// It cannot be reached, or cannot take it.
    pub async fn to_node(self, group: &SharedGroup, node: NodeId) -> Result<(), String> {
        let mut tries = 0;
        loop {
            // Long files take long: here it must stay meanwhile.
            group.keep_staged(self.sha256, self.len);
            match self.ask(group, node).await {
                Ok(Answer::Ok) => return Ok(()),
                Ok(Answer::Waiting) => {}
                other => {
                    tries += 1;
                    if tries == TRIES {
                        return Err(other.map_or_else(|why| why, |other| format!("{other:?}")));
                    }
                    tokio::time::sleep(PAUSE).await;
                }
            }
        }
    }

    async fn ask(self, group: &SharedGroup, node: NodeId) -> Result<Answer, String> {
        let request = Request::Stage { sha256: self.sha256, len: self.len };
        let request = request.encode().map_err(|error| error.to_string())?;
        let answer = group.call(node, request, CALL_TIMEOUT).await?;
        Answer::decode(&answer).map_err(|error| error.to_string())
    }

    /// Sees to it that the leader of the day has the file. Returns whether one has it in time: `limit`
    /// after the last word that it is under way.
    pub async fn to_leader(self, group: &SharedGroup, limit: Duration) -> bool {
        let mut deadline = Instant::now() + limit;
        let mut leadership = group.leadership();
        loop {
            let now = *leadership.borrow_and_update();
            if now.leader == Some(group.me()) {
                return true;
            }
            let mut round = deadline;
            if let Some(leader) = now.leader {
                let ask = self.ask(group, leader);
                match timeout_at(deadline, unless_changed(&mut leadership, ask)).await {
                    Ok(Ok(Answer::Ok)) => return true,
                    Ok(Ok(Answer::Waiting)) => {
                        deadline = Instant::now() + limit;
                        continue;
                    }
                    Ok(other) => {
                        tracing::debug!(leader = leader.0, ?other, "a file was not staged");
                        round = deadline.min(Instant::now() + AGAIN);
                    }
                    Err(_over) => return false,
                }
            }
            let _changed_or_over = timeout_at(round, leadership.changed()).await;
            if Instant::now() >= deadline {
                return false;
            }
        }
    }
}
