//! Many seeds, each in a process of its own.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use serde_json::Value;

/// Those of `make test`.
const SHORT: std::ops::Range<u64> = 0..200;

/// Beyond them: what once failed.
const KEPT: [u64; 14] =
    [213, 228, 230, 280, 349, 951, 1347, 2686, 3771, 5063, 5230, 6926, 7581, 8247];

/// What one seed may take, of the real time.
const LONGEST: Duration = Duration::from_mins(3);

struct Asked {
    first: u64,
    end: u64,
    one: Option<u64>,
    verbose: bool,
    twice: u64,
    /// Each seed that held is written there, and not run again.
    results: Option<PathBuf>,
    /// No new seed is begun after so many minutes.
    minutes: u64,
}

fn asked() -> Result<Asked, String> {
    let mut asked = Asked {
        first: SHORT.start,
        end: SHORT.end,
        one: None,
        verbose: false,
        twice: 10,
        results: None,
        minutes: 24 * 60,
    };
    let mut arguments = std::env::args().skip(1);
    while let Some(argument) = arguments.next() {
        let mut value = || arguments.next().ok_or_else(|| format!("{argument} wants a value"));
        let number = |text: &str| text.parse::<u64>().map_err(|error| error.to_string());
        match argument.as_str() {
            "--seed" => asked.one = Some(number(&value()?)?),
            "--seeds" => {
                let range = value()?;
                let (first, end) = range.split_once("..").ok_or("--seeds wants FIRST..END")?;
                (asked.first, asked.end) = (number(first)?, number(end)?);
            }
            "--twice" => asked.twice = number(&value()?)?,
            "--results" => asked.results = Some(PathBuf::from(value()?)),
            "--minutes" => asked.minutes = number(&value()?)?,
            "--verbose" => asked.verbose = true,
            // Of cargo test, for other tests' harness.
            _ => {}
        }
    }
    Ok(asked)
}

fn base() -> PathBuf {
    let shm = PathBuf::from("/dev/shm");
    let folder = if shm.is_dir() { shm } else { std::env::temp_dir() };
    folder.join(format!("litefs-py-simulation-{}", std::process::id()))
}

pub fn main() {
    let asked = match asked() {
        Ok(asked) => asked,
        Err(why) => {
            crate::say(&why);
            std::process::exit(2);
        }
    };
    if let Some(seed) = asked.one {
        if let Ok(base) = std::env::var("SIMULATION_BASE") {
            std::panic::set_hook(Box::new(move |panic| {
                crate::os::symbols::die(&format!("seed {seed}: {panic}"), 1);
            }));
            crate::run::run(seed, &PathBuf::from(base), asked.verbose);
        }
        let (good, output) = child(seed, asked.verbose);
        crate::say(&output);
        std::process::exit(i32::from(!good));
    }
    many(&asked);
}

/// Runs one seed in a process of its own: whether it held, and what it said.
fn child(seed: u64, verbose: bool) -> (bool, String) {
    let base = base().join(seed.to_string());
    let _ = std::fs::create_dir_all(&base);
    let Ok(program) = std::env::current_exe() else { return (false, String::new()) };
    let mut command = Command::new(program);
    command.args(["--seed", &seed.to_string()]);
    if verbose {
        command.arg("--verbose");
    }
    command.env("SIMULATION_BASE", &base).stdin(Stdio::null()).stdout(Stdio::piped());
    let output = base.with_extension("out");
    let Ok(file) = std::fs::File::create(&output) else { return (false, String::new()) };
    let Ok(errors) = file.try_clone() else { return (false, String::new()) };
    let Ok(mut child) = command.stdout(file).stderr(errors).spawn() else {
        return (false, "cannot start".into());
    };
    let deadline = Instant::now() + LONGEST;
    let status = loop {
        match child.try_wait() {
            Ok(Some(status)) => break Some(status),
            Ok(None) if Instant::now() < deadline => {
                std::thread::sleep(Duration::from_millis(2));
            }
            _ => {
                let _ = child.kill();
                let _ = child.wait();
                break None;
            }
        }
    };
    let mut text = std::fs::read_to_string(&output).unwrap_or_default();
    if status.is_none() {
        text += "FAILED it hangs: no end within its real time\n";
    }
    let _ = std::fs::remove_dir_all(&base);
    let _ = std::fs::remove_file(&output);
    let _ = std::fs::remove_dir(self::base());
    (status.is_some_and(|status| status.success()), text)
}

/// What a seed that held said of itself.
fn figures(output: &str) -> Option<Value> {
    let line = output.lines().find(|line| line.starts_with('{'))?;
    serde_json::from_str(line).ok()
}

/// The seeds that held in an earlier part of the run.
fn held_before(results: &Path) -> BTreeMap<u64, Value> {
    let text = std::fs::read_to_string(results).unwrap_or_default();
    let lines = text.lines().filter_map(|line| serde_json::from_str::<Value>(line).ok());
    lines.filter_map(|value| Some((value.get("seed")?.as_u64()?, value))).collect()
}

