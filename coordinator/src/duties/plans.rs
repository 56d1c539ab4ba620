//! What a dry run is for: the plan of a run, as it is shown. And whether a run finds what was planned.

use crate::{
    core::{Core, NODE_LOST_AFTER},
    estimate::{self, Conditions, Ratios, Survey},
    fingerprint::{self, Comparison, Expected, Parts},
    ingest::{
        at_once, cluster,
        preflight::{self, Looked},
    },
    planner::{Plan, PlannedMapping, TableSchema},
    store::{PaceKey, RunRow, StoreError, UnitRow},
};
use ferry_common::{
    activity::{Activity, FormatType, Shape},
    failure::{Code, Failure},
    id::{RunId, UnitNumber},
    plan::{ColumnFrom, CopyPlan, StagedFormat},
    unit::SampleColumn,
};
use serde_json::{Value, json};
use std::time::Duration;

/// Units that are read at once; each may be a pack of many files.
const UNITS_AT_ONCE: u32 = 200;
/// Larger sets of files are not held against each other by name.
const FILES_COMPARED_MAX: u64 = 100_000;

/// What became of a listing.
pub(super) enum Made {
    /// Of a dry run: what is shown of it.
    Shown { plan: Option<Plan>, warnings: Vec<String>, shown: Value },
    /// No file was found, and that is allowed.
    Empty,
    /// How records become columns; the table is there.
    Stored { plan: Plan, warnings: Vec<String>, lent_container: Option<String> },
}

/// Makes the plan of a run that was listed. A run that expects one is held to it before anything is changed.
pub(super) async fn make(core: &Core, run: &RunRow) -> Result<Made, Failure> {
    if run.is_dry {
        return show(core, run).await;
    }
    // A node that found no file has failed, unless the settings allow that. Where all were loaded before, nothing is to be done.
    let may_be_empty = run.activity.source.allow_no_files || run.files_loaded_before > 0;
    if run.files == 0 && run.expected.is_none() && may_be_empty {
        return Ok(Made::Empty);
    }
    core.check_source_changes(run).await?;
    let agreed = match &run.expected {
        Some(expected) => Some(hold_to(core, run, expected).await?),
        None => None,
    };
    let looked = preflight::look(core, run, true).await?;
    let Looked { plan, warnings, lent_container, .. } = looked;
    let plan = plan?;
    // The table may have been changed since the other look.
    if agreed.is_some_and(|agreed| agreed != plan) {
        let why = "the table was changed while the run was held against its plan; plan it again";
        return Err(Failure::settings(Code::PlanChanged, why));
    }
    Ok(Made::Stored { plan, warnings, lent_container })
}

async fn each_unit(core: &Core, run: &RunId, mut see: impl FnMut(&UnitRow) + Send) -> Result<(), StoreError> {
    let mut after = UnitNumber::LISTING;
    loop {
        let units = core.store.files(run, None, after, UNITS_AT_ONCE).await?;
        units.iter().for_each(&mut see);
        match units.last() {
            Some(last) if units.len() == UNITS_AT_ONCE as usize => after = last.number,
            _ => return Ok(()),
        }
    }
}

async fn survey(core: &Core, run: &RunRow, written_ratio: Option<f64>) -> Result<Survey, StoreError> {
    let mut survey = Survey::default();
    let chunk_bytes_max = run.activity.settings.chunk_bytes_max();
    each_unit(core, &run.id, |unit| survey.see(unit, written_ratio, chunk_bytes_max)).await?;
    Ok(survey)
}

/// Fails if the run finds another plan than it expects.
async fn hold_to(core: &Core, run: &RunRow, expected: &Expected) -> Result<Plan, Failure> {
    let plan = preflight::look(core, run, false).await?.plan?;
    let survey = survey(core, run, None).await?;
    let found = Parts::of(&run.activity, &survey.files, &plan);
    if found.whole() == expected.fingerprint {
        return Ok(plan);
    }
    let are_files_others = expected.parts.as_ref().is_some_and(|parts| parts.files != found.files);
    let told = if are_files_others { compared(core, run, expected).await? } else { None };
    Err(fingerprint::changed(expected, &found, &survey.files, told))
}

