//! `atomic` and `replace`: rows gather in a staging table of the run's own and become visible by one command.
//!
//! What if the process dies right here, or an answer is lost? Both commands have their effect once, however often they are
//! sent: they move what is in the staging table, which is nothing after the first time, and `replace` never drops extents
//! of its own run. So before each sending, and after it, the two tables are looked at, and what they show decides.

use super::judged;
use crate::{core::Core, store::RunRow};
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
const STAGING_TABLE_AGE_MAX: Duration = Duration::from_secs(14 * 24 * 3600);

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
    client: &dyn Engine,
    run: &RunRow,
    columns: Option<&[TableColumn]>,
    now: Millis,
) -> Result<(), Failure> {
    let sink = &run.activity.sink;
    let staging = run.staging_table();
    let Some(columns) = columns else {
        let message = format!(
            "sink.publish: {:?} makes a staging table like table {:?}, whose columns this sign-in may not see; it needs the role \
             Table Admin on it. With Table Ingestor alone, set sink.publish: append",
            sink.publish, sink.table
        );
        return Err(Failure::new(Code::SinkForbidden, Fault::Sink, Retry::Never, message));
    };
    let day = jiff::Timestamp::from_millisecond(now.plus(STAGING_TABLE_AGE_MAX).0).unwrap_or(jiff::Timestamp::MAX);
    let about = format!("rows of run {} of ferry, on their way to table {}", run.id, sink.table);
    let making = [
        commands::create_staging_table(&staging, columns, &about),
        commands::forbid_merges(&staging),
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

async fn send(client: &dyn Engine, run: &RunRow, command: &Command) -> Result<ferry_kusto::Reply, KustoError> {
    client.command(&run.activity.sink.database, command, &RequestId::generate("publish")).await
}

/// Takes the next step, and tells where publishing stands. `expected` rows are to be published.
pub(crate) async fn publish(core: &Core, run: &RunRow, expected: u64) -> Published {
    let client = match core.sinks.open(&run.activity) {
        Ok(client) => client,
        Err(failure) => return Published::NotYet(failure),
    };
    let client = &*client;
    match look(client, run, expected).await {
        Ok(None) => {}
        Ok(Some(known)) => return known,
        Err(e) => return Published::NotYet(Failure { retry: Retry::Backoff, ..judged(&e) }),
    }
    let sink = &run.activity.sink;
    let staging = run.staging_table();
    let command = match sink.publish {
        Publish::Replace => commands::replace_extents(&sink.table, &staging, &own_tags(run)),
        Publish::Atomic | Publish::Append => commands::move_extents(&staging, &sink.table),
    };
    tracing::info!(run = %run.id, rows = expected, "publishing: {command}");
    if !core.may_act() {
        let failure =
            Failure::new(Code::SinkFailed, Fault::Runtime, Retry::Backoff, "another coordinator drives the run");
        return Published::NotYet(failure);
    }
    let sent = send(client, run, &command).await;
    let failure = sent.err().map(|e| (judged(&e), e.outcome_is_unknown()));
    if let Some((failure, _)) = &failure {
        tracing::warn!(run = %run.id, code = %failure.code, "publishing, the cluster is looked at again after: {}", failure.message);
    }
    match (look(client, run, expected).await, failure) {
        (Ok(Some(known)), _) => known,
        // It was refused for good, and the staging table has all its rows still.
        (Ok(None), Some((failure, false))) if failure.retry == Retry::Never => Published::Never(failure),
        (Ok(None), Some((failure, _))) => Published::NotYet(Failure { retry: Retry::Backoff, ..failure }),
        (Ok(None), None) => {
            let message = format!("the cluster took the command, and staging table {staging} has its rows still");
            Published::NotYet(Failure::new(Code::SinkFailed, Fault::Sink, Retry::Backoff, message))
        }
        (Err(e), _) => Published::NotYet(Failure { retry: Retry::Backoff, ..judged(&e) }),
    }
}

/// How the tags of the run's extents begin.
fn own_tags(run: &RunRow) -> String {
    format!("ingest-by:{}", run.tag_prefix())
}

/// What both tables show. `None`: the staging table is complete and nothing of it is published.
async fn look(client: &dyn Engine, run: &RunRow, expected: u64) -> Result<Option<Published>, KustoError> {
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
    let client = core.sinks.open(&run.activity)?;
    send(&*client, run, &commands::drop_table(&run.staging_table())).await.map(|_| ()).map_err(|e| judged(&e))
}
