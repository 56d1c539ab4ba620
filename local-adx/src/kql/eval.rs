//! Expressions on columns. A value that does not fit becomes null, as the service has it; a type that cannot fit is an
//! error.

use super::ast::{Binary, Expr, Lit, TextTest};
use crate::{
    error::AdxError,
    frame::{Col, Frame},
    types::{Kind, TICKS_PER_SECOND, format_datetime, format_timespan, parse_datetime, parse_guid, parse_timespan},
};
use arrow::{
    array::{Array, BooleanArray, Int64Array},
    compute::{
        self,
        kernels::{cmp, numeric},
    },
    datatypes::Int64Type,
};
use std::sync::Arc;

const TICKS_PER_DAY: i64 = 86_400 * TICKS_PER_SECOND;

fn unknown_column(name: &str, frame: &Frame) -> AdxError {
    AdxError::semantic(format!(
        "Semantic error: SEM0100: 'where' operator: Failed to resolve column or scalar expression named '{name}'. Known columns: {}",
        frame.names.join(", ")
    ))
}

fn wrong(what: impl std::fmt::Display) -> AdxError {
    AdxError::semantic(format!("Semantic error: {what}"))
}

/// The value of an expression for each row.
pub fn eval(expr: &Expr, frame: &Frame) -> Result<Col, AdxError> {
    let rows = frame.rows;
    match expr {
        Expr::Lit(lit) => Ok(literal(lit, rows)),
        Expr::Name(name) => frame.col(name).cloned().ok_or_else(|| unknown_column(name, frame)),
        Expr::Star => Err(wrong("'*' has no value")),
        Expr::Neg(inner) => {
            let col = eval(inner, frame)?;
            match col.kind {
                Kind::Int | Kind::Long | Kind::Timespan | Kind::Real => {
                    Ok(Col { kind: col.kind, data: numeric::neg_wrapping(&col.data)? })
                }
                other => Err(wrong(format!("'-' takes no {}", other.name()))),
            }
        }
        Expr::Member(inner, key) => dynamic_part(&eval(inner, frame)?, |_| Some(serde_json::Value::from(key.as_str()))),
        Expr::Index(inner, index) => {
            let (col, index) = (eval(inner, frame)?, eval(index, frame)?);
            dynamic_part(&col, |row| Some(index.json(row)))
        }
        Expr::Binary(op @ (Binary::And | Binary::Or), left, right) => {
            let (left, right) = (truth(&eval(left, frame)?)?, truth(&eval(right, frame)?)?);
            let joined = if *op == Binary::And {
                compute::and_kleene(&left, &right)?
            } else {
                compute::or_kleene(&left, &right)?
            };
            Ok(Col::bool(joined))
        }
        Expr::Binary(op, left, right) => {
            let (left, right) = (eval(left, frame)?, eval(right, frame)?);
            match op {
                Binary::Eq | Binary::Ne | Binary::Lt | Binary::Le | Binary::Gt | Binary::Ge => {
                    compare(*op, &left, &right)
                }
                _ => arithmetic(*op, &left, &right),
            }
        }
        Expr::Text(test, left, right) => text_test(test, &eval(left, frame)?, &eval(right, frame)?),
        Expr::In { value, list, negated, case_sensitive } => {
            let value = eval(value, frame)?;
            let mut found = BooleanArray::from(vec![false; rows]);
            for item in list {
                let item = eval(item, frame)?;
                let equal = if *case_sensitive {
                    compare(Binary::Eq, &value, &item)?
                } else {
                    text_test(
                        &TextTest { name: "equals".to_owned(), negated: false, case_sensitive: false },
                        &value,
                        &item,
                    )?
                };
                found = compute::or_kleene(&found, equal.bools())?;
            }
            Ok(Col::bool(if *negated { compute::not(&found)? } else { found }))
        }
        Expr::Between { value, low, high, negated } => {
            let value = eval(value, frame)?;
            let above = compare(Binary::Ge, &value, &eval(low, frame)?)?;
            let below = compare(Binary::Le, &value, &eval(high, frame)?)?;
            let inside = compute::and_kleene(above.bools(), below.bools())?;
            Ok(Col::bool(if *negated { compute::not(&inside)? } else { inside }))
        }
        Expr::Call(name, args) => call(name, args, frame),
    }
}

