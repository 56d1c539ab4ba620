//! Tabular operators.

use super::{
    aggregate::{Groups, aggregate, default_name},
    ast::{Expr, Named, Operator, SortKey, Source},
    eval::{eval, to_kind, truth},
};
use crate::{
    error::AdxError,
    frame::{Col, Frame},
    types::Kind,
};
use arrow::{
    array::UInt32Array,
    compute::{SortColumn, SortOptions, lexsort_to_indices},
    row::{OwnedRow, RowConverter, SortField},
};
use std::{
    collections::{BTreeSet, HashMap, hash_map::Entry},
    sync::Arc,
};

/// Rows that `range` may make.
const RANGE_ROWS_MAX: i64 = 10_000_000;

/// Rows of a source that is no table.
pub fn source_frame(source: &Source) -> Result<Frame, AdxError> {
    let one_row = Frame { rows: 1, ..Frame::default() };
    match source {
        Source::Print(list) => {
            let mut columns = Vec::new();
            for (at, (name, expr)) in list.iter().enumerate() {
                columns.push((name.clone().unwrap_or_else(|| format!("print_{at}")), eval(expr, &one_row)?));
            }
            Ok(Frame::new(columns))
        }
        Source::Range { name, from, to, step } => {
            let value = |expr| Ok::<_, AdxError>(to_kind(&eval(expr, &one_row)?, Kind::Long).longs().value(0));
            let kind = eval(from, &one_row)?.kind;
            let (from, to, step) = (value(from)?, value(to)?, value(step)?);
            let span = to.checked_sub(from).filter(|span| span / step.max(1) <= RANGE_ROWS_MAX);
            if step <= 0 || span.is_none() || !kind.is_integral() {
                return Err(AdxError::not_supported("this range is not supported by local-adx"));
            }
            let next = |v: &i64| v.checked_add(step);
            let values = std::iter::successors(Some(from), next).take_while(|v| *v <= to).map(Some);
            Ok(Frame::new(vec![(name.clone(), Col::integral(kind, values))]))
        }
        Source::Table(name) => Err(AdxError::internal(format!("table {name} is read elsewhere"))),
    }
}

/// Columns that a pipeline needs of its table; `None`: all.
pub fn needed_columns(operators: &[Operator]) -> Option<BTreeSet<String>> {
    let mut needed = BTreeSet::new();
    for operator in operators {
        match operator {
            Operator::Where(expr) => names_in(expr, &mut needed)?,
            Operator::Extend(list) => list.iter().try_for_each(|(_, e)| names_in(e, &mut needed))?,
            Operator::Sort(keys) | Operator::Top(_, keys) => {
                keys.iter().try_for_each(|k| names_in(&k.expr, &mut needed))?
            }
            Operator::Take(_) => {}
            Operator::Project(list) => {
                list.iter().try_for_each(|(_, e)| names_in(e, &mut needed))?;
                return Some(needed);
            }
            Operator::Summarize { aggregates, by } => {
                aggregates.iter().chain(by).try_for_each(|(_, e)| names_in(e, &mut needed))?;
                return Some(needed);
            }
            Operator::Distinct(list) => {
                list.iter().try_for_each(|e| names_in(e, &mut needed))?;
                return Some(needed);
            }
            Operator::Count => return Some(needed),
            Operator::ProjectAway(_) | Operator::ProjectRename(_) | Operator::GetSchema => return None,
        }
    }
    None
}

fn names_in(expr: &Expr, names: &mut BTreeSet<String>) -> Option<()> {
    match expr {
        Expr::Star => return None,
        Expr::Lit(_) => {}
        Expr::Name(name) => drop(names.insert(name.clone())),
        Expr::Member(inner, _) | Expr::Neg(inner) => names_in(inner, names)?,
        Expr::Index(a, b) | Expr::Binary(_, a, b) | Expr::Text(_, a, b) => {
            names_in(a, names)?;
            names_in(b, names)?;
        }
        Expr::In { value, list, .. } => {
            names_in(value, names)?;
            list.iter().try_for_each(|e| names_in(e, names))?;
        }
        Expr::Between { value, low, high, .. } => {
            [value, low, high].into_iter().try_for_each(|e| names_in(e, names))?;
        }
        Expr::Call(_, args) => args.iter().try_for_each(|e| names_in(e, names))?,
    }
    Some(())
}

