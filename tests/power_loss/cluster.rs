//! Three daemons, each with its data folder on a forgetting disk, and stock SQLite clients on their mounts.

use std::collections::HashSet;
use std::fs::{self, File};
use std::io::{Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant, SystemTime};

use litefs_py::core::config::{Config, Member, Passthrough, show};
use litefs_py::mesh::Ca;
use serde_json::Value;
use tempfile::TempDir;

use crate::disk::{Disk, Tear};
use crate::rack::{Inserted, Rack};

/// For whatever should happen soon, on a busy machine.
pub const SOON: Duration = Duration::from_mins(1);

const CLIENT: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/cluster/client.py");
pub const DATABASE: &str = "app.db";

/// What writers repeat. Now and then a transaction is too large for a log entry.
const INSERT: &str = "INSERT INTO log(who, k, v) VALUES(:who, :k, \
                      randomblob(CASE WHEN :k % 40 = 0 THEN 60000 ELSE 150 END))";

/// Reads all rows, and says what SQLite thinks of the file.
const READ: &str = "
import sqlite3, sys
c = sqlite3.connect(sys.argv[1], timeout=20)
print(c.execute('PRAGMA integrity_check').fetchone()[0])
for who, k in c.execute('SELECT who, k FROM log ORDER BY rowid'):
    print(who, k)
";

const CREATE: &str = "
import sqlite3, sys
c = sqlite3.connect(sys.argv[1], timeout=20)
c.execute('CREATE TABLE log(who, k, v)')
c.commit()
";

pub fn until<T>(what: &str, patience: Duration, mut look: impl FnMut() -> Option<T>) -> T {
    let deadline = Instant::now() + patience;
    loop {
        if let Some(found) = look() {
            return found;
        }
        assert!(Instant::now() < deadline, "not within {patience:?}: {what}");
        std::thread::sleep(Duration::from_millis(10));
    }
}

/// A program that dies with this one.
fn dies_with_us(program: &str) -> Command {
    let mut command = Command::new("setpriv");
    command.args(["--pdeathsig", "KILL", program]).stdin(Stdio::null());
    command
}

/// A process that is killed when it is dropped.
struct Running(Child);

impl Running {
    fn ended(&mut self) -> Option<ExitStatus> {
        self.0.try_wait().unwrap()
    }

