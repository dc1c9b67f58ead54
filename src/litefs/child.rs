//! LiteFS's process: started, looked after, started again; stopped in order.

use std::ffi::OsString;
use std::io;
use std::path::Path;
use std::process::{ExitStatus, Stdio};
use std::sync::Arc;
use std::time::Duration;

use tokio::io::{AsyncBufReadExt, AsyncRead, AsyncWriteExt, BufReader};
use tokio::process::{Child, ChildStdin, Command};
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio::time::{Instant, interval, sleep, timeout};

use super::engine::Litefs;
use super::guard::{ALIVE, BEAT, KILL, SILENT, TERMINATE, end_leftover};
use super::positions::Seen;
use super::settings::{NoProgram, check_version, find};
use super::timing;
use crate::cluster::End;
use crate::core::clock::unix_seconds;
use crate::core::{DatabaseName, Position};
use crate::store::{durable, finish_litefs_commits, set_litefs_aside};

/// Between two looks at how LiteFS is.
const LOOK: Duration = Duration::from_millis(250);
/// The same for a while after the lease has changed.
const QUICK: Duration = Duration::from_millis(20);
const QUICK_FOR: Duration = Duration::from_secs(1);
/// For an answer to one. Longer than any pause of the machine that is no fault.
const ANSWER: Duration = Duration::from_secs(1);
/// The first and the longest pause between two starts.
const BACKOFF: (Duration, Duration) = (Duration::from_millis(100), Duration::from_secs(10));
/// Who ran so long is started again at once.
const STEADY: Duration = Duration::from_millis(500);
/// For a process that was killed to be gone.
const DYING: Duration = Duration::from_secs(10);
/// LiteFS told to stop: it waits for its mount to be left.
const STOPPING: Duration = Duration::from_secs(10);
/// For the lease to be given back.
const GIVE_BACK: Duration = Duration::from_secs(3);
/// For the primary to say what it has.
const PRIMARY: Duration = Duration::from_secs(2);
/// The mount must be there so long after LiteFS has begun to answer.
const MOUNTS: Duration = Duration::from_secs(2);
/// The longest line of output that is kept whole.
const LINE_MAX: usize = 8 << 10;

/// What LiteFS may inherit is all but what changes how it finds Consul and where it thinks it runs.
const NOT_INHERITED: [&str; 6] = [
    "NOTIFY_SOCKET",
    "WATCHDOG_PID",
    "WATCHDOG_USEC",
    "JOURNAL_STREAM",
    "LITEFS_CLOUD_TOKEN",
    "LITEFS_CLOUD_ENDPOINT",
];
const NOT_INHERITED_PREFIXES: [&str; 2] = ["CONSUL_", "FLY_"];

/// What the supervisor is to do.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Stopping {
    #[default]
    No,
    /// LiteFS goes on, but is not to become primary.
    Soon,
    /// LiteFS is to stop in order, and not to be started again.
    Stop,
}

/// How LiteFS ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Ended {
    pub code: i32,
}

impl Ended {
    /// What an exit code means, for people.
    fn explain(self) -> String {
        match self.code {
            0 => "it stopped in order".to_owned(),
            1 => "it met an error; its last lines say which".to_owned(),
            2 => "it does not take its configuration; its last lines say why".to_owned(),
            99 => "a transaction that SQLite had committed could not be applied, so it gave up; what it \
                   holds is compared with the primary's before it goes on"
                .to_owned(),
            SILENT => "its guard ended it: this daemon was paused, or hung".to_owned(),
            code if code > 128 => format!("signal {} ended it", code - 128),
            code => format!("exit code {code}"),
        }
    }
}

/// How the daemon starts a process under the guard: this program, and what to say to it.
#[derive(Debug, Clone)]
pub struct Launcher {
    pub program: std::path::PathBuf,
}