/// Runs operators over parts of a table: what works row by row is done part by part.
pub fn run_operators(
    parts: impl IntoIterator<Item = Result<Frame, AdxError>>,
    operators: &[Operator],
) -> Result<Frame, AdxError> {
    let by_row = |o: &&Operator| {
        matches!(
            o,
            Operator::Where(_)
                | Operator::Extend(_)
                | Operator::Project(_)
                | Operator::ProjectAway(_)
                | Operator::ProjectRename(_)
        )
    };
    let (first, rest) = operators.split_at(operators.iter().take_while(by_row).count());
    let mut frames = Vec::new();
    for part in parts {
        frames.push(first.iter().try_fold(part?, run)?);
    }
    rest.iter().try_fold(Frame::concat(&frames)?, run)
}

fn run(frame: Frame, operator: &Operator) -> Result<Frame, AdxError> {
    match operator {
        Operator::Where(test) => frame.filter(&truth(&eval(test, &frame)?)?),
        Operator::Extend(list) => extend(frame, list),
        Operator::Project(list) => {
            let columns = named_columns(&frame, list)?;
            Ok(Frame { rows: frame.rows, ..Frame::new(columns) })
        }
        Operator::ProjectAway(names) => {
            let kept = frame.names.into_iter().zip(frame.cols).filter(|(name, _)| !names.contains(name));
            Ok(Frame { rows: frame.rows, ..Frame::new(kept.collect()) })
        }
        Operator::ProjectRename(renames) => {
            let mut frame = frame;
            for (to, from) in renames {
                match frame.names.iter().position(|n| n == from) {
                    Some(at) => frame.names[at].clone_from(to),
                    None => return Err(AdxError::semantic(format!("Semantic error: no column '{from}' to rename"))),
                }
            }
            Ok(frame)
        }
        Operator::Summarize { aggregates, by } => summarize(&frame, aggregates, by),
        Operator::Sort(keys) => sort(&frame, keys, None),
        Operator::Top(count, keys) => sort(&frame, keys, Some(*count)),
        Operator::Take(count) => Ok(frame.head(*count)),
        Operator::Count => {
            Ok(Frame::new(vec![("Count".to_owned(), Col::integral(Kind::Long, [Some(frame.rows as i64)]))]))
        }
        Operator::Distinct(list) => {
            let by: Vec<Named> = match list.as_slice() {
                [Expr::Star] => frame.names.iter().map(|n| (None, Expr::Name(n.clone()))).collect(),
                list => list.iter().map(|e| (None, e.clone())).collect(),
            };
            summarize(&frame, &[], &by)
        }
        Operator::GetSchema => Ok(schema(&frame)),
    }
}

fn schema(frame: &Frame) -> Frame {
    let kinds = || frame.cols.iter().map(|c| c.kind);
    Frame::new(vec![
        ("ColumnName".to_owned(), Col::text(Kind::String, frame.names.iter().map(Some))),
        ("ColumnOrdinal".to_owned(), Col::integral(Kind::Long, (0..frame.names.len()).map(|n| Some(n as i64)))),
        ("DataType".to_owned(), Col::text(Kind::String, kinds().map(|k| Some(format!("System.{}", k.net_name()))))),
        ("ColumnType".to_owned(), Col::text(Kind::String, kinds().map(|k| Some(k.name())))),
    ])
}

