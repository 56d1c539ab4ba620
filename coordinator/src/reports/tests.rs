//! Pages of a listing, over the store in memory.

use super::*;
use crate::{
    core::tests::{core_at, lease},
    store::conformance::new_run,
};
use ferry_common::{
    clock::SystemClock,
    unit::{FileVersion, Scope},
};
use std::{ops::Range, sync::Arc};

fn file(path: &str) -> FileVersion {
    let path = path.to_owned();
    FileVersion { relative_path: path.clone(), path, size_bytes: 1, modified_ns: 2, etag: "e".to_owned() }
}

/// Files of a folder of their own, enough of them to be packed.
fn many(numbers: Range<u32>) -> Vec<FileVersion> {
    numbers.map(|n| file(&format!("/d/many/{n}"))).collect()
}

/// A run that is being listed.
async fn planning() -> Core {
    let core = core_at(Arc::new(SystemClock));
    let run = RunRow { state: RunState::Planning, ..new_run("r", 1) };
    let listing = UnitRow::new(run.id.clone(), UnitNumber::LISTING, file("/d"));
    core.store.commit(vec![Write::InsertRun(Box::new(run)), Write::InsertUnits(vec![listing])]).await.unwrap();
    core
}

async fn send(core: &Core, key: &AttemptKey, number: u32, files: Vec<FileVersion>, last: bool) {
    let page = ListPage { number, files, splits: vec![], last, sample: vec![], warnings: vec![], trial: None };
    assert!(core.listed(key, &page).await.unwrap(), "page {number} must be taken");
}

/// Paths of all units' files, in their order.
async fn paths(core: &Core) -> Vec<String> {
    let units = core.store.files(&"r".parse().unwrap(), None, UnitNumber::LISTING, 9_999).await.unwrap();
    units.iter().flat_map(UnitRow::files).map(|file| file.path.clone()).collect()
}

#[tokio::test]
async fn a_file_that_is_named_on_several_pages_is_one_units() {
    let core = planning().await;
    let key = lease(&core).await;
    let mut first = many(0..100);
    first.extend([file("/d/a"), file("/d/b"), file("/d/a")]);
    send(&core, &key, 0, first.clone(), false).await;
    // Its answer was lost.
    send(&core, &key, 0, first, false).await;
    let mut second = vec![file("/d/b"), file("/d/c"), file("/d/many/7")];
    second.extend(many(90..200));
    send(&core, &key, 1, second, false).await;
    send(&core, &key, 2, vec![file("/d/a"), file("/d/many/150")], true).await;

    let mut expected: Vec<String> = many(0..200).into_iter().map(|file| file.path).collect();
    expected.extend(["/d/a", "/d/b", "/d/c"].map(str::to_owned));
    let mut found = paths(&core).await;
    expected.sort_unstable();
    found.sort_unstable();
    assert_eq!(found, expected);
    let run = core.store.run(&key.run).await.unwrap().unwrap();
    let units = core.store.files(&key.run, None, UnitNumber::LISTING, 9_999).await.unwrap();
    assert!(units.iter().any(|unit| matches!(unit.scope, Scope::Pack(_))), "files of packs are looked at, too");
    assert_eq!((run.files, run.units, run.files_named_again), (203, units.len() as u64, 15));
    assert_eq!(run.warnings.iter().filter(|told| told.contains("15 times")).count(), 1, "{:?}", run.warnings);
}

#[tokio::test]
async fn another_attempt_at_a_listing_names_the_same_files() {
    let core = planning().await;
    let key = lease(&core).await;
    send(&core, &key, 0, vec![file("/d/a"), file("/d/b")], false).await;
    assert!(
        core.change_unit(&key.run, key.unit, |_| Some(UnitEvent::GivenBack { token: key.token.clone() }))
            .await
            .unwrap()
    );
    // As the next grant does it.
    let run = core.store.run(&key.run).await.unwrap().unwrap();
    let anew = RunRow { listing_page: 0, files: 0, units: 0, ..run };
    let delete = Write::DeleteFiles(key.run.clone(), UnitNumber::LISTING);
    core.store.commit(vec![delete, Write::UpdateRun(Box::new(anew))]).await.unwrap();
    let key = lease(&core).await;
    send(&core, &key, 0, vec![file("/d/b"), file("/d/a")], true).await;
    assert_eq!(paths(&core).await, ["/d/b", "/d/a"]);
    assert!(core.store.run(&key.run).await.unwrap().unwrap().warnings.is_empty());
}

#[tokio::test]
async fn what_a_listing_has_named_is_forgotten_when_it_has_ended() {
    let core = planning().await;
    let key = lease(&core).await;
    send(&core, &key, 0, many(0..10), true).await;
    let run = core.store.run(&key.run).await.unwrap().unwrap();
    assert!(core.forget_listed(&run).await.unwrap());
    assert!(!core.forget_listed(&run).await.unwrap());
    assert_eq!(paths(&core).await.len(), 10, "its units stay");
}
