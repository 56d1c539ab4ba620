//! Turns what is known of source and table into a plan: which column comes from where, and in which form it is staged.
//! Pure.
//!
//! Azure Data Explorer validates nothing loudly: a name that does not match becomes nulls. So every name is held against
//! the table and the sample here, before a byte is staged.

use ferry_common::{
    activity::{Activity, ColumnMapping, FormatType, Mapping, SchemaDrift, Shape},
    failure::{Code, Failure, Fault, Retry},
    plan::{ColumnFrom, CopyColumn, CopyPlan},
    unit::SampleColumn,
};
use ferry_kusto::commands::{IngestMapping, MappedColumn, MappedSource, TableColumn};
use serde::{Deserialize, Serialize};

/// How records of every file become columns.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Plan {
    /// What nodes stage.
    pub copy: CopyPlan,
    /// How the cluster reads what is staged.
    pub mapping: PlannedMapping,
}

/// How the cluster reads staged records.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum PlannedMapping {
    /// Spelled out.
    Columns(Vec<PlannedColumn>),
    /// A mapping that the table has.
    Reference(String),
    /// In the table's order.
    Order,
}

/// One table column.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PlannedColumn {
    /// Its name.
    pub column: String,
    /// Its type, if known.
    pub kind: Option<String>,
    /// Where it comes from.
    pub source: PlannedSource,
}

/// Where a column comes from in a staged record.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum PlannedSource {
    /// Position in the record, from 0.
    Ordinal(u32),
    /// Path in the JSON record, or in the Parquet schema.
    Path(String),
}

/// What is known of the table.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum TableSchema {
    /// Its columns, in order.
    Columns(Vec<TableColumn>),
    /// The principal may not look.
    Hidden,
}

impl TableSchema {
    fn column(&self, name: &str) -> Option<&TableColumn> {
        match self {
            Self::Columns(columns) => columns.iter().find(|c| c.name == name),
            Self::Hidden => None,
        }
    }
}

/// Reads a `cslschema`: `name:type,name:type`, names with odd characters quoted as `['name']`.
pub fn parse_cslschema(schema: &str) -> Vec<TableColumn> {
    let mut columns = Vec::new();
    let mut rest = schema.trim();
    while !rest.is_empty() {
        let (name, after) = if let Some(quoted) = rest.strip_prefix("['").or(rest.strip_prefix("[\"")) {
            let quote = if rest.starts_with("['") { "']" } else { "\"]" };
            let Some((name, after)) = quoted.split_once(quote) else { break };
            (name.replace("\\'", "'").replace("\\\\", "\\"), after.strip_prefix(':').unwrap_or(after))
        } else {
            let Some((name, after)) = rest.split_once(':') else { break };
            (name.trim().to_owned(), after)
        };
        let (kind, next) = after.split_once(',').unwrap_or((after, ""));
        columns.push(TableColumn { name, kind: kind.trim().to_owned() });
        rest = next.trim_start();
    }
    columns
}

/// The columns that `.create-merge table` is to have.
///
/// Columns that the table has keep their type: the sample only speaks for new ones.
pub fn columns_to_create(
    activity: &Activity,
    sample: &[SampleColumn],
    table: &TableSchema,
) -> Result<Vec<TableColumn>, Failure> {
    let from_path = |path: &str| path.strip_prefix("$.").filter(|p| !p.contains(['.', '['])).map(str::to_owned);
    let kind_of = |source: Option<&str>| {
        source.and_then(|name| sample.iter().find(|c| c.name == name)).map_or("string", |c| c.kind.as_str()).to_owned()
    };
    let columns: Vec<TableColumn> = match &activity.sink.mapping.columns {
        Some(mapped) => mapped
            .iter()
            .map(|m| {
                let by_ordinal = m.source.ordinal.and_then(|n| sample.get(n as usize - 1)).map(|c| c.name.as_str());
                let path = m.source.path.as_deref().and_then(from_path);
                let source = m.source.name.as_deref().or(by_ordinal).or(path.as_deref());
                TableColumn { name: m.sink.name.clone(), kind: m.sink.kind.clone().unwrap_or_else(|| kind_of(source)) }
            })
            .collect(),
        None => sample.iter().map(|c| TableColumn { name: c.name.clone(), kind: c.kind.clone() }).collect(),
    };
    if columns.is_empty() {
        let message = "no file has a row to take the table's columns from; create the table by hand, or map columns";
        return Err(Failure::new(Code::SchemaConflict, Fault::Source, Retry::Never, message));
    }
    if let Some(bad) = columns.iter().find(|c| c.name.trim().is_empty()) {
        let message =
            format!("a source column has no name ({:?}); map columns by ordinal in sink.mapping.columns", bad.name);
        return Err(Failure::new(Code::SchemaConflict, Fault::Source, Retry::Never, message));
    }
    Ok(columns.into_iter().map(|c| table.column(&c.name).cloned().unwrap_or(c)).collect())
}

