//! What a node reads and reports: plain values, no I/O, no clock.

use crate::id::{AttemptNumber, ChunkNumber, LeaseToken, RunId, UnitNumber};
use serde::{Deserialize, Serialize};
use std::ops::AddAssign;

/// A source file as it was when listed. A copy of it fails when the file is another version by then.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct FileVersion {
    /// Absolute path, as the node sees it.
    pub path: String,
    /// Path below the source folder.
    pub relative_path: String,
    /// Size in bytes, as stored.
    pub size_bytes: u64,
    /// Nanoseconds since 1970-01-01 UTC.
    pub modified_ns: i64,
    /// Changes whenever the file is replaced.
    pub etag: String,
}

/// What an attempt, a unit or a run has done.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Counters {
    /// Bytes fetched from the source as stored.
    pub data_read_bytes: u64,
    /// Bytes of staged records before compression.
    pub data_written_bytes: u64,
    /// Bytes sent to staging.
    pub staged_bytes: u64,
    /// Records parsed.
    pub rows_read: u64,
    /// Records left out as the fault settings allow.
    pub rows_skipped: u64,
}

impl AddAssign for Counters {
    fn add_assign(&mut self, other: Self) {
        self.data_read_bytes += other.data_read_bytes;
        self.data_written_bytes += other.data_written_bytes;
        self.staged_bytes += other.staged_bytes;
        self.rows_read += other.rows_read;
        self.rows_skipped += other.rows_skipped;
    }
}

/// One attempt, and the right to it.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct AttemptKey {
    /// The run.
    pub run: RunId,
    /// The unit within the run; [`UnitNumber::LISTING`] for the listing.
    pub unit: UnitNumber,
    /// The attempt at that unit.
    pub attempt: AttemptNumber,
    /// Proves the lease.
    pub token: LeaseToken,
}

/// Consecutive records of one file, staged as one blob.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Chunk {
    /// Number within the file.
    pub number: ChunkNumber,
    /// Name below the staging container.
    pub blob: String,
    /// Size of the records before compression, in bytes.
    pub raw_bytes: u64,
    /// Size of the blob, in bytes.
    pub staged_bytes: u64,
    /// Records in it.
    pub rows: u64,
    /// Offset in the decompressed source just after its last record.
    pub source_end_bytes: u64,
    /// Records of the file up to and with this chunk.
    pub rows_end: u64,
    /// Line ends in the decompressed source up to there.
    pub source_lines_end: u64,
    /// CRC-32 of the blob.
    pub crc32: u32,
}

/// A column that a sample of the source shows.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SampleColumn {
    /// Name in the header row or JSON record.
    pub name: String,
    /// An Azure Data Explorer scalar type that every sampled value fits.
    #[serde(rename = "type")]
    pub kind: String,
}

/// Some of the files that a listing found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ListPage {
    /// From 0, without gaps.
    pub number: u32,
    /// The files.
    pub files: Vec<FileVersion>,
    /// Nothing follows.
    pub last: bool,
    /// On the last page: the columns of a sample.
    pub sample: Vec<SampleColumn>,
    /// On the last page: what the user should know.
    pub warnings: Vec<String>,
}

/// How far earlier attempts at a file have come.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Resume {
    /// The first chunk that is not accepted yet.
    pub next_chunk: u32,
    /// Where it begins in the decompressed source; 0 for the start of the file.
    pub source_offset_bytes: u64,
    /// Line ends before it.
    pub source_lines: u64,
    /// Records before it.
    pub rows: u64,
    /// Accepted chunks after `next_chunk`.
    pub accepted_chunks: Vec<ChunkNumber>,
}

/// What a node tells the coordinator about an attempt.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Event {
    /// Files were found.
    Listed(ListPage),
    /// A chunk's blob is committed.
    ChunkStaged(Chunk),
    /// The file was read to its end and every chunk is staged.
    Completed {
        /// What the attempt did.
        counters: Counters,
        /// Chunks of the file.
        chunks: u32,
        /// Names in the header row, if the file has one.
        columns: Vec<String>,
    },
    /// The attempt failed.
    Failed(crate::failure::Failure),
    /// The node gives the unit back, unfinished through no fault of the unit.
    GivenBack,
}

/// An [`Event`] on its way.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Report {
    /// Number within the life of the node.
    pub sequence: u64,
    /// The attempt.
    pub key: AttemptKey,
    /// What happened.
    pub event: Event,
}

/// Where a node stages, as the coordinator grants it.
#[derive(Clone, PartialEq, Eq)]
pub enum StagingTarget {
    /// A blob container; the URL is signed for writing and is a secret.
    AzureBlob {
        /// Container URL with its signature.
        container_sas_url: String,
        /// Let the service verify an MD5 of each block.
        md5: bool,
    },
    /// A folder.
    FileSystem {
        /// Absolute path.
        folder: String,
    },
}

impl std::fmt::Debug for StagingTarget {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::AzureBlob { container_sas_url, md5 } => f
                .debug_struct("AzureBlob")
                .field("container", &crate::failure::redact(container_sas_url))
                .field("md5", md5)
                .finish(),
            Self::FileSystem { folder } => f.debug_struct("FileSystem").field("folder", folder).finish(),
        }
    }
}

/// What a node shall do under a lease.
#[derive(Debug, Clone, PartialEq)]
pub enum Work {
    /// List the source.
    List {
        /// The source.
        source: Box<crate::activity::Source>,
        /// Files on one page.
        page_files_max: u32,
        /// Files to sample for columns and types.
        sample_files_max: u32,
    },
    /// Copy one file to staging.
    Copy(Box<CopyWork>),
}

/// Copy one file to staging.
#[derive(Debug, Clone, PartialEq)]
pub struct CopyWork {
    /// The file, pinned.
    pub file: FileVersion,
    /// The source it belongs to.
    pub source: crate::activity::Source,
    /// Where to.
    pub staging: StagingTarget,
    /// Largest chunk, in bytes before compression.
    pub chunk_bytes_max: u64,
    /// What is staged already.
    pub resume: Resume,
    /// Names that a header row may hold; empty: any.
    pub columns_known: Vec<String>,
    /// Names that a header row must hold.
    pub columns_required: Vec<String>,
    /// Fields of a record without a header; 0: as the first record.
    pub fields_expected: u32,
    /// gzip level of staged blobs, 1 to 9.
    pub gzip_level: u32,
}

/// A lease with its work.
#[derive(Debug, Clone, PartialEq)]
pub struct Grant {
    /// The attempt.
    pub key: AttemptKey,
    /// What to do.
    pub work: Work,
}
