//! A look at the sink before a byte is staged: is it there, may we, does the table fit.

use super::{REQUEST_TIMEOUT, judged, publish};
use crate::{
    core::Core,
    planner::{Plan, TableSchema, columns_to_add, columns_to_create, parse_cslschema, plan},
    store::RunRow,
};
use ferry_common::{
    activity::{Activity, Publish, StagingType},
    failure::{Code, Failure, Fault, Retry},
};
use ferry_kusto::{Engine, KustoError, RequestId, commands};

/// What a look at the sink gave.
#[derive(Debug)]
pub(crate) struct Looked {
    pub(crate) plan: Plan,
    /// What the user should know.
    pub(crate) warnings: Vec<String>,
    /// The container to stage in, where the cluster lends it.
    pub(crate) lent_container: Option<String>,
}

/// Looks at database and table, creates or extends the table where asked to, makes the plan, and the staging table where
/// rows are to become visible all at once.
pub(crate) async fn look(core: &Core, run: &RunRow) -> Result<Looked, Failure> {
    let (activity, sample) = (&run.activity, run.sample.as_slice());
    // Who cannot open staging, or has no secret to sign in with, should hear it now.
    core.identities.secret_of(&activity.sink.auth).await?;
    let lent_container = match activity.staging.kind {
        StagingType::FromCluster => Some(core.sinks.lend(activity, None).await?.address().to_owned()),
        StagingType::AzureBlob | StagingType::FileSystem => {
            core.access(run).await?;
            None
        }
    };
    let client = core.sinks.open(activity, REQUEST_TIMEOUT)?;
    let client = &*client;
    let sink = &activity.sink;
    if let Some(queue) = core.sinks.open_queue(activity, REQUEST_TIMEOUT)? {
        queue.look().await.map_err(|e| queue_failed(&e))?;
    }
    let mut table = schema_of(client, activity).await?;
    if sink.create_table {
        let columns = columns_to_create(activity, sample, table.as_ref().unwrap_or(&TableSchema::Columns(Vec::new())))?;
        let command = commands::create_merge_table(&sink.table, &columns);
        client
            .command(&sink.database, &command, &RequestId::generate("create"))
            .await
            .map_err(|e| create_failed(activity, &e))?;
        tracing::info!(table = sink.table, columns = columns.len(), "table is created or extended");
        table = match schema_of(client, activity).await? {
            // Shown late or not at all: what was just created is known.
            None | Some(TableSchema::Hidden) => Some(TableSchema::Columns(columns)),
            shown => shown,
        };
    }
    let mut added = None;
    if let Some(known) = &table {
        let columns = columns_to_add(activity, sample, known);
        if !columns.is_empty() {
            let command = commands::alter_merge_table(&sink.table, &columns);
            client
                .command(&sink.database, &command, &RequestId::generate("alter"))
                .await
                .map_err(|e| create_failed(activity, &e))?;
            tracing::info!(table = sink.table, columns = columns.len(), "table is extended");
            added = Some(format!("columns were added to the table: {}", command.text()));
            table = schema_of(client, activity).await?;
        }
    }
    let Some(table) = table else {
        return Err(Failure::settings(
            Code::TableNotFound,
            format!(
                "database {} has no table {:?}; create it, or set sink.createTable: true",
                sink.database, sink.table
            ),
        ));
    };
    let (plan, mut warnings) = plan(activity, sample, &table)?;
    warnings.extend(added);
    warnings.extend(staging_warnings(activity));
    if sink.publish != Publish::Append {
        let columns = match &table {
            TableSchema::Columns(columns) => Some(columns.as_slice()),
            TableSchema::Hidden => None,
        };
        publish::prepare(core, client, run, columns).await?;
    }
    Ok(Looked { plan, warnings, lent_container })
}

/// Who gets more than it needs, and what is kept by others.
fn staging_warnings(activity: &Activity) -> Vec<String> {
    let staging = &activity.staging;
    let mut warnings = Vec::new();
    if staging.sas.is_some() {
        warnings.push(
            "staging.sas is handed to nodes and cluster as it is, with all its rights; with accountKey each gets its own \
             short-lived signature"
                .to_owned(),
        );
    }
    if staging.kind == StagingType::FromCluster {
        warnings.push(
            "staging: the signature that the cluster lends is handed to nodes as it is, for the whole container and with all its \
             rights; in a container of your own each attempt may write its own blobs and nothing else"
                .to_owned(),
        );
        if activity.settings.enable_skip_incompatible_row {
            warnings.push(
                "rows that are left out are kept in a container that the cluster lends, and empties in its own time; to keep \
                 them, stage in a container of your own"
                    .to_owned(),
            );
        }
    }
    warnings
}

/// The table's columns; `None` if there is no such table.
async fn schema_of(client: &dyn Engine, activity: &Activity) -> Result<Option<TableSchema>, Failure> {
    let sink = &activity.sink;
    let id = RequestId::generate("schema");
    match client.command(&sink.database, &commands::show_table_cslschema(&sink.table), &id).await {
        Ok(reply) => {
            let schema = reply.table.rows.first().map(|row| parse_cslschema(reply.table.text(row, "Schema")));
            Ok(schema.map(TableSchema::Columns))
        }
        Err(KustoError::Service(e)) if e.is_database_missing() => Err(Failure::settings(
            Code::DatabaseNotFound,
            format!(
                "{} has no database {:?}, or it is hidden from this sign-in: {e}",
                client.endpoint(),
                sink.database
            ),
        )),
        Err(KustoError::Service(e)) if e.is_entity_missing() => Ok(None),
        // Looking is not needed to ingest.
        Err(KustoError::Service(e)) if e.is_forbidden() && e.status == 403 => Ok(Some(TableSchema::Hidden)),
        Err(e) => Err(judged(&e)),
    }
}

fn queue_failed(error: &KustoError) -> Failure {
    let failure = judged(error);
    let hint = match error.service() {
        Some(e) if e.is_forbidden() => "; that needs the role Table Ingestor on a table of the cluster",
        _ => "",
    };
    Failure { message: format!("queued ingestion: {}{hint}", failure.message), ..failure }
}

fn create_failed(activity: &Activity, error: &KustoError) -> Failure {
    let failure = judged(error);
    let table = &activity.sink.table;
    match error.service() {
        Some(e) if e.is_forbidden() => Failure {
            message: format!(
                "table {table:?} cannot be created or extended: {}; that needs the role Database User (Table Admin to extend)",
                failure.message
            ),
            ..failure
        },
        Some(e) if e.permanent => Failure::new(
            Code::SchemaConflict,
            Fault::Sink,
            Retry::Never,
            format!("table {table:?} cannot take the source's columns: {}", failure.message),
        ),
        _ => failure,
    }
}
