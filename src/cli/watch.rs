//! `litefs-py status --watch`: the cluster, once a second, until Ctrl-C or until nobody reads any more.
//!
//! On a terminal it is drawn in place; elsewhere each look is a line, for a log or for `grep`.

use std::fmt::Write as _;
use std::io::IsTerminal;
use std::time::Duration;

use super::Failure;
use super::client::Client;
use super::databases::table_of;
use super::output::{or_dash, utc, write_out};
use super::status::{progress, role, text};
use super::target::Target;
use crate::core::clock::signed_unix_ms;
use crate::core::engine::{DatabaseStatus, Status};
use crate::core::history::LeaderChange;

/// Between two looks.
const PAUSE: Duration = Duration::from_secs(1);

/// ECMA-48: to the top left (CUP); from here to the end of the line (EL); from here to the end of the
/// page (ED). What does not change is written over by itself, so that nothing flickers.
const HOME: &str = "\x1b[H";
const END_OF_LINE: &str = "\x1b[K";
const REST: &str = "\x1b[J";

/// What is looked at.
struct Look {
    status: Status,
    databases: Vec<DatabaseStatus>,
    history: Vec<LeaderChange>,
}

pub(super) async fn watch(target: &Target, json: bool) -> Result<(), Failure> {
    let drawn = !json && std::io::stdout().is_terminal();
    let interrupted = tokio::signal::ctrl_c();
    tokio::pin!(interrupted);
    loop {
        let looked = tokio::select! {
            looked = look(target) => looked,
            _ = &mut interrupted => break,
        };
        let shown = match (&looked, drawn) {
            (Ok(look), false) if json => as_json(look)?,
            (Ok(look), true) => drawing(&page(look)),
            (Ok(look), false) => line(look),
            // Whoever watches wants to see it come back.
            (Err(failure), true) => drawing(&format!("{failure}\n")),
            (Err(failure), false) if json => {
                format!("{}\n", serde_json::json!({"error": failure.message}))
            }
            (Err(failure), false) => format!("{} {failure}\n", now()),
        };
        if !write_out(&shown)? {
            return Ok(());
        }
        tokio::select! {
            () = tokio::time::sleep(PAUSE) => {}
            _ = &mut interrupted => break,
        }
    }
    // The shell's prompt begins a line.
    if drawn { write_out("\n").map(drop) } else { Ok(()) }
}

async fn look(target: &Target) -> Result<Look, Failure> {
    let client: Client = target.client().await?;
    Ok(Look {
        status: client.get("/cluster").await?,
        databases: client.get("/databases").await?,
        history: client.get("/history").await?,
    })
}

fn drawing(page: &str) -> String {
    let mut drawing = HOME.to_owned();
    for line in page.lines() {
        drawing.push_str(line);
        drawing.push_str(END_OF_LINE);
        drawing.push('\n');
    }
    drawing + REST
}

fn page(look: &Look) -> String {
    let mut page = text(&look.status);
    if !look.databases.is_empty() {
        page.push('\n');
        page.push_str(&table_of(&look.databases));
    }
    if let Some(last) = look.history.last() {
        let pause = or_dash(last.without_leader_ms.map(|ms| format!("{ms} ms")));
        // Writing to a text does not fail.
        let _ = write!(
            page,
            "\nlast change of the leader: {}, {} leads (term {}): {last}; without a leader: {pause}\n",
            utc(last.since_ms),
            last.leader,
            last.term,
        );
    }
    page
}

/// `2026-11-28 22:43:37.123Z n1 primary, term 7, leader n1, quorum ok, 3 of 3 up, lag 0 ms; app.db 1f`
fn line(look: &Look) -> String {
    let status = &look.status;
    let up = status.members.iter().filter(|member| member.reachable).count();
    let mut line = format!(
        "{} {} {}, term {}, leader {}, {}, {up} of {} up, lag {}",
        now(),
        status.name,
        role(status.role),
        status.term,
        status.leader.as_deref().unwrap_or("unknown"),
        if status.quorum.ok { "quorum ok" } else { "no quorum" },
        status.members.len(),
        or_dash(status.lag_ms.map(|ms| format!("{ms} ms"))),
    );
    for (number, database) in look.databases.iter().enumerate() {
        let before = if number == 0 { ';' } else { ',' };
        let _ = write!(line, "{before} {} {:x}", database.name, database.position.txid.0);
        if let Some(writer) = &database.write_lock {
            let _ = write!(line, " ({writer} writes)");
        }
    }
    for snapshot in &status.snapshots {
        let _ = write!(line, "; {}", progress(snapshot));
    }
    line.push('\n');
    line
}

fn as_json(look: &Look) -> Result<String, Failure> {
    let all = serde_json::json!({
        "cluster": look.status,
        "databases": look.databases,
        "last_change": look.history.last(),
    });
    super::output::json_line(&all)
}

fn now() -> String {
    utc(signed_unix_ms())
}
