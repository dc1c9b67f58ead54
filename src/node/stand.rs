//! How the node stands, told without being asked: to systemd, in a line that is renewed when it
//! changes; and to the log, when the majority is lost, and when it is back.
//!
//! systemd's watchdog is kept quiet as long as the node moves (bounded-answer).

use std::fmt::Write as _;
use std::sync::Arc;
use std::time::{Duration, Instant};

use sd_notify::NotifyState;

use crate::core::engine::{DatabaseStatus, Engine, Role, Status};

/// Between two looks.
const LOOK: Duration = Duration::from_secs(1);

/// Databases that the line names; it is one line of a terminal.
const NAMED: usize = 3;

/// A lag below this is that of a healthy follower.
const IN_STEP: u64 = 1000;

/// Tells systemd, where there is one, that the node serves, and goes on telling.
pub fn begin<E: Engine + 'static>(engine: &Arc<E>) {
    notify(&[NotifyState::Ready]);
    let watchdog = sd_notify::watchdog_enabled().map(|limit| limit / 3);
    let systemd = std::env::var_os("NOTIFY_SOCKET").is_some();
    let every = watchdog.map_or(LOOK, |every| every.min(LOOK));
    let engine = Arc::downgrade(engine);
    tokio::spawn(async move {
        let (mut told, mut pinged) = (String::new(), Instant::now());
        let mut majority = Majority::default();
        while let Some(engine) = engine.upgrade() {
            let status = engine.status();
            majority.look(status.quorum.ok);
            if systemd {
                let line = line(&status, &engine.databases());
                if line != told {
                    notify(&[NotifyState::Status(&line)]);
                    told = line;
                }
            }
            // A node that is stuck is ended by systemd rather than kept alive by this task.
            if watchdog.is_some_and(|every| pinged.elapsed() >= every) && status.stuck.is_none() {
                notify(&[NotifyState::Watchdog]);
                pinged = Instant::now();
            }
            drop(engine);
            tokio::time::sleep(every).await;
        }
    });
}

pub fn stopping() {
    notify(&[NotifyState::Stopping]);
}

fn notify(states: &[NotifyState<'_>]) {
    if let Err(error) = sd_notify::notify(states) {
        tracing::debug!(%error, "systemd was not told");
    }
}

/// Whether a majority was there at the last look, and since when it is not.
#[derive(Default)]
struct Majority {
    had: bool,
    lost: Option<Instant>,
}

impl Majority {
    fn look(&mut self, ok: bool) {
        match (ok, self.lost) {
            (false, None) if self.had => {
                tracing::warn!("no majority of the members answers: reads go on, writes wait");
                self.lost = Some(Instant::now());
            }
            (true, Some(since)) => {
                let seconds = since.elapsed().as_secs();
                tracing::info!("a majority answers again, after {seconds} s");
                self.lost = None;
            }
            _ => {}
        }
        self.had |= ok;
    }
}

/// `primary, term 7, 3 of 3 members up, in step; app.db 1f, b.db 3 and 2 more`
fn line(status: &Status, databases: &[DatabaseStatus]) -> String {
    let role = match status.role {
        Role::Primary => "primary",
        Role::Replica => "replica",
    };
    let up = status.members.iter().filter(|member| member.reachable).count();
    let mut line =
        format!("{role}, term {}, {up} of {} members up", status.term, status.members.len());
    // Writing to a text does not fail.
    let _ = match (status.role, &status.leader) {
        (Role::Replica, Some(leader)) => write!(line, ", leader {leader}"),
        (Role::Replica, None) => write!(line, ", no leader"),
        (Role::Primary, _) if !status.quorum.ok => write!(line, ", NO MAJORITY"),
        (Role::Primary, _) => Ok(()),
    };
    let _ = match status.lag_ms {
        Some(lag) if lag < IN_STEP => write!(line, ", in step"),
        Some(lag) => write!(line, ", {} s behind", lag / 1000),
        None => write!(line, ", lag unknown"),
    };
    for (number, database) in databases.iter().take(NAMED).enumerate() {
        let before = if number == 0 { ';' } else { ',' };
        let _ = write!(line, "{before} {} {:x}", database.name, database.position.txid.0);
    }
    if let Some(more) = databases.len().checked_sub(NAMED).filter(|more| *more > 0) {
        let _ = write!(line, " and {more} more");
    }
    line
}