/// How the files of a run differ from those of the plan, if both are known here and are not too many.
async fn compared(core: &Core, run: &RunRow, expected: &Expected) -> Result<Option<String>, StoreError> {
    let Some(id) = &expected.run_id else { return Ok(None) };
    let Some(planned) = core.store.run(id).await? else { return Ok(None) };
    let is_that_plan = planned.shown.is_some_and(|shown| shown["fingerprint"] == expected.fingerprint.as_str());
    if !is_that_plan || planned.files.max(run.files) > FILES_COMPARED_MAX {
        return Ok(None);
    }
    let mut comparison = Comparison::default();
    each_unit(core, id, |unit| unit.files().iter().for_each(|file| comparison.plan(file))).await?;
    each_unit(core, &run.id, |unit| unit.files().iter().for_each(|file| comparison.find(file))).await?;
    Ok(Some(comparison.told()))
}

/// Under which conditions the run would go now.
async fn conditions(core: &Core, run: &RunRow) -> Result<Conditions, StoreError> {
    let runtime = &run.activity.source.connect_via;
    let mut nodes = core.nodes_seen(NODE_LOST_AFTER).await?;
    nodes.retain(|node| !node.has_left && !node.is_draining && node.runtime == *runtime);
    // A run does what the plan has done so far, but tries nothing out.
    let tried = run.trial.as_ref().map_or(Duration::ZERO, |trial| Duration::from_micros(trial.duration_us));
    let planning = run.times.started.map(|at| core.now().since(at).saturating_sub(tried));
    let cluster = cluster::look(core, &run.activity).await;
    Ok(Conditions {
        nodes_ready: u32::try_from(nodes.len()).unwrap_or(u32::MAX),
        slots_ready: nodes.iter().map(|node| node.slots).fold(0, u32::saturating_add),
        cluster,
        pace: core.store.pace(&PaceKey::of(&run.activity)).await?,
        commands_at_once: at_once(run.activity.sink.ingestion, cluster.capacity),
        planning,
    })
}

/// Looks at everything, and puts together what a plan shows.
async fn show(core: &Core, run: &RunRow) -> Result<Made, Failure> {
    let activity = &run.activity;
    let looked = preflight::look(core, run, false).await?;
    let format = activity.source.format.kind;
    let staged = looked.plan.as_ref().ok().map(|plan| plan.copy.staged_format(format));
    let ratios = Ratios::of(run.trial.as_ref(), staged == Some(StagedFormat::Parquet));
    let survey = survey(core, run, ratios.as_ref().ok().map(|r| r.written)).await?;
    let conditions = conditions(core, run).await?;
    let mut warnings = run.warnings.clone();
    warnings.extend(looked.warnings.clone());
    warnings.extend(estimate::warnings(activity, &survey, &conditions));
    let (chunks, chunks_basis) = estimate::chunks(activity, &survey, &ratios);
    let plan = looked.plan.as_ref().ok();
    let parts = plan.map(|plan| Parts::of(activity, &survey.files, plan));
    let forbidden = core.check_source_changes(run).await.err();
    let obstacles: Vec<_> = looked.plan.as_ref().err().into_iter().chain(&forbidden).collect();
    let largest: Vec<_> =
        survey.largest.iter().map(|(bytes, path)| json!({"path": path, "sizeBytes": bytes})).collect();
    let shown = json!({
        "runId": run.id.as_str(),
        "activity": activity.name,
        "source": activity.source.folder_path,
        "sink": format!("{}/{}", activity.sink.database, activity.sink.table),
        "files": {"count": survey.files.count, "bytes": survey.files.bytes, "largest": largest},
        "units": {"count": survey.units, "packed": survey.packed, "split": survey.split},
        "chunks": {"count": chunks, "basis": chunks_basis},
        "path": plan.map(|plan| if plan.copy.rewrites { "convert" } else { "passThrough" }),
        "pathWhy": plan.map(|plan| why_this_path(activity, &plan.copy)),
        "stagedFormat": staged.map(StagedFormat::as_str),
        "schema": schema(activity, &run.sample, &looked),
        "estimate": estimate::estimate(activity, &survey, &ratios, run.trial.as_ref(), &conditions),
        "advice": estimate::advice(activity, &survey),
        "warnings": warnings,
        // Why a run would fail as things are.
        "obstacles": obstacles,
        "fingerprint": parts.as_ref().map(Parts::whole),
        "parts": parts,
    });
    Ok(Made::Shown { plan: plan.cloned(), warnings: looked.warnings, shown })
}

