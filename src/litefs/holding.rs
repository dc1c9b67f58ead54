//! This node's hold on the lease: the daemon renews it for as long as its LiteFS is well, and tells LiteFS to
//! stop when no quorum has confirmed it for a while.
//!
//! one-primary: LiteFS asks the facade each half of [`timing::LITEFS_TTL`]. It is told to go on only while the
//! last renewal that a quorum confirmed was asked for less than [`timing::confirmed`] ago; otherwise that its
//! session is over, which ends its writes within milliseconds. Left to its own clocks it would write on for
//! seconds longer, and all of that would be lost. A leader that is being replaced costs nothing meanwhile.

use std::sync::Arc;
use std::time::Duration;

use tokio::time::{Instant, sleep};

use super::consul::Reply;
use super::engine::Litefs;
use super::timing;
use crate::cluster::{End, Holder};

/// For LiteFS to be found to write no more.
const LOOK: Duration = Duration::from_millis(300);
/// For the lease to be given back.
const GIVE_BACK: Duration = Duration::from_secs(1);
/// For LiteFS to become primary once it has the lease.
const TAKES_IT: Duration = Duration::from_secs(1);
/// Between two tries to give it back.
const AGAIN: Duration = Duration::from_millis(50);

/// What is known of one session that holds the lease.
#[derive(Debug)]
pub struct Holding {
    session: String,
    /// When the last renewal was asked for that a quorum confirmed, or the lease itself.
    confirmed: Option<Instant>,
    /// When the log was asked to give it.
    granted: Instant,
    /// LiteFS was told that it is over: it may not be told anything else any more.
    over: bool,
}

impl Default for Holding {
    fn default() -> Self {
        let (session, granted) = (String::new(), Instant::now());
        Self { session, confirmed: None, granted, over: false }
    }
}

impl Holding {
    /// A quorum has confirmed what was asked for then.
    pub fn confirm(&mut self, session: &str, asked: Instant) {
        if self.session != session {
            *self = Self { session: session.to_owned(), ..Self::default() };
        }
        self.confirmed = self.confirmed.max(Some(asked));
    }

    /// The log gave it the lease, maybe again.
    pub fn grant(&mut self, session: &str, asked: Instant) {
        let session = session.to_owned();
        *self = Self { session, confirmed: Some(asked), granted: asked, over: false };
    }

    /// Whether LiteFS may write on, by what is known already.
    fn is_fresh(&self, session: &str, within: Duration, now: Instant) -> bool {
        self.session == session
            && !self.over
            && self.confirmed.is_some_and(|at| now.duration_since(at) < within)
    }

    pub fn is_over(&self, session: &str) -> bool {
        self.session == session && self.over
    }

    fn end(&mut self, session: &str) {
        *self = Self { session: session.to_owned(), over: true, ..Self::default() };
    }
}

impl Litefs {
    /// The answer to LiteFS's own renewal.
    pub(super) async fn may_go_on(&self, session: &str, within: Duration) -> Reply {
        let fresh = timing::confirmed(self.settings.ttl);
        let state = self.raft.state();
        if state.lease().holder().is_none_or(|holder| holder.node != self.me) {
            // LiteFS renews what is handed over to it before it takes it.
            return match self.renew(session, within).await {
                Ok(renewed) => Reply::Renewed(renewed),
                // It has lost it: it must not write on until it gives up by itself.
                Err(_) if self.seen.borrow().primary => Reply::Renewed(false),
                Err(why) => Reply::Unavailable(why),
            };
        }
        if self.holding.lock().is_over(session) {
            return Reply::Renewed(false);
        }
        if self.holding.lock().is_fresh(session, fresh, Instant::now()) {
            return Reply::Renewed(true);
        }
        match self.renew_and_note(session, within).await {
            Ok(true) => return Reply::Renewed(true),
            Ok(false) => tracing::warn!("the lease is over: LiteFS has to stop being primary"),
            Err(why) => tracing::warn!(
                why,
                "no quorum has confirmed the lease for {fresh:?}: LiteFS has to stop being primary"
            ),
        }
        self.end_holding(session)
    }

    /// LiteFS is told that it is over, and nothing else from here on.
    pub(super) fn end_holding(&self, session: &str) -> Reply {
        self.holding.lock().end(session);
        Reply::Renewed(false)
    }

    async fn renew_and_note(&self, session: &str, within: Duration) -> Result<bool, String> {
        let asked = Instant::now();
        let renewed = self.renew(session, within).await?;
        if renewed {
            self.holding.lock().confirm(session, asked);
        }
        Ok(renewed)
    }
}

/// Renews this node's session, if it has one. Until the node ends.
pub(super) async fn hold(litefs: Arc<Litefs>) {
    let mut applied = litefs.raft.applied();
    loop {
        applied.mark_unchanged();
        let holder = litefs.raft.state().lease().holder().cloned();
        let pause = match holder.filter(|holder| holder.node == litefs.me) {
            Some(holder) => litefs.hold_on(&holder).await,
            // Until an entry of the log says otherwise.
            None => Duration::MAX,
        };
        tokio::select! {
            changed = applied.changed() => if changed.is_err() { return },
            () = sleep(pause) => {}
        }
    }
}

impl Litefs {
    /// Once; returns after what time again.
    async fn hold_on(self: &Arc<Self>, holder: &Holder) -> Duration {
        let session = &holder.session;
        if self.holding.lock().is_over(session) {
            // A LiteFS that has ended does not write any more, either: its supervisor sees to its session.
            let stopped = self.client.look(LOOK).await.is_ok_and(|seen| !seen.primary);
            if stopped {
                self.end_session(End::Released, GIVE_BACK).await;
            }
            return AGAIN;
        }
        // A LiteFS that was given the lease is primary a moment later. One that has handed it over is not, and
        // the lease runs out if nobody takes it.
        let given = Instant::now().duration_since(self.holding.lock().granted) < TAKES_IT;
        let seen = self.seen.borrow().clone();
        if seen.running && (seen.primary || given) {
            match self.renew_and_note(session, timing::answer(self.settings.ttl)).await {
                Ok(true) => {}
                Ok(false) => self.holding.lock().end(session),
                Err(why) => tracing::debug!(why, "the lease is not renewed yet"),
            }
        }
        timing::renew_each(self.settings.ttl)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LONG: Duration = Duration::from_millis(1500);
    const BIT: Duration = Duration::from_millis(1);

    /// one-primary: from when it was asked, not from when it was answered; and over is over.
    #[test]
    fn a_hold_is_as_old_as_the_question() {
        let (mut holding, asked) = (Holding::default(), Instant::now());
        assert!(!holding.is_fresh("", LONG, asked), "nothing was confirmed");
        holding.confirm("s", asked);
        assert!(holding.is_fresh("s", LONG, asked + LONG - BIT));
        assert!(!holding.is_fresh("s", LONG, asked + LONG));
        assert!(!holding.is_fresh("t", LONG, asked));
        holding.confirm("s", asked + LONG);
        holding.confirm("s", asked);
        assert!(holding.is_fresh("s", LONG, asked + LONG + BIT), "an older answer came later");
        holding.end("s");
        holding.confirm("s", asked + LONG);
        assert!(holding.is_over("s") && !holding.is_fresh("s", LONG, asked + LONG));
        holding.grant("s", asked + LONG);
        assert!(holding.is_fresh("s", LONG, asked + LONG), "it was handed over, and came back");
        holding.confirm("t", asked + LONG);
        assert!(holding.is_fresh("t", LONG, asked + LONG) && !holding.is_over("s"));
    }
}
