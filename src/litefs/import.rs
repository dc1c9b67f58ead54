//! A database from outside is brought in by LiteFS itself, on the primary; asked on any node.
//!
//! LiteFS's import overwrites what has the name. So the primary is asked first; an application that makes a
//! database of that name in the same moment is not kept from it: LiteFS has nothing for that.
//!
//! It is there when this returns: on the primary, on this node, and on the others that are not far behind; and
//! nobody else became primary meanwhile, who may lack it.

use std::time::Duration;

use tokio::sync::mpsc;
use tokio::time::{Instant, sleep};

use super::client::{Client, ClientError, Pieces};
use super::engine::Litefs;
use super::positions::{Positions, Seen, takes_the_name};
use crate::cluster::Holder;
use crate::core::engine::JournalMode;
use crate::core::transfer::{Imported, TransferError};
use crate::core::{DatabaseName, Incarnation, Position};
use crate::store::Outside;

/// For the primary to say how far it is.
const ANSWER: Duration = Duration::from_secs(2);
/// For a small database to be brought in.
const SOON: Duration = Duration::from_secs(15);
/// Slower than so many bytes a second nothing is, over network and disk.
const SLOWEST: u64 = 8 << 20;
/// For the others to have it; a node that is far behind is not waited for.
const OTHERS: Duration = Duration::from_secs(5);
/// Between two looks at whether it is here.
const AGAIN: Duration = Duration::from_millis(10);
/// Bytes that are sent at once, and pieces that are read ahead.
const PIECE: usize = 1 << 20;
const AHEAD: usize = 4;

impl Litefs {
    /// The name is free, as far as this node has seen.
    ///
    /// # Errors
    /// It is taken.
    pub fn must_be_free(&self, name: &DatabaseName) -> Result<(), TransferError> {
        free(name, &self.seen().positions)
    }

    /// Makes a database of it. `as_wal`: in WAL mode from then on, else in the mode that it is in.
    ///
    /// # Errors
    /// The name is taken; or nobody can take it in now.
    pub async fn bring_in(
        &self,
        name: DatabaseName,
        outside: Outside,
        as_wal: bool,
    ) -> Result<Imported, TransferError> {
        let not_now = |why: String| unavailable(&name, &why);
        let holder = self.holder().ok_or_else(|| not_now("nobody is primary; try again".into()))?;
        let before = self.positions_of(holder.node, ANSWER).await.map_err(not_now)?;
        free(&name, &before)?;
        let port = if holder.node == self.me {
            self.settings.port
        } else {
            let port = self.tunnels.port(holder.node).await;
            port.map_err(|error| not_now(format!("there is no way to the primary: {error}")))?
        };
        let (bytes, page_size, pages) = (outside.bytes(), outside.page_size(), outside.pages());
        let is_wal = as_wal || outside.is_wal();
        let limit = SOON + Duration::from_secs(bytes / SLOWEST);
        let pieces = read_ahead(outside, is_wal);
        let sent = Client::new(port).import(name.as_str(), pieces, limit).await;
        sent.map_err(|error| refused(&name, &error))?;
        let there = self.positions_of(holder.node, ANSWER).await.map_err(not_now)?;
        let lost = || not_now("the primary changed meanwhile; look whether it is there".into());
        let position = *there.get(name.as_str()).ok_or_else(lost)?;
        self.until_shown(&name, position, limit).await;
        if self.holder().is_none_or(|now| now.tenure != holder.tenure) {
            return Err(lost());
        }
        tracing::info!(database = %name, %position, "imported");
        let journal = if is_wal { JournalMode::Wal } else { JournalMode::Rollback };
        let incarnation = Incarnation::default();
        Ok(Imported { database: name, incarnation, position, page_size, pages, journal })
    }

    fn holder(&self) -> Option<Holder> {
        self.lease().holder().cloned()
    }

