//! What a durable append costs, beside the disk's own fdatasync. Run by hand.

use std::time::{Duration, Instant};

use super::disk::Disk as _;
use super::disk::{DiskFile, Folder};
use super::tests::{entry, wait};
use super::*;
use crate::raft::NoStagedFiles;

fn median(mut times: Vec<Duration>) -> Duration {
    times.sort();
    times[times.len() / 2]
}

#[test]
#[ignore = "a measurement, not a test"]
fn durable_append() {
    const COUNT: u64 = 2_000;
    // On the disk of the project, not in a file system in memory.
    let folder = tempfile::tempdir_in(env!("CARGO_MANIFEST_DIR")).unwrap();
    let disk = Folder::new(folder.path()).unwrap();
    let file = disk.create("bare", 16 << 20).unwrap();
    let bare = (0..COUNT).map(|i| {
        let began = Instant::now();
        file.write_all_at(&[7; 600], i * 600).unwrap();
        file.sync().unwrap();
        began.elapsed()
    });
    let bare = median(bare.collect());
    let grown = std::fs::File::create(folder.path().join("grown")).unwrap();
    let growing = (0..COUNT).map(|i| {
        let began = Instant::now();
        DiskFile::write_all_at(&grown, &[7; 600], i * 600).unwrap();
        grown.sync().unwrap();
        began.elapsed()
    });
    let growing = median(growing.collect());
    let staged = Arc::new(NoStagedFiles);
    let log = Log::open(Arc::new(disk), LogConfig::default(), staged, Arc::new(|_| {})).unwrap();
    let append = (0..COUNT).map(|index| {
        let began = Instant::now();
        assert!(wait(|done| log.append(vec![entry(1, index, 500)], done)));
        began.elapsed()
    });
    let append = median(append.collect());
    println!("write and fdatasync, prepared file: {bare:?}");
    println!("write and fdatasync, growing file:  {growing:?}");
    println!("durable append to the log:          {append:?}");
}
