//! What every store must do, as one suite that each adapter runs.

use super::{
    ChunkRow, Clearing, CommandQuery, CommandRow, Credentials, Driver, FilePlace, FileQuery, FileSort, Grants,
    HeldSlots, IdentityRow, LeasedUnit, LeftFile, LoadedFile, NodeRow, Numbers, OpenCommands, PaceKey, PaceRow,
    PaceSums, Role, RunQuery, RunRow, RunsIn, Store, StoreError, Telling, ThisRun, TokenRow, UnitRow, Write,
};
use crate::state::{
    command::{CommandEvent, CommandState, Sent},
    run::{RunEvent, RunState},
    unit::{Lease, UnitEvent, UnitState},
};
use ferry_common::{
    activity::Activity,
    clock::Millis,
    failure::Failure,
    id::{AttemptNumber, ChunkNumber, LeaseToken, NodeId, RunId, RuntimeName, UnitNumber},
    unit::{Chunk, Counters, FileVersion, Scope},
};
use std::time::Duration;

const ACTIVITY: &str = "{name: a, source: {type: FileSystem, folderPath: /d, format: {type: Json}}, \
    sink: {type: AzureDataExplorer, endpoint: 'http://127.0.0.1:1', database: D, table: T}, \
    staging: {type: FileSystem, folderPath: /s}}";

fn is_conflict(result: &Result<(), StoreError>) -> bool {
    matches!(result, Err(StoreError::Conflict))
}

/// A run as it is submitted.
#[allow(clippy::unwrap_used, reason = "a suite fails by panicking")]
pub(crate) fn new_run(id: &str, submitted: i64) -> RunRow {
    RunRow::new(id.parse().unwrap(), Activity::parse(ACTIVITY, "suite").unwrap(), Millis(submitted))
}

fn new_unit(run: &RunId, number: u64, size_bytes: u64) -> UnitRow {
    let file = FileVersion {
        path: format!("/d/{number}"),
        relative_path: number.to_string(),
        size_bytes,
        modified_ns: -5,
        etag: "e".to_owned(),
    };
    let mut unit = UnitRow::new(run.clone(), UnitNumber(number), file.clone());
    if number == 2 {
        // Covers more than a file: it must come back as it was.
        unit.scope = Scope::Pack(vec![file.clone(), file]);
        unit.file_count = 2;
        unit.size_bytes = size_bytes + 1;
    }
    unit
}

fn new_command(run: &RunId, unit: u64, chunk: u32) -> CommandRow {
    CommandRow {
        run: run.clone(),
        unit: UnitNumber(unit),
        chunk,
        state: CommandState::NEW,
        revision: 1,
        tag: format!("ferry:{run}/{unit}/{chunk}"),
        blob: "b".to_owned(),
        rows: 10,
        raw_bytes: 100,
    }
}

/// Tries an empty `store`. Panics, naming what does not hold. Returns a run that the store must still have afterwards.
///
/// # Panics
/// When the store does not keep a promise.
#[allow(clippy::unwrap_used, reason = "a suite fails by panicking")]
pub async fn run(store: &dyn Store) -> RunRow {
    runs(store).await;
    units(store).await;
    chunks_and_commands(store).await;
    nodes(store).await;
    past(store).await;
    id_taken_anew(store).await;
    pages_of_runs(store).await;
    pages_of_files(store).await;
    pages_of_commands(store).await;
    paces(store).await;
    clearing(store).await;
    listed_files(store).await;
    loaded_files(store).await;
    loading_runs(store).await;
    untouched_units(store).await;
    store.run(&"r1".parse().unwrap()).await.unwrap().unwrap()
}

/// Ended runs are forgotten with all that they had; others are not.
#[allow(clippy::unwrap_used, reason = "a suite fails by panicking")]
async fn past(store: &dyn Store) {
    let ended = RunRow { state: RunState::Cancelled, ..new_run("past", 5) };
    let unit = new_unit(&ended.id, 1, 7);
    store.commit(vec![Write::InsertRun(Box::new(ended.clone())), Write::InsertUnits(vec![unit])]).await.unwrap();
    assert!(store.past_runs(Millis(5), 9).await.unwrap().is_empty(), "it is not that old");
    assert_eq!(store.past_runs(Millis(6), 9).await.unwrap(), std::slice::from_ref(&ended.id));
    let live: RunId = "r1".parse().unwrap();
    let (this_live, this_ended) = (ThisRun::from(&store.run(&live).await.unwrap().unwrap()), ThisRun::from(&ended));
    assert!(is_conflict(&store.commit(vec![Write::DeleteRun(this_live.clone())]).await), "a living run is kept");
    let units_of = async |run: &RunId| store.unit_counts(run).await.unwrap().total();
    let units_before = (units_of(&live).await, units_of(&ended.id).await);
    let delete = |run: &ThisRun, after| Write::DeleteUnits(run.clone(), UnitNumber(after));
    assert!(is_conflict(&store.commit(vec![delete(&this_live, 0)]).await));
    store.commit(vec![delete(&this_ended, 1_000)]).await.unwrap();
    assert_eq!((units_of(&live).await, units_of(&ended.id).await), units_before, "a living run keeps its units");
    store.commit(vec![delete(&this_ended, 0)]).await.unwrap();
    assert_eq!((units_of(&ended.id).await, units_before.1 > 0), (0, true));
    store.commit(vec![Write::DeleteRun(this_ended.clone())]).await.unwrap();
    assert!(store.run(&ended.id).await.unwrap().is_none());
    assert_eq!(store.unit_counts(&ended.id).await.unwrap().total(), 0);
    assert!(is_conflict(&store.commit(vec![Write::DeleteRun(this_ended)]).await), "there is no such run any more");
    assert!(store.run(&live).await.unwrap().is_some());
}