    fn kill(&mut self) {
        let _ = self.0.kill();
        until("the end of a killed process", SOON, || self.ended());
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// A client that writes, in one life of its node, and what it was told.
struct Writer {
    process: Running,
    log: PathBuf,
}

pub struct Node {
    pub name: String,
    folder: PathBuf,
    api: SocketAddr,
    pub disk: Inserted,
    daemon: Option<Running>,
    /// Killed, and perhaps not at their end.
    killed: Vec<Running>,
    writers: Vec<Writer>,
    lives: usize,
}

pub struct Cluster {
    pub nodes: Vec<Node>,
    /// What writers said that are gone.
    logs: Vec<PathBuf>,
    /// What was done, and when.
    told: Vec<(f64, String)>,
    pub rack: Rack,
    _folder: TempDir,
}

/// Ports that nobody listens on, below those that the kernel gives to outgoing connections.
fn free_ports(count: usize) -> Vec<u16> {
    let start = rand::random_range(15_000..31_000);
    let free = |port: &u16| TcpListener::bind((Ipv4Addr::LOCALHOST, *port)).is_ok();
    (start..32_000).filter(free).take(count).collect()
}

pub fn program() -> String {
    let built = env!("CARGO_BIN_EXE_litefs-py").to_owned();
    std::env::var("LITEFS_PY_PROGRAM").unwrap_or(built)
}

impl Cluster {
    pub fn new(rack: Rack, passthrough: Passthrough) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let ports = free_ports(6);
        let at = |port: u16| SocketAddr::from((Ipv4Addr::LOCALHOST, port));
        let names = ["n1", "n2", "n3"];
        let member = |(id, name): (u64, &str)| Member {
            id,
            name: name.into(),
            address: at(ports[id as usize - 1]).to_string(),
        };
        let members: Vec<Member> = (1..).zip(names).map(member).collect();
        let ca = Ca::create("power").unwrap();
        let mut nodes = Vec::new();
        for (id, name) in (1..).zip(names) {
            let api = at(ports[id as usize + 2]);
            let folder = folder.path().join(name);
            let tls = folder.join("tls");
            for part in [&folder, &tls, &folder.join("mount")] {
                fs::create_dir(part).unwrap();
            }
            ca.issue(name).unwrap().write(&tls).unwrap();
            fs::write(tls.join("ca.crt"), ca.certificate_pem()).unwrap();
            let mut config = Config::new("power", id, members.clone());
            config.bootstrap = id == 1;
            config.data_dir = folder.join("disk/data");
            config.mount.path = folder.join("mount");
            config.mount.passthrough = passthrough;
            config.mesh.listen = at(ports[id as usize - 1]);
            config.mesh.tls.ca = tls.join("ca.crt");
            config.mesh.tls.cert = tls.join("node.crt");
            config.mesh.tls.key = tls.join("node.key");
            config.api.listen = api;
            config.api.socket = folder.join("api.sock");
            // So that the log is purged every few seconds, and large transactions are staged.
            config.raft.log_purge_bytes = 1 << 20;
            config.raft.staged_above = 32 << 10;
            config.check().unwrap();
            fs::write(folder.join("config.yml"), show(&config).unwrap()).unwrap();
            let disk = rack.insert(Disk::default());
            nodes.push(Node {
                name: name.into(),
                folder,
                api,
                disk,
                daemon: None,
                killed: Vec::new(),
                writers: Vec::new(),
                lives: 0,
            });
        }
        Self { nodes, logs: Vec::new(), told: Vec::new(), rack, _folder: folder }
    }

    /// The power of a node goes: its disk keeps what `tear` says of what was not synced.
    pub fn power_loss(&mut self, number: usize, tear: Tear) {
        self.tell(number, &format!("power loss, {tear:?}"));
        let node = &mut self.nodes[number];
        node.disk.cut();
        self.logs.extend(node.end());
        let left = node.disk.after_power_loss(tear);
        node.disk = self.rack.insert(left);
    }

    /// Its clients end.
    pub fn end_writers(&mut self, number: usize) {
        let logs = self.nodes[number].end_writers();
        self.logs.extend(logs);
    }

    /// The process of a node ends; its disk stays as it is.
    pub fn kill(&mut self, number: usize) {
        self.tell(number, "killed");
        let logs = self.nodes[number].end();
        self.logs.extend(logs);
    }

    /// The same, and nobody helps it to come to its end.
    pub fn kill_and_leave(&mut self, number: usize) {
        self.tell(number, "killed");
        let node = &mut self.nodes[number];
        if let Some(mut daemon) = node.daemon.take() {
            daemon.0.kill().unwrap();
            node.killed.push(daemon);
        }
        node.stop_writers();
    }

    /// Starts those that do not run, and waits until all serve; none ends by itself.
    pub fn all_serve(&mut self) {
        for number in 0..self.nodes.len() {
            if self.nodes[number].daemon.is_none() {
                self.tell(number, "started");
                self.nodes[number].start();
            }
        }
        let deadline = Instant::now() + SOON;
        for number in 0..self.nodes.len() {
            while !self.nodes[number].serves() {
                for node in &mut self.nodes {
                    if let Some(status) = node.ended() {
                        panic!(
                            "{} did not start by itself ({status}):\n{}",
                            node.name,
                            node.said()
                        );
                    }
                }
                let said = || self.nodes.iter().map(Node::said).collect::<Vec<_>>().join("\n");
                assert!(Instant::now() < deadline, "not all serve:\n{}", said());
                std::thread::sleep(Duration::from_millis(10));
            }
            self.tell(number, "serves");
        }
    }

    /// Clients write on all nodes that run and have none.
    pub fn write(&mut self) {
        for node in self.nodes.iter_mut().filter(|node| node.daemon.is_some()) {
            node.write();
        }
    }

    pub fn create(&mut self) {
        self.nodes[0].python(&["-c", CREATE]);
        for node in &self.nodes {
            let there = || node.database().try_exists().unwrap_or(false).then_some(());
            until("the database on all nodes", SOON, there);
        }
    }

    /// What clients were told is committed.
    pub fn acknowledged(&self) -> Vec<String> {
        self.answers('+').into_iter().map(|(row, _)| row).collect()
    }

    /// Rows, and when it was said of them.
    fn answers(&self, mark: char) -> Vec<(String, f64)> {
        let writers = self.nodes.iter().flat_map(|node| &node.writers);
        let logs = self.logs.iter().chain(writers.map(|writer| &writer.log));
        let mut found = Vec::new();
        for log in logs {
            let who = log.file_name().unwrap().to_string_lossy().into_owned();
            let text = fs::read_to_string(log).unwrap_or_default();
            // The last line may be cut off.
            let whole = text.rfind('\n').map_or("", |end| &text[..end]);
            for line in whole.lines().filter(|line| line.starts_with(mark)) {
                let mut words = line.split(' ').skip(1);
                let row = format!("{who} {}", words.next().unwrap());
                found.push((row, words.next().unwrap().parse().unwrap()));
            }
        }
        found
    }

    /// What happened when rows were lost: all rows that were acknowledged about then, by the time of the
    /// answer, and where they are in the table.
    fn story(&self, rows: &[String], lost: &[&String]) -> String {
        let mut told = self.told.clone();
        for (row, when) in self.answers('+') {
            let place = rows.iter().position(|known| *known == row);
            let place = place.map_or("lost".to_owned(), |place| format!("row {place}"));
            told.push((when, format!("{row}: {place}")));
        }
        told.sort_by(|a, b| a.0.total_cmp(&b.0));
        let is_lost = |text: &str| text.ends_with("lost") && !lost.is_empty();
        let first = told.iter().position(|(_, text)| is_lost(text)).unwrap_or(0);
        let last = told.iter().rposition(|(_, text)| is_lost(text)).unwrap_or(0);
        let part = &told[first.saturating_sub(30)..(last + 40).min(told.len())];
        let lines: Vec<String> =
            part.iter().map(|(when, text)| format!("{when:.4} {text}")).collect();
        lines.join("\n")
    }

    /// Notes what is done to a node.
    fn tell(&mut self, number: usize, what: &str) {
        let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap();
        self.told.push((now.as_secs_f64(), format!("{}: {what}", self.nodes[number].name)));
    }

    /// no-lost-ack, one-history, converges: all that was acknowledged is on all nodes, once, and all are
    /// the same. Returns how many rows were acknowledged.
    pub fn check(&mut self) -> usize {
        for node in &mut self.nodes {
            let logs = node.end_writers();
            self.logs.extend(logs);
        }
        let positions = |nodes: &[Node]| nodes.iter().map(Node::positions).collect::<Vec<_>>();
        until("the same positions on all nodes", SOON, || {
            let all = positions(&self.nodes);
            (all[0].is_some() && all.iter().all(|found| *found == all[0])).then_some(())
        });
        let acknowledged = self.acknowledged();
        let begun: HashSet<String> = self.answers('?').into_iter().map(|(row, _)| row).collect();
        let mut first: Option<Vec<String>> = None;
        for node in &self.nodes {
            let read = node.python(&["-c", READ]);
            let mut lines = read.lines().map(str::to_owned);
            assert_eq!(lines.next().as_deref(), Some("ok"), "{}: integrity_check", node.name);
            let rows: Vec<String> = lines.collect();
            let found: HashSet<&String> = rows.iter().collect();
            assert_eq!(found.len(), rows.len(), "{}: a row is there twice", node.name);
            let lost: Vec<_> = acknowledged.iter().filter(|row| !found.contains(row)).collect();
            assert!(
                lost.is_empty(),
                "{} lost {} rows:\n{}",
                node.name,
                lost.len(),
                self.story(&rows, &lost)
            );
            let foreign = rows.iter().find(|row| !begun.contains(*row));
            assert_eq!(foreign, None, "{}: nobody wrote it", node.name);
            match &first {
                Some(first) => assert!(*first == rows, "{} has other rows", node.name),
                None => first = Some(rows),
            }
        }
        acknowledged.len()
    }
}

impl Drop for Node {
    fn drop(&mut self) {
        let mount = self.folder.join("mount");
        let _ = litefs_py::node::end_by_force(&mount);
        self.end();
        if let Ok(folder) = File::open(&mount) {
            let _ = rustix::fs::ioctl_setflags(folder, rustix::fs::IFlags::empty());
        }
    }
}

impl Node {
    pub fn start(&mut self) {
        self.lives += 1;
        let link = self.folder.join("disk");
        let _ = fs::remove_file(&link);
        std::os::unix::fs::symlink(self.disk.path(), &link).unwrap();
        let log = File::options().create(true).append(true).open(self.folder.join("log")).unwrap();
        let mut command = dies_with_us(&program());
        command.args(["node", "--config"]).arg(self.folder.join("config.yml"));
        command.stdout(log.try_clone().unwrap()).stderr(log);
        self.daemon = Some(Running(command.spawn().unwrap()));
    }