/// Keeps LiteFS running until the node stops.
pub(super) async fn supervise(litefs: Arc<Litefs>, launcher: Launcher, facade: String) {
    let mut stopping = litefs.stop.subscribe();
    let mut pause = BACKOFF.0;
    let mut first = true;
    while *stopping.borrow() != Stopping::Stop {
        let begun = Instant::now();
        let outcome = litefs.one_life(&launcher, &facade, first).await;
        first = false;
        let why = match outcome {
            Ok(ended) if *stopping.borrow() == Stopping::Stop => {
                tracing::info!("LiteFS has ended: {}", ended.explain());
                break;
            }
            Ok(ended) => {
                tracing::warn!(code = ended.code, "LiteFS has ended: {}", ended.explain());
                format!("LiteFS ended: {}", ended.explain())
            }
            Err(why) => {
                tracing::error!(why, "LiteFS cannot run");
                why
            }
        };
        litefs.down.send_replace(Some(why));
        if begun.elapsed() > STEADY {
            pause = BACKOFF.0;
        }
        tokio::select! {
            _ = stopping.wait_for(|stopping| *stopping == Stopping::Stop) => {}
            () = sleep(if begun.elapsed() > STEADY { Duration::ZERO } else { pause }) => {}
        }
        pause = (pause * 2).min(BACKOFF.1);
    }
    litefs.over.send_replace(true);
}

impl Litefs {
    /// From before the start to after the end of one process.
    async fn one_life(
        self: &Arc<Self>,
        launcher: &Launcher,
        facade: &str,
        first: bool,
    ) -> Result<Ended, String> {
        let program = self.prepare(facade, first).await?;
        let mut guarded = self.spawn(launcher, &program).map_err(|error| error.to_string())?;
        let end = self.look_after(&mut guarded).await;
        // Whatever led here: it is over with this process.
        drop(guarded.orders);
        let status = timeout(DYING, guarded.guard.wait()).await;
        let outputs = futures::future::join_all(guarded.outputs.iter_mut());
        let silent = timeout(DYING, outputs).await;
        self.seen.send_modify(|seen| {
            *seen = Seen { positions: std::mem::take(&mut seen.positions), ..Seen::default() };
        });
        // Both ends of its pipes are closed: the guard and LiteFS itself are gone.
        let code = match (status, silent) {
            (Ok(Ok(status)), Ok(_)) => code_of(status),
            (Ok(Err(error)), _) => return Err(error.to_string()),
            _ => {
                return Err("it was killed, and is not gone yet; its lease runs out".to_owned());
            }
        };
        // Before anybody else may be chosen: then this node counts with what applications were told it has.
        self.finish_commits().await;
        self.end_session(end, GIVE_BACK).await;
        self.counters.ended(code);
        Ok(Ended { code })
    }

    async fn prepare(
        self: &Arc<Self>,
        facade: &str,
        first: bool,
    ) -> Result<std::path::PathBuf, String> {
        let settings = self.settings.clone();
        let config = settings.render(facade);
        let unmount = Arc::clone(&self.unmount);
        let program = tokio::task::spawn_blocking(move || {
            end_leftover(&settings.own.join("pid"), DYING).map_err(|error| error.to_string())?;
            let program = find(settings.binary.as_deref()).map_err(|error| error.to_string())?;
            if first {
                let version = version(&program).map_err(|error| error.to_string())?;
                tracing::info!(program = %program.display(), version, "LiteFS is found");
            }
            let file = settings.own.join("litefs.yml");
            // It holds the facade's token.
            write_private(&file, &config)
                .map_err(|error| format!("{}: {error}", file.display()))?;
            if is_mounted(&settings.mount) {
                tracing::warn!(path = %settings.mount.display(), "ending the mount that LiteFS left");
                unmount(&settings.mount).map_err(|error| format!("the mount: {error}"))?;
            }
            std::fs::create_dir_all(&settings.mount)
                .map_err(|error| format!("the mount: {error}"))?;
            Ok::<_, String>(program)
        });
        let program = program.await.map_err(|error| error.to_string())??;
        // A daemon that ended with its LiteFS did not come to this.
        self.finish_commits().await;
        // Whatever held it is gone.
        self.end_session(End::Died, GIVE_BACK).await;
        self.give_up_broken().await?;
        Ok(program)
    }

    /// What LiteFS, which is gone, had answered and not kept yet.
    async fn finish_commits(&self) {
        let folder = self.settings.folder.clone();
        let finish = tokio::task::spawn_blocking(move || finish_litefs_commits(&folder));
        for (database, position) in finish.await.unwrap_or_default() {
            tracing::warn!(%database, %position, "finished the commit that LiteFS had answered when it ended");
        }
    }

