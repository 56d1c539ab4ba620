//! Spans of runs, for a collector of OpenTelemetry, where one is named. A run is one trace: ids follow from the run's id and from
//! what a span is of, so that coordinators and nodes, before and after a restart, write into the same trace without a word between
//! them.
//!
//! Spans are sent when they have ended, from a bounded queue. What does not fit, or finds no collector, is dropped and counted: a copy
//! never waits for it and never fails by it. They hold ids, names, counts and codes; never a message, a path's content or a secret.

use crate::{
    clock::Millis,
    failure::{Code, redact, with_causes},
    id::{AttemptNumber, ChunkNumber, RunId, UnitNumber},
};
use opentelemetry::{
    InstrumentationScope, KeyValue,
    trace::{SpanContext, SpanId, SpanKind, Status, TraceFlags, TraceId, TraceState},
};
use opentelemetry_otlp::{Protocol, WithExportConfig as _, WithHttpConfig as _};
use opentelemetry_sdk::{
    Resource,
    trace::{SpanData, SpanEvents, SpanExporter as _, SpanLinks},
};
use ring::digest::{SHA256, digest};
use std::{
    sync::{
        Arc, OnceLock,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, SystemTime, UNIX_EPOCH},
};
use tokio::sync::mpsc;

/// Spans that wait to be sent; more are dropped.
const SPANS_WAITING_MAX: usize = 4_096;
/// Spans in one request.
const BATCH_SPANS_MAX: usize = 512;
/// How long a request waits for more spans.
const BATCH_WAIT: Duration = Duration::from_secs(1);
/// Longest request.
const EXPORT_TIMEOUT: Duration = Duration::from_secs(10);
/// How long the end of a program waits for the last spans.
const FLUSH_MAX: Duration = Duration::from_secs(3);
/// Where collectors take traces over HTTP, below their address.
const TRACES_PATH: &str = "/v1/traces";

/// What a span is of.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SpanOf {
    /// The run, from its submission to its end: the root.
    Run,
    /// One attempt at a unit, on a node.
    Attempt(UnitNumber, AttemptNumber),
    /// A chunk: cut and staged by an attempt.
    Chunk(UnitNumber, AttemptNumber, ChunkNumber),
    /// An ingest command, from its sending to its end.
    Command(UnitNumber, ChunkNumber),
}

impl SpanOf {
    fn name(self) -> &'static str {
        match self {
            Self::Run => "run",
            Self::Attempt(UnitNumber::LISTING, _) => "listing",
            Self::Attempt(..) => "attempt",
            Self::Chunk(..) => "chunk",
            Self::Command(..) => "command",
        }
    }

    /// What it is part of; `None`: of nothing.
    fn parent(self) -> Option<Self> {
        match self {
            Self::Run => None,
            Self::Attempt(..) | Self::Command(..) => Some(Self::Run),
            Self::Chunk(unit, attempt, _) => Some(Self::Attempt(unit, attempt)),
        }
    }

    /// The same for everybody who knows the run's id.
    fn id(self, run: &RunId) -> SpanId {
        let place = match self {
            Self::Run => "run".to_owned(),
            Self::Attempt(unit, attempt) => format!("attempt/{unit}/{attempt}"),
            Self::Chunk(unit, attempt, chunk) => format!("chunk/{unit}/{attempt}/{chunk}"),
            Self::Command(unit, chunk) => format!("command/{unit}/{chunk}"),
        };
        SpanId::from_bytes(first_bytes(&format!("{run}/{place}")))
    }

    fn numbers(self) -> Vec<KeyValue> {
        let number = |name: &'static str, n: u64| KeyValue::new(name, i64::try_from(n).unwrap_or(i64::MAX));
        match self {
            Self::Run => Vec::new(),
            Self::Attempt(unit, attempt) => vec![number("unit", unit.0), number("attempt", attempt.0.into())],
            Self::Chunk(unit, attempt, chunk) => {
                vec![number("unit", unit.0), number("attempt", attempt.0.into()), number("chunk", chunk.0.into())]
            }
            Self::Command(unit, chunk) => vec![number("unit", unit.0), number("chunk", chunk.0.into())],
        }
    }
}