/// Whoever forgets a run page by page leaves a new one alone that has its id meanwhile, even if that has ended, too.
#[allow(clippy::unwrap_used, reason = "a suite fails by panicking")]
async fn id_taken_anew(store: &dyn Store) {
    let run = |submitted| RunRow { state: RunState::Cancelled, ..new_run("anew", submitted) };
    let (old, new) = (run(6), run(3_000));
    let id = old.id.clone();
    let rows = |run: &RunRow| {
        let chunk = Chunk {
            number: ChunkNumber(0),
            blob: "b".to_owned(),
            raw_bytes: 1,
            staged_bytes: 1,
            rows: 1,
            source_end_bytes: 1,
            rows_end: 1,
            source_lines_end: 1,
            crc32: 1,
            file_end: 0,
            skipped_end: 0,
            quarantine: None,
            created: None,
            files: Vec::new(),
        };
        let chunk = ChunkRow { run: id.clone(), unit: UnitNumber(2), attempt: AttemptNumber(1), chunk };
        vec![
            Write::InsertRun(Box::new(run.clone())),
            Write::InsertUnits(vec![new_unit(&id, 1, 7), new_unit(&id, 3, 7)]),
            Write::InsertChunk(chunk),
            Write::InsertCommands(vec![new_command(&id, 2, 0)]),
            Write::InsertListed { run: id.clone(), attempt: AttemptNumber(1), keys: vec!["k".to_owned()] },
        ]
    };
    let delete = |run: &RunRow, after| Write::DeleteUnits(ThisRun::from(run), UnitNumber(after));
    let forget = |run: &RunRow| Write::DeleteRun(ThisRun::from(run));
    store.commit(rows(&old)).await.unwrap();
    store.commit(vec![delete(&old, 2)]).await.unwrap();
    // Another coordinator is faster, and the id is taken anew.
    store.commit(vec![forget(&old)]).await.unwrap();
    store.commit(rows(&new)).await.unwrap();
    for (case, late) in [
        ("units", delete(&old, 0)),
        ("listed files", Write::DeleteListed(ThisRun::from(&old), 9)),
        ("the run", forget(&old)),
    ] {
        assert!(is_conflict(&store.commit(vec![late]).await), "{case} of the new run must stay");
    }
    assert_eq!(store.run(&id).await.unwrap().unwrap().times.submitted, new.times.submitted);
    assert_eq!(store.unit_counts(&id).await.unwrap().total(), 2);
    assert_eq!(store.chunks(&id, UnitNumber(2)).await.unwrap().len(), 1);
    assert_eq!(store.unit_commands(&id, UnitNumber(2)).await.unwrap().len(), 1);
    assert!(store.has_listed_files(&id).await.unwrap());
    store.commit(vec![forget(&new)]).await.unwrap();
    assert!(!store.has_listed_files(&id).await.unwrap(), "what it had goes with it");
    // An older program forgets a run and leaves what it does not know.
    let left = Write::InsertListed { run: id.clone(), attempt: AttemptNumber(1), keys: vec!["k".to_owned()] };
    store.commit(vec![left]).await.unwrap();
    store.commit(vec![Write::InsertRun(Box::new(new.clone()))]).await.unwrap();
    assert!(!store.has_listed_files(&id).await.unwrap(), "a new run begins with nothing");
    store.commit(vec![forget(&new)]).await.unwrap();
}

/// One attempt at a listing names a file once.
#[allow(clippy::unwrap_used, reason = "a suite fails by panicking")]
async fn listed_files(store: &dyn Store) {
    let run = new_run("listed", 2_000);
    let id = run.id.clone();
    let attempt = AttemptNumber;
    let put = |attempt, keys: Vec<String>| Write::InsertListed { run: id.clone(), attempt, keys };
    let keys = |range: std::ops::Range<u32>| range.map(|n| format!("{n:04}")).collect::<Vec<_>>();
    store.commit(vec![Write::InsertRun(Box::new(run.clone()))]).await.unwrap();
    assert!(!store.has_listed_files(&id).await.unwrap());
    // More than one statement takes.
    store.commit(vec![put(attempt(1), keys(0..1_200)), put(attempt(1), Vec::new())]).await.unwrap();
    assert!(store.has_listed_files(&id).await.unwrap());
    let again = vec![Write::InsertUnits(vec![new_unit(&id, 1, 5)]), put(attempt(1), keys(1_199..1_300))];
    assert!(is_conflict(&store.commit(again).await), "a file must be named once");
    assert!(store.unit(&id, UnitNumber(1)).await.unwrap().is_none(), "a page that is refused must leave nothing");
    let mut found = store.listed_files(&id, attempt(1), &keys(1_198..2_500)).await.unwrap();
    found.sort_unstable();
    assert_eq!(found, keys(1_198..1_200));
    assert_eq!(store.listed_files(&id, attempt(2), &keys(0..9)).await.unwrap(), keys(0..0), "a new one begins anew");
    store.commit(vec![put(attempt(2), keys(0..3))]).await.unwrap();
    let other = Write::InsertListed { run: "listed-2".parse().unwrap(), attempt: attempt(1), keys: keys(0..3) };
    store.commit(vec![other]).await.unwrap();
    // Page by page, all of them.
    let page = || vec![Write::DeleteListed(ThisRun::from(&run), 1_000)];
    store.commit(page()).await.unwrap();
    assert!(store.has_listed_files(&id).await.unwrap());
    store.commit(page()).await.unwrap();
    assert!(!store.has_listed_files(&id).await.unwrap());
    assert!(store.has_listed_files(&"listed-2".parse().unwrap()).await.unwrap(), "others' stay");
    let ended = RunRow { state: RunState::Cancelled, ..run };
    store.commit(vec![Write::UpdateRun(Box::new(ended.clone()))]).await.unwrap();
    store.commit(vec![Write::DeleteRun(ThisRun::from(&ended))]).await.unwrap();
}

#[allow(clippy::unwrap_used, reason = "a suite fails by panicking")]
async fn runs(store: &dyn Store) {
    let row = new_run("r1", 10);
    store.commit(vec![Write::InsertRun(Box::new(row.clone()))]).await.unwrap();
    assert_eq!(store.run(&row.id).await.unwrap().unwrap(), row, "a run must read back as it was written");
    assert!(
        is_conflict(&store.commit(vec![Write::InsertRun(Box::new(row.clone()))]).await),
        "an id must be taken once"
    );

    let stale = row.clone();
    let admitted = RunRow { state: row.state.clone().apply(RunEvent::Admitted).unwrap(), ..row };
    store.commit(vec![Write::UpdateRun(Box::new(admitted))]).await.unwrap();
    assert!(
        is_conflict(&store.commit(vec![Write::UpdateRun(Box::new(stale.clone()))]).await),
        "a stale write must be refused"
    );

    let (run, name) = (&stale.id, |text: &str| text.to_owned());
    let claim = |coordinator: &str, epoch, beat| {
        let coordinator = name(coordinator);
        Write::ClaimRun { run: run.clone(), coordinator, epoch, beat }
    };
    let driver = async || store.run(run).await.unwrap().unwrap().driver;
    store.commit(vec![claim("c1", 0, Some(0))]).await.unwrap();
    assert!(is_conflict(&store.commit(vec![claim("c2", 0, None)]).await), "a run must be taken once an epoch");
    store.commit(vec![Write::BeatRun { run: run.clone(), epoch: 1 }]).await.unwrap();
    assert_eq!(driver().await, Driver { coordinator: name("c1"), epoch: 1, beat: 1 });
    assert!(is_conflict(&store.commit(vec![claim("c2", 1, Some(0))]).await), "a driver that has beaten is not silent");
    store.commit(vec![claim("c2", 1, Some(1))]).await.unwrap();
    for late in [Write::BeatRun { run: run.clone(), epoch: 1 }, Write::HoldRun { run: run.clone(), epoch: 1 }] {
        assert!(is_conflict(&store.commit(vec![late]).await), "a driver of an earlier epoch must be refused");
    }
    store.commit(vec![Write::HoldRun { run: run.clone(), epoch: 2 }]).await.unwrap();
    let revision = store.run(run).await.unwrap().unwrap().revision;
    assert_eq!(revision, 2, "beats must not disturb other writers");

    // All or nothing: the second write fails, so the first must not be seen.
    let other = new_run("r2", 20);
    let both = vec![Write::InsertRun(Box::new(other.clone())), Write::UpdateRun(Box::new(stale))];
    assert!(is_conflict(&store.commit(both).await));
    assert!(store.run(&other.id).await.unwrap().is_none(), "a refused commit must leave nothing");

    let ended = RunRow { state: RunState::Succeeded, ..other.clone() };
    let swept_later = RunRow { state: RunState::Cancelled, sweep_at: Some(Millis(5)), ..new_run("r3", 15) };
    let shown = RunRow { state: RunState::Planned, is_dry: true, ..new_run("r4", 12) };
    let rows = [ended, swept_later, shown.clone()];
    store.commit(rows.into_iter().map(|row| Write::InsertRun(Box::new(row))).collect()).await.unwrap();
    assert_eq!(store.run(&shown.id).await.unwrap().unwrap(), shown, "a dry run must read back as it was written");
    let ids = |runs: Vec<RunRow>| runs.into_iter().map(|r| r.id.to_string()).collect::<Vec<_>>();
    assert_eq!(ids(store.live_runs().await.unwrap()), ["r1", "r3"], "live runs, oldest first");
    assert_eq!(ids(store.recent_runs(2).await.unwrap()), ["r2", "r3"], "recent runs, newest first");
}

