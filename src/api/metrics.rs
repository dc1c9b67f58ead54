//! `/metrics`: the engine's numbers as Prometheus reads them. docs/monitoring.md says what each means.
//!
//! Names end in their unit, a base unit; counters in `_total`; no label takes values without bound.

use std::fmt::{self, Debug};
use std::sync::Arc;

use axum::extract::State;
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::{IntoResponse, Response};
use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, EncodeMetric, NoLabelSet};
use prometheus_client::metrics::MetricType;
use prometheus_client::metrics::counter::ConstCounter;
use prometheus_client::metrics::gauge::ConstGauge;
use prometheus_client::registry::Registry;

use super::answer::error;
use super::process::{Process, to_float};
use crate::core::engine::{DatabaseStatus, Engine, Latency, RaftRole, Role};

const OPENMETRICS: &str = "application/openmetrics-text";
const OPENMETRICS_TYPE: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";
const TEXT_TYPE: &str = "text/plain; version=0.0.4; charset=utf-8";

/// Databases that are told of one by one, the first by name: names are the users', and each makes
/// some series of its own. `litefs_py_databases` counts all.
const DATABASES: usize = 1000;

/// `OpenMetrics` for who asks for it, as Prometheus does; else the older text format.
pub(super) async fn metrics(State(engine): State<Arc<dyn Engine>>, headers: HeaderMap) -> Response {
    let accept = headers.get(header::ACCEPT).and_then(|accept| accept.to_str().ok());
    let open = accept.is_some_and(|accept| accept.contains(OPENMETRICS));
    match encode(engine) {
        Ok(text) if open => ([(header::CONTENT_TYPE, OPENMETRICS_TYPE)], text).into_response(),
        Ok(text) => ([(header::CONTENT_TYPE, TEXT_TYPE)], older(&text)).into_response(),
        Err(fmt::Error) => {
            error(StatusCode::INTERNAL_SERVER_ERROR, "the metrics could not be written")
        }
    }
}

fn encode(engine: Arc<dyn Engine>) -> Result<String, fmt::Error> {
    let mut ours = Registry::with_prefix("litefs_py");
    ours.register_collector(Box::new(Snapshot(engine)));
    let mut standard = Registry::default();
    standard.register_collector(Box::new(Standard));
    let mut text = String::new();
    prometheus_client::encoding::text::encode_registry(&mut text, &ours)?;
    prometheus_client::encoding::text::encode_registry(&mut text, &standard)?;
    prometheus_client::encoding::text::encode_eof(&mut text)?;
    Ok(text)
}

/// The text format 0.0.4 names a counter as its samples are named, and has no end mark.
fn older(text: &str) -> String {
    let mut counters = Vec::new();
    let mut lines = Vec::new();
    for line in text.lines().filter(|line| *line != "# EOF") {
        if let Some(name) =
            line.strip_prefix("# TYPE ").and_then(|rest| rest.strip_suffix(" counter"))
        {
            counters.push(name);
        }
    }
    for line in text.lines().filter(|line| *line != "# EOF") {
        let mut words = line.splitn(4, ' ');
        match (words.next(), words.next(), words.next(), words.next()) {
            (Some("#"), Some(what), Some(name), Some(rest)) if counters.contains(&name) => {
                lines.push(format!("# {what} {name}_total {rest}"));
            }
            _ => lines.push(line.to_owned()),
        }
    }
    lines.push(String::new());
    lines.join("\n")
}

struct Snapshot(Arc<dyn Engine>);

impl Debug for Snapshot {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Snapshot")
    }
}

impl Collector for Snapshot {
    fn encode(&self, mut encoder: DescriptorEncoder) -> fmt::Result {
        let to = &mut encoder;
        numbers(to, self.0.as_ref())?;
        cluster(to, self.0.as_ref())?;
        databases(to, self.0.as_ref())
    }
}

