//! What an attempt has done so far.

use crate::meters::Meters;
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
    /// The node's.
    pub(crate) meters: Arc<Meters>,
}

impl Progress {
    /// Of an attempt that begins, counted by the node, too.
    pub(crate) fn metered(meters: Arc<Meters>) -> Self {
        let read = Arc::<AtomicU64>::default();
        meters.follow_reading(Arc::downgrade(&read));
        Self {
            read,
            written: AtomicU64::default(),
            staged: Arc::default(),
            rows: AtomicU64::default(),
            skipped: AtomicU64::default(),
            meters,
        }
    }

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
