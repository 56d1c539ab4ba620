//! Everything that must survive, behind one trait. Reads are plain; every change is one [`Store::commit`]: all of its
//! writes or none. A row carries a revision; a write that finds another one than it was read with is a conflict, and the
//! caller reads again. That is what fences late writers, in one process or in several.

pub mod conformance;
mod credentials;
mod loaded;
mod memory;
mod mounts;
mod paces;
mod pages;
mod schedules;
mod sql;

pub use credentials::{Credentials, Grants, IdentityRow, Role, TokenRow};
pub use loaded::LoadedFile;
pub use memory::MemoryStore;
pub use paces::{PaceKey, PaceRow, PaceSums};
pub use pages::{
    CommandPage, CommandQuery, FilePage, FilePlace, FileQuery, FileSort, ROWS_LOOKED_AT_MAX, RunQuery, RunsIn,
};
pub use schedules::{LastWindow, ScheduleRow, Schedules};
pub use sql::{SqlStore, StorePlace};

use crate::{
    fingerprint::Expected,
    planner::Plan,
    state::{command::CommandState, run::RunState, unit::UnitState},
};
use async_trait::async_trait;
use ferry_common::{
    activity::{Activity, Publish},
    clock::Millis,
    failure::{Code, Failure, Fault, Retry},
    id::{AttemptNumber, ChunkNumber, IdentityId, NodeId, RunId, RuntimeName, UnitNumber},
    unit::{Chunk, Counters, FileRows, FileVersion, SampleColumn, Scope, Trial},
};
use serde::{Deserialize, Serialize};

/// What can go wrong with the store.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// A row was changed since it was read, or is there already: read again.
    #[error("a row was changed by another writer")]
    Conflict,
    /// The database failed.
    #[error("store: {0}")]
    Database(#[from] sqlx::Error),
    /// A row cannot be understood: a newer program wrote it, or it is damaged.
    #[error("store: row of {table} cannot be read: {why}")]
    Unreadable {
        /// Its table.
        table: &'static str,
        /// What is wrong.
        why: String,
    },
    /// The database cannot be opened.
    #[error("store {place}: {why}")]
    Open {
        /// What was to be opened.
        place: String,
        /// Why not.
        why: String,
    },
}

impl From<StoreError> for Failure {
    fn from(error: StoreError) -> Self {
        Self::new(Code::StoreFailed, Fault::Runtime, Retry::Backoff, error.to_string())
    }
}

/// A run, as stored.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct RunRow {
    /// Its id.
    pub id: RunId,
    /// The activity as submitted, defaults filled in.
    pub activity: Activity,
    /// Its state.
    pub state: RunState,
    /// Changes with every write.
    #[serde(skip)]
    pub revision: i64,
    /// Times of its life.
    pub times: RunTimes,
    /// Part of its tags: a run of the same id in another store has other ones.
    #[serde(default)]
    pub tag_nonce: String,
    /// Next page expected of the listing.
    #[serde(default)]
    pub listing_page: u32,
    /// Files listed so far.
    #[serde(default)]
    pub files: u64,
    /// Files left out of the listing because earlier runs have loaded them.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub files_loaded_before: u64,
    /// Times that the listing named a file that it had named before.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub files_named_again: u64,
    /// Units made of them: a large file may be several, many small ones may be one.
    #[serde(default)]
    pub units: u64,
    /// It only plans: nothing is created, staged or ingested.
    #[serde(default)]
    pub is_dry: bool,
    /// The plan that it must find.
    #[serde(default)]
    pub expected: Option<Expected>,
    /// Columns that the listing's sample shows.
    #[serde(default)]
    pub sample: Vec<SampleColumn>,
    /// A dry run: what copying some of the files takes.
    #[serde(default)]
    pub trial: Option<Trial>,
    /// A dry run: its plan, as it is shown.
    #[serde(default)]
    pub shown: Option<serde_json::Value>,
    /// How records become columns; there from `Copying` on.
    #[serde(default)]
    pub plan: Option<Plan>,
    /// What the user should know.
    #[serde(default)]
    pub warnings: Vec<String>,
    /// Most slots that were in use at once.
    #[serde(default)]
    pub peak_slots: u32,
    /// Above zero: an attempt ended in a way that may let it write to staging after its end.
    #[serde(default)]
    pub lost_attempts: u32,
    /// When staging is swept next; `None` when there is nothing left to sweep.
    #[serde(default)]
    pub sweep_at: Option<Millis>,
    /// Staging was found empty after the end, or what is left is not ours to delete.
    #[serde(default)]
    pub is_swept: bool,
    /// Address, without a signature, of the container that the cluster has lent to it.
    #[serde(default)]
    pub lent_container: Option<String>,
    /// What it lent may not be swept by us: the cluster empties it.
    #[serde(default)]
    pub is_left_to_cluster: bool,
    /// When a publishing command left whose outcome is not known.
    #[serde(default)]
    pub publish_sent: Option<Millis>,
    /// How far its loaded files are deleted or moved, where that is asked for; there from `Clearing` on.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub clearing: Option<Clearing>,
    /// Its rows are known to be published, and its files are being put down as loaded.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub is_published: bool,
    /// What its units and commands add up to, once all its rows are visible or it has ended.
    #[serde(default)]
    pub totals: Option<Totals>,
    /// Somebody has to be told that it has ended.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub telling: Option<Telling>,
    /// Who drives it.
    #[serde(skip)]
    pub driver: Driver,
}

