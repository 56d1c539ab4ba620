//! One world: what is in it, what happens to it, and what must hold in the end.

use crate::{
    chance::Chance,
    cluster::{Cluster, Faults},
    network::{Network, Peer},
    storage::SlowStorage,
    store::ShakyStore,
};
use ferry_common::{
    activity::{Activity, Ingestion},
    clock::{Clock, Millis},
    id::{RunId, RuntimeName},
    timetable::Timetable,
};
use ferry_coordinator::{Limits, rehearsal::Rehearsal};
use ferry_node::{NodeConfig, read::Roots};
use serde_json::{Value, json};
use std::{
    collections::BTreeMap,
    fs,
    path::{Path, PathBuf},
    sync::{
        Arc,
        atomic::{AtomicI64, Ordering},
    },
    time::Duration,
};
use tokio::{sync::mpsc, time::Instant};
use tokio_util::sync::CancellationToken;

/// Made-up time after which a run that has not ended is stuck.
const STUCK_AFTER: Duration = Duration::from_secs(12 * 3600);
/// Made-up time after the end in which late writers may come and the last sweep is made.
const AFTERMATH: Duration = Duration::from_secs(600);

/// A clock that follows the made-up time, and jumps when told to.
struct JumpyClock {
    start: Instant,
    jumped_ms: AtomicI64,
}

impl Clock for JumpyClock {
    fn now(&self) -> Millis {
        let passed = i64::try_from(self.start.elapsed().as_millis()).unwrap();
        Millis(1_800_000_000_000 + passed + self.jumped_ms.load(Ordering::Relaxed))
    }
}

/// The clock of one coordinator: wrong by always as much.
struct SkewedClock {
    clock: Arc<JumpyClock>,
    skew_ms: i64,
}

impl Clock for SkewedClock {
    fn now(&self) -> Millis {
        Millis(self.clock.now().0 + self.skew_ms)
    }
}

/// By how much the clock of a coordinator may be wrong.
const SKEW_MAX_MS: u64 = 100_000;

/// What a world is made of.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    /// Everything there is.
    Whole,
    /// Without slow storage and a slow store: as a seed with a name knew it.
    Quick,
    /// Also without failing storage, clocks that are apart, and queued ingestion: as the seeds with names knew it.
    Early,
    /// Everything, and then the same files once more: what was loaded is left out.
    Again,
}

/// A protection that is switched off, to prove that its absence is found.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Sabotage {
    /// Nothing is.
    None,
    /// Reports count without a lease.
    Fencing,
    /// The tags of extents are not looked at, by ferry or by the cluster.
    Tags,
    /// A command is sent again at once when its answer is lost.
    Waiting,
    /// No protection is off: the driver of the run panics once, where there is no other coordinator.
    Panic,
}

pub(crate) struct World {
    kind: Kind,
    sabotage: Sabotage,
    chance: Chance,
    /// Decides what only a whole world has, so that the rest of a seed stays as it was.
    more: Option<Chance>,
    /// Decides what is slow, where anything is.
    slow: Option<Chance>,
    storage: SlowStorage,
    clock: Arc<JumpyClock>,
    folder: tempfile::TempDir,
    cluster: Cluster,
    store: ShakyStore,
    network: Network,
    nodes: Vec<Peer>,
    nodes_started: u32,
    /// Those that live, by number.
    coordinators: BTreeMap<u32, (Rehearsal, CancellationToken)>,
    coordinators_started: u32,
    dying: mpsc::UnboundedReceiver<u32>,
    /// Rows that the table had before, and those of the source.
    before: Vec<String>,
    source: Vec<String>,
    publish: &'static str,
    /// Files that were loaded are deleted.
    clears: bool,
    files: usize,
    run: RunId,
}

impl World {
    /// Plays a seed to its end. An error names the invariant that does not hold.
    pub(crate) fn play(seed: u64, kind: Kind, sabotage: Sabotage) -> Result<String, String> {
        let runtime =
            tokio::runtime::Builder::new_current_thread().enable_all().start_paused(true).build().expect("a runtime");
        runtime.block_on(async {
            let mut world = Self::new(seed, kind, sabotage);
            let outcome = world.live().await;
            outcome.map_err(|why| {
                let log = world.cluster.log();
                format!("{why}\n(publish: {}) the cluster's log:\n{}", world.publish, log.join("\n"))
            })
        })
    }

