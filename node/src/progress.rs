//! What an attempt has done so far.

use ferry_common::unit::Counters;
use std::sync::{
    Arc,
    atomic::{AtomicU64, Ordering},
};

/// What an attempt has done so far, for whoever watches.
#[derive(Debug, Default)]
pub(crate) struct Progress {
    pub(crate) read: Arc<AtomicU64>,
    pub(crate) written: AtomicU64,
    pub(crate) staged: Arc<AtomicU64>,
    pub(crate) rows: AtomicU64,
    pub(crate) skipped: AtomicU64,
}

impl Progress {
    /// The counters now.
    pub(crate) fn counters(&self) -> Counters {
        Counters {
            data_read_bytes: self.read.load(Ordering::Relaxed),
            data_written_bytes: self.written.load(Ordering::Relaxed),
            staged_bytes: self.staged.load(Ordering::Relaxed),
            rows_read: self.rows.load(Ordering::Relaxed),
            rows_skipped: self.skipped.load(Ordering::Relaxed),
        }
    }
}
