//! Aggregates over groups of rows.

use super::{
    ast::{Expr, Named},
    eval::{eval, null, to_kind, truth},
};
use crate::{
    error::AdxError,
    frame::{Col, Frame},
    types::Kind,
};
use arrow::array::{Array, UInt32Array};
use std::collections::HashSet;

/// Rows by group.
pub struct Groups {
    /// The group of each row.
    pub of_row: Vec<usize>,
    /// How many there are.
    pub count: usize,
}

fn wrong(what: impl std::fmt::Display) -> AdxError {
    AdxError::semantic(format!("Semantic error: {what}"))
}

/// Name of an aggregate without one: `count_`, `sum_x`.
pub fn default_name(expr: &Expr) -> Option<String> {
    match expr {
        Expr::Name(name) => Some(name.clone()),
        Expr::Member(inner, key) => default_name(inner).map(|name| format!("{name}_{key}")),
        Expr::Call(function, args) => match (function.as_str(), args.first()) {
            ("bin" | "floor" | "startofday", Some(arg)) => default_name(arg),
            (function, Some(Expr::Name(arg))) if function.starts_with("to") => Some(arg.clone()),
            ("arg_max" | "arg_min", Some(Expr::Name(arg))) => Some(arg.clone()),
            (function, Some(Expr::Name(arg))) if function != "countif" => Some(format!("{function}_{arg}")),
            (function, _) => Some(format!("{function}_")),
        },
        _ => None,
    }
}

/// One aggregate: its columns.
pub fn aggregate(
    named: &Named,
    frame: &Frame,
    groups: &Groups,
    keys: &[String],
) -> Result<Vec<(String, Col)>, AdxError> {
    let (name, Expr::Call(function, args)) = named else {
        return Err(wrong("summarize takes aggregates such as count() or sum(x)"));
    };
    let name = name.clone().or_else(|| default_name(&named.1)).unwrap_or_default();
    if let "arg_max" | "arg_min" = function.as_str() {
        return arg_extreme(function == "arg_max", &name, args, frame, groups, keys);
    }
    let values = args.iter().map(|a| eval(a, frame)).collect::<Result<Vec<_>, _>>()?;
    let col = match (function.as_str(), values.as_slice()) {
        ("count", _) => fold(groups, frame.rows, 0_i64, |sum, _| *sum += 1, Kind::Long),
        ("countif", [test]) => {
            let test = truth(test)?;
            fold(
                groups,
                frame.rows,
                0_i64,
                |sum, row| *sum += i64::from(test.is_valid(row) && test.value(row)),
                Kind::Long,
            )
        }
        ("sum", [col]) => sum(col, groups, |_| true)?,
        ("sumif", [col, test]) => {
            let test = truth(test)?;
            sum(col, groups, |row| test.is_valid(row) && test.value(row))?
        }
        ("avg", [col]) => average(col, groups)?,
        ("min", [col]) => extreme(col, groups, false)?,
        ("max", [col]) => extreme(col, groups, true)?,
        ("take_any" | "any", [col]) => {
            let mut first = vec![None; groups.count];
            for (row, group) in groups.of_row.iter().enumerate() {
                first[*group].get_or_insert(row as u32);
            }
            taken(col, first)?
        }
        ("dcount" | "count_distinct", [col]) => {
            let mut seen: Vec<HashSet<String>> = vec![HashSet::new(); groups.count];
            for (row, group) in groups.of_row.iter().enumerate().filter(|(row, _)| col.data.is_valid(*row)) {
                seen[*group].insert(col.json(row).to_string());
            }
            Col::integral(Kind::Long, seen.iter().map(|s| Some(s.len() as i64)))
        }
        _ => {
            return Err(AdxError::not_supported(format!(
                "aggregate '{function}' with {} arguments is not supported by local-adx",
                args.len()
            )));
        }
    };
    Ok(vec![(name, col)])
}

fn fold(groups: &Groups, rows: usize, zero: i64, mut step: impl FnMut(&mut i64, usize), kind: Kind) -> Col {
    let mut sums = vec![zero; groups.count];
    (0..rows).for_each(|row| step(&mut sums[groups.of_row[row]], row));
    Col::integral(kind, sums.into_iter().map(Some))
}