    fn new(seed: u64, kind: Kind, sabotage: Sabotage) -> Self {
        let chance = Chance::new(seed);
        let more = (kind != Kind::Early).then(|| Chance::new(!seed));
        let slow = (kind == Kind::Whole).then(|| Chance::new(seed.rotate_left(32)));
        let some = |share: f64| slow.clone().filter(|slow| slow.strikes(share));
        let (storage, slow_store) = (SlowStorage::new(some(0.3)), some(0.3));
        let folder = tempfile::tempdir().unwrap();
        fs::create_dir(folder.path().join("source")).unwrap();
        fs::create_dir(folder.path().join("staging")).unwrap();
        let clock = Arc::new(JumpyClock { start: Instant::now(), jumped_ms: AtomicI64::new(0) });
        let share = |most_per_mille: u64| chance.number(0, most_per_mille) as f64 / 1_000.0;
        let faults = Faults {
            unreachable: share(100),
            lost_before: share(100),
            lost_after: share(200),
            lost_ingest: share(200),
            throttled: share(100),
            failed: share(100),
            operation: share(300),
        };
        // A missing protection shows where it is needed: sabotage gets a world that needs it often.
        let is_hard = !matches!(sabotage, Sabotage::None | Sabotage::Panic);
        let hard = Faults { lost_ingest: 0.5, operation: 0.3, ..Faults::NONE };
        let faults = if is_hard { hard } else { faults };
        let is_blind = sabotage == Sabotage::Tags;
        let cluster = Cluster::new(chance.clone(), more.clone(), storage.clone(), clock.clone(), faults, is_blind);
        let (store, dying) = ShakyStore::new(chance.clone(), share(50), slow_store);
        let publish = ["append", "atomic", "replace"][usize::try_from(seed % 3).unwrap()];
        let is_queued = more.as_ref().is_some_and(|more| publish == "append" && more.strikes(0.5));
        let publish = if is_queued { "queued" } else { publish };
        let before: Vec<String> = (0..chance.number(0, 3)).map(|n| format!("-{n},before")).collect();
        cluster.create("T", "n:long,t:string", before.clone());
        let source = write_source(&folder.path().join("source"), &chance);
        let files = files_below(&folder.path().join("source")).len();
        Self {
            kind,
            sabotage,
            store,
            more,
            slow,
            storage,
            network: Network::new(chance.clone(), if is_hard { 0.15 } else { share(150) }, is_hard),
            chance,
            clock,
            folder,
            cluster,
            nodes: Vec::new(),
            nodes_started: 0,
            coordinators: BTreeMap::new(),
            coordinators_started: 0,
            dying,
            before,
            source,
            publish,
            // Half of each kind of publishing; the rest of a seed stays as it was.
            clears: kind == Kind::Whole && sabotage == Sabotage::None && seed / 3 % 2 == 1,
            files,
            run: format!("seed-{seed}").parse().unwrap(),
        }
    }

    fn activity(&self) -> Activity {
        let activity = json!({
            "name": "simulated",
            "source": {"type": "FileSystem", "folderPath": self.folder.path().join("source"),
                       "format": {"type": "DelimitedText", "firstRowAsHeader": true}},
            "sink": {"type": "AzureDataExplorer", "endpoint": "http://127.0.0.1:1", "database": "D", "table": "T",
                     "publish": if self.publish == "queued" { "append" } else { self.publish }},
            "staging": {"type": "FileSystem", "folderPath": self.folder.path().join("staging")},
            "settings": {"chunkSizeMB": 0.0003, "attemptsMax": 100, "packSmallFiles": self.chance.strikes(0.5),
                         "checkValues": false},
        });
        let mut activity = Activity::parse(&activity.to_string(), "activity").unwrap();
        activity.source.delete_files_after_completion = self.clears;
        activity.source.skip_loaded_files = self.kind == Kind::Again;
        if self.publish == "queued" {
            // Real services fetch blobs; the one here reads files.
            activity.sink.ingestion = Ingestion::Queued;
        }
        activity
    }

