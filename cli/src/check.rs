//! `ferry check`: every connection and permission that a copy needs, as a table of yes, no and unknown.

use crate::{
    api::{Api, CoordinatorArg},
    copy,
    embedded::{self, Embedding},
    output::{self, CliError, OutputFormat, cell, message},
    query::AuthArg,
    runs,
};
use clap::Args as ClapArgs;
use ferry_common::{activity::Activity, id::RuntimeName};
use ferry_node::read::Roots;
use serde_json::{Value, json};
use std::path::PathBuf;

/// `ferry check`
#[derive(ClapArgs)]
#[command(after_help = "Examples: ferry check taxi.yaml\n          \
                        ferry check taxi.yaml --local\n          \
                        ferry check --endpoint https://adx.westeurope.kusto.windows.net --database Rides --table Taxi \\\n          \
                        --auth azure-cli --staging https://acct.blob.core.windows.net/staging")]
pub(crate) struct Args {
    /// File of the copy activity, YAML or JSON; `-` for standard input.
    #[arg(required_unless_present = "endpoint")]
    activity: Option<PathBuf>,
    /// Set a property of the activity, such as `sink.table=T`. The value is JSON, or else text.
    #[arg(long = "set", value_name = "PATH=VALUE")]
    set: Vec<String>,
    /// Check from this process instead of asking a coordinator: with its network, its secrets and its sign-in.
    #[arg(long)]
    local: bool,
    /// Try what no probe tells: make a mapping and, for sink.publish, a table, and drop them again.
    #[arg(long = "try")]
    tries: bool,
    #[command(flatten)]
    coordinator: CoordinatorArg,
    #[command(flatten)]
    place: PlaceArgs,
}

/// Without an activity: where rows would go. The check is made from this process.
#[derive(ClapArgs)]
struct PlaceArgs {
    /// Address of the cluster.
    #[arg(long, value_name = "URL", conflicts_with = "activity", requires_all = ["database", "table", "staging"])]
    endpoint: Option<String>,
    /// Database.
    #[arg(long, value_name = "NAME", requires = "endpoint")]
    database: Option<String>,
    /// Table.
    #[arg(long, value_name = "NAME", requires = "endpoint")]
    table: Option<String>,
    /// How to sign in.
    #[arg(long, value_enum, default_value_t)]
    auth: AuthArg,
    /// Where chunks would wait: an absolute folder, the address of a blob container, or `cluster` for one that it lends.
    #[arg(long, value_name = "DIR|URL|cluster", requires = "endpoint")]
    staging: Option<String>,
    /// Key of the storage account: `env:NAME` or `file:PATH`.
    #[arg(long, value_name = "SECRET", requires = "staging")]
    staging_key: Option<String>,
    /// Shared access signature of the container, instead of a key: `env:NAME` or `file:PATH`.
    #[arg(long, value_name = "SECRET", requires = "staging", conflicts_with = "staging_key")]
    staging_sas: Option<String>,
}

impl PlaceArgs {
    /// An activity with this sink and staging, and a source that nobody looks at; `None` without an endpoint.
    fn activity(&self) -> Result<Option<Activity>, CliError> {
        let (Some(endpoint), Some(staging)) = (&self.endpoint, &self.staging) else { return Ok(None) };
        let staging = copy::staging_at(staging, self.staging_key.as_deref(), self.staging_sas.as_deref(), self.auth)?;
        let activity = json!({
            "name": "check",
            "source": {"type": "FileSystem", "folderPath": "/", "format": {"type": "DelimitedText"}},
            "sink": {"type": "AzureDataExplorer", "endpoint": endpoint, "database": self.database, "table": self.table,
                     "auth": self.auth.to_activity()?},
            "staging": staging,
        });
        Ok(Some(Activity::parse(&activity.to_string(), "ferry check")?))
    }
}

pub(crate) async fn run(args: Args, output: OutputFormat) -> Result<(), CliError> {
    let found = if let Some(activity) = args.place.activity()? {
        let mut found = check_here(activity, args.tries).await?;
        if let Some(checks) = found["checks"].as_array_mut() {
            checks.retain(|check| check["area"] != "source");
        }
        found
    } else {
        let path = args.activity.as_ref().ok_or_else(|| CliError::Usage("name an activity".to_owned()))?;
        let activity = runs::read_activity(path, &args.set)?;
        if args.local {
            let source = source_here(&activity);
            let mut found = check_here(activity, args.tries).await?;
            put_source(&mut found, source);
            found
        } else {
            ask(&Api::new(&args.coordinator)?, &activity, args.tries).await?
        }
    };
    match output {
        OutputFormat::Json => output::json(&found)?,
        OutputFormat::Table => tell(&found)?,
    }
    judge(&found)
}

async fn ask(api: &Api, activity: &Activity, tries: bool) -> Result<Value, CliError> {
    api.post_slow("/checks", &json!({"activity": activity, "try": tries})).await
}

/// Checks with an embedded coordinator and one node.
async fn check_here(mut activity: Activity, tries: bool) -> Result<Value, CliError> {
    activity.source.connect_via = RuntimeName::default();
    let scratch = tempfile::Builder::new().prefix("ferry-check-").tempdir()?;
    let store = scratch.path().join("ferry.db");
    // The node does nothing, and so needs nothing to read.
    let roots = Roots::new(Vec::<PathBuf>::new()).map_err(|e| CliError::Failed(e.to_string()))?;
    let embedding = Embedding { store: &store, roots, nodes: 1, slots: 1 };
    let work = async |address: String| {
        let api = Api::embedded(&address)?;
        embedded::wait_for_nodes(&api, 1).await?;
        ask(&api, &activity, tries).await
    };
    embedded::within(embedding, activity.source.connect_via.clone(), work).await
}