#[allow(clippy::unwrap_used, reason = "a suite fails by panicking")]
async fn units(store: &dyn Store) {
    let id: RunId = "r1".parse().unwrap();
    let rows = vec![new_unit(&id, 0, 0), new_unit(&id, 1, 5), new_unit(&id, 2, 50), new_unit(&id, 3, 5)];
    store.commit(vec![Write::InsertUnits(rows.clone())]).await.unwrap();
    assert!(
        is_conflict(&store.commit(vec![Write::InsertUnits(rows[..1].to_vec())]).await),
        "a number must be taken once"
    );
    assert_eq!(
        store.unit(&id, UnitNumber(2)).await.unwrap().unwrap(),
        rows[2],
        "a unit must read back as it was written"
    );

    let numbers = |units: Vec<UnitRow>| units.into_iter().map(|u| u.number.0).collect::<Vec<_>>();
    assert_eq!(numbers(store.pending_units(&id, Millis(0), 3).await.unwrap()), [2, 1, 3], "largest first");
    assert_eq!(numbers(store.files(&id, None, UnitNumber(1), 10).await.unwrap()), [2, 3], "files after a number");

    let node: NodeId = "n1".parse().unwrap();
    let lease =
        Lease { node: node.clone(), attempt: AttemptNumber(1), token: LeaseToken::generate(), expires: Millis(100) };
    let mut leased = rows[2].clone();
    leased.state = leased.state.apply(UnitEvent::Granted(lease)).unwrap();
    leased.attempts = 1;
    leased.counters =
        Counters { rows_read: 7, data_read_bytes: 8, data_written_bytes: 9, staged_bytes: 3, rows_skipped: 1 };
    leased.tail.quarantine = Some("q".to_owned());
    leased.last_failure = Some(Failure::internal("x"));
    leased.node_name = "host".to_owned();
    store.commit(vec![Write::UpdateUnit(Box::new(leased.clone()))]).await.unwrap();
    assert!(
        is_conflict(&store.commit(vec![Write::UpdateUnit(Box::new(leased.clone()))]).await),
        "a stale unit must be refused"
    );
    leased.revision += 1;
    assert_eq!(store.unit(&id, UnitNumber(2)).await.unwrap().unwrap(), leased);
    assert_eq!(numbers(store.leased_units(&node, 9).await.unwrap()), [2]);
    assert!(store.leased_units(&"n2".parse().unwrap(), 9).await.unwrap().is_empty());
    let leases = store.leases().await.unwrap();
    assert_eq!(leases, [LeasedUnit { run: id.clone(), number: UnitNumber(2), revision: leased.revision }]);
    let held = store.held_slots().await.unwrap();
    assert_eq!(held, [HeldSlots { run: id.clone(), node: "n1".parse().unwrap(), slots: 1 }]);

    assert!(store.retried_units(&id, 9).await.unwrap().is_empty());
    let mut waits = rows[1].clone();
    waits.last_failure = Some(Failure::internal("x"));
    waits.state = UnitState::Pending { failures: 1, not_before: Millis(500) };
    let mut staged = rows[3].clone();
    staged.state = UnitState::Staged { failures: 0, chunks: 1 };
    store.commit(vec![Write::UpdateUnit(Box::new(waits)), Write::UpdateUnit(Box::new(staged))]).await.unwrap();
    assert_eq!(numbers(store.pending_units(&id, Millis(499), 9).await.unwrap()), [0], "a unit waits for its time");
    assert_eq!(numbers(store.files(&id, Some("Staged"), UnitNumber(0), 9).await.unwrap()), [3]);
    let counts = store.unit_counts(&id).await.unwrap();
    assert_eq!((counts.pending, counts.leased, counts.staged, counts.total()), (1, 1, 1, 3), "the listing is no file");
    assert_eq!((counts.bytes_total, counts.bytes_done, counts.counters.rows_read), (61, 5, 7));

    assert!(store.has_open_units(&id).await.unwrap());
    assert_eq!(numbers(store.retried_units(&id, 9).await.unwrap()), [1]);
    assert!(!store.has_open_units(&"r9".parse().unwrap()).await.unwrap());
    let among = |after, up_to| Numbers { after: UnitNumber(after), up_to: UnitNumber(up_to) };
    let confirm = |after, up_to| Write::ConfirmUnits(id.clone(), among(after, up_to));
    store.commit(vec![confirm(0, 2), confirm(3, 9)]).await.unwrap();
    assert_eq!(store.unit_counts(&id).await.unwrap().ingested, 0, "nobody has confirmed unit 3");
    let staged = store.unit(&id, UnitNumber(3)).await.unwrap().unwrap();
    store.commit(vec![confirm(2, 3)]).await.unwrap();
    let counts = store.unit_counts(&id).await.unwrap();
    assert_eq!((counts.ingested, counts.pending, counts.leased), (1, 1, 1), "only what is staged is confirmed");
    assert!(is_conflict(&store.commit(vec![Write::UpdateUnit(Box::new(staged))]).await), "a confirmed unit must fence");
    let mut back = store.unit(&id, UnitNumber(3)).await.unwrap().unwrap();
    back.state = UnitState::Staged { failures: 0, chunks: 1 };
    store.commit(vec![Write::UpdateUnit(Box::new(back))]).await.unwrap();

    let stale = store.unit(&id, UnitNumber(1)).await.unwrap().unwrap();
    store
        .commit(vec![Write::DropPending(id.clone(), among(1, 9)), Write::DropUnits(id.clone(), among(3, 9))])
        .await
        .unwrap();
    assert_eq!(store.unit_counts(&id).await.unwrap().dropped, 0, "units 1 and 3 are not among those");
    store.commit(vec![Write::DropPending(id.clone(), among(0, 9))]).await.unwrap();
    let counts = store.unit_counts(&id).await.unwrap();
    assert_eq!((counts.dropped, counts.staged, counts.leased), (1, 1, 1), "what is staged stays");
    let listing = async || store.unit(&id, UnitNumber::LISTING).await.unwrap().unwrap().state.name();
    let before = listing().await;
    store.commit(vec![Write::DropUnits(id.clone(), among(0, 9))]).await.unwrap();
    let counts = store.unit_counts(&id).await.unwrap();
    assert_eq!((counts.dropped, counts.leased, counts.total()), (2, 1, 3), "a lease outlives the drop");
    assert_eq!(listing().await, before, "the listing is no number of a file");
    store
        .commit(vec![Write::DropPending(id.clone(), Numbers::ALL), Write::DropUnits(id.clone(), Numbers::ALL)])
        .await
        .unwrap();
    assert_eq!(store.unit_counts(&id).await.unwrap().leased, 1, "a lease outlives that, too");
    assert!(is_conflict(&store.commit(vec![Write::UpdateUnit(Box::new(stale))]).await), "a dropped unit must fence");
    store.commit(vec![Write::DeleteFiles(id.clone(), UnitNumber(2))]).await.unwrap();
    assert_eq!(store.unit_counts(&id).await.unwrap().total(), 2, "those up to the number stay");
    store.commit(vec![Write::DeleteFiles(id.clone(), UnitNumber::LISTING)]).await.unwrap();
    assert_eq!(store.unit_counts(&id).await.unwrap().total(), 0);
    assert!(store.unit(&id, UnitNumber::LISTING).await.unwrap().is_some(), "the listing stays");
}

