//! The captures against models, and the cases that no recording has. Recorded operations of SQLite
//! are replayed by `tests/capture_recorded.rs`.

mod journal_cases;
mod wal_cases;
mod wal_model;
