//! Which of a file's fields are staged, in which order, and how each is judged. Made once a file, when its columns are
//! known.

use super::{Check, DateFormat, JsonPath, VALUE_BYTES_MAX, Verdict};
use crate::record::{FormatError, Place, write_field};
use ferry_common::{
    activity,
    plan::{ColumnFrom, CopyColumn, CopyPlan},
    scalar::ScalarType,
};
use std::collections::HashSet;

/// What is known of a file beside its bytes.
#[derive(Debug, Clone, Default)]
pub struct FileFacts {
    /// Its path below the source folder; an archive's member with the archive's.
    pub relative_path: String,
    /// Columns that the settings add, in order: name and value.
    pub added: Vec<(String, Added)>,
}

/// The value of an added column.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Added {
    /// A text, the same for each record.
    Text(String),
    /// The value of another column.
    Column(String),
}

impl FileFacts {
    /// The facts of the file at `relative_path` of this source.
    pub fn of(source: &activity::Source, relative_path: &str) -> Self {
        let name = relative_path.rsplit('/').next().unwrap_or_default();
        let mut added: Vec<_> = source
            .additional_columns
            .iter()
            .map(|column| {
                let value = match column.value.as_str() {
                    "$$FILEPATH" => Added::Text(relative_path.to_owned()),
                    "$$FILENAME" => Added::Text(name.to_owned()),
                    other => match other.strip_prefix("$$COLUMN:") {
                        Some(of) => Added::Column(of.to_owned()),
                        None => Added::Text(other.to_owned()),
                    },
                };
                (column.name.clone(), value)
            })
            .collect();
        if source.enable_partition_discovery {
            for (key, value) in crate::partition::partitions(relative_path) {
                if added.iter().all(|(name, _)| *name != key) {
                    added.push((key, Added::Text(value)));
                }
            }
        }
        Self { relative_path: relative_path.to_owned(), added }
    }
}

/// Where a staged field comes from.
#[derive(Debug, Clone, PartialEq)]
pub enum Source {
    /// The record's field at this index.
    Field(u32),
    /// A path in the JSON record.
    Path(JsonPath),
    /// The same text for each record.
    Text(Vec<u8>),
    /// Nothing: the file lacks the column.
    Nothing,
}

/// One staged field.
#[derive(Debug, Clone, PartialEq)]
pub struct Out {
    /// The table's column, or the source's where the table's is not known.
    pub column: String,
    /// Where it comes from.
    pub source: Source,
    /// How its values are judged; `None`: not at all.
    pub check: Option<Check>,
}

/// Which fields of one file are staged.
#[derive(Debug, Clone, PartialEq)]
pub struct Projection {
    /// Staged fields, in order.
    pub outs: Vec<Out>,
    /// Records can be staged as they stand: `outs` are their fields in order, and then texts.
    pub keeps_records: bool,
    /// What a record that is kept gets at its end, before the line end.
    pub suffix: Vec<u8>,
    /// Arrays and objects may go into string columns.
    pub complex_to_string: bool,
    /// Fields that are judged when records are kept: index and place in `outs`.
    pub judged: Vec<(u32, usize)>,
    /// The field with the date of each record's extent.
    pub day_field: Option<u32>,
    /// How that date is written.
    pub day_format: Option<DateFormat>,
}

fn header(why: String) -> FormatError {
    FormatError::Header { why }
}

