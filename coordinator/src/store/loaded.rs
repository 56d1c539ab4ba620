//! The ledger of loaded files: which version of which file has its rows in which table. It outlives the runs that loaded them; a
//! newer version of a file takes the place of the one before.

use ferry_common::{clock::Millis, id::RunId, unit::FileVersion};

/// A file version whose rows are all in a table.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LoadedFile {
    /// The table, as a hash: names may be longer than what an index takes.
    pub sink: String,
    /// Integration runtime and path, as a hash.
    pub key: String,
    /// The integration runtime whose nodes see the file.
    pub runtime: String,
    /// Its path as they see it.
    pub path: String,
    /// Size in bytes, as stored.
    pub size_bytes: u64,
    /// Nanoseconds since 1970-01-01 UTC.
    pub modified_ns: i64,
    /// Changes whenever the file is replaced.
    pub etag: String,
    /// The run that loaded it.
    pub run: RunId,
    /// When that was put down.
    pub loaded: Millis,
}

impl LoadedFile {
    /// It is this version of this file. Paths are compared, too: where two have one hash, a file is loaded again, and none is lost.
    ///
    /// The etag is not: a file's has the number of its inode, and all of those change when a share is mounted anew or moves to
    /// another disk.
    pub fn is(&self, file: &FileVersion) -> bool {
        self.path == file.path && self.size_bytes == file.size_bytes && self.modified_ns == file.modified_ns
    }
}
