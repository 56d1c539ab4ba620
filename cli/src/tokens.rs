//! `ferry token`, `ferry tls`: what lets nodes and programs in.

use crate::{
    api::{Api, CoordinatorArg},
    output::{self, CliError, OutputFormat, cell, message},
};
use clap::{Args, Subcommand, ValueEnum};
use ferry_common::{address::path_encoded, id::RuntimeName};
use serde_json::json;
use std::{num::NonZeroU32, path::PathBuf, str::FromStr, time::Duration};

/// `ferry token`
#[derive(Args)]
pub(crate) struct TokenArgs {
    #[command(subcommand)]
    command: TokenCommand,
}

#[derive(Subcommand)]
enum TokenCommand {
    /// Make a token: with --runtime for nodes that join, with --role for programs. It is printed once.
    #[command(group = clap::ArgGroup::new("purpose").required(true).args(["runtime", "role"]))]
    #[command(after_help = "Examples:
  ferry token create --runtime onprem --ttl 1h > join-token
  ferry token create --role operator --ttl 30d > operator-token")]
    Create(CreateArgs),
    /// All tokens; no secrets.
    #[command(after_help = "Example: ferry token list --output json")]
    List {
        #[command(flatten)]
        coordinator: CoordinatorArg,
    },
    /// End a token. Nodes that joined with it stay; `ferry nodes revoke` ends those.
    #[command(after_help = "Example: ferry token revoke 3kq9x2")]
    Revoke {
        /// Id of the token: the part between the first two underscores.
        token: String,
        #[command(flatten)]
        coordinator: CoordinatorArg,
    },
}

#[derive(Args)]
struct CreateArgs {
    /// The integration runtime that nodes may join with it.
    #[arg(long, value_name = "NAME")]
    runtime: Option<RuntimeName>,
    /// What programs may do with it.
    #[arg(long)]
    role: Option<Role>,
    /// How long it holds. Default: an hour for nodes, 90 days for programs.
    #[arg(long, value_parser = humantime::parse_duration, value_name = "TIME")]
    ttl: Option<Duration>,
    /// How many nodes may join with it: a number, or `any`, which nodes that come and go by themselves need.
    #[arg(long, default_value = "1", value_name = "N", conflicts_with = "role")]
    uses: Uses,
    #[command(flatten)]
    coordinator: CoordinatorArg,
}

#[derive(Clone, Copy, ValueEnum)]
enum Role {
    /// Look at everything.
    Viewer,
    /// Also plan, submit and cancel runs, check activities, change and pause schedules, forget loaded files, and drain
    /// nodes.
    Operator,
    /// Also make and revoke tokens, and revoke nodes.
    Admin,
}

#[derive(Clone, Copy)]
struct Uses(Option<NonZeroU32>);

impl FromStr for Uses {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        if text == "any" {
            return Ok(Self(None));
        }
        text.parse().map(|n| Self(Some(n))).map_err(|_| "must be a number from 1, or `any`")
    }
}

const NODE_TTL: Duration = Duration::from_secs(3600);
const PROGRAM_TTL: Duration = Duration::from_secs(90 * 24 * 3600);

pub(crate) async fn token(args: TokenArgs, output: OutputFormat) -> Result<(), CliError> {
    match args.command {
        TokenCommand::Create(args) => create(args, output).await,
        TokenCommand::List { coordinator } => {
            let list = Api::new(&coordinator)?.get("/tokens").await?;
            if output == OutputFormat::Json {
                return output::json(&list["tokens"]);
            }
            let rows = list["tokens"].as_array().into_iter().flatten().map(|token| {
                let uses = if token["runtime"].is_null() {
                    String::new()
                } else if token["usesLeft"].is_null() {
                    "any".to_owned()
                } else {
                    cell(&token["usesLeft"])
                };
                let what = if token["role"].is_null() { "join".to_owned() } else { cell(&token["role"]) };
                vec![
                    cell(&token["id"]),
                    what,
                    cell(&token["runtime"]),
                    uses,
                    cell(&token["created"]),
                    cell(&token["ends"]),
                    cell(&token["revoked"]),
                ]
            });
            output::table(&["TOKEN", "FOR", "RUNTIME", "USES LEFT", "CREATED", "ENDS", "REVOKED"], rows)
        }
        TokenCommand::Revoke { token, coordinator } => {
            let view = Api::new(&coordinator)?.delete(&format!("/tokens/{}", path_encoded(&token))).await?;
            match output {
                OutputFormat::Json => output::json(&view),
                OutputFormat::Table => output::result(&format!("token {token} is revoked")),
            }
        }
    }
}

async fn create(args: CreateArgs, output: OutputFormat) -> Result<(), CliError> {
    let role = args.role.and_then(|role| role.to_possible_value()).map(|value| value.get_name().to_owned());
    let ttl = args.ttl.unwrap_or(if role.is_some() { PROGRAM_TTL } else { NODE_TTL });
    let uses = args.runtime.as_ref().and(args.uses.0);
    let body = json!({"role": role, "runtime": args.runtime, "ttlSeconds": ttl.as_secs(), "uses": uses});
    let made = Api::new(&args.coordinator)?.post("/tokens", Some(&body)).await?;
    if output == OutputFormat::Json {
        return output::json(&made);
    }
    // Alone on stdout, so that it can go into a file.
    output::result(&cell(&made["token"]))?;
    message(&format!("ferry: token {} holds until {}; it is not shown again", cell(&made["id"]), cell(&made["ends"])));
    Ok(())
}

/// `ferry tls`
#[derive(Args)]
pub(crate) struct TlsArgs {
    #[command(subcommand)]
    command: TlsCommand,
}

#[derive(Subcommand)]
enum TlsCommand {
    /// Make a folder for `ferry coordinator --tls`, for several coordinators to share: ca.crt, ca.key, admin-token. What is
    /// there stays.
    #[command(after_help = "Example: ferry tls create /var/lib/ferry/coordinator/tls")]
    Create {
        /// The folder.
        folder: PathBuf,
    },
}

pub(crate) fn tls(args: TlsArgs, output: OutputFormat) -> Result<(), CliError> {
    let TlsCommand::Create { folder } = args.command;
    ferry_coordinator::create_folder(&folder).map_err(|e| CliError::Failed(e.to_string()))?;
    if output == OutputFormat::Json {
        return output::json(&json!({"folder": folder, "files": ["ca.crt", "ca.key", "admin-token"]}));
    }
    message(&format!("ferry: {} holds ca.crt, ca.key and admin-token; keep the last two secret", folder.display()));
    Ok(())
}