/// A condition for each row; null counts as null.
pub fn truth(col: &Col) -> Result<BooleanArray, AdxError> {
    match col.kind {
        Kind::Bool => Ok(col.bools().clone()),
        Kind::Dynamic => Ok(to_kind(col, Kind::Bool).bools().clone()),
        other => Err(wrong(format!("a condition must be bool, not {}", other.name()))),
    }
}

fn literal(lit: &Lit, rows: usize) -> Col {
    let text = |kind, text: &str| Col::text(kind, std::iter::repeat_n(Some(text.to_owned()), rows));
    let integral = |kind, value| Col::integral(kind, std::iter::repeat_n(Some(value), rows));
    match lit {
        Lit::Null(kind) => null(*kind, rows),
        Lit::Bool(value) => Col::bool(BooleanArray::from(vec![*value; rows])),
        Lit::Long(value) => integral(Kind::Long, *value),
        Lit::Real(value) => Col::real(std::iter::repeat_n(Some(*value), rows)),
        Lit::Text(value) => text(Kind::String, value),
        Lit::Datetime(ticks) => integral(Kind::Datetime, *ticks),
        Lit::Timespan(ticks) => integral(Kind::Timespan, *ticks),
        Lit::Guid(value) => text(Kind::Guid, value),
        Lit::Dynamic(value) => text(Kind::Dynamic, value),
    }
}

/// A column of nulls; of empty texts, where the type knows no null.
pub fn null(kind: Kind, rows: usize) -> Col {
    if kind == Kind::String {
        return Col::text(kind, std::iter::repeat_n(Some(""), rows));
    }
    Col { kind, data: arrow::array::new_null_array(&crate::frame::data_type(kind), rows) }
}

/// Both sides as one type, if they can be compared or reckoned with.
fn unify(left: &Col, right: &Col) -> Result<(Col, Col), AdxError> {
    use Kind as K;
    let kind = match (left.kind, right.kind) {
        (a, b) if a == b => a,
        (K::Int | K::Long, K::Int | K::Long) => K::Long,
        (K::Int | K::Long | K::Real, K::Int | K::Long | K::Real) => K::Real,
        (K::Dynamic, other) | (other, K::Dynamic) => other,
        (K::String, K::Guid) | (K::Guid, K::String) => K::String,
        (K::Bool, K::Int | K::Long) | (K::Int | K::Long, K::Bool) => K::Long,
        (K::String, K::Int | K::Long | K::Real) | (K::Int | K::Long | K::Real, K::String) => K::String,
        (a, b) => return Err(wrong(format!("Cannot compare values of types {} and {}", a.name(), b.name()))),
    };
    Ok((to_kind(left, kind), to_kind(right, kind)))
}

/// Compares. Equality with a null is false, inequality true, order null.
fn compare(op: Binary, left: &Col, right: &Col) -> Result<Col, AdxError> {
    let (left, right) = unify(left, right)?;
    if left.kind == Kind::Dynamic && !matches!(op, Binary::Eq | Binary::Ne) {
        return Err(wrong("values of type dynamic have no order"));
    }
    let (l, r) = (&left.data, &right.data);
    let result = match op {
        Binary::Eq => cmp::eq(l, r)?,
        Binary::Ne => cmp::neq(l, r)?,
        Binary::Lt => cmp::lt(l, r)?,
        Binary::Le => cmp::lt_eq(l, r)?,
        Binary::Gt => cmp::gt(l, r)?,
        _ => cmp::gt_eq(l, r)?,
    };
    if result.null_count() == 0 || !matches!(op, Binary::Eq | Binary::Ne) {
        return Ok(Col::bool(result));
    }
    let fixed = (0..result.len()).map(|row| {
        if result.is_valid(row) {
            Some(result.value(row))
        } else if l.is_null(row) && r.is_null(row) {
            None
        } else {
            Some(op == Binary::Ne)
        }
    });
    Ok(Col::bool(fixed.collect()))
}

