//! What a node reads and reports: plain values, no I/O, no clock.

use crate::{
    id::{AttemptNumber, ChunkNumber, LeaseToken, RunId, UnitNumber},
    plan::CopyPlan,
    scalar::ScalarType,
};
use serde::{Deserialize, Serialize};
use std::{ops::AddAssign, time::Duration};

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

/// Part of one file, cut where a record begins.
///
/// Bytes for text and Avro, row groups for Parquet; `end` is the first that is not of the part.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct FileRange {
    /// Where it begins.
    pub start: u64,
    /// Where it ends.
    pub end: u64,
    /// Number of the part, from 0.
    pub number: u32,
    /// Parts of the file.
    pub count: u32,
}

impl FileRange {
    /// The part reaches to the end of the file.
    pub fn is_last(&self) -> bool {
        self.number + 1 == self.count
    }
}

/// What a unit covers.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub enum Scope {
    /// One whole file.
    #[default]
    File,
    /// Part of one large file.
    Range(FileRange),
    /// Several small files, read one after the other.
    Pack(Vec<FileVersion>),
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
    /// File in which it ends: of the unit's files and their archives' members, from 0.
    #[serde(default)]
    pub file_end: u32,
    /// Records of the file left out up to and with this chunk; `rows_end` counts them, too.
    #[serde(default)]
    pub skipped_end: u64,
    /// Name of the blob with the rows left out, if there are any.
    #[serde(default)]
    pub quarantine: Option<String>,
    /// Date of its rows, where the settings ask for one (RFC 3339).
    #[serde(default)]
    pub created: Option<String>,
    /// Rows of each file in it, where the unit has several.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub files: Vec<FileRows>,
}

/// A column that a sample of the source shows.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SampleColumn {
    /// Name in the header row or JSON record.
    pub name: String,
    /// An Azure Data Explorer scalar type that every sampled value fits.
    #[serde(rename = "type")]
    pub kind: String,
    /// The settings or the folders add it; no file has it.
    #[serde(default)]
    pub is_added: bool,
    /// Parquet: types of a table's column that the cluster fills from this one by itself.
    #[serde(default)]
    pub reads_as: Vec<ScalarType>,
}

/// Some of the files that a listing found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ListPage {
    /// From 0, without gaps.
    pub number: u32,
    /// The files.
    pub files: Vec<FileVersion>,
    /// Large files to copy in parts: index in `files`, and the parts.
    pub splits: Vec<(u32, Vec<FileRange>)>,
    /// Nothing follows.
    pub last: bool,
    /// On the last page: the columns of a sample.
    pub sample: Vec<SampleColumn>,
    /// On the last page: what the user should know.
    pub warnings: Vec<String>,
    /// On the last page, if it was asked for: what copying some of the files takes.
    pub trial: Option<Trial>,
}

/// A part of some files, read, cut, checked and compressed on one thread, and sent nowhere.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Trial {
    /// What was done.
    pub counters: Counters,
    /// How long it took, in microseconds.
    pub duration_us: u64,
    /// Files that something was read of.
    pub files: u32,
    /// Why nothing could be tried; empty: something was.
    pub why_not: String,
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
    /// Records before it, those left out too.
    pub rows: u64,
    /// Records left out before it.
    pub rows_skipped: u64,
    /// File in which it begins, as [`Chunk::file_end`] counts.
    pub file: u32,
    /// Accepted chunks after `next_chunk`.
    pub accepted_chunks: Vec<ChunkNumber>,
}

/// Records of one file.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct FileRows {
    /// Path below the source folder; an archive's member as `archive.zip/member.csv`.
    pub relative_path: String,
    /// Records read.
    pub rows: u64,
    /// Of these, left out.
    pub skipped: u64,
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
        /// Chunks of the unit.
        chunks: u32,
        /// Records after the last chunk, of each file of several: all of them were left out.
        files: Vec<FileRows>,
        /// The quarantine of rows after the last chunk.
        quarantine: Option<String>,
    },
    /// What became of each file of a [`ClearWork`], in their order.
    Cleared(Vec<FileEnd>),
    /// The attempt failed.
    Failed(crate::failure::Failure),
    /// The node gives the unit back, unfinished through no fault of the unit.
    GivenBack,
}