impl Projection {
    /// The projection for a file whose records have fields of these names, or none where `names` is `None`.
    ///
    /// Fails when names and plan do not agree.
    pub fn of_fields(
        plan: &CopyPlan,
        names: Option<&[String]>,
        facts: &FileFacts,
        check_values: bool,
        day_column: Option<&str>,
    ) -> Result<Self, FormatError> {
        if let Some(names) = names {
            check_names(plan, names, facts)?;
        }
        let field_of = |name: &str| names?.iter().position(|n| n == name).map(|at| at as u32);
        let source_of = |from: &ColumnFrom| -> Source {
            match from {
                ColumnFrom::Ordinal(at) => Source::Field(*at),
                ColumnFrom::Path(_) => Source::Nothing,
                ColumnFrom::Name(name) => match facts.added.iter().find(|(n, _)| n == name) {
                    Some((_, Added::Text(text))) => Source::Text(text.clone().into_bytes()),
                    Some((_, Added::Column(of))) => field_of(of).map_or(Source::Nothing, Source::Field),
                    None => field_of(name).map_or(Source::Nothing, Source::Field),
                },
            }
        };
        let check_of = |column: &CopyColumn| check_of(plan, column, ScalarType::String, check_values);
        let mut outs = Vec::new();
        if plan.rewrites {
            for column in &plan.columns {
                let source = source_of(&column.source);
                outs.push(Out { column: column.name.clone(), check: check_of(column)?, source });
            }
        } else {
            // Staged in the layout's order; the columns tell the types.
            let width = match names {
                Some(names) if plan.layout.is_empty() => names.len(),
                _ if plan.layout.is_empty() => plan.fields_expected as usize,
                _ => plan.layout.len(),
            };
            let has_late = names.is_some_and(|names| names.iter().any(|n| plan.late.contains(n)));
            let layout: Vec<&String> = plan.layout.iter().chain(plan.late.iter().filter(|_| has_late)).collect();
            let width = if layout.is_empty() { width } else { layout.len() };
            for at in 0..width {
                let name = layout.get(at).copied().or_else(|| names?.get(at));
                let of_this = plan.columns.iter().find(|c| match &c.source {
                    ColumnFrom::Name(n) => Some(n) == name,
                    ColumnFrom::Ordinal(n) => *n as usize == at,
                    ColumnFrom::Path(_) => false,
                });
                let is_added = |name: &String| facts.added.iter().any(|(n, _)| n == name);
                let source = match name {
                    Some(name) if names.is_some() || is_added(name) => source_of(&ColumnFrom::Name(name.clone())),
                    _ => Source::Field(at as u32),
                };
                outs.push(Out {
                    column: of_this
                        .map(|c| c.name.clone())
                        .or_else(|| name.cloned())
                        .unwrap_or_else(|| format!("field {}", at + 1)),
                    // A field that goes nowhere is nobody's business.
                    check: match of_this {
                        Some(column) => check_of(column)?,
                        None => None,
                    },
                    source,
                });
            }
        }
        let day_field = match day_column {
            None => None,
            Some(name) => {
                let by_number = || name.parse::<u32>().ok().filter(|_| names.is_none()).map(|n| n.saturating_sub(1));
                let field = field_of(name).or_else(by_number);
                Some(
                    field
                        .ok_or_else(|| header(format!("sink.creationTime.column {name:?} is no column of the file")))?,
                )
            }
        };
        let mut projection = Self::new(outs, plan);
        projection.day_field = day_field;
        projection.day_format =
            plan.conversion.date_time_format.as_deref().map(DateFormat::parse).transpose().map_err(header)?;
        // Kept as it stands: every field of the file, in order, and then texts only.
        let fields = projection.outs.iter().take_while(|o| matches!(o.source, Source::Field(_))).count();
        let in_order = projection.outs[..fields].iter().zip(0..).all(|(o, at)| o.source == Source::Field(at));
        let rest_is_text = projection.outs[fields..].iter().all(|o| matches!(o.source, Source::Text(_)));
        let width_fits = names.is_none_or(|n| n.len() == fields);
        projection.keeps_records = !plan.rewrites && in_order && rest_is_text && width_fits;
        if projection.keeps_records {
            for out in &projection.outs[fields..] {
                if let Source::Text(text) = &out.source {
                    projection.suffix.push(b',');
                    let mut scratch = Vec::new();
                    let text = out.judged(Some(text), Place::START, &mut scratch)?.unwrap_or_default();
                    write_field(text, &mut projection.suffix);
                }
            }
        }
        Ok(projection)
    }

    /// The projection for JSON records.
    pub fn of_objects(plan: &CopyPlan, facts: &FileFacts, check_values: bool) -> Result<Self, FormatError> {
        let mut outs = Vec::new();
        for column in &plan.columns {
            let named = |name: &str| JsonPath {
                is_absolute: plan.collection.is_none(),
                steps: vec![super::Step::Key(name.to_owned())],
            };
            let source = match &column.source {
                ColumnFrom::Name(name) => match facts.added.iter().find(|(n, _)| n == name) {
                    Some((_, Added::Text(text))) => Source::Text(text.clone().into_bytes()),
                    Some((_, Added::Column(of))) => Source::Path(named(of)),
                    None => Source::Path(named(name)),
                },
                ColumnFrom::Path(path) => Source::Path(
                    JsonPath::parse(path).ok_or_else(|| header(format!("{path:?} is no JSON path such as $.a.b")))?,
                ),
                ColumnFrom::Ordinal(_) => Source::Nothing,
            };
            let check = check_of(plan, column, ScalarType::Dynamic, check_values || plan.rewrites)?;
            outs.push(Out { column: column.name.clone(), source, check });
        }
        Ok(Self::new(outs, plan))
    }

    fn new(outs: Vec<Out>, plan: &CopyPlan) -> Self {
        let judged = outs
            .iter()
            .enumerate()
            .filter_map(|(at, out)| match (&out.source, &out.check) {
                (Source::Field(field), Some(check)) if !check.takes_any_text() => Some((*field, at)),
                _ => None,
            })
            .collect();
        Self {
            outs,
            keeps_records: false,
            suffix: Vec::new(),
            complex_to_string: plan.complex_to_string,
            judged,
            day_field: None,
            day_format: None,
        }
    }

    /// Writes one record anew. `value` gives a field's value; `None` is null.
    pub fn write<'v>(
        &self,
        value: impl Fn(u32) -> Option<&'v [u8]>,
        at: Place,
        scratch: &mut Vec<u8>,
        out: &mut Vec<u8>,
    ) -> Result<(), FormatError> {
        let begin = out.len();
        for (number, column) in self.outs.iter().enumerate() {
            if number > 0 {
                out.push(b',');
            }
            let text = match &column.source {
                Source::Field(index) => value(*index),
                Source::Text(text) => Some(text.as_slice()),
                Source::Path(_) | Source::Nothing => None,
            };
            match column.judged(text, at, scratch) {
                Ok(Some(text)) => write_field(text, out),
                Ok(None) => {}
                Err(error) => {
                    out.truncate(begin);
                    return Err(error);
                }
            }
        }
        if out.len() == begin {
            // One empty value alone would be an empty line, which is no record.
            out.extend_from_slice(b"\"\"");
        }
        out.push(b'\n');
        Ok(())
    }
}