fn arithmetic(op: Binary, left: &Col, right: &Col) -> Result<Col, AdxError> {
    use Kind as K;
    let no = || wrong(format!("{op:?} takes no {} and {}", left.kind.name(), right.kind.name()));
    let (kind, left, right) = match (left.kind, right.kind) {
        (K::Datetime, K::Datetime) if op == Binary::Sub => (K::Timespan, left.clone(), right.clone()),
        (K::Datetime, K::Timespan) if matches!(op, Binary::Add | Binary::Sub) => {
            (K::Datetime, left.clone(), right.clone())
        }
        (K::Timespan, K::Datetime) if op == Binary::Add => (K::Datetime, left.clone(), right.clone()),
        (K::Timespan, K::Timespan) if op == Binary::Div => (K::Real, as_real(left), as_real(right)),
        (K::Timespan, K::Timespan) if op != Binary::Mul => (K::Timespan, left.clone(), right.clone()),
        (K::Timespan, K::Int | K::Long) if matches!(op, Binary::Mul | Binary::Div) => {
            (K::Timespan, left.clone(), right.clone())
        }
        (K::Int | K::Long, K::Timespan) if op == Binary::Mul => (K::Timespan, left.clone(), right.clone()),
        (K::Int | K::Long, K::Int | K::Long) => (K::Long, left.clone(), right.clone()),
        (K::Dynamic | K::Int | K::Long | K::Real, K::Dynamic | K::Int | K::Long | K::Real) => {
            (K::Real, as_real(left), as_real(right))
        }
        _ => return Err(no()),
    };
    if kind == K::Real {
        let zipped = left.reals().iter().zip(right.reals().iter());
        let reckon = |(l, r): (Option<f64>, Option<f64>)| {
            let (l, r) = (l?, r?);
            Some(match op {
                Binary::Add => l + r,
                Binary::Sub => l - r,
                Binary::Mul => l * r,
                Binary::Div => l / r,
                _ => l.rem_euclid(r),
            })
        };
        return Ok(Col::real(zipped.map(reckon)));
    }
    let (l, r) = (left.longs(), right.longs());
    let data: Int64Array = match op {
        Binary::Add => numeric::add_wrapping(l, r)?.as_any().downcast_ref().cloned().ok_or_else(no)?,
        Binary::Sub => numeric::sub_wrapping(l, r)?.as_any().downcast_ref().cloned().ok_or_else(no)?,
        Binary::Mul => numeric::mul_wrapping(l, r)?.as_any().downcast_ref().cloned().ok_or_else(no)?,
        // Division by zero is null.
        _ => l
            .iter()
            .zip(r.iter())
            .map(|(l, r)| match (l?, r?) {
                (_, 0) => None,
                (l, r) if op == Binary::Div => Some(l.wrapping_div(r)),
                (l, r) => Some(l.wrapping_rem_euclid(r)),
            })
            .collect(),
    };
    Ok(Col { kind, data: Arc::new(data) })
}

fn as_real(col: &Col) -> Col {
    match col.kind {
        Kind::Timespan => Col {
            kind: Kind::Real,
            data: Arc::new(col.longs().unary::<_, arrow::datatypes::Float64Type>(|v| v as f64)),
        },
        _ => to_kind(col, Kind::Real),
    }
}

