//! Certificates and key: there, in time, and nobody else's.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::time::{Duration, SystemTime};

use super::Check;
use crate::core::config::Config;
use crate::mesh::certificate_expires;

const DAY: i64 = 86_400;
/// Before a certificate ends, people should have some weeks.
const SOON: i64 = 30 * DAY;

pub fn look(config: &Config) -> Vec<Check> {
    let tls = &config.mesh.tls;
    vec![
        certificate("certificate", &tls.cert),
        certificate("certificate of the CA", &tls.ca),
        key(&tls.key),
    ]
}

fn certificate(name: &'static str, path: &Path) -> Check {
    let advice = "see mesh.tls in the configuration";
    let pem = match fs::read(path) {
        Ok(pem) => pem,
        Err(error) => return Check::wrong(name, format!("{}: {error}", path.display()), advice),
    };
    let Ok(ends) = certificate_expires(&String::from_utf8_lossy(&pem)) else {
        return Check::wrong(name, format!("{} is no certificate", path.display()), advice);
    };
    let seconds = |time: Duration| i64::try_from(time.as_secs()).unwrap_or(i64::MAX);
    let left = ends.duration_since(SystemTime::now());
    let left = left.map_or_else(|ago| -seconds(ago.duration()), seconds);
    let days = left / DAY;
    match left {
        ..=0 => Check::wrong(
            name,
            format!("{} has ended {} days ago", path.display(), -days),
            "issue a new one; the other nodes refuse this one",
        ),
        1..SOON => Check::warning(
            name,
            format!("{} ends in {days} days", path.display()),
            "issue a new one, and restart the node",
        ),
        _ => Check::fine(name, format!("{} ends in {days} days", path.display())),
    }
}

fn key(path: &Path) -> Check {
    let name = "private key";
    match fs::metadata(path) {
        Err(error) => Check::wrong(
            name,
            format!("{}: {error}", path.display()),
            "see mesh.tls in the configuration",
        ),
        Ok(found) if found.permissions().mode() & 0o077 != 0 => Check::warning(
            name,
            format!("{} can be read by others", path.display()),
            format!("chmod 600 {}: whoever has it is this node", path.display()),
        ),
        Ok(_) => Check::fine(name, path.display().to_string()),
    }
}
