//! What a coordinator says of itself: nodes, and what runs have left behind.

use super::Finding;
use crate::{
    api::{Api, CoordinatorArg},
    output::{self, CliError, OutputFormat, bytes, cell, message},
};
use serde_json::{Value, json};

const NO_NODE: &str = "no node is ready: runs wait until one is; start it with ferry node";

/// Whether it answers, and how many of its nodes are ready. Fails when it is named in a way that cannot be.
pub(super) async fn look(to: &CoordinatorArg) -> Result<(Finding, Option<usize>), CliError> {
    let (api, address) = (Api::new(to)?, &to.coordinator);
    Ok(match ready(&api).await {
        Ok(0) => (Finding::bad("coordinator", format!("{address} answers, and no node is ready"), NO_NODE), Some(0)),
        Ok(nodes) => (Finding::ok("coordinator", format!("{address} answers, {nodes} nodes ready")), Some(nodes)),
        Err(e) => (Finding::bad("coordinator", e.to_string(), "start it, or correct address, token and --ca"), None),
    })
}

async fn ready(api: &Api) -> Result<usize, CliError> {
    let nodes = api.get("/nodes").await?;
    let is_ready = |node: &&Value| node["state"] == "Ready";
    Ok(nodes["nodes"].as_array().map_or(0, |nodes| nodes.iter().filter(is_ready).count()))
}

/// What is left behind wherever known runs have staged.
pub(super) async fn leaks(to: &CoordinatorArg, output: OutputFormat) -> Result<(), CliError> {
    let (api, address) = (Api::new(to)?, &to.coordinator);
    let ready = ready(&api).await?;
    let leaks = api.get("/leaks").await?;
    if output == OutputFormat::Json {
        output::json(&json!({"coordinator": address, "nodesReady": ready, "leaks": leaks}))?;
    } else {
        output::result(&format!("coordinator  {address} answers"))?;
        output::result(&format!("nodes        {ready} ready"))?;
        tell(&leaks)?;
    }
    if ready == 0 {
        return Err(CliError::Failed(NO_NODE.to_owned()));
    }
    judge(&leaks)
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
