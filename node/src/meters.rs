//! What this life of a node has done and how long it took, counted for Prometheus and served on the health port. Counts are for
//! people who watch: nothing is decided by them. `docs/metrics.md` lists them.

use ferry_common::{failure::Code, spans};
use prometheus_client::{
    encoding::{EncodeLabelSet, text::encode},
    metrics::{counter::Counter, family::Family, gauge::Gauge, histogram::Histogram},
    registry::Registry,
};
use std::{
    sync::{
        Mutex, PoisonError, Weak,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

/// Bounds of the time that a block takes to staging, in seconds.
const BLOCK_SECONDS: [f64; 11] = [0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 15.0, 60.0];

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct OfCode {
    code: &'static str,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct OfStatus {
    status: String,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct OfVersion {
    version: &'static str,
}

/// A number that an attempt counts up, and how much of it was taken over.
#[derive(Debug)]
struct Source {
    counts: Weak<AtomicU64>,
    taken: u64,
}

impl Source {
    /// What has come since the last time; `None`: nothing will any more.
    fn take(&mut self) -> Option<u64> {
        let now = self.counts.upgrade()?.load(Ordering::Relaxed);
        let new = now.saturating_sub(self.taken);
        self.taken = now;
        Some(new)
    }
}

/// The counts.
#[derive(Debug)]
pub(crate) struct Meters {
    registry: Registry,
    slots: Gauge,
    busy: Gauge,
    link_up: Gauge,
    read_bytes: Counter,
    reading: Mutex<Vec<Source>>,
    staged_bytes: Counter,
    block_seconds: Histogram,
    block_failures: Family<OfCode, Counter>,
    attempts_failed: Family<OfCode, Counter>,
    link_failures: Family<OfStatus, Counter>,
    spans_dropped: Counter,
}

impl Default for Meters {
    fn default() -> Self {
        let meters = Self {
            registry: Registry::default(),
            slots: Gauge::default(),
            busy: Gauge::default(),
            link_up: Gauge::default(),
            read_bytes: Counter::default(),
            reading: Mutex::default(),
            staged_bytes: Counter::default(),
            block_seconds: Histogram::new(BLOCK_SECONDS),
            block_failures: Family::default(),
            attempts_failed: Family::default(),
            link_failures: Family::default(),
            spans_dropped: Counter::default(),
        };
        // A series that is not there before its first event hides that event from `increase`.
        for code in Code::ALL {
            meters.attempts_failed.get_or_create(&OfCode { code: code.as_str() }).inc_by(0);
            meters.block_failures.get_or_create(&OfCode { code: code.as_str() }).inc_by(0);
        }
        // The one that a coordinator which is away gives.
        meters.link_failures.get_or_create(&OfStatus { status: "Unavailable".to_owned() }).inc_by(0);
        meters.registered()
    }
}

impl Meters {
    fn registered(mut self) -> Self {
        let r = &mut self.registry;
        let info = Family::<OfVersion, Gauge>::default();
        info.get_or_create(&OfVersion { version: env!("CARGO_PKG_VERSION") }).set(1);
        r.register("ferry_node_build_info", "The program's version; always 1", info);
        r.register("ferry_node_slots", "Attempts that the node runs at once at most", self.slots.clone());
        r.register("ferry_node_slots_busy", "Attempts that run", self.busy.clone());
        r.register("ferry_node_link_up", "1: the coordinator was heard within 30 s; else 0", self.link_up.clone());
        r.register("ferry_node_read_bytes", "Bytes read of sources, as stored", self.read_bytes.clone());
        r.register("ferry_node_staged_bytes", "Bytes of blocks that staging has taken", self.staged_bytes.clone());
        let block = "Time that a block takes to staging, repeats by the storage client with it";
        r.register("ferry_node_block_duration_seconds", block, self.block_seconds.clone());
        let blocks = "Blocks that staging has not taken, by code of the failure";
        r.register("ferry_node_block_failures", blocks, self.block_failures.clone());
        let attempts = "Attempts that failed, by code of the failure; most are tried again";
        r.register("ferry_node_attempts_failed", attempts, self.attempts_failed.clone());
        let link = "Calls to the coordinator that failed and are made again, by status of gRPC";
        r.register("ferry_node_link_failures", link, self.link_failures.clone());
        let spans = "Spans that no collector has taken";
        r.register("ferry_node_trace_spans_dropped", spans, self.spans_dropped.clone());
        self
    }

    /// The node has so many slots.
    pub(crate) fn slots(&self, count: u32) {
        self.slots.set(i64::from(count));
    }

    /// So many of them are taken.
    pub(crate) fn busy(&self, count: usize) {
        self.busy.set(i64::try_from(count).unwrap_or(i64::MAX));
    }

    /// Counts what an attempt reads, until its number is dropped.
    pub(crate) fn follow_reading(&self, counts: Weak<AtomicU64>) {
        self.reading.lock().unwrap_or_else(PoisonError::into_inner).push(Source { counts, taken: 0 });
    }

    /// Takes over what attempts have read. Called before the number of one is dropped, or its last part is not counted.
    pub(crate) fn take_readings(&self) {
        let mut all = self.reading.lock().unwrap_or_else(PoisonError::into_inner);
        all.retain_mut(|source| source.take().map(|new| self.read_bytes.inc_by(new)).is_some());
    }

    /// A block went to staging.
    pub(crate) fn block(&self, bytes: u64, took: Duration, failure: Option<Code>) {
        self.block_seconds.observe(took.as_secs_f64());
        match failure {
            None => {
                self.staged_bytes.inc_by(bytes);
            }
            Some(code) => {
                self.block_failures.get_or_create(&OfCode { code: code.as_str() }).inc();
            }
        }
    }

    /// An attempt failed.
    pub(crate) fn attempt_failed(&self, code: Code) {
        self.attempts_failed.get_or_create(&OfCode { code: code.as_str() }).inc();
    }

    /// A call to the coordinator failed.
    pub(crate) fn link_failed(&self, status: tonic::Code) {
        self.link_failures.get_or_create(&OfStatus { status: format!("{status:?}") }).inc();
    }

    /// Everything, in the text form of OpenMetrics.
    pub(crate) fn render(&self, is_linked: bool) -> String {
        self.take_readings();
        self.link_up.set(i64::from(is_linked));
        self.spans_dropped.inc_by(spans::dropped().saturating_sub(self.spans_dropped.get()));
        let mut text = String::new();
        // Writing to memory does not fail.
        let _ = encode(&mut text, &self.registry);
        text
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::Arc;

    #[test]
    fn what_attempts_read_is_counted_while_they_run_and_when_they_have_ended() {
        let meters = Meters::default();
        let (first, second) = (Arc::new(AtomicU64::new(0)), Arc::new(AtomicU64::new(0)));
        meters.follow_reading(Arc::downgrade(&first));
        meters.follow_reading(Arc::downgrade(&second));
        first.store(100, Ordering::Relaxed);
        assert!(meters.render(true).contains("\nferry_node_read_bytes_total 100\n"));
        first.store(150, Ordering::Relaxed);
        second.store(7, Ordering::Relaxed);
        meters.take_readings();
        drop((first, second));
        let text = meters.render(false);
        assert!(text.contains("\nferry_node_read_bytes_total 157\n"), "{text}");
        assert!(text.contains("\nferry_node_link_up 0\n"), "{text}");
        assert!(meters.reading.lock().unwrap().is_empty(), "ended attempts are forgotten");
    }

    #[test]
    fn a_block_that_failed_is_not_staged() {
        let meters = Meters::default();
        meters.block(10, Duration::from_millis(40), None);
        meters.block(20, Duration::from_secs(2), Some(Code::StagingFull));
        let text = meters.render(true);
        assert!(text.contains("\nferry_node_staged_bytes_total 10\n"), "{text}");
        assert!(text.contains("ferry_node_block_failures_total{code=\"StagingFull\"} 1"), "{text}");
        assert!(text.contains("ferry_node_block_duration_seconds_count 2"), "{text}");
    }
}
