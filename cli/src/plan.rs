//! `ferry plan`: what a copy would do, without doing it; and plans in files, for `ferry run --plan`.

use crate::{
    api::{Api, CoordinatorArg},
    embedded::{self, Embedding},
    output::{self, CliError, OutputFormat, bytes, cell, count, message},
    progress, runs,
};
use clap::Args;
use ferry_common::{activity::Activity, failure::plural, id::RunId};
use ferry_node::read::Roots;
use serde_json::{Value, json};
use std::{
    path::{Path, PathBuf},
    time::Duration,
};

/// How often a plan in the making is looked at.
const LOOK_INTERVAL: Duration = Duration::from_millis(100);
/// After this long without a file somebody is told what is waited for.
const SILENCE_MAX: Duration = Duration::from_secs(10);
/// Version of the file that a plan is kept in.
const FILE_VERSION: u64 = 1;
/// Largest files that are shown.
const LARGEST_SHOWN: usize = 5;

/// `ferry plan`
#[derive(Args)]
#[command(after_help = "Examples:
  ferry plan taxi.yaml
  ferry plan taxi.yaml --save plan.json, and later: ferry run --plan plan.json --watch
  ferry plan taxi.yaml --local")]
pub(crate) struct PlanArgs {
    /// File of the copy activity, YAML or JSON; `-` for standard input.
    activity: PathBuf,
    #[command(flatten)]
    coordinator: CoordinatorArg,
    /// Plan without a coordinator, with one and nodes inside this program.
    #[arg(long)]
    local: bool,
    /// With --local: nodes to embed.
    #[arg(long, default_value_t = 2, requires = "local", value_parser = clap::value_parser!(u32).range(1..=64))]
    nodes: u32,
    /// With --local: files that each node copies at once.
    #[arg(long, default_value_t = 1, requires = "local", value_parser = clap::value_parser!(u32).range(1..=64))]
    slots: u32,
    /// Keep the plan in a file, for `ferry run --plan`.
    #[arg(long, value_name = "FILE")]
    save: Option<PathBuf>,
    /// Set a property of the activity, such as `sink.table=T`. The value is JSON, or else text.
    #[arg(long = "set", value_name = "PATH=VALUE")]
    set: Vec<String>,
}

pub(crate) async fn run(args: PlanArgs, output: OutputFormat) -> Result<(), CliError> {
    let activity = runs::read_activity(&args.activity, &args.set)?;
    let plan = if args.local {
        let roots = Roots::new([PathBuf::from(&activity.source.folder_path)]);
        let roots = roots.map_err(|e| CliError::Usage(e.to_string()))?;
        let scratch = tempfile::Builder::new().prefix("ferry-plan-").tempdir()?;
        let store = scratch.path().join("ferry.db");
        let embedding = Embedding { store: &store, roots, nodes: args.nodes, slots: args.slots };
        embedded::plan(embedding, &activity).await?
    } else {
        make(&Api::new(&args.coordinator)?, &activity).await?
    };
    finish(&plan, &activity, args.save.as_deref(), output)
}

/// Has a coordinator plan an activity. Returns the plan.
pub(crate) async fn make(api: &Api, activity: &Activity) -> Result<Value, CliError> {
    let run = api.post("/plans", Some(&json!({"activity": activity}))).await?;
    let id = cell(&run["runId"]);
    let interrupt = progress::interrupt();
    let (mut waited, mut has_told) = (Duration::ZERO, false);
    loop {
        let run = api.get(&format!("/runs/{id}")).await?;
        if run["state"] == "Planned" {
            return api.get(&format!("/runs/{id}/plan")).await;
        }
        if run["isFinal"] == true {
            let failure = &run["failure"];
            return Err(CliError::Failed(match failure.is_object() {
                true => format!("{}: {}", cell(&failure["code"]), cell(&failure["message"])),
                false => format!("plan {id} was cancelled"),
            }));
        }
        if waited >= SILENCE_MAX && !has_told && run["copy"]["filesTotal"] == 0 {
            has_told = true;
            message("ferry: waiting for a node of the source's integration runtime to list it");
        }
        tokio::select! {
            () = tokio::time::sleep(LOOK_INTERVAL) => waited += LOOK_INTERVAL,
            () = interrupt.cancelled() => {
                api.post(&format!("/runs/{id}/cancel"), None).await?;
                return Err(CliError::Interrupted(String::new()));
            }
        }
    }
}