/// Why records are staged as they are, or written anew.
fn why_this_path(activity: &Activity, plan: &CopyPlan) -> &'static str {
    let kind = activity.source.format.kind;
    match (plan.rewrites, kind.shape()) {
        (true, Shape::Objects) if plan.collection.is_some() => {
            "sink.mapping.collectionReference makes rows of an array's elements"
        }
        (true, Shape::Objects) => "values deep in the records are checked, and cannot be replaced where they stand",
        (true, _) if kind == FormatType::Parquet => {
            "a column is added, dated by row, or of a type that the cluster does not read from Parquet as the table has it"
        }
        (true, _) => "files of this format are not given to the cluster as they are",
        (false, Shape::Columns) => "the cluster fills every column from the files' own Parquet",
        (false, Shape::Objects) => "records go to the cluster as the bytes they are",
        (false, Shape::Fields) => {
            "records go to the cluster as the bytes they are; those that CSV or the mapping needs otherwise are written anew"
        }
    }
}

/// Columns of both sides, and which goes where.
fn schema(activity: &Activity, sample: &[SampleColumn], looked: &Looked) -> Value {
    let table = match &looked.table {
        None => Value::Null,
        Some(TableSchema::Hidden) => json!("hidden"),
        Some(TableSchema::Columns(columns)) => {
            columns.iter().map(|c| json!({"name": c.name, "type": c.kind})).collect::<Vec<_>>().into()
        }
    };
    let names: Vec<&str> = match &looked.table {
        Some(TableSchema::Columns(columns)) => columns.iter().map(|c| c.name.as_str()).collect(),
        None | Some(TableSchema::Hidden) => Vec::new(),
    };
    let source: Vec<_> =
        sample.iter().map(|c| json!({"name": c.name, "type": c.kind, "isAdded": c.is_added})).collect();
    let mut mapping = Vec::new();
    let (mut unmatched_source, mut unmatched_table) = (Vec::new(), Vec::new());
    let mut reference = None;
    match &looked.plan {
        Ok(Plan { mapping: PlannedMapping::Reference(name), .. }) => reference = Some(name.as_str()),
        // By order into a table that may not be looked at.
        Ok(Plan { mapping: PlannedMapping::Order, .. }) => {}
        Ok(plan) => {
            let used: Vec<_> = plan.copy.columns.iter().filter(|c| !is_late(&plan.copy, &c.source)).collect();
            for column in &used {
                let from = from_text(&column.source, sample);
                mapping.push(json!({"column": column.name, "type": column.kind, "from": from}));
            }
            let is_taken = |at: usize, name: &str| {
                used.iter().any(|c| match &c.source {
                    ColumnFrom::Name(n) => n == name,
                    ColumnFrom::Ordinal(n) => *n as usize == at,
                    ColumnFrom::Path(path) => starts_with_property(path, name),
                })
            };
            unmatched_source =
                (0..).zip(sample).filter(|(at, c)| !is_taken(*at, &c.name)).map(|(_, c)| &*c.name).collect();
            unmatched_table = names.iter().copied().filter(|n| used.iter().all(|c| c.name != *n)).collect();
        }
        // There is no plan: what does not match by name is why, as a rule.
        Err(_) if looked.table.is_some() && !names.is_empty() && activity.sink.mapping.columns.is_none() => {
            let is_sampled = |name: &str| sample.iter().any(|c| c.name == name);
            unmatched_source = sample.iter().map(|c| &*c.name).filter(|n| !names.contains(n)).collect();
            unmatched_table = names.iter().copied().filter(|n| !is_sampled(n)).collect();
        }
        Err(_) => {}
    }
    json!({
        "source": source,
        "table": table,
        "create": looked.create,
        "alter": looked.alter,
        "mapping": mapping,
        "mappingReference": reference,
        "unmatchedSource": unmatched_source,
        "unmatchedTable": unmatched_table,
    })
}

/// A column of the table that the sample lacks: files may have it all the same.
fn is_late(plan: &CopyPlan, source: &ColumnFrom) -> bool {
    matches!(source, ColumnFrom::Name(name) if plan.late.contains(name))
}

/// The path leads to a record's property of this name, or into it.
fn starts_with_property(path: &str, name: &str) -> bool {
    let rest = path.strip_prefix('$').unwrap_or(path);
    let dotted = rest.strip_prefix('.').unwrap_or(rest).strip_prefix(name);
    let quoted = rest.strip_prefix("['").and_then(|r| r.strip_prefix(name)).is_some_and(|r| r.starts_with("']"));
    quoted || dotted.is_some_and(|r| r.is_empty() || r.starts_with(['.', '[']))
}

