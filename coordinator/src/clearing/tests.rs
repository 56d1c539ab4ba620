//! Pages of files, and what becomes of them, over the store in memory.

use super::*;
use crate::{
    core::tests::{core_at, lease},
    store::{Totals, UnitCounts, conformance::new_run},
};
use ferry_common::{
    clock::{Clock, SystemClock},
    unit::FileRange,
};
use std::sync::Arc;

/// A run whose files are deleted, with these units.
async fn clearing(units: Vec<UnitRow>) -> (Core, RunRow) {
    clearing_at(Arc::new(SystemClock), units).await
}

pub(crate) async fn clearing_at(clock: Arc<dyn Clock>, units: Vec<UnitRow>) -> (Core, RunRow) {
    let core = core_at(clock);
    let mut run = new_run("r", 1);
    run.state = RunState::Clearing;
    run.activity.source.delete_files_after_completion = true;
    run.clearing = Some(Clearing::NEW);
    let counts = UnitCounts { files_done: units.len() as u64 - 1, ..UnitCounts::default() };
    run.totals = Some(Totals { units: counts, ..Totals::default() });
    let writes = vec![Write::InsertRun(Box::new(run.clone())), Write::InsertUnits(units)];
    core.store.commit(writes).await.unwrap();
    (core, run)
}

pub(crate) fn unit(number: u64, name: &str, state: UnitState) -> UnitRow {
    let file = file(name);
    UnitRow { state, ..UnitRow::new("r".parse().unwrap(), UnitNumber(number), file) }
}

fn part(number: u64, name: &str, part: u32, count: u32, state: UnitState) -> UnitRow {
    let range = FileRange { start: 0, end: 1, number: part, count };
    UnitRow { scope: Scope::Range(range), ..unit(number, name, state) }
}

fn file(name: &str) -> FileVersion {
    let (path, relative_path) = (format!("/d/{name}"), name.to_owned());
    FileVersion { path, relative_path, size_bytes: 1, modified_ns: 2, etag: "e".to_owned() }
}

fn skipped() -> UnitState {
    UnitState::Skipped { failure: Failure::internal("x") }
}

async fn stored(core: &Core, run: &RunRow) -> (Clearing, UnitState) {
    let run = core.store.run(&run.id).await.unwrap().unwrap();
    let unit = core.store.unit(&run.id, UnitNumber::LISTING).await.unwrap().unwrap();
    (run.clearing.unwrap(), unit.state)
}

#[tokio::test]
async fn only_files_of_which_everything_is_loaded_are_on_a_page() {
    let done = || UnitState::Ingested;
    let mut pack = unit(8, "p1", done());
    pack.scope = Scope::Pack(vec![file("p1"), file("p2")]);
    let units = vec![
        unit(0, "", UnitState::NEW),
        unit(1, "a", done()),
        unit(2, "skipped", skipped()),
        part(3, "whole", 0, 3, done()),
        part(4, "whole", 1, 3, done()),
        part(5, "whole", 2, 3, done()),
        part(6, "half", 0, 2, done()),
        part(7, "half", 1, 2, skipped()),
        pack,
    ];
    let (core, run) = clearing(units).await;
    let work = core.clear_work(&run).await.unwrap();
    let names: Vec<_> = work.files.iter().map(|f| f.relative_path.as_str()).collect();
    assert_eq!((names, work.move_to), (vec!["a", "whole", "p1", "p2"], None));

    let key = lease(&core).await;
    let changed = FileEnd::Changed("it was replaced".to_owned());
    let ends = [FileEnd::Done, FileEnd::Gone, changed, FileEnd::Done];
    let late = AttemptKey { token: LeaseToken::generate(), ..key.clone() };
    assert!(!core.cleared(&late, &ends).await.unwrap(), "without the lease nothing is taken");
    assert!(core.cleared(&key, &ends).await.unwrap());
    let (clearing, state) = stored(&core, &run).await;
    assert_eq!((clearing.done, clearing.gone, clearing.left), (2, 1, 1));
    assert_eq!((clearing.reasons, state), (vec!["p1: it was replaced".to_owned()], UnitState::Ingested));
    let left = core.store.unit(&run.id, UnitNumber(8)).await.unwrap().unwrap().tail.left;
    assert_eq!(left, [LeftFile { relative_path: "p1".to_owned(), why: "it was replaced".to_owned() }]);
    assert!(!core.cleared(&key, &ends).await.unwrap(), "a report that comes twice counts once");
}

#[tokio::test]
async fn pages_follow_each_other_until_nothing_is_left() {
    let files = (1..=1_500).map(|n| unit(n, &n.to_string(), UnitState::Ingested));
    let (core, run) = clearing(std::iter::once(unit(0, "", UnitState::NEW)).chain(files).collect()).await;
    for (files, done, is_last) in [(1_000, 1_000, false), (500, 1_500, true)] {
        let key = lease(&core).await;
        let now = core.store.run(&run.id).await.unwrap().unwrap();
        assert_eq!(core.clear_work(&now).await.unwrap().files.len(), files);
        assert!(core.cleared(&key, &vec![FileEnd::Done; files]).await.unwrap());
        let (clearing, state) = stored(&core, &run).await;
        assert_eq!((clearing.done, state == UnitState::Ingested), (done, is_last));
    }
}

#[tokio::test]
async fn an_answer_that_does_not_fit_its_page_counts_as_a_failure() {
    let (core, run) = clearing(vec![unit(0, "", UnitState::NEW), unit(1, "a", UnitState::Ingested)]).await;
    let key = lease(&core).await;
    assert!(core.cleared(&key, &[]).await.unwrap());
    let (clearing, state) = stored(&core, &run).await;
    assert_eq!(clearing, Clearing::NEW);
    assert!(matches!(state, UnitState::Pending { failures: 1, .. }), "{state:?}");
}

fn run(clearing: Clearing, files_done: u64) -> RunRow {
    let mut run = new_run("r", 1);
    run.activity.source.delete_files_after_completion = true;
    run.clearing = Some(clearing);
    let units = UnitCounts { files_done, ..UnitCounts::default() };
    run.totals = Some(Totals { units, ..Totals::default() });
    run
}

#[test]
fn files_that_are_left_are_told_with_their_number_and_first_reasons() {
    let gone = Clearing { done: 3, gone: 1, ..Clearing::NEW };
    let told = warnings_of(&run(gone, 4), Some("x"), false);
    assert!(told.len() == 1 && told[0].starts_with("1 source file gone before being deleted"), "{told:?}");
    let whole = Clearing { done: 4, ..Clearing::NEW };
    assert_eq!(warnings_of(&run(whole.clone(), 4), Some("x"), false), Vec::<String>::new());

    let some = Clearing { left: 2, reasons: vec!["a.csv: it was replaced".to_owned()], ..whole.clone() };
    let told = warnings_of(&run(some, 6), None, false);
    assert_eq!(
        told,
        ["2 loaded source files left in place instead of being deleted: a.csv: it was replaced; and others, \
          which the report names"]
    );

    let told = warnings_of(&run(whole, 10), Some("the run was asked to end"), false);
    assert_eq!(told, ["6 loaded source files left in place instead of being deleted: the run was asked to end"]);
}
