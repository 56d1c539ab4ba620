//! `atomic` and `replace`: rows gather in a staging table of the run's own and become visible by one command.
//!
//! What if the process dies right here, or an answer is lost? Both commands give the run's own rows their effect once,
//! however often they are sent: they move what is in the staging table, which is nothing after the first time, and
//! `replace` never drops extents of its own run. Before each sending, and after it, the two tables are looked at, and what
//! they show decides. The sending is stored first: while its answer is in doubt nothing is sent again, since a second
//! `replace` would drop what others put into the table after the first.

use super::{REQUEST_TIMEOUT, is_table_new, judged};
use crate::{
    core::{ChangeError, Core},
    store::RunRow,
};
use ferry_common::{
    activity::Publish,
    clock::Millis,
    failure::{Code, Failure, Fault, Retry},
};
use ferry_kusto::{
    Engine, KustoError, RequestId,
    commands::{self, Command, TableColumn},
};
use std::time::Duration;

/// The cluster drops a staging table this long after its making, should no coordinator be left to do it.
pub(crate) const STAGING_TABLE_AGE_MAX: Duration = Duration::from_secs(14 * 24 * 3600);

/// Time that the cluster gets to publish: it answers when it is done.
const PUBLISH_TIMEOUT: Duration = Duration::from_secs(3600);

/// Where publishing stands.
#[derive(Debug)]
pub(crate) enum Published {
    /// Every row of the run is in the table.
    Yes,
    /// Not yet, or it is not known.
    NotYet(Failure),
    /// It cannot be: nothing of the run is in the table.
    Never(Failure),
}

/// Extents and rows of a table.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
struct Total {
    extents: u64,
    rows: u64,
}

/// Makes the run's staging table, and tries whether its rows may go on to the table.
pub(super) async fn prepare(
    core: &Core,
    client: &dyn Engine,
    run: &RunRow,
    columns: Option<&[TableColumn]>,
) -> Result<(), Failure> {
    let sink = &run.activity.sink;
    let staging = run.staging_table();
    let Some(columns) = columns else { return Err(hidden(run)) };
    let day =
        jiff::Timestamp::from_millisecond(core.now().plus(STAGING_TABLE_AGE_MAX).0).unwrap_or(jiff::Timestamp::MAX);
    let about = format!("rows of run {} of ferry, on their way to table {}", run.id, sink.table);
    let making = [
        commands::create_staging_table(&staging, columns, &about),
        commands::forbid_merges(&staging),
        commands::keep_long(&staging),
        commands::delete_after(&staging, &day.strftime("%Y-%m-%d").to_string()),
    ];
    let needs = |role: &str, what: &str, e: &KustoError| {
        let failure = judged(e);
        match e.service() {
            Some(e) if e.is_forbidden() => Failure {
                message: format!(
                    "sink.publish: {:?} {what}, which needs the role {role}: {}. Grant it, or set sink.publish: append",
                    sink.publish, failure.message
                ),
                ..failure
            },
            _ => failure,
        }
    };
    for command in making {
        if !core.may_act() {
            return Err(not_ours());
        }
        send(client, run, &command)
            .await
            .map_err(|e| needs("Database User", &format!("makes staging table {staging}"), &e))?;
    }
    // Whenever this arrives, it moves nothing.
    match send(client, run, &commands::try_move_extents(&staging, &sink.table)).await {
        Ok(_) => Ok(()),
        Err(e) if e.service().is_some_and(|e| !e.is_forbidden() && e.permanent) => {
            tracing::warn!(run = %run.id, "moving no extents, as a trial, failed: {}", judged(&e).message);
            Ok(())
        }
        Err(e) => Err(needs("Table Admin", &format!("moves extents into table {:?}", sink.table), &e)),
    }
}

