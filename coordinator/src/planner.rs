//! Turns what is known of source and table into a plan: which column comes from where. Pure.
//!
//! Azure Data Explorer validates nothing loudly: a name that does not match becomes nulls. So every name is held against
//! the table and the sample here, before a byte is staged.

use ferry_common::{
    activity::{Activity, ColumnMapping, FormatType, Mapping},
    failure::{Code, Failure, Fault, Retry},
    unit::SampleColumn,
};
use ferry_kusto::commands::{IngestMapping, MappedColumn, MappedSource, TableColumn};
use serde::{Deserialize, Serialize};

/// How records of every file become columns.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Plan {
    /// Which column comes from where.
    pub mapping: PlannedMapping,
    /// Names that a header row may hold; empty: any.
    pub columns_known: Vec<String>,
    /// Names that a header row must hold.
    pub columns_required: Vec<String>,
    /// Fields of a record without a header; 0: as the first record.
    pub fields_expected: u32,
}

/// Which column comes from where.
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

/// Where a column comes from.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum PlannedSource {
    /// The column of this name in each file's header row.
    Name(String),
    /// Position in the record, from 0.
    Ordinal(u32),
    /// Path in the JSON record.
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
    let kind_of = |source: Option<&str>| {
        source.and_then(|name| sample.iter().find(|c| c.name == name)).map_or("string", |c| c.kind.as_str()).to_owned()
    };
    let columns: Vec<TableColumn> = match &activity.sink.mapping.columns {
        Some(mapped) => mapped
            .iter()
            .map(|m| {
                let by_ordinal = m.source.ordinal.and_then(|n| sample.get(n as usize - 1)).map(|c| c.name.as_str());
                let source = m.source.name.as_deref().or(by_ordinal);
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

/// The plan, and what the user should know of it.
pub fn plan(activity: &Activity, sample: &[SampleColumn], table: &TableSchema) -> Result<(Plan, Vec<String>), Failure> {
    let mapping = &activity.sink.mapping;
    let nothing = Plan {
        mapping: PlannedMapping::Order,
        columns_known: Vec::new(),
        columns_required: Vec::new(),
        fields_expected: 0,
    };
    match mapping {
        Mapping { reference: Some(reference), .. } => {
            Ok((Plan { mapping: PlannedMapping::Reference(reference.clone()), ..nothing }, Vec::new()))
        }
        Mapping { columns: Some(columns), .. } => plan_columns(activity, columns, sample, table, nothing),
        _ => match activity.source.format.kind {
            FormatType::DelimitedText if !activity.source.format.has_header() => {
                plan_order(activity, sample, table, nothing)
            }
            _ => plan_names(activity, sample, table, nothing),
        },
    }
}

fn missing(message: String) -> Failure {
    Failure::settings(Code::MappingColumnMissing, message)
}

fn plan_columns(
    activity: &Activity,
    columns: &[ColumnMapping],
    sample: &[SampleColumn],
    table: &TableSchema,
    nothing: Plan,
) -> Result<(Plan, Vec<String>), Failure> {
    let is_json = activity.source.format.kind == FormatType::Json;
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
                if is_json {
                    if !is_seen {
                        warnings.push(format!(
                            "no sampled record has property {name:?}; column {:?} may stay empty",
                            mapped.sink.name
                        ));
                    }
                    PlannedSource::Path(json_path(name))
                } else {
                    if !is_seen && !sample.is_empty() {
                        let names: Vec<_> = sample.iter().map(|c| c.name.as_str()).collect();
                        return Err(missing(format!(
                            "sink.mapping.columns names source column {name:?}, but the header rows have: {}",
                            names.join(", ")
                        )));
                    }
                    required.push(name.clone());
                    PlannedSource::Name(name.clone())
                }
            }
            (_, Some(ordinal), _) => {
                if !sample.is_empty() && ordinal as usize > sample.len() {
                    return Err(missing(format!(
                        "sink.mapping.columns asks for field {ordinal}, but records have {} fields",
                        sample.len()
                    )));
                }
                PlannedSource::Ordinal(ordinal.saturating_sub(1))
            }
            (_, _, path) => PlannedSource::Path(path.clone().unwrap_or_default()),
        };
        let kind = known.map(|c| c.kind.clone()).or(mapped.sink.kind.clone());
        planned.push(PlannedColumn { column: mapped.sink.name.clone(), kind, source });
    }
    Ok((Plan { mapping: PlannedMapping::Columns(planned), columns_required: required, ..nothing }, warnings))
}