    /// Whether those that were killed have come to their end.
    pub fn killed_are_gone(&mut self) -> bool {
        self.killed.iter_mut().all(|killed| killed.ended().is_some())
    }

    /// Whether it ended by itself, and how.
    pub fn ended(&mut self) -> Option<ExitStatus> {
        self.daemon.as_mut().and_then(Running::ended)
    }

    /// Kills its clients before its mount goes: one that is just about to open the database would make
    /// it anew in the bare folder. They may end only after that.
    fn stop_writers(&mut self) {
        for writer in &mut self.writers {
            let _ = writer.process.0.kill();
        }
    }

    fn end(&mut self) -> Vec<PathBuf> {
        self.stop_writers();
        if let Some(mut daemon) = self.daemon.take() {
            let _ = daemon.0.kill();
            // Without passthrough its end waits for an answer of its own.
            let _ = litefs_py::node::end_by_force(&self.folder.join("mount"));
            daemon.kill();
        }
        self.end_writers()
    }

    fn end_writers(&mut self) -> Vec<PathBuf> {
        let ended = std::mem::take(&mut self.writers);
        ended
            .into_iter()
            .map(|mut writer| {
                writer.process.kill();
                writer.log
            })
            .collect()
    }

    fn write(&mut self) {
        while self.writers.len() < 2 {
            let who = format!("{}-{}-{}", self.name, self.lives, self.writers.len());
            let log = self.folder.join(who.as_str());
            let mut command = dies_with_us("python3");
            command.arg(CLIENT).arg("write").arg(self.database());
            command.args(["5", &who]).arg(&log).args(["0.005", INSERT]);
            command.stderr(Stdio::null());
            self.writers.push(Writer { process: Running(command.spawn().unwrap()), log });
        }
    }