fn is_zero(count: &u64) -> bool {
    *count == 0
}

/// What the units and commands of a run add up to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Totals {
    /// Its units.
    pub units: UnitCounts,
    /// Its commands.
    pub commands: CommandCounts,
}

/// How far the files that a run has loaded are deleted or moved.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Clearing {
    /// Files of units up to this one are done with.
    pub after: UnitNumber,
    /// Files deleted or moved.
    pub done: u64,
    /// Files that were gone already: nodes may do the same page twice.
    pub gone: u64,
    /// Files that were left in place. Their units say which and why.
    pub left: u64,
    /// Why, of the first few.
    pub reasons: Vec<String>,
    /// The caller wants the run to end.
    pub is_stopped: bool,
}

impl Clearing {
    /// Nothing is done yet.
    pub const NEW: Self =
        Self { after: UnitNumber::LISTING, done: 0, gone: 0, left: 0, reasons: Vec::new(), is_stopped: false };
}

/// A file that was to be deleted or moved, and is where it was.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct LeftFile {
    /// Path below the source folder.
    pub relative_path: String,
    /// Why.
    pub why: String,
}

/// How far the webhook of a run that has ended has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Telling {
    /// Tries that failed.
    pub failures: u32,
    /// Not tried before this.
    pub not_before: Millis,
    /// Given up then.
    pub until: Millis,
}

/// The coordinator that drives a run.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Driver {
    /// Its id; empty: nobody does.
    pub coordinator: String,
    /// Raised with every change of the driver.
    pub epoch: i64,
    /// Raised by the driver as long as it lives.
    pub beat: i64,
}

/// How the folders of runs begin in containers that clusters lend.
pub const LENT_FOLDER_PREFIX: &str = "ferry-";

impl RunRow {
    /// A run as it is submitted.
    pub fn new(id: RunId, activity: Activity, submitted: Millis) -> Self {
        Self {
            id,
            activity,
            state: RunState::Queued,
            revision: 1,
            times: RunTimes { submitted, ..RunTimes::default() },
            tag_nonce: uuid::Uuid::new_v4().simple().to_string()[..8].to_owned(),
            listing_page: 0,
            files: 0,
            files_loaded_before: 0,
            files_named_again: 0,
            units: 0,
            is_dry: false,
            expected: None,
            sample: Vec::new(),
            trial: None,
            shown: None,
            plan: None,
            warnings: Vec::new(),
            peak_slots: 0,
            lost_attempts: 0,
            sweep_at: None,
            is_swept: false,
            lent_container: None,
            is_left_to_cluster: false,
            publish_sent: None,
            clearing: None,
            is_published: false,
            totals: None,
            telling: None,
            driver: Driver::default(),
        }
    }

    /// It has not ended, or there is something to do for it still.
    pub fn is_live(&self) -> bool {
        !self.state.is_final() || self.sweep_at.is_some() || self.telling.is_some()
    }

    /// How the values of its `ingest-by:` tags begin.
    pub fn tag_prefix(&self) -> String {
        format!("ferry:{}:{}/", self.id, self.tag_nonce)
    }

    /// Value of the `ingest-by:` tag of a chunk: the same for every attempt and every sending.
    pub fn tag_of(&self, unit: UnitNumber, chunk: ChunkNumber) -> String {
        format!("{}{unit}/{chunk}", self.tag_prefix())
    }

    /// Its own folder in a container that others use as well: they may have runs of the same id.
    pub fn lent_folder(&self) -> String {
        format!("{LENT_FOLDER_PREFIX}{}", self.tag_nonce)
    }

