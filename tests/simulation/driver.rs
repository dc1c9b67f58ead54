//! Many seeds, each in a process of its own.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

/// What one seed may take, of the real time.
const LONGEST: Duration = Duration::from_secs(180);

struct Asked {
    first: u64,
    end: u64,
    one: Option<u64>,
    verbose: bool,
    twice: u64,
}

fn asked() -> Result<Asked, String> {
    let mut asked = Asked { first: 0, end: 200, one: None, verbose: false, twice: 10 };
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

fn trace(output: &str) -> Option<String> {
    let line = output.lines().find(|line| line.starts_with("seed "))?;
    Some(line.rsplit_once("trace ")?.1.to_owned())
}

fn many(asked: &Asked) {
    let next = AtomicU64::new(asked.first);
    let results: Mutex<BTreeMap<u64, (bool, String)>> = Mutex::default();
    let begun = Instant::now();
    std::thread::scope(|scope| {
        for _ in 0..2 {
            scope.spawn(|| {
                loop {
                    let seed = next.fetch_add(1, Ordering::Relaxed);
                    if seed >= asked.end {
                        return;
                    }
                    let (good, output) = child(seed, false);
                    crate::say(if good { output.lines().next().unwrap_or_default() } else { output.trim_end() });
                    if !good {
                        crate::say(&format!("SEED {seed} FAILED"));
                    }
                    results.lock().unwrap().insert(seed, (good, output));
                }
            });
        }
    });
    let results = std::mem::take(&mut *results.lock().unwrap());
    let mut failed: Vec<String> = results
        .iter()
        .filter(|(_, (good, _))| !good)
        .map(|(seed, _)| format!("seed {seed}"))
        .collect();
    let mut passed = results.len() - failed.len();
    // A seed runs the same way each time.
    for seed in asked.first..asked.end.min(asked.first + asked.twice) {
        let first = results.get(&seed).and_then(|(_, output)| trace(output));
        let (_, again) = child(seed, false);
        let again = trace(&again);
        if first.is_some() && first == again {
            passed += 1;
        } else {
            failed.push(format!("seed {seed} again: {first:?} and {again:?}"));
        }
    }
    for failed in &failed {
        crate::say(&format!("failed: {failed}"));
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
