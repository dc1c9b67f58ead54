//! A node whose engine is LiteFS: the parts of `start` without mount and databases of their own, and the
//! room `litefs` in their place.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use rustix::process::Signal;

use super::ending::{APPLYING, StopSignals, hand_over, shut_down};
use super::litefs_engine::LitefsEngine;
use super::live::Live;
use super::{
    API_GRACE, DataFolder, DataFolderError, NodeError, Parts, accounts, compaction, end_by_force,
    stand, until_some,
};
use crate::api;
use crate::cluster::{Lease, State};
use crate::core::NodeId;
use crate::core::config::{Config, EngineKind, LogLevel};
use crate::litefs::{Application, Litefs, Parts as LitefsParts, Settings};
use crate::mesh::Mesh;
use crate::raft::RaftNode;

/// How long a stopping primary waits for another to take over.
const HANDOVER: Duration = Duration::from_secs(5);

/// The folder of what the daemon keeps for its LiteFS, in the data folder.
const OWN: &str = "litefs-daemon";

/// The other engine, if it is configured.
pub fn build(
    config: &Config,
    folder: &DataFolder,
    mesh: &Mesh,
    raft: &Arc<RaftNode>,
) -> Option<Arc<Litefs>> {
    if config.engine != EngineKind::Litefs {
        return None;
    }
    Some(Litefs::new(LitefsParts {
        me: NodeId(config.node.id),
        mesh: mesh.clone(),
        raft: Arc::clone(raft),
        settings: Settings::new(config, folder.part(OWN), folder.part("aside")),
        unmount: Arc::new(end_by_force),
    }))
}

/// The log says which engine its cluster has: databases of the one, or a lease of the other.
///
/// # Errors
/// It is not the one that is configured.
pub fn check_engine(config: &Config, folder: &DataFolder, state: &State) -> Result<(), NodeError> {
    let (found, wanted) = match config.engine {
        EngineKind::Embedded if *state.lease() != Lease::default() => ("litefs", "embedded"),
        EngineKind::Litefs if state.databases().len() > 0 => ("embedded", "litefs"),
        _ => return Ok(()),
    };
    Err(NodeError::OtherEngine { path: folder.path().display().to_string(), found, wanted })
}

/// From when the parts stand until SIGTERM or SIGINT.
pub async fn run(
    config: Config,
    parts: Parts,
    litefs: Arc<Litefs>,
    live: Arc<Live>,
    mut stop: StopSignals,
    set_level: fn(LogLevel),
) -> Result<(), NodeError> {
    let mounted = config.mount.path.clone();
    crate::commit::before_stopping(move || {
        if let Err(error) = end_by_force(&mounted) {
            tracing::debug!(path = %mounted.display(), %error, "no mount is left behind");
        }
    });
    litefs.start().await?;
    let engine = LitefsEngine::new(&config, &parts, Arc::clone(&live), Arc::clone(&litefs))?;
    let options =
        api::Options::new(&config.api, accounts::group(config.api.socket_group.as_deref())?);
    let (raft, expose) = (Arc::clone(&parts.raft), Arc::clone(&options.expose_metrics));
    live.follow(move |config| {
        set_level(config.log.level);
        expose.store(config.api.expose_metrics, Ordering::Relaxed);
        raft.set_compaction(compaction(config));
    });
    let serving = api::serve(Arc::clone(&engine) as _, options).await?;
    stand::begin(&engine);
    let removed = parts.membership.removed.subscribe();
    let mut application = Application::new(&litefs);
    let (mut told, mut ended) = (Signal::TERM, None);
    let outcome = tokio::select! {
        signal = stop.wait() => {
            told = signal;
            None
        }
        code = application.run() => {
            ended = Some(code.map_err(|source| NodeError::Io { what: "start litefs.exec", source })?);
            None
        }
        why = until_some(removed) => Some(why),
        why = until_some(parts.failed.clone()) => {
            // Without Raft nobody renews the lease: LiteFS ends with this process.
            return Err(NodeError::Stopped(why));
        }
    };
    tracing::info!("stopping");
    stand::stopping();
    engine.draining();
    // Writers elsewhere go on while the application here stops; LiteFS must not be stopped beneath it.
    litefs.give_up(HANDOVER).await;
    application.stop(told).await;
    litefs.stop().await;
    hand_over(&parts).await;
    serving.stop(API_GRACE).await;
    let folder = shut_down(parts, APPLYING).await;
    if let Some(why) = outcome {
        let kept = folder.leave(&why)?.display().to_string();
        return Err(DataFolderError::Removed { why, kept }.into());
    }
    match ended {
        Some(code) => Err(NodeError::Application { code }),
        None => Ok(()),
    }
}