fn numbers(to: &mut DescriptorEncoder, engine: &dyn Engine) -> fmt::Result {
    let m = engine.metrics();
    let outcomes =
        [("committed", m.committed), ("refused", m.refused), ("indeterminate", m.indeterminate)];
    family(
        to,
        "transactions",
        "Transactions of this node's applications, by what became of them",
        MetricType::Counter,
        outcomes.map(|(outcome, number)| ([("outcome", outcome)], number)),
    )?;
    counter(to, "committed_bytes", "Bytes of the transactions committed", m.committed_bytes)?;
    histogram(to, "commit_seconds", "From a commit point to its answer", &m.commit_latency)?;
    counter(to, "applied_transactions", "Transactions of other nodes applied here", m.applied)?;
    counter(
        to,
        "write_locks_granted",
        "Write locks this node's applications got",
        m.locks_granted,
    )?;
    counter(to, "write_locks_busy", "Requests for one answered busy", m.locks_busy)?;
    counter(to, "write_locks_doomed", "Holds that lost the cluster's lock", m.locks_doomed)?;
    counter(to, "leader_changes", "Changes of the leader seen", m.leader_changes)?;
    counter(to, "checkpoints", "Checkpoints made", m.checkpoints)?;
    counter(to, "snapshots_sent", "Snapshots sent to other nodes", m.snapshots_sent)?;
    counter(to, "snapshots_received", "Snapshots received", m.snapshots_received)?;
    counter(to, "set_aside", "Databases set aside before their history was replaced", m.set_aside)?;
    counter(to, "rotten_pages", "Pages that were found changed by the disk", m.rotten)?;
    counter(to, "mended_pages", "Rotten pages that were put right from another node", m.mended)?;
    gauge(to, "log_bytes", "Size of the replicated log", m.log_bytes)?;
    if let Some(disk) = m.machine.disk {
        gauge(to, "disk_bytes", "Size of the disk with the data folder", disk.bytes)?;
        gauge(to, "disk_free_bytes", "What of it the node may still use", disk.free)?;
    }
    let certificates = m.machine.certificates.iter();
    family(
        to,
        "certificate_expiry_timestamp_seconds",
        "When a certificate of the mesh runs out, since 1970",
        MetricType::Gauge,
        certificates.map(|(what, seconds)| ([("certificate", *what)], *seconds)),
    )
}

fn cluster(to: &mut DescriptorEncoder, engine: &dyn Engine) -> fmt::Result {
    let s = engine.status();
    let primary = s.role == Role::Primary && s.quorum.ok;
    gauge(to, "primary", "1 when this node leads with a majority", u64::from(primary))?;
    gauge(to, "quorum", "1 when a majority answers", u64::from(s.quorum.ok))?;
    if let Some(age) = s.quorum.age_ms {
        seconds(to, "quorum_age_seconds", "Since a majority last answered", age)?;
    }
    gauge(to, "serving", "1 when the databases are served", u64::from(s.serving))?;
    gauge(to, "ready", "1 when the node should get work", u64::from(s.not_ready.is_empty()))?;
    let roles = [
        ("leader", RaftRole::Leader),
        ("follower", RaftRole::Follower),
        ("candidate", RaftRole::Candidate),
        ("learner", RaftRole::Learner),
    ];
    family(
        to,
        "raft_role",
        "1 for the part that this node has in its Raft group, 0 for the others",
        MetricType::Gauge,
        roles.map(|(name, role)| ([("role", name)], u64::from(role == s.raft_role))),
    )?;
    gauge(to, "term", "The Raft term", s.term)?;
    gauge(to, "applied_index", "The last entry applied here", s.applied_index)?;
    gauge(to, "committed_index", "The last entry known as committed", s.committed_index)?;
    if let Some(lag) = s.lag_ms {
        seconds(to, "lag_seconds", "How old what this node shows may be", lag)?;
    }
    let up = s.members.iter().filter(|member| member.reachable).count() as u64;
    gauge(to, "members", "Members of the cluster", s.members.len() as u64)?;
    gauge(to, "members_up", "Members that this node is connected to, and itself", up)?;
    let lags = s.members.iter().filter_map(|m| Some(([("member", m.name.as_str())], m.lag?)));
    family(
        to,
        "member_lag_entries",
        "Entries a member lacks, as the leader knows",
        MetricType::Gauge,
        lags,
    )?;
    let reachable =
        s.members.iter().map(|m| ([("member", m.name.as_str())], u64::from(m.reachable)));
    family(
        to,
        "member_reachable",
        "1 when this node is connected to the member",
        MetricType::Gauge,
        reachable,
    )?;
    let build = [([("version", s.version.as_str())], 1)];
    family(to, "build_info", "The program; always 1", MetricType::Gauge, build)
}

