//! The configuration of a node that runs, and its changes: kept in one file of the data folder, beside
//! what the configuration file says, which is never written to.

use std::io;
use std::path::PathBuf;
use std::sync::{Mutex, OnceLock};

use serde_json::Value;

use super::DataFolder;
use crate::commit::lock;
use crate::core::config::{ChangeError, Config, ConfigView, Overlay};
use crate::store::durable;

/// The file's name in the data folder.
pub const FILE: &str = "config-changes.json";

type Turn = Box<dyn Fn(&Config) + Send + Sync>;

pub struct Live {
    path: PathBuf,
    file: Config,
    now: Mutex<(Overlay, Config)>,
    /// Lets a configuration take effect.
    turn: OnceLock<Turn>,
}

impl Live {
    /// What the file says, and what was changed before the last stop. Changes that do not fit any more
    /// are left aside, and told: a node that does not start for that would be worse.
    pub fn open(folder: &DataFolder, file: Config) -> Self {
        let path = folder.part(FILE);
        let overlay = match std::fs::read(&path) {
            Ok(bytes) => serde_json::from_slice(&bytes).map_err(|error| error.to_string()),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(Overlay::default()),
            Err(error) => Err(error.to_string()),
        };
        let now = overlay.and_then(|overlay| {
            let config = overlay.over(&file).map_err(|error| error.to_string())?;
            Ok((overlay, config))
        });
        let now = now.unwrap_or_else(|why: String| {
            tracing::error!(
                path = %path.display(), why,
                "the changes of the configuration do not fit, so the file alone counts; make them anew \
                 (litefs-py config set)"
            );
            (Overlay::default(), file.clone())
        });
        Self { path, file, now: Mutex::new(now), turn: OnceLock::new() }
    }

    /// What runs.
    pub fn running(&self) -> Config {
        lock(&self.now).1.clone()
    }

    /// What is to be done with each configuration, from this one on.
    pub fn follow(&self, turn: impl Fn(&Config) + Send + Sync + 'static) {
        let now = lock(&self.now);
        turn(&now.1);
        // It is set once.
        let _ = self.turn.set(Box::new(turn));
    }

    pub fn view(&self) -> ConfigView {
        let now = lock(&self.now);
        // A configuration that came from a text can be shown.
        now.0.view(&self.file, &now.1).unwrap_or_else(|_| ConfigView {
            file: Value::Null,
            changed: now.0.clone(),
            running: Value::Null,
            live: Vec::new(),
        })
    }

    /// Changes it; blocks for a sync. It is kept before it takes effect.
    ///
    /// # Errors
    /// Nothing was changed then.
    pub fn change(&self, patch: &Value) -> Result<ConfigView, ChangeError> {
        let mut now = lock(&self.now);
        let (overlay, config) = now.0.patched(&self.file, patch)?;
        if overlay != now.0 {
            let failed = |error: io::Error| {
                ChangeError::Failed(format!("cannot write {}: {error}", self.path.display()))
            };
            let bytes =
                serde_json::to_vec_pretty(&overlay).map_err(|error| failed(error.into()))?;
            durable::write(&self.path, &bytes).map_err(failed)?;
            tracing::info!(changes = %patch, "the configuration was changed");
            if let Some(turn) = self.turn.get() {
                turn(&config);
            }
            *now = (overlay, config);
        }
        drop(now);
        Ok(self.view())
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::sync::atomic::{AtomicU64, Ordering};

    use serde_json::json;

    use super::*;
    use crate::core::config::example;

    #[test]
    fn a_change_takes_effect_and_outlives_a_restart() {
        let place = tempfile::tempdir().unwrap();
        let folder = DataFolder::open(place.path(), "app", 1).unwrap();
        let live = Live::open(&folder, example());
        let seen = Arc::new(AtomicU64::new(0));
        let last = Arc::clone(&seen);
        live.follow(move |config| last.store(config.wal_warn_bytes, Ordering::Relaxed));
        assert_eq!(seen.load(Ordering::Relaxed), 256 << 20);
        live.change(&json!({"wal_warn_bytes": "1GiB"})).unwrap();
        assert_eq!(seen.load(Ordering::Relaxed), 1 << 30);
        assert!(live.change(&json!({"journal": "any"})).is_err());
        assert_eq!(Live::open(&folder, example()).running(), live.running());
        live.change(&json!({"wal_warn_bytes": null})).unwrap();
        assert_eq!(Live::open(&folder, example()).running(), example());
        std::fs::write(folder.part(FILE), "{\"mount.path\": \"/x\"}").unwrap();
        assert_eq!(
            Live::open(&folder, example()).running(),
            example(),
            "what does not fit is left"
        );
    }
}