/// A staging table cannot be made like a table whose columns are hidden.
pub(super) fn hidden(run: &RunRow) -> Failure {
    let sink = &run.activity.sink;
    let message = format!(
        "sink.publish: {:?} makes a staging table like table {:?}, whose columns this sign-in may not see; it needs the role \
         Table Admin on it. With Table Ingestor alone, set sink.publish: append",
        sink.publish, sink.table
    );
    Failure::new(Code::SinkForbidden, Fault::Sink, Retry::Never, message)
}

fn not_ours() -> Failure {
    Failure::new(Code::SinkFailed, Fault::Runtime, Retry::Backoff, "another coordinator drives the run")
}

async fn send(client: &dyn Engine, run: &RunRow, command: &Command) -> Result<ferry_kusto::Reply, KustoError> {
    client.command(&run.activity.sink.database, command, &RequestId::generate("publish")).await
}

/// Takes the next step, and tells where publishing stands. `expected` rows are to be published; `began`: since when this
/// program drives the run.
pub(crate) async fn publish(core: &Core, run: &RunRow, expected: u64, began: Millis) -> Result<Published, ChangeError> {
    let client = match core.sinks.open(&run.activity, PUBLISH_TIMEOUT) {
        Ok(client) => client,
        Err(failure) => return Ok(Published::NotYet(failure)),
    };
    let client = &*client;
    match look(core, client, run, expected).await {
        Ok(None) => {}
        Ok(Some(known)) => return Ok(known),
        Err(e) => return Ok(Published::NotYet(Failure { retry: Retry::Backoff, ..judged(&e) })),
    }
    // A command whose answer was lost may yet arrive. Sent twice, `replace` would drop what others have put into the table
    // in between.
    if run.publish_sent.is_some_and(|at| core.now().since(at.max(began)) < core.limits.settle_after) {
        let message = "the answer to the publishing command was lost; it may be on its way";
        return Ok(Published::NotYet(Failure::new(Code::SinkFailed, Fault::Sink, Retry::Backoff, message)));
    }
    note_sending(core, run, Some(core.now())).await?;
    if !core.may_act() {
        return Ok(Published::NotYet(not_ours()));
    }
    let sink = &run.activity.sink;
    let staging = run.staging_table();
    let command = match sink.publish {
        Publish::Replace => commands::replace_extents(&sink.table, &staging, &own_tags(run)),
        Publish::Atomic | Publish::Append => commands::move_extents(&staging, &sink.table),
    };
    tracing::info!(run = %run.id, rows = expected, "publishing: {command}");
    let error = match send(client, run, &command).await {
        // Without rows nothing in the table could tell.
        Ok(_) if expected == 0 => return Ok(Published::Yes),
        Ok(_) => None,
        Err(e) => Some(e),
    };
    if !error.as_ref().is_some_and(KustoError::outcome_is_unknown) {
        note_sending(core, run, None).await?;
    }
    let failure = error.map(|e| (judged(&e), e.outcome_is_unknown()));
    if let Some((failure, _)) = &failure {
        tracing::warn!(run = %run.id, code = %failure.code, "publishing, the cluster is looked at again after: {}", failure.message);
    }
    Ok(match (look(core, client, run, expected).await, failure) {
        (Ok(Some(known)), _) => known,
        // It was refused for good, and the staging table has all its rows still.
        (Ok(None), Some((failure, false))) if failure.retry == Retry::Never && !is_table_new(run, core.now()) => {
            Published::Never(failure)
        }
        (Ok(None), Some((failure, _))) => Published::NotYet(Failure { retry: Retry::Backoff, ..failure }),
        (Ok(None), None) => {
            let message = format!("the cluster took the command, and staging table {staging} has its rows still");
            Published::NotYet(Failure::new(Code::SinkFailed, Fault::Sink, Retry::Backoff, message))
        }
        (Err(e), _) => Published::NotYet(Failure { retry: Retry::Backoff, ..judged(&e) }),
    })
}

/// Stores that a publishing command may be on its way, or that none is.
async fn note_sending(core: &Core, run: &RunRow, at: Option<Millis>) -> Result<(), ChangeError> {
    core.change_run(&run.id, |mut row| {
        row.publish_sent = at;
        Ok(Some(row))
    })
    .await
    .map(drop)
}

