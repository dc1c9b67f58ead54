//! A switchover, asked for on any node and done by the leader: why it is not done is the same answer
//! everywhere, and tells a wish that cannot be fulfilled from a cluster that cannot fulfil any.

use super::membership::Membership;
use crate::core::NodeId;
use crate::core::engine::SwitchoverError;
use crate::core::history::Cause;
use crate::mesh::CallError;
use crate::raft::RaftError;

/// What a leader's answer to another node begins with if the wish cannot be fulfilled.
const REFUSED: &str = "refused: ";

impl Membership {
    /// On the leader: hands over to that voter, or to the one that is furthest.
    pub async fn switch_over(
        &self,
        to: Option<NodeId>,
        asked: String,
    ) -> Result<NodeId, SwitchoverError> {
        let name = to.map(|to| self.roster.now().name_of(to)).unwrap_or_default();
        if let Some(to) = to.filter(|to| *to != self.me) {
            if !self.is_up(to) {
                return Err(SwitchoverError::Refused(format!("{name} is not reachable")));
            }
            // One that is frozen is connected for a while yet. An older version answers that it does not
            // know the question.
            if let Err(why) = self.ask_what_it_shows(to).await
                && !why.contains("method")
            {
                return Err(SwitchoverError::Refused(format!("{name} does not answer: {why}")));
            }
        }
        let handed = self.leaders.hand_over(to, Cause::Switchover, Some(asked)).await;
        let leader = handed.map_err(|error| match error {
            RaftError::NoVoter(_) => SwitchoverError::Refused(format!("{name} does not vote")),
            RaftError::Behind { entries, waited, .. } => SwitchoverError::Refused(format!(
                "{name} is behind by {entries} entries, and did not catch up within {waited:?}"
            )),
            error => SwitchoverError::Unavailable(error.to_string()),
        })?;
        if to.is_some_and(|to| to != leader) {
            // It died at that moment, and the others elected.
            let now = self.roster.now().name_of(leader);
            return Err(SwitchoverError::Unavailable(format!("{now} leads now, not {name}")));
        }
        Ok(leader)
    }
}

/// For another node. Its connection carries text.
pub fn told(error: SwitchoverError) -> String {
    match error {
        SwitchoverError::Refused(why) => format!("{REFUSED}{why}"),
        SwitchoverError::Unavailable(why) => why,
    }
}

/// What another node was told.
pub fn heard(error: &CallError) -> SwitchoverError {
    match error {
        CallError::Handler { message, .. } => match message.strip_prefix(REFUSED) {
            Some(why) => SwitchoverError::Refused(why.to_owned()),
            None => SwitchoverError::Unavailable(message.clone()),
        },
        error => SwitchoverError::Unavailable(error.to_string()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_refusal_is_one_on_the_node_that_was_asked() {
        let node = NodeId(2);
        for error in [
            SwitchoverError::Refused("n3 is not reachable".into()),
            SwitchoverError::Unavailable("no answer".into()),
        ] {
            let message = told(error.clone());
            assert_eq!(heard(&CallError::Handler { node, message }), error);
        }
        let silent = heard(&CallError::Broken { node });
        assert!(matches!(silent, SwitchoverError::Unavailable(_)));
    }
}
