//! `ferry nodes`: who copies.

use crate::{
    api::{Api, CoordinatorArg},
    output::{self, CliError, OutputFormat, cell, message},
};
use clap::{Args, Subcommand};
use ferry_common::address::path_encoded;
use serde_json::Value;

/// `ferry nodes`
#[derive(Args)]
pub(crate) struct NodesArgs {
    #[command(subcommand)]
    command: NodesCommand,
}

#[derive(Subcommand)]
enum NodesCommand {
    /// Nodes that were heard within a day.
    #[command(after_help = "Examples:
  ferry nodes list
  ferry nodes list --coordinator https://ferry.example.com:7480 --token-file viewer-token")]
    List {
        #[command(flatten)]
        coordinator: CoordinatorArg,
    },
    /// Let a node finish what it holds and take no more.
    #[command(after_help = "Example: ferry nodes drain node-3")]
    Drain {
        /// Name or id of the node.
        node: String,
        #[command(flatten)]
        coordinator: CoordinatorArg,
    },
    /// Let a node in no more. What it holds goes to others when its leases end.
    #[command(after_help = "Example: ferry nodes revoke node-3")]
    Revoke {
        /// Name, id or identity of the node; of a name, all nodes that joined under it.
        node: String,
        #[command(flatten)]
        coordinator: CoordinatorArg,
    },
}

pub(crate) async fn run(args: NodesArgs, output: OutputFormat) -> Result<(), CliError> {
    let list = match args.command {
        NodesCommand::List { coordinator } => Api::new(&coordinator)?.get("/nodes").await?,
        NodesCommand::Drain { node, coordinator } => {
            Api::new(&coordinator)?.post(&format!("/nodes/{}/drain", path_encoded(&node)), None).await?
        }
        NodesCommand::Revoke { node, coordinator } => {
            let path = format!("/nodes/{}/revoke", path_encoded(&node));
            return revoked(&Api::new(&coordinator)?.post(&path, None).await?, output);
        }
    };
    if output == OutputFormat::Json {
        return output::json(&list["nodes"]);
    }
    let rows = list["nodes"].as_array().into_iter().flatten().map(|n| {
        vec![
            cell(&n["name"]),
            cell(&n["runtime"]),
            cell(&n["state"]),
            format!("{}/{}", cell(&n["slotsBusy"]), cell(&n["slots"])),
            cell(&n["version"]),
            cell(&n["lastSeen"]),
            cell(&n["nodeId"]),
        ]
    });
    output::table(&["NAME", "RUNTIME", "STATE", "SLOTS BUSY", "VERSION", "LAST SEEN", "NODE"], rows)
}

fn revoked(list: &Value, output: OutputFormat) -> Result<(), CliError> {
    if output == OutputFormat::Json {
        return output::json(&list["nodes"]);
    }
    let columns = ["name", "runtime", "identity", "token", "joined", "revoked"];
    let rows = list["nodes"].as_array().into_iter().flatten().map(|n| columns.map(|key| cell(&n[key])).to_vec());
    output::table(&["NAME", "RUNTIME", "IDENTITY", "JOINED WITH", "JOINED", "REVOKED"], rows)?;
    message("ferry: a join token that is still good lets them in again: `ferry token list`, `ferry token revoke`");
    Ok(())
}