/// The first bytes of a text's SHA-256.
fn first_bytes<const N: usize>(text: &str) -> [u8; N] {
    let mut bytes = [0; N];
    bytes.copy_from_slice(&digest(&SHA256, text.as_bytes()).as_ref()[..N]);
    bytes
}

fn trace_id(run: &RunId) -> TraceId {
    TraceId::from_bytes(first_bytes(run.as_str()))
}

/// A time of the clock as spans have it.
pub fn time_of(at: Millis) -> SystemTime {
    UNIX_EPOCH + Duration::from_millis(u64::try_from(at.0).unwrap_or(0))
}

/// A span that has ended.
#[derive(Debug, Clone)]
pub struct Span {
    run: RunId,
    of: SpanOf,
    began: SystemTime,
    ended: SystemTime,
    attributes: Vec<KeyValue>,
    status: Status,
}

impl Span {
    /// A span of a run that began and ended then.
    pub fn new(run: &RunId, of: SpanOf, began: SystemTime, ended: SystemTime) -> Self {
        let mut attributes = of.numbers();
        attributes.push(KeyValue::new("run", run.as_str().to_owned()));
        // Clocks of two machines, or one that was set: no span ends before it begins.
        Self { run: run.clone(), of, began, ended: ended.max(began), attributes, status: Status::Unset }
    }

    /// With a count.
    #[must_use]
    pub fn count(mut self, name: &'static str, count: u64) -> Self {
        self.attributes.push(KeyValue::new(name, i64::try_from(count).unwrap_or(i64::MAX)));
        self
    }

    /// With a name or a state.
    #[must_use]
    pub fn word(mut self, name: &'static str, word: impl Into<String>) -> Self {
        let word: String = word.into();
        self.attributes.push(KeyValue::new(name, word));
        self
    }

    /// It ended with this failure, or with none.
    #[must_use]
    pub fn failure(mut self, code: Option<Code>) -> Self {
        if let Some(code) = code {
            self.attributes.push(KeyValue::new("code", code.as_str()));
            self.status = Status::Error { description: code.as_str().into() };
        }
        self
    }

    fn into_data(self) -> SpanData {
        let Self { run, of, began, ended, attributes, status } = self;
        let context = SpanContext::new(trace_id(&run), of.id(&run), TraceFlags::SAMPLED, false, TraceState::default());
        SpanData {
            span_context: context,
            parent_span_id: of.parent().map_or(SpanId::INVALID, |parent| parent.id(&run)),
            // Whose span the parent is does not matter to a collector.
            parent_span_is_remote: false,
            span_kind: if matches!(of, SpanOf::Command(..)) { SpanKind::Client } else { SpanKind::Internal },
            name: of.name().into(),
            start_time: began,
            end_time: ended,
            attributes,
            dropped_attributes_count: 0,
            events: SpanEvents::default(),
            links: SpanLinks::default(),
            status,
            instrumentation_scope: InstrumentationScope::builder("ferry").build(),
        }
    }
}

/// What is known of the spans on their way.
#[derive(Debug, Default)]
struct Counts {
    waiting: AtomicU64,
    dropped: AtomicU64,
}

/// The way to a collector.
#[derive(Debug)]
struct Spans {
    queue: mpsc::Sender<SpanData>,
    counts: Arc<Counts>,
}

impl Spans {
    /// Begins to send to the collector at `url`, such as `http://127.0.0.1:4318`, over HTTP with protobuf.
    fn open(url: &str, service: &'static str) -> Result<Self, String> {
        let http = reqwest::Client::builder()
            .timeout(EXPORT_TIMEOUT)
            .redirect(reqwest::redirect::Policy::none())
            .build()
            .map_err(|e| with_causes(&e))?;
        let mut exporter = opentelemetry_otlp::SpanExporter::builder()
            .with_http()
            .with_http_client(http)
            .with_protocol(Protocol::HttpBinary)
            .with_timeout(EXPORT_TIMEOUT)
            .with_endpoint(traces_url(url))
            .build()
            .map_err(|e| redact(&with_causes(&e)))?;
        let version = KeyValue::new("service.version", env!("CARGO_PKG_VERSION"));
        exporter.set_resource(&Resource::builder().with_service_name(service).with_attribute(version).build());
        let (queue, spans) = mpsc::channel(SPANS_WAITING_MAX);
        let counts = Arc::<Counts>::default();
        tokio::spawn(export(exporter, spans, counts.clone()));
        Ok(Self { queue, counts })
    }

