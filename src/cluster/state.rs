//! The state machine: what the log says so far.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::verdicts::NodeVerdicts;
use super::{Change, Command, Commit, Lease, Refusal, Refused, Registry, Verdict};
use crate::core::{DatabaseName, EntryId, Incarnation, NodeId, Position, TransactionId, Txid};

/// A database, as the cluster knows it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct DatabaseState {
    /// This life of the name.
    pub incarnation: Incarnation,
    /// Where its history stands.
    pub position: Position,
    /// Bytes a page.
    pub page_size: u32,
    /// Its size, in pages.
    pub pages: u32,
    /// The last entry that changed it.
    pub index: u64,
}

/// What an entry did to the state.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Effect {
    /// The database changed: a `Commit` is its newest transaction (the first, if the entry's
    /// index is the incarnation's number), or a `Delete` ended this incarnation.
    Accepted { incarnation: Incarnation, index: u64 },
    /// No database changed, and this transaction never will change one.
    ///
    /// One exception in what it means: [`Refusal::Forgotten`] says that *this* entry did nothing;
    /// what an earlier entry of the same transaction did is no longer known.
    Refused(Refusal),
    /// An earlier entry decided about this transaction. It stands; this entry changed nothing, so
    /// nothing is to be applied, whatever the verdict says.
    Duplicate(Verdict),
}

impl Effect {
    /// What is to be told to the one who proposed it.
    #[must_use]
    pub fn verdict(self) -> Verdict {
        match self {
            Effect::Accepted { incarnation, index } => Verdict::Accepted { incarnation, index },
            Effect::Refused(refusal) => Verdict::Refused(refusal),
            Effect::Duplicate(verdict) => verdict,
        }
    }
}

/// All that the entries of the log so far have made: the databases, the last verdicts, the registry,
/// LiteFS's lease.
#[derive(Debug, Clone, Default, PartialEq, Eq, Hash)]
pub struct State {
    pub(super) databases: BTreeMap<DatabaseName, DatabaseState>,
    pub(super) verdicts: BTreeMap<NodeId, NodeVerdicts>,
    pub(super) applied: EntryId,
    pub(super) registry: Registry,
    pub(super) lease: Lease,
}

impl State {
    /// That of a group whose databases were there before its log (`litefs-py convert`), as of the entry
    /// that it begins after. `None`: no log could have made it.
    #[must_use]
    pub fn founded(
        applied: EntryId,
        databases: BTreeMap<DatabaseName, DatabaseState>,
    ) -> Option<Self> {
        let state = Self { databases, applied, ..Self::default() };
        state.is_consistent().then_some(state)
    }

    /// The entry that this state is as of.
    #[must_use]
    pub fn applied(&self) -> EntryId {
        self.applied
    }

    #[must_use]
    pub fn database(&self, name: &DatabaseName) -> Option<&DatabaseState> {
        self.databases.get(name)
    }

    /// In the order of their names.
    pub fn databases(&self) -> impl ExactSizeIterator<Item = (&DatabaseName, &DatabaseState)> {
        self.databases.iter()
    }

    /// The verdict on a transaction, as an entry that names it would be told now; `None`: no
    /// entry so far decided about it (Rule 6: its origin asks here, and nowhere else).
    #[must_use]
    pub fn verdict(&self, id: TransactionId) -> Option<Verdict> {
        self.verdicts.get(&id.node).and_then(|verdicts| verdicts.get(id))
    }

    /// Members, tokens and the CA.
    #[must_use]
    pub fn registry(&self) -> &Registry {
        &self.registry
    }

    /// LiteFS's lease.
    #[must_use]
    pub fn lease(&self) -> &Lease {
        &self.lease
    }

    /// Applies an entry that changes the registry, or the lease. Total and deterministic
    /// (one-history); a refused change changes nothing but what is applied.
    ///
    /// # Errors
    /// Why it was refused.
    pub fn change(&mut self, entry: EntryId, change: &Change) -> Result<(), Refused> {
        self.applied = entry;
        match change {
            Change::Lease(change) => self.lease.change(change),
            change => self.registry.change(change),
        }
    }

