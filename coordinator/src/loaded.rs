//! What a run with `source.skipLoadedFiles` knows of files that were loaded before, and what it puts down itself. Pure.
//!
//! A file is known by its integration runtime and its absolute path, a table by its cluster's host, its database and its name. Both
//! are hashed. Only one run at a time loads into a table with this setting: two would list the same new file.

use crate::{
    listed::{hash_of, keeping},
    state::run::RunState,
    store::{LoadedFile, RunRow, UnitRow},
};
use ferry_common::{
    activity::Publish,
    clock::Millis,
    id::{RunId, RuntimeName},
    unit::{FileVersion, ListPage, Scope},
};
use std::{
    collections::{HashMap, hash_map::Entry},
    slice,
};

/// The run leaves out what was loaded before, and puts down what it loads.
pub(crate) fn keeps_ledger(run: &RunRow) -> bool {
    run.activity.source.keeps_ledger() && !run.is_dry
}

/// A table. However its cluster's address is written, it is the same one.
pub(crate) fn sink_of(endpoint: &str, database: &str, table: &str) -> String {
    let place = match reqwest::Url::parse(endpoint) {
        Ok(url) => {
            let port = url.port_or_known_default().unwrap_or(0);
            format!("{}:{port}{}", url.host_str().unwrap_or_default(), url.path().trim_end_matches('/'))
        }
        Err(_) => endpoint.to_owned(),
    };
    hash_of(&[&place, database, table])
}

/// The table of a run.
pub(crate) fn sink_of_run(run: &RunRow) -> String {
    let sink = &run.activity.sink;
    sink_of(&sink.endpoint, &sink.database, &sink.table)
}

/// A file.
pub(crate) fn key_of(runtime: &RuntimeName, path: &str) -> String {
    hash_of(&[runtime.as_str(), path])
}

/// What is put down of a file that a run has loaded.
pub(crate) fn loaded_by(run: &RunRow, sink: &str, file: &FileVersion, now: Millis) -> LoadedFile {
    let runtime = &run.activity.source.connect_via;
    LoadedFile {
        sink: sink.to_owned(),
        key: key_of(runtime, &file.path),
        runtime: runtime.to_string(),
        path: file.path.clone(),
        size_bytes: file.size_bytes,
        modified_ns: file.modified_ns,
        etag: file.etag.clone(),
        run: run.id.clone(),
        loaded: now,
    }
}

/// The page without the files that are known, and how many these are.
pub(crate) fn without(page: &ListPage, runtime: &RuntimeName, known: &[LoadedFile]) -> (ListPage, u64) {
    let known: HashMap<&str, &LoadedFile> = known.iter().map(|file| (file.key.as_str(), file)).collect();
    let is_known =
        |file: &FileVersion| known.get(key_of(runtime, &file.path).as_str()).is_some_and(|known| known.is(file));
    let left = keeping(page, |file| !is_known(file));
    let left_out = page.files.len() - left.files.len();
    (left, left_out as u64)
}

/// What a run says of files that it has left out; `None`: there are none.
pub(crate) fn told(run: &RunRow) -> Option<String> {
    let count = run.files_loaded_before;
    if count == 0 {
        return None;
    }
    let rest = match (run.files, run.activity.sink.publish) {
        (0, _) => "; there is no other file, and nothing was copied",
        (_, Publish::Replace) => {
            "; the table will hold the rows of the other files alone, as sink.publish: replace says"
        }
        _ => "",
    };
    Some(format!(
        "{count} files were left out: they were loaded into this table before; `ferry loaded forget` has them loaded again{rest}"
    ))
}

/// Runs that have to wait for another one, and for which. `runs` are those that live, in the order in which they begin.
pub(crate) fn waiting(runs: &[RunRow]) -> HashMap<RunId, RunId> {
    let mut loading: HashMap<String, &RunId> = HashMap::new();
    let mut waiting = HashMap::new();
    let open = || runs.iter().filter(|run| keeps_ledger(run) && !run.state.is_final());
    for run in open().filter(|run| run.state != RunState::Queued) {
        loading.entry(sink_of_run(run)).or_insert(&run.id);
    }
    for run in open().filter(|run| run.state == RunState::Queued) {
        match loading.entry(sink_of_run(run)) {
            Entry::Occupied(other) => {
                let other: &RunId = other.get();
                waiting.insert(run.id.clone(), other.clone());
            }
            Entry::Vacant(place) => {
                place.insert(&run.id);
            }
        }
    }
    waiting
}

