//! The formats, against models and against the SQLite that is built in.

mod formats;
mod index_model;
mod live;
mod memory;
