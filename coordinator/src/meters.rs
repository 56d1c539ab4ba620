//! What this life of the coordinator has done and how long it took, counted for Prometheus. Counts are for people who watch:
//! nothing is decided by them, and they begin at nothing with each start. `docs/metrics.md` lists them.

use ferry_common::{failure::Code, unit::Counters};
use prometheus_client::{
    encoding::{EncodeLabelSet, text::encode_registry},
    metrics::{counter::Counter, family::Family, histogram::Histogram},
    registry::Registry,
};
use std::time::Duration;

/// Bounds of a store's commits, in seconds.
const COMMIT_SECONDS: [f64; 10] = [0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 1.0, 5.0];
/// Bounds of a request's answer, in seconds.
const REQUEST_SECONDS: [f64; 10] = [0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 5.0, 30.0];
/// States in which runs end.
const END_STATES: [&str; 4] = ["Succeeded", "Failed", "Cancelled", "Planned"];

/// How a sending of an ingest command went on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum CommandOutcome {
    /// It was sent.
    Sent,
    /// Its rows are in the table.
    Confirmed,
    /// It was refused for good.
    Rejected,
    /// The cluster was busy: it is sent again.
    Throttled,
    /// It had no effect for another reason: it is sent again.
    Postponed,
    /// Whether it had an effect has to be asked for.
    Unknown,
}

impl CommandOutcome {
    const ALL: [Self; 6] =
        [Self::Sent, Self::Confirmed, Self::Rejected, Self::Throttled, Self::Postponed, Self::Unknown];