/// The text of each value, as `tostring` has it.
fn texts(col: &Col) -> Vec<String> {
    let text = |row: usize| {
        if col.data.is_null(row) {
            return String::new();
        }
        match col.kind {
            Kind::Bool => if col.bools().value(row) { "True" } else { "False" }.to_owned(),
            Kind::Int | Kind::Long => col.longs().value(row).to_string(),
            Kind::Real => crate::types::real_json(col.reals().value(row)).to_string().trim_matches('"').to_owned(),
            Kind::Datetime => format_datetime(col.longs().value(row)),
            Kind::Timespan => format_timespan(col.longs().value(row)),
            Kind::Dynamic => match col.json(row) {
                serde_json::Value::String(text) => text,
                other => other.to_string(),
            },
            Kind::String | Kind::Guid | Kind::Decimal => col.texts().value(row).to_owned(),
        }
    };
    (0..col.data.len()).map(text).collect()
}

/// Values as another type; what does not fit is null.
pub fn to_kind(col: &Col, kind: Kind) -> Col {
    use Kind as K;
    let rows = col.data.len();
    match (col.kind, kind) {
        (from, to) if from == to => col.clone(),
        (K::Int | K::Long | K::Datetime | K::Timespan, K::Long | K::Int) => Col { kind, data: col.data.clone() },
        (K::Int | K::Long, K::Real) => {
            Col { kind, data: Arc::new(col.longs().unary::<_, arrow::datatypes::Float64Type>(|v| v as f64)) }
        }
        (K::Int | K::Long, K::Datetime | K::Timespan) => Col { kind, data: col.data.clone() },
        (K::Bool, K::Int | K::Long) => Col::integral(kind, col.bools().iter().map(|b| b.map(i64::from))),
        (K::Bool, K::Real) => Col::real(col.bools().iter().map(|b| b.map(f64::from))),
        (K::Int | K::Long, K::Bool) => Col::bool(col.longs().iter().map(|v| v.map(|n| n != 0)).collect()),
        (K::Real, K::Int | K::Long) => {
            let whole = |v: f64| (v.is_finite() && v.abs() < 9.3e18).then_some(v as i64);
            Col::integral(kind, col.reals().iter().map(|v| v.and_then(whole)))
        }
        (K::Real, K::Bool) => Col::bool(col.reals().iter().map(|v| v.map(|n| n != 0.0)).collect()),
        (_, K::String) => Col::text(kind, texts(col).into_iter().map(Some)),
        (_, K::Dynamic) => {
            Col::text(kind, (0..rows).map(|row| (!col.data.is_null(row)).then(|| col.json(row).to_string())))
        }
        (K::String | K::Dynamic | K::Guid | K::Decimal, _) => {
            let texts = texts(col);
            let texts = texts.iter().map(|t| t.trim());
            match kind {
                K::Bool => Col::bool(texts.map(parse_bool).collect()),
                K::Int => Col::integral(kind, texts.map(|t| t.parse::<i32>().ok().map(i64::from))),
                K::Long => Col::integral(kind, texts.map(|t| t.parse().ok())),
                K::Real => Col::real(texts.map(|t| t.parse().ok())),
                K::Datetime => Col::integral(kind, texts.map(parse_datetime)),
                K::Timespan => Col::integral(kind, texts.map(parse_timespan)),
                K::Guid => Col::text(kind, texts.map(parse_guid)),
                _ => Col::text(kind, texts.map(|t| t.parse::<f64>().is_ok().then(|| t.to_owned()))),
            }
        }
        _ => null(kind, rows),
    }
}

fn parse_bool(text: &str) -> Option<bool> {
    match text.to_ascii_lowercase().as_str() {
        "true" | "1" => Some(true),
        "false" | "0" => Some(false),
        _ => None,
    }
}

/// A property or an element of each dynamic value.
fn dynamic_part(col: &Col, key: impl Fn(usize) -> Option<serde_json::Value>) -> Result<Col, AdxError> {
    if col.kind != Kind::Dynamic {
        return Err(wrong(format!("a value of type {} has no parts", col.kind.name())));
    }
    let part = |row: usize| {
        let (value, key) = (col.json(row), key(row)?);
        let part = match (&key, value) {
            (serde_json::Value::String(name), serde_json::Value::Object(mut map)) => map.remove(name)?,
            (serde_json::Value::Number(at), serde_json::Value::Array(items)) => {
                items.into_iter().nth(usize::try_from(at.as_u64()?).ok()?)?
            }
            _ => return None,
        };
        (!part.is_null()).then(|| part.to_string())
    };
    Ok(Col::text(Kind::Dynamic, (0..col.data.len()).map(part)))
}

