//! The log on a disk that forgets, and on a real one.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc;

use openraft::entry::RaftEntry;
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};

use super::disk::Folder;
use super::memory::Found;
use super::recover::{Recovered, recover};
use super::segments::parse_name;
use super::sim::{SimDisk, Tear};
use super::*;
use crate::cluster::{Command, Commit, Payload};
use crate::core::{Boot, Checksum, DatabaseName, NodeId, Position, TransactionId, Txid};
use crate::raft::staged::{NoStagedFiles, StagedFolder, stage};
use crate::raft::types::{Proposal, log_id};

/// Small segments: a few dozen entries go through several.
const SMALL: LogConfig = LogConfig { segment: 1024, cache: 1_500, read: 500, background: false };

fn command(sequence: u64, payload: Payload) -> Command {
    Command::Commit(Commit {
        id: TransactionId { node: NodeId(1), boot: Boot(1), sequence },
        database: DatabaseName::new("a.db").unwrap(),
        incarnation: None,
        base: Position::EMPTY,
        new: Position { txid: Txid(1), checksum: Checksum(1) },
        page_size: 512,
        pages: 1,
        payload,
    })
}

pub fn entry(term: u64, index: u64, bytes: usize) -> Entry {
    let payload = Payload::Inline(vec![index as u8; bytes].into());
    let proposal = Proposal::Command(command(term << 32 | index, payload));
    Entry::new_normal(log_id(EntryId { term, index }), proposal)
}

fn open(disk: &SimDisk) -> Result<Log, LogError> {
    open_with(disk, Arc::new(|_| {}))
}

fn open_with(disk: &SimDisk, on_fatal: OnFatal) -> Result<Log, LogError> {
    Log::open(Arc::new(disk.clone()), SMALL, Arc::new(NoStagedFiles), on_fatal)
}

/// A call that waits until it is acknowledged; whether it was.
pub fn wait(call: impl FnOnce(Done) -> io::Result<()>) -> bool {
    let (sender, receiver) = mpsc::channel();
    let begun = call(Box::new(move |result| {
        let _ = sender.send(result.is_ok());
    }));
    begun.is_ok() && receiver.recv().unwrap_or(false)
}

/// The log as it must be after so many records.
#[derive(Debug, Clone, Default, PartialEq)]
struct Model {
    entries: VecDeque<Entry>,
    purged: Option<EntryId>,
    vote: Option<WireVote>,
}

impl Model {
    fn next(&self) -> u64 {
        let last = self.entries.back().map(|entry| entry.log_id.index);
        last.or(self.purged.map(|id| id.index)).map_or(0, |index| index + 1)
    }
}

/// A run of the log until it ends or the disk fails. `steps[acknowledged]` and later ones are what
/// a recovery may find.
struct Run {
    steps: Vec<Model>,
    acknowledged: usize,
    /// Committed marks: issued, and the last that was synced.
    marks: Vec<Option<u64>>,
    synced_mark: usize,
}