/// Adds up what the seeds counted; of the longest it is the longest.
fn total(all: &BTreeMap<u64, Value>) -> Value {
    let mut sums: BTreeMap<String, u64> = BTreeMap::new();
    let mut gaps = Vec::new();
    for value in all.values() {
        let Some(fields) = value.as_object() else { continue };
        let faults = fields.get("faults").and_then(Value::as_object).into_iter().flatten();
        for (name, count) in fields.iter().chain(faults) {
            let Some(count) = count.as_u64().filter(|_| name != "seed") else { continue };
            let sum = sums.entry(name.clone()).or_default();
            *sum = if name.starts_with("longest") { count.max(*sum) } else { *sum + count };
        }
        gaps.extend(fields.get("longest_gap_ms").and_then(Value::as_u64));
    }
    gaps.sort_unstable();
    for (name, part) in [("gap_ms_median", 50), ("gap_ms_95", 95), ("gap_ms_99", 99)] {
        let at = (gaps.len() * part / 100).min(gaps.len().saturating_sub(1));
        sums.insert(name.to_owned(), gaps.get(at).copied().unwrap_or(0));
    }
    sums.insert("seeds".to_owned(), all.len() as u64);
    serde_json::json!({ "total": sums })
}

fn many(asked: &Asked) {
    let begun = Instant::now();
    let latest = begun + Duration::from_secs(asked.minutes * 60);
    let before = asked.results.as_deref().map(held_before).unwrap_or_default();
    let mut seeds: Vec<u64> = (asked.first..asked.end).collect();
    if (asked.first..asked.end) == SHORT {
        seeds.extend(KEPT);
    }
    let before: BTreeMap<u64, Value> =
        before.into_iter().filter(|(seed, _)| seeds.contains(seed)).collect();
    let known = before.len();
    let next = AtomicUsize::new(0);
    let held: Mutex<BTreeMap<u64, Value>> = Mutex::new(before);
    let failed: Mutex<Vec<String>> = Mutex::default();
    std::thread::scope(|scope| {
        for _ in 0..2 {
            scope.spawn(|| {
                loop {
                    let seed = seeds.get(next.fetch_add(1, Ordering::Relaxed)).copied();
                    let Some(seed) = seed.filter(|_| Instant::now() <= latest) else { return };
                    if !held.lock().unwrap().contains_key(&seed) {
                        one_of_many(asked, seed, &held, &failed);
                    }
                }
            });
        }
    });
    let held = std::mem::take(&mut *held.lock().unwrap());
    let mut failed = std::mem::take(&mut *failed.lock().unwrap());
    let mut passed = held.len();
    // A seed runs the same way each time.
    for seed in asked.first..asked.end.min(asked.first + asked.twice) {
        let Some(first) = held.get(&seed) else { continue };
        let again = figures(&child(seed, false).1);
        if again.as_ref().and_then(|again| again.get("trace")) == first.get("trace") {
            passed += 1;
        } else {
            failed.push(format!("seed {seed} ran another way the second time"));
        }
    }
    let (done, all) = (held.len() + failed.len(), seeds.len());
    if done < all {
        failed.push(format!("{done} of {all} seeds were run; the next run goes on with the rest"));
    }
    for failed in &failed {
        crate::say(&format!("failed: {failed}"));
    }
    crate::say(&total(&held).to_string());
    if known > 0 {
        crate::say(&format!("{known} of them held in an earlier part"));
    }
    let word = if failed.is_empty() { "ok" } else { "FAILED" };
    crate::say(&format!(
        "test result: {word}. {passed} passed; {} failed; 0 ignored; 0 measured; 0 filtered out; \
         finished in {:.2}s",
        failed.len(),
        begun.elapsed().as_secs_f64()
    ));
    std::process::exit(i32::from(!failed.is_empty()));
}

fn one_of_many(
    asked: &Asked,
    seed: u64,
    held: &Mutex<BTreeMap<u64, Value>>,
    failed: &Mutex<Vec<String>>,
) {
    let (good, output) = child(seed, false);
    let figures = figures(&output).filter(|_| good);
    let Some(figures) = figures else {
        crate::say(output.trim_end());
        let again = format!("cargo test --test simulation -- --seed {seed} --verbose");
        crate::say(&format!("seed {seed} FAILED; once more: {again}"));
        failed.lock().unwrap().push(format!("seed {seed}"));
        return;
    };
    crate::say(output.lines().find(|line| line.starts_with("seed ")).unwrap_or_default());
    let mut held = held.lock().unwrap();
    if let Some(results) = &asked.results {
        use std::io::Write;
        let file = std::fs::File::options().create(true).append(true).open(results);
        let _written = file.and_then(|mut file| writeln!(file, "{figures}"));
    }
    held.insert(seed, figures);
}