fn databases(to: &mut DescriptorEncoder, engine: &dyn Engine) -> fmt::Result {
    let all = engine.databases();
    gauge(to, "databases", "Databases here", all.len() as u64)?;
    let mut each = |name, help, number: fn(&DatabaseStatus) -> u64| {
        let told = all.iter().take(DATABASES);
        let numbers = told.map(|d| ([("database", d.name.as_str())], number(d)));
        family(to, name, help, MetricType::Gauge, numbers)
    };
    each("database_txid", "The database's last transaction here", |d| d.position.txid.0)?;
    each("database_bytes", "Size of the database", |d| {
        u64::from(d.pages) * u64::from(d.page_size)
    })?;
    each("database_wal_bytes", "Size of the database's local WAL", |d| d.wal_bytes)?;
    each("database_lag_transactions", "Transactions decided and not shown here yet", |d| d.behind)?;
    each("database_lock_waiting", "Nodes that wait for the write lock", |d| u64::from(d.waiting))
}

/// What every process tells, by the names that it has everywhere.
#[derive(Debug)]
struct Standard;

impl Collector for Standard {
    fn encode(&self, mut encoder: DescriptorEncoder) -> fmt::Result {
        let to = &mut encoder;
        let process = Process::look();
        if let Some(seconds) = process.cpu_seconds {
            let metric = ConstCounter::new(seconds);
            let help = "Processor time, of user and system";
            let kind = metric.metric_type();
            metric.encode(to.encode_descriptor("process_cpu_seconds", help, None, kind)?)?;
        }
        if let Some(start) = process.start_seconds {
            float(to, "process_start_time_seconds", "When the process began, since 1970", start)?;
        }
        let gauges = [
            ("process_resident_memory_bytes", "Memory in use", process.resident_bytes),
            ("process_virtual_memory_bytes", "Address space in use", process.virtual_bytes),
            ("process_threads", "Threads", process.threads),
            ("process_open_fds", "Open files", process.open_files),
            ("process_max_fds", "Files that may be open", process.most_files),
        ];
        for (name, help, number) in gauges {
            if let Some(number) = number {
                gauge(to, name, help, number)?;
            }
        }
        Ok(())
    }
}

fn counter(to: &mut DescriptorEncoder, name: &str, help: &str, number: u64) -> fmt::Result {
    let metric = ConstCounter::new(number);
    metric.encode(to.encode_descriptor(name, help, None, metric.metric_type())?)
}

fn gauge(to: &mut DescriptorEncoder, name: &str, help: &str, number: u64) -> fmt::Result {
    let metric = ConstGauge::new(number);
    metric.encode(to.encode_descriptor(name, help, None, metric.metric_type())?)
}

fn float(to: &mut DescriptorEncoder, name: &str, help: &str, number: f64) -> fmt::Result {
    let metric = ConstGauge::new(number);
    metric.encode(to.encode_descriptor(name, help, None, metric.metric_type())?)
}

/// A time that is known in milliseconds, in seconds.
fn seconds(to: &mut DescriptorEncoder, name: &str, help: &str, ms: u64) -> fmt::Result {
    float(to, name, help, to_float(ms) / 1000.0)
}

/// One metric with a label. None is written when there is no number.
fn family<'a>(
    to: &mut DescriptorEncoder,
    name: &str,
    help: &str,
    kind: MetricType,
    numbers: impl IntoIterator<Item = ([(&'a str, &'a str); 1], u64)>,
) -> fmt::Result {
    let mut numbers = numbers.into_iter().peekable();
    if numbers.peek().is_none() {
        return Ok(());
    }
    let mut encoder = to.encode_descriptor(name, help, None, kind)?;
    for (labels, number) in numbers {
        let one = encoder.encode_family(&labels)?;
        match kind {
            MetricType::Counter => ConstCounter::new(number).encode(one)?,
            _ => ConstGauge::new(number).encode(one)?,
        }
    }
    Ok(())
}

fn histogram(to: &mut DescriptorEncoder, name: &str, help: &str, of: &Latency) -> fmt::Result {
    // The encoder adds up the buckets itself and wants the last to be without a bound.
    let within: u64 = of.buckets.iter().map(|(_, number)| number).sum();
    let mut buckets = of.buckets.clone();
    buckets.push((f64::INFINITY, of.count.saturating_sub(within)));
    let mut encoder = to.encode_descriptor(name, help, None, MetricType::Histogram)?;
    encoder.encode_histogram::<NoLabelSet>(of.sum_seconds, of.count, &buckets, None)
}