/// Columns of the sample that the table lacks, where the settings say that they are to be added.
pub fn columns_to_add(activity: &Activity, sample: &[SampleColumn], table: &TableSchema) -> Vec<TableColumn> {
    let by_name = activity.sink.mapping.columns.is_none() && activity.sink.mapping.reference.is_none();
    if activity.sink.schema_drift != SchemaDrift::AddColumns || !by_name || !activity.source.format.has_names() {
        return Vec::new();
    }
    let TableSchema::Columns(_) = table else { return Vec::new() };
    let is_new = |c: &&SampleColumn| table.column(&c.name).is_none();
    sample.iter().filter(is_new).map(|c| TableColumn { name: c.name.clone(), kind: c.kind.clone() }).collect()
}

/// The table as it will be once it has these columns, too. Of one that may not be looked at, these are what is known.
pub fn extended(table: Option<&TableSchema>, columns: &[TableColumn]) -> TableSchema {
    let Some(TableSchema::Columns(known)) = table else { return TableSchema::Columns(columns.to_vec()) };
    let new = columns.iter().filter(|c| known.iter().all(|k| k.name != c.name));
    TableSchema::Columns(known.iter().chain(new).cloned().collect())
}

/// The plan, and what the user should know of it.
pub fn plan(activity: &Activity, sample: &[SampleColumn], table: &TableSchema) -> Result<(Plan, Vec<String>), Failure> {
    let mapping = &activity.sink.mapping;
    let base = CopyPlan {
        collection: mapping.collection_reference.clone(),
        complex_to_string: mapping.map_complex_values_to_string,
        conversion: mapping.type_conversion_settings.clone().unwrap_or_default(),
        ..CopyPlan::default()
    };
    match mapping {
        Mapping { reference: Some(reference), .. } => {
            let copy = CopyPlan { ignores_unknown: true, ..base };
            Ok((Plan { copy, mapping: PlannedMapping::Reference(reference.clone()) }, Vec::new()))
        }
        Mapping { columns: Some(columns), .. } => plan_columns(activity, columns, sample, table, base),
        _ if activity.source.format.has_names() => plan_names(activity, sample, table, base),
        _ => plan_order(activity, sample, table, base),
    }
}

fn missing(message: String) -> Failure {
    Failure::settings(Code::MappingColumnMissing, message)
}

fn copy_column(name: &str, kind: Option<&str>, source: ColumnFrom, format: Option<&String>) -> CopyColumn {
    CopyColumn { name: name.to_owned(), kind: kind.and_then(|k| k.parse().ok()), source, format: format.cloned() }
}