    async fn live(&mut self) -> Result<String, String> {
        let coordinators = self.chance.number(1, 2);
        for _ in 0..if self.sabotage == Sabotage::Panic { 1 } else { coordinators } {
            self.start_coordinator();
        }
        for _ in 0..self.chance.number(1, 3) {
            self.start_node();
        }
        let activity = self.activity();
        self.submit(&activity).await;
        for _ in 0..self.chance.number(0, 8) {
            self.go_on_for(self.chance.wait(8_000, 60_000)).await;
            self.something_happens().await;
            if let Some(more) = self.more.clone().filter(|more| more.strikes(0.3)) {
                self.storage_is_away_for(more.wait(20_000, 300_000)).await;
            }
            if let Some(slow) = self.slow.as_ref().filter(|slow| slow.strikes(0.2)) {
                self.storage.stall(slow.wait(20_000, 60_000));
            }
        }
        self.heal();
        let report = self.end().await?;
        let swept = Instant::now();
        self.go_on_for(AFTERMATH).await;
        let outcome = self.judge(&report, swept)?;
        if self.kind == Kind::Again {
            self.again(&activity, &report).await?;
        }
        Ok(outcome)
    }

    async fn submit(&mut self, activity: &Activity) {
        while !self.is_submitted().await {
            let run = self.run.clone();
            if let Some((coordinator, _)) = self.coordinators.values().next() {
                // The caller asks again until it is told; a write may be fatal.
                let submitted = coordinator.submit(run, activity.clone());
                let _ = tokio::time::timeout(Duration::from_secs(5), submitted).await;
            }
            self.go_on_for(Duration::from_secs(1)).await;
        }
    }

    /// Waits for the end of the run. Returns its report.
    async fn end(&mut self) -> Result<Value, String> {
        let mut left = STUCK_AFTER;
        loop {
            self.go_on_for(Duration::from_secs(5)).await;
            let report = self.report().await;
            if report.as_ref().is_some_and(|r| r["status"] != "InProgress" && r["isSwept"] == true) {
                return Ok(report.unwrap());
            }
            left = left.saturating_sub(Duration::from_secs(5));
            if left.is_zero() {
                return Err(format!("every run ends: it is stuck\n{}", brief(&report.unwrap_or_default())));
            }
        }
    }

    /// The same files once more. However the first run ended, each row is in the table once then, but for files that it has said to
    /// be there in part.
    async fn again(&mut self, activity: &Activity, first: &Value) -> Result<(), String> {
        self.run = format!("{}-again", self.run).parse().unwrap();
        self.submit(activity).await;
        let report = self.end().await?;
        let (source, before) = (self.source.clone(), self.before.clone());
        let mut whole = if self.publish == "replace" { source } else { [before, source].concat() };
        whole.sort();
        let mut table = self.cluster.rows("T");
        table.sort();
        let told = first["warnings"].as_array().into_iter().flatten().filter_map(Value::as_str);
        if told.filter(|text| text.contains(" in part, or may be")).count() > 0 {
            table.dedup();
        }
        if report["status"] == "Succeeded" && table == whole {
            return Ok(());
        }
        let (first, second) = (brief(first), brief(&report));
        Err(format!(
            "what is loaded is left out, and the rest is not\ntable: {table:?}\nfirst: {first}\nsecond: {second}"
        ))
    }

    /// Time passes; a coordinator that a write was fatal to dies, and another one comes.
    async fn go_on_for(&mut self, time: Duration) {
        let until = Instant::now() + time;
        loop {
            tokio::select! {
                () = tokio::time::sleep_until(until) => return,
                Some(number) = self.dying.recv() => self.restart_coordinator(number).await,
            }
        }
    }

    /// Nothing of the run can be written to staging, read or deleted.
    async fn storage_is_away_for(&mut self, time: Duration) {
        let own = self.folder.path().join("staging").join(self.run.as_str());
        let away = self.folder.path().join("away");
        self.cluster.lose_storage(true);
        let was_there = fs::rename(&own, &away).is_ok();
        fs::write(&own, "in the way").unwrap();
        self.go_on_for(time).await;
        fs::remove_file(&own).unwrap();
        if was_there {
            fs::rename(&away, &own).unwrap();
        }
        self.cluster.lose_storage(false);
    }