/// A seeded workload.
fn run(disk: &SimDisk, seed: u64, rounds: usize) -> Run {
    let mut rng = StdRng::seed_from_u64(seed);
    let mut model = Model::default();
    let mut run =
        Run { steps: vec![model.clone()], acknowledged: 0, marks: vec![None], synced_mark: 0 };
    let Ok(log) = open(disk) else { return run };
    let mut term = 1;
    for _ in 0..rounds {
        let ok = match rng.random_range(0..10) {
            0 => {
                term += 1;
                let vote = WireVote { term, node: 1, committed: rng.random() };
                model.vote = Some(vote);
                run.steps.push(model.clone());
                wait(|done| log.save_vote(vote, done))
            }
            1 if !model.entries.is_empty() => {
                // A truncation is acknowledged by what comes after it.
                let keep = rng.random_range(0..model.entries.len());
                let keep = keep.max(committed_len(&model, &run));
                let after = keep.checked_sub(1).map(|at| model.entries[at].log_id);
                let after = after.as_ref().map(crate::raft::types::entry_id).or(model.purged);
                model.entries.truncate(keep);
                run.steps.push(model.clone());
                term += 1;
                let Ok(()) = log.truncate_after(after) else { break };
                run.steps.push(append(&mut model, term, &mut rng, 1, &mut run.steps.clone()));
                let entry = model.entries.back().unwrap().clone();
                wait(|done| log.append(vec![entry], done))
            }
            2 if committed_len(&model, &run) > 1 => {
                let count = rng.random_range(1..committed_len(&model, &run));
                let upto = crate::raft::types::entry_id(&model.entries[count - 1].log_id);
                model.entries.drain(..count);
                model.purged = Some(upto);
                run.steps.push(model.clone());
                log.state_is_durable(upto.index);
                let Ok(()) = log.purge(upto) else { break };
                // It is acknowledged by a vote that follows.
                term += 1;
                let vote = WireVote { term, node: 2, committed: false };
                model.vote = Some(vote);
                run.steps.push(model.clone());
                wait(|done| log.save_vote(vote, done))
            }
            3 => {
                let mark = model.next().checked_sub(1);
                run.marks.push(mark);
                let id = mark.and_then(|index| log.id_at(index)).or(model.purged);
                let Ok(()) = log.save_committed(id) else { break };
                let ok = rng.random() && wait(|done| log.sync_committed(done));
                if ok {
                    run.synced_mark = run.marks.len() - 1;
                }
                continue;
            }
            _ => {
                let count = rng.random_range(1..4);
                let mut steps = std::mem::take(&mut run.steps);
                append(&mut model, term, &mut rng, count, &mut steps);
                run.steps = steps;
                let from = model.entries.len() - count;
                let entries = model.entries.iter().skip(from).cloned().collect();
                wait(|done| log.append(entries, done))
            }
        };
        if !ok {
            break;
        }
        run.acknowledged = run.steps.len() - 1;
    }
    log.close();
    run
}

/// Adds entries to the model, one step each.
fn append(
    model: &mut Model,
    term: u64,
    rng: &mut StdRng,
    count: usize,
    steps: &mut Vec<Model>,
) -> Model {
    for _ in 0..count {
        let index = model.next();
        model.entries.push_back(entry(term, index, rng.random_range(0..120)));
        steps.push(model.clone());
    }
    model.clone()
}

/// How many of the model's entries are committed, and so are never truncated.
fn committed_len(model: &Model, run: &Run) -> usize {
    let mark = run.marks.iter().flatten().max();
    model.entries.iter().filter(|e| mark.is_some_and(|mark| e.log_id.index <= *mark)).count()
}

/// What was recovered is what the run was after some step that it acknowledged or issued later.
fn check(run: &Run, found: &Recovered, context: &str) {
    let ids: Vec<_> =
        (0..1000).filter_map(|index| found.memory.slot(index)).map(|s| s.id).collect();
    let fits = |step: &Model| {
        let expected = step.entries.iter().map(|e| crate::raft::types::entry_id(&e.log_id));
        step.purged == found.memory.purged
            && step.vote == found.memory.vote
            && expected.eq(ids.iter().copied())
    };
    assert!(
        run.steps[run.acknowledged..].iter().any(fits),
        "{context}: found {ids:?}, purged {:?}, vote {:?}; acknowledged {:?}",
        found.memory.purged,
        found.memory.vote,
        run.steps[run.acknowledged],
    );
    let mark = found.memory.committed.map(|id| id.index);
    let least = run.marks[run.synced_mark];
    assert!(mark >= least, "{context}: the mark {mark:?} is behind the synced one {least:?}");
    assert!(
        run.marks[run.synced_mark..].contains(&mark)
            || mark == found.memory.last().map(|l| l.index),
        "{context}: the mark {mark:?} was never set"
    );
}