/// By order: the first field into the first column, and so on.
fn plan_order(
    activity: &Activity,
    sample: &[SampleColumn],
    table: &TableSchema,
    nothing: Plan,
) -> Result<(Plan, Vec<String>), Failure> {
    let TableSchema::Columns(columns) = table else {
        return Ok((nothing, vec![hidden_warning(activity)]));
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
    let planned = columns[..width].iter().zip(0..).map(|(c, at)| PlannedColumn {
        column: c.name.clone(),
        kind: Some(c.kind.clone()),
        source: PlannedSource::Ordinal(at),
    });
    Ok((
        Plan { mapping: PlannedMapping::Columns(planned.collect()), fields_expected: sample.len() as u32, ..nothing },
        warnings,
    ))
}

/// By name: each source column into the table column of the same name.
fn plan_names(
    activity: &Activity,
    sample: &[SampleColumn],
    table: &TableSchema,
    nothing: Plan,
) -> Result<(Plan, Vec<String>), Failure> {
    let is_json = activity.source.format.kind == FormatType::Json;
    let mut warnings = Vec::new();
    match table {
        TableSchema::Hidden => warnings.push(hidden_warning(activity)),
        TableSchema::Columns(columns) => {
            let stray: Vec<_> =
                sample.iter().filter(|c| table.column(&c.name).is_none()).map(|c| c.name.as_str()).collect();
            if !stray.is_empty() {
                return Err(missing(format!(
                    "source columns {} have no column of that name in table {}, which has: {}; set sink.createTable: true \
                     to add them, or list the columns to copy in sink.mapping.columns",
                    stray.join(", "),
                    activity.sink.table,
                    names_of(table)
                )));
            }
            let empty: Vec<_> =
                columns.iter().filter(|c| sample.iter().all(|s| s.name != c.name)).map(|c| c.name.as_str()).collect();
            if !empty.is_empty() && !sample.is_empty() {
                warnings.push(format!(
                    "table columns without a source column of that name stay empty: {}",
                    empty.join(", ")
                ));
            }
        }
    }
    let planned = |name: &str| PlannedColumn {
        column: name.to_owned(),
        kind: table.column(name).map(|c| c.kind.clone()),
        source: if is_json { PlannedSource::Path(json_path(name)) } else { PlannedSource::Name(name.to_owned()) },
    };
    // Files may have columns that the sample did not see: what the table has is known, too.
    let mut known: Vec<String> = sample.iter().map(|c| c.name.clone()).collect();
    if let TableSchema::Columns(columns) = table {
        known.extend(columns.iter().map(|c| c.name.clone()).filter(|name| !known.contains(name)).collect::<Vec<_>>());
    }
    let mapping = PlannedMapping::Columns(known.iter().map(|name| planned(name)).collect());
    Ok((Plan { mapping, columns_known: if is_json { Vec::new() } else { known }, ..nothing }, warnings))
}

fn hidden_warning(activity: &Activity) -> String {
    format!(
        "the columns of table {} may not be looked at; names that do not match it become nulls",
        activity.sink.table
    )
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
    /// The inline mapping for a file whose header row has these names. A column that the file lacks is left out.
    pub fn mapping_for(&self, header: &[String]) -> IngestMapping {
        let columns = match &self.mapping {
            PlannedMapping::Order => return IngestMapping::None,
            PlannedMapping::Reference(reference) => return IngestMapping::Reference(reference.clone()),
            PlannedMapping::Columns(columns) => columns,
        };
        let mapped = columns.iter().filter_map(|c| {
            let source = match &c.source {
                PlannedSource::Name(name) => {
                    MappedSource::Ordinal(u32::try_from(header.iter().position(|h| h == name)?).ok()?)
                }
                PlannedSource::Ordinal(at) => MappedSource::Ordinal(*at),
                PlannedSource::Path(path) => MappedSource::Path(path.clone()),
            };
            Some(MappedColumn { column: c.column.clone(), kind: c.kind.clone(), source })
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
        columns.iter().map(|(n, k)| SampleColumn { name: (*n).to_owned(), kind: (*k).to_owned() }).collect()
    }

    fn table(columns: &[(&str, &str)]) -> TableSchema {
        let columns = columns.iter().map(|(n, k)| TableColumn { name: (*n).to_owned(), kind: (*k).to_owned() });
        TableSchema::Columns(columns.collect())
    }

    const HEADER: &str = "{type: DelimitedText, firstRowAsHeader: true}";
    const PLAIN: &str = "{type: DelimitedText}";

    fn ordinals(plan: &Plan, header: &[&str]) -> Vec<(String, MappedSource)> {
        let header: Vec<_> = header.iter().map(|h| (*h).to_owned()).collect();
        match plan.mapping_for(&header) {
            IngestMapping::Inline(columns) => columns.into_iter().map(|c| (c.column, c.source)).collect(),
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn by_name_follows_each_files_own_order() {
        let (plan, warnings) = plan(
            &activity(HEADER, "{by: name}"),
            &sample(&[("a", "long"), ("b", "string")]),
            &table(&[("b", "string"), ("a", "long"), ("c", "real")]),
        )
        .unwrap();
        assert!(warnings[0].contains("stay empty: c"), "{warnings:?}");
        let at = |c: &str, n| (c.to_owned(), MappedSource::Ordinal(n));
        assert_eq!(ordinals(&plan, &["b", "a"]), [at("a", 1), at("b", 0)]);
        assert_eq!(ordinals(&plan, &["a", "c"]), [at("a", 0), at("c", 1)]);
        assert_eq!(plan.columns_known, ["a", "b", "c"]);
    }

    #[test]
    fn by_order_where_there_are_no_names() {
        let (plan, _) = plan(
            &activity(PLAIN, "{by: name}"),
            &sample(&[("Column1", "long")]),
            &table(&[("x", "long"), ("y", "long")]),
        )
        .unwrap();
        assert_eq!(ordinals(&plan, &[]), [("x".to_owned(), MappedSource::Ordinal(0))]);
        assert_eq!(plan.fields_expected, 1);
    }

    #[test]
    fn json_maps_by_path() {
        let (plan, _) =
            plan(&activity("{type: Json}", "{by: name}"), &sample(&[("it's", "long")]), &table(&[("it's", "long")]))
                .unwrap();
        assert_eq!(ordinals(&plan, &[]), [("it's".to_owned(), MappedSource::Path(r"$['it\'s']".to_owned()))]);
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
    fn a_schema_is_read_with_odd_names() {
        let columns = parse_cslschema(r"a:long,['b c']:string, ['it\'s']:real");
        let pairs: Vec<_> = columns.iter().map(|c| (c.name.as_str(), c.kind.as_str())).collect();
        assert_eq!(pairs, [("a", "long"), ("b c", "string"), ("it's", "real")]);
    }
}