#[allow(clippy::unwrap_used, reason = "a suite fails by panicking")]
async fn chunks_and_commands(store: &dyn Store) {
    let id: RunId = "r1".parse().unwrap();
    let chunk = |number| ChunkRow {
        run: id.clone(),
        unit: UnitNumber(4),
        attempt: AttemptNumber(2),
        chunk: Chunk {
            number: ChunkNumber(number),
            blob: format!("r1/4/2/{number}.csv.gz"),
            raw_bytes: 1 << 40,
            staged_bytes: 3,
            rows: 4,
            source_end_bytes: 5,
            rows_end: 6,
            source_lines_end: 7,
            crc32: u32::MAX,
            file_end: 1,
            skipped_end: 2,
            quarantine: Some("q".to_owned()),
            created: None,
            files: Vec::new(),
        },
    };
    store.commit(vec![Write::InsertChunk(chunk(1)), Write::InsertChunk(chunk(0))]).await.unwrap();
    assert!(is_conflict(&store.commit(vec![Write::InsertChunk(chunk(1))]).await), "a chunk must be accepted once");
    assert_eq!(store.chunks(&id, UnitNumber(4)).await.unwrap(), [chunk(0), chunk(1)]);
    store.commit(vec![Write::DeleteChunk(id.clone(), UnitNumber(4), 0)]).await.unwrap();
    assert_eq!(store.chunks(&id, UnitNumber(4)).await.unwrap(), [chunk(1)]);

    let commands = vec![new_command(&id, 4, 0), new_command(&id, 4, 1), new_command(&id, 5, 0)];
    store.commit(vec![Write::InsertCommands(commands.clone())]).await.unwrap();
    assert!(is_conflict(&store.commit(vec![Write::InsertCommands(commands[..1].to_vec())]).await));
    assert_eq!(store.due_commands(&id, Millis(0), 9).await.unwrap(), commands);
    assert_eq!(store.unit_commands(&id, UnitNumber(4)).await.unwrap(), commands[..2]);

    let step = |mut row: CommandRow, event: CommandEvent| {
        row.state = row.state.apply(event).unwrap();
        row
    };
    let sent = Sent { request_id: "q".to_owned(), at: Millis(1) };
    let doubtful = step(commands[0].clone(), CommandEvent::Sending(sent.clone()));
    store.commit(vec![Write::UpdateCommand(Box::new(doubtful.clone()))]).await.unwrap();
    assert!(is_conflict(&store.commit(vec![Write::UpdateCommand(Box::new(doubtful.clone()))]).await));
    assert_eq!(store.doubtful_commands(&id, 9).await.unwrap().len(), 1);
    assert!(store.open_commands(&id).await.unwrap().any_doubtful);
    assert_eq!(store.due_commands(&id, Millis(0), 9).await.unwrap().len(), 2, "a doubtful command must not be sent");

    let doubtful = CommandRow { revision: 2, ..doubtful };
    let postponed =
        step(doubtful, CommandEvent::Postponed { now: Millis(1_000), throttled: true, least: Duration::ZERO });
    store.commit(vec![Write::UpdateCommand(Box::new(postponed))]).await.unwrap();
    assert_eq!(store.due_commands(&id, Millis(1_000), 9).await.unwrap().len(), 2, "a command waits for its time");
    assert_eq!(store.due_commands(&id, Millis(100_000), 9).await.unwrap().len(), 3);

    let issued = step(commands[1].clone(), CommandEvent::Sending(sent));
    let issued = step(issued, CommandEvent::Accepted { operation: "o".to_owned() });
    let done = step(issued, CommandEvent::Finished { rows: Some(10), now: Millis(2) });
    store.commit(vec![Write::UpdateCommand(Box::new(done))]).await.unwrap();
    let open = store.open_commands(&id).await.unwrap();
    assert_eq!(open, OpenCommands { issued: 0, any_planned: true, any_doubtful: false });
    let counts = store.command_counts(&id).await.unwrap();
    assert_eq!((counts.planned, counts.confirmed, counts.rows_confirmed, counts.rows_total), (2, 1, 10, 30));
    assert_eq!(store.commands(&id, "Confirmed", 9).await.unwrap().len(), 1);
    store.commit(vec![Write::DeleteCommand(id.clone(), UnitNumber(5), 0)]).await.unwrap();
    assert_eq!(store.command_counts(&id).await.unwrap().planned, 1);
}

