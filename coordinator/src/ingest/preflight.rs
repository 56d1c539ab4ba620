//! A look at the sink before a byte is staged: is it there, may we, does the table fit.

use super::{REQUEST_TIMEOUT, judged, publish};
use crate::{
    core::Core,
    planner::{Plan, TableSchema, columns_to_add, columns_to_create, extended, parse_cslschema, plan},
    store::RunRow,
};
use ferry_common::{
    activity::{Activity, Publish, StagingType},
    failure::{Code, Failure, Fault, Retry},
};
use ferry_kusto::{
    Engine, KustoError, RequestId,
    commands::{self, Command},
};

/// What a look at the sink found, and what comes of it.
pub(crate) struct Looked {
    /// How records become columns, or why a run would fail.
    pub(crate) plan: Result<Plan, Failure>,
    /// What the user should know.
    pub(crate) warnings: Vec<String>,
    /// The table as it will be when rows arrive; `None`: there is none.
    pub(crate) table: Option<TableSchema>,
    /// The command that makes it what it will be.
    pub(crate) create: Option<String>,
    /// The command that adds the columns it lacks.
    pub(crate) alter: Option<String>,
    /// The container to stage in, where the cluster lends it.
    pub(crate) lent_container: Option<String>,
}

/// Looks at database and table, and makes the plan. If it `may_change` things, the table is created or extended where asked to,
/// and the staging table is made where rows are to become visible all at once; else it is told which commands would do that.
pub(crate) async fn look(core: &Core, run: &RunRow, may_change: bool) -> Result<Looked, Failure> {
    let activity = &run.activity;
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
    if let Some(queue) = core.sinks.open_queue(activity, REQUEST_TIMEOUT)? {
        queue.look().await.map_err(|e| queue_failed(&e))?;
    }
    let mut looked = Looked {
        plan: Err(no_table(activity)),
        warnings: Vec::new(),
        table: schema_of(&*client, activity).await?,
        create: None,
        alter: None,
        lent_container,
    };
    match fit(core, &*client, run, may_change, &mut looked).await {
        Ok(plan) => looked.plan = Ok(plan),
        Err(failure) if may_change => return Err(failure),
        // Nothing was asked for that could pass: source, settings and table do not fit, and everything else can still be told.
        Err(failure) => looked.plan = Err(failure),
    }
    Ok(looked)
}

/// Fits source and table together.
async fn fit(
    core: &Core,
    client: &dyn Engine,
    run: &RunRow,
    may_change: bool,
    looked: &mut Looked,
) -> Result<Plan, Failure> {
    let (activity, sample) = (&run.activity, run.sample.as_slice());
    let sink = &activity.sink;
    if sink.create_table {
        let none = TableSchema::Columns(Vec::new());
        let columns = columns_to_create(activity, sample, looked.table.as_ref().unwrap_or(&none))?;
        let command = commands::create_merge_table(&sink.table, &columns);
        if may_change {
            change(client, activity, "create", &command).await?;
            tracing::info!(table = sink.table, columns = columns.len(), "table is created or extended");
            looked.table = match schema_of(client, activity).await? {
                // Shown late or not at all: what was just created is known.
                None | Some(TableSchema::Hidden) => Some(TableSchema::Columns(columns)),
                shown => shown,
            };
        } else {
            let table = Some(extended(looked.table.as_ref(), &columns));
            looked.create = (table != looked.table).then(|| command.text().to_owned());
            looked.table = table;
        }
    }
    let mut added = None;
    let missing = looked.table.as_ref().map(|known| columns_to_add(activity, sample, known)).unwrap_or_default();
    if !missing.is_empty() {
        let command = commands::alter_merge_table(&sink.table, &missing);
        if may_change {
            change(client, activity, "alter", &command).await?;
            tracing::info!(table = sink.table, columns = missing.len(), "table is extended");
            added = Some(format!("columns were added to the table: {}", command.text()));
            looked.table = schema_of(client, activity).await?;
        } else {
            looked.alter = Some(command.text().to_owned());
            looked.table = Some(extended(looked.table.as_ref(), &missing));
        }
    }
    let Some(table) = &looked.table else { return Err(no_table(activity)) };
    let (plan, warnings) = plan(activity, sample, table)?;
    looked.warnings.extend(warnings);
    looked.warnings.extend(added);
    looked.warnings.extend(staging_warnings(activity));
    if sink.publish != Publish::Append {
        let columns = match table {
            TableSchema::Columns(columns) => Some(columns.as_slice()),
            TableSchema::Hidden => None,
        };
        if may_change {
            publish::prepare(core, client, run, columns).await?;
        } else if columns.is_none() {
            return Err(publish::hidden(run));
        }
    }
    Ok(plan)
}

async fn change(client: &dyn Engine, activity: &Activity, what: &str, command: &Command) -> Result<(), Failure> {
    let changed = client.command(&activity.sink.database, command, &RequestId::generate(what)).await;
    changed.map(drop).map_err(|e| create_failed(activity, &e))
}

fn no_table(activity: &Activity) -> Failure {
    let sink = &activity.sink;
    Failure::settings(
        Code::TableNotFound,
        format!("database {} has no table {:?}; create it, or set sink.createTable: true", sink.database, sink.table),
    )
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
