//! Answers what other nodes ask about writing.

use std::sync::Arc;

use bytes::Bytes;

use super::arbiter::{Arbiter, Holder};
use super::databases::AllDatabases;
use super::peers::SharedGroup;
use super::rpc::{Answer, Request};
use crate::cluster::{Command, Payload};
use crate::core::NodeId;

pub struct Service {
    pub group: SharedGroup,
    pub arbiter: Arc<Arbiter>,
    pub databases: Arc<AllDatabases>,
}

impl Service {
    /// One call of another node.
    ///
    /// # Errors
    /// Says what cannot be read or done.
    pub async fn call(&self, from: NodeId, request: &[u8]) -> Result<Bytes, String> {
        let request = Request::decode(request).map_err(|error| error.to_string())?;
        let answer = match request {
            Request::Propose { term, command } => self.propose(from, term, command).await?,
            Request::Lock { term, database, ticket } => {
                self.arbiter.request(term, database, from, ticket).await
            }
            Request::Unlock { term, database, ticket } => {
                self.arbiter.release(term, &database, from, ticket);
                Answer::Ok
            }
            Request::Recall { term, database, ticket } => {
                self.on_blocking(move |databases| databases.recall(term, &database, ticket)).await;
                Answer::Ok
            }
            Request::Stage { sha256, len } => {
                self.group.fetch_staged(from, sha256, len).await?;
                Answer::Ok
            }
            Request::Held { term } => Answer::Held { databases: self.databases.held(term) },
        };
        answer.encode().map_err(|error| error.to_string())
    }

    async fn propose(&self, from: NodeId, term: u64, command: Command) -> Result<Answer, String> {
        if let Command::Commit(commit) = &command
            && let Payload::Staged { sha256, len } = &commit.payload
        {
            self.group.fetch_staged(from, *sha256, *len).await?;
        }
        self.arbiter.propose(term, command).await?;
        Ok(Answer::Ok)
    }

    async fn on_blocking(&self, work: impl FnOnce(&AllDatabases) + Send + 'static) {
        let databases = Arc::clone(&self.databases);
        let _done = tokio::task::spawn_blocking(move || work(&databases)).await;
    }
}
