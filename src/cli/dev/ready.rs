//! `DIR/ready.json`: there when all nodes serve, for scripts and tests to wait for.

use std::fs;
use std::path::Path;

use serde::Serialize;

use super::file_failure;
use super::layout::Node;
use crate::cli::Failure;

#[derive(Serialize)]
struct Ready<'a> {
    nodes: Vec<ReadyNode<'a>>,
}

#[derive(Serialize)]
struct ReadyNode<'a> {
    name: &'a str,
    pid: u32,
    mount: std::path::PathBuf,
    api: String,
}

/// Writes it in one step.
pub(super) fn write<'a>(
    path: &Path,
    nodes: impl Iterator<Item = (&'a Node, u32)>,
) -> Result<(), Failure> {
    let nodes = nodes
        .map(|(node, pid)| ReadyNode {
            name: &node.name,
            pid,
            mount: node.mount(),
            api: format!("http://{}", node.api),
        })
        .collect();
    let text = serde_json::to_string_pretty(&Ready { nodes })
        .map_err(|error| file_failure("write", path, &error))?;
    replace(path, &(text + "\n"))
}

/// Writes a file so that a reader finds the old one or the new one.
pub(super) fn replace(path: &Path, text: &str) -> Result<(), Failure> {
    let new = path.with_extension("new");
    fs::write(&new, text)
        .and_then(|()| fs::rename(&new, path))
        .map_err(|error| file_failure("write", path, &error))
}

/// Removes a file that may not be there.
pub(super) fn remove(path: &Path) -> Result<(), Failure> {
    match fs::remove_file(path) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
            Err(file_failure("remove", path, &error))
        }
        _ => Ok(()),
    }
}
