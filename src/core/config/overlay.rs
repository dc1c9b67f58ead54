//! What is changed while a node runs, over its file: which settings can be, and what a change does.
//!
//! A change is a JSON merge patch (RFC 7396) of the configuration: `{"write": {"lock_wait": "20ms"}}`;
//! null takes a change back. It is taken as a whole, or not at all. What the file says is never
//! written to; the changes are kept apart, by the names of their keys.

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use super::parse::{ConfigError, nearest, read};
use super::{Config, show};

/// The settings that take effect while the node runs. The others are looked at once, at the start.
pub const LIVE: [&str; 7] = [
    "api.expose_metrics",
    "log.level",
    "raft.log_purge_bytes",
    "wal_warn_bytes",
    "write.commit_timeout",
    "write.lock_wait",
    "write.unlink_timeout",
];

/// Changes by the names of their keys: `write.lock_wait` → `20ms`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(transparent)]
pub struct Overlay(BTreeMap<String, Value>);

/// The configuration that runs, and where it comes from.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct ConfigView {
    /// What the file said when the node was started.
    #[schemars(with = "Config")]
    pub file: Value,
    /// What was changed since, over restarts, by the names of the keys.
    pub changed: Overlay,
    /// What runs: the file, and the changes.
    #[schemars(with = "Config")]
    pub running: Value,
    /// The keys that can be changed without a restart.
    pub live: Vec<String>,
}

/// Why nothing was changed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ChangeError {
    /// One line for each problem, with the key's name.
    #[error("{}", .0.join("; "))]
    Invalid(Vec<String>),
    /// These settings are looked at when the node starts, and only then.
    #[error(
        "{} cannot be changed while the node runs: change the file, and restart the node; nothing was changed",
        .0.join(", ")
    )]
    NeedsRestart(Vec<String>),
    /// It could not be kept, so it was not done.
    #[error("{0}")]
    Failed(String),
}

impl Overlay {
    /// What runs by this file and these changes.
    ///
    /// # Errors
    /// A change that does not fit: it was made by another version, or the file has changed.
    pub fn over(&self, file: &Config) -> Result<Config, ChangeError> {
        let mut config = file.clone();
        let mut problems = Vec::new();
        for (key, value) in &self.0 {
            match set(&config, key, value.clone()) {
                Ok(changed) if LIVE.contains(&key.as_str()) => config = changed,
                Ok(_) => problems.push(format!("{key} is not changed while the node runs")),
                Err(why) => problems.push(why),
            }
        }
        if let Err(ConfigError(wrong)) = config.check() {
            problems.extend(wrong.into_iter().map(|problem| problem.message));
        }
        if problems.is_empty() { Ok(config) } else { Err(ChangeError::Invalid(problems)) }
    }

    /// These changes with a patch, and what runs then.
    ///
    /// # Errors
    /// Unknown keys and bad values first; then what cannot be changed now.
    pub fn patched(&self, file: &Config, patch: &Value) -> Result<(Self, Config), ChangeError> {
        let running = self.over(file)?;
        let known = tree(&running).map_err(|why| ChangeError::Invalid(vec![why]))?;
        let Value::Object(patch) = patch else {
            let why = "the body is to be an object, such as {\"log\": {\"level\": \"debug\"}}";
            return Err(ChangeError::Invalid(vec![why.to_owned()]));
        };
        let mut leaves = Leaves::default();
        leaves.collect("", patch, &known);
        let (mut overlay, mut restart) = (self.clone(), Vec::new());
        for (key, value) in leaves.values {
            if value.is_null() {
                overlay.0.remove(&key);
                continue;
            }
            match set(&running, &key, value.clone()) {
                Err(why) => leaves.problems.push(why),
                Ok(_) if LIVE.contains(&key.as_str()) => _ = overlay.0.insert(key, value),
                // Whoever sends a whole configuration back asks for no change by that.
                Ok(same) if same == running => {}
                Ok(_) => restart.push(key),
            }
        }
        if !leaves.problems.is_empty() {
            return Err(ChangeError::Invalid(leaves.problems));
        }
        let config = overlay.over(file)?;
        if restart.is_empty() {
            Ok((overlay, config))
        } else {
            Err(ChangeError::NeedsRestart(restart))
        }
    }