/// Finds files of which all units are ingested, among ingested units in the order of their numbers.
#[derive(Debug, Default)]
pub(crate) struct WholeFiles {
    /// The split file whose parts are being met.
    parts: Option<Parts>,
    /// Paths of split files of which parts are missing.
    pub(crate) broken: Vec<String>,
}

/// Parts of a split file. Their units have consecutive numbers.
#[derive(Debug)]
struct Parts {
    path: String,
    /// Number of the unit of the first part.
    first: u64,
    met: u32,
}

/// Split files of which parts are missing that are remembered.
const BROKEN_MAX: usize = 100;

impl WholeFiles {
    /// Files that are whole with this unit.
    pub(crate) fn with<'a>(&mut self, unit: &'a UnitRow) -> &'a [FileVersion] {
        let Scope::Range(range) = &unit.scope else {
            self.end();
            return unit.files();
        };
        let first = unit.number.0.saturating_sub(u64::from(range.number));
        if self.parts.as_ref().is_none_or(|parts| parts.first != first || parts.path != unit.file.path) {
            self.end();
        }
        let parts = self.parts.get_or_insert_with(|| Parts { path: unit.file.path.clone(), first, met: 0 });
        parts.met += 1;
        if parts.met < range.count {
            return &[];
        }
        self.parts = None;
        slice::from_ref(&unit.file)
    }

    /// No more parts of the last file follow.
    pub(crate) fn end(&mut self) {
        if let Some(parts) = self.parts.take()
            && self.broken.len() < BROKEN_MAX
        {
            self.broken.push(parts.path);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{listed::HASH_BYTES, store::conformance::new_run};
    use ferry_common::{id::UnitNumber, unit::FileRange};

    fn file(path: &str, size_bytes: u64) -> FileVersion {
        FileVersion {
            path: path.to_owned(),
            relative_path: path.to_owned(),
            size_bytes,
            modified_ns: 7,
            etag: "e".to_owned(),
        }
    }

    fn page(files: Vec<FileVersion>, splits: Vec<(u32, Vec<FileRange>)>) -> ListPage {
        ListPage { number: 3, files, splits, last: true, sample: Vec::new(), warnings: Vec::new(), trial: None }
    }

    fn range(number: u32, count: u32) -> FileRange {
        FileRange { start: 0, end: 0, number, count }
    }

    fn ledger_run(id: &str, submitted: i64) -> RunRow {
        let mut run = new_run(id, submitted);
        run.activity.source.skip_loaded_files = true;
        run
    }

    #[test]
    fn a_table_is_the_same_however_its_cluster_is_written() {
        let one = sink_of("https://Adx.example.net", "D", "T");
        assert_eq!(one.len(), 2 * HASH_BYTES);
        for same in ["https://adx.example.net/", "https://adx.example.net:443"] {
            assert_eq!(sink_of(same, "D", "T"), one, "{same}");
        }
        for (endpoint, database, table) in [
            ("https://adx.example.net:444", "D", "T"),
            ("https://other.example.net", "D", "T"),
            ("https://adx.example.net", "DT", ""),
            ("https://adx.example.net", "D", "t"),
        ] {
            assert_ne!(sink_of(endpoint, database, table), one, "{endpoint} {database} {table}");
        }
    }

    #[test]
    fn known_versions_leave_a_page_and_parts_stay_with_their_files() {
        let run = ledger_run("r", 1);
        let runtime = &run.activity.source.connect_via;
        let files = vec![file("/d/a", 1), file("/d/b", 2), file("/d/c", 3), file("/d/d", 4)];
        let splits = vec![(1, vec![range(0, 2), range(1, 2)]), (3, vec![range(0, 1)])];
        let known = |file: &FileVersion| loaded_by(&run, "s", file, Millis(1));
        // Of `c` another version is known, and of `a` one of another runtime's nodes.
        let other_runtime = LoadedFile { key: key_of(&"other".parse().unwrap(), "/d/a"), ..known(&file("/d/a", 1)) };
        let ledger = [other_runtime, known(&file("/d/b", 2)), known(&file("/d/c", 9))];
        let (left, left_out) = without(&page(files.clone(), splits), runtime, &ledger);
        assert_eq!((left_out, left.number, left.last), (1, 3, true));
        assert_eq!(left.files, [files[0].clone(), files[2].clone(), files[3].clone()]);
        assert_eq!(left.splits, [(2, vec![range(0, 1)])]);
        for other in [FileVersion { modified_ns: 8, ..file("/d/b", 2) }, file("/d/b", 3)] {
            assert!(!known(&file("/d/b", 2)).is(&other), "{other:?} is another version");
        }
        let mounted_anew = FileVersion { etag: "f".to_owned(), ..file("/d/b", 2) };
        assert!(known(&file("/d/b", 2)).is(&mounted_anew));
    }

    #[test]
    fn a_split_file_is_whole_with_its_last_part_and_not_without_one() {
        let run = ledger_run("r", 1);
        let mut number = 0;
        let mut unit = |path: &str, scope: Scope| {
            number += 1;
            let mut unit = UnitRow::new(run.id.clone(), UnitNumber(number), file(path, 1));
            unit.scope = scope;
            unit
        };
        let units = [
            unit("/a", Scope::File),
            unit("/b", Scope::Range(range(0, 2))),
            unit("/b", Scope::Range(range(1, 2))),
            unit("/c", Scope::Pack(vec![file("/c", 1), file("/d", 1)])),
            unit("/e", Scope::Range(range(0, 3))),
            unit("/e", Scope::Range(range(1, 3))),
            unit("/e", Scope::Range(range(2, 3))),
            // Listed twice: each time it is by itself.
            unit("/f", Scope::Range(range(0, 2))),
            unit("/f", Scope::Range(range(1, 2))),
            unit("/f", Scope::Range(range(0, 2))),
            unit("/f", Scope::Range(range(1, 2))),
        ];
        for (case, missing, expected, broken) in [
            ("all", vec![], vec!["/a", "/b", "/c", "/d", "/e", "/f", "/f"], vec![]),
            ("the middle part", vec![5], vec!["/a", "/b", "/c", "/d", "/f", "/f"], vec!["/e"]),
            ("last parts", vec![2, 10], vec!["/a", "/c", "/d", "/e", "/f"], vec!["/b", "/f"]),
            ("first parts", vec![1, 7], vec!["/a", "/c", "/d", "/e", "/f"], vec!["/b", "/f"]),
        ] {
            let mut whole = WholeFiles::default();
            let mut found = Vec::new();
            for (_, unit) in units.iter().enumerate().filter(|(at, _)| !missing.contains(at)) {
                found.extend(whole.with(unit).iter().map(|file| file.path.as_str()));
            }
            whole.end();
            assert_eq!((found, whole.broken), (expected, broken.iter().map(|&p| p.to_owned()).collect()), "{case}");
        }
    }

    #[test]
    fn runs_of_one_table_wait_for_each_other_and_others_do_not() {
        let mut other_table = ledger_run("other-table", 3);
        other_table.activity.sink.table = "U".to_owned();
        let mut without = ledger_run("without", 4);
        without.activity.source.skip_loaded_files = false;
        let dry = RunRow { is_dry: true, ..ledger_run("dry", 5) };
        let mut runs = vec![ledger_run("first", 1), ledger_run("second", 2), other_table, without, dry];
        let id = |text: &str| text.parse::<RunId>().unwrap();
        let pairs = |pairs: &[(&str, &str)]| pairs.iter().map(|(a, b)| (id(a), id(b))).collect::<HashMap<_, _>>();
        assert_eq!(waiting(&runs), pairs(&[("second", "first")]));
        // Whoever has begun goes on.
        runs[1].state = RunState::Copying;
        assert_eq!(waiting(&runs), pairs(&[("first", "second")]));
        runs[1].state = RunState::Succeeded;
        assert_eq!(waiting(&runs), pairs(&[]));
    }

    #[test]
    fn what_was_left_out_is_told() {
        let mut run = RunRow { files: 1, ..ledger_run("r", 1) };
        assert_eq!(told(&run), None);
        run.files_loaded_before = 2;
        let words = told(&run).unwrap();
        assert!(words.starts_with("2 files were left out") && !words.contains("nothing was copied"), "{words}");
        run.files = 0;
        assert!(told(&run).unwrap().contains("nothing was copied"));
    }
}