fn sum(col: &Col, groups: &Groups, counts: impl Fn(usize) -> bool) -> Result<Col, AdxError> {
    let rows = || groups.of_row.iter().enumerate().filter(|(row, _)| col.data.is_valid(*row) && counts(*row));
    match col.kind {
        Kind::Int | Kind::Long | Kind::Timespan => {
            let mut sums = vec![0_i64; groups.count];
            rows().for_each(|(row, group)| sums[*group] = sums[*group].wrapping_add(col.longs().value(row)));
            let kind = if col.kind == Kind::Timespan { Kind::Timespan } else { Kind::Long };
            Ok(Col::integral(kind, sums.into_iter().map(Some)))
        }
        Kind::Real => {
            let mut sums = vec![0.0; groups.count];
            rows().for_each(|(row, group)| sums[*group] += col.reals().value(row));
            Ok(Col::real(sums.into_iter().map(Some)))
        }
        Kind::Dynamic | Kind::Decimal => sum(&to_kind(col, Kind::Real), groups, counts),
        other => Err(wrong(format!("sum() takes no {}", other.name()))),
    }
}

fn average(col: &Col, groups: &Groups) -> Result<Col, AdxError> {
    let reals = match col.kind {
        Kind::Int | Kind::Long | Kind::Real | Kind::Dynamic | Kind::Decimal => to_kind(col, Kind::Real),
        other => return Err(wrong(format!("avg() takes no {}", other.name()))),
    };
    let mut sums = vec![(0.0, 0.0); groups.count];
    for (row, group) in groups.of_row.iter().enumerate().filter(|(row, _)| reals.data.is_valid(*row)) {
        sums[*group].0 += reals.reals().value(row);
        sums[*group].1 += 1.0;
    }
    // Nothing over nothing is not a number, as the service has it.
    Ok(Col::real(sums.into_iter().map(|(sum, count)| Some(sum / count))))
}

/// Rows where a column is largest or smallest in each group; none where it is always null.
fn extreme_rows(col: &Col, groups: &Groups, largest: bool) -> Result<Vec<Option<u32>>, AdxError> {
    let before = |a: usize, b: usize| match col.kind {
        Kind::Real => col.reals().value(a) < col.reals().value(b),
        Kind::Bool => !col.bools().value(a) & col.bools().value(b),
        kind if kind.is_integral() => col.longs().value(a) < col.longs().value(b),
        _ => col.texts().value(a) < col.texts().value(b),
    };
    let mut chosen: Vec<Option<u32>> = vec![None; groups.count];
    for (row, group) in groups.of_row.iter().enumerate().filter(|(row, _)| col.data.is_valid(*row)) {
        let is_better =
            chosen[*group].is_none_or(|c| if largest { before(c as usize, row) } else { before(row, c as usize) });
        if is_better {
            chosen[*group] = Some(row as u32);
        }
    }
    Ok(chosen)
}

fn taken(col: &Col, rows: Vec<Option<u32>>) -> Result<Col, AdxError> {
    if col.data.is_empty() {
        return Ok(null(col.kind, rows.len()));
    }
    let places = UInt32Array::from(rows);
    let data = arrow::compute::take(&col.data, &places, None)?;
    let col = Col { kind: col.kind, data };
    // A missing text is empty, not null.
    Ok(if col.kind == Kind::String {
        Col::text(Kind::String, col.texts().iter().map(|t| Some(t.unwrap_or(""))))
    } else {
        col
    })
}

fn extreme(col: &Col, groups: &Groups, largest: bool) -> Result<Col, AdxError> {
    taken(col, extreme_rows(col, groups, largest)?)
}

/// `arg_max(by, columns)`: the extreme, and other columns of its row.
fn arg_extreme(
    largest: bool,
    name: &str,
    args: &[Expr],
    frame: &Frame,
    groups: &Groups,
    keys: &[String],
) -> Result<Vec<(String, Col)>, AdxError> {
    let Some((by, others)) = args.split_first() else { return Err(wrong("arg_max() takes a column")) };
    let by = eval(by, frame)?;
    let rows = extreme_rows(&by, groups, largest)?;
    let mut columns = vec![(name.to_owned(), taken(&by, rows.clone())?)];
    for other in others {
        match other {
            Expr::Star => {
                for (other, col) in
                    frame.names.iter().zip(&frame.cols).filter(|(other, _)| *other != name && !keys.contains(other))
                {
                    columns.push((other.clone(), taken(col, rows.clone())?));
                }
            }
            expr => columns.push((default_name(expr).unwrap_or_default(), taken(&eval(expr, frame)?, rows.clone())?)),
        }
    }
    Ok(columns)
}
