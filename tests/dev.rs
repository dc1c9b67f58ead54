//! `litefs-py dev` with a small program in the place of the nodes: start, death, restart, stop.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::fs;
use std::io::Read;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, Instant};

use serde_json::Value;

const PROGRAM: &str = env!("CARGO_BIN_EXE_litefs-py");

/// What a node does as far as the supervisor can see. Files in its folder tell it to misbehave.
const FAKE_NODE: &str = r#"#!/usr/bin/env python3
import http.server, os, re, signal, subprocess, sys
assert sys.argv[1:3] == ["node", "--config"], sys.argv
config = open(sys.argv[3]).read()
here = os.path.dirname(sys.argv[3])
told = lambda what: os.path.exists(os.path.join(here, what))
port = int(re.search(r"^api:\n  listen: \S*:(\d+)", config, re.M).group(1))
print("fake node begins", flush=True)
if told("crash"):
    sys.exit("the disk is on fire")
mount = os.path.join(here, "mount")
if told("mounts"):
    subprocess.run(["mount", "-t", "tmpfs", "fake", mount], check=True)
def end(*_):
    open(os.path.join(here, "ended-in-order"), "w").close()
    os._exit(0)
signal.signal(signal.SIGTERM, signal.SIG_IGN if told("stubborn") else end)
class Handler(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        ready = self.path == "/readiness" and not told("lazy")
        self.send_response(200 if ready else 503)
        self.end_headers()
        self.wfile.write(b'{"reason": "catching up"}')
    def log_message(self, *_): pass
http.server.HTTPServer(("127.0.0.1", port), Handler).serve_forever()
"#;

struct Dev {
    folder: tempfile::TempDir,
}

/// Kills the supervisor if a test fails.
struct Running {
    child: Child,
    errors: PathBuf,
}

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Dev {
    fn new() -> Self {
        use std::os::unix::fs::PermissionsExt;
        let folder = tempfile::tempdir().unwrap();
        let fake = folder.path().join("fake-node");
        fs::write(&fake, FAKE_NODE).unwrap();
        fs::set_permissions(&fake, fs::Permissions::from_mode(0o755)).unwrap();
        Self { folder }
    }

    fn dir(&self) -> PathBuf {
        self.folder.path().join("my dev")
    }

    fn command(&self, more: &[&str]) -> Command {
        let mut command = Command::new(PROGRAM);
        command
            .arg("dev")
            .arg("--dir")
            .arg(self.dir())
            .args(more)
            .env("LITEFS_PY_DEV_NODE_PROGRAM", self.folder.path().join("fake-node"))
            .stdin(Stdio::null());
        command
    }

    fn start(&self, more: &[&str]) -> Running {
        let errors = self.folder.path().join("stderr");
        let file = fs::File::create(&errors).unwrap();
        Running { child: self.command(more).stderr(file).spawn().unwrap(), errors }
    }

    /// One that should end by itself; what it says fits into a pipe.
    fn once(&self, more: &[&str]) -> Output {
        let mut command = self.command(more);
        let mut child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        let deadline = Instant::now() + Duration::from_mins(1);
        while child.try_wait().unwrap().is_none() {
            if Instant::now() >= deadline {
                kill(child.id(), "TERM");
                panic!("it did not end: {:?}", child.wait_with_output());
            }
            std::thread::sleep(Duration::from_millis(5));
        }
        child.wait_with_output().unwrap()
    }

    fn ready(&self) -> Option<Value> {
        let text = fs::read_to_string(self.dir().join("ready.json")).ok()?;
        Some(serde_json::from_str(&text).expect("a whole file at any moment"))
    }

    fn until_ready(&self, running: &mut Running) -> Value {
        until("ready.json", || {
            assert!(running.child.try_wait().unwrap().is_none(), "{}", running.said());
            self.ready()
        })
    }

    /// Makes the folder, so that a node can be told to misbehave from the beginning.
    fn made(&self) {
        let mut running = self.start(&["--nodes", "2"]);
        self.until_ready(&mut running);
        assert!(running.stop("TERM").0);
    }

    fn tell(&self, node: &str, what: &str) {
        fs::write(self.dir().join(node).join(what), "").unwrap();
    }
}

impl Running {
    fn said(&self) -> String {
        fs::read_to_string(&self.errors).unwrap_or_default()
    }

    fn signal(&self, signal: &str) {
        kill(self.child.id(), signal);
    }

    /// Whether it ended with success, and what it had said.
    fn stop(&mut self, signal: &str) -> (bool, String) {
        self.signal(signal);
        (self.end().success(), self.said())
    }

    fn end(&mut self) -> std::process::ExitStatus {
        until("the end of dev", || self.child.try_wait().unwrap())
    }
}

fn kill(pid: u32, signal: &str) {
    let status = Command::new("kill").args(["-s", signal, &pid.to_string()]).status().unwrap();
    assert!(status.success());
}

fn until<T>(what: &str, mut look: impl FnMut() -> Option<T>) -> T {
    let deadline = Instant::now() + Duration::from_mins(1);
    loop {
        if let Some(found) = look() {
            return found;
        }
        assert!(Instant::now() < deadline, "{what}: not within a minute");
        std::thread::sleep(Duration::from_millis(5));
    }
}

fn pids(ready: &Value) -> Vec<u32> {
    let nodes = ready["nodes"].as_array().unwrap();
    nodes.iter().map(|node| u32::try_from(node["pid"].as_u64().unwrap()).unwrap()).collect()
}

/// Whether it runs; one that waits for its parent to notice its end does not.
fn runs(pid: u32) -> bool {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    stat.rsplit_once(") ").is_some_and(|(_, state)| !state.starts_with(['Z', 'X']))
}

fn mounts_below(dir: &Path) -> usize {
    let table = fs::read_to_string("/proc/self/mountinfo").unwrap();
    let dir = dir.display().to_string().replace(' ', "\\040");
    table.lines().filter(|line| line.split(' ').nth(4).unwrap().starts_with(&dir)).count()
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

#[test]
fn it_starts_tells_and_stops() {
    let dev = Dev::new();
    let mut running = dev.start(&[]);
    let ready = dev.until_ready(&mut running);
    let nodes = ready["nodes"].as_array().unwrap();
    assert_eq!(nodes.len(), 3);
    let dir = fs::canonicalize(dev.dir()).unwrap();
    for (node, name) in nodes.iter().zip(["n1", "n2", "n3"]) {
        assert_eq!(node["name"], name);
        assert_eq!(node["mount"], dir.join(name).join("mount").to_str().unwrap());
        assert!(node["api"].as_str().unwrap().starts_with("http://127.0.0.1:"));
        let config = fs::read_to_string(dir.join(name).join("config.yml")).unwrap();
        let config = litefs_py::core::config::parse(&config).unwrap();
        assert_eq!(config.bootstrap, name == "n1");
        assert_eq!(config.members.len(), 3);
        for file in [&config.mesh.tls.ca, &config.mesh.tls.cert, &config.mesh.tls.key] {
            assert!(file.exists(), "{}", file.display());
        }
        assert!(fs::read_to_string(dir.join(name).join("log")).unwrap().contains("fake node"));
    }
    assert!(pids(&ready).iter().all(|pid| runs(*pid)));

    let second = dev.once(&[]);
    assert_eq!(second.status.code(), Some(75), "two at once are refused");
    assert!(text(&second.stderr).contains("runs there already"), "{}", text(&second.stderr));
    assert!(dev.ready().is_some(), "the refused one changes nothing");

    let (fine, said) = running.stop("INT");
    assert!(fine, "{said}");
    assert!(said.contains("starting 3 nodes") && said.contains("all nodes serve"), "{said}");
    assert!(dev.ready().is_none());
    assert!(!dir.join("dev.sock").exists());
    assert!(!pids(&ready).iter().any(|pid| runs(*pid)));
    assert!(dir.join("n2/ended-in-order").exists());

    // A second start goes on with what is there.
    fs::write(dir.join("n2/data/kept"), "1").unwrap();
    let mut running = dev.start(&["--nodes", "3"]);
    let again = dev.until_ready(&mut running);
    for (a, b) in again["nodes"].as_array().unwrap().iter().zip(nodes) {
        assert_eq!(a["api"], b["api"], "ports are kept");
        assert_ne!(a["pid"], b["pid"]);
    }
    assert!(dir.join("n2/data/kept").exists());
    assert!(running.stop("TERM").0);
    let other = dev.once(&["--nodes", "5"]);
    assert_eq!(other.status.code(), Some(64), "{}", text(&other.stderr));
}

#[test]
fn a_killed_node_stays_down_until_it_is_restarted() {
    let dev = Dev::new();
    let mut running = dev.start(&["--nodes", "2"]);
    let before = pids(&dev.until_ready(&mut running));
    kill(before[0], "KILL");
    until("news of the death", || running.said().contains("n1 ended").then_some(()));
    assert!(!runs(before[0]) && runs(before[1]));

    let answer = dev.once(&["restart", "n1"]);
    assert!(answer.status.success(), "{}", text(&answer.stderr));
    let after = pids(&dev.ready().unwrap());
    assert!(after[0] != before[0] && after[1] == before[1], "{before:?} {after:?}");
    assert!(runs(after[0]));
    assert!(text(&answer.stdout).contains(&after[0].to_string()));

    // One that runs is stopped first, in order.
    assert!(dev.once(&["restart", "n2"]).status.success());
    assert!(dev.dir().join("n2/ended-in-order").exists());
    assert!(!runs(before[1]));

    let answer = dev.once(&["restart", "n7"]);
    assert_eq!(answer.status.code(), Some(69));
    assert!(text(&answer.stderr).contains("the nodes are: n1, n2"), "{}", text(&answer.stderr));

    // A failed restart does not end the others.
    dev.tell("n1", "crash");
    let answer = dev.once(&["restart", "n1"]);
    assert_eq!(answer.status.code(), Some(69));
    assert!(text(&answer.stderr).contains("the disk is on fire"), "{}", text(&answer.stderr));
    assert!(runs(pids(&dev.ready().unwrap())[1]));
    assert!(running.stop("TERM").0);
    assert_eq!(dev.once(&["restart", "n1"]).status.code(), Some(69), "nothing runs");
}

#[test]
fn a_node_that_dies_while_starting_is_a_failure() {
    let dev = Dev::new();
    dev.made();
    dev.tell("n2", "crash");
    let answer = dev.once(&[]);
    assert_eq!(answer.status.code(), Some(69));
    let said = text(&answer.stderr);
    assert!(said.contains("n2 ended while starting (exit status: 1)"), "{said}");
    assert!(said.contains("| the disk is on fire"), "{said}");
    assert!(dev.ready().is_none());
}

#[test]
fn it_does_not_wait_for_ever() {
    let dev = Dev::new();
    dev.made();
    dev.tell("n2", "lazy");
    let answer = dev.once(&["--timeout", "3s"]);
    assert_eq!(answer.status.code(), Some(69));
    let said = text(&answer.stderr);
    assert!(said.contains("gave up after 3s, waiting for ") && said.contains("n2 ("), "{said}");
    assert!(dev.ready().is_none(), "only when all serve");
}

#[test]
fn a_second_signal_kills_and_nothing_is_left() {
    let dev = Dev::new();
    dev.made();
    dev.tell("n1", "stubborn");
    // Only root may mount.
    if fs::metadata("/proc/self").is_ok_and(|m| std::os::unix::fs::MetadataExt::uid(&m) == 0) {
        dev.tell("n1", "mounts");
    }
    let mut running = dev.start(&[]);
    let nodes = pids(&dev.until_ready(&mut running));
    let mounted = mounts_below(&fs::canonicalize(dev.dir()).unwrap());
    assert_eq!(mounted, usize::from(dev.dir().join("n1/mounts").exists()));
    running.signal("TERM");
    until("the end of n2", || (!runs(nodes[1])).then_some(()));
    assert!(runs(nodes[0]), "the grace is longer than this");
    let (fine, said) = running.stop("INT");
    assert!(fine, "{said}");
    assert!(!runs(nodes[0]));
    assert_eq!(mounts_below(&fs::canonicalize(dev.dir()).unwrap()), 0);
}

#[test]
fn nodes_die_with_their_supervisor() {
    let dev = Dev::new();
    let mut running = dev.start(&["--nodes", "2"]);
    let nodes = pids(&dev.until_ready(&mut running));
    running.signal("KILL");
    running.end();
    until("the end of the nodes", || (!nodes.iter().any(|pid| runs(*pid))).then_some(()));
    // What is left of it does not stand in the way, and is not taken for news.
    assert!(dev.ready().is_some());
    dev.tell("n1", "lazy");
    let mut running = dev.start(&[]);
    until("the wait", || running.said().contains("n1 (catching up)").then_some(()));
    assert!(dev.ready().is_none(), "only when all serve");
    fs::remove_file(dev.dir().join("n1/lazy")).unwrap();
    let again = pids(&dev.until_ready(&mut running));
    assert!(again.iter().all(|pid| runs(*pid)));
    assert!(running.stop("HUP").0);
}

#[test]
fn the_program_speaks_sysexits() {
    let run = |line: &[&str]| {
        let mut child = Command::new(PROGRAM)
            .args(line)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let (mut out, mut err) = (String::new(), String::new());
        child.stdout.take().unwrap().read_to_string(&mut out).unwrap();
        child.stderr.take().unwrap().read_to_string(&mut err).unwrap();
        (child.wait().unwrap().code().unwrap(), out, err)
    };
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("config.yml");
    let path = file.to_str().unwrap();
    assert_eq!(run(&["--version"]).0, 0);
    assert_eq!(run(&["nonsense"]).0, 64);
    assert_eq!(run(&["dev", "--dir", path, "--engine", "nonsense"]).0, 64);
    assert_eq!(run(&["config", "check", path]).0, 78);
    fs::write(&file, "cluster: app\nmesh: {lisen: 1}\n").unwrap();
    let (code, _, err) = run(&["config", "check", path]);
    assert_eq!(code, 78);
    assert!(
        err.contains("line 2, column 8: unknown key \"lisen\"; did you mean \"listen\"?"),
        "{err}"
    );
    let example = litefs_py::core::config::show(&litefs_py::core::config::example()).unwrap();
    fs::write(&file, &example).unwrap();
    assert_eq!(run(&["config", "check", path]).0, 0);
    assert_eq!(run(&["config", "show", path]).1, example);
    let (code, schema, _) = run(&["config", "schema"]);
    assert_eq!(code, 0);
    assert!(serde_json::from_str::<Value>(&schema).unwrap()["properties"]["raft"].is_object());
    assert_eq!(run(&["status", "--config", path]).0, 69);
}