/// What became of a file that was to be deleted or moved.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum FileEnd {
    /// It is deleted or moved.
    Done,
    /// It was not there any more: whoever did this page before did that.
    Gone,
    /// It is another version than the one that was loaded, and is left in place.
    Changed(String),
    /// It is left in place, for this reason.
    Failed(String),
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

/// What a storage service verifies of each block.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Integrity {
    /// Nothing.
    None,
    /// An MD5.
    Md5,
    /// A CRC-64/NVME.
    Crc64,
}

/// Blobs of consecutive chunks of an attempt, and their quarantines.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct BlobAsk {
    /// Number of the first chunk.
    pub first_chunk: u32,
    /// How many.
    pub chunks: u32,
}

/// What an attempt may write its next blobs with, and nothing else. A secret.
#[derive(Clone, PartialEq, Eq)]
pub struct BlobSignatures {
    /// What all have in common: the query of a blob's address without its `sig`.
    pub common: String,
    /// Number of the first chunk.
    pub first_chunk: u32,
    /// The `sig` of each chunk's blob, encoded as it stands in an address.
    pub chunks: Vec<String>,
    /// The same of each chunk's quarantine; empty where no rows may be left out.
    pub quarantines: Vec<String>,
    /// How long they hold from when they are made.
    pub ttl: Duration,
}

impl std::fmt::Debug for BlobSignatures {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("BlobSignatures")
            .field("first_chunk", &self.first_chunk)
            .field("chunks", &self.chunks.len())
            .field("ttl", &self.ttl)
            .finish_non_exhaustive()
    }
}

/// Signatures for an attempt that goes on, instead of those it had.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SignedBlobs {
    /// The attempt.
    pub key: AttemptKey,
    /// They begin with the chunk that was asked for.
    pub signatures: BlobSignatures,
}

/// Where a node stages, as the coordinator grants it.
#[derive(Clone, PartialEq, Eq)]
pub enum StagingTarget {
    /// Blobs of the attempt alone, each with a signature of its own.
    SignedBlobs {
        /// Container URL without a signature.
        container_url: String,
        /// What the service verifies of each block.
        integrity: Integrity,
        /// Of the first blobs; the node asks for more as it goes.
        signatures: BlobSignatures,
    },
    /// A blob container; the URL is signed for writing and is a secret.
    AzureBlob {
        /// Container URL with its signature.
        container_sas_url: String,
        /// What the service verifies of each block.
        integrity: Integrity,
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
            Self::SignedBlobs { container_url, integrity, signatures } => f
                .debug_struct("SignedBlobs")
                .field("container", container_url)
                .field("integrity", integrity)
                .field("signatures", signatures)
                .finish(),
            Self::AzureBlob { container_sas_url, integrity } => f
                .debug_struct("AzureBlob")
                .field("container", &crate::failure::redact(container_sas_url))
                .field("integrity", integrity)
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
        /// Files larger than this are to be copied in parts of about this size; 0: none are.
        split_bytes: u64,
        /// Try out what copying takes with these settings; `None`: do not.
        trial: Option<Box<crate::activity::Settings>>,
    },
    /// Copy one file to staging.
    Copy(Box<CopyWork>),
    /// Delete or move files that are loaded.
    Clear(ClearWork),
}

/// Delete or move files of the source whose rows are visible. May be done again: what is gone is done.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ClearWork {
    /// The source's folder: on a node that does not see it, no file is gone.
    pub folder_path: String,
    /// The files, as they were loaded. What is another version by now is left alone.
    pub files: Vec<FileVersion>,
    /// The folder to move them to; `None`: they are deleted.
    pub move_to: Option<String>,
}

/// Copy what a unit covers to staging.
#[derive(Debug, Clone, PartialEq)]
pub struct CopyWork {
    /// The file, pinned. Of a pack: its first file.
    pub file: FileVersion,
    /// What the unit covers.
    pub scope: Scope,
    /// The source it belongs to.
    pub source: crate::activity::Source,
    /// How to copy.
    pub settings: crate::activity::Settings,
    /// The date that rows' extents get.
    pub creation_time: Option<crate::activity::CreationTime>,
    /// Which columns are wanted.
    pub plan: CopyPlan,
    /// Where to.
    pub staging: StagingTarget,
    /// What is staged already.
    pub resume: Resume,
}

/// A lease with its work.
#[derive(Debug, Clone, PartialEq)]
pub struct Grant {
    /// The attempt.
    pub key: AttemptKey,
    /// What to do.
    pub work: Work,
}