/// no-lost-ack: whenever the machine goes down, and whatever it leaves of what was not synced.
#[test]
fn nothing_acknowledged_is_lost_at_any_operation_and_any_byte() {
    let mut recoveries = 0;
    for seed in 0..3 {
        for at in 0.. {
            let disk = SimDisk::new();
            disk.crash_at(at);
            let run = run(&disk, seed, 25);
            for folder in 0..disk.folders() {
                let unsynced = disk.unsynced();
                let tears = (0..=unsynced)
                    .map(Tear::Bytes)
                    .chain((0..4).map(Tear::Sectors))
                    .chain([Tear::Nothing, Tear::Everything]);
                for tear in tears {
                    let context = format!("seed {seed}, operation {at}, {tear:?}, folder {folder}");
                    let crashed = disk.after_crash(tear, folder);
                    let found = recover(&crashed).unwrap_or_else(|e| panic!("{context}: {e}"));
                    check(&run, &found, &context);
                    recoveries += 1;
                    // Going down while it recovers, and once more.
                    let again = crashed.after_crash(Tear::Nothing, 0);
                    check(&run, &recover(&again).unwrap(), &context);
                }
            }
            if disk.operations() < at {
                break;
            }
        }
    }
    assert!(recoveries > 5_000, "only {recoveries} recoveries: the workload is too small");
}

/// What was torn is not taken for something later, and the log goes on after a crash.
#[test]
fn it_goes_on_after_every_crash() {
    for seed in 0..150 {
        let mut rng = StdRng::seed_from_u64(seed);
        let disk = SimDisk::new();
        disk.crash_at(rng.random_range(5..80));
        let first = run(&disk, seed, 30);
        let tear = match rng.random_range(0..3) {
            0 => Tear::Sectors(rng.random()),
            1 => Tear::Bytes(rng.random_range(0..=disk.unsynced())),
            _ => Tear::Everything,
        };
        let crashed = disk.after_crash(tear, rng.random_range(0..disk.folders()));
        let log = open(&crashed).unwrap();
        let before: Vec<_> = log.read(0..u64::MAX, u64::MAX).unwrap();
        let mut expected = before.clone();
        let term = 100;
        for _ in 0..6 {
            let index = log.last().map_or(0, |id| id.index + 1);
            let new = entry(term, index, rng.random_range(0..120));
            expected.push(new.clone());
            assert!(wait(|done| log.append(vec![new], done)), "seed {seed}");
        }
        log.close();
        let log = open(&crashed.after_crash(Tear::Nothing, crashed.folders() - 1)).unwrap();
        assert_eq!(log.read(0..u64::MAX, u64::MAX).unwrap(), expected, "seed {seed}");
        drop(first);
    }
}

/// Two records are written together, the first is torn, the second is whole. Later a new one takes
/// exactly the place of the first: the second must not come back behind it.
#[test]
fn what_was_behind_a_torn_record_stays_gone() {
    let mut torn = 0;
    for seed in 0..64 {
        let disk = SimDisk::new();
        let log = open(&disk).unwrap();
        assert!(wait(|done| log.append(vec![entry(1, 0, 100)], done)));
        // The write passes, its sync does not.
        disk.crash_at(disk.operations() + 1);
        let both = vec![entry(1, 1, 100), entry(1, 2, 100)];
        assert!(!wait(|done| log.append(both, done)));
        log.close();
        let crashed = disk.after_crash(Tear::Sectors(seed), disk.folders() - 1);
        let log = open(&crashed).unwrap();
        if log.last() == Some(EntryId { term: 1, index: 0 }) {
            torn += 1;
            assert!(wait(|done| log.append(vec![entry(2, 1, 100)], done)));
            log.close();
            let log = open(&crashed).unwrap();
            assert_eq!(log.last(), Some(EntryId { term: 2, index: 1 }), "seed {seed}");
        }
    }
    assert!(torn > 10, "{torn}");
}

