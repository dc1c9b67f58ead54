//! Answers what other nodes ask about writing.

use std::collections::HashMap;
use std::sync::{Arc, Mutex};

use bytes::Bytes;
use tokio::sync::watch;
use tokio::time::timeout;

use super::arbiter::{Arbiter, Holder};
use super::databases::AllDatabases;
use super::lock;
use super::peers::SharedGroup;
use super::rpc::{Answer, Request};
use super::settings::LOCK_CALL;
use crate::cluster::{Command, Payload};
use crate::core::NodeId;

/// What became of each fetch, once it is over.
pub type Fetching = Arc<Mutex<HashMap<[u8; 32], watch::Receiver<Option<Result<(), String>>>>>>;

pub struct Service {
    pub group: SharedGroup,
    pub arbiter: Arc<Arbiter>,
    pub databases: Arc<AllDatabases>,
    /// Files that are being fetched for other nodes' proposals.
    pub fetching: Fetching,
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
            Request::Stage { sha256, len } => self.stage(from, sha256, len).await?,
            Request::Held { term } => Answer::Held { databases: self.databases.held(term) },
        };
        answer.encode().map_err(|error| error.to_string())
    }

    /// Fetches a file, for as long as it takes; the asker is told every now and then that it is under
    /// way, and asks again.
    async fn stage(&self, from: NodeId, sha256: [u8; 32], len: u64) -> Result<Answer, String> {
        let mut fetched = {
            let mut fetching = lock(&self.fetching);
            let under_way = fetching.entry(sha256).or_insert_with(|| {
                let (sender, receiver) = watch::channel(None);
                let (group, all) = (Arc::clone(&self.group), Arc::clone(&self.fetching));
                tokio::spawn(async move {
                    let done = group.fetch_staged(from, sha256, len).await;
                    lock(&all).remove(&sha256);
                    sender.send_replace(Some(done));
                });
                receiver
            });
            under_way.clone()
        };
        match timeout(LOCK_CALL, fetched.wait_for(Option::is_some)).await {
            Ok(Ok(done)) => done.clone().unwrap_or(Ok(())).map(|()| Answer::Ok),
            Ok(Err(_ended)) => Err("the fetch has ended".to_owned()),
            Err(_under_way) => Ok(Answer::Waiting),
        }
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