/// How far files are deleted, and those that are left, come back as they were stored; a page is stored whole or not at all.
#[allow(clippy::unwrap_used, reason = "a suite fails by panicking")]
async fn clearing(store: &dyn Store) {
    let mut run = new_run("clearing", 77);
    run.state = RunState::Clearing;
    run.times.clearing = Some(Millis(78));
    run.clearing = Some(Clearing::NEW);
    let (source, mut file) = (new_unit(&run.id, 0, 0), new_unit(&run.id, 2, 5));
    file.state = UnitState::Ingested;
    let writes = vec![Write::InsertRun(Box::new(run.clone())), Write::InsertUnits(vec![source.clone(), file.clone()])];
    store.commit(writes).await.unwrap();
    assert!(store.live_runs().await.unwrap().iter().any(|r| r.id == run.id), "there is something to do for it");

    let reasons = vec!["2: it was written again".to_owned()];
    run.clearing = Some(Clearing { after: UnitNumber(2), done: 4, gone: 1, left: 1, reasons, is_stopped: true });
    file.tail.left = vec![LeftFile { relative_path: "2".to_owned(), why: "it was written again".to_owned() }];
    let page = |run: &RunRow| {
        vec![
            Write::UpdateUnit(Box::new(source.clone())),
            Write::UpdateUnit(Box::new(file.clone())),
            Write::UpdateRun(Box::new(run.clone())),
        ]
    };
    let late = RunRow { revision: run.revision + 9, ..run.clone() };
    assert!(is_conflict(&store.commit(page(&late)).await));
    assert!(store.unit(&run.id, file.number).await.unwrap().unwrap().tail.left.is_empty(), "all or nothing");
    store.commit(page(&run)).await.unwrap();
    let (stored, unit) = (store.run(&run.id).await.unwrap().unwrap(), store.unit(&run.id, file.number).await.unwrap());
    assert_eq!((stored.clearing, stored.state), (run.clearing, RunState::Clearing));
    assert_eq!(unit.unwrap().tail, file.tail);
}

#[allow(clippy::unwrap_used, reason = "a suite fails by panicking")]
async fn nodes(store: &dyn Store) {
    let node = |id: &str, last_seen| NodeRow {
        id: id.parse().unwrap(),
        name: "host".to_owned(),
        runtime: RuntimeName::default(),
        slots: 4,
        program_version: "1".to_owned(),
        registered: Millis(1),
        last_seen: Millis(last_seen),
        is_draining: false,
        has_left: false,
        identity: None,
        may_change_sources: last_seen == 9,
    };
    store.commit(vec![Write::PutNode(node("n1", 5)), Write::PutNode(node("n2", 9))]).await.unwrap();
    store.commit(vec![Write::PutNode(NodeRow { is_draining: true, ..node("n1", 10) })]).await.unwrap();
    assert!(store.node(&"n1".parse().unwrap()).await.unwrap().unwrap().is_draining);
    assert!(store.node(&"n2".parse().unwrap()).await.unwrap().unwrap().may_change_sources);
    let seen = store.nodes(Millis(10)).await.unwrap();
    assert_eq!(seen.iter().map(|n| n.id.as_str()).collect::<Vec<_>>(), ["n1"]);
}

/// Sums are added to, each kind of commands by itself.
#[allow(clippy::unwrap_used, reason = "a suite fails by panicking")]
async fn paces(store: &dyn Store) {
    let key = |database: &str, ingestion: &str| PaceKey {
        endpoint: "http://127.0.0.1:1".to_owned(),
        database: database.to_owned(),
        ingestion: ingestion.to_owned(),
    };
    let measured = |seconds: &[u64], published: Option<u64>| {
        let mut sums = PaceSums::default();
        seconds.iter().for_each(|s| sums.note_command(s << 40, Duration::from_millis(s * 1_001)));
        published.iter().for_each(|s| sums.note_publishing(Duration::from_secs(*s)));
        sums
    };
    let row = |key: PaceKey, last, sums| PaceRow { key, last: Millis(last), sums };
    let own = key("D", "direct");
    assert_eq!(store.pace(&own).await.unwrap(), None);
    let (first, second) = (measured(&[1, 2, 3], Some(4)), measured(&[5, 6], None));
    let writes = [
        row(own.clone(), 10, first),
        row(key("D", "queued"), 11, measured(&[300], None)),
        row(key("E", "direct"), 12, measured(&[9], Some(9))),
    ];
    store.commit(writes.into_iter().map(|row| Write::AddPace(Box::new(row))).collect()).await.unwrap();
    let kept = store.pace(&own).await.unwrap().unwrap();
    assert_eq!(kept, row(own.clone(), 10, first), "sums must read back as they were written");
    // With the sums that a commit in vain would have added: all or nothing.
    let taken = Write::InsertRun(Box::new(new_run("r1", 10)));
    let refused = store.commit(vec![Write::AddPace(Box::new(row(own.clone(), 15, second))), taken]).await;
    assert!(is_conflict(&refused));
    assert_eq!(store.pace(&own).await.unwrap().unwrap(), kept, "a refused commit must leave nothing");
    store.commit(vec![Write::AddPace(Box::new(row(own.clone(), 20, second)))]).await.unwrap();
    let both = store.pace(&own).await.unwrap().unwrap();
    let expected = first.and(&second, second.keeps());
    assert_eq!((both.last, both.sums.commands), (Millis(20), 5));
    for (found, expected) in [
        (both.sums.weight, expected.weight),
        (both.sums.bytes, expected.bytes),
        (both.sums.seconds, expected.seconds),
        (both.sums.bytes_squared, expected.bytes_squared),
        (both.sums.bytes_seconds, expected.bytes_seconds),
        (both.sums.publish_weight, expected.publish_weight),
        (both.sums.publish_seconds, expected.publish_seconds),
    ] {
        assert!((found - expected).abs() <= expected.abs() * 1e-9, "{found} is not {expected}: {both:?}");
    }
    store.commit(vec![Write::ForgetPaces(Millis(12))]).await.unwrap();
    assert_eq!(store.pace(&key("D", "queued")).await.unwrap(), None, "what is old is forgotten");
    assert!(store.pace(&key("E", "direct")).await.unwrap().is_some(), "and nothing else");
}

