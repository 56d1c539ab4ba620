//! A record on its way from a file to a chunk: its place, its values, its staged form, and what may be wrong with it.

mod batch;
mod row;

pub use batch::{BadRow, Batch, Run, Staged};
pub use row::{Row, write_field};

use ferry_common::failure::{Code, Failure, Fault, Retry, plural};

/// Longest record, in bytes. Azure Data Explorer fails a file with a longer one.
pub const RECORD_BYTES_MAX: usize = 64 << 20;

/// Where in the file the next record begins. Formats without lines count records: `byte` is then how many came before.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Place {
    /// Offset in the decompressed file.
    pub byte: u64,
    /// Line, from 1.
    pub line: u64,
}

impl Place {
    /// The start of a file.
    pub const START: Self = Self { byte: 0, line: 1 };
}

/// What is wrong with a record. Positions count in the decompressed file; lines from 1.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum FormatError {
    /// The file ends inside quotes.
    #[error("quote opened on line {line} (byte {byte}) is never closed")]
    UnclosedQuote {
        /// Line of the opening quote.
        line: u64,
        /// Offset of the opening quote.
        byte: u64,
    },
    /// Too long.
    #[error("record on line {line} (byte {byte}) exceeds {RECORD_BYTES_MAX} bytes; is a quote left open?")]
    RecordTooLong {
        /// Line where it begins.
        line: u64,
        /// Offset where it begins.
        byte: u64,
    },
    /// Another width.
    #[error(
        "record on line {line} (byte {byte}) has {found} {} instead of {expected}",
        plural(u64::from(*.found), "field")
    )]
    RaggedRow {
        /// Line where it begins.
        line: u64,
        /// Offset where it begins.
        byte: u64,
        /// Its fields.
        found: u32,
        /// Fields of the header or the first record.
        expected: u32,
    },
    /// A carriage return by itself.
    #[error(
        "line {line} has a carriage return without a line feed and without quotes at byte {byte}; line ends are LF or \
         CRLF, unless source.format.rowDelimiter says \\r"
    )]
    LoneCarriageReturn {
        /// Line where the record begins.
        line: u64,
        /// Offset of the carriage return.
        byte: u64,
    },
    /// Not UTF-8.
    #[error("record on line {line} is not UTF-8 at byte {byte}; name its encoding in source.format.encodingName")]
    InvalidUtf8 {
        /// Line where the record begins.
        line: u64,
        /// Offset of the first bad byte.
        byte: u64,
    },
    /// Not a JSON object.
    #[error("record on line {line} (byte {byte}) is not a JSON object: {why}")]
    InvalidJson {
        /// The line.
        line: u64,
        /// Its offset.
        byte: u64,
        /// What the parser said.
        why: String,
    },
    /// A value that its column cannot hold.
    #[error("record on line {line} (byte {byte}), column {column:?}: {value:?} {why}")]
    BadValue {
        /// Line where the record begins.
        line: u64,
        /// Offset where it begins.
        byte: u64,
        /// The table's column.
        column: String,
        /// The value, its head if it is long.
        value: String,
        /// Why it does not fit.
        why: String,
    },
    /// A record that its format does not allow.
    #[error("record {line}: {why}")]
    BadRecord {
        /// Its line or number, from 1.
        line: u64,
        /// Its offset or number.
        byte: u64,
        /// What is wrong.
        why: String,
    },
    /// The names of the file's columns and the mapping do not agree.
    #[error("{why}")]
    Header {
        /// What does not agree.
        why: String,
    },
    /// The file is not what its format says.
    #[error("{why}")]
    NotTheFormat {
        /// What is wrong.
        why: String,
    },
    /// A part of the file does not end where a record does.
    #[error(
        "the part that ends at byte {byte} does not end where a record does: where to split this file was judged wrong; \
         set settings.splitLargeFiles: false"
    )]
    SplitInsideRecord {
        /// End of the part.
        byte: u64,
    },
}

impl FormatError {
    /// Its code.
    pub fn code(&self) -> Code {
        match self {
            Self::UnclosedQuote { .. } => Code::UnclosedQuote,
            Self::RecordTooLong { .. } => Code::RecordTooLong,
            Self::RaggedRow { .. } => Code::RaggedRow,
            Self::LoneCarriageReturn { .. } => Code::LineEndUnsupported,
            Self::InvalidUtf8 { .. } => Code::InvalidUtf8,
            Self::InvalidJson { .. } => Code::InvalidJsonRecord,
            Self::BadValue { .. } => Code::ValueIncompatible,
            Self::BadRecord { .. } => Code::RecordInvalid,
            Self::Header { .. } => Code::MappingColumnMissing,
            Self::NotTheFormat { .. } => Code::FormatMismatch,
            Self::SplitInsideRecord { .. } => Code::SplitInsideRecord,
        }
    }

    /// The failure of the file at `path`.
    pub fn judged(&self, path: &str) -> Failure {
        Failure::new(self.code(), Fault::Source, Retry::Never, format!("{path}: {self}"))
    }

    /// The table's column that it is about.
    pub fn column(&self) -> &str {
        match self {
            Self::BadValue { column, .. } => column,
            _ => "",
        }
    }

    /// The error with the line where its record begins, which was not known where it arose.
    #[must_use]
    pub fn on_line(mut self, of_record: u64) -> Self {
        match &mut self {
            Self::RecordTooLong { line, .. }
            | Self::RaggedRow { line, .. }
            | Self::InvalidJson { line, .. }
            | Self::BadValue { line, .. }
            | Self::BadRecord { line, .. } => *line = of_record,
            Self::UnclosedQuote { .. }
            | Self::LoneCarriageReturn { .. }
            | Self::InvalidUtf8 { .. }
            | Self::Header { .. }
            | Self::NotTheFormat { .. }
            | Self::SplitInsideRecord { .. } => {}
        }
        self
    }

    /// The record can be left out, and what follows it be read.
    pub fn spares_the_rest(&self) -> bool {
        matches!(
            self,
            Self::RaggedRow { .. }
                | Self::LoneCarriageReturn { .. }
                | Self::InvalidUtf8 { .. }
                | Self::InvalidJson { .. }
                | Self::BadValue { .. }
                | Self::BadRecord { .. }
        )
    }
}
