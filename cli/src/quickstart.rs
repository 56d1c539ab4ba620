//! `ferry quickstart`: a whole copy with nothing but this program.

use crate::{
    embedded::{self, ANY_PORT, Embedding},
    output::{self, CliError, OutputFormat, bytes, cell, count, message},
    query::{self, AuthArg, DatabaseArgs},
    sample, summary,
};
use clap::Args as ClapArgs;
use ferry_common::activity::Activity;
use ferry_local_adx::{Faults, LocalAdx, LocalAdxConfig, Roles};
use ferry_node::read::Roots;
use serde_json::json;
use std::{
    fs,
    path::{Path, PathBuf},
    time::Duration,
};
use tokio_util::sync::CancellationToken;

/// Marks a folder as one that quickstart may empty.
const MARKER: &str = ".ferry-quickstart";
const DATABASE: &str = "Quickstart";
const TABLE: &str = "Hires";
const QUERY_TIMEOUT: Duration = Duration::from_secs(60);

/// `ferry quickstart`
#[derive(ClapArgs)]
#[command(after_help = "Examples:
  ferry quickstart
  ferry quickstart --folder /tmp/ferry --nodes 4")]
pub(crate) struct Args {
    /// Working folder; everything is kept below it.
    #[arg(long, default_value = "ferry-quickstart", value_name = "DIR")]
    folder: PathBuf,
    /// Nodes to embed.
    #[arg(long, default_value_t = 2, value_parser = clap::value_parser!(u32).range(1..=64))]
    nodes: u32,
}

/// Makes the folder and empties it, if it is ours.
fn prepare(folder: &Path) -> Result<PathBuf, CliError> {
    if folder.exists() {
        let is_empty = fs::read_dir(folder)?.next().is_none();
        if !is_empty && !folder.join(MARKER).exists() {
            return Err(CliError::Usage(format!(
                "{} is not empty and not quickstart's own; choose another with --folder",
                folder.display()
            )));
        }
        fs::remove_dir_all(folder)?;
    }
    fs::create_dir_all(folder)?;
    fs::write(folder.join(MARKER), "ferry quickstart may empty this folder\n")?;
    let folder = fs::canonicalize(folder)?;
    fs::create_dir(folder.join("staging"))?;
    Ok(folder)
}

pub(crate) async fn run(args: Args, output: OutputFormat) -> Result<(), CliError> {
    let folder = prepare(&args.folder)?;
    let source = folder.join("source");
    let sample = {
        let source = source.clone();
        tokio::task::spawn_blocking(move || sample::write(&source))
            .await
            .map_err(|e| CliError::Failed(e.to_string()))??
    };
    message(&format!(
        "ferry: wrote a sample of {} files, {} rows, {} to {}",
        sample.files,
        count(sample.rows),
        bytes(sample.bytes),
        source.display()
    ));
    let config = LocalAdxConfig {
        listen: ANY_PORT,
        data: folder.join("local-adx"),
        databases: Vec::new(),
        faults: Faults::default(),
        storage: None,
        login_endpoint: None,
        roles: Roles::default(),
    };
    let endpoint = LocalAdx::open(config).await.map_err(|e| CliError::Failed(e.to_string()))?;
    let address = format!("http://{}", endpoint.address);
    message(&format!(
        "ferry: copying with {} nodes through staging into {DATABASE}.{TABLE} of a local ADX-compatible endpoint",
        args.nodes
    ));
    let stop = CancellationToken::new();
    let serving = tokio::spawn(endpoint.serve(stop.clone()));
    let result = copy_and_query(&args, &folder, &source, &address, sample, output).await;
    stop.cancel();
    // Connections that are kept alive would hold it up; it ends with the program.
    serving.abort();
    result
}

async fn copy_and_query(
    args: &Args,
    folder: &Path,
    source: &Path,
    address: &str,
    sample: sample::Sample,
    output: OutputFormat,
) -> Result<(), CliError> {
    let activity = json!({
        "name": "quickstart",
        "source": {"type": "FileSystem", "folderPath": source, "wildcardFileName": "*.csv",
                   "format": {"type": "DelimitedText", "firstRowAsHeader": true}},
        "sink": {"type": "AzureDataExplorer", "endpoint": address, "database": DATABASE, "table": TABLE, "createTable": true},
        "staging": {"type": "FileSystem", "folderPath": folder.join("staging")},
        "settings": {"chunkSizeMB": 4},
    });
    let activity = Activity::parse(&activity.to_string(), "quickstart")?;
    let roots = Roots::new([source.to_owned()])?;
    let store = folder.join("ferry.db");
    let embedding = Embedding { store: &store, roots, nodes: args.nodes, slots: 1 };
    let report = embedded::copy(embedding, &activity, None).await?;
    if output == OutputFormat::Table {
        summary::print(&report, output)?;
        output::result("")?;
    }
    let database = DatabaseArgs { endpoint: address.to_owned(), database: DATABASE.to_owned(), auth: AuthArg::None };
    let text = format!(
        "{TABLE} | summarize Rows=count(), DurationSeconds=sum(DurationSeconds), First=min(StartTime), Last=max(StartTime)"
    );
    let totals = query::ask(&database, &text, QUERY_TIMEOUT).await?;
    let by_plan = format!("{TABLE} | summarize Rows=count(), AverageFee=avg(Fee) by Plan | sort by Plan asc");
    if output == OutputFormat::Table {
        output::result(&text)?;
        query::print(&totals, output)?;
        output::result("")?;
        output::result(&by_plan)?;
        query::print(&query::ask(&database, &by_plan, QUERY_TIMEOUT).await?, output)?;
        output::result("")?;
    } else {
        output::json(&json!({"report": report, "table": totals.objects()}))?;
    }
    let row = totals.rows.first().cloned().unwrap_or_default();
    let found = (totals.long(&row, "Rows"), totals.long(&row, "DurationSeconds"));
    if found != (Some(sample.rows as i64), Some(sample.duration_seconds as i64)) {
        return Err(CliError::Failed(format!(
            "the table has {} rows and a sum of {}, the files have {} and {}",
            row.first().map(cell).unwrap_or_default(),
            row.get(1).map(cell).unwrap_or_default(),
            sample.rows,
            sample.duration_seconds
        )));
    }
    message(&format!(
        "ferry: the table has every row of the files, once. Everything is below {}; `ferry quickstart` again begins anew.",
        folder.display()
    ));
    Ok(())
}
