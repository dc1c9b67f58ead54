//! A database from outside becomes one of the cluster's: one transaction, which begins it.
//!
//! It is checked and written as LTX before anything is proposed. A large one is on a majority of the
//! nodes before its entry is (Rule 19): else the log, and with it every COMMIT, would wait until each
//! of them had fetched it. Then it is the ordinary way: proposed, judged by the log, and applied here
//! as on any node. Whoever makes a database of the same name meanwhile comes first, or second: one of
//! the two is refused (one-history).

use std::fs::File;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use futures::future::BoxFuture;
use sha2::{Digest, Sha256};
use tokio::sync::oneshot;
use tokio::time::{Instant, timeout};

use super::database::Shared;
use super::databases::AllDatabases;
use super::propose::Event;
use super::stage::StagedPayload;
use super::staging::Target;
use super::uploads::Intake;
use crate::cluster::{Command, Commit, Payload, Refusal, Verdict};
use crate::core::clock::signed_unix_ms;
use crate::core::engine::JournalMode;
use crate::core::transfer::{Imported, TransferError, Upload, UploadId};
use crate::core::{DatabaseName, Incarnation, Position};
use crate::store::{self, Encoded, Outside, OutsideError, quick_check};

/// Slower than so many bytes a second no disk is: what a large file may take longer to be committed.
const SLOWEST: u64 = 8 << 20;

/// A round over all nodes that took longer is made again: staged files that no entry names stay only so
/// long (`raft::staged`, ten minutes).
const ROUND: Duration = Duration::from_mins(5);

/// Between two looks whether it can be read here.
const LOOK: Duration = Duration::from_millis(10);

/// A database that is ready to be proposed.
struct Prepared {
    encoded: Encoded,
    payload: Payload,
}

/// Looks through the bytes that came: they are the ones that were announced, and SQLite finds them sound.
/// Blocks, for as long as the disk takes.
///
/// # Errors
/// They are not.
pub fn look_through(upload: &Upload, data: &Path) -> Result<Outside, TransferError> {
    let sha256 = sha256_of(data).map_err(|error| disk(&upload.database, &error))?;
    if sha256 != upload.sha256 {
        return Err(TransferError::Unfit(format!(
            "{}: other bytes came than were announced: the file was changed meanwhile, or damaged \
             on its way; send it again",
            upload.database
        )));
    }
    let unfit = |error| unfit(&upload.database, error);
    // What lies beside belongs to another file.
    let nothing = data.with_extension("none");
    let outside = Outside::open_parts(data, &nothing, &nothing).map_err(unfit)?;
    quick_check(data).map_err(unfit)?;
    Ok(outside)
}

/// Checks it, and writes it as LTX. Blocks, for as long as the disk takes.
fn prepare(
    shared: &Shared,
    id: &UploadId,
    upload: &Upload,
    data: &Path,
) -> Result<Prepared, TransferError> {
    let outside = look_through(upload, data)?;
    let unfit = |error| unfit(&upload.database, error);
    let full = |error: io::Error| disk(&upload.database, &error);
    let name = format!("making-{}", id.as_str());
    let target = Target::new(shared, outside.bytes(), &name).map_err(full)?;
    let node = shared.group.me().0;
    let encoded = outside.encode(target, node, signed_unix_ms(), shared.settings.now().turn_to_wal);
    let (target, encoded) = encoded.map_err(unfit)?;
    let payload = target.finish(shared).map_err(full)?;
    Ok(Prepared { encoded, payload })
}

impl Intake for AllDatabases {
    fn must_be_free(&self, name: &DatabaseName) -> Result<(), TransferError> {
        let there = self.find(name).is_some_and(|database| database.incarnation().is_some());
        if there { Err(exists(name)) } else { Ok(()) }
    }

    fn take_in(
        self: Arc<Self>,
        id: UploadId,
        upload: Upload,
        data: PathBuf,
    ) -> BoxFuture<'static, Result<Imported, TransferError>> {
        Box::pin(async move {
            let (me, what) = (Arc::clone(&self), upload.clone());
            let prepared =
                tokio::task::spawn_blocking(move || prepare(me.shared(), &id, &what, &data));
            let stopped = |_| TransferError::Unavailable("the node is stopping".to_owned());
            let prepared = prepared.await.map_err(stopped).flatten()?;
            self.bring_in(upload.database, prepared).await
        })
    }
}

impl AllDatabases {
    /// Makes it a database on all nodes.
    async fn bring_in(
        self: &Arc<Self>,
        name: DatabaseName,
        prepared: Prepared,
    ) -> Result<Imported, TransferError> {
        self.must_be_free(&name)?;
        let Prepared { encoded, payload } = prepared;
        let len = match &payload {
            Payload::Inline(bytes) => bytes.len() as u64,
            Payload::Staged { len, .. } => *len,
        };
        let limit =
            self.shared().settings.now().commit_timeout + Duration::from_secs(len / SLOWEST);
        if let Some(staged) = StagedPayload::of(&payload) {
            self.give_to_all(&name, staged).await?;
            if !staged.to_leader(&self.shared().group, limit).await {
                return Err(unavailable(&name, "no leader has taken it in time; try again"));
            }
        }
        let Encoded { position, page_size, pages, mode } = encoded;
        let database = name.clone();
        let make = move |id| {
            Command::Commit(Commit {
                id,
                database,
                incarnation: None,
                base: Position::EMPTY,
                new: position,
                page_size,
                pages,
                payload,
            })
        };
        let (incarnation, index) = self.judged(&name, make, limit).await?;
        self.until_shown(&name, incarnation, index, limit).await;
        let journal = match mode {
            store::JournalMode::Wal => JournalMode::Wal,
            store::JournalMode::Rollback => JournalMode::Rollback,
        };
        tracing::info!(database = %name, %position, "imported");
        Ok(Imported { database: name, incarnation, position, page_size, pages, journal })
    }