fn text_test(test: &TextTest, left: &Col, right: &Col) -> Result<Col, AdxError> {
    let textual = |c: &Col| matches!(c.kind, Kind::String | Kind::Dynamic | Kind::Guid);
    if !textual(left) || !textual(right) {
        return Err(wrong(format!("'{}' takes texts, not {} and {}", test.name, left.kind.name(), right.kind.name())));
    }
    let (mut left, mut right) = (texts(left), texts(right));
    if !test.case_sensitive {
        left.iter_mut().chain(right.iter_mut()).for_each(|t| *t = t.to_lowercase());
    }
    let pattern = match (test.name.as_str(), right.first()) {
        ("matches", Some(pattern)) => Some(regex::Regex::new(pattern).map_err(|e| wrong(format!("regex: {e}")))?),
        _ => None,
    };
    let holds = |l: &str, r: &str| match test.name.as_str() {
        "equals" => l == r,
        "contains" => l.contains(r),
        "startswith" => l.starts_with(r),
        "endswith" => l.ends_with(r),
        "matches" => pattern.as_ref().is_some_and(|p| p.is_match(l)),
        "hasprefix" => has_term(l, r, true, false),
        "hassuffix" => has_term(l, r, false, true),
        _ => has_term(l, r, true, true),
    };
    Ok(Col::bool(left.iter().zip(&right).map(|(l, r)| Some(holds(l, r) != test.negated)).collect()))
}

/// `r` stands in `l` with no letter or digit before (after) it.
fn has_term(l: &str, r: &str, at_start: bool, at_end: bool) -> bool {
    let is_edge = |c: Option<char>| c.is_none_or(|c| !c.is_alphanumeric());
    l.match_indices(r).any(|(at, _)| {
        (!at_start || is_edge(l[..at].chars().next_back())) && (!at_end || is_edge(l[at + r.len()..].chars().next()))
    })
}