/// Prints a plan, and keeps it where asked to. One that a run could not follow is an error.
pub(crate) fn finish(
    plan: &Value,
    activity: &Activity,
    save: Option<&Path>,
    output: OutputFormat,
) -> Result<(), CliError> {
    print(plan, output)?;
    let obstacles = list(&plan["obstacles"]).iter().map(|o| format!("{}: {}", cell(&o["code"]), cell(&o["message"])));
    let obstacles: Vec<_> = obstacles.collect();
    if !obstacles.is_empty() {
        let kept = if save.is_some() { "; the plan is not kept" } else { "" };
        return Err(CliError::Failed(format!("a run would fail: {}{kept}", obstacles.join("; "))));
    }
    let Some(path) = save else { return Ok(()) };
    let file = json!({
        "ferryPlan": FILE_VERSION,
        "activity": activity,
        "fingerprint": plan["fingerprint"],
        "expect": {
            "fingerprint": plan["fingerprint"],
            "parts": plan["parts"],
            "runId": plan["runId"],
            "files": plan["files"]["count"],
            "bytes": plan["files"]["bytes"],
        },
        "summary": plan,
    });
    let text = serde_json::to_string_pretty(&file).map_err(|e| CliError::Failed(e.to_string()))?;
    std::fs::write(path, text + "\n").map_err(|e| CliError::Failed(format!("{}: {e}", path.display())))?;
    message(&format!("ferry: the plan is kept; `ferry run --plan {}` follows it", path.display()));
    Ok(())
}

/// Submits what a plan's file has: the run fails if it finds something else.
pub(crate) async fn submit(api: &Api, path: &Path, run_id: Option<&RunId>) -> Result<Value, CliError> {
    let origin = path.display().to_string();
    let text = std::fs::read_to_string(path).map_err(|e| CliError::Usage(format!("{origin}: {e}")))?;
    let no_plan = || CliError::Usage(format!("{origin} is no plan that `ferry plan --save` made"));
    let file: Value = serde_json::from_str(&text).map_err(|_| no_plan())?;
    if file["ferryPlan"] != FILE_VERSION {
        return Err(match file["ferryPlan"].as_u64() {
            Some(version) => CliError::Usage(format!("{origin} is a plan of version {version}; plan anew")),
            None => no_plan(),
        });
    }
    let activity = Activity::parse(&file["activity"].to_string(), &origin)?;
    let body = json!({"runId": run_id.map(RunId::as_str), "activity": activity, "expect": file["expect"]});
    api.post("/runs", Some(&body)).await
}

/// Prints a plan.
pub(crate) fn print(plan: &Value, output: OutputFormat) -> Result<(), CliError> {
    if output == OutputFormat::Json {
        return output::json(plan);
    }
    let lines = facts(plan);
    let width = lines.iter().map(|(name, _)| name.len()).max().unwrap_or(0);
    for (name, value) in lines {
        output::result(&format!("{name:width$}  {value}"))?;
    }
    let largest = list(&plan["files"]["largest"]);
    if largest.len() > 1 {
        output::result("")?;
        let size = |file: &Value| bytes(file["sizeBytes"].as_u64().unwrap_or(0));
        let rows = largest.iter().take(LARGEST_SHOWN).map(|file| vec![cell(&file["path"]), size(file)]);
        output::table(&["LARGEST FILES", "SIZE"], rows)?;
    }
    let mapping = list(&plan["schema"]["mapping"]);
    if !mapping.is_empty() {
        output::result("")?;
        let rows = mapping.iter().map(|row| {
            let kind = |column: &&Value| column["name"] == row["from"];
            let source = list(&plan["schema"]["source"]).iter().find(kind);
            vec![
                cell(&row["from"]),
                source.map(|column| cell(&column["type"])).unwrap_or_default(),
                cell(&row["column"]),
                cell(&row["type"]),
            ]
        });
        output::table(&["SOURCE COLUMN", "TYPE", "TABLE COLUMN", "TYPE"], rows)?;
    }
    let remarks = remarks(plan);
    if !remarks.is_empty() {
        output::result("")?;
    }
    for (name, text) in remarks {
        output::result(&format!("{name}: {text}"))?;
    }
    Ok(())
}

