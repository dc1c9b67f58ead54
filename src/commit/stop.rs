//! The end of the process where nothing can be tidied up any more (Rule 7).
//!
//! Where the shm is mapped through the mount, the kernel waits for this process to answer while it
//! takes the process apart, which it then never gets: the mount is ended first (bounded-answer).

use std::sync::Mutex;

use super::lock;

/// `EX_SOFTWARE`: the supervisor restarts the daemon, which recovers.
const EXIT_RECOVER: i32 = 70;

type Action = Box<dyn FnOnce() + Send>;

static LAST: Mutex<Option<Action>> = Mutex::new(None);

/// Sets what is done right before this process stops to recover: the end of its mount.
pub fn before_stopping(action: impl FnOnce() + Send + 'static) {
    *lock(&LAST) = Some(Box::new(action));
}

/// Stops; the next start recovers from the log.
pub(super) fn stop_to_recover() -> ! {
    let last = lock(&LAST).take();
    if let Some(last) = last {
        last();
    }
    std::process::exit(EXIT_RECOVER)
}
