//! Looks at the machine now and then, so that whoever asks for metrics waits for no disk.

use std::path::PathBuf;
use std::sync::{Arc, Mutex};
use std::time::{Duration, UNIX_EPOCH};

use crate::commit::lock;
use crate::core::config::Config;
use crate::core::engine::{Disk, Machine};
use crate::mesh::certificate_expires;

/// Between two looks.
const LOOK: Duration = Duration::from_secs(10);

/// What was seen last.
pub struct Watched {
    data_dir: PathBuf,
    certificates: [(&'static str, PathBuf); 2],
    seen: Mutex<Machine>,
}

impl Watched {
    pub fn new(config: &Config) -> Arc<Self> {
        let tls = &config.mesh.tls;
        Arc::new(Self {
            data_dir: config.data_dir.clone(),
            certificates: [("node", tls.cert.clone()), ("ca", tls.ca.clone())],
            seen: Mutex::default(),
        })
    }

    pub fn seen(&self) -> Machine {
        lock(&self.seen).clone()
    }

    /// Looks, and looks again, as long as somebody else has use for it. A look that hangs with its disk
    /// keeps one thread, and what was seen before.
    pub async fn follow(self: Arc<Self>) {
        let watched = Arc::downgrade(&self);
        drop(self);
        while let Some(watched) = watched.upgrade() {
            let look = tokio::task::spawn_blocking(move || *lock(&watched.seen) = watched.look());
            if look.await.is_err() {
                return;
            }
            tokio::time::sleep(LOOK).await;
        }
    }

    fn look(&self) -> Machine {
        let disk = rustix::fs::statvfs(&self.data_dir).ok().map(|disk| Disk {
            bytes: disk.f_blocks.saturating_mul(disk.f_frsize),
            free: disk.f_bavail.saturating_mul(disk.f_frsize),
        });
        let certificates = self.certificates.iter().filter_map(|(what, path)| {
            let pem = std::fs::read_to_string(path).ok()?;
            let expires = certificate_expires(&pem).ok()?;
            Some((*what, expires.duration_since(UNIX_EPOCH).ok()?.as_secs()))
        });
        Machine { disk, certificates: certificates.collect() }
    }
}
