//! `ferry run`, `ferry runs`: talk with a coordinator.

use crate::{
    api::{Api, CoordinatorArg},
    output::{self, CliError, OutputFormat, cell, count, message},
    plan, progress, summary, watch,
};
use clap::{Args, Subcommand};
use ferry_common::{activity::Activity, address::path_encoded, id::RunId};
use serde_json::{Value, json};
use std::path::PathBuf;

/// Runs that are asked for at once, so that an answer takes little time.
const PAGE_RUNS_MAX: usize = 200;

/// `ferry run`
#[derive(Args)]
#[command(after_help = "Examples:
  ferry run taxi.yaml --watch
  ferry run taxi.yaml --run-id taxi-2025-01 --set sink.table=Taxi2025 --watch --output json")]
pub(crate) struct RunArgs {
    /// File of the copy activity, YAML or JSON; `-` for standard input.
    #[arg(required_unless_present = "plan")]
    activity: Option<PathBuf>,
    /// A plan that `ferry plan --save` made, instead: the run fails before it copies anything if it finds something else than
    /// was planned.
    #[arg(long, value_name = "FILE", conflicts_with_all = ["activity", "set"])]
    plan: Option<PathBuf>,
    #[command(flatten)]
    coordinator: CoordinatorArg,
    /// Follow the run to its end.
    #[arg(long)]
    watch: bool,
    /// Lines of progress, and no screen, on a terminal, too.
    #[arg(long, requires = "watch")]
    plain: bool,
    /// Id of the run: the same id twice is one run.
    #[arg(long, value_name = "ID")]
    run_id: Option<RunId>,
    /// Set a property of the activity, such as `sink.table=T`. The value is JSON, or else text.
    #[arg(long = "set", value_name = "PATH=VALUE")]
    set: Vec<String>,
}

/// `ferry runs`
#[derive(Args)]
pub(crate) struct RunsArgs {
    #[command(subcommand)]
    command: RunsCommand,
}

#[derive(Subcommand)]
enum RunsCommand {
    /// The newest runs.
    #[command(after_help = "Examples:
  ferry runs list --output json
  ferry runs list --schedule hourly --limit 500")]
    List(ListArgs),
    /// One run as it is now.
    #[command(after_help = "Example: ferry runs show taxi-2025-01")]
    Show(OneRun),
    /// Follow a run to its end.
    #[command(after_help = "Examples:
  ferry runs watch taxi-2025-01
  ferry runs watch taxi-2025-01 --plain --output json > report.json")]
    Watch(WatchArgs),
    /// What a dry run has planned.
    #[command(after_help = "Example: ferry runs plan taxi-2025-01")]
    Plan(OneRun),
    /// End a run; what is in flight is followed to its end.
    #[command(after_help = "Example: ferry runs cancel taxi-2025-01")]
    Cancel(OneRun),
    /// Everything about a run: files, nodes, ingest commands.
    #[command(after_help = "Examples:
  ferry runs report taxi-2025-01 --output json
  ferry runs report taxi-2025-01 --ledger")]
    Report(ReportArgs),
}

#[derive(Args)]
struct ListArgs {
    #[command(flatten)]
    coordinator: CoordinatorArg,
    /// So many at most, the newest first.
    #[arg(long, default_value_t = 50, value_parser = clap::value_parser!(u32).range(1..), value_name = "N")]
    limit: u32,
    /// Only runs of this schedule, which may be gone.
    #[arg(long, value_name = "NAME")]
    schedule: Option<String>,
}

#[derive(Args)]
struct WatchArgs {
    #[command(flatten)]
    one: OneRun,
    /// Lines of progress, and no screen, on a terminal, too.
    #[arg(long)]
    plain: bool,
}

#[derive(Args)]
struct ReportArgs {
    #[command(flatten)]
    one: OneRun,
    /// The ledger instead: each chunk from its file and blob to the extents that hold its rows.
    #[arg(long)]
    ledger: bool,
}

#[derive(Args)]
struct OneRun {
    /// Id of the run.
    run: RunId,
    #[command(flatten)]
    coordinator: CoordinatorArg,
}

/// Reads an activity and sets properties of it.
pub(crate) fn read_activity(path: &PathBuf, set: &[String]) -> Result<Activity, CliError> {
    let is_piped = path.as_os_str() == "-";
    let origin = if is_piped { "standard input".to_owned() } else { path.display().to_string() };
    let text = if is_piped { std::io::read_to_string(std::io::stdin()) } else { std::fs::read_to_string(path) };
    let text = text.map_err(|e| CliError::Usage(format!("{origin}: {e}")))?;
    let activity = Activity::parse(&text, &origin)?;
    if set.is_empty() {
        return Ok(activity);
    }
    let mut value = serde_json::to_value(&activity).map_err(|e| CliError::Failed(e.to_string()))?;
    for assignment in set {
        let Some((place, new)) = assignment.split_once('=') else {
            return Err(CliError::Usage(format!("--set {assignment:?} must be PATH=VALUE, such as sink.table=T")));
        };
        let new: Value = serde_json::from_str(new).unwrap_or_else(|_| Value::from(new));
        let mut at = &mut value;
        for key in place.split('.') {
            match at.as_object_mut() {
                Some(map) => at = map.entry(key).or_insert_with(|| json!({})),
                None => {
                    return Err(CliError::Usage(format!("--set {place}: {key} is below something that is no object")));
                }
            }
        }
        *at = new;
    }
    Ok(Activity::parse(&value.to_string(), &format!("{origin} with --set"))?)
}