fn plan_columns(
    activity: &Activity,
    columns: &[ColumnMapping],
    sample: &[SampleColumn],
    table: &TableSchema,
    base: CopyPlan,
) -> Result<(Plan, Vec<String>), Failure> {
    let shape = activity.source.format.kind.shape();
    let is_added = |name: &str| sample.iter().any(|c| c.is_added && c.name == name);
    let mut warnings = Vec::new();
    let mut required = Vec::new();
    let mut planned = Vec::new();
    for mapped in columns {
        let known = table.column(&mapped.sink.name);
        if known.is_none() && matches!(table, TableSchema::Columns(_)) {
            return Err(missing(format!(
                "sink.mapping.columns names table column {:?}, but table {} has: {}",
                mapped.sink.name,
                activity.sink.table,
                names_of(table)
            )));
        }
        let source = match (&mapped.source.name, mapped.source.ordinal, &mapped.source.path) {
            (Some(name), ..) => {
                let is_seen = sample.iter().any(|c| c.name == *name);
                if shape == Shape::Objects && !is_seen && base.collection.is_none() {
                    warnings.push(format!(
                        "no sampled record has property {name:?}; column {:?} may stay empty",
                        mapped.sink.name
                    ));
                } else if shape != Shape::Objects && !is_seen && !sample.is_empty() {
                    return Err(missing(format!(
                        "sink.mapping.columns names source column {name:?}, but the files have: {}",
                        sample_names(sample)
                    )));
                }
                if shape != Shape::Objects && !is_added(name) {
                    required.push(name.clone());
                }
                ColumnFrom::Name(name.clone())
            }
            (_, Some(ordinal), _) => {
                let fields = sample.iter().filter(|c| !c.is_added).count();
                if !sample.is_empty() && ordinal as usize > fields {
                    return Err(missing(format!(
                        "sink.mapping.columns asks for field {ordinal}, but records have {fields} fields"
                    )));
                }
                ColumnFrom::Ordinal(ordinal.saturating_sub(1))
            }
            (_, _, path) => ColumnFrom::Path(path.clone().unwrap_or_default()),
        };
        let kind = known.map(|c| c.kind.as_str()).or(mapped.sink.kind.as_deref());
        planned.push(copy_column(&mapped.sink.name, kind, source, mapped.source.format.as_ref()));
    }
    // What is not mapped is left out on purpose.
    let copy = CopyPlan { columns: planned, required, ignores_unknown: true, ..base };
    Ok((finish(activity, sample, copy), warnings))
}

/// By order: the first field into the first column, and so on.
fn plan_order(
    activity: &Activity,
    sample: &[SampleColumn],
    table: &TableSchema,
    base: CopyPlan,
) -> Result<(Plan, Vec<String>), Failure> {
    let TableSchema::Columns(columns) = table else {
        return Ok((Plan { copy: base, mapping: PlannedMapping::Order }, vec![hidden_warning(activity)]));
    };
    if sample.len() > columns.len() {
        return Err(missing(format!(
            "records have {} fields, but table {} has {} columns: {}; map columns by ordinal in sink.mapping.columns",
            sample.len(),
            activity.sink.table,
            columns.len(),
            names_of(table)
        )));
    }
    let mut warnings = Vec::new();
    if !sample.is_empty() && sample.len() < columns.len() {
        let rest: Vec<_> = columns[sample.len()..].iter().map(|c| c.name.as_str()).collect();
        warnings.push(format!(
            "records have {} fields; columns without a field stay empty: {}",
            sample.len(),
            rest.join(", ")
        ));
    }
    let width = if sample.is_empty() { columns.len() } else { sample.len() };
    let planned = columns[..width].iter().zip(0..).map(|(column, at)| {
        let added = sample.get(at as usize).filter(|c| c.is_added);
        let source = added.map_or(ColumnFrom::Ordinal(at), |c| ColumnFrom::Name(c.name.clone()));
        copy_column(&column.name, Some(&column.kind), source, None)
    });
    let fields = sample.iter().filter(|c| !c.is_added).count() as u32;
    let copy = CopyPlan { columns: planned.collect(), fields_expected: fields, ..base };
    Ok((finish(activity, sample, copy), warnings))
}

