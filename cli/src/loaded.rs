//! `ferry loaded`: the files that runs with `source.skipLoadedFiles` leave out.

use crate::{
    api::{Api, CoordinatorArg},
    output::{self, CliError, OutputFormat, cell},
};
use clap::{Args, Subcommand};
use ferry_common::address::path_encoded;

/// `ferry loaded`
#[derive(Args)]
pub(crate) struct LoadedArgs {
    #[command(subcommand)]
    command: LoadedCommand,
}

#[derive(Subcommand)]
enum LoadedCommand {
    /// Forget that files were loaded into a table: the next run loads them again. Rows that are in the table stay there.
    #[command(
        after_help = "Example: ferry loaded forget --endpoint https://adx.westeurope.kusto.windows.net --database Rides \\
           --table Taxi --path '/exports/taxi/2026-11/**'"
    )]
    Forget {
        /// The cluster, as the activity's sink.endpoint names it.
        #[arg(long, value_name = "URL")]
        endpoint: String,
        /// The database.
        #[arg(long)]
        database: String,
        /// The table.
        #[arg(long)]
        table: String,
        /// Only files whose absolute path matches; without a `/`, whose name does. Default: all files.
        #[arg(long, value_name = "PATTERN")]
        path: Option<String>,
        #[command(flatten)]
        coordinator: CoordinatorArg,
    },
}

pub(crate) async fn run(args: LoadedArgs, output: OutputFormat) -> Result<(), CliError> {
    let LoadedCommand::Forget { endpoint, database, table, path, coordinator } = args.command;
    let mut address = format!(
        "/loaded?endpoint={}&database={}&table={}",
        path_encoded(&endpoint),
        path_encoded(&database),
        path_encoded(&table)
    );
    if let Some(path) = path {
        address += &format!("&path={}", path_encoded(&path));
    }
    let answer = Api::new(&coordinator)?.delete_slow(&address).await?;
    match output {
        OutputFormat::Json => output::json(&answer),
        OutputFormat::Table => output::result(&format!("{} files are forgotten", cell(&answer["files"]))),
    }
}