    /// converges, nothing-discarded: a database that LiteFS cannot open any more, and without which it does
    /// not start, is set aside, if another node has it.
    async fn give_up_broken(self: &Arc<Self>) -> Result<(), String> {
        let Some(name) = self.broken.lock().take() else { return Ok(()) };
        let state = self.raft.state();
        let holder = state.lease().holder().filter(|holder| holder.node != self.me);
        let there = match holder {
            Some(holder) => self.positions_of(holder.node, PRIMARY).await,
            None => Err("no other node is primary".to_owned()),
        };
        if !there.as_ref().is_ok_and(|positions| positions.contains_key(&name)) {
            tracing::error!(
                database = name,
                "LiteFS cannot open it, and no primary is known to have it"
            );
            *self.broken.lock() = Some(name);
            return Ok(());
        }
        let (folder, aside) = (self.settings.folder.clone(), self.settings.aside.clone());
        let done = tokio::task::spawn_blocking(move || {
            let database = DatabaseName::new(name.clone()).map_err(|error| error.to_string())?;
            let failed = |error: io::Error| format!("{name} cannot be set aside: {error}");
            let known = crate::store::litefs_positions(&folder).unwrap_or_default();
            let position = known.get(&name).copied().unwrap_or(Position::EMPTY);
            let why = "LiteFS could not open it any more; it is fetched from the primary";
            let kept = set_litefs_aside(&folder, &database, position, &aside, why, unix_seconds());
            let kept = kept.map_err(failed)?;
            std::fs::remove_dir_all(folder.join("dbs").join(&name)).map_err(failed)?;
            if let Some(place) = &kept {
                tracing::error!(database = name, kept = %place.display(), why, "a database was set aside");
            }
            Ok::<_, String>(kept.is_some())
        });
        if done.await.map_err(|error| error.to_string())?? {
            self.set_aside.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
        }
        Ok(())
    }

    fn spawn(&self, launcher: &Launcher, program: &Path) -> io::Result<Guarded> {
        let own = &self.settings.own;
        let silence = timing::silent_daemon(self.settings.ttl).as_millis().to_string();
        let arguments: [OsString; 6] = [
            "litefs-guard".into(),
            "--silence-ms".into(),
            silence.into(),
            "--pid-file".into(),
            own.join("pid").into(),
            "--".into(),
        ];
        let mut command = Command::new(&launcher.program);
        command
            .args(arguments)
            .arg(program)
            .args(["mount", "-no-expand-env", "-config"])
            .arg(own.join("litefs.yml"))
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            // Its own group: Ctrl-C reaches the daemon alone, which then stops it in order.
            .process_group(0)
            .kill_on_drop(true);
        for (variable, _) in std::env::vars_os() {
            let name = variable.to_string_lossy();
            if NOT_INHERITED.contains(&&*name)
                || NOT_INHERITED_PREFIXES.iter().any(|prefix| name.starts_with(prefix))
            {
                command.env_remove(&variable);
            }
        }
        let mut guard = command.spawn()?;
        let missing = || io::Error::other("a pipe is missing");
        let orders = guard.stdin.take().ok_or_else(missing)?;
        let outputs = vec![
            tokio::spawn(drain(guard.stdout.take().ok_or_else(missing)?, self.this())),
            tokio::spawn(drain(guard.stderr.take().ok_or_else(missing)?, self.this())),
        ];
        Ok(Guarded { guard, orders, outputs })
    }

