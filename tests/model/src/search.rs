//! One exhaustive search, and what it found.

use std::collections::BTreeMap;
use std::fmt;
use std::time::Instant;

use stateright::{Checker, HasDiscoveries, Model};

use crate::actions::Cluster;
use crate::breaks::Break;
use crate::properties::SOMETIMES;
use crate::world::Bounds;

/// What a search saw.
#[derive(Debug)]
pub struct Found {
    /// Different worlds.
    pub states: usize,
    /// Actions taken.
    pub steps: usize,
    pub depth: usize,
    pub seconds: f64,
    /// The properties that do not hold, each with the actions that lead there.
    pub failed: BTreeMap<&'static str, Vec<String>>,
    /// What was to be seen, and was.
    pub seen: Vec<&'static str>,
}

/// Searches everything within the bounds, until a property fails: `awaited`, if one is given, or
/// any. Depth first, which takes little memory, unless the shortest way to a failure is wanted.
pub fn search(bounds: Bounds, broken: Option<Break>, awaited: Option<&'static str>) -> Found {
    let begun = Instant::now();
    let threads = std::thread::available_parallelism().map_or(1, usize::from);
    let checker = Cluster { bounds, broken }.checker().threads(threads);
    if let Some(property) = awaited {
        let wanted = HasDiscoveries::AnyOf([property].into());
        report(begun, &checker.finish_when(wanted).spawn_bfs().join())
    } else {
        let wanted = HasDiscoveries::AnyFailures;
        report(begun, &checker.finish_when(wanted).spawn_dfs().join())
    }
}

fn report(begun: Instant, checker: &impl Checker<Cluster>) -> Found {
    let mut found = Found {
        states: checker.unique_state_count(),
        steps: checker.state_count(),
        depth: checker.max_depth(),
        seconds: begun.elapsed().as_secs_f64(),
        failed: BTreeMap::new(),
        seen: Vec::new(),
    };
    for (property, path) in checker.discoveries() {
        if SOMETIMES.contains(&property) {
            found.seen.push(property);
        } else {
            let actions = path.into_actions();
            found.failed.insert(property, actions.iter().map(|a| format!("{a:?}")).collect());
        }
    }
    found
}

impl fmt::Display for Found {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { states, steps, depth, seconds, .. } = self;
        write!(f, "{states} states, {steps} steps, depth {depth}, {seconds:.1} s")?;
        for (property, actions) in &self.failed {
            write!(f, "\n{property}: does not hold after\n  {}", actions.join("\n  "))?;
        }
        Ok(())
    }
}
