//! Reading a database beside those who write it.

use std::time::{Duration, Instant};

use crate::store::StoreError;

/// Between two tries when a writer, or what is being applied, is in the way.
const AGAIN: Duration = Duration::from_millis(20);

/// Tries until nothing is in the way, or it was for too long. Blocks.
///
/// # Errors
/// What kept it off last, or any other error at once.
pub(super) fn patiently<T>(
    patience: Duration,
    mut work: impl FnMut() -> Result<T, StoreError>,
) -> Result<T, StoreError> {
    let deadline = Instant::now() + patience;
    loop {
        match work() {
            Err(StoreError::Busy { .. } | StoreError::Unpublished { .. })
                if Instant::now() < deadline =>
            {
                std::thread::sleep(AGAIN);
            }
            done => return done,
        }
    }
}