    /// Until it has ended, or was told to. Why its session ends.
    async fn look_after(self: &Arc<Self>, guarded: &mut Guarded) -> End {
        let mut beat = interval(BEAT);
        let mut stopping = self.stop.subscribe();
        // It may have been said a moment ago.
        stopping.mark_changed();
        let watched = watch_litefs(Arc::clone(self));
        tokio::pin!(watched);
        let mut told: Option<Instant> = None;
        loop {
            tokio::select! {
                _ = guarded.guard.wait() => return End::Died,
                _ = beat.tick() => {
                    if guarded.orders.write_all(&[ALIVE]).await.is_err() {
                        return End::Died;
                    }
                    if told.is_some_and(|at| at.elapsed() > STOPPING) {
                        tracing::warn!("LiteFS does not stop; it is killed");
                        drop(guarded.orders.write_all(&[KILL]).await);
                        return End::Died;
                    }
                }
                Ok(()) = stopping.changed(), if told.is_none() => {
                    if *stopping.borrow() == Stopping::Stop {
                        told = Some(Instant::now());
                        drop(guarded.orders.write_all(&[TERMINATE]).await);
                    }
                }
                why = &mut watched, if told.is_none() => {
                    tracing::error!(why, "LiteFS is killed");
                    drop(guarded.orders.write_all(&[KILL]).await);
                    return End::Hung;
                }
            }
        }
    }
}

struct Guarded {
    guard: Child,
    orders: ChildStdin,
    outputs: Vec<JoinHandle<()>>,
}

fn code_of(status: ExitStatus) -> i32 {
    use std::os::unix::process::ExitStatusExt;
    status.code().or(status.signal().map(|signal| 128 + signal)).unwrap_or(1)
}

/// Looks at LiteFS again and again; returns why it has to be killed.
async fn watch_litefs(litefs: Arc<Litefs>) -> String {
    let mut answered: Option<Instant> = None;
    let mut first: Option<Instant> = None;
    let mut lag_at: Option<Instant> = None;
    let mut applied = litefs.raft.applied();
    let mut quick = Instant::now();
    loop {
        match litefs.client.look(ANSWER).await {
            Ok(seen) => {
                answered = Some(Instant::now());
                let first = *first.get_or_insert_with(Instant::now);
                litefs.down.send_if_modified(|down| down.take().is_some());
                litefs.take_note(seen);
                // Never the mount itself: LiteFS may hang.
                let mount = litefs.settings.mount.clone();
                let mounted = tokio::task::spawn_blocking(move || is_mounted(&mount));
                let mounted = mounted.await.unwrap_or(true);
                litefs.mounted.send_replace(mounted);
                if !mounted && first.elapsed() > MOUNTS {
                    return "its mount was taken away from outside".to_owned();
                }
                if lag_at.is_none_or(|at| at.elapsed() > ANSWER) {
                    lag_at = Some(Instant::now());
                    litefs.note_lag(litefs.client.lag(ANSWER).await.ok());
                }
            }
            Err(error) => {
                let primary = litefs.seen.borrow().primary;
                let patience = timing::silent_litefs(litefs.settings.ttl, primary);
                if let Some(at) = answered
                    && at.elapsed() > patience
                {
                    return format!("it has not answered for {patience:?}: {error}");
                }
            }
        }
        // An entry is about the lease: what LiteFS makes of it shows a moment later.
        let pause = if quick.elapsed() < QUICK_FOR { QUICK } else { LOOK };
        tokio::select! {
            changed = applied.changed(), if pause == LOOK => match changed {
                Ok(()) => quick = Instant::now(),
                Err(_) => return "the node is stopping".to_owned(),
            },
            () = sleep(pause) => {}
        }
    }
}

/// What LiteFS prints goes to the log, a line at a time.
async fn drain(output: impl AsyncRead + Unpin, litefs: Option<Arc<Litefs>>) {
    let tell = |line: &[u8]| {
        let line = hide_token(&String::from_utf8_lossy(line));
        if let (Some(database), Some(litefs)) = (cannot_open(&line), &litefs) {
            *litefs.broken.lock() = Some(database);
        }
        tell(line.trim_end());
    };
    let mut output = BufReader::with_capacity(LINE_MAX, output);
    let mut line = Vec::new();
    loop {
        let Ok(buffer) = output.fill_buf().await else { return };
        if buffer.is_empty() {
            tell(&line);
            return;
        }
        let end = buffer.iter().position(|byte| *byte == b'\n');
        let taken = end.map_or(buffer.len(), |end| end + 1);
        line.extend_from_slice(buffer.get(..end.unwrap_or(taken)).unwrap_or_default());
        output.consume(taken);
        if end.is_some() || line.len() >= LINE_MAX {
            tell(&line);
            line.clear();
        }
    }
}

