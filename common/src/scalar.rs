//! Scalar types of Azure Data Explorer.

use serde::{Deserialize, Serialize};
use std::{fmt, str::FromStr};

/// The type of a table's column.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum ScalarType {
    /// True or false.
    Bool,
    /// A point in time, to 100 ns.
    DateTime,
    /// A number of 34 decimal digits.
    Decimal,
    /// Any JSON value.
    Dynamic,
    /// A UUID.
    Guid,
    /// A whole number of 32 bits.
    Int,
    /// A whole number of 64 bits.
    Long,
    /// A double.
    Real,
    /// Text.
    String,
    /// A length of time, to 100 ns.
    Timespan,
}

impl ScalarType {
    /// Every type.
    pub const ALL: &[Self] = &[
        Self::Bool,
        Self::DateTime,
        Self::Decimal,
        Self::Dynamic,
        Self::Guid,
        Self::Int,
        Self::Long,
        Self::Real,
        Self::String,
        Self::Timespan,
    ];

    /// Its name in commands.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Bool => "bool",
            Self::DateTime => "datetime",
            Self::Decimal => "decimal",
            Self::Dynamic => "dynamic",
            Self::Guid => "guid",
            Self::Int => "int",
            Self::Long => "long",
            Self::Real => "real",
            Self::String => "string",
            Self::Timespan => "timespan",
        }
    }
}

impl fmt::Display for ScalarType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// The text names no type of Azure Data Explorer.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is no type of Azure Data Explorer")]
pub struct NoScalarType(String);

impl FromStr for ScalarType {
    type Err = NoScalarType;

    /// Reads a type's name or one of its synonyms (Kusto documentation, "Scalar data types").
    fn from_str(name: &str) -> Result<Self, NoScalarType> {
        Ok(match name {
            "bool" | "boolean" => Self::Bool,
            "datetime" | "date" => Self::DateTime,
            "decimal" => Self::Decimal,
            "dynamic" => Self::Dynamic,
            "guid" | "uuid" | "uniqueid" => Self::Guid,
            "int" => Self::Int,
            "long" => Self::Long,
            "real" | "double" => Self::Real,
            "string" => Self::String,
            "timespan" | "time" => Self::Timespan,
            other => return Err(NoScalarType(other.to_owned())),
        })
    }
}
