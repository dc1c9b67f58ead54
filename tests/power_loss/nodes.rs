//! The power of whole nodes goes at random, of one, of two, of all at once; or a sync fails, and it goes
//! later. What their clients were told is there at the end, and no node needed help to start.

use std::fs;
use std::path::Path;
use std::time::{Duration, Instant};

use litefs_py::core::config::Passthrough;
use rand::rngs::StdRng;
use rand::seq::SliceRandom;
use rand::{Rng, SeedableRng};
use sha2::{Digest, Sha256};

use crate::cluster::{Cluster, SOON, lacks, program, until};
use crate::disk::Tear;
use crate::rack::Rack;

/// no-lost-ack, one-history, converges, through power losses.
#[test]
fn nodes_come_back_with_all_they_acknowledged() {
    let seed = number("POWER_LOSS_SEED").unwrap_or_else(|| rand::random_range(0..1_000_000));
    let rounds = number("POWER_LOSS_ROUNDS").unwrap_or(7);
    run("nodes_come_back_with_all_they_acknowledged", seed, rounds);
}

/// As above, for long: batches of rounds with a seed each, those left out that this very program passed
/// before (`target/power-loss-passed`).
#[test]
#[ignore = "takes half an hour"]
fn nodes_come_back_from_hundreds_of_power_losses() {
    let batches = number("POWER_LOSS_BATCHES").unwrap_or(12);
    let passed = Path::new(env!("CARGO_MANIFEST_DIR")).join("target/power-loss-passed");
    let bytes = fs::read(program()).unwrap_or_default();
    let digest = u128::from_be_bytes(*Sha256::digest(&bytes).first_chunk().unwrap());
    for seed in 1..=batches {
        let before = fs::read_to_string(&passed).unwrap_or_default();
        let mark = format!("{digest:032x} {seed}");
        if before.lines().any(|line| line == mark) {
            println!("seed {seed} passed before");
            continue;
        }
        if !run("nodes_come_back_from_hundreds_of_power_losses", seed, 30) {
            return;
        }
        fs::write(&passed, format!("{before}{mark}\n")).unwrap();
    }
}

/// bounded-answer: without passthrough (Linux before 6.9) the end of a killed daemon waits for an answer of
/// its own; the next start sees to it.
#[test]
fn a_killed_node_without_passthrough_starts_again() {
    let test = "a_killed_node_without_passthrough_starts_again";
    if let Some(program) = lacks() {
        println!("SKIPPED {test}: no {program}");
        return;
    }
    let Some(rack) = Rack::or_skip(test) else { return };
    let mut cluster = Cluster::new(rack, Passthrough::Off);
    cluster.all_serve();
    cluster.create();
    for number in [0, 1, 2, 0] {
        let before = cluster.acknowledged().len();
        cluster.write();
        until("some rows more", SOON, || {
            (cluster.acknowledged().len() > before + 20).then_some(())
        });
        cluster.kill_and_leave(number);
        cluster.all_serve();
        let node = &mut cluster.nodes[number];
        until("the end of the killed one", SOON, || node.killed_are_gone().then_some(()));
        // Its clients have nothing but errors any more.
        cluster.end_writers(number);
    }
    cluster.check();
}

fn number(variable: &str) -> Option<u64> {
    std::env::var(variable).ok()?.parse().ok()
}

/// What happens in a round.
#[derive(Debug, Clone, Copy)]
enum Fault {
    /// The power of so many nodes goes, at the same moment.
    Power(usize),
    /// A sync of one node fails, which ends its process; that starts again and goes on, and then the power
    /// of this node, or of all, goes.
    Sync { then_all: bool },
    /// A process is killed, starts again, and then the power of all goes.
    Process,
}

fn fault(rng: &mut StdRng, round: u64) -> Fault {
    // The first three rounds have each the worst of a kind.
    match (round, rng.random_range(0..100)) {
        (0, _) | (_, 0..25) => Fault::Power(3),
        (1, _) | (_, 25..40) => Fault::Sync { then_all: rng.random() },
        (2, _) | (_, 40..60) => Fault::Power(2),
        (_, 60..85) => Fault::Power(1),
        _ => Fault::Process,
    }
}