/// The database that keeps LiteFS from starting.
fn cannot_open(line: &str) -> Option<String> {
    let (_, rest) = line.split_once("cannot open store: open databases: open database(\"")?;
    rest.split_once("\")").map(|(name, _)| name.to_owned())
}

fn tell(line: &str) {
    if line.is_empty() {
        return;
    }
    // Signs that it overwrites what it has, or cannot go on.
    let serious =
        ["removing other ltx files", "exceeds primary", "checksum is mismatched", "ERROR"];
    // What it says at each try while there is no primary.
    let usual = ["cannot release consul key", "cannot acquire lease or find primary", "no primary"];
    if usual.iter().any(|sign| line.contains(sign)) {
        tracing::debug!(target: "litefs", "{line}");
    } else if serious.iter().any(|sign| line.contains(sign)) {
        tracing::warn!(target: "litefs", "{line}");
    } else {
        tracing::info!(target: "litefs", "{line}");
    }
}

/// no-open-door: LiteFS prints the facade's address with its token.
fn hide_token(line: &str) -> String {
    let hidden = line.split_once("http://litefs:").and_then(|(before, rest)| {
        let (_, after) = rest.split_once('@')?;
        Some(format!("{before}http://…@{after}"))
    });
    hidden.unwrap_or_else(|| line.to_owned())
}

fn version(program: &Path) -> Result<String, NoProgram> {
    let broken = |why: String| NoProgram::Broken { program: program.display().to_string(), why };
    let said = std::process::Command::new(program).arg("version").stdin(Stdio::null()).output();
    let said = said.map_err(|error| broken(error.to_string()))?;
    if !said.status.success() {
        return Err(broken(said.status.to_string()));
    }
    check_version(program, &String::from_utf8_lossy(&said.stdout))
}

fn write_private(path: &Path, text: &str) -> io::Result<()> {
    use std::os::unix::fs::PermissionsExt;
    durable::write_with(path, |file| {
        file.set_permissions(std::fs::Permissions::from_mode(0o600))?;
        io::Write::write_all(file, text.as_bytes())
    })
}

/// Whether anything is mounted there, by the kernel's table. proc(5), `mountinfo`: the fifth field; blanks
/// and backslashes in it are written in octal.
fn is_mounted(path: &Path) -> bool {
    let table = std::fs::read_to_string("/proc/self/mountinfo").unwrap_or_default();
    let path = path.canonicalize().unwrap_or_else(|_| path.to_owned());
    let is_there = |line: &str| {
        let point = line.split(' ').nth(4).unwrap_or_default();
        let point = point.replace("\\040", " ").replace("\\134", "\\");
        Path::new(&point) == path
    };
    table.lines().any(is_there)
}

/// Waits until LiteFS has ended for good.
pub(super) async fn ended(mut over: watch::Receiver<bool>) {
    // Its sender is gone only with the node.
    drop(over.wait_for(|over| *over).await);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn exit_codes_are_explained() {
        assert!(Ended { code: 99 }.explain().contains("could not be applied"));
        assert!(Ended { code: 137 }.explain().contains("signal 9"));
        assert!(Ended { code: 2 }.explain().contains("configuration"));
        assert!(Ended { code: SILENT }.explain().contains("paused"));
    }

    #[test]
    fn what_keeps_litefs_from_starting_is_read() {
        let said = "ERROR: cannot open store: open databases: open database(\"a b.db\"): recover ltx: \
                    database checksum 8 on TXID 6 does not match LTX post-apply checksum 9";
        assert_eq!(cannot_open(said).as_deref(), Some("a b.db"));
        assert_eq!(cannot_open("ERROR: cannot open store: else"), None);
    }

    #[test]
    fn the_token_is_not_logged() {
        let line = "initializing consul: url=http://litefs:secret@127.0.0.1:1 hostname=n1";
        assert_eq!(hide_token(line), "initializing consul: url=http://…@127.0.0.1:1 hostname=n1");
        assert_eq!(hide_token("else"), "else");
    }

    #[test]
    fn mounts_are_found_in_the_kernels_table() {
        assert!(is_mounted(Path::new("/proc")));
        assert!(!is_mounted(Path::new("/proc/self")));
    }
}