fn call(name: &str, args: &[Expr], frame: &Frame) -> Result<Col, AdxError> {
    let rows = frame.rows;
    let cols = args.iter().map(|a| eval(a, frame)).collect::<Result<Vec<_>, _>>()?;
    let convert = |kind| match cols.as_slice() {
        [col] => Ok(to_kind(col, kind)),
        _ => Err(wrong(format!("{name}() takes one argument"))),
    };
    if let Some(kind) = name.strip_prefix("to").and_then(Kind::parse) {
        return convert(kind);
    }
    match (name, cols.as_slice()) {
        ("now", []) => Ok(literal(&Lit::Datetime(crate::now_ticks()), rows)),
        ("ago", [span]) if span.kind == Kind::Timespan => {
            arithmetic(Binary::Sub, &literal(&Lit::Datetime(crate::now_ticks()), rows), span)
        }
        ("not", [col]) => Ok(Col::bool(compute::not(&truth(col)?)?)),
        ("isnull", [col]) => Ok(Col::bool(compute::is_null(&col.data)?)),
        ("isnotnull", [col]) => Ok(Col::bool(compute::is_not_null(&col.data)?)),
        ("isempty", [col]) => Ok(Col::bool(texts(col).iter().map(|t| Some(t.is_empty())).collect())),
        ("isnotempty", [col]) => Ok(Col::bool(texts(col).iter().map(|t| Some(!t.is_empty())).collect())),
        ("strlen", [col]) => Ok(Col::integral(Kind::Long, texts(col).iter().map(|t| Some(t.chars().count() as i64)))),
        ("tolower", [col]) => Ok(Col::text(Kind::String, texts(col).iter().map(|t| Some(t.to_lowercase())))),
        ("toupper", [col]) => Ok(Col::text(Kind::String, texts(col).iter().map(|t| Some(t.to_uppercase())))),
        ("strcat", many) => {
            let parts: Vec<_> = many.iter().map(texts).collect();
            Ok(Col::text(
                Kind::String,
                (0..rows).map(|row| Some(parts.iter().map(|p| p[row].as_str()).collect::<String>())),
            ))
        }
        ("substring", [text, start, more @ ..]) => {
            let (text, start) = (texts(text), to_kind(start, Kind::Long));
            let length = more.first().map(|l| to_kind(l, Kind::Long));
            let at = |col: &Col, row: usize| usize::try_from(col.longs().value(row)).unwrap_or(0);
            let part = |row: usize| {
                let rest = text[row].chars().skip(at(&start, row));
                Some(match &length {
                    Some(length) => rest.take(at(length, row)).collect::<String>(),
                    None => rest.collect(),
                })
            };
            Ok(Col::text(Kind::String, (0..rows).map(part)))
        }
        ("iff" | "iif", [test, yes, no]) => {
            let (test, (yes, no)) = (truth(test)?, unify(yes, no)?);
            Ok(Col { kind: yes.kind, data: compute::kernels::zip::zip(&test, &yes.data, &no.data)? })
        }
        ("coalesce", [first, rest @ ..]) => rest.iter().try_fold(first.clone(), |chosen, next| {
            let (chosen, next) = unify(&chosen, next)?;
            let there = if chosen.kind == Kind::String {
                BooleanArray::from_iter(chosen.texts().iter().map(|t| Some(t.is_some_and(|t| !t.is_empty()))))
            } else {
                compute::is_not_null(&chosen.data)?
            };
            Ok(Col { kind: chosen.kind, data: compute::kernels::zip::zip(&there, &chosen.data, &next.data)? })
        }),
        ("abs", [col]) if col.kind == Kind::Real => Ok(Col::real(col.reals().iter().map(|v| v.map(f64::abs)))),
        ("abs", [col]) if col.kind.is_integral() => {
            Ok(Col { kind: col.kind, data: Arc::new(col.longs().unary::<_, Int64Type>(i64::wrapping_abs)) })
        }
        ("round", [col]) => Ok(Col::real(to_kind(col, Kind::Real).reals().iter().map(|v| v.map(f64::round)))),
        ("floor" | "bin", [value, size]) => bin(value, size),
        ("startofday", [value]) => bin(value, &literal(&Lit::Timespan(TICKS_PER_DAY), rows)),
        ("hash", [col]) => {
            let hashed = |t: &String| {
                Some(
                    t.bytes().fold(0x00cb_f29c_e484_222f_i64, |h, b| (h ^ i64::from(b)).wrapping_mul(0x0100_0000_01b3)),
                )
            };
            Ok(Col::integral(Kind::Long, texts(col).iter().map(hashed)))
        }
        _ => Err(AdxError::semantic(format!(
            "Semantic error: SEM0260: Unknown function: '{name}' with {} arguments (local-adx knows a subset)",
            cols.len()
        ))),
    }
}

fn bin(value: &Col, size: &Col) -> Result<Col, AdxError> {
    match (value.kind, size.kind) {
        (Kind::Real, _) | (_, Kind::Real) => {
            let (value, size) = (to_kind(value, Kind::Real), to_kind(size, Kind::Real));
            let pairs = value.reals().iter().zip(size.reals().iter());
            Ok(Col::real(pairs.map(|(v, s)| Some((v?, s.filter(|s| *s > 0.0)?)).map(|(v, s)| (v / s).floor() * s))))
        }
        (kind, _) if kind.is_integral() && size.kind.is_integral() => {
            let pairs = value.longs().iter().zip(size.longs().iter());
            Ok(Col::integral(
                kind,
                pairs.map(|(v, s)| Some((v?, s.filter(|s| *s > 0)?)).map(|(v, s)| v.div_euclid(s).wrapping_mul(s))),
            ))
        }
        (a, b) => Err(wrong(format!("bin() takes no {} and {}", a.name(), b.name()))),
    }
}