    /// Where its rows gather until all are published at once.
    pub fn staging_table(&self) -> String {
        let id: String = self.id.as_str().chars().map(|c| if c.is_ascii_alphanumeric() { c } else { '_' }).collect();
        format!("ferry_{id}_{}", self.tag_nonce)
    }

    /// The table that its ingest commands name.
    pub fn ingest_table(&self) -> String {
        match self.activity.sink.publish {
            Publish::Append => self.activity.sink.table.clone(),
            Publish::Atomic | Publish::Replace => self.staging_table(),
        }
    }
}

impl UnitRow {
    /// Files that count with it: none for the later parts of one.
    pub fn files(&self) -> &[FileVersion] {
        match &self.scope {
            Scope::Pack(files) => files,
            Scope::Range(range) if range.number > 0 => &[],
            Scope::File | Scope::Range(_) => std::slice::from_ref(&self.file),
        }
    }

    /// It may be granted now.
    pub fn is_due(&self, now: Millis) -> bool {
        matches!(self.state, UnitState::Pending { not_before, .. } if not_before <= now)
    }

    /// A unit of one whole file, which waits for its first attempt.
    pub fn new(run: RunId, number: UnitNumber, file: FileVersion) -> Self {
        Self {
            run,
            number,
            state: UnitState::NEW,
            revision: 1,
            size_bytes: file.size_bytes,
            file_count: 1,
            scope: Scope::File,
            file,
            attempts: 0,
            counters: Counters::default(),
            tail: Tail::default(),
            last_failure: None,
            node_name: String::new(),
        }
    }
}

/// Times of a run's life.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct RunTimes {
    /// Submitted.
    pub submitted: Millis,
    /// Admitted.
    pub started: Option<Millis>,
    /// The plan was stored: stage 1 begins.
    pub copying: Option<Millis>,
    /// Everything was staged: stage 2 begins.
    pub ingesting: Option<Millis>,
    /// Every row is in the staging table: publishing begins.
    #[serde(default)]
    pub publishing: Option<Millis>,
    /// Every row is visible: files of the source are deleted or moved.
    #[serde(default)]
    pub clearing: Option<Millis>,
    /// Final.
    pub ended: Option<Millis>,
}

/// A work unit, as stored.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct UnitRow {
    /// Its run.
    pub run: RunId,
    /// Its number in the run.
    pub number: UnitNumber,
    /// Its state.
    pub state: UnitState,
    /// Changes with every write.
    pub revision: i64,
    /// The file, pinned; of a pack the first one. The listing has the folder's path and no size.
    pub file: FileVersion,
    /// What it covers.
    pub scope: Scope,
    /// Bytes that it has to read, about.
    pub size_bytes: u64,
    /// Files that count as read with it: none for the later parts of one.
    pub file_count: u32,
    /// Attempts begun so far.
    pub attempts: u32,
    /// What was done, of accepted chunks and completed attempts.
    pub counters: Counters,
    /// What came after its last chunk.
    pub tail: Tail,
    /// The failure of the attempt that failed last.
    pub last_failure: Option<Failure>,
    /// Name of the node that had it last.
    pub node_name: String,
}

/// What came after a unit's last chunk: rows that were all left out; and what became of its files.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Tail {
    /// By file, where the unit has several.
    pub files: Vec<FileRows>,
    /// The blob that keeps them.
    pub quarantine: Option<String>,
    /// Files that were to be deleted or moved once they were loaded, and are where they were.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub left: Vec<LeftFile>,
}

/// An accepted chunk, as stored.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ChunkRow {
    /// Its run.
    pub run: RunId,
    /// Its unit.
    pub unit: UnitNumber,
    /// The attempt that staged it.
    pub attempt: AttemptNumber,
    /// The chunk.
    pub chunk: Chunk,
}

/// An ingest command, as stored. It names no signed URL: that is made anew for each sending.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct CommandRow {
    /// Its run.
    pub run: RunId,
    /// The unit and chunk whose blob it ingests.
    pub unit: UnitNumber,
    /// See `unit`.
    pub chunk: u32,
    /// Its state.
    pub state: CommandState,
    /// Changes with every write.
    pub revision: i64,
    /// Value of its `ingest-by:` tag, the same at every sending.
    pub tag: String,
    /// The blob.
    pub blob: String,
    /// Rows in it.
    pub rows: u64,
    /// Bytes of its records before compression.
    pub raw_bytes: u64,
}