    fn name(self) -> &'static str {
        match self {
            Self::Sent => "sent",
            Self::Confirmed => "confirmed",
            Self::Rejected => "rejected",
            Self::Throttled => "throttled",
            Self::Postponed => "postponed",
            Self::Unknown => "unknown",
        }
    }
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct OfState {
    state: &'static str,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct OfCode {
    code: &'static str,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct OfOutcome {
    outcome: &'static str,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct OfRoute {
    method: &'static str,
    /// The template of the path, such as `/api/v1/runs/{run}`: never the path itself.
    route: String,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct OfStatus {
    status: u16,
}

fn request_histogram() -> Histogram {
    Histogram::new(REQUEST_SECONDS)
}

/// The counts.
#[derive(Debug)]
pub(crate) struct Meters {
    registry: Registry,
    read_bytes: Counter,
    staged_bytes: Counter,
    written_bytes: Counter,
    rows_read: Counter,
    rows_skipped: Counter,
    rows_visible: Counter,
    runs_ended: Family<OfState, Counter>,
    runs_failed: Family<OfCode, Counter>,
    attempts_failed: Family<OfCode, Counter>,
    leases_expired: Counter,
    command_outcomes: Family<OfOutcome, Counter>,
    sink_throttles: Counter,
    commit_seconds: Histogram,
    commit_conflicts: Counter,
    commit_failures: Counter,
    request_seconds: Family<OfRoute, Histogram>,
    request_errors: Family<OfStatus, Counter>,
    sign_in_failures: Counter,
}

impl Default for Meters {
    fn default() -> Self {
        let meters = Self {
            registry: Registry::default(),
            read_bytes: Counter::default(),
            staged_bytes: Counter::default(),
            written_bytes: Counter::default(),
            rows_read: Counter::default(),
            rows_skipped: Counter::default(),
            rows_visible: Counter::default(),
            runs_ended: Family::default(),
            runs_failed: Family::default(),
            attempts_failed: Family::default(),
            leases_expired: Counter::default(),
            command_outcomes: Family::default(),
            sink_throttles: Counter::default(),
            commit_seconds: Histogram::new(COMMIT_SECONDS),
            commit_conflicts: Counter::default(),
            commit_failures: Counter::default(),
            request_seconds: Family::<OfRoute, Histogram>::new_with_constructor(request_histogram),
            request_errors: Family::default(),
            sign_in_failures: Counter::default(),
        };
        meters.begin_at_zero();
        meters.registered()
    }
}

impl Meters {
    /// A series that is not there before its first event hides that event from `increase`.
    fn begin_at_zero(&self) {
        for state in END_STATES {
            self.runs_ended.get_or_create(&OfState { state }).inc_by(0);
        }
        for code in Code::ALL {
            let label = OfCode { code: code.as_str() };
            self.runs_failed.get_or_create(&label).inc_by(0);
            self.attempts_failed.get_or_create(&label).inc_by(0);
        }
        for outcome in CommandOutcome::ALL {
            self.command_outcomes.get_or_create(&OfOutcome { outcome: outcome.name() }).inc_by(0);
        }
    }

    fn registered(mut self) -> Self {
        let r = &mut self.registry;
        let bytes = "Bytes of sources that nodes have read, as stored; what is read again counts again";
        r.register("ferry_read_bytes", bytes, self.read_bytes.clone());
        r.register("ferry_staged_bytes", "Bytes of staging blobs that were accepted", self.staged_bytes.clone());
        let written = "Bytes of records, before compression, whose ingestion was confirmed";
        r.register("ferry_written_bytes", written, self.written_bytes.clone());
        r.register("ferry_rows_read", "Rows read of units that were staged", self.rows_read.clone());
        r.register("ferry_rows_skipped", "Rows left out of units that were staged", self.rows_skipped.clone());
        r.register("ferry_rows_visible", "Rows that became visible in tables", self.rows_visible.clone());
        r.register("ferry_runs_ended", "Runs that ended, by state", self.runs_ended.clone());
        r.register("ferry_runs_failed", "Runs that failed, by code of the failure", self.runs_failed.clone());
        let failed = "Attempts that failed, by code of the failure";
        r.register("ferry_attempts_failed", failed, self.attempts_failed.clone());
        let expired = "Leases that ended because their node went silent";
        r.register("ferry_leases_expired", expired, self.leases_expired.clone());
        let outcomes = "Sendings of ingest commands, and how they went on";
        r.register("ferry_command_outcomes", outcomes, self.command_outcomes.clone());
        r.register("ferry_sink_throttles", "Answers of clusters that they are busy", self.sink_throttles.clone());
        let commit = "Time of a commit to the store";
        r.register("ferry_store_commit_duration_seconds", commit, self.commit_seconds.clone());
        let conflicts = "Commits that found a row changed by another writer, and were made again";
        r.register("ferry_store_conflicts", conflicts, self.commit_conflicts.clone());
        r.register("ferry_store_failures", "Commits that failed", self.commit_failures.clone());
        let requests = "Time to the head of the answer to a request of a program";
        r.register("ferry_api_request_duration_seconds", requests, self.request_seconds.clone());
        let errors = "Answers to programs with a status of 400 or more";
        r.register("ferry_api_errors", errors, self.request_errors.clone());
        let sign_ins = "Requests with a token that is not known, ended or was revoked";
        r.register("ferry_sign_in_failures", sign_ins, self.sign_in_failures.clone());
        self
    }

    /// All of it as text, without the mark of the end.
    pub(crate) fn encode(&self, text: &mut String) {
        // Writing to memory does not fail.
        let _ = encode_registry(text, &self.registry);
    }

    /// An attempt that had come so far has come farther.
    pub(crate) fn progress(&self, known: Option<Counters>, now: Counters) {
        let known = known.map_or(0, |counters| counters.data_read_bytes);
        self.read_bytes.inc_by(now.data_read_bytes.saturating_sub(known));
    }

    /// A chunk was accepted.
    pub(crate) fn chunk_staged(&self, staged_bytes: u64) {
        self.staged_bytes.inc_by(staged_bytes);
    }

    /// A unit was staged; its last attempt was known to have come so far.
    pub(crate) fn unit_staged(&self, known: Option<Counters>, counters: Counters) {
        self.progress(known, counters);
        self.rows_read.inc_by(counters.rows_read);
        self.rows_skipped.inc_by(counters.rows_skipped);
    }

    /// An attempt failed.
    pub(crate) fn attempt_failed(&self, code: Code) {
        self.attempts_failed.get_or_create(&OfCode { code: code.as_str() }).inc();
        if code == Code::LeaseExpired {
            self.leases_expired.inc();
        }
    }

    /// A run has ended in this state.
    pub(crate) fn run_ended(&self, state: &'static str, failure: Option<Code>) {
        self.runs_ended.get_or_create(&OfState { state }).inc();
        if let Some(code) = failure {
            self.runs_failed.get_or_create(&OfCode { code: code.as_str() }).inc();
        }
    }

    /// Something became of an ingest command.
    pub(crate) fn command(&self, outcome: CommandOutcome) {
        self.command_outcomes.get_or_create(&OfOutcome { outcome: outcome.name() }).inc();
        if outcome == CommandOutcome::Throttled {
            self.throttled();
        }
    }

    /// A cluster said that it is busy.
    pub(crate) fn throttled(&self) {
        self.sink_throttles.inc();
    }

    /// The ingestion of so many bytes was confirmed.
    pub(crate) fn written(&self, bytes: u64) {
        self.written_bytes.inc_by(bytes);
    }

    /// So many rows became visible.
    pub(crate) fn visible(&self, rows: u64) {
        self.rows_visible.inc_by(rows);
    }

    /// The store was written to.
    pub(crate) fn commit(&self, took: Duration, is_conflict: bool, has_failed: bool) {
        self.commit_seconds.observe(took.as_secs_f64());
        self.commit_conflicts.inc_by(u64::from(is_conflict));
        self.commit_failures.inc_by(u64::from(has_failed));
    }

    /// A program was answered.
    pub(crate) fn request(&self, method: &str, route: String, took: Duration, status: u16) {
        let method = ["GET", "POST", "DELETE", "PUT", "HEAD"].into_iter().find(|known| *known == method);
        let label = OfRoute { method: method.unwrap_or("other"), route };
        self.request_seconds.get_or_create(&label).observe(took.as_secs_f64());
        if status >= 400 {
            self.request_errors.get_or_create(&OfStatus { status }).inc();
        }
    }

    /// A token was refused.
    pub(crate) fn sign_in_failed(&self) {
        self.sign_in_failures.inc();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text_of(meters: &Meters) -> String {
        let mut text = String::new();
        meters.encode(&mut text);
        text
    }

    #[test]
    fn what_is_read_counts_once_however_often_it_is_told() {
        let meters = Meters::default();
        let read = |bytes| Counters { data_read_bytes: bytes, rows_read: bytes / 10, ..Counters::default() };
        meters.progress(None, read(100));
        meters.progress(Some(read(100)), read(250));
        meters.unit_staged(Some(read(250)), read(300));
        // Another attempt, which begins again.
        meters.progress(None, read(50));
        let text = text_of(&meters);
        assert!(text.contains("\nferry_read_bytes_total 350\n"), "{text}");
        assert!(text.contains("\nferry_rows_read_total 30\n"), "{text}");
    }

    #[test]
    fn series_are_there_before_anything_happens() {
        let meters = Meters::default();
        let text = text_of(&meters);
        for line in [
            "ferry_runs_ended_total{state=\"Failed\"} 0",
            "ferry_attempts_failed_total{code=\"SourceChanged\"} 0",
            "ferry_command_outcomes_total{outcome=\"throttled\"} 0",
            "ferry_leases_expired_total 0",
        ] {
            assert!(text.lines().any(|l| l == line), "{line}:\n{text}");
        }
        meters.attempt_failed(Code::LeaseExpired);
        meters.command(CommandOutcome::Throttled);
        let text = text_of(&meters);
        assert!(
            text.contains("ferry_leases_expired_total 1") && text.contains("ferry_sink_throttles_total 1"),
            "{text}"
        );
    }

    #[test]
    fn a_method_that_nobody_knows_makes_no_series_of_its_own() {
        let meters = Meters::default();
        meters.request("BREW", "other".to_owned(), Duration::from_millis(3), 405);
        let text = text_of(&meters);
        assert!(text.contains("method=\"other\"") && !text.contains("BREW"), "{text}");
        assert!(text.contains("ferry_api_errors_total{status=\"405\"} 1"), "{text}");
    }
}