/// By name: each source column into the table column of the same name.
fn plan_names(
    activity: &Activity,
    sample: &[SampleColumn],
    table: &TableSchema,
    base: CopyPlan,
) -> Result<(Plan, Vec<String>), Failure> {
    let mut warnings = Vec::new();
    let mut ignored = Vec::new();
    match table {
        TableSchema::Hidden => warnings.push(hidden_warning(activity)),
        TableSchema::Columns(columns) => {
            let stray: Vec<_> =
                sample.iter().filter(|c| table.column(&c.name).is_none()).map(|c| c.name.clone()).collect();
            let empty: Vec<_> =
                columns.iter().filter(|c| sample.iter().all(|s| s.name != c.name)).map(|c| c.name.as_str()).collect();
            if !stray.is_empty() {
                if activity.sink.schema_drift != SchemaDrift::Ignore {
                    let unfilled = match empty.as_slice() {
                        [] => String::new(),
                        empty => format!("; table columns without a source column: {}", empty.join(", ")),
                    };
                    return Err(missing(format!(
                        "source columns {} have no column of that name in table {}, which has: {}{unfilled}; set \
                         sink.schemaDrift: addColumns to add them or ignore to leave them out, or list the columns to \
                         copy in sink.mapping.columns",
                        stray.join(", "),
                        activity.sink.table,
                        names_of(table)
                    )));
                }
                warnings.push(format!("source columns that the table lacks are left out: {}", stray.join(", ")));
                ignored = stray;
            }
            if !empty.is_empty() && !sample.is_empty() {
                warnings.push(format!(
                    "table columns without a source column of that name stay empty: {}",
                    empty.join(", ")
                ));
            }
        }
    }
    let is_kept = |name: &String| !ignored.contains(name);
    let mut names: Vec<String> = sample.iter().map(|c| c.name.clone()).filter(is_kept).collect();
    // Files may have columns that the sample did not see: what the table has is known, too.
    let mut late = Vec::new();
    if let TableSchema::Columns(columns) = table {
        late = columns.iter().map(|c| c.name.clone()).filter(|name| !names.contains(name)).collect();
    }
    names.extend(late.iter().cloned());
    let planned = names.iter().map(|name| {
        copy_column(name, table.column(name).map(|c| c.kind.as_str()), ColumnFrom::Name(name.clone()), None)
    });
    let ignores_unknown = activity.sink.schema_drift == SchemaDrift::Ignore;
    let copy = CopyPlan { columns: planned.collect(), late, ignored, ignores_unknown, ..base };
    Ok((finish(activity, sample, copy), warnings))
}

/// Decides in which form records are staged, and how the cluster reads them.
fn finish(activity: &Activity, sample: &[SampleColumn], mut copy: CopyPlan) -> Plan {
    let shape = activity.source.format.kind.shape();
    let settings = &activity.settings;
    let leads_deep = |path: &str| path != "$" && path.trim_start_matches("$.").contains(['.', '[']);
    copy.rewrites = match shape {
        Shape::Fields => false,
        Shape::Objects => {
            // A value deep in a record cannot be replaced where it stands.
            let is_deep = |c: &CopyColumn| matches!(&c.source, ColumnFrom::Path(path) if leads_deep(path));
            copy.collection.is_some() || (settings.check_values && copy.columns.iter().any(is_deep))
        }
        Shape::Columns => !is_parquet_read_as_it_is(activity, sample, &copy),
    };
    if shape == Shape::Fields {
        copy.layout = sample.iter().map(|c| c.name.clone()).collect();
    }
    let staged_names: Vec<&String> = copy.layout.iter().chain(&copy.late).collect();
    let columns = copy.columns.iter().zip(0..).filter_map(|(column, at)| {
        let source = match (&column.source, shape) {
            _ if copy.rewrites => PlannedSource::Ordinal(at),
            (ColumnFrom::Ordinal(at), _) => PlannedSource::Ordinal(*at),
            (ColumnFrom::Path(path), _) => PlannedSource::Path(path.clone()),
            (ColumnFrom::Name(name), Shape::Fields) => {
                PlannedSource::Ordinal(u32::try_from(staged_names.iter().position(|n| *n == name)?).ok()?)
            }
            (ColumnFrom::Name(name), _) => PlannedSource::Path(json_path(name)),
        };
        Some(PlannedColumn { column: column.name.clone(), kind: column.kind.map(|k| k.as_str().to_owned()), source })
    });
    let mapping = PlannedMapping::Columns(columns.collect());
    Plan { copy, mapping }
}

/// The cluster fills every column from the files' own Parquet, and nothing must change.
fn is_parquet_read_as_it_is(activity: &Activity, sample: &[SampleColumn], copy: &CopyPlan) -> bool {
    let is_filled = |column: &CopyColumn| {
        let ColumnFrom::Name(name) = &column.source else { return false };
        match (sample.iter().find(|c| c.name == *name), column.kind) {
            (Some(seen), Some(kind)) => !seen.is_added && seen.reads_as.contains(&kind),
            // The table has it, the sample does not: it stays empty.
            (None, _) => true,
            (Some(seen), None) => !seen.is_added,
        }
    };
    activity.source.format.kind == FormatType::Parquet
        && activity.sink.creation_time.as_ref().is_none_or(|t| t.column.is_none())
        && copy.columns.iter().all(is_filled)
}

