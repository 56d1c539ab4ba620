//! Duties over a store in memory, in made-up time.

use super::start;
use crate::{
    attempts::SyncAsk,
    clearing::tests::{clearing_at, unit},
    config::Limits,
    state::{run::RunState, unit::UnitState},
    store::{NodeRow, RunRow, UnitRow, Write},
};
use ferry_common::{
    clock::ManualClock,
    id::UnitNumber,
    unit::{AttemptKey, Counters},
};
use std::{sync::Arc, time::Duration};
use tokio_util::sync::CancellationToken;

/// A run of one file, and a node that takes it and hangs: it lives, and says so every second. Until the run has ended.
async fn end_with_a_node_that_hangs(slots: u32, is_cancelled: bool) -> (RunRow, UnitRow, Duration) {
    let clock = ManualClock::default();
    let units = vec![unit(0, "", UnitState::NEW), unit(1, "a", UnitState::Ingested)];
    let (core, run) = clearing_at(Arc::new(clock.clone()), units).await;
    let node = NodeRow {
        id: "n".parse().unwrap(),
        name: "n".to_owned(),
        runtime: run.activity.source.connect_via.clone(),
        slots,
        program_version: String::new(),
        registered: core.now(),
        last_seen: core.now(),
        is_draining: false,
        has_left: false,
        identity: None,
        may_change_sources: true,
    };
    core.store.commit(vec![Write::PutNode(node.clone())]).await.unwrap();
    let core = Arc::new(core);
    let _duties = start(core.clone(), CancellationToken::new());
    let (mut held, mut hanging, mut wants_end) = (Vec::new(), 0, is_cancelled);
    for second in 0..7_200 {
        let now = core.store.run(&run.id).await.unwrap().unwrap();
        if now.state.is_final() {
            let unit = core.store.unit(&run.id, UnitNumber::LISTING).await.unwrap().unwrap();
            return (now, unit, Duration::from_secs(second));
        }
        let ask = SyncAsk {
            node: node.id.clone(),
            identity: None,
            // What hangs keeps its slot, whoever waits for it.
            free_slots: slots - hanging,
            draining: false,
            wait: Duration::ZERO,
            renewals: held.iter().map(|key: &AttemptKey| (key.clone(), Counters::default())).collect(),
            reports: Vec::new(),
            by_blob: true,
            blob_asks: Vec::new(),
        };
        let answer = Box::pin(core.sync(ask)).await.unwrap();
        held.retain(|key| !answer.stops.iter().any(|(stopped, _)| stopped == key));
        hanging += answer.grants.len() as u32;
        held.extend(answer.grants.into_iter().map(|grant| grant.key));
        if wants_end && !held.is_empty() {
            wants_end = false;
            core.cancel(&run.id).await.unwrap();
        }
        clock.advance(Duration::from_secs(1));
        tokio::time::sleep(Duration::from_secs(1)).await;
    }
    panic!("the run holds on");
}

#[tokio::test(start_paused = true)]
async fn a_run_whose_nodes_hang_ends_well_and_says_what_it_does_not_know() {
    let (run, unit, _) = end_with_a_node_that_hangs(4, false).await;
    // Another node would have had its chance.
    assert_eq!((run.state, unit.attempts), (RunState::Succeeded, run.activity.settings.attempts_max));
    assert_eq!(
        run.warnings,
        ["1 loaded source file left in place instead of being deleted: nodes that took them went silent, or their \
          file system did not answer; some may be deleted all the same: a node that had begun did not say how far it came"]
    );
}

#[tokio::test(start_paused = true)]
async fn a_run_that_is_cancelled_does_not_wait_for_a_node_that_hangs() {
    let (run, unit, took) = end_with_a_node_that_hangs(4, true).await;
    assert_eq!((run.state, unit.attempts), (RunState::Succeeded, 1));
    assert!(took < Limits::default().lease_ttl * 2, "{took:?}");
    let told = run.warnings.join(" ");
    assert!(told.contains("deleted: the run was asked to end; some may be deleted all the same"), "{told}");
}

#[tokio::test(start_paused = true)]
async fn a_run_ends_though_a_hanging_node_has_no_slot_left_for_another_try() {
    let (run, unit, _) = end_with_a_node_that_hangs(1, false).await;
    assert_eq!((run.state, unit.attempts), (RunState::Succeeded, 1));
    let told = run.warnings.join(" ");
    assert!(told.contains("their file system did not answer; some may be deleted all the same"), "{told}");
}
