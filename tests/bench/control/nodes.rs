//! Nodes that speak as nodes do, and do no work.

use crate::Watcher;
use ferry_common::{
    id::{ChunkNumber, NodeId},
    link::{self, NodeServiceClient},
    staging,
    trust::{ClientIdentity, Dialer, Trust},
    unit::{AttemptKey, Chunk, Counters, Event, FileVersion, Grant, ListPage, Report, SampleColumn, Work},
    wire::generated as pb,
};
use std::{
    sync::{
        Arc, Mutex, OnceLock,
        atomic::{AtomicBool, AtomicU64, Ordering::Relaxed},
    },
    time::{Duration, Instant},
};
use tonic::transport::Channel;

/// Rows that each unit reports.
pub(crate) const ROWS_OF_UNIT: u64 = 10;
const BYTES_OF_UNIT: u64 = 1_000_000;
/// Nodes that are let in at once.
const REGISTERED_AT_ONCE: usize = 50;

struct Shared {
    units: u64,
    staged: AtomicU64,
    listed: OnceLock<Instant>,
    first_granted: OnceLock<Instant>,
    all_staged: OnceLock<Instant>,
    refused: Mutex<Vec<String>>,
    over: AtomicBool,
}

/// All nodes.
pub(crate) struct Fleet(Arc<Shared>);

impl Fleet {
    /// Starts the nodes and waits until each is registered.
    pub(crate) async fn start(address: &str, nodes: usize, slots: u32, units: u64) -> Self {
        let shared = Arc::new(Shared {
            units,
            staged: AtomicU64::new(0),
            listed: OnceLock::new(),
            first_granted: OnceLock::new(),
            all_staged: OnceLock::new(),
            refused: Mutex::default(),
            over: AtomicBool::new(false),
        });
        let mut numbers = (0..nodes).collect::<Vec<_>>();
        while !numbers.is_empty() {
            let some = numbers.split_off(numbers.len().saturating_sub(REGISTERED_AT_ONCE));
            let registered = some.into_iter().map(|number| Node::register(address, number, slots, shared.clone()));
            for node in futures::future::join_all(registered).await {
                tokio::spawn(node.work());
            }
        }
        Self(shared)
    }

    /// When the last page of the listing was taken.
    pub(crate) async fn listed(&self) -> Instant {
        set(&self.0.listed).await
    }

    /// When the first unit was granted.
    pub(crate) async fn first_granted(&self) -> Instant {
        set(&self.0.first_granted).await
    }

    /// Waits until every unit is staged, and looks at the run meanwhile, as a user would.
    pub(crate) async fn all_staged(&self, watcher: &mut Watcher) -> Instant {
        let mut told = Instant::now();
        loop {
            let refused = self.0.refused.lock().unwrap().clone();
            assert!(refused.is_empty(), "reports were refused: {refused:?}");
            if let Some(at) = self.0.all_staged.get() {
                return *at;
            }
            watcher.look().await;
            if told.elapsed() > Duration::from_secs(30) {
                eprintln!("{} of {} units are staged", self.0.staged.load(Relaxed), self.0.units);
                told = Instant::now();
            }
            tokio::time::sleep(Duration::from_secs(1)).await;
        }
    }
}

impl Drop for Fleet {
    fn drop(&mut self) {
        self.0.over.store(true, Relaxed);
    }
}