/// How the tags of the run's extents begin.
fn own_tags(run: &RunRow) -> String {
    format!("ingest-by:{}", run.tag_prefix())
}

/// What both tables show. `None`: the staging table is complete and nothing of it is published.
async fn look(core: &Core, client: &dyn Engine, run: &RunRow, expected: u64) -> Result<Option<Published>, KustoError> {
    let sink = &run.activity.sink;
    let staging = run.staging_table();
    let staged = match total(client, run, &staging, None).await {
        Err(KustoError::Service(e)) if e.is_entity_missing() => None,
        other => Some(other?),
    };
    let mismatch = |what: String| Failure::new(Code::RowCountMismatch, Fault::Sink, Retry::Never, what);
    // The move is one transaction: where some rows of the run are, all are. What is in the staging table after it came
    // late and is a double. Extents may have been merged with others since, which adds rows and takes none.
    let own = total(client, run, &sink.table, Some(&own_tags(run))).await?;
    if own.extents > 0 && own.rows >= expected {
        return Ok(Some(Published::Yes));
    }
    if own.extents > 0 {
        let what = format!(
            "table {:?} has {} of {expected} rows of the run: look for extents whose tags begin with {}",
            sink.table,
            own.rows,
            own_tags(run)
        );
        return Ok(Some(Published::Never(mismatch(what))));
    }
    let is_empty = staged.is_none_or(|s| s.extents == 0);
    if is_empty && expected == 0 {
        if sink.publish != Publish::Replace {
            return Ok(Some(Published::Yes));
        }
        let all = total(client, run, &sink.table, None).await?;
        return Ok((all.extents == 0).then_some(Published::Yes));
    }
    match staged {
        Some(staged) if staged.rows == expected => Ok(None),
        // Extents may be listed late; the driver asks again for a while.
        Some(staged) if staged.rows < expected => {
            let what = format!("staging table {staging} shows {} of {expected} rows", staged.rows);
            Ok(Some(Published::NotYet(Failure { retry: Retry::Backoff, ..mismatch(what) })))
        }
        Some(staged) => {
            let what = format!(
                "staging table {staging} has {} rows where {expected} were staged; nothing was published",
                staged.rows
            );
            Ok(Some(Published::Never(mismatch(what))))
        }
        None if is_table_new(run, core.now()) => {
            let what = format!("staging table {staging} is not known everywhere in the cluster yet");
            Ok(Some(Published::NotYet(Failure { retry: Retry::Backoff, ..mismatch(what) })))
        }
        None => {
            let what = format!("staging table {staging} is gone before its rows were published; who dropped it?");
            Ok(Some(Published::Never(mismatch(what))))
        }
    }
}

async fn total(client: &dyn Engine, run: &RunRow, table: &str, tag_part: Option<&str>) -> Result<Total, KustoError> {
    let reply = send(client, run, &commands::show_extents_total(table, tag_part)).await?;
    let number = |row: &Vec<serde_json::Value>, column: &str| {
        reply.table.long(row, column).and_then(|n| u64::try_from(n).ok()).unwrap_or(0)
    };
    let row = reply.table.rows.first();
    Ok(row.map_or(Total::default(), |row| Total { extents: number(row, "Extents"), rows: number(row, "Rows") }))
}

/// Drops the run's staging table, with whatever came late. Nobody will publish it any more.
pub(crate) async fn drop_staging(core: &Core, run: &RunRow) -> Result<(), Failure> {
    let client = core.sinks.open(&run.activity, REQUEST_TIMEOUT)?;
    match send(&*client, run, &commands::drop_table(&run.staging_table())).await {
        Ok(_) => Ok(()),
        // There is no table without its database.
        Err(KustoError::Service(e)) if e.is_database_missing() => Ok(()),
        Err(e) => Err(judged(&e)),
    }
}