    fn start_coordinator(&mut self) {
        self.coordinators_started += 1;
        let number = self.coordinators_started;
        let store = Arc::new(self.store.of(number));
        // What goes wrong here goes on for longer than a plan may wait for it.
        let mut limits = Limits {
            preflight_tries_max: 1_000,
            preflight_patience: Duration::from_secs(100_000),
            command_failures_max: 1_000,
            ..Limits::default()
        };
        if self.sabotage == Sabotage::Waiting {
            limits.settle_after = Duration::ZERO;
        }
        let sinks = Arc::new(self.cluster.clone());
        let skew = self.more.as_ref().map_or(SKEW_MAX_MS, |more| more.number(0, 2 * SKEW_MAX_MS));
        let skew_ms = i64::try_from(skew).unwrap() - i64::try_from(SKEW_MAX_MS).unwrap();
        let clock = Arc::new(SkewedClock { clock: self.clock.clone(), skew_ms });
        let coordinator = Rehearsal::start(store, clock, sinks, limits, self.sabotage == Sabotage::Fencing);
        self.coordinators.insert(number, (coordinator, CancellationToken::new()));
        self.answer();
    }

    fn answer(&self) {
        let answering = self.coordinators.values().map(|(c, ended)| (c.node_service(), ended.clone()));
        self.network.answer_with(answering.collect());
    }

    async fn restart_coordinator(&mut self, number: u32) {
        let Some((coordinator, ended)) = self.coordinators.remove(&number) else { return };
        self.answer();
        ended.cancel();
        coordinator.kill().await;
        tokio::time::sleep(self.chance.wait(2_000, 40_000)).await;
        self.start_coordinator();
    }

    fn start_node(&mut self) {
        self.nodes_started += 1;
        let config = NodeConfig {
            coordinator: String::new(),
            runtime: RuntimeName::default(),
            name: format!("node-{}", self.nodes_started),
            slots: u32::try_from(self.chance.number(1, 2)).unwrap(),
            roots: Roots::new([self.folder.path().to_owned()]).unwrap(),
            may_change_sources: true,
            bandwidth: Timetable::default(),
            health: None,
            membership: None,
        };
        self.nodes.push(self.network.start_node(config, self.storage.clone()));
    }

    async fn something_happens(&mut self) {
        let at = usize::try_from(self.chance.number(0, self.nodes.len() as u64 - 1)).unwrap();
        // What a node that comes back may do is only seen where nodes come back.
        let comes_back = self.sabotage == Sabotage::Fencing && self.chance.strikes(0.7);
        match if comes_back { 6 } else { self.chance.number(0, 9) } {
            0..=2 => {
                let at = usize::try_from(self.chance.number(0, self.coordinators.len() as u64 - 1)).unwrap();
                let number = self.coordinators.keys().nth(at).copied();
                self.restart_coordinator(number.unwrap_or(0)).await;
            }
            // A node dies without a word, and another one comes.
            3..=4 => {
                self.nodes[at].is_cut.store(true, Ordering::Relaxed);
                self.nodes[at].shutdown.cancel();
                self.start_node();
            }
            // A node is told to end, and another one comes.
            5 => {
                self.nodes[at].shutdown.cancel();
                self.start_node();
            }
            // A node is cut off, or stands still, and comes back.
            6..=7 => {
                self.nodes[at].is_cut.store(true, Ordering::Relaxed);
                self.go_on_for(self.chance.wait(30_000, 90_000)).await;
                self.nodes[at].is_cut.store(false, Ordering::Relaxed);
            }
            8 => {
                let jump = i64::try_from(self.chance.number(0, 60_000)).unwrap() - 30_000;
                self.clock.jumped_ms.fetch_add(jump, Ordering::Relaxed);
            }
            _ if self.chance.strikes(if self.kind == Kind::Again { 1.0 } else { 0.3 }) => {
                let run = self.run.clone();
                if let Some((coordinator, _)) = self.coordinators.values().next() {
                    let _ = tokio::time::timeout(Duration::from_secs(5), coordinator.cancel(&run)).await;
                }
            }
            _ => {}
        }
    }

    /// Nothing goes wrong from here on.
    fn heal(&mut self) {
        self.cluster.heal();
        self.store.heal();
        self.network.heal();
        self.storage.heal();
        if self.sabotage == Sabotage::Panic {
            self.cluster.panic_next();
        }
        self.start_node();
    }

    async fn report(&self) -> Option<Value> {
        let (coordinator, _) = self.coordinators.values().next()?;
        coordinator.report(&self.run).await.unwrap()
    }

