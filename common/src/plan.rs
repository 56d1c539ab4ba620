//! What a node must know of the table to copy a file: which columns are wanted, where they come from, in which form
//! they are staged. The coordinator makes it once for a run; nodes and ingest commands follow the same one.

use crate::{
    activity::{FormatType, Shape, TypeConversionSettings},
    scalar::ScalarType,
};
use serde::{Deserialize, Serialize};

/// How records of every file of a run are staged.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct CopyPlan {
    /// The table's columns that get values, in order. Empty where a mapping of the table's own says what happens.
    pub columns: Vec<CopyColumn>,
    /// Names of a record's fields, in the order in which they are staged. Empty: the order of the file, whatever it is.
    pub layout: Vec<String>,
    /// Names beside the layout's that some files have: their fields come after it, in these files alone.
    pub late: Vec<String>,
    /// Stage `columns` as CSV, in their order, instead of the source's own records.
    pub rewrites: bool,
    /// Names beside the layout's that a file may have; they are left out.
    pub ignored: Vec<String>,
    /// Files may have any other columns; they are left out.
    pub ignores_unknown: bool,
    /// Names that every file must have.
    pub required: Vec<String>,
    /// Fields of a record without names; 0: as the first record.
    pub fields_expected: u32,
    /// Path of the array whose elements are the records.
    pub collection: Option<String>,
    /// Arrays and objects may go into string columns.
    pub complex_to_string: bool,
    /// How values are brought to the columns' types.
    pub conversion: TypeConversionSettings,
}

/// One column of the table.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct CopyColumn {
    /// Its name.
    pub name: String,
    /// Its type; `None` where the table may not be looked at.
    pub kind: Option<ScalarType>,
    /// Where its values come from.
    pub source: ColumnFrom,
    /// How dates are written in the source.
    pub format: Option<String>,
}

/// Where a column's values come from.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum ColumnFrom {
    /// The source column of this name; an additional one or a partition's key too.
    Name(String),
    /// Position in the record, from 0.
    Ordinal(u32),
    /// Path in the JSON record.
    Path(String),
}

/// In which form chunks are staged.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum StagedFormat {
    /// RFC 4180.
    Csv,
    /// One JSON object a line.
    Json,
    /// The source's own Parquet.
    Parquet,
}

impl StagedFormat {
    /// The format's name in ingest commands, and the end of a blob's name.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Csv => "csv",
            Self::Json => "json",
            Self::Parquet => "parquet",
        }
    }
}

impl CopyPlan {
    /// In which form files of this format are staged.
    pub fn staged_format(&self, source: FormatType) -> StagedFormat {
        match source.shape() {
            _ if self.rewrites => StagedFormat::Csv,
            Shape::Fields => StagedFormat::Csv,
            Shape::Objects => StagedFormat::Json,
            Shape::Columns => StagedFormat::Parquet,
        }
    }
}
