//! Pages of long lists: which one is wanted, and what came of it. A page costs about the same wherever in the list it is: it
//! goes on after a row that is known, and looks at a bounded number of rows.

use super::{CommandRow, UnitRow};
use ferry_common::{
    clock::Millis,
    id::{RunId, UnitNumber},
};

/// Rows that one page looks at when it has to look at each. What it found by then is a page, too.
pub const ROWS_LOOKED_AT_MAX: u32 = 20_000;

/// States of units that have an index of their own: mostly few units are in them.
pub(super) const UNITS_OF_FEW: [&str; 4] = ["Pending", "Leased", "Failed", "Skipped"];
/// The same of commands.
pub(super) const COMMANDS_OF_FEW: [&str; 3] = ["Planned", "Issued", "Rejected"];

/// What files are sorted by. Equal ones stand in the order of their numbers.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum FileSort {
    /// Their paths.
    #[default]
    Path,
    /// Bytes that their units have to read.
    Size,
}

/// A place between files: just after this one, in whatever order.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FilePlace {
    /// The unit.
    pub number: UnitNumber,
    /// Its path.
    pub path: String,
    /// Bytes that it has to read.
    pub size_bytes: u64,
}

impl From<&UnitRow> for FilePlace {
    fn from(unit: &UnitRow) -> Self {
        Self { number: unit.number, path: unit.file.path.clone(), size_bytes: unit.size_bytes }
    }
}

/// Which page of a run's files is wanted.
#[derive(Debug, Clone)]
pub struct FileQuery {
    /// Only those in this state.
    pub state: Option<&'static str>,
    /// Only those whose path holds this text, whatever the case of its letters.
    pub search: Option<String>,
    /// What they are sorted by.
    pub sort: FileSort,
    /// From the last to the first.
    pub is_descending: bool,
    /// Where the page begins; `None`: at the start.
    pub after: Option<FilePlace>,
    /// So many at most.
    pub limit: u32,
    /// As [`ROWS_LOOKED_AT_MAX`].
    pub rows_looked_at_max: u32,
}

impl Default for FileQuery {
    fn default() -> Self {
        Self {
            state: None,
            search: None,
            sort: FileSort::Path,
            is_descending: false,
            after: None,
            limit: 100,
            rows_looked_at_max: ROWS_LOOKED_AT_MAX,
        }
    }
}

/// A page of files.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct FilePage {
    /// What was found. May be less than was asked for, even nothing, and more may follow.
    pub units: Vec<UnitRow>,
    /// After which unit to go on; `None`: nothing follows.
    pub next: Option<UnitNumber>,
}

/// Which page of a run's ingest commands is wanted. They stand in the order of units and chunks.
#[derive(Debug, Clone)]
pub struct CommandQuery {
    /// Only those in this state.
    pub state: Option<&'static str>,
    /// Where the page begins: after this unit and chunk.
    pub after: Option<(UnitNumber, u32)>,
    /// So many at most.
    pub limit: u32,
    /// As [`ROWS_LOOKED_AT_MAX`].
    pub rows_looked_at_max: u32,
}

impl Default for CommandQuery {
    fn default() -> Self {
        Self { state: None, after: None, limit: 100, rows_looked_at_max: ROWS_LOOKED_AT_MAX }
    }
}

/// A page of commands.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct CommandPage {
    /// What was found, as in [`FilePage::units`].
    pub commands: Vec<CommandRow>,
    /// After which unit and chunk to go on; `None`: nothing follows.
    pub next: Option<(UnitNumber, u32)>,
}

/// Which runs are wanted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RunsIn {
    /// Those that have not ended.
    Active,
    /// Those in this state, which is a final one.
    State(&'static str),
}

/// Which page of runs is wanted, the newest first.
#[derive(Debug, Clone)]
pub struct RunQuery {
    /// Only these.
    pub only: Option<RunsIn>,
    /// Only those of this schedule, as their ids tell.
    pub schedule: Option<String>,
    /// Older than this one, by when it was submitted and its id.
    pub before: Option<(Millis, RunId)>,
    /// So many at most.
    pub limit: u32,
}

/// Takes from rows that stand in order what a page shows, and after which one to go on. `rows`: what comes after the place
/// where the page begins. `is_few`: all of those wanted may be looked at.
pub(super) fn cut<T, K>(
    rows: Vec<T>,
    wanted: Option<&dyn Fn(&T) -> bool>,
    is_few: bool,
    limit: u32,
    looked_at_max: u32,
    key: impl Fn(&T) -> K,
) -> (Vec<T>, Option<K>) {
    let limit = limit as usize;
    let looked_at_max = if wanted.is_none() || is_few { usize::MAX } else { looked_at_max as usize };
    let last_looked_at = looked_at_max.checked_sub(1).and_then(|at| rows.get(at)).map(&key);
    let is_wanted = |row: &T| wanted.is_none_or(|wanted| wanted(row));
    let mut found: Vec<T> = rows.into_iter().take(looked_at_max).filter(is_wanted).take(limit + 1).collect();
    if found.len() > limit {
        found.truncate(limit);
        let next = found.last().map(key);
        return (found, next);
    }
    (found, last_looked_at)
}