pub(crate) async fn run(args: RunArgs, output: OutputFormat) -> Result<(), CliError> {
    let api = Api::new(&args.coordinator)?;
    let run = match (&args.plan, &args.activity) {
        (Some(file), _) => plan::submit(&api, file, args.run_id.as_ref()).await?,
        (None, Some(file)) => submit(&api, &read_activity(file, &args.set)?, args.run_id.as_ref()).await?,
        (None, None) => return Err(CliError::Usage("name the file of an activity, or a plan with --plan".to_owned())),
    };
    let id = cell(&run["runId"]);
    if !args.watch {
        return match output {
            OutputFormat::Json => output::json(&run),
            OutputFormat::Table => output::result(&id),
        };
    }
    message(&format!("ferry: run {id}"));
    follow(&api, &id, args.plain, output).await
}

/// Submits an activity.
pub(crate) async fn submit(api: &Api, activity: &Activity, run_id: Option<&RunId>) -> Result<Value, CliError> {
    let body = json!({"runId": run_id.map(RunId::as_str), "activity": activity});
    api.post("/runs", Some(&body)).await
}

/// Follows a run to its end, on a screen where there is one.
async fn follow(api: &Api, id: &str, is_plain: bool, output: OutputFormat) -> Result<(), CliError> {
    let interrupt = progress::interrupt();
    let report = if is_plain || !watch::is_possible() {
        progress::follow(api, id, &interrupt).await?
    } else {
        watch::follow(api, id, &interrupt).await?
    };
    summary::print(&report, output)
}

pub(crate) async fn runs(args: RunsArgs, output: OutputFormat) -> Result<(), CliError> {
    match args.command {
        RunsCommand::List(args) => {
            let limit = args.limit as usize;
            // One more than is shown tells whether there are more.
            let mut runs = newest_runs(&args, limit.saturating_add(1)).await?;
            if runs.len() > limit {
                runs.truncate(limit);
                message("ferry: there are older runs; --limit N shows more");
            }
            if output == OutputFormat::Json {
                return output::json(&runs);
            }
            let rows = runs.iter().map(|run| {
                let number = |path: &str| count(run.pointer(path).and_then(Value::as_u64).unwrap_or(0));
                let is_plan = if run["isDry"] == true { " (plan)" } else { "" };
                vec![
                    cell(&run["runId"]),
                    cell(&run["activity"]) + is_plan,
                    cell(&run["state"]),
                    format!("{}/{}", number("/copy/filesDone"), number("/copy/filesTotal")),
                    number("/ingest/rowsVisible"),
                    format!("{:.0} s", run["durationSeconds"].as_f64().unwrap_or(0.0)),
                    cell(&run["submitted"]),
                ]
            });
            output::table(&["RUN", "ACTIVITY", "STATE", "FILES", "ROWS VISIBLE", "DURATION", "SUBMITTED"], rows)
        }
        RunsCommand::Show(one) => show(&one, output).await,
        RunsCommand::Watch(WatchArgs { one, plain }) => {
            follow(&Api::new(&one.coordinator)?, one.run.as_str(), plain, output).await
        }
        RunsCommand::Plan(one) => {
            let plan = Api::new(&one.coordinator)?.get(&format!("/runs/{}/plan", one.run)).await?;
            plan::print(&plan, output)
        }
        RunsCommand::Cancel(one) => {
            let run = Api::new(&one.coordinator)?.post(&format!("/runs/{}/cancel", one.run), None).await?;
            match output {
                OutputFormat::Json => output::json(&run),
                OutputFormat::Table => output::result(&format!("{} is {}", one.run, cell(&run["state"]))),
            }
        }
        RunsCommand::Report(ReportArgs { one, ledger: true }) => {
            let ledger = whole_ledger(&one).await?;
            if output == OutputFormat::Json { output::json(&ledger) } else { ledger_table(&ledger) }
        }
        RunsCommand::Report(ReportArgs { one, ledger: false }) => {
            let report = Api::new(&one.coordinator)?.get(&format!("/runs/{}/report", one.run)).await?;
            if output == OutputFormat::Json { output::json(&report) } else { report_tables(&report) }
        }
    }
}

