//! Ways to break the protocol, each in one place of the model: the schedules that shaped the rules.

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Break {
    /// The files change beneath an application that holds the write lock, and its transaction is
    /// taken as made on what is there by then (Rule 1).
    AppliesBeneathAHold,
    /// A hold is not doomed by another node's commit (Rule 1).
    DoesNotDoom,
    /// The commit frame is in the WAL before the verdict (invisible-until-committed).
    VisibleBeforeCommitted,
    /// "My position is in the log" is taken for "my transaction is" (Rule 5).
    TakesPositionForIdentity,
    /// The state machine takes a transaction whatever it was made on (one-history).
    JudgesByAnyBase,
    /// Another leader, and the proposer answers that nothing was committed (Rule 6).
    AnswersTooEarly,
    /// The verdict is told as soon as the leader has it in its log (no-lost-ack, Rule 6).
    AnswersWhenHeard,
    /// A leader takes what was proposed to an earlier one (Rule 6, one-primary).
    NotFenced,
    /// Locks are granted before the leader has applied its own term's first entry (Rule 14).
    GrantsBeforeFirstEntry,
    /// The table does not know of proposals in flight that were taken before the leader had applied
    /// its own term's first entry (Rule 14): what this model found in the program.
    ForgetsEarlyProposals,
    /// The table does not know of proposals in flight (Rule 14).
    ForgetsProposals,
    /// The leader's own node takes the lock without asking (Rule 15).
    LeaderAsksNobody,
    /// The leader's own node goes before those that wait (Rule 15).
    LeaderGoesFirst,
    /// A lock that was recalled goes on being given to local applications (Rule 15).
    WaitersBeatARecall,
    /// A second COMMIT under one hold is proposed, too (Rule 20).
    TwoTransactionsAHold,
    /// A leader that was killed leads on in its old term.
    LeadsOnAfterACrash,
    /// A node acknowledges entries that it has not flushed (no-lost-ack).
    AcknowledgesUnflushed,
}
