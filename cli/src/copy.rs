//! `ferry copy`: one command from files to table, with an embedded coordinator and nodes.

use crate::{
    embedded::{self, Embedding},
    output::{CliError, OutputFormat},
    plan,
    query::{AuthArg, DatabaseArgs},
    summary,
};
use clap::Args as ClapArgs;
use ferry_common::{activity::Activity, address::leads_here, id::RunId};
use ferry_node::read::Roots;
use serde_json::{Value, json};
use std::path::{Path, PathBuf};

/// Formats by their short names.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
enum FormatArg {
    Csv,
    Json,
    Parquet,
    Avro,
    Orc,
    /// xlsx, xlsb, xls, ods.
    Excel,
    Xml,
    /// Logs of web servers.
    W3c,
    /// One column, one record a line.
    Lines,
}

/// `ferry copy`
#[derive(ClapArgs)]
#[command(after_help = "Example:
  ferry copy '/exports/**/*.csv.gz' --endpoint http://127.0.0.1:7490 --database Rides \\
    --table Taxi --create-table --staging /tmp/staging --nodes 2")]
pub(crate) struct Args {
    /// A file, a folder, or a quoted pattern such as '/exports/**/*.csv.gz'.
    source: String,
    #[command(flatten)]
    database: DatabaseArgs,
    /// Table.
    #[arg(long, value_name = "NAME")]
    table: String,
    /// Where chunks wait: the address of a blob container, `cluster` for a container that the cluster lends, or an absolute
    /// folder that the cluster reads too. Default: `cluster`, unless the endpoint is on this machine.
    #[arg(long, value_name = "URL|cluster|DIR")]
    staging: Option<String>,
    /// Key of the storage account: `env:NAME` or `file:PATH`.
    #[arg(long, value_name = "SECRET")]
    staging_key: Option<String>,
    /// Shared access signature of the container, instead of a key: `env:NAME` or `file:PATH`.
    #[arg(long, value_name = "SECRET", conflicts_with = "staging_key")]
    staging_sas: Option<String>,
    /// Create the table, or add missing columns.
    #[arg(long)]
    create_table: bool,
    /// Format of the files; default: by their names.
    #[arg(long, value_enum)]
    format: Option<FormatArg>,
    /// What separates fields, such as ; or \t.
    #[arg(long, default_value = ",", value_name = "TEXT")]
    delimiter: String,
    /// The files begin with data, not with a header row.
    #[arg(long)]
    no_header: bool,
    /// Leave out rows that do not fit, and keep them in staging below `quarantine/`.
    #[arg(long)]
    skip_bad_rows: bool,
    /// Leave out files that cannot be read.
    #[arg(long)]
    skip_bad_files: bool,
    /// Copy parts of one large file on several nodes.
    #[arg(long)]
    split_large_files: bool,
    /// Do not hold each value against its column's type.
    #[arg(long)]
    no_check_values: bool,
    /// Nodes to embed.
    #[arg(long, default_value_t = 2, value_parser = clap::value_parser!(u32).range(1..=64))]
    nodes: u32,
    /// Files that each node copies at once.
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..=64))]
    slots: u32,
    /// Largest chunk in megabytes of records before compression.
    #[arg(long, default_value_t = 900.0, value_name = "N")]
    chunk_size_mb: f64,
    /// Keep the run's state in this folder: the same folder and run id go on where a killed copy stopped.
    #[arg(long, value_name = "DIR", requires = "run_id")]
    work_dir: Option<PathBuf>,
    /// Id of the run.
    #[arg(long, value_name = "ID")]
    run_id: Option<RunId>,
    /// Tell what the copy would do, and how long it may take, and do nothing.
    #[arg(long, conflicts_with = "run_id")]
    plan_only: bool,
    /// With --plan-only: keep the plan in a file, for `ferry run --plan`.
    #[arg(long, value_name = "FILE", requires = "plan_only")]
    save: Option<PathBuf>,
}

/// A source on the command line, taken apart: what the nodes may read, and the settings that name it.
#[derive(Debug)]
struct Named {
    root: PathBuf,
    source: Value,
}