#[allow(clippy::unwrap_used, reason = "a suite fails by panicking")]
async fn pages_of_runs(store: &dyn Store) {
    let telling = Telling { failures: 1, not_before: Millis(9), until: Millis(10) };
    let told = RunRow { state: RunState::Cancelled, telling: Some(telling), ..new_run("page-4", 1_003) };
    let rows = [
        new_run("page-1", 1_001),
        RunRow { state: RunState::Succeeded, ..new_run("page-2", 1_002) },
        RunRow { state: RunState::Succeeded, ..new_run("page-3", 1_002) },
        told.clone(),
    ];
    store.commit(rows.into_iter().map(|row| Write::InsertRun(Box::new(row))).collect()).await.unwrap();
    let page_of = async |schedule: Option<&str>, only, before: Option<(i64, &str)>, limit| {
        let before = before.map(|(at, id)| (Millis(at), id.parse().unwrap()));
        let schedule = schedule.map(str::to_owned);
        let found = store.run_page(&RunQuery { only, schedule, before, limit }).await.unwrap();
        found.into_iter().map(|r| r.id.to_string()).collect::<Vec<_>>()
    };
    let page = async |only, before, limit| page_of(None, only, before, limit).await;
    assert_eq!(page(None, None, 3).await, ["page-4", "page-3", "page-2"], "the newest first");
    assert_eq!(page(None, Some((1_002, "page-3")), 2).await, ["page-2", "page-1"], "ids tell apart what came at once");
    let succeeded = Some(RunsIn::State("Succeeded"));
    assert_eq!(page(succeeded, Some((1_002, "page-3")), 1).await, ["page-2"]);
    assert_eq!(page(Some(RunsIn::Active), None, 1).await, ["page-1"], "what waits to be told has ended");
    let (first, second) = ("taxi-20261123T040000Z", "taxi-20261123T050000Z");
    let others = ["taxi", "taxi-a-20261123T050000Z", "taxi-backfill-2026-11", "TAXI-20261123T050000Z"];
    let runs = [(first, 2), (second, 3)].into_iter().chain(others.map(|id| (id, 1)));
    let ended = |(id, at): (&str, i64)| RunRow { state: RunState::Succeeded, ..new_run(id, at) };
    store.commit(runs.map(|run| Write::InsertRun(Box::new(ended(run)))).collect()).await.unwrap();
    let taxi = Some("taxi");
    assert_eq!(
        page_of(taxi, None, None, 9).await,
        [second, first],
        "no other schedule's, and none that has its name only"
    );
    assert_eq!(page_of(taxi, succeeded, Some((3, second)), 9).await, [first]);
    assert!(page_of(taxi, Some(RunsIn::Active), None, 9).await.is_empty());
    assert_eq!(page_of(Some("taxi-a"), None, None, 9).await, ["taxi-a-20261123T050000Z"]);
    assert!(page_of(Some(""), None, None, 9).await.is_empty(), "short ids tell of no schedule");
    let live = store.live_runs().await.unwrap();
    assert!(live.iter().any(|run| run.id == told.id), "who waits for the end of a run is still to be told");
    store.commit(vec![Write::UpdateRun(Box::new(RunRow { telling: None, ..told }))]).await.unwrap();
    assert!(store.live_runs().await.unwrap().iter().all(|run| run.id.as_str() != "page-4"));
}

#[allow(clippy::unwrap_used, reason = "a suite fails by panicking")]
async fn pages_of_files(store: &dyn Store) {
    let id: RunId = "page-1".parse().unwrap();
    let file = |number: u64, path: &str, size_bytes| {
        let mut unit = new_unit(&id, 1, size_bytes);
        unit.number = UnitNumber(number);
        unit.file.path = path.to_owned();
        unit
    };
    let mut failed = file(4, "/d/a", 7);
    failed.state = UnitState::Failed { failure: Failure::internal("x") };
    let mut staged = file(6, "/d/f", 1);
    staged.state = UnitState::Staged { failures: 0, chunks: 1 };
    let listing = file(0, "/d", 0);
    let units = vec![
        listing,
        file(1, "/d/c_1", 5),
        file(2, "/d/b", 9),
        file(3, "/d/cx1", 5),
        failed,
        file(5, "/d/B%", 2),
        staged,
    ];
    store.commit(vec![Write::InsertUnits(units)]).await.unwrap();
    // Pages one after the other: what each has.
    let pages = async |query: FileQuery| {
        let (mut query, mut pages) = (query, Vec::new());
        loop {
            let page = store.file_page(&id, &query).await.unwrap();
            pages.push(page.units.iter().map(|u| u.number.0).collect::<Vec<_>>());
            assert!(pages.len() < 20, "pages must come to an end");
            let Some(next) = page.next else { return pages };
            let unit = store.unit(&id, next).await.unwrap().unwrap();
            query.after = Some(FilePlace::from(&unit));
        }
    };
    let of = |limit| FileQuery { limit, ..FileQuery::default() };
    let size = |limit| FileQuery { sort: FileSort::Size, ..of(limit) };
    assert_eq!(pages(size(4)).await, [vec![6, 5, 1, 3], vec![4, 2]], "smallest first, the listing is no file");
    assert_eq!(pages(FileQuery { is_descending: true, ..size(4) }).await, [vec![2, 4, 3, 1], vec![5, 6]]);
    let searched = |text: &str| FileQuery { search: Some(text.to_owned()), ..size(10) };
    assert_eq!(pages(searched("B")).await, [vec![5, 2]], "the case of letters does not matter");
    assert_eq!(pages(searched("_1")).await, [vec![1]], "a search means its own signs");
    assert_eq!(pages(searched("b%")).await, [vec![5]]);
    let by_path = FileQuery { search: Some("/d/c".to_owned()), ..of(1) };
    let mut found = pages(by_path).await.concat();
    found.sort_unstable();
    assert_eq!(found, [1, 3], "no page repeats or leaves out");
    assert_eq!(pages(of(10)).await.concat().len(), 6);
    // What is looked at is bounded, and the place where that ended is where the next page begins.
    let bounded = FileQuery { rows_looked_at_max: 2, ..searched("/d/b") };
    assert_eq!(pages(bounded).await, [vec![5], vec![], vec![2], vec![]]);
    let in_state = |state| FileQuery { state: Some(state), ..size(10) };
    assert_eq!(pages(in_state("Failed")).await, [vec![4]]);
    assert_eq!(pages(FileQuery { limit: 3, ..in_state("Pending") }).await, [vec![5, 1, 3], vec![2]]);
    assert_eq!(pages(in_state("Staged")).await, [vec![6]]);
    assert_eq!(pages(in_state("Dropped")).await, [Vec::<u64>::new()]);
    let few = FileQuery { rows_looked_at_max: 1, ..in_state("Failed") };
    assert_eq!(pages(few).await, [vec![4]], "few of a state are found at once");
}

