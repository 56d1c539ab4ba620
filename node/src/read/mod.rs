//! Opening a source: allowed roots, the pinned version, decompression, and the window that formats read through.

mod archive;
mod codec;
mod encoding;
mod expansion;
mod file;
mod member;
mod roots;
mod text;

pub use archive::{ArchiveError, Input as ArchiveInput, each_member};
pub use codec::{Archive, Decoder, Packing, packing_of};
pub use encoding::{Utf8Reader, encoding_named};
pub use file::{FileReader, SourceFile, holds_own_packing, version_of};
pub use member::unpacked_member;
pub use roots::{Folder, Roots};
pub use text::{TextWindow, window_buffers};

use ferry_common::failure::{Code, Failure, Fault, Retry, with_causes};
use std::io;

/// What can go wrong in reading a source.
#[derive(Debug, thiserror::Error)]
pub enum ReadError {
    /// Outside the roots.
    #[error("{path} lies outside the folders that this node allows ({roots}); add one with --allow-root")]
    NotAllowed {
        /// The path, links followed.
        path: String,
        /// The roots.
        roots: String,
    },
    /// Not there.
    #[error("{path} does not exist on this node")]
    Missing {
        /// The path.
        path: String,
    },
    /// No right.
    #[error("{path} may not be read by this node: {source}")]
    Forbidden {
        /// The path.
        path: String,
        /// What the system said.
        source: io::Error,
    },
    /// Another version.
    #[error("{path} changed since it was listed: {what}")]
    Changed {
        /// The path.
        path: String,
        /// What differs.
        what: String,
    },
    /// Damaged.
    #[error("{path} is damaged or cut off: {source} near byte {byte} of the compressed file")]
    Corrupt {
        /// The path.
        path: String,
        /// Offset in the file as stored.
        byte: u64,
        /// What the decompressor said.
        source: io::Error,
    },
    /// Name and content do not agree, or ferry cannot unpack it.
    #[error("{path}: {why}")]
    Packing {
        /// The path.
        path: String,
        /// What is wrong.
        why: String,
    },
    /// Few bytes that become far too many.
    #[error("{path} is refused: {what}")]
    Bomb {
        /// The path.
        path: String,
        /// What it became.
        what: String,
    },
    /// Not of the encoding that the settings name.
    #[error("{path}: {what}; is source.format.encodingName right?")]
    Encoding {
        /// The path.
        path: String,
        /// Where it is not.
        what: String,
    },
    /// Anything else.
    #[error("reading {path} failed at byte {byte}: {source}")]
    Io {
        /// The path.
        path: String,
        /// Offset in the file as stored.
        byte: u64,
        /// What the system said.
        source: io::Error,
    },
}

impl ReadError {
    /// Judges an error of the system at the opening of a file.
    fn opening(path: &str, source: io::Error) -> Self {
        let path = path.to_owned();
        match source.kind() {
            io::ErrorKind::NotFound => Self::Missing { path },
            io::ErrorKind::PermissionDenied => Self::Forbidden { path, source },
            _ => Self::Io { path, byte: 0, source },
        }
    }
}

impl From<ReadError> for Failure {
    fn from(error: ReadError) -> Self {
        let message = with_causes(&error);
        let (code, fault, retry) = match error {
            ReadError::NotAllowed { .. } => (Code::PathNotAllowed, Fault::Settings, Retry::Never),
            ReadError::Missing { .. } => (Code::FileMissing, Fault::Source, Retry::Never),
            ReadError::Forbidden { .. } => (Code::FileForbidden, Fault::Source, Retry::Never),
            ReadError::Changed { .. } => (Code::SourceChanged, Fault::Source, Retry::Never),
            ReadError::Corrupt { .. } => (Code::CompressionCorrupt, Fault::Source, Retry::Never),
            ReadError::Packing { .. } => (Code::FormatMismatch, Fault::Source, Retry::Never),
            ReadError::Bomb { .. } => (Code::ExpansionTooLarge, Fault::Source, Retry::Never),
            ReadError::Encoding { .. } => (Code::InvalidUtf8, Fault::Source, Retry::Never),
            ReadError::Io { .. } => (Code::SourceReadFailed, Fault::Source, Retry::Backoff),
        };
        Self::new(code, fault, retry, message)
    }
}
