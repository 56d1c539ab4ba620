//! A table in memory: named, typed Arrow columns.

use crate::{
    error::AdxError,
    types::{Kind, format_datetime, format_timespan, real_json},
};
use arrow::{
    array::{Array, ArrayRef, AsArray, BooleanArray, Float64Array, Int64Array, StringArray, UInt32Array},
    compute,
    datatypes::{DataType, Float64Type, Int64Type},
};
use serde_json::Value as Json;
use std::sync::Arc;

/// How values of a type are held. Strings are never null: what is missing is empty.
pub fn data_type(kind: Kind) -> DataType {
    match kind {
        Kind::Bool => DataType::Boolean,
        Kind::Real => DataType::Float64,
        kind if kind.is_integral() => DataType::Int64,
        _ => DataType::Utf8,
    }
}

/// One column.
#[derive(Debug, Clone)]
pub struct Col {
    /// Its type.
    pub kind: Kind,
    /// Its values.
    pub data: ArrayRef,
}

impl Col {
    /// A column of whole numbers, dates or time spans.
    pub fn integral(kind: Kind, values: impl IntoIterator<Item = Option<i64>>) -> Self {
        Self { kind, data: Arc::new(Int64Array::from_iter(values)) }
    }

    /// A column of numbers with fractions.
    pub fn real(values: impl IntoIterator<Item = Option<f64>>) -> Self {
        Self { kind: Kind::Real, data: Arc::new(Float64Array::from_iter(values)) }
    }

    /// A column of truth values.
    pub fn bool(values: BooleanArray) -> Self {
        Self { kind: Kind::Bool, data: Arc::new(values) }
    }

    /// A column of texts, guids or JSON.
    pub fn text<S: AsRef<str>>(kind: Kind, values: impl IntoIterator<Item = Option<S>>) -> Self {
        Self { kind, data: Arc::new(StringArray::from_iter(values)) }
    }

    /// The values, where the type is whole.
    pub fn longs(&self) -> &Int64Array {
        self.data.as_primitive::<Int64Type>()
    }

    /// The values, where the type is real.
    pub fn reals(&self) -> &Float64Array {
        self.data.as_primitive::<Float64Type>()
    }

    /// The values, where the type is bool.
    pub fn bools(&self) -> &BooleanArray {
        self.data.as_boolean()
    }

    /// The values, where the type is held as text.
    pub fn texts(&self) -> &StringArray {
        self.data.as_string::<i32>()
    }

    /// A value for a reply.
    pub fn json(&self, row: usize) -> Json {
        if self.data.is_null(row) {
            return Json::Null;
        }
        match self.kind {
            Kind::Bool => Json::Bool(self.bools().value(row)),
            Kind::Int | Kind::Long => Json::from(self.longs().value(row)),
            Kind::Real => real_json(self.reals().value(row)),
            Kind::Datetime => Json::from(format_datetime(self.longs().value(row))),
            Kind::Timespan => Json::from(format_timespan(self.longs().value(row))),
            Kind::String | Kind::Guid | Kind::Decimal => Json::from(self.texts().value(row)),
            Kind::Dynamic => {
                let text = self.texts().value(row);
                serde_json::from_str(text).unwrap_or_else(|_| Json::from(text))
            }
        }
    }
}

/// Columns of one length.
#[derive(Debug, Clone, Default)]
pub struct Frame {
    /// Names, one a column.
    pub names: Vec<String>,
    /// The columns.
    pub cols: Vec<Col>,
    /// Rows: there may be rows without columns.
    pub rows: usize,
}

impl Frame {
    /// A frame whose columns are all texts.
    pub fn of_text(columns: Vec<(&str, Vec<String>)>) -> Self {
        let columns = columns
            .into_iter()
            .map(|(name, values)| (name.to_owned(), Col::text(Kind::String, values.into_iter().map(Some))));
        Self::new(columns.collect())
    }

    /// A table of these columns.
    pub fn new(columns: Vec<(String, Col)>) -> Self {
        let rows = columns.first().map_or(0, |(_, c)| c.data.len());
        let (names, cols) = columns.into_iter().unzip();
        Self { names, cols, rows }
    }

    /// A column by its name.
    pub fn col(&self, name: &str) -> Option<&Col> {
        self.names.iter().position(|n| n == name).map(|at| &self.cols[at])
    }

    /// Rows where the mask is true.
    pub fn filter(&self, mask: &BooleanArray) -> Result<Self, AdxError> {
        let cols = self
            .cols
            .iter()
            .map(|c| Ok(Col { kind: c.kind, data: compute::filter(&c.data, mask)? }))
            .collect::<Result<_, AdxError>>()?;
        // A null in the mask counts as false.
        let rows = mask.iter().filter(|m| *m == Some(true)).count();
        Ok(Self { names: self.names.clone(), cols, rows })
    }

    /// Rows at these places, in that order.
    pub fn take(&self, places: &UInt32Array) -> Result<Self, AdxError> {
        let cols = self
            .cols
            .iter()
            .map(|c| Ok(Col { kind: c.kind, data: compute::take(&c.data, places, None)? }))
            .collect::<Result<_, AdxError>>()?;
        Ok(Self { names: self.names.clone(), cols, rows: places.len() })
    }

    /// The first rows.
    pub fn head(&self, count: usize) -> Self {
        let count = count.min(self.rows);
        let cols = self.cols.iter().map(|c| Col { kind: c.kind, data: c.data.slice(0, count) }).collect();
        Self { names: self.names.clone(), cols, rows: count }
    }

    /// Frames of the same columns, one after the other.
    pub fn concat(frames: &[Self]) -> Result<Self, AdxError> {
        let Some(first) = frames.first() else { return Ok(Self::default()) };
        let mut cols = Vec::with_capacity(first.cols.len());
        for (at, col) in first.cols.iter().enumerate() {
            let parts: Vec<&dyn Array> = frames.iter().map(|f| f.cols[at].data.as_ref()).collect();
            cols.push(Col { kind: col.kind, data: compute::concat(&parts)? });
        }
        Ok(Self { names: first.names.clone(), cols, rows: frames.iter().map(|f| f.rows).sum() })
    }

    /// The rows of a reply.
    pub fn json_rows(&self) -> Vec<Json> {
        (0..self.rows).map(|row| Json::Array(self.cols.iter().map(|c| c.json(row)).collect())).collect()
    }
}