/// A node, as stored.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct NodeRow {
    /// Its id: one life of a node.
    pub id: NodeId,
    /// Its name.
    pub name: String,
    /// Its integration runtime.
    pub runtime: RuntimeName,
    /// Its slots.
    pub slots: u32,
    /// Version of its program.
    pub program_version: String,
    /// When it registered.
    pub registered: Millis,
    /// When it was last heard, to a few seconds.
    pub last_seen: Millis,
    /// It shall take no more work.
    pub is_draining: bool,
    /// It said goodbye.
    pub has_left: bool,
    /// Who it is by its certificate; `None` where none is asked for.
    #[serde(default)]
    pub identity: Option<IdentityId>,
    /// It may delete and move files of its sources.
    #[serde(default)]
    pub may_change_sources: bool,
}

/// Units of a run by their numbers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Numbers {
    /// Below the first.
    pub after: UnitNumber,
    /// The last.
    pub up_to: UnitNumber,
}

impl Numbers {
    /// All of them, the listing too. For what few of them are: a commit over a million units holds up everybody else.
    pub const ALL: Self = Self { after: UnitNumber::LISTING, up_to: UnitNumber(u64::MAX) };

    /// Whether a number is among them.
    pub fn have(self, number: UnitNumber) -> bool {
        self == Self::ALL || (number > self.after && number <= self.up_to)
    }
}

/// One run, and no later one of the same id: another coordinator may have forgotten it, and its id be taken anew.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ThisRun {
    /// Its id.
    pub id: RunId,
    /// When it was submitted.
    pub submitted: Millis,
}

impl From<&RunRow> for ThisRun {
    fn from(run: &RunRow) -> Self {
        Self { id: run.id.clone(), submitted: run.times.submitted }
    }
}

/// One change. See [`Store::commit`].
#[derive(Debug, Clone)]
pub enum Write {
    /// A new run. Conflict if the id is taken.
    InsertRun(Box<RunRow>),
    /// A run as it shall be; its revision is the one it was read with.
    UpdateRun(Box<RunRow>),
    /// New units. Conflict if a number is taken.
    InsertUnits(Vec<UnitRow>),
    /// Files that an attempt at a listing has named. Conflict if it has named one before.
    InsertListed {
        /// The run.
        run: RunId,
        /// The attempt at its listing.
        attempt: AttemptNumber,
        /// Keys of the files.
        keys: Vec<String>,
    },
    /// So many of the files that attempts at the listing of a run have named. Conflict if there is no such run.
    DeleteListed(ThisRun, u32),
    /// A unit as it shall be; its revision is the one it was read with.
    UpdateUnit(Box<UnitRow>),
    /// A run gets another driver, or none. Conflict if its epoch is not this one any more; it is raised by one.
    ClaimRun {
        /// The run.
        run: RunId,
        /// The driver from now on; empty: nobody.
        coordinator: String,
        /// The epoch that was found.
        epoch: i64,
        /// The beat that was found: a driver that has beaten since is not silent. `None`: whatever it is.
        beat: Option<i64>,
    },
    /// The driver of a run lives. Conflict if the epoch is another.
    BeatRun {
        /// The run.
        run: RunId,
        /// The driver's epoch.
        epoch: i64,
    },
    /// Changes nothing. Conflict if the run's epoch is another: whoever writes this along is still its driver.
    HoldRun {
        /// The run.
        run: RunId,
        /// The driver's epoch.
        epoch: i64,
    },
    /// Files of a run with numbers above this one, when it is listed again. Only while it is planned.
    DeleteFiles(RunId, UnitNumber),
    /// Units of a run that are pending or staged become `Dropped`; leased ones come to an end of their own first.
    DropUnits(RunId, Numbers),
    /// Units of a run that are pending become `Dropped`.
    DropPending(RunId, Numbers),
    /// The run is to end, and what is begun is brought to its end: pending units with such a number are dropped, and staged ones of
    /// files of which nothing was sent, or a part is lost. Commands that were never sent go with their units.
    DropUntouched(RunId, Numbers),
    /// Every staged unit with such a number becomes `Ingested`.
    ConfirmUnits(RunId, Numbers),
    /// An accepted chunk. Conflict if the number is taken.
    InsertChunk(ChunkRow),
    /// A chunk whose blob is gone.
    DeleteChunk(RunId, UnitNumber, u32),
    /// New commands. Conflict if one is there.
    InsertCommands(Vec<CommandRow>),
    /// A command as it shall be; its revision is the one it was read with.
    UpdateCommand(Box<CommandRow>),
    /// A command that has had no effect and will have none.
    DeleteCommand(RunId, UnitNumber, u32),
    /// A node, new or changed.
    PutNode(NodeRow),
    /// These file versions are in their table, in place of others of the same files.
    PutLoaded(Vec<LoadedFile>),
    /// Files of a table that are to be loaded again.
    ForgetLoaded {
        /// The table.
        sink: String,
        /// Keys of the files.
        keys: Vec<String>,
    },
    /// The run loads into a table from now on. Conflict while another one does that has not ended.
    ClaimSink {
        /// The table.
        sink: String,
        /// The run.
        run: RunId,
    },
    /// Units with numbers above this one, their chunks and commands, of a run that has ended and was swept. Conflict if there is
    /// no such run.
    DeleteUnits(ThisRun, UnitNumber),
    /// Everything about a run that has ended and was swept. Conflict if there is no such run.
    DeleteRun(ThisRun),
    /// What a run has measured, beside what is known. Never a conflict.
    AddPace(Box<PaceRow>),
    /// What was measured last before this.
    ForgetPaces(Millis),
}