fn tear(rng: &mut StdRng) -> Tear {
    match rng.random_range(0..6) {
        0 => Tear::Nothing,
        1 => Tear::Names,
        2 => Tear::Bytes,
        _ => Tear::Some(rng.random()),
    }
}

/// Whether this machine can.
fn run(test: &str, seed: u64, rounds: u64) -> bool {
    if let Some(program) = lacks() {
        println!("SKIPPED {test}: no {program}");
        return false;
    }
    let Some(rack) = Rack::or_skip(test) else { return false };
    println!("seed {seed} (POWER_LOSS_SEED), {rounds} rounds");
    let mut rng = StdRng::seed_from_u64(seed);
    let mut cluster = Cluster::new(rack, Passthrough::Auto);
    let begin = Instant::now();
    cluster.all_serve();
    cluster.create();
    let mut losses = 0;
    for round in 0..rounds {
        let fault = fault(&mut rng, round);
        let before = cluster.acknowledged().len();
        cluster.write();
        until("some rows more", SOON, || {
            (cluster.acknowledged().len() > before + 20).then_some(())
        });
        let mut nodes: Vec<usize> = (0..cluster.nodes.len()).collect();
        nodes.shuffle(&mut rng);
        match fault {
            Fault::Power(count) => losses += power(&mut cluster, &nodes[..count], &mut rng),
            Fault::Sync { then_all } => {
                fail_a_sync(&mut cluster, nodes[0], &mut rng);
                let count = if then_all { nodes.len() } else { 1 };
                losses += power(&mut cluster, &nodes[..count], &mut rng);
            }
            Fault::Process => {
                cluster.kill(nodes[0]);
                cluster.all_serve();
                cluster.write();
                losses += power(&mut cluster, &nodes, &mut rng);
            }
        }
        cluster.all_serve();
        let rows = cluster.acknowledged().len();
        let seconds = begin.elapsed().as_secs();
        println!("round {round}: {fault:?}, {rows} rows acknowledged, {seconds} s");
        // After the power of all: nothing is anywhere but on the disks.
        if rows > 0 && matches!(fault, Fault::Power(3)) {
            cluster.check();
        }
    }
    let rows = cluster.check();
    println!(
        "seed {seed}: {rounds} rounds, {losses} power losses, {rows} rows acknowledged, none lost"
    );
    true
}

/// The power of these nodes goes when the first of them has done so many operations more. Returns how many
/// they are.
fn power(cluster: &mut Cluster, nodes: &[usize], rng: &mut StdRng) -> usize {
    let trigger = &cluster.nodes[nodes[0]].disk;
    trigger.cut_at(trigger.done() + rng.random_range(0..400));
    // If it has nothing to do, it goes now.
    trigger.is_down_within(Duration::from_secs(2));
    for number in nodes {
        cluster.nodes[*number].disk.cut();
    }
    for number in nodes {
        let tear = tear(rng);
        cluster.power_loss(*number, tear);
    }
    nodes.len()
}

/// A sync of the node fails, and its process ends by itself (Rule 7); then it starts again, with what the
/// kernel still has.
fn fail_a_sync(cluster: &mut Cluster, number: usize, rng: &mut StdRng) {
    let node = &mut cluster.nodes[number];
    node.disk.fail_sync_after(rng.random_range(0..60), rng.random());
    until("a sync that fails", SOON, || (node.disk.failed_syncs() > 0).then_some(()));
    let deadline = Instant::now() + SOON;
    while node.ended().is_none() {
        assert!(Instant::now() < deadline, "its disk failed, and it goes on:\n{}", node.said());
        std::thread::sleep(Duration::from_millis(10));
    }
    cluster.kill(number);
    cluster.all_serve();
    let before = cluster.acknowledged().len();
    cluster.write();
    until("rows after a failed sync", SOON, || {
        (cluster.acknowledged().len() > before + 20).then_some(())
    });
}