    fn database(&self) -> PathBuf {
        self.folder.join("mount").join(DATABASE)
    }

    /// Runs Python on the database.
    fn python(&self, arguments: &[&str]) -> String {
        let out = self.folder.join("out");
        let mut command = dies_with_us("python3");
        command.args(arguments).arg(self.database()).stdout(File::create(&out).unwrap());
        let mut process = Running(command.spawn().unwrap());
        let status = until("an answer of Python", SOON, || process.ended());
        assert!(status.success(), "{}: Python ended with {status}", self.name);
        fs::read_to_string(out).unwrap()
    }

    /// What the daemon said last.
    pub fn said(&self) -> String {
        let text = fs::read_to_string(self.folder.join("log")).unwrap_or_default();
        let lines: Vec<&str> = text.lines().collect();
        let tail = lines[lines.len().saturating_sub(25)..].join("\n");
        format!("{} | {tail}", self.name)
    }

    fn get(&self, path: &str) -> Option<(String, String)> {
        let wait = Duration::from_secs(2);
        let mut stream = TcpStream::connect_timeout(&self.api, wait).ok()?;
        stream.set_read_timeout(Some(wait)).ok()?;
        let request = format!("GET {path} HTTP/1.1\r\nHost: node\r\nConnection: close\r\n\r\n");
        stream.write_all(request.as_bytes()).ok()?;
        let mut text = String::new();
        stream.read_to_string(&mut text).ok()?;
        let (head, body) = text.split_once("\r\n\r\n")?;
        Some((head.split(' ').nth(1)?.to_owned(), body.to_owned()))
    }

    fn serves(&self) -> bool {
        self.get("/readiness").is_some_and(|(status, _)| status == "200")
    }

    fn positions(&self) -> Option<Vec<(String, String)>> {
        let (_, body) = self.get("/databases")?;
        let all: Vec<Value> = serde_json::from_str(&body).ok()?;
        let text = |value: &Value, key: &str| value[key].as_str().map(str::to_owned);
        all.iter().map(|one| Some((text(one, "name")?, text(one, "position")?))).collect()
    }
}

/// Whether this machine has what it takes, or what it lacks.
pub fn lacks() -> Option<&'static str> {
    let has = |program: &str| {
        let path = std::env::var_os("PATH").unwrap_or_default();
        std::env::split_paths(&path)
            .any(|folder: PathBuf| Path::new(&folder).join(program).exists())
    };
    ["setpriv", "python3"].into_iter().find(|program| !has(program))
}
