//! The files of the log: their names, spare ones made beforehand, and the end of old ones.

use std::io;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, Mutex, PoisonError};

use super::disk::{Disk, DiskFile};

/// A file that is part of the log.
pub struct Segment {
    pub file: Arc<dyn DiskFile>,
    /// The greatest index of an entry in it.
    pub last_index: Option<u64>,
    pub len: u64,
}

/// A file that can become a segment.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Spare {
    pub name: String,
    pub len: u64,
}

impl Spare {
    pub fn is_name(name: &str) -> bool {
        name.starts_with("spare-") && !name.ends_with(UNFINISHED)
    }
}

/// The end of the name of a file that is still being made.
pub const UNFINISHED: &str = ".new";
/// Spares kept; more are removed.
const KEPT_SPARES: usize = 2;

pub fn file_name(number: u64) -> String {
    format!("{number:020}.log")
}

pub fn parse_name(name: &str) -> Option<u64> {
    let digits = name.strip_suffix(".log")?;
    (digits.len() == 20).then(|| digits.parse().ok())?
}

/// A segment that the log has no use for any more.
pub struct Retired {
    pub number: u64,
    pub segment: Segment,
}

enum Job {
    MakeSpare,
    Retire(Vec<Retired>),
}

/// Makes spare segments and takes away old ones, on a thread of its own: neither is to keep a
/// commit waiting.
pub struct Janitor {
    disk: Arc<dyn Disk>,
    segment_bytes: u64,
    spares: Mutex<Vec<Spare>>,
    made: Mutex<u64>,
}

/// The way to give the janitor something to do.
pub struct JanitorJobs {
    janitor: Arc<Janitor>,
    /// `None`: it is done at once, by whoever asks.
    jobs: Option<Sender<Job>>,
}

impl JanitorJobs {
    /// # Errors
    /// The thread could not be started.
    pub fn start(
        disk: Arc<dyn Disk>,
        segment_bytes: u64,
        mut spares: Vec<Spare>,
        background: bool,
    ) -> io::Result<Self> {
        spares.retain(|spare| spare.len == segment_bytes);
        let made = spares.iter().filter_map(|s| s.name.strip_prefix("spare-")?.parse().ok());
        let made = Mutex::new(made.max().unwrap_or(0));
        let janitor = Arc::new(Janitor { disk, segment_bytes, spares: Mutex::new(spares), made });
        let jobs = if background {
            let (sender, receiver) = channel();
            let worker = Arc::clone(&janitor);
            std::thread::Builder::new()
                .name("raft-log-files".into())
                .spawn(move || worker.run(&receiver))?;
            Some(sender)
        } else {
            None
        };
        let this = Self { janitor, jobs };
        this.give(Job::MakeSpare)?;
        Ok(this)
    }

    /// A file of at least `len` bytes that no record of this log's life is in.
    pub fn take(&self, len: u64) -> io::Result<(Spare, Arc<dyn DiskFile>)> {
        if len <= self.janitor.segment_bytes {
            let spare = lock(&self.janitor.spares).pop();
            self.give(Job::MakeSpare)?;
            if let Some(spare) = spare {
                let file = self.janitor.disk.open(&spare.name)?;
                return Ok((spare, file));
            }
        }
        let spare = self.janitor.make(len.max(self.janitor.segment_bytes))?;
        let file = self.janitor.disk.open(&spare.name)?;
        Ok((spare, file))
    }

    /// Takes away segments, the oldest first.
    pub fn retire(&self, retired: Vec<Retired>) -> io::Result<()> {
        if retired.is_empty() { Ok(()) } else { self.give(Job::Retire(retired)) }
    }

    fn give(&self, job: Job) -> io::Result<()> {
        match &self.jobs {
            // Without the worker the log still works: spares are made when needed, and old files
            // stay until the next start.
            Some(jobs) => {
                let _ = jobs.send(job);
                Ok(())
            }
            None => match job {
                Job::MakeSpare => Ok(()),
                Job::Retire(retired) => self.janitor.retire(retired),
            },
        }
    }
}

impl Janitor {
    fn run(&self, jobs: &Receiver<Job>) {
        for job in jobs {
            let done = match job {
                Job::MakeSpare if lock(&self.spares).is_empty() => {
                    self.make(self.segment_bytes).map(|spare| lock(&self.spares).push(spare))
                }
                Job::MakeSpare => Ok(()),
                Job::Retire(retired) => self.retire(retired),
            };
            // Neither is needed for what was acknowledged; the writer meets the cause itself.
            if let Err(error) = done {
                tracing::warn!(%error, "the files of the Raft log could not be tidied");
            }
        }
    }

    fn make(&self, len: u64) -> io::Result<Spare> {
        let name = self.spare_name();
        let unfinished = format!("{name}{UNFINISHED}");
        self.disk.create(&unfinished, len)?;
        self.disk.rename(&unfinished, &name)?;
        Ok(Spare { name, len })
    }

    fn spare_name(&self) -> String {
        let mut made = lock(&self.made);
        *made += 1;
        format!("spare-{made}")
    }

    fn retire(&self, retired: Vec<Retired>) -> io::Result<()> {
        for Retired { number, segment } in retired {
            let name = file_name(number);
            let len = segment.len;
            // A reader that still holds the file must not see it written anew.
            let unused = Arc::strong_count(&segment.file) == 1;
            let few = lock(&self.spares).len() < KEPT_SPARES;
            let reuse = unused && few && len == self.segment_bytes;
            let spare = Spare { name: self.spare_name(), len };
            if reuse {
                self.disk.rename(&name, &spare.name)?;
            } else {
                self.disk.remove(&name)?;
            }
            // One after the other: a gap between segments would be damage; and before the file is
            // written to: under its old name the new header would be.
            self.disk.sync_folder()?;
            if reuse {
                lock(&self.spares).push(spare);
            }
        }
        Ok(())
    }
}

fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
