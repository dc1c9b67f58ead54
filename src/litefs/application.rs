//! The application's own command (`litefs.exec`): started when the node is ready, stopped before LiteFS.
//!
//! LiteFS can start one too, but joins its words and splits them again, and stops it together with the mount.

use std::process::ExitStatus;
use std::sync::Arc;
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process};
use tokio::process::{Child, Command};
use tokio::time::{sleep, timeout};

use super::engine::Litefs;

/// Between two looks at whether the node is ready.
const LOOK: Duration = Duration::from_millis(50);
/// For the application to stop after a signal.
const STOPPING: Duration = Duration::from_secs(10);

/// The application's process, if there is to be one.
pub struct Application {
    litefs: Arc<Litefs>,
    child: Option<Child>,
}

impl Application {
    #[must_use]
    pub fn new(litefs: &Arc<Litefs>) -> Self {
        Self { litefs: Arc::clone(litefs), child: None }
    }

    /// Starts it once the node is ready, and returns its exit code when it has ended by itself; never, if
    /// none is configured. May be dropped and called again.
    ///
    /// # Errors
    /// It cannot be started.
    pub async fn run(&mut self) -> std::io::Result<i32> {
        let command = self.litefs.settings().exec.clone();
        if command.is_empty() {
            return std::future::pending().await;
        }
        if self.child.is_none() {
            while !self.litefs.is_ready() {
                sleep(LOOK).await;
            }
            tracing::info!(command = command.join(" "), "starting the application");
            self.child = Some(spawn(&command)?);
        }
        let Some(child) = &mut self.child else { return std::future::pending().await };
        let status = child.wait().await?;
        self.child = None;
        Ok(code_of(status))
    }

    /// Passes a signal on, and waits until the application has ended.
    pub async fn stop(&mut self, signal: Signal) {
        let Some(mut child) = self.child.take() else { return };
        let pid = child.id().and_then(|pid| Pid::from_raw(i32::try_from(pid).ok()?));
        if let Some(pid) = pid {
            // It fails when it has just ended.
            let _ = kill_process(pid, signal);
        }
        match timeout(STOPPING, child.wait()).await {
            Ok(Ok(status)) => tracing::info!(code = code_of(status), "the application has ended"),
            Ok(Err(error)) => tracing::warn!(%error, "the application cannot be waited for"),
            Err(_) => {
                tracing::warn!("the application does not stop within {STOPPING:?}; it is killed");
                if let Err(error) = child.kill().await {
                    tracing::warn!(%error, "the application cannot be killed");
                }
            }
        }
    }
}

/// It ends with the daemon, however that ends: no application writes to a mount that nobody serves.
fn spawn(command: &[String]) -> std::io::Result<Child> {
    Command::new(std::env::current_exe()?)
        .args(["dev-child", "--parent", &std::process::id().to_string(), "--"])
        .args(command)
        .kill_on_drop(true)
        .spawn()
}

fn code_of(status: ExitStatus) -> i32 {
    use std::os::unix::process::ExitStatusExt;
    status.code().or(status.signal().map(|signal| 128 + signal)).unwrap_or(1)
}