fn list(value: &Value) -> &[Value] {
    value.as_array().map_or(&[], Vec::as_slice)
}

/// The figures of a plan, by name.
fn facts(plan: &Value) -> Vec<(&'static str, String)> {
    const UNKNOWN: &str = "not known";
    let number = |path: &str| plan.pointer(path).and_then(Value::as_u64);
    let counted = |path: &str| number(path).map_or(UNKNOWN.to_owned(), count);
    let several = |path: &str, noun: &str| format!("{} {}", counted(path), plural(number(path).unwrap_or(0), noun));
    let sized = |path: &str| number(path).map_or(UNKNOWN.to_owned(), bytes);
    let timed = |path: &str| plan.pointer(path).and_then(Value::as_f64).map_or(UNKNOWN.to_owned(), seconds_text);
    let about = |text: String| if text == UNKNOWN { text } else { format!("about {text}") };
    let staged = match plan["stagedFormat"].as_str() {
        Some(format) => format!("{format}, {}: {}", cell(&plan["path"]), cell(&plan["pathWhy"])),
        None => UNKNOWN.to_owned(),
    };
    vec![
        ("activity", cell(&plan["activity"])),
        ("from", cell(&plan["source"])),
        ("into", cell(&plan["sink"])),
        ("files", format!("{}, {}", counted("/files/count"), sized("/files/bytes"))),
        (
            "units",
            format!(
                "{}, of these {} of several small files; {} files in parts",
                counted("/units/count"),
                counted("/units/packed"),
                counted("/units/split")
            ),
        ),
        ("chunks", about(counted("/chunks/count"))),
        ("staged as", staged),
        ("rows", about(counted("/estimate/rows"))),
        ("data written", about(sized("/estimate/dataWritten"))),
        ("staged", about(sized("/estimate/stagedBytes"))),
        ("listing", about(timed("/estimate/planningSeconds"))),
        (
            "stage 1, copy",
            format!(
                "{} with {}; {} ready",
                about(timed("/estimate/stage1Seconds")),
                several("/estimate/slots", "slot"),
                several("/estimate/nodesReady", "node")
            ),
        ),
        ("stage 2, ingest", about(timed("/estimate/stage2Seconds")) + &stage2_basis(plan)),
        ("in all", about(timed("/estimate/totalSeconds"))),
        ("basis", cell(&plan["estimate"]["basis"])),
        ("fingerprint", plan["fingerprint"].as_str().unwrap_or(UNKNOWN).to_owned()),
    ]
}

/// Whether the time of stage 2 was measured; empty where the plan does not say.
fn stage2_basis(plan: &Value) -> String {
    let stage2 = &plan["estimate"]["stage2"];
    match stage2["basis"].as_str() {
        Some("measured") => {
            let commands = stage2["measuredCommands"].as_u64().unwrap_or(0);
            format!(", measured in {} {}", count(commands), plural(commands, "command"))
        }
        Some(_) => ", assumed, not measured".to_owned(),
        None => String::new(),
    }
}