/// A unit that is leased.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LeasedUnit {
    /// Its run.
    pub run: RunId,
    /// Its number in the run.
    pub number: UnitNumber,
    /// Changes with every write, so with every renewal.
    pub revision: i64,
}

/// How many units of a run are in which state, files only.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct UnitCounts {
    /// By state.
    pub pending: u64,
    /// By state.
    pub leased: u64,
    /// By state.
    pub staged: u64,
    /// By state.
    pub ingested: u64,
    /// By state.
    pub failed: u64,
    /// By state.
    pub skipped: u64,
    /// By state.
    pub dropped: u64,
    /// Files of all units, of those that are staged or ingested, and of those that were left out.
    pub files_total: u64,
    /// See `files_total`.
    pub files_done: u64,
    /// See `files_total`.
    pub files_skipped: u64,
    /// Bytes of all files.
    pub bytes_total: u64,
    /// Bytes of files that are staged or ingested.
    pub bytes_done: u64,
    /// Sum over all units.
    pub counters: Counters,
}

impl UnitCounts {
    /// Units in all.
    pub fn total(&self) -> u64 {
        self.pending + self.leased + self.staged + self.ingested + self.failed + self.skipped + self.dropped
    }
}

/// How many commands of a run are in which state.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct CommandCounts {
    /// By state.
    pub planned: u64,
    /// By state.
    pub issued: u64,
    /// By state.
    pub confirmed: u64,
    /// By state.
    pub rejected: u64,
    /// Rows of confirmed commands.
    pub rows_confirmed: u64,
    /// Bytes before compression of confirmed commands.
    pub bytes_confirmed: u64,
    /// Rows of all commands.
    pub rows_total: u64,
}

/// Slots of a node that a run holds.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HeldSlots {
    /// The run.
    pub run: RunId,
    /// The node.
    pub node: NodeId,
    /// So many.
    pub slots: u32,
}

/// Which commands of a run are not at their end.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct OpenCommands {
    /// So many are in flight.
    pub issued: u64,
    /// Some are planned, those in doubt counted.
    pub any_planned: bool,
    /// The sending of some is in doubt.
    pub any_doubtful: bool,
}

/// Everything that must survive. What is asked for again and again costs the same however many units a run has; what reads
/// all of them says so.
#[async_trait]
pub trait Store: Send + Sync {
    /// No other coordinator can have it open.
    fn is_exclusive(&self) -> bool;

    /// Applies all writes, or none. [`StoreError::Conflict`] when one of them finds what it does not expect.
    async fn commit(&self, writes: Vec<Write>) -> Result<(), StoreError>;

    /// A run.
    async fn run(&self, id: &RunId) -> Result<Option<RunRow>, StoreError>;

    /// Runs that are not final, and final ones that are to be swept; oldest first.
    async fn live_runs(&self) -> Result<Vec<RunRow>, StoreError>;

    /// Runs submitted before this that have ended and were swept, oldest first.
    async fn past_runs(&self, submitted_before: Millis, limit: u32) -> Result<Vec<RunId>, StoreError>;

    /// The newest runs.
    async fn recent_runs(&self, limit: u32) -> Result<Vec<RunRow>, StoreError>;

    /// A page of runs.
    async fn run_page(&self, query: &RunQuery) -> Result<Vec<RunRow>, StoreError>;