    /// Takes note of an entry without a command: a blank one, or a change of members.
    pub fn pass(&mut self, entry: EntryId) {
        self.applied = entry;
    }

    /// Applies the next entry of the log. Total and deterministic (one-history).
    ///
    /// Rule 5: a transaction is known by its id. The same id again gets the same verdict, and one
    /// too old to be known is refused: nothing is ever applied twice.
    pub fn apply(&mut self, entry: EntryId, command: &Command) -> Effect {
        self.applied = entry;
        let id = command.id();
        match self.verdict(id) {
            Some(Verdict::Refused(Refusal::Forgotten)) => {
                return Effect::Refused(Refusal::Forgotten);
            }
            Some(verdict) => return Effect::Duplicate(verdict),
            None => {}
        }
        let judged = match command {
            Command::Commit(commit) => self.commit(entry.index, commit),
            Command::Delete { database, incarnation, .. } => self.delete(database, *incarnation),
            Command::Abandon { .. } => Err(Refusal::Abandoned),
        };
        let effect = match judged {
            Ok(incarnation) => Effect::Accepted { incarnation, index: entry.index },
            Err(refusal) => Effect::Refused(refusal),
        };
        self.verdicts.entry(id.node).or_default().keep(id, effect.verdict());
        effect
    }

    /// Judges a transaction and, if it is the next of its database, takes it in.
    fn commit(&mut self, index: u64, commit: &Commit) -> Result<Incarnation, Refusal> {
        let present = self.databases.get(&commit.database);
        let (incarnation, position) = match (commit.incarnation, present) {
            (None, None) => (Incarnation(index), Position::EMPTY),
            (None, Some(_)) => return Err(Refusal::Exists),
            (Some(made_in), Some(database)) if made_in == database.incarnation => {
                (made_in, database.position)
            }
            (Some(_), _) => return Err(Refusal::Incarnation),
        };
        // one-history: it was made on the bytes that are there now, or it is not taken.
        if commit.base != position {
            return Err(Refusal::Base);
        }
        if present.is_some_and(|database| database.page_size != commit.page_size) {
            return Err(Refusal::PageSize);
        }
        if !could_be_sqlites(commit) {
            return Err(Refusal::Invalid);
        }
        self.databases.insert(
            commit.database.clone(),
            DatabaseState {
                incarnation,
                position: commit.new,
                page_size: commit.page_size,
                pages: commit.pages,
                index,
            },
        );
        Ok(incarnation)
    }

    fn delete(
        &mut self,
        database: &DatabaseName,
        incarnation: Incarnation,
    ) -> Result<Incarnation, Refusal> {
        match self.databases.get(database) {
            Some(present) if present.incarnation == incarnation => {
                self.databases.remove(database);
                Ok(incarnation)
            }
            _ => Err(Refusal::Incarnation),
        }
    }

    /// Whether [`Self::apply`] could have made this; what was read from a disk may not be so.
    pub(super) fn is_consistent(&self) -> bool {
        self.lease.is_consistent()
            && self.verdicts.values().all(NodeVerdicts::is_consistent)
            && self.databases.values().all(|database| {
                database.incarnation.0 <= database.index && database.index <= self.applied.index
            })
    }
}

/// Whether the TXID is the base's next (Rule 5: it never goes back), and the size one that a
/// SQLite database can have: pages of a power of two from 512 to 65536 bytes (SQLite file format
/// 1.3.2), at least one of them (LTX spec: a commit size of 0 is a deletion).
fn could_be_sqlites(commit: &Commit) -> bool {
    commit.base.txid.0.checked_add(1).map(Txid) == Some(commit.new.txid)
        && commit.page_size.is_power_of_two()
        && (512..=65536).contains(&commit.page_size)
        && commit.pages > 0
}

#[cfg(test)]
mod tests;
