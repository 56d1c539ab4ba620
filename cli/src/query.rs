//! `ferry query`: a query or a management command, and its rows.

use crate::output::{self, CliError, OutputFormat, cell};
use clap::Args as ClapArgs;
use ferry_kusto::{
    Client, ClientOptions, RequestId, Table,
    auth::{CertificatePlace, EntraIdentity, EntraTokens, NoAuth, StaticBearer, TokenProvider},
};
use serde_json::json;
use std::{sync::Arc, time::Duration};

/// How to sign in.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum AuthArg {
    /// Not at all: for endpoints on this machine.
    #[default]
    None,
    /// With the bearer token in the environment variable FERRY_ADX_TOKEN.
    Bearer,
    /// As an application of Entra ID: AZURE_TENANT_ID, AZURE_CLIENT_ID, and AZURE_CLIENT_SECRET or
    /// AZURE_CLIENT_CERTIFICATE_PATH (PEM, RSA).
    ServicePrincipal,
    /// As this Azure machine; AZURE_CLIENT_ID names a user-assigned identity.
    ManagedIdentity,
    /// As this Kubernetes service account.
    WorkloadIdentity,
    /// As whoever signed in with `az login`.
    AzureCli,
}

/// Variable of Microsoft's own tools.
const SECRET_VARIABLE: &str = "AZURE_CLIENT_SECRET";

/// The application that the environment names.
fn principal() -> Result<EntraIdentity, CliError> {
    let lacks = |name: String| CliError::Usage(format!("this --auth needs {name} in the environment"));
    EntraIdentity::principal_of_environment().map_err(lacks)
}

impl AuthArg {
    /// As an activity has it. Secrets stay where they are: they are named.
    pub(crate) fn to_activity(self) -> Result<serde_json::Value, CliError> {
        Ok(match self {
            Self::None => json!({"type": "none"}),
            Self::Bearer => json!({"type": "bearer", "token": {"secret": format!("env:{TOKEN_VARIABLE}")}}),
            Self::ServicePrincipal => match principal()? {
                EntraIdentity::CertifiedPrincipal { tenant, id, certificate: CertificatePlace::File(path) } => json!({
                    "type": "servicePrincipal", "tenant": tenant, "servicePrincipalId": id,
                    "servicePrincipalCertificate": {"secret": format!("file:{}", std::path::absolute(path)?.display())},
                }),
                EntraIdentity::ServicePrincipal { tenant, id, .. } => json!({
                    "type": "servicePrincipal", "tenant": tenant, "servicePrincipalId": id,
                    "servicePrincipalKey": {"secret": format!("env:{SECRET_VARIABLE}")},
                }),
                other => return Err(CliError::Failed(format!("{other:?} is no application"))),
            },
            Self::ManagedIdentity => match EntraIdentity::managed_of_environment() {
                EntraIdentity::Managed { client_id: Some(id) } => json!({"type": "managedIdentity", "clientId": id}),
                _ => json!({"type": "managedIdentity"}),
            },
            Self::WorkloadIdentity => json!({"type": "workloadIdentity"}),
            Self::AzureCli => json!({"type": "azureCli"}),
        })
    }

    /// It is an identity of Entra ID, which may open storage, too.
    pub(crate) fn is_entra(self) -> bool {
        !matches!(self, Self::None | Self::Bearer)
    }

    fn tokens(self, endpoint: &str) -> Result<Arc<dyn TokenProvider>, CliError> {
        let identity = match self {
            Self::None => return Ok(Arc::new(NoAuth)),
            Self::Bearer => return Ok(Arc::new(StaticBearer::new(variable(TOKEN_VARIABLE)?))),
            Self::ServicePrincipal => principal()?,
            Self::ManagedIdentity => EntraIdentity::managed_of_environment(),
            Self::WorkloadIdentity => EntraIdentity::Workload,
            Self::AzureCli => EntraIdentity::AzureCli,
        };
        Ok(Arc::new(EntraTokens::new(endpoint, identity)))
    }
}

fn variable(name: &str) -> Result<String, CliError> {
    std::env::var(name).map_err(|_| CliError::Usage(format!("this --auth needs {name} in the environment")))
}

/// Variable that holds the token of `--auth bearer`.
const TOKEN_VARIABLE: &str = "FERRY_ADX_TOKEN";

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
#[command(after_help = "Examples:
  ferry query 'Taxi | count' --endpoint http://127.0.0.1:7490 --database Rides
  ferry query '.show tables' --endpoint https://adx.westeurope.kusto.windows.net --database Rides --auth azure-cli")]
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
    let tokens = database.auth.tokens(&database.endpoint)?;
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
