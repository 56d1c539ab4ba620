//! Where a record ends, and its staged form. One type a format; all of them work on a window of bytes and remember
//! where they stand, so that a file is never held whole and never scanned twice.

mod delimited;
mod json;

pub use delimited::DelimitedText;
pub use json::JsonLines;

use ferry_common::{
    activity,
    failure::{Code, Failure, Fault, Retry},
};

/// Longest record, in bytes. Azure Data Explorer fails a file with a longer one.
pub const RECORD_BYTES_MAX: usize = 64 << 20;

/// A record found at the start of a window.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Found {
    /// A record of this many bytes, its line end included.
    Record(usize),
    /// Bytes that are no record: an empty line.
    Blank(usize),
    /// The window ends before the record does.
    NeedMore,
}

/// What is wrong with a record. Positions count in the decompressed file; lines from 1.
#[derive(Debug, thiserror::Error)]
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
    #[error("record on line {line} (byte {byte}) has {found} fields where {expected} are expected")]
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
        "line {line} has a carriage return without a line feed and without quotes at byte {byte}; line ends are LF or CRLF"
    )]
    LoneCarriageReturn {
        /// Line where the record begins.
        line: u64,
        /// Offset of the carriage return.
        byte: u64,
    },
    /// Not UTF-8.
    #[error("record on line {line} is not UTF-8 at byte {byte}")]
    InvalidUtf8 {
        /// Line where the record begins.
        line: u64,
        /// Offset of the first bad byte.
        byte: u64,
    },
    /// Not a JSON object.
    #[error("line {line} (byte {byte}) is not a JSON object: {why}")]
    InvalidJson {
        /// The line.
        line: u64,
        /// Its offset.
        byte: u64,
        /// What the parser said.
        why: String,
    },
    /// The header row and the mapping do not agree.
    #[error("{why}")]
    Header {
        /// What does not agree.
        why: String,
    },
}

impl FormatError {
    /// The failure of the file at `path`.
    pub fn judged(&self, path: &str) -> Failure {
        let code = match self {
            Self::UnclosedQuote { .. } => Code::UnclosedQuote,
            Self::RecordTooLong { .. } => Code::RecordTooLong,
            Self::RaggedRow { .. } => Code::RaggedRow,
            Self::LoneCarriageReturn { .. } => Code::LineEndUnsupported,
            Self::InvalidUtf8 { .. } => Code::InvalidUtf8,
            Self::InvalidJson { .. } => Code::InvalidJsonRecord,
            Self::Header { .. } => Code::MappingColumnMissing,
        };
        Failure::new(code, Fault::Source, Retry::Never, format!("{path}: {self}"))
    }
}

/// Where in the file the next record begins.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Place {
    /// Offset in the decompressed file.
    pub byte: u64,
    /// Line, from 1.
    pub line: u64,
}

/// A format's reader.
pub enum Format {
    /// Delimited text.
    Delimited(DelimitedText),
    /// JSON lines.
    Json(JsonLines),
}

impl Format {
    /// The reader for a source's format.
    pub fn new(format: &activity::Format) -> Self {
        match format.kind {
            activity::FormatType::DelimitedText => {
                Self::Delimited(DelimitedText::new(format.delimiter(), format.quote()))
            }
            activity::FormatType::Json => Self::Json(JsonLines::default()),
        }
    }

    /// Looks for the end of the record that begins `window`. `last` says that nothing follows the window.
    ///
    /// After [`Found::NeedMore`] the same window must come again with more behind it.
    pub fn find(&mut self, window: &[u8], last: bool, at: Place) -> Result<Found, FormatError> {
        match self {
            Self::Delimited(text) => text.find(window, last, at),
            Self::Json(json) => json.find(window, last),
        }
    }

    /// Appends the staged form of the record just found.
    ///
    /// Fails when the record is not what the table can take.
    pub fn stage(&mut self, record: &[u8], at: Place, out: &mut Vec<u8>) -> Result<(), FormatError> {
        match self {
            Self::Delimited(text) => text.stage(record, at, out),
            Self::Json(json) => json.stage(record, at, out),
        }
    }

    /// End of a staged blob's name.
    pub fn extension(&self) -> &'static str {
        match self {
            Self::Delimited(_) => "csv.gz",
            Self::Json(_) => "json.gz",
        }
    }
}

/// Checks that a record is UTF-8.
fn check_utf8(record: &[u8], at: Place) -> Result<(), FormatError> {
    match std::str::from_utf8(record) {
        Ok(_) => Ok(()),
        Err(e) => Err(FormatError::InvalidUtf8 { line: at.line, byte: at.byte + e.valid_up_to() as u64 }),
    }
}
