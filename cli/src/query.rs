//! `ferry query`: a query or a management command, and its rows.

use crate::output::{self, CliError, OutputFormat, cell};
use clap::Args as ClapArgs;
use ferry_kusto::{
    Client, ClientOptions, RequestId, Table,
    auth::{NoAuth, StaticBearer, TokenProvider},
};
use std::{sync::Arc, time::Duration};

/// How to sign in.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum AuthArg {
    /// Not at all: for endpoints on this machine.
    #[default]
    None,
    /// With the bearer token in the environment variable FERRY_ADX_TOKEN.
    Bearer,
}

/// Variable that holds the token of `--auth bearer`.
pub(crate) const TOKEN_VARIABLE: &str = "FERRY_ADX_TOKEN";

/// Which database.
#[derive(ClapArgs, Clone, Debug)]
pub(crate) struct DatabaseArgs {
    /// Address of the cluster.
    #[arg(long, env = "FERRY_ADX_ENDPOINT", value_name = "URL")]
    pub(crate) endpoint: String,
    /// Database.
    #[arg(long, value_name = "NAME")]
    pub(crate) database: String,
    /// How to sign in.
    #[arg(long, value_enum, default_value_t)]
    pub(crate) auth: AuthArg,
}

/// `ferry query`
#[derive(ClapArgs)]
pub(crate) struct Args {
    /// A query such as 'T | count', or a command such as '.show tables'.
    text: String,
    #[command(flatten)]
    database: DatabaseArgs,
    /// Time that the cluster gets.
    #[arg(long, default_value = "4m", value_parser = humantime::parse_duration, value_name = "TIME")]
    timeout: Duration,
}

/// Runs a query and gives its rows.
pub(crate) async fn ask(database: &DatabaseArgs, text: &str, timeout: Duration) -> Result<Table, CliError> {
    let tokens: Arc<dyn TokenProvider> = match database.auth {
        AuthArg::None => Arc::new(NoAuth),
        AuthArg::Bearer => Arc::new(StaticBearer::new(
            std::env::var(TOKEN_VARIABLE)
                .map_err(|_| CliError::Usage(format!("--auth bearer needs {TOKEN_VARIABLE} in the environment")))?,
        )),
    };
    let client = Client::new(&database.endpoint, tokens, ClientOptions { server_timeout: timeout })
        .map_err(|e| CliError::Usage(e.to_string()))?;
    let reply = client.run(&database.database, text, &RequestId::generate("query")).await;
    Ok(reply.map_err(|e| CliError::Failed(e.to_string()))?.table)
}

/// Prints rows.
pub(crate) fn print(table: &Table, output: OutputFormat) -> Result<(), CliError> {
    match output {
        OutputFormat::Json => output::json(&table.objects()),
        OutputFormat::Table => {
            let header: Vec<&str> = table.columns.iter().map(|c| c.name.as_str()).collect();
            output::table(&header, table.rows.iter().map(|row| row.iter().map(cell).collect()))
        }
    }
}

pub(crate) async fn run(args: Args, output: OutputFormat) -> Result<(), CliError> {
    print(&ask(&args.database, &args.text, args.timeout).await?, output)
}
