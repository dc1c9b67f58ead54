//! Each check, on a machine that is broken in one place.

use std::fs;
use std::net::TcpListener;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use super::*;
use crate::core::config::{Immutable, Member, example};

fn of<'a>(checks: &'a [Check], name: &str) -> &'a Check {
    checks.iter().find(|check| check.name == name).unwrap()
}

/// A configuration whose files are in this folder, with a certificate of the name.
fn config(folder: &Path) -> Config {
    let tls = folder.join("tls");
    fs::create_dir_all(&tls).unwrap();
    let ca = crate::mesh::Ca::create("app").unwrap();
    ca.issue("n1").unwrap().write(&tls).unwrap();
    fs::write(tls.join("ca.crt"), ca.certificate_pem()).unwrap();
    let mut config = example();
    config.data_dir = folder.join("data");
    config.mount.path = folder.join("mount");
    config.mount.immutable = Immutable::Off;
    config.mesh.tls.ca = tls.join("ca.crt");
    config.mesh.tls.cert = tls.join("node.crt");
    config.mesh.tls.key = tls.join("node.key");
    config.mesh.listen = "127.0.0.1:0".parse().unwrap();
    config.api.listen = "127.0.0.1:0".parse().unwrap();
    config.members.retain(|member| member.id == config.node.id);
    config
}

#[test]
fn a_good_machine_has_nothing_wrong_of_its_own() {
    let folder = tempfile::tempdir().unwrap();
    let config = config(folder.path());
    let checks = look(&config, false);
    for name in ["data folder", "certificate", "private key", "port of the mesh"] {
        assert_ne!(of(&checks, name).state, State::Wrong, "{checks:?}");
    }
    assert!(!config.data_dir.exists(), "it changes nothing");
    let left = fs::read_dir(folder.path()).unwrap().count();
    assert_eq!(left, 1, "nothing but tls");
    assert!(checks.iter().all(|check| (check.state == State::Fine) == check.advice.is_none()));
    assert!(shown(&checks).lines().count() > checks.len());
}

#[test]
fn what_is_missing_is_named() {
    let folder = tempfile::tempdir().unwrap();
    let mut config = config(folder.path());
    fs::remove_file(&config.mesh.tls.cert).unwrap();
    fs::write(&config.mesh.tls.ca, "no certificate").unwrap();
    fs::set_permissions(&config.mesh.tls.key, fs::Permissions::from_mode(0o644)).unwrap();
    config.data_dir = "/proc/nothing/there".into();
    let checks = look(&config, false);
    assert_eq!(of(&checks, "certificate").state, State::Wrong);
    assert_eq!(of(&checks, "certificate of the CA").state, State::Wrong);
    assert_eq!(of(&checks, "private key").state, State::Warning);
    assert_eq!(of(&checks, "data folder").state, State::Wrong);
}

#[test]
fn a_database_in_the_bare_mount_point_is_named() {
    let folder = tempfile::tempdir().unwrap();
    let config = config(folder.path());
    assert_eq!(mount_point::look(&config, false).state, State::Fine, "it will be made");
    fs::create_dir(&config.mount.path).unwrap();
    assert_eq!(mount_point::look(&config, false).state, State::Warning, "anybody may write there");
    fs::write(config.mount.path.join("app.db"), "").unwrap();
    let found = mount_point::look(&config, false);
    assert_eq!(found.state, State::Wrong);
    assert!(found.found.contains("app.db"), "{found:?}");
}

#[test]
fn ports_and_members() {
    let folder = tempfile::tempdir().unwrap();
    let mut config = config(folder.path());
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    config.mesh.listen = taken.local_addr().unwrap();
    let member = |id, name: &str, address: String| Member { id, name: name.to_owned(), address };
    config.members.push(member(8, "there", taken.local_addr().unwrap().to_string()));
    config.members.push(member(9, "nowhere", "no-such-machine.invalid:4321".into()));
    let checks = network::look(&config, false);
    assert_eq!(of(&checks, "port of the mesh").state, State::Wrong);
    let members: Vec<_> = checks.iter().filter(|check| check.name == "member").collect();
    assert_eq!(
        members.iter().map(|check| check.state).collect::<Vec<_>>(),
        [State::Fine, State::Wrong]
    );
    assert_eq!(of(&network::look(&config, true), "port of the mesh").state, State::Fine);
}

#[test]
fn a_kernel_s_release_is_read() {
    assert_eq!(system::version("6.1.0-28-amd64"), Some((6, 1)));
    assert_eq!(system::version("6.18-rc1"), Some((6, 18)));
    assert_eq!(system::version("unknown"), None);
}