fn from_text(source: &ColumnFrom, sample: &[SampleColumn]) -> String {
    match source {
        ColumnFrom::Name(name) => name.clone(),
        ColumnFrom::Path(path) => path.clone(),
        ColumnFrom::Ordinal(at) => match sample.get(*at as usize) {
            Some(column) => format!("field {} ({})", at + 1, column.name),
            None => format!("field {}", at + 1),
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::planner::{columns_to_add, extended, plan};
    use ferry_kusto::commands::TableColumn;

    fn activity(sink: &str) -> Activity {
        let text = format!(
            "{{name: a, source: {{type: FileSystem, folderPath: /d, format: {{type: DelimitedText, firstRowAsHeader: true}}}}, \
             sink: {{type: AzureDataExplorer, endpoint: 'http://127.0.0.1:1', database: D, table: T{sink}}}, \
             staging: {{type: FileSystem, folderPath: /s}}}}"
        );
        Activity::parse(&text, "test").unwrap()
    }

    fn sample(columns: &[(&str, &str)]) -> Vec<SampleColumn> {
        let column = |(name, kind): &(&str, &str)| SampleColumn {
            name: (*name).to_owned(),
            kind: (*kind).to_owned(),
            is_added: false,
            reads_as: Vec::new(),
        };
        columns.iter().map(column).collect()
    }

    fn table(columns: &[(&str, &str)]) -> TableSchema {
        let columns = columns.iter().map(|(n, k)| TableColumn { name: (*n).to_owned(), kind: (*k).to_owned() });
        TableSchema::Columns(columns.collect())
    }

    fn looked(activity: &Activity, sample: &[SampleColumn], table: TableSchema) -> Looked {
        let plan = plan(activity, sample, &table).map(|(plan, _)| plan);
        Looked { plan, warnings: Vec::new(), table: Some(table), create: None, alter: None, lent_container: None }
    }

    #[test]
    fn what_goes_where_and_what_goes_nowhere_is_shown() {
        let sample = sample(&[("a", "long"), ("b", "real"), ("stray", "string")]);
        let known = table(&[("b", "string"), ("a", "long"), ("empty", "datetime")]);
        for (case, sink, mapping, unmatched_source, unmatched_table) in [
            (
                "left out as the settings say",
                ", schemaDrift: ignore",
                json!([["a", "long", "a"], ["b", "string", "b"]]),
                json!(["stray"]),
                json!(["empty"]),
            ),
            // A run would fail: there is no mapping, and the differences are why.
            ("in the way", "", json!([]), json!(["stray"]), json!(["empty"])),
            (
                "chosen by the settings",
                ", mapping: {columns: [{source: {ordinal: 2}, sink: {name: a}}, {source: {name: stray}, sink: {name: b}}]}",
                json!([["a", "long", "field 2 (b)"], ["b", "string", "stray"]]),
                json!(["a"]),
                json!(["empty"]),
            ),
        ] {
            let activity = activity(sink);
            let shown = schema(&activity, &sample, &looked(&activity, &sample, known.clone()));
            let rows = shown["mapping"].as_array().unwrap().iter();
            let rows: Vec<_> = rows.map(|row| json!([row["column"], row["type"], row["from"]])).collect();
            assert_eq!(json!(rows), mapping, "{case}: {shown:#}");
            assert_eq!(shown["unmatchedSource"], unmatched_source, "{case}");
            assert_eq!(shown["unmatchedTable"], unmatched_table, "{case}");
        }
    }

    #[test]
    fn added_columns_are_part_of_the_table_that_is_shown() {
        let activity = activity(", schemaDrift: addColumns");
        let sample = sample(&[("a", "long"), ("new", "real")]);
        let known = table(&[("a", "long")]);
        let added = columns_to_add(&activity, &sample, &known);
        let shown = schema(&activity, &sample, &looked(&activity, &sample, extended(Some(&known), &added)));
        assert_eq!(shown["table"], json!([{"name": "a", "type": "long"}, {"name": "new", "type": "real"}]));
        assert_eq!((&shown["unmatchedSource"], &shown["unmatchedTable"]), (&json!([]), &json!([])));
    }

    #[test]
    fn a_hidden_table_is_called_so() {
        let activity = activity("");
        let sample = sample(&[("a", "long")]);
        let shown = schema(&activity, &sample, &looked(&activity, &sample, TableSchema::Hidden));
        assert_eq!(shown["table"], "hidden");
        assert_eq!(shown["mapping"], json!([{"column": "a", "type": null, "from": "a"}]));
    }

    #[test]
    fn paths_belong_to_the_property_they_begin_with() {
        for (path, name, expected) in [
            ("$.a", "a", true),
            ("$.a.b", "a", true),
            ("$.a[0]", "a", true),
            ("$['a b'].c", "a b", true),
            ("$.ab", "a", false),
            ("$['ab']", "a", false),
        ] {
            assert_eq!(starts_with_property(path, name), expected, "{path}");
        }
    }
}