/// Waits until it is set.
async fn set(at: &OnceLock<Instant>) -> Instant {
    loop {
        if let Some(at) = at.get() {
            return *at;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

struct Node {
    id: NodeId,
    client: NodeServiceClient<Channel>,
    slots: u32,
    shared: Arc<Shared>,
    sequence: u64,
    outbox: Vec<Report>,
    /// The listing, while there are pages to send.
    listing: Option<(AttemptKey, u32)>,
}

impl Node {
    async fn register(address: &str, number: usize, slots: u32, shared: Arc<Shared>) -> Self {
        let id = NodeId::generate();
        let dialer = Dialer::new(&Trust::System, ClientIdentity::default()).unwrap();
        let mut client = link::client_over(link::channel(address, dialer).unwrap());
        let request = pb::RegisterRequest {
            node_id: id.to_string(),
            name: format!("node-{number}"),
            runtime: "default".to_owned(),
            slots,
            versions: Some(pb::VersionRange { min: link::VERSION_MIN, max: link::VERSION_MAX }),
            program_version: "bench".to_owned(),
            may_change_sources: false,
        };
        client.register(request).await.expect("a node registers");
        Self { id, client, slots, shared, sequence: 0, outbox: Vec::new(), listing: None }
    }

    async fn work(mut self) {
        loop {
            let request = pb::SyncRequest {
                node_id: self.id.to_string(),
                free_slots: self.slots - u32::from(self.listing.is_some()),
                draining: false,
                wait_ms: if self.outbox.is_empty() { 10_000 } else { 0 },
                renewals: self.renewals(),
                reports: self.outbox.iter().cloned().map(Into::into).collect(),
                takes_blob_signatures: true,
            };
            match self.client.sync(request).await {
                Ok(response) => self.handle(response.into_inner()),
                // The coordinator has ended.
                Err(_) if self.shared.over.load(Relaxed) => return,
                Err(status) => {
                    eprintln!("sync: {}", status.message());
                    tokio::time::sleep(Duration::from_secs(1)).await;
                }
            }
        }
    }

    fn renewals(&self) -> Vec<pb::Renewal> {
        let renewal = |(key, _): &(AttemptKey, u32)| pb::Renewal {
            key: Some(key.clone().into()),
            progress: Some(Counters::default().into()),
            blobs: None,
        };
        self.listing.iter().map(renewal).collect()
    }

    fn handle(&mut self, response: pb::SyncResponse) {
        for ack in response.acks {
            let Some(at) = self.outbox.iter().position(|r| r.sequence == ack.sequence) else { continue };
            let report = self.outbox.remove(at);
            if ack.refused {
                self.shared.refused.lock().unwrap().push(format!("{:?}", report.key.unit));
            }
            match report.event {
                Event::Completed { .. } => {
                    let staged = self.shared.staged.fetch_add(1, Relaxed) + 1;
                    let at = (staged == self.shared.units).then(Instant::now);
                    if let Some(at) = at {
                        self.shared.all_staged.get_or_init(|| at);
                    }
                }
                Event::Listed(page) if page.last => {
                    self.shared.listed.get_or_init(Instant::now);
                    self.listing = None;
                }
                Event::Listed(page) => self.list(page.number + 1),
                _ => {}
            }
        }
        for grant in response.grants {
            let grant: Grant = grant.try_into().expect("a grant");
            match grant.work {
                Work::List { .. } => {
                    self.listing = Some((grant.key, 0));
                    self.list(0);
                }
                // It says that it may not.
                Work::Clear(_) => {}
                Work::Copy(_) => {
                    self.shared.first_granted.get_or_init(Instant::now);
                    self.copy(grant.key);
                }
            }
        }
    }

    fn report(&mut self, key: AttemptKey, event: Event) {
        self.sequence += 1;
        self.outbox.push(Report { sequence: self.sequence, key, event });
    }

    /// A page of files that are not there.
    fn list(&mut self, number: u32) {
        let Some((key, page)) = &mut self.listing else { return };
        *page = number;
        let key = key.clone();
        let files_max = u64::from(link::PAGE_FILES_MAX);
        let from = u64::from(number) * files_max;
        let to = (from + files_max).min(self.shared.units);
        let file = |n: u64| FileVersion {
            path: format!("/exports/2026/11/23/part-{n:08}.csv"),
            relative_path: format!("2026/11/23/part-{n:08}.csv"),
            // Sizes that differ, so that the largest must be found.
            size_bytes: BYTES_OF_UNIT + n * 7_919 % 100_003,
            modified_ns: 1_795_000_000_000_000_000,
            etag: format!("{n:016x}"),
        };
        let column = |name: &str, kind: &str| SampleColumn {
            name: name.to_owned(),
            kind: kind.to_owned(),
            is_added: false,
            reads_as: Vec::new(),
        };
        let last = to == self.shared.units;
        let page = ListPage {
            number,
            files: (from..to).map(file).collect(),
            splits: Vec::new(),
            last,
            sample: if last { vec![column("a", "long"), column("b", "string")] } else { Vec::new() },
            warnings: Vec::new(),
            trial: None,
        };
        self.report(key, Event::Listed(page));
    }

    /// One chunk, and the end.
    fn copy(&mut self, key: AttemptKey) {
        let chunk = Chunk {
            number: ChunkNumber(0),
            blob: staging::blob_name(&key.run, key.unit, key.attempt, ChunkNumber(0), "csv.gz"),
            raw_bytes: BYTES_OF_UNIT,
            staged_bytes: BYTES_OF_UNIT / 4,
            rows: ROWS_OF_UNIT,
            source_end_bytes: BYTES_OF_UNIT,
            rows_end: ROWS_OF_UNIT,
            source_lines_end: ROWS_OF_UNIT,
            crc32: 0,
            file_end: 0,
            skipped_end: 0,
            quarantine: None,
            created: None,
            files: Vec::new(),
        };
        let counters = Counters { rows_read: ROWS_OF_UNIT, ..Counters::default() };
        self.report(key.clone(), Event::ChunkStaged(chunk));
        self.report(key, Event::Completed { counters, chunks: 1, files: Vec::new(), quarantine: None });
    }
}