/// Columns of a list, unnamed ones named as the service names them.
fn named_columns(frame: &Frame, list: &[Named]) -> Result<Vec<(String, Col)>, AdxError> {
    let mut unnamed = 0;
    let mut columns: Vec<(String, Col)> = Vec::with_capacity(list.len());
    for (name, expr) in list {
        let name = name.clone().or_else(|| default_name(expr)).unwrap_or_else(|| {
            unnamed += 1;
            format!("Column{unnamed}")
        });
        columns.push((unique(name, columns.iter().map(|(n, _)| n.as_str())), eval(expr, frame)?));
    }
    Ok(columns)
}

fn unique<'a>(name: String, taken: impl Iterator<Item = &'a str> + Clone) -> String {
    if !taken.clone().any(|t| t == name) {
        return name;
    }
    (1..).map(|n| format!("{name}{n}")).find(|candidate| !taken.clone().any(|t| t == candidate)).unwrap_or(name)
}

fn extend(mut frame: Frame, list: &[Named]) -> Result<Frame, AdxError> {
    for (name, col) in named_columns(&frame, list)? {
        match frame.names.iter().position(|n| *n == name) {
            Some(at) => frame.cols[at] = col,
            None => {
                frame.names.push(name);
                frame.cols.push(col);
            }
        }
    }
    Ok(frame)
}

fn sort(frame: &Frame, keys: &[SortKey], limit: Option<usize>) -> Result<Frame, AdxError> {
    let mut columns = Vec::with_capacity(keys.len() + 1);
    for key in keys {
        let options = SortOptions { descending: key.descending, nulls_first: key.nulls_first };
        columns.push(SortColumn { values: eval(&key.expr, frame)?.data, options: Some(options) });
    }
    // The sort is not stable by itself; the place decides among equals.
    let places = UInt32Array::from_iter_values(0..frame.rows as u32);
    columns.push(SortColumn { values: Arc::new(places), options: None });
    frame.take(&lexsort_to_indices(&columns, limit)?)
}

fn summarize(frame: &Frame, aggregates: &[Named], by: &[Named]) -> Result<Frame, AdxError> {
    let keys = named_columns(frame, by)?;
    let (groups, first_rows) = group(frame.rows, &keys)?;
    let places = UInt32Array::from(first_rows);
    let keys = Frame {
        names: keys.iter().map(|(n, _)| n.clone()).collect(),
        cols: keys.into_iter().map(|(_, c)| c).collect(),
        rows: frame.rows,
    };
    let keys = keys.take(&places)?;
    let key_names = keys.names.clone();
    let mut columns: Vec<(String, Col)> = keys.names.into_iter().zip(keys.cols).collect();
    for named in aggregates {
        for (name, col) in aggregate(named, frame, &groups, &key_names)? {
            columns.push((unique(name, columns.iter().map(|(n, _)| n.as_str())), col));
        }
    }
    Ok(Frame { rows: groups.count, ..Frame::new(columns) })
}

/// Groups by key, and the first row of each. Without keys all rows are one group, even if there are none.
fn group(rows: usize, keys: &[(String, Col)]) -> Result<(Groups, Vec<u32>), AdxError> {
    if keys.is_empty() {
        return Ok((Groups { of_row: vec![0; rows], count: 1 }, Vec::new()));
    }
    let fields = keys.iter().map(|(_, c)| SortField::new(c.data.data_type().clone())).collect();
    let columns: Vec<_> = keys.iter().map(|(_, c)| c.data.clone()).collect();
    let converter = RowConverter::new(fields)?;
    let converted = converter.convert_columns(&columns)?;
    let mut known: HashMap<OwnedRow, usize> = HashMap::new();
    let mut first_rows = Vec::new();
    let mut of_row = Vec::with_capacity(rows);
    for row in 0..rows {
        let group = match known.entry(converted.row(row).owned()) {
            Entry::Occupied(entry) => *entry.get(),
            Entry::Vacant(entry) => {
                first_rows.push(row as u32);
                *entry.insert(first_rows.len() - 1)
            }
        };
        of_row.push(group);
    }
    Ok((Groups { of_row, count: first_rows.len() }, first_rows))
}