/// The source as this user sees it on this machine.
fn source_here(activity: &Activity) -> Value {
    let source = &activity.source;
    let folder = PathBuf::from(&source.folder_path);
    let named = source.file_name.as_ref().or(source.file_list_path.as_ref()).map(|name| folder.join(name));
    let looked =
        std::fs::read_dir(&folder).map_err(|e| format!("{}: {e}", folder.display())).and_then(|_| match &named {
            Some(file) => std::fs::File::open(file).map(drop).map_err(|e| format!("{}: {e}", file.display())),
            None => Ok(()),
        });
    let mut row = json!({
        "name": "source can be listed", "area": "source", "needs": "copying", "isMandatory": true, "result": "yes",
        "probe": "the folder is opened by this user, on this machine", "detail": source.folder_path,
    });
    if let Err(why) = looked {
        row["result"] = json!("no");
        row["detail"] = json!(why);
        row["remedy"] = json!("correct source.folderPath, mount the share, or give this user the right to read it");
    }
    row
}

/// Puts what was seen here in the place of what a coordinator cannot see.
fn put_source(found: &mut Value, source: Value) {
    if source["result"] == "no" {
        found["verdict"] = json!("failed");
    }
    if let Some(checks) = found["checks"].as_array_mut()
        && let Some(row) = checks.iter_mut().find(|check| check["area"] == "source")
    {
        *row = source;
    }
}

fn list(found: &Value) -> impl Iterator<Item = &Value> {
    found["checks"].as_array().into_iter().flatten()
}

fn must(check: &Value) -> &'static str {
    if check["isMandatory"] == true { "mandatory" } else { "optional" }
}

fn tell(found: &Value) -> Result<(), CliError> {
    let rows = list(found).map(|check| {
        vec![
            cell(&check["area"]),
            cell(&check["name"]),
            cell(&check["result"]),
            must(check).to_owned(),
            cell(&check["role"]),
            cell(&check["needs"]),
            cell(&check["probe"]),
        ]
    });
    output::table(&["AREA", "CHECK", "RESULT", "", "ROLE THAT GIVES IT", "NEEDED FOR", "PROBE"], rows)?;
    output::result("")?;
    for check in list(found).filter(|check| !cell(&check["detail"]).is_empty()) {
        output::result(&format!("{:7} {}: {}", cell(&check["result"]), cell(&check["name"]), cell(&check["detail"])))?;
        if !check["remedy"].is_null() {
            output::result(&format!("{:7}   -> {}", "", cell(&check["remedy"])))?;
        }
    }
    output::result("")?;
    output::result(&format!("verdict: {}", cell(&found["verdict"])))
}

fn judge(found: &Value) -> Result<(), CliError> {
    let refused = |must_be: bool| {
        let rows = list(found).filter(|check| check["result"] == "no" && check["isMandatory"] == must_be);
        rows.map(|check| cell(&check["name"])).collect::<Vec<_>>().join(", ")
    };
    match found["verdict"].as_str() {
        Some("failed") => Err(CliError::Failed(format!("a copy would fail: {}", refused(true)))),
        Some("degraded") => {
            message(&format!("ferry: copies work; off without more rights: {}", refused(false)));
            Ok(())
        }
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use ferry_common::activity::StagingType;

    fn place() -> PlaceArgs {
        PlaceArgs {
            endpoint: Some("http://127.0.0.1:7490".to_owned()),
            database: Some("D".to_owned()),
            table: Some("T".to_owned()),
            auth: AuthArg::None,
            staging: Some("/tmp".to_owned()),
            staging_key: None,
            staging_sas: None,
        }
    }

    #[test]
    fn flags_make_an_activity_and_secrets_are_only_named() {
        let activity = place().activity().unwrap().unwrap();
        assert_eq!((activity.sink.database.as_str(), activity.staging.folder_path.as_deref()), ("D", Some("/tmp")));
        let container = Some("https://acct.blob.core.windows.net/staging".to_owned());
        let lent = PlaceArgs { staging: Some("cluster".to_owned()), ..place() }.activity().unwrap().unwrap();
        assert_eq!(lent.staging.kind, StagingType::FromCluster);
        let open = PlaceArgs { staging: container.clone(), ..place() };
        assert!(matches!(open.activity(), Err(CliError::Usage(_))));
        let keyed = PlaceArgs { staging: container.clone(), staging_key: Some("env:KEY".to_owned()), ..place() };
        let key = keyed.activity().unwrap().unwrap().staging.account_key.unwrap();
        assert_eq!(key.secret, "env:KEY");
        let bare = PlaceArgs { staging: container, staging_key: Some("the key itself".to_owned()), ..place() };
        let told = bare.activity().unwrap_err().to_string();
        assert!(!told.contains("the key itself"), "{told}");
    }

    #[test]
    fn a_source_that_is_not_there_fails_the_check() {
        let mut found =
            json!({"verdict": "degraded", "checks": [{"name": "x", "area": "source", "result": "unknown"}]});
        let mut activity = place().activity().unwrap().unwrap();
        put_source(&mut found, source_here(&activity));
        assert_eq!((&found["verdict"], &found["checks"][0]["result"]), (&json!("degraded"), &json!("yes")));
        activity.source.folder_path = "/nowhere/at/all".to_owned();
        put_source(&mut found, source_here(&activity));
        assert_eq!((&found["verdict"], &found["checks"][0]["result"]), (&json!("failed"), &json!("no")));
        assert!(judge(&found).unwrap_err().to_string().contains("source can be listed"));
    }
}