/// Damage in what was acknowledged is an error that names file and offset, not a shorter log.
#[test]
fn damage_is_told_from_a_torn_tail() {
    let disk = SimDisk::new();
    let log = open(&disk).unwrap();
    for index in 0..20 {
        assert!(wait(|done| log.append(vec![entry(1, index, 60)], done)));
    }
    // What is last can be torn or damaged, nobody knows: this is it.
    assert!(wait(|done| log.save_vote(WireVote { term: 2, node: 1, committed: false }, done)));
    log.close();
    let whole = disk.after_crash(Tear::Nothing, disk.folders() - 1);
    let names = whole.list().unwrap();
    assert!(names.len() > 2, "{names:?}");
    let (mut damaged, mut harmless) = (0, 0);
    for (name, len) in names.into_iter().filter(|(name, _)| parse_name(name).is_some()) {
        for offset in 0..usize::try_from(len).unwrap() {
            let disk = whole.after_crash(Tear::Nothing, 0);
            disk.flip(&name, offset);
            match recover(&disk) {
                Err(LogError::Damaged { file, offset: at, .. }) => {
                    assert_eq!(file, name);
                    assert!(at <= offset as u64);
                    damaged += 1;
                }
                Err(LogError::Version { .. }) => panic!("the version is under the checksum"),
                Err(error) => panic!("{name} at {offset}: {error}"),
                Ok(found) => {
                    assert_eq!(found.memory.last().map(|id| id.index), Some(19));
                    harmless += 1;
                }
            }
        }
    }
    assert!(damaged > 1_000, "{damaged} seen, {harmless} harmless");
}

#[test]
fn a_missing_segment_is_an_error() {
    let disk = SimDisk::new();
    let log = open(&disk).unwrap();
    for index in 0..30 {
        assert!(wait(|done| log.append(vec![entry(1, index, 60)], done)));
    }
    log.close();
    disk.remove("00000000000000000002.log").unwrap();
    assert!(matches!(open(&disk), Err(LogError::Missing { .. })));
}

/// The first failed write or sync: nothing more is acknowledged, and the process is told to stop.
#[test]
fn a_failed_disk_stops_the_node() {
    let disk = SimDisk::new();
    let fatal = Arc::new(AtomicUsize::new(0));
    let count = Arc::clone(&fatal);
    let log = open_with(
        &disk,
        Arc::new(move |_| {
            count.fetch_add(1, Ordering::SeqCst);
        }),
    )
    .unwrap();
    assert!(wait(|done| log.append(vec![entry(1, 0, 10)], done)));
    disk.crash_at(0);
    assert!(!wait(|done| log.append(vec![entry(1, 1, 10)], done)));
    disk.crash_at(u64::MAX);
    assert!(!wait(|done| log.append(vec![entry(1, 2, 10)], done)), "never again");
    log.close();
    assert_eq!(fatal.load(Ordering::SeqCst), 1);
}

/// Rule 10: what was applied before a log was closed may reach the databases after it.
#[test]
fn a_closed_log_has_its_mark() {
    let disk = SimDisk::new();
    let log = open(&disk).unwrap();
    assert!(wait(|done| log.append(vec![entry(1, 0, 10), entry(1, 1, 10)], done)));
    let mark = Some(EntryId { term: 1, index: 1 });
    log.save_committed(mark).unwrap();
    log.close();
    assert!(log.save_committed(mark).is_err(), "it is closed");
    assert!(wait(|done| log.sync_committed(done)));
    let crashed = disk.after_crash(Tear::Nothing, disk.folders() - 1);
    assert_eq!(recover(&crashed).unwrap().memory.committed, mark);
}

/// Old segments go by whole files, and serve again.
#[test]
fn purged_segments_are_used_again() {
    let disk = SimDisk::new();
    let log = open(&disk).unwrap();
    let mut most = 0;
    for index in 0..400 {
        assert!(wait(|done| log.append(vec![entry(1, index, 100)], done)));
        if index % 10 == 9 {
            log.state_is_durable(index - 5);
            log.purge(EntryId { term: 1, index: index - 5 }).unwrap();
        }
        most = most.max(disk.list().unwrap().len());
    }
    log.close();
    assert!(most < 10, "{most} files");
    assert_eq!(log.purged(), Some(EntryId { term: 1, index: 394 }));
    let log = open(&disk).unwrap();
    assert_eq!(log.read(0..u64::MAX, u64::MAX).unwrap().len(), 5);
    assert_eq!(log.purged(), Some(EntryId { term: 1, index: 394 }));
}