fn hidden_warning(activity: &Activity) -> String {
    format!(
        "the columns of table {} may not be looked at; names that do not match it become nulls",
        activity.sink.table
    )
}

fn sample_names(sample: &[SampleColumn]) -> String {
    sample.iter().map(|c| c.name.as_str()).collect::<Vec<_>>().join(", ")
}

fn names_of(table: &TableSchema) -> String {
    match table {
        TableSchema::Columns(columns) => columns.iter().map(|c| c.name.as_str()).collect::<Vec<_>>().join(", "),
        TableSchema::Hidden => "(hidden)".to_owned(),
    }
}

/// JSON path of a property by its name.
fn json_path(name: &str) -> String {
    format!("$['{}']", name.replace('\\', "\\\\").replace('\'', "\\'"))
}

impl Plan {
    /// How the cluster reads the run's staged records: the same for every file.
    pub fn ingest_mapping(&self) -> IngestMapping {
        let columns = match &self.mapping {
            PlannedMapping::Order => return IngestMapping::None,
            PlannedMapping::Reference(reference) => return IngestMapping::Reference(reference.clone()),
            PlannedMapping::Columns(columns) => columns,
        };
        let mapped = columns.iter().map(|c| MappedColumn {
            column: c.column.clone(),
            kind: c.kind.clone(),
            source: match &c.source {
                PlannedSource::Ordinal(at) => MappedSource::Ordinal(*at),
                PlannedSource::Path(path) => MappedSource::Path(path.clone()),
            },
        });
        IngestMapping::Inline(mapped.collect())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn activity(format: &str, mapping: &str) -> Activity {
        let text = format!(
            "{{name: a, source: {{type: FileSystem, folderPath: /d, format: {format}}}, \
             sink: {{type: AzureDataExplorer, endpoint: 'http://127.0.0.1:1', database: D, table: T, mapping: {mapping}}}, \
             staging: {{type: FileSystem, folderPath: /s}}}}"
        );
        Activity::parse(&text, "test").unwrap()
    }

    fn sample(columns: &[(&str, &str)]) -> Vec<SampleColumn> {
        columns
            .iter()
            .map(|(n, k)| SampleColumn {
                name: (*n).to_owned(),
                kind: (*k).to_owned(),
                is_added: false,
                reads_as: Vec::new(),
            })
            .collect()
    }

    fn table(columns: &[(&str, &str)]) -> TableSchema {
        let columns = columns.iter().map(|(n, k)| TableColumn { name: (*n).to_owned(), kind: (*k).to_owned() });
        TableSchema::Columns(columns.collect())
    }

    const HEADER: &str = "{type: DelimitedText, firstRowAsHeader: true}";
    const PLAIN: &str = "{type: DelimitedText}";

    fn ordinals(plan: &Plan) -> Vec<(String, MappedSource)> {
        match plan.ingest_mapping() {
            IngestMapping::Inline(columns) => columns.into_iter().map(|c| (c.column, c.source)).collect(),
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn by_name_follows_the_samples_order() {
        let (plan, warnings) = plan(
            &activity(HEADER, "{by: name}"),
            &sample(&[("a", "long"), ("b", "string")]),
            &table(&[("b", "string"), ("a", "long"), ("c", "real")]),
        )
        .unwrap();
        assert!(warnings[0].contains("stay empty: c"), "{warnings:?}");
        let at = |c: &str, n| (c.to_owned(), MappedSource::Ordinal(n));
        // A column that the table has and the sample lacks comes after the others, in files that have it.
        assert_eq!(ordinals(&plan), [at("a", 0), at("b", 1), at("c", 2)]);
        assert_eq!((plan.copy.layout, plan.copy.late), (vec!["a".to_owned(), "b".to_owned()], vec!["c".to_owned()]));
    }

    #[test]
    fn by_order_where_there_are_no_names() {
        let (plan, _) = plan(
            &activity(PLAIN, "{by: name}"),
            &sample(&[("Column1", "long")]),
            &table(&[("x", "long"), ("y", "long")]),
        )
        .unwrap();
        assert_eq!(ordinals(&plan), [("x".to_owned(), MappedSource::Ordinal(0))]);
        assert_eq!(plan.copy.fields_expected, 1);
    }

    #[test]
    fn json_maps_by_path() {
        let (plan, _) =
            plan(&activity("{type: Json}", "{by: name}"), &sample(&[("it's", "long")]), &table(&[("it's", "long")]))
                .unwrap();
        assert_eq!(ordinals(&plan), [("it's".to_owned(), MappedSource::Path(r"$['it\'s']".to_owned()))]);
    }

    #[test]
    fn names_that_match_nothing_are_told_before_anything_is_staged() {
        let columns = |source: &str, sink: &str| format!("{{columns: [{{source: {source}, sink: {{name: {sink}}}}}]}}");
        for (case, format, mapping, words) in [
            ("stray source column", HEADER, "{by: name}".to_owned(), "source columns s have no column"),
            ("missing sink column", HEADER, columns("{name: s}", "nope"), "names table column \"nope\""),
            ("missing source column", HEADER, columns("{name: nope}", "t"), "names source column \"nope\""),
            ("field beyond the record", PLAIN, columns("{ordinal: 3}", "t"), "asks for field 3"),
            ("more fields than columns", PLAIN, "{by: name}".to_owned(), "records have 2 fields"),
        ] {
            let seen = if format == PLAIN {
                sample(&[("Column1", "long"), ("Column2", "long")])
            } else {
                sample(&[("s", "long")])
            };
            let failure = plan(&activity(format, &mapping), &seen, &table(&[("t", "long")])).unwrap_err();
            assert_eq!(failure.code, Code::MappingColumnMissing, "{case}");
            assert!(failure.message.contains(words), "{case}: {failure}");
        }
    }

    #[test]
    fn a_hidden_table_is_a_warning_and_no_obstacle() {
        for format in [HEADER, PLAIN, "{type: Json}"] {
            let (_, warnings) =
                plan(&activity(format, "{by: name}"), &sample(&[("s", "long")]), &TableSchema::Hidden).unwrap();
            assert_eq!(warnings.len(), 1);
        }
    }

    #[test]
    fn a_created_table_has_the_samples_columns_and_keeps_its_own() {
        let (sample, table) = (sample(&[("a", "long"), ("b", "datetime")]), table(&[("b", "string")]));
        let columns = columns_to_create(&activity(HEADER, "{by: name}"), &sample, &table).unwrap();
        let kinds: Vec<_> = columns.iter().map(|c| (c.name.as_str(), c.kind.as_str())).collect();
        assert_eq!(kinds, [("a", "long"), ("b", "string")]);
        let mapped =
            "{columns: [{source: {name: a}, sink: {name: x}}, {source: {ordinal: 2}, sink: {name: y, type: string}}]}";
        let columns = columns_to_create(&activity(HEADER, mapped), &sample, &table).unwrap();
        let kinds: Vec<_> = columns.iter().map(|c| (c.name.as_str(), c.kind.as_str())).collect();
        assert_eq!(kinds, [("x", "long"), ("y", "string")]);
        assert!(columns_to_create(&activity(HEADER, "{by: name}"), &[], &table).is_err());
    }

    #[test]
    fn an_extended_table_keeps_its_columns_in_their_places() {
        let columns = |schema: TableSchema| match schema {
            TableSchema::Columns(columns) => columns.into_iter().map(|c| (c.name, c.kind)).collect::<Vec<_>>(),
            TableSchema::Hidden => panic!("its columns are known"),
        };
        let pair = |name: &str, kind: &str| (name.to_owned(), kind.to_owned());
        let TableSchema::Columns(new) = table(&[("a", "long"), ("b", "real")]) else { unreachable!() };
        let known = table(&[("b", "string"), ("c", "long")]);
        assert_eq!(columns(extended(Some(&known), &new)), [pair("b", "string"), pair("c", "long"), pair("a", "long")]);
        for table in [None, Some(TableSchema::Hidden)] {
            assert_eq!(columns(extended(table.as_ref(), &new)), [pair("a", "long"), pair("b", "real")]);
        }
    }

    #[test]
    fn a_schema_is_read_with_odd_names() {
        let columns = parse_cslschema(r"a:long,['b c']:string, ['it\'s']:real");
        let pairs: Vec<_> = columns.iter().map(|c| (c.name.as_str(), c.kind.as_str())).collect();
        assert_eq!(pairs, [("a", "long"), ("b c", "string"), ("it's", "real")]);
    }
}