/// So many runs at most, the newest first, of as many pages as they take.
async fn newest_runs(args: &ListArgs, wanted: usize) -> Result<Vec<Value>, CliError> {
    let api = Api::new(&args.coordinator)?;
    let schedule = args.schedule.as_ref().map(|name| format!("&schedule={}", path_encoded(name))).unwrap_or_default();
    let mut runs = Vec::new();
    let mut before = String::new();
    loop {
        let limit = (wanted - runs.len()).min(PAGE_RUNS_MAX);
        let mut page = api.get(&format!("/runs?limit={limit}{schedule}{before}")).await?;
        if let Some(more) = page["runs"].as_array_mut() {
            runs.append(more);
        }
        match page["next"].as_str() {
            Some(next) if runs.len() < wanted => before = format!("&before={}", path_encoded(next)),
            _ => return Ok(runs),
        }
    }
}

/// All pages of the ledger as one.
async fn whole_ledger(one: &OneRun) -> Result<Value, CliError> {
    let api = Api::new(&one.coordinator)?;
    let path = format!("/runs/{}/ledger", one.run);
    let mut whole = api.get(&path).await?;
    while let Some(next) = whole["next"].as_u64() {
        let mut page = api.get(&format!("{path}?after={next}")).await?;
        if let (Some(all), Some(more)) = (whole["chunks"].as_array_mut(), page["chunks"].as_array_mut()) {
            all.append(more);
        }
        whole["next"] = page["next"].take();
    }
    Ok(whole)
}

async fn show(one: &OneRun, output: OutputFormat) -> Result<(), CliError> {
    let run = Api::new(&one.coordinator)?.get(&format!("/runs/{}", one.run)).await?;
    if output == OutputFormat::Json {
        return output::json(&run);
    }
    let number = |path: &str| count(run.pointer(path).and_then(Value::as_u64).unwrap_or(0));
    let size = |path: &str| output::bytes(run.pointer(path).and_then(Value::as_u64).unwrap_or(0));
    let mut lines = vec![
        ("run", cell(&run["runId"])),
        ("activity", cell(&run["activity"])),
        ("state", cell(&run["state"])),
        ("sink", cell(&run["sink"])),
        ("submitted", cell(&run["submitted"])),
        (
            "stage 1, copy",
            format!(
                "{}/{} files, {}/{}, {} active",
                number("/copy/filesDone"),
                number("/copy/filesTotal"),
                size("/copy/bytesDone"),
                size("/copy/bytesTotal"),
                number("/copy/filesActive")
            ),
        ),
        (
            "stage 2, ingest",
            format!(
                "{}/{} commands, {}/{} rows visible",
                number("/ingest/commandsDone"),
                number("/ingest/commandsTotal"),
                number("/ingest/rowsVisible"),
                number("/ingest/rowsTotal")
            ),
        ),
    ];
    if let Some(other) = run["waitsFor"].as_str() {
        lines.push(("waits for", format!("the end of run {other}, which loads into the same table")));
    }
    for (name, path) in [("failure", "/failure"), ("last failure", "/lastFailure")] {
        if let Some(failure) = run.pointer(path) {
            lines.push((name, format!("{}: {}", cell(&failure["code"]), cell(&failure["message"]))));
        }
    }
    for (name, value) in lines {
        output::result(&format!("{name:15}  {value}"))?;
    }
    for warning in run["warnings"].as_array().into_iter().flatten() {
        output::result(&format!("{:15}  {}", "warning", cell(warning)))?;
    }
    Ok(())
}

fn report_tables(report: &Value) -> Result<(), CliError> {
    let ended = summary::print(report, OutputFormat::Table);
    let list = |name: &str| report[name].as_array().cloned().unwrap_or_default();
    output::result("")?;
    let columns = |row: &Value, names: &[&str]| names.iter().map(|n| cell(&row[*n])).collect::<Vec<_>>();
    let files = ["path", "state", "rowsRead", "rowsSkipped", "sizeBytes", "stagedBytes", "attempts", "node"];
    output::table(&files, list("files").iter().map(|f| columns(f, &files)))?;
    output::result("")?;
    let commands = ["unit", "chunk", "state", "rows", "rowsCounted", "tag"];
    output::table(&commands, list("ingest").iter().map(|c| columns(c, &commands)))?;
    ended
}

fn ledger_table(ledger: &Value) -> Result<(), CliError> {
    let rows = ledger["chunks"].as_array().into_iter().flatten().map(|line| {
        let extents = line["extents"].as_array().map(|extents| {
            let rows = extents.iter().filter_map(|extent| extent["rows"].as_u64()).sum::<u64>();
            format!("{} in {}", count(rows), extents.len())
        });
        vec![
            cell(&line["file"]),
            cell(&line["blob"]),
            cell(&line["crc32"]),
            cell(&line["rows"]),
            cell(&line["state"]),
            cell(&line["rowsCounted"]),
            extents.unwrap_or_default(),
            cell(&line["operationId"]),
        ]
    });
    let header = ["FILE", "BLOB", "CRC-32", "ROWS", "COMMAND", "COUNTED", "ROWS IN EXTENTS", "OPERATION"];
    output::table(&header, rows)?;
    if let Some(why) = ledger["extentsFailure"].as_str() {
        message(&format!("ferry: the table's extents could not be asked for: {why}"));
    }
    Ok(())
}