/// A log that is purged beyond what the state file holds could not be started from.
#[test]
fn a_purge_waits_for_the_state() {
    let disk = SimDisk::new();
    let log = open(&disk).unwrap();
    assert!(wait(|done| log.append((0..3).map(|i| entry(1, i, 10)).collect(), done)));
    log.purge(EntryId { term: 2, index: 500 }).unwrap();
    assert_eq!(log.last(), Some(EntryId { term: 2, index: 500 }));
    let (sender, receiver) = mpsc::channel();
    let done: Done = Box::new(move |result| drop(sender.send(result)));
    log.append(vec![entry(2, 501, 10)], done).unwrap();
    // The committed mark does not wait behind it: databases wait for the mark.
    assert!(wait(|done| log.sync_committed(done)));
    assert!(receiver.try_recv().is_err(), "acknowledged too early");
    // Rule 10: nor is it applied.
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap();
    let wait = Duration::from_millis(20);
    let flushed =
        runtime.block_on(async { tokio::time::timeout(wait, log.wait_flushed(501)).await });
    assert!(flushed.is_err(), "flushed too early");
    let crashed = disk.after_crash(Tear::Everything, disk.folders() - 1);
    assert_eq!(recover(&crashed).unwrap().memory.last(), Some(EntryId { term: 1, index: 2 }));
    log.state_is_durable(500);
    assert!(receiver.recv().unwrap().is_ok());
    runtime.block_on(log.wait_flushed(501)).unwrap();
    log.close();
    assert!(runtime.block_on(log.wait_flushed(502)).is_err(), "nobody waits for a closed log");
    let log = open(&disk).unwrap();
    assert_eq!(log.last(), Some(EntryId { term: 2, index: 501 }));
}

/// Rule 19.
#[test]
fn an_entry_is_flushed_only_with_its_staged_file() {
    let folder = tempfile::tempdir().unwrap();
    let files: Arc<dyn StagedFiles> = Arc::new(StagedFolder::open(folder.path()).unwrap());
    let disk = SimDisk::new();
    let log = Log::open(Arc::new(disk), SMALL, Arc::clone(&files), Arc::new(|_| {})).unwrap();
    let name = stage(&files, b"large").unwrap();
    let staged = |index, sha256| {
        let payload = Payload::Staged { sha256, len: 5 };
        Entry::new_normal(
            log_id(EntryId { term: 1, index }),
            Proposal::Command(command(index, payload)),
        )
    };
    assert!(wait(|done| log.append(vec![staged(0, name.sha256)], done)));
    assert_eq!(log.staged(), HashSet::from([name.sha256]));
    assert!(!wait(|done| log.append(vec![staged(1, [7; 32])], done)));
}

/// Reads are bounded in bytes, whether an entry is in memory or on the disk.
#[test]
fn reads_are_bounded_and_reach_the_disk() {
    let folder = tempfile::tempdir().unwrap();
    let disk = Arc::new(Folder::new(folder.path()).unwrap());
    let config = LogConfig { segment: 1 << 20, cache: 10_000, read: 5_000, background: true };
    let open = || {
        Log::open(Arc::clone(&disk) as _, config, Arc::new(NoStagedFiles), Arc::new(|_| {}))
            .unwrap()
    };
    let log = open();
    let entries: Vec<_> = (0..2_000).map(|index| entry(1, index, 1_000)).collect();
    for part in entries.chunks(50) {
        assert!(wait(|done| log.append(part.to_vec(), done)));
    }
    assert!(log.shared.state().memory.find(0..1, 1).iter().all(|f| matches!(f, Found::On(..))));
    for log in [log.clone(), {
        log.close();
        open()
    }] {
        assert_eq!(log.read(0..u64::MAX, u64::MAX).unwrap(), entries);
        let some = log.read(100..2_000, 5_000).unwrap();
        assert_eq!(some, entries[100..100 + some.len()]);
        assert!((2..6).contains(&some.len()), "{}", some.len());
        assert_eq!(log.read(7..9, 1).unwrap().len(), 1, "one at least");
        assert!(log.read(2_000..2_001, u64::MAX).unwrap().is_empty());
    }
}
