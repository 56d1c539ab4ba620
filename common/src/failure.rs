//! The one judged error: what failed, whose fault it is, and whether trying again can help.

use serde::{Deserialize, Serialize};
use std::{fmt, time::Duration};

/// First wait before a repeat.
const BACKOFF_FIRST: Duration = Duration::from_millis(500);
/// Longest wait before a repeat.
const BACKOFF_LAST: Duration = Duration::from_secs(60);

macro_rules! codes {
    ($($(#[$doc:meta])* $name:ident,)*) => {
        /// Stable name of a failure. `docs/failures.md` has a section for each.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
        pub enum Code { $($(#[$doc])* $name,)* }

        impl Code {
            /// Every code.
            pub const ALL: &[Self] = &[$(Self::$name,)*];

            /// The code as stored and shown.
            pub fn as_str(self) -> &'static str {
                match self { $(Self::$name => stringify!($name),)* }
            }

            /// The code of this name, if there is one.
            pub fn from_name(name: &str) -> Option<Self> {
                match name { $(stringify!($name) => Some(Self::$name),)* _ => None }
            }
        }
    };
}

codes! {
    /// The copy activity is not valid.
    SettingsInvalid,
    /// A secret that the settings name is not there.
    SecretMissing,
    /// The mapping names a column that the source or the table does not have.
    MappingColumnMissing,
    /// The source folder does not exist.
    FolderMissing,
    /// No file matches.
    NoFilesMatched,
    /// The path lies outside the roots that the node allows.
    PathNotAllowed,
    /// A path is not valid UTF-8.
    PathNotUnicode,
    /// The file list cannot be used.
    FileListInvalid,
    /// A file that was asked for is not there.
    FileMissing,
    /// The node may not read the file.
    FileForbidden,
    /// Reading the source failed.
    SourceReadFailed,
    /// The file is no longer the version that was listed.
    SourceChanged,
    /// The compressed file is damaged or cut off.
    CompressionCorrupt,
    /// A quote is left open.
    UnclosedQuote,
    /// One record is longer than the limit.
    RecordTooLong,
    /// A record has another number of fields than the others.
    RaggedRow,
    /// A line ends with a carriage return alone.
    LineEndUnsupported,
    /// A record is not UTF-8.
    InvalidUtf8,
    /// A line is not a JSON object.
    InvalidJsonRecord,
    /// A value does not fit the type of its column.
    ValueIncompatible,
    /// A record is not as its format says.
    RecordInvalid,
    /// The file is not what its name or the settings say.
    FormatMismatch,
    /// A compressed file becomes far too large.
    ExpansionTooLarge,
    /// A part of a large file does not end where a record does.
    SplitInsideRecord,
    /// What was to be copied as planned is not as it was planned.
    PlanChanged,
    /// No node may delete or move files of the source.
    SourceChangesForbidden,
    /// More rows were left out than the settings allow.
    TooManyRowsSkipped,
    /// Staging storage cannot be reached.
    StagingUnreachable,
    /// Staging storage refuses the signature or the rights.
    StagingForbidden,
    /// The staging container or folder does not exist.
    StagingMissing,
    /// Staging storage has no room.
    StagingFull,
    /// Staging storage received other bytes than were sent.
    StagingChecksum,
    /// Staging storage failed in another way.
    StagingFailed,
    /// The cluster cannot be reached.
    SinkUnreachable,
    /// The cluster refuses the sign-in or the rights.
    SinkForbidden,
    /// The database does not exist.
    DatabaseNotFound,
    /// The table does not exist.
    TableNotFound,
    /// The table's columns do not agree with the source or the mapping.
    SchemaConflict,
    /// The cluster refused the staged data.
    IngestRejected,
    /// The table received another number of rows than were staged.
    RowCountMismatch,
    /// The cluster is busy.
    SinkThrottled,
    /// The cluster failed in another way.
    SinkFailed,
    /// A lease ended without a word from its node.
    LeaseExpired,
    /// An attempt panicked: a bug in ferry.
    AttemptPanicked,
    /// The coordinator's store failed.
    StoreFailed,
    /// Something that must not happen: a bug in ferry.
    Internal,
}

impl fmt::Display for Code {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// Who can end a failure: the author of the settings, the owner of the source or of the sink, or ferry itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[allow(missing_docs, reason = "the variants are their own words")]
pub enum Fault {
    Settings,
    Source,
    Sink,
    Runtime,
}

/// What the coordinator may do next.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum Retry {
    /// Trying again cannot help.
    Never,
    /// Try again after a growing wait.
    Backoff,
    /// Try again after this long.
    After(Duration),
}

/// A judged error. It crosses the wire, is stored and is shown; its message holds no secret and no signed URL.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
#[error("{code}: {message}")]
pub struct Failure {
    /// Stable name.
    pub code: Code,
    /// Who can end it.
    pub fault: Fault,
    /// What may be done next.
    pub retry: Retry,
    /// What happened, with the names and numbers needed to act.
    pub message: String,
}

impl Failure {
    /// A judged failure.
    pub fn new(code: Code, fault: Fault, retry: Retry, message: impl Into<String>) -> Self {
        Self { code, fault, retry, message: message.into() }
    }

    /// The settings' fault: nobody else can end it.
    pub fn settings(code: Code, message: impl Into<String>) -> Self {
        Self::new(code, Fault::Settings, Retry::Never, message)
    }

    /// The failure of a node that went silent.
    pub fn lease_expired() -> Self {
        Self::new(Code::LeaseExpired, Fault::Runtime, Retry::Backoff, "the node that held the lease went silent")
    }

    /// A broken invariant that was noticed.
    pub fn internal(message: impl Into<String>) -> Self {
        Self::new(Code::Internal, Fault::Runtime, Retry::Backoff, message)
    }
}

/// How long to wait before a repeat after `failures` failures (from 1): doubling, with jitter, up to a minute.
///
/// `spread` in 0..=1 picks the point within the upper half of the wait, so that many do not return at once.
pub fn backoff(failures: u32, spread: f64) -> Duration {
    let doubled =
        BACKOFF_FIRST.saturating_mul(1_u32.checked_shl(failures.saturating_sub(1).min(16)).unwrap_or(u32::MAX));
    doubled.min(BACKOFF_LAST).mul_f64(0.5 + 0.5 * spread.clamp(0.0, 1.0))
}

/// A noun in a message as its number asks for: `1 file`, `2 files`. The caller writes the number.
pub fn plural(number: u64, noun: &str) -> String {
    if number == 1 { noun.to_owned() } else { format!("{noun}s") }
}

/// An error and its causes in one line.
pub fn with_causes(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut next = error.source();
    while let Some(cause) = next {
        let cause_text = cause.to_string();
        // Many errors repeat their cause in their own text.
        if !text.contains(&cause_text) {
            text.push_str(": ");
            text.push_str(&cause_text);
        }
        next = cause.source();
    }
    text
}

/// Cuts the query off every URL in a text, since a signature may stand there.
pub fn redact(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(at) = rest.find("://") {
        let end = rest[at..]
            .find(|c: char| c.is_whitespace() || matches!(c, '"' | '\'' | ')' | '>'))
            .map_or(rest.len(), |n| at + n);
        let url = &rest[..end];
        match url[at..].find('?') {
            Some(query) => {
                out.push_str(&url[..at + query]);
                out.push_str("?...");
            }
            None => out.push_str(url),
        }
        rest = &rest[end..];
    }
    out.push_str(rest);
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn backoff_doubles_to_a_minute_and_is_spread() {
        assert_eq!(backoff(1, 1.0), Duration::from_millis(500));
        assert_eq!(backoff(3, 1.0), Duration::from_secs(2));
        assert_eq!(backoff(40, 1.0), BACKOFF_LAST);
        assert_eq!(backoff(40, 0.0), BACKOFF_LAST / 2);
    }

    #[test]
    fn one_thing_is_no_plural() {
        assert_eq!([0, 1, 2].map(|number| plural(number, "file")), ["files", "file", "files"]);
    }

    #[test]
    fn a_signature_never_survives_redaction() {
        let text = "put https://a.blob.core.windows.net/c/b?sv=1&sig=SECRET failed (see http://x/y?sig=SECRET) twice";
        let safe = redact(text);
        assert!(!safe.contains("SECRET"), "{safe}");
        assert_eq!(safe, "put https://a.blob.core.windows.net/c/b?... failed (see http://x/y?...) twice");
    }

    #[test]
    fn every_code_has_a_name_that_leads_back() {
        for code in Code::ALL {
            assert_eq!(Code::from_name(code.as_str()), Some(*code));
        }
    }
}