    async fn is_submitted(&self) -> bool {
        self.report().await.is_some()
    }

    /// `swept`: when the run was seen to be swept.
    fn judge(&self, report: &Value, swept: Instant) -> Result<String, String> {
        let table = self.cluster.rows("T");
        let sorted = |mut rows: Vec<String>| {
            rows.sort();
            rows
        };
        let status = report["status"].as_str().unwrap_or_default();
        let must = |holds: bool, invariant: &str| {
            if holds { Ok(()) } else { Err(format!("{invariant}\ntable: {table:?}\n{}", brief(report))) }
        };
        let trespassers = self.store.trespassers.lock().unwrap().clone();
        must(trespassers.is_empty(), &format!("no report counts without its lease: {trespassers:?}"))?;
        let doubled = self.cluster.doubled_tags();
        must(doubled.is_empty(), &format!("no command has its effect twice: {doubled:?}"))?;
        let whole = match self.publish {
            "replace" => self.source.clone(),
            _ => sorted([self.before.clone(), self.source.clone()].concat()),
        };
        match (status, self.publish) {
            ("Succeeded", _) => {
                must(table == whole, "a run that succeeded has each row in the table once")?;
                must(report["rowsCopied"] == self.source.len(), "the report counts each row once")?;
                must(
                    report["dataConsistencyVerification"]["VerificationResult"] == "Verified",
                    "the report says that rows add up",
                )?;
            }
            ("Cancelled", "append" | "queued") => {
                let mut once = table.clone();
                once.dedup();
                must(once == table, "a run that was cancelled has no row twice")?;
                must(
                    table.iter().all(|row| whole.contains(row)),
                    "nothing is in the table that was not in the source",
                )?;
            }
            ("Cancelled", _) => must(table == sorted(self.before.clone()), "all rows of a run become visible or none")?,
            _ => must(false, "a run ends well, or as it was asked to")?,
        }
        let there = files_below(&self.folder.path().join("source")).len();
        let told = report["warnings"].to_string().contains("left in place");
        match (status, self.clears) {
            // Who asks for the end while files are deleted is told that some are left; a node that was lost may have deleted them.
            ("Succeeded", true) => must(
                (there == 0 || told) && report["clearing"]["filesLeft"] == 0,
                &format!("every file that was loaded is deleted, or told of: {there} are there"),
            )?,
            _ => must(there == self.files, &format!("{there} of {} files are there, and all must be", self.files))?,
        }
        must(self.cluster.tables() == ["T"], &format!("no staging table is left: {:?}", self.cluster.tables()))?;
        let staging = self.folder.path().join("staging");
        let blobs = self.storage.overlooked(files_below(&staging), &staging, swept);
        must(blobs.is_empty(), &format!("no staging blob is left: {blobs:?}"))?;
        let after = if self.cluster.has_panicked() { ", its driver has panicked" } else { "" };
        Ok(format!("{} {status}{after}", self.publish))
    }
}

/// What of a report a reader of a failing seed wants.
fn brief(report: &Value) -> String {
    let of = |keys: &[&str]| keys.iter().map(|key| format!("{key}: {}", report[*key])).collect::<Vec<_>>().join("\n");
    of(&["state", "status", "errors", "rowsRead", "rowsCopied", "warnings", "isSwept", "ingest"])
}

/// A few small files; returns their rows, sorted.
fn write_source(folder: &Path, chance: &Chance) -> Vec<String> {
    let (mut rows, mut number) = (Vec::new(), 0);
    for file in 0..chance.number(1, 5) {
        let mut text = "n,t\n".to_owned();
        // More chunks than may wait for an answer would hold up threads, and made-up time with them.
        let rows_max = if chance.strikes(0.2) { 250 } else { 60 };
        for _ in 0..chance.number(0, rows_max) {
            let row = format!("{number},row number {number}");
            text += &format!("{row}\n");
            rows.push(row);
            number += 1;
        }
        fs::write(folder.join(format!("{file}.csv")), text).unwrap();
    }
    rows.sort();
    rows
}

fn files_below(folder: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in fs::read_dir(folder).into_iter().flatten().flatten() {
        if entry.path().is_dir() { found.extend(files_below(&entry.path())) } else { found.push(entry.path()) }
    }
    found
}
