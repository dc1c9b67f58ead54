//! `/metrics`: the engine's numbers as Prometheus reads them.

use std::fmt::{self, Debug};
use std::sync::Arc;

use axum::extract::State;
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, EncodeMetric, NoLabelSet};
use prometheus_client::metrics::MetricType;
use prometheus_client::metrics::counter::ConstCounter;
use prometheus_client::metrics::gauge::ConstGauge;
use prometheus_client::registry::Registry;

use super::answer::error;
use crate::core::engine::{Engine, Latency, Role};

const CONTENT_TYPE: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

pub(super) async fn metrics(State(engine): State<Arc<dyn Engine>>) -> Response {
    let mut registry = Registry::with_prefix("litefs_py");
    registry.register_collector(Box::new(Snapshot(engine)));
    let mut text = String::new();
    match prometheus_client::encoding::text::encode(&mut text, &registry) {
        Ok(()) => ([(header::CONTENT_TYPE, CONTENT_TYPE)], text).into_response(),
        Err(fmt::Error) => {
            error(StatusCode::INTERNAL_SERVER_ERROR, "the metrics could not be written")
        }
    }
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
    gauge(to, "log_bytes", "Size of the replicated log", m.log_bytes)
}

fn cluster(to: &mut DescriptorEncoder, engine: &dyn Engine) -> fmt::Result {
    let s = engine.status();
    let primary = s.role == Role::Primary && s.quorum.ok;
    gauge(to, "primary", "1 when this node leads with a majority", u64::from(primary))?;
    gauge(to, "quorum", "1 when a majority answers", u64::from(s.quorum.ok))?;
    gauge(to, "serving", "1 when the databases are served", u64::from(s.serving))?;
    gauge(to, "ready", "1 when the node should get work", u64::from(s.not_ready.is_empty()))?;
    gauge(to, "term", "The Raft term", s.term)?;
    gauge(to, "applied_index", "The last entry applied here", s.applied_index)?;
    gauge(to, "committed_index", "The last entry known as committed", s.committed_index)?;
    gauge(to, "uptime_seconds", "Since the process began", s.uptime_seconds)?;
    if let Some(lag) = s.lag_ms {
        gauge(to, "lag_milliseconds", "How old what this node shows may be", lag)?;
    }
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
    )
}

fn databases(to: &mut DescriptorEncoder, engine: &dyn Engine) -> fmt::Result {
    let databases = engine.databases();
    let mut each = |name, help, number: fn(&_) -> u64| {
        let numbers = databases.iter().map(|d| ([("database", d.name.as_str())], number(d)));
        family(to, name, help, MetricType::Gauge, numbers)
    };
    each("database_txid", "The database's last transaction here", |d| d.position.txid.0)?;
    each("database_bytes", "Size of the database", |d| {
        u64::from(d.pages) * u64::from(d.page_size)
    })?;
    each("database_wal_bytes", "Size of the database's local WAL", |d| d.wal_bytes)?;
    each("database_lock_waiting", "Nodes that wait for the write lock", |d| u64::from(d.waiting))
}

fn counter(to: &mut DescriptorEncoder, name: &str, help: &str, number: u64) -> fmt::Result {
    let metric = ConstCounter::new(number);
    metric.encode(to.encode_descriptor(name, help, None, metric.metric_type())?)
}

fn gauge(to: &mut DescriptorEncoder, name: &str, help: &str, number: u64) -> fmt::Result {
    let metric = ConstGauge::new(number);
    metric.encode(to.encode_descriptor(name, help, None, metric.metric_type())?)
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
