//! The program `ferry`: one file a subcommand. It holds no rule of its own.

mod api;
mod bundle;
mod check;
mod copy;
mod doctor;
mod embedded;
mod loaded;
mod manual;
mod nodes;
mod oidc;
mod output;
mod plan;
mod progress;
mod query;
mod quickstart;
mod redaction;
mod roles;
mod runs;
mod sample;
mod schedules;
mod summary;
mod tokens;
mod watch;

use clap::{CommandFactory as _, Parser, Subcommand};
use ferry_common::telemetry::{self, LogFormat};
use output::{CliError, OutputFormat};
use std::process::ExitCode;

/// Copies files into Azure Data Explorer, scaled out over nodes that run where the data is.
#[derive(Parser)]
#[command(name = "ferry", version, max_term_width = 110)]
#[command(after_help = "Begin with `ferry quickstart`: it needs nothing else and shows a whole copy.")]
struct Cli {
    /// How results are printed.
    #[arg(long, global = true, value_enum, default_value_t)]
    output: OutputFormat,
    /// How logs are printed. FERRY_LOG sets what is logged, such as `info` or `ferry_node=debug`.
    #[arg(long, global = true, value_enum, default_value_t)]
    log_format: LogFormatArg,
    #[command(subcommand)]
    command: Command,
}

#[derive(Clone, Copy, Default, clap::ValueEnum)]
enum LogFormatArg {
    /// For people.
    #[default]
    Text,
    /// One JSON object a line.
    Json,
}

#[derive(Subcommand)]
enum Command {
    /// Everything embedded: a local endpoint, a coordinator, two nodes, a sample copy, the rows queried back.
    Quickstart(quickstart::Args),
    /// One copy with an embedded coordinator and nodes.
    Copy(copy::Args),
    /// Submit a copy activity to a coordinator.
    Run(runs::RunArgs),
    /// Tell what a copy would do, and how long it may take, without doing it.
    Plan(plan::PlanArgs),
    /// Look at runs, or cancel one.
    Runs(runs::RunsArgs),
    /// Run activities again and again.
    Schedules(schedules::SchedulesArgs),
    /// Files that runs with source.skipLoadedFiles leave out.
    Loaded(loaded::LoadedArgs),
    /// Look at nodes, drain one, or let it in no more.
    Nodes(nodes::NodesArgs),
    /// Make, list and revoke tokens for nodes and programs.
    Token(tokens::TokenArgs),
    /// Make the folder of keys that coordinators share.
    Tls(tokens::TlsArgs),
    /// Run a query or a management command.
    Query(query::Args),
    /// Check every connection and permission that a copy needs.
    Check(check::Args),
    /// Find out what is not as it should be: this host, and a coordinator if one is named.
    Doctor(doctor::Args),
    /// Put together what somebody needs who is to help, without secrets.
    SupportBundle(bundle::Args),
    /// Run a coordinator.
    Coordinator(roles::CoordinatorArgs),
    /// Run a node.
    Node(roles::NodeArgs),
    /// Run a local ADX-compatible endpoint, for first runs and tests.
    LocalAdx(Box<roles::LocalAdxArgs>),
    /// Print the JSON Schema of a copy activity.
    #[command(after_help = "Example: ferry schema > activity.schema.json")]
    Schema,
    /// Print what a shell needs to complete commands.
    Completions(manual::CompletionsArgs),
    /// Write manual pages.
    Man(manual::ManArgs),
}

fn main() -> ExitCode {
    let cli = Cli::parse();
    ferry_common::install_tls_provider();
    let is_role = matches!(cli.command, Command::Coordinator(_) | Command::Node(_) | Command::LocalAdx(_));
    let format = match cli.log_format {
        LogFormatArg::Text => LogFormat::Text,
        LogFormatArg::Json => LogFormat::Json,
    };
    telemetry::init(format, if is_role { "info" } else { "error" });
    let runtime = match tokio::runtime::Builder::new_multi_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(e) => return output::fail(&CliError::Failed(format!("cannot start: {e}"))),
    };
    let result = runtime.block_on(run(cli));
    // What still runs in the background is nothing that anybody waits for.
    runtime.shutdown_timeout(std::time::Duration::from_secs(2));
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(e) => output::fail(&e),
    }
}

async fn run(cli: Cli) -> Result<(), CliError> {
    let output = cli.output;
    match cli.command {
        Command::Quickstart(args) => quickstart::run(args, output).await,
        Command::Copy(args) => copy::run(args, output).await,
        Command::Run(args) => runs::run(args, output).await,
        Command::Plan(args) => plan::run(args, output).await,
        Command::Runs(args) => runs::runs(args, output).await,
        Command::Schedules(args) => schedules::run(args, output).await,
        Command::Loaded(args) => loaded::run(args, output).await,
        Command::Nodes(args) => nodes::run(args, output).await,
        Command::Token(args) => tokens::token(args, output).await,
        Command::Tls(args) => tokens::tls(args, output),
        Command::Query(args) => query::run(args, output).await,
        Command::Check(args) => Box::pin(check::run(args, output)).await,
        Command::Doctor(args) => Box::pin(doctor::run(args, output)).await,
        Command::SupportBundle(args) => Box::pin(bundle::run(args, output)).await,
        Command::Coordinator(args) => roles::coordinator(args).await,
        Command::Node(args) => roles::node(args).await,
        Command::LocalAdx(args) => roles::local_adx(*args).await,
        Command::Schema => output::json(&ferry_common::activity::Activity::json_schema()),
        Command::Completions(args) => manual::completions(&args, Cli::command(), output),
        Command::Man(args) => manual::man(args, Cli::command(), output),
    }
}