#[allow(clippy::unwrap_used, reason = "a suite fails by panicking")]
async fn pages_of_commands(store: &dyn Store) {
    let id: RunId = "page-1".parse().unwrap();
    let mut commands: Vec<_> =
        [(1, 0), (1, 1), (2, 0), (10, 0)].map(|(unit, chunk)| new_command(&id, unit, chunk)).into();
    commands[2].state = CommandState::Rejected { failure: Failure::internal("x") };
    commands[3].state = CommandState::Confirmed { rows: None, at: Millis(1), sent: None, operation: None };
    store.commit(vec![Write::InsertCommands(commands)]).await.unwrap();
    let page = async |query: CommandQuery| {
        let page = store.command_page(&id, &query).await.unwrap();
        let places = page.commands.iter().map(|c| (c.unit.0, c.chunk)).collect::<Vec<_>>();
        (places, page.next.map(|(unit, chunk)| (unit.0, chunk)))
    };
    let of = |limit| CommandQuery { limit, ..CommandQuery::default() };
    assert_eq!(page(of(2)).await, (vec![(1, 0), (1, 1)], Some((1, 1))));
    let after = |unit, chunk| Some((UnitNumber(unit), chunk));
    assert_eq!(page(CommandQuery { after: after(1, 1), ..of(2) }).await, (vec![(2, 0), (10, 0)], None));
    for (state, found) in [("Planned", vec![(1, 0), (1, 1)]), ("Rejected", vec![(2, 0)]), ("Confirmed", vec![(10, 0)])]
    {
        assert_eq!(page(CommandQuery { state: Some(state), ..of(9) }).await, (found, None), "{state}");
    }
    let bounded = CommandQuery { state: Some("Confirmed"), rows_looked_at_max: 3, ..of(9) };
    assert_eq!(page(bounded).await, (vec![], Some((2, 0))), "what is looked at is bounded");
}

#[allow(clippy::unwrap_used, reason = "a suite fails by panicking")]
async fn loaded_files(store: &dyn Store) {
    let file = |sink: &str, key: &str, size_bytes| LoadedFile {
        sink: sink.to_owned(),
        key: key.to_owned(),
        runtime: "r".to_owned(),
        // Longer than what an index of PostgreSQL takes.
        path: format!("/d/{}/{key}", "x".repeat(4_000)),
        size_bytes,
        modified_ns: -5,
        etag: "e".to_owned(),
        run: "r1".parse().unwrap(),
        loaded: Millis(3),
    };
    let keys = |names: &[&str]| names.iter().map(|&name| name.to_owned()).collect::<Vec<_>>();
    // More than one statement takes.
    let many: Vec<_> = (0..250).map(|n| file("many", &format!("{n:03}"), n)).collect();
    let some = vec![file("s", "a", 1), file("s", "b", 2), file("t", "a", 3)];
    store.commit(vec![Write::PutLoaded(many.clone()), Write::PutLoaded(some)]).await.unwrap();
    let found = async |sink: &str, names: &[&str]| {
        let mut found = store.loaded_files(sink, &keys(names)).await.unwrap();
        found.sort_by(|x, y| x.key.cmp(&y.key));
        found
    };
    assert_eq!(found("s", &["b", "c", "a"]).await, [file("s", "a", 1), file("s", "b", 2)]);
    assert_eq!(found("t", &["a", "b"]).await, [file("t", "a", 3)], "tables do not know of each other");
    assert_eq!(found("s", &[]).await, []);
    let all: Vec<String> =
        many.iter().map(|file| file.key.clone()).chain((0..2_000).map(|n| format!("-{n}"))).collect();
    assert_eq!(store.loaded_files("many", &all).await.unwrap().len(), 250);
    // Twice is as once, and a newer version takes the place of the other one.
    let newer = LoadedFile { modified_ns: 9, etag: "f".to_owned(), loaded: Millis(4), ..file("s", "a", 7) };
    // Named twice in one write, the last one counts.
    store.commit(vec![Write::PutLoaded(vec![file("s", "a", 6), newer.clone(), file("s", "b", 2)])]).await.unwrap();
    assert_eq!(found("s", &["a", "b"]).await, [newer, file("s", "b", 2)]);
    let page = async |after: &str, limit| {
        let page = store.loaded_page("many", after, limit).await.unwrap();
        page.into_iter().map(|file| file.key).collect::<Vec<_>>()
    };
    assert_eq!(page("", 2).await, ["000", "001"]);
    assert_eq!(page("001", 1).await, ["002"]);
    assert_eq!(page("249", 9).await, Vec::<String>::new());
    let forget = |sink: &str, names: &[&str]| Write::ForgetLoaded { sink: sink.to_owned(), keys: keys(names) };
    store.commit(vec![forget("s", &["a", "c"])]).await.unwrap();
    assert_eq!(found("s", &["a", "b"]).await, [file("s", "b", 2)]);
    assert_eq!(found("t", &["a"]).await, [file("t", "a", 3)]);
    // Runs are forgotten; what they loaded is not.
    let ended = RunRow { state: RunState::Succeeded, ..new_run("loaded", 5) };
    let by_ended = LoadedFile { run: ended.id.clone(), ..file("s", "z", 1) };
    let this = ThisRun::from(&ended);
    store.commit(vec![Write::InsertRun(Box::new(ended)), Write::PutLoaded(vec![by_ended.clone()])]).await.unwrap();
    store.commit(vec![Write::DeleteRun(this)]).await.unwrap();
    assert_eq!(found("s", &["z"]).await, [by_ended]);
}

#[allow(clippy::unwrap_used, reason = "a suite fails by panicking")]
async fn loading_runs(store: &dyn Store) {
    let (first, second) = (new_run("loading-1", 2_001), new_run("loading-2", 2_002));
    let claim = |run: &RunRow| Write::ClaimSink { sink: "s".to_owned(), run: run.id.clone() };
    let rows = [first.clone(), second.clone()];
    store.commit(rows.into_iter().map(|row| Write::InsertRun(Box::new(row))).collect()).await.unwrap();
    store.commit(vec![claim(&first)]).await.unwrap();
    store.commit(vec![claim(&first)]).await.unwrap();
    let both = vec![Write::UpdateRun(Box::new(second.clone())), claim(&second)];
    assert!(is_conflict(&store.commit(both).await), "one run at a time loads into a table");
    let other_table = Write::ClaimSink { sink: "t".to_owned(), run: second.id.clone() };
    store.commit(vec![other_table]).await.unwrap();
    let ended = RunRow { state: RunState::Cancelled, ..first };
    store.commit(vec![Write::UpdateRun(Box::new(ended.clone()))]).await.unwrap();
    store.commit(vec![claim(&second)]).await.unwrap();
    // A run that is forgotten holds nothing.
    let swept = RunRow { state: RunState::Cancelled, ..second };
    store.commit(vec![Write::UpdateRun(Box::new(swept.clone()))]).await.unwrap();
    store.commit(vec![Write::DeleteRun(ThisRun::from(&swept))]).await.unwrap();
    store.commit(vec![claim(&ended)]).await.unwrap();
}