    fn send(&self, span: Span) {
        self.counts.waiting.fetch_add(1, Ordering::SeqCst);
        if self.queue.try_send(span.into_data()).is_err() {
            self.counts.waiting.fetch_sub(1, Ordering::SeqCst);
            self.counts.dropped.fetch_add(1, Ordering::SeqCst);
        }
    }
}

/// Sends what comes, in batches, until nobody can send any more.
async fn export(exporter: opentelemetry_otlp::SpanExporter, mut spans: mpsc::Receiver<SpanData>, counts: Arc<Counts>) {
    let mut is_failing = false;
    loop {
        let mut batch = Vec::new();
        if spans.recv_many(&mut batch, BATCH_SPANS_MAX).await == 0 {
            return;
        }
        if batch.len() < BATCH_SPANS_MAX {
            tokio::time::sleep(BATCH_WAIT).await;
            while batch.len() < BATCH_SPANS_MAX
                && let Ok(span) = spans.try_recv()
            {
                batch.push(span);
            }
        }
        let count = batch.len() as u64;
        let failure = match tokio::time::timeout(EXPORT_TIMEOUT, exporter.export(batch)).await {
            Ok(Ok(())) => None,
            Ok(Err(e)) => Some(redact(&with_causes(&e))),
            Err(_) => Some("no answer in time".to_owned()),
        };
        match failure {
            None => is_failing = false,
            Some(why) => {
                counts.dropped.fetch_add(count, Ordering::SeqCst);
                // Once, until it goes well again.
                if !is_failing {
                    tracing::warn!("spans are dropped, the collector does not take them: {why}");
                }
                is_failing = true;
            }
        }
        counts.waiting.fetch_sub(count, Ordering::SeqCst);
    }
}

/// Where traces go, of a collector's address as OTEL_EXPORTER_OTLP_ENDPOINT has it.
///
/// Source: OpenTelemetry protocol exporter, endpoint URLs for OTLP/HTTP.
fn traces_url(url: &str) -> String {
    let url = url.trim_end_matches('/');
    if url.ends_with(TRACES_PATH) { url.to_owned() } else { format!("{url}{TRACES_PATH}") }
}

/// The way of this process, once one is open.
static SPANS: OnceLock<Spans> = OnceLock::new();

/// Sends the spans of this process to a collector from now on. A second call changes nothing.
///
/// Fails when the address is none. Whether anybody listens there is not looked at.
pub fn open(url: &str, service: &'static str) -> Result<(), String> {
    let is_http = url.starts_with("http://") || url.starts_with("https://");
    if !is_http {
        return Err(format!("{}: the address of a collector begins with http:// or https://", redact(url)));
    }
    if SPANS.get().is_none() {
        let spans = Spans::open(url, service)?;
        // Whoever was faster is as good.
        let _ = SPANS.set(spans);
    }
    Ok(())
}

/// Sends a span, if anybody wants it; `span` is not asked otherwise.
pub fn send(span: impl FnOnce() -> Span) {
    if let Some(spans) = SPANS.get() {
        spans.send(span());
    }
}

/// Spans that were not taken since the start.
pub fn dropped() -> u64 {
    SPANS.get().map_or(0, |spans| spans.counts.dropped.load(Ordering::SeqCst))
}