/// What is to be said beside the figures.
fn remarks(plan: &Value) -> Vec<(&'static str, String)> {
    let schema = &plan["schema"];
    let mut remarks = Vec::new();
    let names = |value: &Value| list(value).iter().map(cell).collect::<Vec<_>>().join(", ");
    for (name, key) in
        [("source columns that go nowhere", "unmatchedSource"), ("table columns that stay empty", "unmatchedTable")]
    {
        if !list(&schema[key]).is_empty() {
            remarks.push((name, names(&schema[key])));
        }
    }
    match &schema["table"] {
        Value::Null => remarks.push(("table", "there is none".to_owned())),
        Value::String(_) => remarks.push(("table", "its columns may not be looked at".to_owned())),
        _ => {}
    }
    if let Some(reference) = schema["mappingReference"].as_str() {
        remarks.push(("mapping", format!("the table's own, {reference}")));
    }
    for key in ["create", "alter"] {
        if let Some(command) = schema[key].as_str() {
            remarks.push(("a run would send", command.to_owned()));
        }
    }
    remarks.extend(list(&plan["warnings"]).iter().map(|text| ("warning", cell(text))));
    remarks.extend(list(&plan["advice"]).iter().map(|text| ("advice", cell(text))));
    remarks
}

/// A time for people.
fn seconds_text(seconds: f64) -> String {
    if seconds < 60.0 {
        return format!("{seconds:.1} s");
    }
    humantime::format_duration(Duration::from_secs(seconds.round() as u64)).to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn plan() -> Value {
        json!({
            "activity": "a", "source": "/d", "sink": "D/T",
            "files": {"count": 1200, "bytes": 5_000_000, "largest": []},
            "units": {"count": 3, "packed": 2, "split": 0},
            "chunks": {"count": null, "basis": "why"},
            "path": "passThrough", "pathWhy": "because", "stagedFormat": "csv",
            "schema": {"table": null, "create": ".create-merge table T (a:long)", "unmatchedSource": ["x", "y"],
                       "unmatchedTable": [], "mapping": [], "source": []},
            "estimate": {"rows": 10, "stage1Seconds": 3725.4, "stage2Seconds": null, "slots": 2, "nodesReady": 1, "basis": "b"},
            "warnings": ["w"], "advice": [],
        })
    }

    #[test]
    fn what_is_not_known_is_called_so() {
        let facts = facts(&plan());
        let fact = |name: &str| facts.iter().find(|(n, _)| *n == name).unwrap().1.clone();
        assert_eq!(fact("files"), "1,200, 5.0 MB");
        assert_eq!(fact("chunks"), "not known");
        assert_eq!(fact("rows"), "about 10");
        assert_eq!(fact("stage 1, copy"), "about 1h 2m 5s with 2 slots; 1 node ready");
        assert_eq!(fact("stage 2, ingest"), "not known");
        assert_eq!(fact("listing"), "not known");
        assert_eq!(fact("staged as"), "csv, passThrough: because");
    }

    #[test]
    fn what_was_measured_is_told_from_what_is_assumed() {
        let mut plan = plan();
        plan["estimate"]["stage2Seconds"] = json!(12.0);
        for (stage2, expected) in [
            (json!({"basis": "measured", "measuredCommands": 1200}), "about 12.0 s, measured in 1,200 commands"),
            (json!({"basis": "assumed", "measuredCommands": 0}), "about 12.0 s, assumed, not measured"),
            // A coordinator of an older release.
            (Value::Null, "about 12.0 s"),
        ] {
            plan["estimate"]["stage2"] = stage2;
            let facts = facts(&plan);
            assert!(facts.contains(&("stage 2, ingest", expected.to_owned())), "{facts:?}");
        }
    }

    #[test]
    fn differences_commands_and_warnings_are_told() {
        let remarks = remarks(&plan());
        let expected = [
            ("source columns that go nowhere", "x, y"),
            ("table", "there is none"),
            ("a run would send", ".create-merge table T (a:long)"),
            ("warning", "w"),
        ];
        assert_eq!(remarks, expected.map(|(name, text)| (name, text.to_owned())));
    }
}