    /// A page of a run's files.
    async fn file_page(&self, run: &RunId, query: &FileQuery) -> Result<FilePage, StoreError>;

    /// A page of a run's ingest commands.
    async fn command_page(&self, run: &RunId, query: &CommandQuery) -> Result<CommandPage, StoreError>;

    /// A unit.
    async fn unit(&self, run: &RunId, number: UnitNumber) -> Result<Option<UnitRow>, StoreError>;

    /// Pending units of a run that may be granted at `now`, largest first.
    async fn pending_units(&self, run: &RunId, now: Millis, limit: u32) -> Result<Vec<UnitRow>, StoreError>;

    /// Units that a node has leases of.
    async fn leased_units(&self, node: &NodeId, limit: u32) -> Result<Vec<UnitRow>, StoreError>;

    /// All units that are leased.
    async fn leases(&self) -> Result<Vec<LeasedUnit>, StoreError>;

    /// Files of a run in order of their numbers, after `after`; only those in `state`, if given.
    async fn files(
        &self,
        run: &RunId,
        state: Option<&str>,
        after: UnitNumber,
        limit: u32,
    ) -> Result<Vec<UnitRow>, StoreError>;

    /// Files of a run that are pending after an attempt that failed.
    async fn retried_units(&self, run: &RunId, limit: u32) -> Result<Vec<UnitRow>, StoreError>;

    /// Whether files of a run are pending or leased.
    async fn has_open_units(&self, run: &RunId) -> Result<bool, StoreError>;

    /// Who holds how many leases, listings counted.
    async fn held_slots(&self) -> Result<Vec<HeldSlots>, StoreError>;

    /// Counts over the files of a run. Reads all of them.
    async fn unit_counts(&self, run: &RunId) -> Result<UnitCounts, StoreError>;

    /// Accepted chunks of a unit, by number.
    async fn chunks(&self, run: &RunId, unit: UnitNumber) -> Result<Vec<ChunkRow>, StoreError>;

    /// Commands of a run in one state.
    async fn commands(&self, run: &RunId, state: &str, limit: u32) -> Result<Vec<CommandRow>, StoreError>;

    /// Commands of a run that are planned, were never sent or surely had no effect, and may be sent at `now`.
    async fn due_commands(&self, run: &RunId, now: Millis, limit: u32) -> Result<Vec<CommandRow>, StoreError>;

    /// Commands of a run that are planned and whose sending is in doubt.
    async fn doubtful_commands(&self, run: &RunId, limit: u32) -> Result<Vec<CommandRow>, StoreError>;

    /// Commands of one unit.
    async fn unit_commands(&self, run: &RunId, unit: UnitNumber) -> Result<Vec<CommandRow>, StoreError>;

    /// Which commands of a run are not at their end.
    async fn open_commands(&self, run: &RunId) -> Result<OpenCommands, StoreError>;

    /// Counts over the commands of a run. Reads all of them.
    async fn command_counts(&self, run: &RunId) -> Result<CommandCounts, StoreError>;

    /// Of these keys, those of files that an attempt at a listing has named. At most as many as a page of a listing has files.
    async fn listed_files(
        &self,
        run: &RunId,
        attempt: AttemptNumber,
        keys: &[String],
    ) -> Result<Vec<String>, StoreError>;

    /// Whether anything is kept of what listings of a run have named.
    async fn has_listed_files(&self, run: &RunId) -> Result<bool, StoreError>;

    /// Of the files of a table with these keys, those that are loaded. At most as many keys as a page of a listing has files.
    async fn loaded_files(&self, sink: &str, keys: &[String]) -> Result<Vec<LoadedFile>, StoreError>;

    /// Loaded files of a table in order of their keys, after `after`.
    async fn loaded_page(&self, sink: &str, after: &str, limit: u32) -> Result<Vec<LoadedFile>, StoreError>;

    /// Paths of units that are not ingested and of which some rows are in the table, or may be. Reads all units of the run.
    async fn half_ingested(&self, run: &RunId, limit: u32) -> Result<Vec<String>, StoreError>;

    /// A node.
    async fn node(&self, id: &NodeId) -> Result<Option<NodeRow>, StoreError>;

    /// Nodes that were heard since `since`.
    async fn nodes(&self, since: Millis) -> Result<Vec<NodeRow>, StoreError>;

    /// How commands of this kind went.
    async fn pace(&self, key: &PaceKey) -> Result<Option<PaceRow>, StoreError>;
}
