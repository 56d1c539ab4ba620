//! `ferry doctor`: whether things are as they should be.

use crate::{
    api::{Api, CoordinatorArg},
    output::{self, CliError, OutputFormat, bytes, cell, message},
};
use clap::Args as ClapArgs;
use serde_json::{Value, json};

/// `ferry doctor`
#[derive(ClapArgs)]
#[command(after_help = "Examples:
  ferry doctor
  ferry doctor --leaks --output json")]
pub(crate) struct Args {
    #[command(flatten)]
    coordinator: CoordinatorArg,
    /// Look for staging blobs and staging tables that no living run owns, wherever known runs have staged. Nothing is
    /// deleted.
    #[arg(long)]
    leaks: bool,
}

pub(crate) async fn run(args: Args, output: OutputFormat) -> Result<(), CliError> {
    let address = &args.coordinator.coordinator;
    let api = Api::new(&args.coordinator)?;
    let nodes = api.get("/nodes").await?;
    let is_ready = |node: &&Value| node["state"] == "Ready";
    let ready = nodes["nodes"].as_array().map_or(0, |nodes| nodes.iter().filter(is_ready).count());
    let leaks = if args.leaks { Some(api.get("/leaks").await?) } else { None };
    if output == OutputFormat::Json {
        output::json(&json!({"coordinator": address, "nodesReady": ready, "leaks": leaks}))?;
    } else {
        output::result(&format!("coordinator  {address} answers"))?;
        output::result(&format!("nodes        {ready} ready"))?;
        if let Some(leaks) = &leaks {
            tell(leaks)?;
        }
    }
    if ready == 0 {
        return Err(CliError::Failed("no node is ready: runs wait until one is; start it with ferry node".to_owned()));
    }
    leaks.as_ref().map_or(Ok(()), judge)
}

fn list<'a>(found: &'a Value, name: &str) -> &'a [Value] {
    found[name].as_array().map(Vec::as_slice).unwrap_or_default()
}

fn tell(found: &Value) -> Result<(), CliError> {
    let blob = |row: &Value| {
        let owner = if row["isKnown"] == true { "ended; should be swept" } else { "not of this coordinator's store" };
        let what = format!("{} blobs, {}", cell(&row["blobs"]), bytes(row["bytes"].as_u64().unwrap_or(0)));
        vec![cell(&row["place"]), format!("run {}", cell(&row["run"])), what, owner.to_owned()]
    };
    let table =
        |row: &Value| vec![cell(&row["place"]), format!("table {}", cell(&row["table"])), String::new(), String::new()];
    let rows: Vec<_> = list(found, "blobs").iter().map(blob).chain(list(found, "tables").iter().map(table)).collect();
    if rows.is_empty() {
        output::result("leaks        none")?;
    } else {
        output::table(&["PLACE", "LEFT BEHIND", "SIZE", "OWNER"], rows)?;
    }
    for failure in list(found, "failures") {
        message(&format!("ferry: could not look at {}: {}", cell(&failure["place"]), cell(&failure["message"])));
    }
    for warning in list(found, "warnings") {
        let (place, why) = (cell(&warning["place"]), cell(&warning["message"]));
        message(&format!("ferry: {place} is the cluster's, which empties it by itself: {why}"));
    }
    Ok(())
}

fn judge(found: &Value) -> Result<(), CliError> {
    let (blobs, tables) = (list(found, "blobs").len(), list(found, "tables").len());
    if blobs + tables > 0 {
        return Err(CliError::Failed(format!("{blobs} runs left blobs behind, and there are {tables} staging tables")));
    }
    if list(found, "failures").is_empty() {
        return Ok(());
    }
    Err(CliError::Failed("not every place could be looked at".to_owned()))
}
