//! The data folder: whether it can be written, its space, and how fast the disk keeps its word.

use std::fs::File;
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use super::super::output::size;
use super::Check;

/// Each COMMIT waits for two nodes' disks to sync.
const SLOW: Duration = Duration::from_millis(10);
const SYNCS: usize = 20;
/// What a write of the log is at least.
const WRITTEN: [u8; 4096] = [0x5a; 4096];
/// Less than this is little: the log alone may take some hundred MiB.
const LITTLE: u64 = 1 << 30;
/// Kept in memory, and gone with the power.
const TMPFS: i64 = 0x0102_1994;

pub fn look(data: &Path) -> Vec<Check> {
    let Some(folder) = existing(data) else {
        let found = format!("{}: no folder above it exists", data.display());
        return vec![Check::wrong("data folder", found, "see data_dir in the configuration")];
    };
    let shown = if folder == data {
        data.display().to_string()
    } else {
        format!("{} will be made in {}", data.display(), folder.display())
    };
    match measure(&folder) {
        Err(error) => {
            let found = format!("{}: {error}", folder.display());
            vec![Check::wrong(
                "data folder",
                found,
                "the node's user has to be able to write there",
            )]
        }
        Ok(sync) => vec![kind(&folder, shown), space(&folder), speed(sync)],
    }
}

/// The folder, or the nearest above it.
fn existing(data: &Path) -> Option<PathBuf> {
    data.ancestors().find(|folder| folder.is_dir()).map(Path::to_owned)
}

fn kind(folder: &Path, shown: String) -> Check {
    let name = "data folder";
    match rustix::fs::statfs(folder) {
        Ok(stat) if stat.f_type == TMPFS => Check::warning(
            name,
            format!("{shown} is in memory (tmpfs)"),
            "what is there is gone with the power: choose a folder on a disk",
        ),
        _ => Check::fine(name, shown),
    }
}

fn space(folder: &Path) -> Check {
    let name = "disk space";
    let Ok(stat) = rustix::fs::statvfs(folder) else {
        return Check::warning(name, "not known", "df");
    };
    let free = stat.f_bavail.saturating_mul(stat.f_frsize);
    let all = stat.f_blocks.saturating_mul(stat.f_frsize);
    let found = format!("{} of {} free", size(free), size(all));
    if free < LITTLE || free < all / 20 {
        let advice = "a full disk takes the node out of the cluster until there is space again";
        return Check::warning(name, found, advice);
    }
    Check::fine(name, found)
}

fn speed(sync: Duration) -> Check {
    let name = "disk speed";
    let found = format!("a sync takes {:.2} ms", sync.as_secs_f64() * 1e3);
    if sync > SLOW {
        let advice = "each COMMIT waits for the disks of a majority: an SSD with power-loss \
                      protection syncs in well below a millisecond";
        return Check::warning(name, found, advice);
    }
    Check::fine(name, found)
}

/// The time of a write with its sync, in the median of some.
fn measure(folder: &Path) -> io::Result<Duration> {
    let path = folder.join(format!(".doctor-{}", std::process::id()));
    let mut file = File::options().create_new(true).write(true).open(&path)?;
    // It has no name any more, whatever happens here.
    std::fs::remove_file(&path)?;
    let mut times = Vec::with_capacity(SYNCS);
    for _ in 0..SYNCS {
        let begun = Instant::now();
        file.write_all(&WRITTEN)?;
        file.sync_data()?;
        times.push(begun.elapsed());
    }
    times.sort_unstable();
    Ok(times.get(SYNCS / 2).copied().unwrap_or_default())
}