/// Of a run that is to end, what is begun stays, and what cannot come to its end goes.
#[allow(clippy::unwrap_used, reason = "a suite fails by panicking")]
async fn untouched_units(store: &dyn Store) {
    let run = new_run("untouched", 2_003);
    let id = run.id.clone();
    let staged = UnitState::Staged { failures: 0, chunks: 2 };
    let unit = |number: u64, path: &str, state: &UnitState| {
        let mut unit = new_unit(&id, 1, 5);
        (unit.number, unit.state) = (UnitNumber(number), state.clone());
        unit.file.path = path.to_owned();
        unit
    };
    let failed = UnitState::Failed { failure: Failure::internal("x") };
    let units = vec![
        unit(0, "/d", &UnitState::Ingested),
        unit(1, "/begun", &staged),
        unit(2, "/untouched", &staged),
        // Two parts of one file: nothing of the second one was sent.
        unit(3, "/parts", &staged),
        unit(4, "/parts", &staged),
        // A part is lost.
        unit(5, "/lost", &staged),
        unit(6, "/lost", &failed),
        unit(7, "/pending", &UnitState::NEW),
        unit(8, "/done", &UnitState::Ingested),
        // Nobody knows whether it had its effect.
        unit(9, "/doubtful", &staged),
        unit(10, "/beyond", &staged),
    ];
    let sent = Sent { request_id: "q".to_owned(), at: Millis(1) };
    let confirmed = CommandState::Confirmed { rows: None, at: Millis(1), sent: None, operation: None };
    let doubtful = CommandState::Planned { failures: 0, not_before: Millis(0), sent: Some(sent.clone()) };
    let issued = CommandState::Issued { failures: 0, sent, operation: "o".to_owned() };
    let command =
        |unit, chunk, state: &CommandState| CommandRow { state: state.clone(), ..new_command(&id, unit, chunk) };
    let commands = vec![
        command(1, 0, &confirmed),
        command(1, 1, &CommandState::NEW),
        command(2, 0, &CommandState::NEW),
        command(3, 0, &issued),
        command(4, 0, &CommandState::NEW),
        command(5, 0, &confirmed),
        command(5, 1, &CommandState::NEW),
        command(6, 0, &CommandState::NEW),
        command(8, 0, &confirmed),
        command(9, 0, &doubtful),
        command(10, 0, &CommandState::NEW),
    ];
    store.commit(vec![Write::InsertRun(Box::new(run))]).await.unwrap();
    store.commit(vec![Write::InsertUnits(units), Write::InsertCommands(commands)]).await.unwrap();
    let numbers = Numbers { after: UnitNumber::LISTING, up_to: UnitNumber(9) };
    store.commit(vec![Write::DropUntouched(id.clone(), numbers)]).await.unwrap();
    let in_state = async |state| {
        let units = store.files(&id, Some(state), UnitNumber::LISTING, 99).await.unwrap();
        units.iter().map(|unit| unit.number.0).collect::<Vec<_>>()
    };
    assert_eq!(in_state("Staged").await, [1, 3, 4, 9, 10]);
    assert_eq!(in_state("Dropped").await, [2, 5, 7]);
    assert_eq!((in_state("Ingested").await, in_state("Failed").await), (vec![8], vec![6]));
    let due = store.due_commands(&id, Millis(0), 99).await.unwrap();
    let mut due: Vec<_> = due.iter().map(|command| (command.unit.0, command.chunk)).collect();
    due.sort_unstable();
    assert_eq!(due, [(1, 1), (4, 0), (10, 0)], "what is begun may be sent to its end");
    let half = store.half_ingested(&id, 99).await.unwrap();
    assert_eq!(half, ["/begun", "/parts", "/lost", "/doubtful"]);
    assert_eq!(store.half_ingested(&id, 1).await.unwrap(), ["/begun"]);
}

/// What every store of tokens and identities must do.
#[allow(clippy::unwrap_used, reason = "a suite fails by panicking")]
pub async fn credentials(store: &dyn Credentials) {
    let identity = |id: &str, token: &str, key: &str| IdentityRow {
        id: id.parse().unwrap(),
        runtime: "r".parse().unwrap(),
        name: "host".into(),
        token: token.into(),
        key_hash: key.into(),
        joined: Millis(3),
        ends: Millis(9),
        revoked: None,
    };
    let token = |id: &str, uses_left| TokenRow {
        id: id.into(),
        secret_hash: "h".into(),
        grants: Grants::Join { runtime: "r".parse().unwrap(), uses_left },
        created: Millis(1),
        ends: Millis(20),
        revoked: None,
    };
    let api = TokenRow { grants: Grants::Api(Role::Operator), created: Millis(2), ..token("api", None) };
    for row in [&token("once", Some(1)), &token("any", None), &api] {
        store.insert_token(row).await.unwrap();
        assert_eq!(store.token(&row.id).await.unwrap().as_ref(), Some(row));
    }
    assert_eq!(store.tokens(2).await.unwrap()[0], api);

    store.join(&identity("i1", "once", "k1")).await.unwrap();
    assert!(matches!(store.join(&identity("i2", "once", "k2")).await, Err(StoreError::Conflict)), "used up");
    assert!(matches!(store.join(&identity("i3", "any", "k1")).await, Ok(())));
    assert!(matches!(store.join(&identity("i4", "any", "k1")).await, Err(StoreError::Conflict)), "the same key");
    let left = store.token("once").await.unwrap().unwrap().grants;
    assert_eq!(left, token("once", Some(0)).grants);
    assert_eq!(store.identity_of("once", "k1").await.unwrap(), Some(identity("i1", "once", "k1")));
    assert_eq!(store.identities("host").await.unwrap().len(), 2);
    assert_eq!(store.identities("i3").await.unwrap(), [identity("i3", "any", "k1")]);

    let i1 = "i1".parse().unwrap();
    store.renew_identity(&i1, Millis(15)).await.unwrap();
    store.revoke_identity(&i1, Millis(10)).await.unwrap();
    store.revoke_identity(&i1, Millis(11)).await.unwrap();
    let revoked = store.identity(&i1).await.unwrap().unwrap();
    assert_eq!((revoked.ends, revoked.revoked), (Millis(15), Some(Millis(10))));
    assert!(matches!(store.renew_identity(&i1, Millis(30)).await, Err(StoreError::Conflict)));

    assert!(store.revoke_token("any", Millis(5)).await.unwrap());
    assert!(!store.revoke_token("nobody", Millis(5)).await.unwrap());
    assert!(matches!(store.join(&identity("i5", "any", "k5")).await, Err(StoreError::Conflict)), "revoked");
    store.forget_credentials(Millis(12)).await.unwrap();
    assert_eq!(store.identity(&"i3".parse().unwrap()).await.unwrap(), None);
    assert!(store.identity(&i1).await.unwrap().is_some() && store.token("any").await.unwrap().is_some());
    store.forget_credentials(Millis(100)).await.unwrap();
    assert_eq!(store.tokens(9).await.unwrap(), []);
}