impl Out {
    /// A value as it is staged.
    pub fn judged<'v>(
        &self,
        text: Option<&'v [u8]>,
        at: Place,
        scratch: &'v mut Vec<u8>,
    ) -> Result<Option<&'v [u8]>, FormatError> {
        let Some(text) = text else { return Ok(None) };
        let verdict = match &self.check {
            Some(check) => check.judge(text, scratch),
            None if text.len() > VALUE_BYTES_MAX => Verdict::Bad("is longer than the 1 MB that a value may have"),
            None => Verdict::Fits,
        };
        match verdict {
            Verdict::Fits => Ok(Some(text)),
            Verdict::Becomes => Ok(Some(scratch)),
            Verdict::Bad(why) => Err(self.bad(text, at, why)),
        }
    }

    /// The error of a value that does not fit.
    pub fn bad(&self, text: &[u8], at: Place, why: &str) -> FormatError {
        /// Bytes of a value that a message shows.
        const SHOWN_MAX: usize = 100;
        let text = String::from_utf8_lossy(text);
        let end = text.char_indices().map(|(at, _)| at).find(|at| *at >= SHOWN_MAX).unwrap_or(text.len());
        let value = if end < text.len() { format!("{}...", &text[..end]) } else { text.into_owned() };
        let kind = match &self.check {
            Some(check) if !check.takes_any_text() => format!("{why} (type {})", check.kind),
            _ => why.to_owned(),
        };
        FormatError::BadValue { line: at.line, byte: at.byte, column: self.column.clone(), value, why: kind }
    }
}

/// How values of a column are judged: all where `checks`, else those that a date's format must bring into shape. A column
/// without a type is of `default`.
fn check_of(
    plan: &CopyPlan,
    column: &CopyColumn,
    default: ScalarType,
    checks: bool,
) -> Result<Option<Check>, FormatError> {
    let format = column.format.as_ref().or(plan.conversion.date_time_format.as_ref());
    let format = format.map(|f| DateFormat::parse(f)).transpose().map_err(header)?;
    let kind = column.kind.unwrap_or(default);
    let must = format.is_some() && kind == ScalarType::DateTime;
    Ok((checks || must).then(|| Check::new(kind, format, &plan.conversion)))
}

/// Holds the names of a file's columns against the plan.
fn check_names(plan: &CopyPlan, names: &[String], facts: &FileFacts) -> Result<(), FormatError> {
    let mut seen = HashSet::new();
    if let Some(twice) = names.iter().find(|c| !seen.insert(*c)) {
        return Err(header(format!("the file names column {twice:?} twice")));
    }
    let has = shown(names);
    let is_added = |name: &String| facts.added.iter().any(|(n, _)| n == name);
    if let Some(clash) = names.iter().find(|n| is_added(n)) {
        return Err(header(format!(
            "column {clash:?} is in the file and among source.additionalColumns or its folders"
        )));
    }
    let missing: Vec<_> = plan.required.iter().filter(|c| !names.contains(c) && !is_added(c)).cloned().collect();
    if !missing.is_empty() {
        return Err(header(format!(
            "the file lacks columns {} that the mapping names; it has: {has}",
            missing.join(", ")
        )));
    }
    let copied = facts.added.iter().filter_map(|(_, a)| if let Added::Column(of) = a { Some(of) } else { None });
    if let Some(of) = copied.into_iter().find(|of| !names.contains(of)) {
        return Err(header(format!(
            "source.additionalColumns names column {of:?}, which the file lacks; it has: {has}"
        )));
    }
    if plan.ignores_unknown || plan.layout.is_empty() {
        return Ok(());
    }
    let unknown: Vec<_> = names
        .iter()
        .filter(|n| !plan.layout.contains(n) && !plan.late.contains(n) && !plan.ignored.contains(n))
        .cloned()
        .collect();
    if !unknown.is_empty() {
        return Err(header(format!(
            "the file has columns {} that the table and the other files do not have; known are: {}. Is this file without \
             a header row? Else list the columns to copy in sink.mapping.columns, or set sink.schemaDrift",
            shown(&unknown),
            shown(&plan.layout)
        )));
    }
    Ok(())
}

/// Names for a message: a file that is no text must not fill the log with its bytes.
fn shown(names: &[String]) -> String {
    /// Characters that a message shows.
    const SHOWN_MAX: usize = 500;
    let all: String = names.join(", ").chars().map(|c| if c.is_control() { '\u{fffd}' } else { c }).collect();
    match all.char_indices().nth(SHOWN_MAX) {
        Some((end, _)) => format!("{}...", &all[..end]),
        None => all,
    }
}