    /// A majority has the file, and every node that can be reached had its chance.
    async fn give_to_all(
        &self,
        name: &DatabaseName,
        staged: StagedPayload,
    ) -> Result<(), TransferError> {
        let group = &self.shared().group;
        let others = group.others();
        loop {
            let begun = Instant::now();
            let given = others.iter().map(|node| staged.to_node(group, *node));
            let given = futures::future::join_all(given).await;
            let mut without = Vec::new();
            for (node, given) in others.iter().zip(&given) {
                if let Err(why) = given {
                    without.push(format!("{}: {why}", self.name_of(*node)));
                }
            }
            let have = 1 + others.len() - without.len();
            if have * 2 <= 1 + others.len() {
                let why = format!("no majority takes it ({}); try again", without.join("; "));
                return Err(unavailable(name, &why));
            }
            if begun.elapsed() < ROUND {
                if !without.is_empty() {
                    tracing::warn!(database = %name, ?without, "nodes that get it later");
                }
                return Ok(());
            }
        }
    }

    /// Rule 6: what became of it, from this node's own log.
    async fn judged(
        &self,
        name: &DatabaseName,
        make: impl FnOnce(crate::core::TransactionId) -> Command,
        limit: Duration,
    ) -> Result<(Incarnation, u64), TransferError> {
        let (tell, told) = oneshot::channel();
        let mut tell = Some(tell);
        let on_event = Box::new(move |_, event| {
            if let Some(tell) = tell.take() {
                // Who waited may be gone.
                let _ = tell.send(event);
            }
        });
        self.shared().proposer.submit_from_outside(make, limit, on_event);
        match told.await {
            Ok(Event::Verdict { verdict: Verdict::Accepted { incarnation, index }, .. }) => {
                Ok((incarnation, index))
            }
            Ok(Event::Verdict { verdict: Verdict::Refused(Refusal::Exists), .. }) => {
                Err(exists(name))
            }
            Ok(Event::Verdict { verdict: Verdict::Refused(why), .. }) => {
                Err(unavailable(name, &format!("refused: {why}; try again")))
            }
            Ok(Event::TimedOut) => {
                let why =
                    "no majority answered in time; it may be there later: look, and try again";
                Err(unavailable(name, why))
            }
            Ok(Event::NotProposed) | Err(_) => {
                Err(unavailable(name, "it could not be proposed in time; try again"))
            }
        }
    }

    /// Waits until a new reader on this node finds it. It is committed, whatever comes of this.
    async fn until_shown(
        &self,
        name: &DatabaseName,
        incarnation: Incarnation,
        index: u64,
        limit: Duration,
    ) {
        let shown = async {
            loop {
                let found = self.find(name);
                if found.is_some_and(|found| {
                    found.incarnation() == Some(incarnation) && found.shows(index)
                }) {
                    return;
                }
                tokio::time::sleep(LOOK).await;
            }
        };
        if timeout(limit, shown).await.is_err() {
            tracing::warn!(database = %name, "imported, and not to be read on this node yet");
        }
    }
}

fn exists(name: &DatabaseName) -> TransferError {
    TransferError::Exists(format!(
        "{name} exists already, and nothing was changed; choose another name, or remove it first"
    ))
}

fn unavailable(name: &DatabaseName, why: &str) -> TransferError {
    TransferError::Unavailable(format!("{name} was not imported: {why}"))
}

/// What the node's disk says.
pub(super) fn disk(name: &DatabaseName, error: &io::Error) -> TransferError {
    if matches!(error.raw_os_error(), Some(libc::ENOSPC | libc::EDQUOT)) {
        TransferError::NoSpace(format!(
            "{name}: the node's disk is full; make room in its data folder, and go on"
        ))
    } else {
        tracing::error!(database = %name, %error, "an import cannot use the disk");
        TransferError::Unavailable(format!("{name}: the node cannot use its disk: {error}"))
    }
}

fn unfit(name: &DatabaseName, error: OutsideError) -> TransferError {
    // Said of what was sent, not of where the node keeps it.
    let why = match error {
        OutsideError::Io { source, .. } => return disk(name, &source),
        OutsideError::Ltx { source: crate::ltx::LtxError::Write { source, .. }, .. } => {
            return disk(name, &source);
        }
        OutsideError::NotADatabase { source, .. } => source.to_string(),
        OutsideError::Empty(_) => "it is empty: no database yet".to_owned(),
        OutsideError::Damaged { why, .. } => format!("it is damaged: {why}"),
        error => error.to_string(),
    };
    TransferError::Unfit(format!("{name} was not imported: {why}"))
}

fn sha256_of(path: &Path) -> io::Result<String> {
    let mut hash = Sha256::new();
    io::copy(&mut io::BufReader::with_capacity(1 << 20, File::open(path)?), &mut hash)?;
    Ok(format!("{:x}", hash.finalize()))
}