    /// How it is shown.
    ///
    /// # Errors
    /// A path of the configuration is not UTF-8.
    pub fn view(&self, file: &Config, running: &Config) -> Result<ConfigView, String> {
        Ok(ConfigView {
            file: Value::Object(tree(file)?),
            changed: self.clone(),
            running: Value::Object(tree(running)?),
            live: LIVE.map(str::to_owned).to_vec(),
        })
    }

    #[must_use]
    pub fn has(&self, key: &str) -> bool {
        self.0.contains_key(key)
    }
}

/// A configuration's values by the names of their keys; a list is one value.
#[must_use]
pub fn flat(tree: &Value) -> BTreeMap<String, Value> {
    fn walk(into: &mut BTreeMap<String, Value>, name: &str, value: &Value) {
        match value {
            Value::Object(keys) => {
                for (key, value) in keys {
                    walk(into, &join(name, key), value);
                }
            }
            value => _ = into.insert(name.to_owned(), value.clone()),
        }
    }
    let mut values = BTreeMap::new();
    walk(&mut values, "", tree);
    values
}

fn join(name: &str, key: &str) -> String {
    if name.is_empty() { key.to_owned() } else { format!("{name}.{key}") }
}

fn tree(config: &Config) -> Result<Map<String, Value>, String> {
    match serde_json::to_value(config) {
        Ok(Value::Object(tree)) => Ok(tree),
        Ok(_) => Err("the configuration is no object".to_owned()),
        Err(error) => Err(format!("the configuration cannot be shown: {error}")),
    }
}

/// What a patch sets, and what is wrong with its keys.
#[derive(Default)]
struct Leaves {
    values: Vec<(String, Value)>,
    problems: Vec<String>,
}

impl Leaves {
    fn collect(&mut self, name: &str, patch: &Map<String, Value>, known: &Map<String, Value>) {
        for (key, value) in patch {
            let full = join(name, key);
            match (known.get(key), value) {
                (None, _) => {
                    let names: Vec<&str> = known.keys().map(String::as_str).collect();
                    self.problems.push(match nearest(key, &names) {
                        Some(near) => {
                            format!("unknown key {full:?}; did you mean {:?}?", join(name, near))
                        }
                        None => format!("unknown key {full:?}; keys here: {}", names.join(", ")),
                    });
                }
                (Some(Value::Object(known)), Value::Object(patch)) => {
                    self.collect(&full, patch, known);
                }
                (Some(Value::Object(known)), Value::Null) => {
                    let nulls = known.keys().map(|key| (key.clone(), Value::Null)).collect();
                    self.collect(&full, &nulls, known);
                }
                (Some(Value::Object(_)), _) => {
                    self.problems.push(format!("{full}: this is a section, not a value"));
                }
                (Some(_), Value::Object(_)) => {
                    self.problems.push(format!("{full}: this is a value, not a section"));
                }
                (Some(_), value) => self.values.push((full, value.clone())),
            }
        }
    }
}

