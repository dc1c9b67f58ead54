//! A run is recorded once, and cut after each of its operations, in four ways:
//!
//! - **power**: the machine goes down there, and leaves what a [`Tear`] says;
//! - **process**: the program alone ends there and starts again; what it finds may still be on no disk.
//!   It works on, and then the power goes;
//! - **sync**: the sync that came next fails, the program ends, and goes on as above: what it reads is not
//!   on the disk, and no later sync of those bytes as they are brings it there;
//! - **twice**: the power goes again, at each operation of the start that follows.
//!
//! Recording once is the same as running again for each cut: whoever is cut off learns nothing of what
//! comes after.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;

use crate::disk::{Disk, Op, Tear};
use crate::rack::Rack;

/// Takes note of something that happened: everything noted up to a cut must hold after it.
pub type Notes<'a, N> = &'a mut dyn FnMut(N);

/// What is cut.
pub trait Subject {
    /// What was begun, and what was acknowledged.
    type Note: Clone;

    /// The first life, in an empty folder.
    fn work(&self, folder: &Path, notes: Notes<'_, Self::Note>);

    /// A later start: all that was acknowledged is there, and nothing torn is taken for good. Panics
    /// otherwise. `go_on`: then works on, and acknowledges more.
    fn start(&self, folder: &Path, known: &[Self::Note], go_on: Option<Notes<'_, Self::Note>>);
}

/// How much is tried.
#[derive(Debug, Clone, Copy)]
pub struct Effort {
    pub seed: u64,
    /// Tears by chance, beside the four corners.
    pub tears: u64,
    /// How many of them at one operation, in turn.
    pub at_once: usize,
    /// Of so many operations one is cut by the end of the process, and of so many one twice.
    pub process: usize,
    pub twice: usize,
}

impl Effort {
    /// As much as `make test` has time for, or more if it is asked for.
    pub fn asked(process: usize, twice: usize) -> Self {
        let thorough = std::env::var_os("POWER_LOSS_THOROUGH").is_some();
        let seed = std::env::var("POWER_LOSS_SEED").ok().and_then(|seed| seed.parse().ok());
        let seed = seed.unwrap_or(if thorough { rand::random() } else { 1 });
        if thorough {
            return Self {
                seed,
                tears: 8,
                at_once: usize::MAX,
                process: 1,
                twice: twice.div_ceil(8),
            };
        }
        Self { seed, tears: 2, at_once: usize::MAX, process, twice }
    }

    /// With fewer tears at each operation, unless more are asked for.
    pub fn sparing(mut self, at_once: usize) -> Self {
        if self.tears == 2 {
            self.at_once = at_once;
        }
        self
    }

    /// The tears at one operation.
    fn tears(&self, at: usize) -> impl Iterator<Item = Tear> {
        let all = Tear::several(self.seed.wrapping_add(at as u64), self.tears);
        let first = if self.at_once < all.len() { at * self.at_once } else { 0 };
        let count = self.at_once.min(all.len());
        (first..first + count).map(move |n| all[n % all.len()])
    }
}

/// What went wrong, at which cut.
struct Failures {
    name: &'static str,
    found: Vec<String>,
    cuts: usize,
}

impl Failures {
    /// One cut: `check` panics if it finds something wrong.
    fn cut(&mut self, what: impl FnOnce() -> String, check: impl FnOnce()) -> bool {
        self.cuts += 1;
        let Err(panic) = catch_unwind(AssertUnwindSafe(check)) else { return true };
        let why = panic.downcast_ref::<String>().cloned();
        let why = why.or_else(|| panic.downcast_ref::<&str>().map(|&text| text.to_owned()));
        let failure = format!("{}: {}: {}", self.name, what(), why.unwrap_or_default());
        println!("FAILED {failure}");
        self.found.push(failure);
        false
    }
}

/// Cuts the subject's run everywhere.
pub fn everywhere<S: Subject>(name: &'static str, subject: &S, effort: Effort) {
    let Some(rack) = Rack::or_skip(name) else { return };
    println!("{name}: seed {}", effort.seed);
    let (ops, notes) = record(&rack, Disk::default(), |folder, notes| subject.work(folder, notes));
    let mut failures = Failures { name, found: Vec::new(), cuts: 0 };
    let mut disk = Disk::default();
    for at in 0..=ops.len() {
        if at > 0 {
            disk.apply(&ops[at - 1]).unwrap();
        }
        let known = up_to(&notes, at);
        let place = || format!("operation {at} of {} ({:?})", ops.len(), short(ops.get(at)));
        let seed = effort.seed.wrapping_add(at as u64);
        for tear in effort.tears(at) {
            failures.cut(
                || format!("power, {tear:?}, {}", place()),
                || start(&rack, subject, disk.after_power_loss(tear), &known),
            );
        }
        if at % effort.process == 0 {
            end_of_process(
                &rack,
                subject,
                disk.clone(),
                &known,
                seed,
                "process",
                &mut failures,
                &place,
            );
        }
        if let Some(Op::Sync { node }) = ops.get(at).filter(|op| is_of_a_file(&disk, op)) {
            let mut failed = disk.clone();
            failed.apply(&Op::FailedSync { file: *node, seed }).unwrap();
            end_of_process(&rack, subject, failed, &known, seed, "sync", &mut failures, &place);
        }
        if at % effort.twice == effort.twice / 2 {
            twice(&rack, subject, &disk, &known, seed, &mut failures, &place);
        }
    }
    println!("{name}: {} operations, {} cuts", ops.len(), failures.cuts);
    assert!(ops.len() > 20, "too small a run");
    let found = &failures.found;
    assert!(found.is_empty(), "{} of {} cuts:\n{}", found.len(), failures.cuts, found.join("\n"));
}

fn is_of_a_file(disk: &Disk, op: &Op) -> bool {
    matches!(op, Op::Sync { node } if !disk.is_folder(*node))
}

/// An operation without its bytes.
fn short(op: Option<&Op>) -> String {
    match op {
        Some(Op::Write { file, offset, bytes }) => {
            format!("write {} bytes at {offset} of {file}", bytes.len())
        }
        Some(op) => format!("{op:?}"),
        None => "the end".into(),
    }
}

type Recorded<N> = (Vec<Op>, Vec<(usize, N)>);

fn record<N>(rack: &Rack, disk: Disk, run: impl FnOnce(&Path, Notes<'_, N>)) -> Recorded<N> {
    let inserted = rack.insert(disk);
    inserted.record();
    let mut notes = Vec::new();
    run(inserted.path(), &mut |note| notes.push((inserted.done() as usize, note)));
    (inserted.recorded(), notes)
}

fn up_to<N: Clone>(notes: &[(usize, N)], at: usize) -> Vec<N> {
    notes.iter().filter(|(done, _)| *done <= at).map(|(_, note)| note.clone()).collect()
}

fn start<S: Subject>(rack: &Rack, subject: &S, disk: Disk, known: &[S::Note]) {
    let inserted = rack.insert(disk);
    subject.start(inserted.path(), known, None);
}

#[allow(clippy::too_many_arguments)]
fn end_of_process<S: Subject>(
    rack: &Rack,
    subject: &S,
    disk: Disk,
    known: &[S::Note],
    seed: u64,
    how: &str,
    failures: &mut Failures,
    place: &dyn Fn() -> String,
) {
    let inserted = rack.insert(disk);
    let mut more = known.to_vec();
    let went_on = failures.cut(
        || format!("{how}, {}", place()),
        || subject.start(inserted.path(), known, Some(&mut |note| more.push(note))),
    );
    for tear in [Tear::Nothing, Tear::Some(seed)].into_iter().filter(|_| went_on) {
        failures.cut(
            || format!("{how}, then power, {tear:?}, {}", place()),
            || start(rack, subject, inserted.after_power_loss(tear), &more),
        );
    }
}

fn twice<S: Subject>(
    rack: &Rack,
    subject: &S,
    disk: &Disk,
    known: &[S::Note],
    seed: u64,
    failures: &mut Failures,
    place: &dyn Fn() -> String,
) {
    let first = disk.after_power_loss(Tear::Some(seed));
    let (ops, notes) = record(rack, first.clone(), |folder, notes| {
        for note in known {
            notes(note.clone());
        }
        subject.start(folder, known, Some(notes));
    });
    let mut disk = first;
    for at in 0..=ops.len() {
        if at > 0 {
            disk.apply(&ops[at - 1]).unwrap();
        }
        let known = up_to(&notes, at);
        for tear in [Tear::Nothing, Tear::Some(seed.wrapping_add(at as u64))] {
            failures.cut(
                || format!("{}, then at {at} of {} after it, {tear:?}", place(), ops.len()),
                || start(rack, subject, disk.after_power_loss(tear), &known),
            );
        }
    }
}