fn take_apart(source: &str) -> Result<Named, CliError> {
    let path = std::path::absolute(source)?;
    let missing = || CliError::Failed(format!("FolderMissing: {source} does not exist"));
    if path.is_file() {
        let (Some(folder), Some(name)) = (path.parent(), path.file_name()) else { return Err(missing()) };
        let source = json!({"folderPath": text(folder)?, "fileName": text(Path::new(name))?});
        return Ok(Named { root: path, source });
    }
    if path.is_dir() {
        return Ok(Named { source: json!({"folderPath": text(&path)?}), root: path });
    }
    let parts: Vec<_> = path.components().collect();
    let is_pattern = |c: &std::path::Component<'_>| c.as_os_str().to_string_lossy().contains(['*', '?', '[', '{']);
    let Some(at) = parts.iter().position(is_pattern) else { return Err(missing()) };
    let (folder, pattern): (PathBuf, PathBuf) = (parts[..at].iter().collect(), parts[at..].iter().collect());
    if !folder.is_dir() {
        return Err(CliError::Failed(format!("FolderMissing: {} does not exist", folder.display())));
    }
    // A pattern without a folder part is for that folder alone, as a shell has it.
    let recursive = parts.len() - at > 1;
    let source = json!({"folderPath": text(&folder)?, "wildcardFileName": text(&pattern)?, "recursive": recursive});
    Ok(Named { root: folder, source })
}

fn text(path: &Path) -> Result<&str, CliError> {
    path.to_str().ok_or_else(|| CliError::Usage(format!("{} is not valid UTF-8", path.display())))
}

/// The format that a name tells, whatever the file is packed in.
fn format_of_name(name: &str) -> FormatArg {
    let mut name = name.to_lowercase();
    for packing in [".gz", ".bz2", ".zst", ".xz", ".lz4", ".sz", ".zip", ".tar", ".tgz"] {
        name = name.trim_end_matches(packing).to_owned();
    }
    let ends: [(FormatArg, &[&str]); 8] = [
        (FormatArg::Json, &[".json", ".jsonl", ".ndjson", ".multijson"]),
        (FormatArg::Parquet, &[".parquet"]),
        (FormatArg::Avro, &[".avro"]),
        (FormatArg::Orc, &[".orc"]),
        (FormatArg::Excel, &[".xlsx", ".xlsb", ".xls", ".ods"]),
        (FormatArg::Xml, &[".xml"]),
        (FormatArg::W3c, &[".w3clogfile"]),
        (FormatArg::Lines, &[".txt"]),
    ];
    let found = ends.into_iter().find(|(_, ends)| ends.iter().any(|end| name.ends_with(end)));
    found.map_or(FormatArg::Csv, |(format, _)| format)
}

/// What `--staging` says for a container that the cluster lends.
const LENT: &str = "cluster";

/// What `--staging` is when it is not given. A cluster on this machine may have no storage to lend, and reads folders.
fn default_staging(endpoint: &str) -> Result<&'static str, CliError> {
    if reqwest::Url::parse(endpoint).is_ok_and(|url| leads_here(&url)) {
        let why = "--staging is needed for an endpoint on this machine: a folder that it reads, too";
        return Err(CliError::Usage(why.to_owned()));
    }
    Ok(LENT)
}

fn staging_of(args: &Args) -> Result<Value, CliError> {
    let staging = match &args.staging {
        Some(staging) => staging.as_str(),
        None => default_staging(&args.database.endpoint)?,
    };
    if !is_container(staging) && (args.staging_key.is_some() || args.staging_sas.is_some()) {
        let why = "--staging-key and --staging-sas go with the address of a blob container in --staging";
        return Err(CliError::Usage(why.to_owned()));
    }
    staging_at(staging, args.staging_key.as_deref(), args.staging_sas.as_deref(), args.database.auth)
}

fn is_container(staging: &str) -> bool {
    staging.starts_with("http://") || staging.starts_with("https://")
}

/// Staging in a container that the cluster lends; in one of one's own, opened by a key, a signature or else whoever signs
/// in; or in a folder.
pub(crate) fn staging_at(place: &str, key: Option<&str>, sas: Option<&str>, auth: AuthArg) -> Result<Value, CliError> {
    if place == LENT {
        return Ok(json!({"type": "FromCluster"}));
    }
    if !is_container(place) {
        let folder = std::path::absolute(place)?;
        return Ok(json!({"type": "FileSystem", "folderPath": text(&folder)?}));
    }
    let mut staging = json!({"type": "AzureBlob", "container": place});
    match (key, sas) {
        (Some(key), _) => staging["accountKey"] = json!({"secret": key}),
        (_, Some(sas)) => staging["sas"] = json!({"secret": sas}),
        _ if auth.is_entra() => staging["auth"] = auth.to_activity()?,
        _ => {
            let why = "a blob container needs --staging-key or --staging-sas, or an --auth that opens storage, too";
            return Err(CliError::Usage(why.to_owned()));
        }
    }
    Ok(staging)
}

fn activity_of(args: &Args, named: &Named) -> Result<Activity, CliError> {
    let named_format = || {
        let name = ["fileName", "wildcardFileName"].iter().find_map(|key| named.source[*key].as_str());
        name.map_or(FormatArg::Csv, format_of_name)
    };
    let format = match args.format.unwrap_or_else(named_format) {
        FormatArg::Csv => {
            json!({"type": "DelimitedText", "columnDelimiter": args.delimiter, "firstRowAsHeader": !args.no_header})
        }
        FormatArg::Json => json!({"type": "Json"}),
        FormatArg::Parquet => json!({"type": "Parquet"}),
        FormatArg::Avro => json!({"type": "Avro"}),
        FormatArg::Orc => json!({"type": "Orc"}),
        FormatArg::Excel => json!({"type": "Excel", "firstRowAsHeader": !args.no_header}),
        FormatArg::Xml => json!({"type": "Xml"}),
        FormatArg::W3c => json!({"type": "W3CLog"}),
        FormatArg::Lines => json!({"type": "TextLines"}),
    };
    let mut source = named.source.clone();
    source["type"] = json!("FileSystem");
    source["format"] = format;
    let auth = args.database.auth.to_activity()?;
    let activity = json!({
        "name": format!("copy to {}", args.table),
        "source": source,
        "sink": {"type": "AzureDataExplorer", "endpoint": args.database.endpoint, "database": args.database.database,
                 "table": args.table, "createTable": args.create_table, "auth": auth},
        "staging": staging_of(args)?,
        "settings": {"chunkSizeMB": args.chunk_size_mb, "enableSkipIncompatibleRow": args.skip_bad_rows,
                     "skipErrorFile": args.skip_bad_files, "splitLargeFiles": args.split_large_files,
                     "checkValues": !args.no_check_values},
    });
    Ok(Activity::parse(&activity.to_string(), "ferry copy")?)
}

pub(crate) async fn run(args: Args, output: OutputFormat) -> Result<(), CliError> {
    let named = take_apart(&args.source)?;
    let activity = activity_of(&args, &named)?;
    let roots = Roots::new([named.root]).map_err(|e| CliError::Usage(e.to_string()))?;
    let scratch;
    let store = match &args.work_dir {
        Some(folder) => folder.join("ferry.db"),
        None => {
            scratch = tempfile::Builder::new().prefix("ferry-copy-").tempdir()?;
            scratch.path().join("ferry.db")
        }
    };
    let embedding = Embedding { store: &store, roots, nodes: args.nodes, slots: args.slots };
    if args.plan_only {
        let made = embedded::plan(embedding, &activity).await?;
        return plan::finish(&made, &activity, args.save.as_deref(), output);
    }
    let report = embedded::copy(embedding, &activity, args.run_id.as_ref()).await?;
    summary::print(&report, output)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_names_no_staging_uses_what_the_cluster_lends() {
        assert_eq!(default_staging("https://adx.westeurope.kusto.windows.net").unwrap(), LENT);
        for here in ["http://127.0.0.1:7490", "http://localhost:7490", "http://[::1]:7490"] {
            assert!(default_staging(here).is_err(), "{here}");
        }
    }

    #[test]
    fn a_source_is_taken_apart_and_nothing_more_is_allowed() {
        let folder = tempfile::tempdir().unwrap();
        std::fs::create_dir(folder.path().join("d")).unwrap();
        std::fs::write(folder.path().join("a.csv"), "").unwrap();
        let at = |name: &str| folder.path().join(name);
        for (given, root, key, value) in [
            ("a.csv", "a.csv", "fileName", json!("a.csv")),
            ("d", "d", "recursive", Value::Null),
            ("d/**/*.csv", "d", "wildcardFileName", json!("**/*.csv")),
            ("*.csv", "", "recursive", json!(false)),
        ] {
            let named = take_apart(at(given).to_str().unwrap()).unwrap();
            assert_eq!(
                named.root.components().collect::<PathBuf>(),
                at(root).components().collect::<PathBuf>(),
                "{given}"
            );
            assert_eq!(named.source[key], value, "{given}");
        }
        assert!(take_apart(at("nope.csv").to_str().unwrap()).is_err());
        assert!(take_apart(at("nope/*.csv").to_str().unwrap()).is_err());
    }
}
