//! The ports, and the other members.

use std::io;
use std::net::{SocketAddr, TcpListener, TcpStream, ToSocketAddrs};
use std::time::Duration;

use super::Check;
use crate::core::config::Config;

/// How long a member may take to accept a connection.
const PATIENCE: Duration = Duration::from_secs(2);

pub fn look(config: &Config, runs: bool) -> Vec<Check> {
    let mut checks = vec![port("port of the mesh", config.mesh.listen, runs)];
    checks.push(port("port of the API", config.api.listen, runs));
    for member in config.members.iter().filter(|member| member.id != config.node.id) {
        checks.push(reach(&member.name, &member.address));
    }
    checks
}

fn port(name: &'static str, address: SocketAddr, runs: bool) -> Check {
    match TcpListener::bind(address) {
        Ok(_) if runs => Check::warning(
            name,
            format!("{address} is free, though the node runs"),
            "the node was started with another configuration: restart it",
        ),
        Ok(_) => Check::fine(name, format!("{address} is free")),
        Err(error) if error.kind() == io::ErrorKind::AddrInUse && runs => {
            Check::fine(name, format!("{address} is in use by the node"))
        }
        Err(error) => Check::wrong(
            name,
            format!("{address}: {error}"),
            "another program has it, or the address is none of this machine (ss -ltnp)",
        ),
    }
}

/// Only whether somebody accepts a connection there: who it is, the certificates say.
fn reach(member: &str, address: &str) -> Check {
    let name = "member";
    let found = |what: &dyn std::fmt::Display| format!("{member} at {address}: {what}");
    let resolved = match address.to_socket_addrs() {
        Ok(mut resolved) => resolved.next(),
        Err(error) => {
            let advice = "an address has to be one that this machine can resolve: /etc/hosts, DNS";
            return Check::wrong(name, found(&error), advice);
        }
    };
    let Some(resolved) = resolved else {
        return Check::wrong(name, found(&"no address"), "see members in the configuration");
    };
    match TcpStream::connect_timeout(&resolved, PATIENCE) {
        Ok(_) => Check::fine(name, format!("{member} at {address} accepts connections")),
        Err(error) => Check::warning(
            name,
            found(&error),
            "it does not run, or a firewall is in between: all members have to reach each other",
        ),
    }
}
