//! Submits the runs of schedules. Every coordinator does: a window is stored before its run is submitted, and its run's id
//! follows from it, so whoever is second finds it done.

use super::LOOK_INTERVAL;
use crate::{
    core::Core,
    store::{LastWindow, RunRow, ScheduleRow, Schedules, StoreError, Write},
};
use ferry_common::failure::{Code, Failure};
use std::sync::Arc;
use tokio_util::sync::CancellationToken;

/// Submits what is due, until `shutdown`.
pub(crate) async fn submit(core: Arc<Core>, schedules: Arc<dyn Schedules>, shutdown: CancellationToken) {
    loop {
        match schedules.schedules().await {
            Err(e) => tracing::error!("schedules: {e}"),
            Ok(rows) => {
                for row in rows {
                    let name = row.schedule.name.clone();
                    match step(&core, &*schedules, row).await {
                        // Another coordinator was there, or the schedule was changed: look again.
                        Ok(()) | Err(StoreError::Conflict) => {}
                        Err(e) => tracing::error!(schedule = name, "{e}"),
                    }
                }
            }
        }
        tokio::select! {
            () = tokio::time::sleep(LOOK_INTERVAL) => {}
            () = shutdown.cancelled() => return,
        }
    }
}

/// One step of a schedule: its window is stored, or the window's run is submitted, or there is nothing to do.
async fn step(core: &Core, schedules: &dyn Schedules, mut row: ScheduleRow) -> Result<(), StoreError> {
    if let Some(last) = row.last.clone() {
        if !last.is_submitted {
            return submit_run(core, schedules, row, last).await;
        }
        // One at a time. A run that was forgotten has ended.
        if core.store.run(&last.run).await?.is_some_and(|run| !run.state.is_final()) {
            return Ok(());
        }
    }
    if row.is_paused {
        return Ok(());
    }
    let now = schedules.time().await?;
    let due = row.schedule.due(row.reached, now).and_then(|window| {
        let Some(window) = window else { return Ok(None) };
        Ok(Some(LastWindow { window, run: row.schedule.run_id(window)?, is_submitted: false }))
    });
    match due {
        Ok(None) => Ok(()),
        Ok(Some(last)) => {
            row.reached = last.window.end;
            row.last = Some(last.clone());
            row.failure = None;
            schedules.put_schedule(&row).await?;
            row.revision += 1;
            submit_run(core, schedules, row, last).await
        }
        Err(failure) => note(schedules, row, failure).await,
    }
}

async fn submit_run(
    core: &Core,
    schedules: &dyn Schedules,
    mut row: ScheduleRow,
    last: LastWindow,
) -> Result<(), StoreError> {
    let activity = match row.schedule.activity_for(last.window, &last.run) {
        Ok(activity) => activity,
        Err(failure) => return note(schedules, row, failure).await,
    };
    let run = RunRow::new(last.run.clone(), activity.clone(), core.now());
    match core.commit(vec![Write::InsertRun(Box::new(run))]).await {
        Ok(()) => {
            tracing::info!(run = %last.run, schedule = row.schedule.name, "run is submitted");
            core.ring();
        }
        // It is there already, unless somebody else has taken its id.
        Err(StoreError::Conflict) => {
            let known = core.store.run(&last.run).await?;
            if known.is_some_and(|known| known.is_dry || known.activity != activity) {
                let why = format!(
                    "schedule {}: run {} is there already, with another activity; delete the schedule, or give it another name",
                    row.schedule.name, last.run
                );
                return note(schedules, row, Failure::settings(Code::SettingsInvalid, why)).await;
            }
        }
        Err(e) => return Err(e),
    }
    row.last = Some(LastWindow { is_submitted: true, ..last });
    row.failure = None;
    schedules.put_schedule(&row).await
}

/// The schedule cannot go on until somebody changes it. Said once.
async fn note(schedules: &dyn Schedules, mut row: ScheduleRow, failure: Failure) -> Result<(), StoreError> {
    if row.failure.as_ref() == Some(&failure) {
        return Ok(());
    }
    tracing::error!(schedule = row.schedule.name, code = %failure.code, "{}", failure.message);
    row.failure = Some(failure);
    schedules.put_schedule(&row).await
}