/// Waits until what was sent is at the collector, for a limited time.
pub async fn flush() {
    let Some(spans) = SPANS.get() else { return };
    let sent = async {
        while spans.counts.waiting.load(Ordering::SeqCst) > 0 {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    // What is left then is lost, as spans may be.
    let _ = tokio::time::timeout(FLUSH_MAX, sent).await;
}

#[cfg(test)]
mod tests {
    use super::*;

    fn run(id: &str) -> RunId {
        id.parse().unwrap()
    }

    fn span(of: SpanOf) -> Span {
        Span::new(&run("weekly"), of, UNIX_EPOCH + Duration::from_secs(10), UNIX_EPOCH + Duration::from_secs(20))
    }

    #[test]
    fn everybody_writes_into_the_same_trace_and_each_span_has_a_place_of_its_own() {
        let (unit, attempt, chunk) = (UnitNumber(7), AttemptNumber(2), ChunkNumber(3));
        let all = [
            SpanOf::Run,
            SpanOf::Attempt(unit, attempt),
            SpanOf::Attempt(unit, AttemptNumber(3)),
            SpanOf::Chunk(unit, attempt, chunk),
            SpanOf::Command(unit, chunk),
        ];
        let data: Vec<_> = all.iter().map(|of| span(*of).into_data()).collect();
        let again: Vec<_> = all.iter().map(|of| span(*of).into_data().span_context.span_id()).collect();
        for (at, one) in data.iter().enumerate() {
            assert_eq!(one.span_context.trace_id(), data[0].span_context.trace_id());
            assert_eq!(one.span_context.span_id(), again[at], "ids do not change");
            assert!(one.span_context.is_valid());
            let is_other = |other: &SpanData| other.span_context.span_id() != one.span_context.span_id();
            assert!(data[at + 1..].iter().all(is_other), "{:?}", all[at]);
        }
        assert_eq!(data[0].parent_span_id, SpanId::INVALID);
        assert_eq!(data[1].parent_span_id, data[0].span_context.span_id());
        assert_eq!(data[3].parent_span_id, data[1].span_context.span_id());
        assert_ne!(trace_id(&run("weekly")), trace_id(&run("weekly-2")));
        // As whoever looks for the trace of a run finds it: `printf weekly | sha256sum | cut -c-32`.
        assert_eq!(trace_id(&run("weekly")).to_string(), WEEKLY);
    }

    const WEEKLY: &str = "8850eced986ec360f9b350835a621bcf";

    #[test]
    fn a_failed_span_says_so_by_its_code_and_never_ends_before_it_begins() {
        let (early, late) = (UNIX_EPOCH, UNIX_EPOCH + Duration::from_secs(5));
        let failed = Span::new(&run("r"), SpanOf::Run, late, early).failure(Some(Code::SourceChanged)).into_data();
        assert_eq!((failed.start_time, failed.end_time), (late, late));
        assert_eq!(failed.status, Status::Error { description: "SourceChanged".into() });
        assert_eq!(span(SpanOf::Run).failure(None).into_data().status, Status::Unset);
    }

    #[test]
    fn traces_go_where_collectors_take_them() {
        for (url, traces) in [
            ("http://127.0.0.1:4318", "http://127.0.0.1:4318/v1/traces"),
            ("https://otel.example.com/", "https://otel.example.com/v1/traces"),
            ("https://otel.example.com/x/v1/traces", "https://otel.example.com/x/v1/traces"),
        ] {
            assert_eq!(traces_url(url), traces);
        }
        assert!(open("localhost:4318", "test").is_err());
    }

    #[tokio::test]
    async fn a_collector_that_is_away_holds_nobody_up_and_what_is_lost_is_counted() {
        crate::install_tls_provider();
        // A port that nobody listens on.
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        drop(listener);
        let spans = Spans::open(&format!("http://127.0.0.1:{port}"), "test").unwrap();
        let many = SPANS_WAITING_MAX as u64 + 100;
        let began = std::time::Instant::now();
        for number in 0..many {
            spans.send(span(SpanOf::Command(UnitNumber(number), ChunkNumber(0))));
        }
        assert!(began.elapsed() < Duration::from_secs(5));
        assert!(spans.counts.dropped.load(Ordering::SeqCst) >= 100, "the queue is bounded");
        while spans.counts.waiting.load(Ordering::SeqCst) > 0 {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        assert_eq!(spans.counts.dropped.load(Ordering::SeqCst), many);
    }
}