/// The configuration with one value, read as the file is.
fn set(config: &Config, key: &str, value: Value) -> Result<Config, String> {
    let mut tree = tree(config)?;
    let mut here = &mut tree;
    let mut parts = key.split('.').peekable();
    while let Some(part) = parts.next() {
        if parts.peek().is_none() {
            here.insert(part.to_owned(), value);
            break;
        }
        match here.get_mut(part) {
            Some(Value::Object(section)) => here = section,
            _ => return Err(format!("unknown key {key:?}")),
        }
    }
    let text = show(&tree).map_err(|error| format!("{key}: {error}"))?;
    read(&text).map_err(|ConfigError(problems)| {
        let why = problems.into_iter().next().map(|problem| problem.message);
        format!("{key}: {}", why.unwrap_or_default())
    })
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::super::{LogLevel, example};
    use super::*;
    use std::time::Duration;

    fn patched(patch: &Value) -> Result<(Overlay, Config), ChangeError> {
        Overlay::default().patched(&example(), patch)
    }

    fn invalid(patch: &Value) -> String {
        match patched(patch) {
            Err(ChangeError::Invalid(problems)) => problems.join("; "),
            other => panic!("{patch}: {other:?}"),
        }
    }

    #[test]
    fn a_change_is_kept_shown_and_taken_back() {
        let file = example();
        let patch = json!({"write": {"lock_wait": "20ms"}, "log": {"level": "debug"}});
        let (overlay, running) = patched(&patch).unwrap();
        assert_eq!(running.write.lock_wait, Duration::from_millis(20));
        assert_eq!(running.log.level, LogLevel::Debug);
        assert_eq!(running.write.commit_timeout, file.write.commit_timeout);
        let view = overlay.view(&file, &running).unwrap();
        assert_eq!(view.changed.0["write.lock_wait"], "20ms");
        assert_eq!(view.file["write"]["lock_wait"], "50ms");
        assert_eq!(view.running["write"]["lock_wait"], "20ms");
        let kept = serde_json::to_string(&overlay).unwrap();
        assert_eq!(serde_json::from_str::<Overlay>(&kept).unwrap().over(&file).unwrap(), running);
        let (overlay, _) = overlay.patched(&file, &json!({"log": {"level": null}})).unwrap();
        assert!(!overlay.has("log.level") && overlay.has("write.lock_wait"));
        let (overlay, running) = overlay.patched(&file, &json!({"write": null})).unwrap();
        assert_eq!((overlay, running), (Overlay::default(), file.clone()));
        let all = view.running;
        assert!(patched(&all).unwrap().0.has("write.lock_wait"), "a whole one is no restart");
    }

    #[test]
    fn every_live_setting_can_be_changed() {
        let values = json!({
            "api": {"expose_metrics": true},
            "log": {"level": "trace"},
            "raft": {"log_purge_bytes": "2MiB"},
            "wal_warn_bytes": "1GiB",
            "write": {"commit_timeout": "3s", "lock_wait": "1ms", "unlink_timeout": "1s"},
        });
        let (overlay, running) = patched(&values).unwrap();
        for key in LIVE {
            assert!(overlay.has(key), "{key}");
            let value = flat(&overlay.view(&example(), &running).unwrap().running);
            assert_ne!(value[key], flat(&json!(example()))[key], "{key}");
        }
    }

    #[test]
    fn what_is_wrong_is_named() {
        assert_eq!(
            invalid(&json!({"write": {"lock_wiat": "1s"}})),
            "unknown key \"write.lock_wiat\"; did you mean \"write.lock_wait\"?"
        );
        assert!(invalid(&json!({"qqq": 1})).starts_with("unknown key \"qqq\"; keys here: "));
        assert_eq!(
            invalid(&json!({"log": {"level": "infoo"}})),
            "log.level: unknown value \"infoo\"; did you mean \"info\"?"
        );
        assert!(invalid(&json!({"write": {"lock_wait": "5"}})).contains("is no duration"));
        assert!(invalid(&json!({"write": {"lock_wait": 5}})).starts_with("write.lock_wait: "));
        assert!(invalid(&json!({"write": {"lock_wait": {"a": 1}}})).contains("not a section"));
        assert!(invalid(&json!({"write": 1})).contains("a section, not a value"));
        assert!(invalid(&json!({"write": {"lock_wait": "2s"}})).contains("at most 1s"));
        for patch in [json!(null), json!([]), json!("x")] {
            assert!(invalid(&patch).contains("an object"));
        }
        let both = invalid(&json!({"mount": {"pth": 1}, "log": {"level": 1}}));
        assert_eq!(both.matches("; did you").count(), 1);
        assert!(both.contains("log.level: "), "{both}");
    }

    #[test]
    fn what_needs_a_restart_is_named_and_changes_nothing() {
        let patch = json!({"mount": {"path": "/x"}, "log": {"level": "warn"}, "members": []});
        let Err(ChangeError::NeedsRestart(keys)) = patched(&patch) else { panic!() };
        assert_eq!(keys, ["members", "mount.path"]);
        let stale = Overlay([("mount.path".to_owned(), json!("/x"))].into());
        assert!(stale.over(&example()).is_err());
    }
}