    /// Waits until this node has it, and for a while until the others have, so that no switchover leaves it
    /// behind. The primary has it, whatever comes of this.
    async fn until_shown(&self, name: &DatabaseName, position: Position, limit: Duration) {
        let has = |seen: &Seen| {
            let here = seen.positions.get(name.as_str());
            here.is_some_and(|here| here.txid >= position.txid)
        };
        let begun = Instant::now();
        while begun.elapsed() < limit {
            let here = self.client.look(ANSWER).await.is_ok_and(|seen| has(&seen));
            let patient = begun.elapsed() < OTHERS;
            if here && (!patient || self.ask_everybody().await.values().all(has)) {
                return;
            }
            sleep(AGAIN).await;
        }
        tracing::warn!(database = %name, "imported, and not to be read on this node yet");
    }
}

/// Reads it in a thread of its own, as LiteFS is to have it.
fn read_ahead(outside: Outside, is_wal: bool) -> Pieces {
    let (give, pieces) = mpsc::channel(AHEAD);
    tokio::task::spawn_blocking(move || {
        let mut offset = 0;
        while offset < outside.bytes() {
            let mut piece = vec![0; PIECE];
            let read = outside.read_at(offset, &mut piece).map(|read| piece.truncate(read));
            if offset == 0 {
                patch(&mut piece, outside.pages(), is_wal);
            }
            offset += piece.len() as u64;
            let failed = read.is_err();
            // Nobody waits for it any more, or there is no more of it.
            if give.blocking_send(read.map(|()| piece.into())).is_err() || failed {
                return;
            }
        }
    });
    pieces
}

/// LiteFS takes the size from the header, which old programs leave unset (file format 1.3.7); and the mode
/// from both versions (1.3.3).
fn patch(first: &mut [u8], pages: u32, is_wal: bool) {
    if let Some(size) = first.get_mut(28..32) {
        size.copy_from_slice(&pages.to_be_bytes());
    }
    if is_wal && let Some(versions) = first.get_mut(18..20) {
        versions.fill(2);
    }
}

fn free(name: &DatabaseName, positions: &Positions) -> Result<(), TransferError> {
    if positions.get(name.as_str()).is_some_and(takes_the_name) {
        return Err(TransferError::Exists(format!(
            "{name} exists already, and nothing was changed; choose another name, or remove it first"
        )));
    }
    Ok(())
}

fn unavailable(name: &DatabaseName, why: &str) -> TransferError {
    TransferError::Unavailable(format!("{name} was not imported: {why}"))
}

fn refused(name: &DatabaseName, error: &ClientError) -> TransferError {
    let open = match error {
        ClientError::Refused { .. } => "try again",
        _ => "it may be there later: look, and try again",
    };
    unavailable(name, &format!("{error}; {open}"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::core::{Checksum, Txid};

    #[test]
    fn a_name_is_free_that_nobody_has_or_whose_database_was_deleted() {
        let name = DatabaseName::new("a.db").unwrap();
        let at = |checksum| {
            let position = Position { txid: Txid(4), checksum: Checksum(checksum) };
            Positions::from([("a.db".to_owned(), position)])
        };
        assert!(matches!(free(&name, &at(Checksum::FLAG | 1)), Err(TransferError::Exists(_))));
        assert!(free(&name, &at(Checksum::FLAG)).is_ok(), "it was deleted");
        assert!(free(&name, &Positions::new()).is_ok());
        assert!(free(&DatabaseName::new("b.db").unwrap(), &at(Checksum::FLAG | 1)).is_ok());
    }

    #[test]
    fn the_header_says_size_and_mode() {
        let mut first = vec![1; 100];
        patch(&mut first, 0x0102_0304, true);
        assert_eq!((&first[18..20], &first[28..32]), (&[2, 2][..], &[1, 2, 3, 4][..]));
        let mut first = vec![1; 100];
        patch(&mut first, 7, false);
        assert_eq!((&first[18..20], &first[28..32]), (&[1, 1][..], &[0, 0, 0, 7][..]));
        patch(&mut [0; 10], 7, true);
    }
}
