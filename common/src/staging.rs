//! Where a chunk's blob lives: the naming scheme, and nothing more. The coordinator signs names before nodes use them.

use crate::{
    activity::StagedCompression,
    id::{AttemptNumber, ChunkNumber, RunId, UnitNumber},
    plan::StagedFormat,
};

/// How names of quarantine files begin.
const QUARANTINE: &str = "quarantine";

/// Name of the blob of one chunk, below the staging container: `{run}/{unit}/{attempt}/{chunk}.{extension}`.
///
/// No two attempts share a name, so a late writer overwrites nothing that was accepted.
pub fn blob_name(run: &RunId, unit: UnitNumber, attempt: AttemptNumber, chunk: ChunkNumber, extension: &str) -> String {
    format!("{run}/{unit}/{attempt}/{chunk}.{extension}")
}

/// How the names of a run's blobs end.
pub fn extension(format: StagedFormat, compression: StagedCompression) -> &'static str {
    match (format, compression) {
        // It holds its own compression.
        (StagedFormat::Parquet, _) => "parquet",
        (StagedFormat::Csv, StagedCompression::None) => "csv",
        (StagedFormat::Csv, StagedCompression::Gzip) => "csv.gz",
        (StagedFormat::Json, StagedCompression::None) => "json",
        (StagedFormat::Json, StagedCompression::Gzip) => "json.gz",
    }
}

/// Prefix of every blob of a run.
pub fn run_prefix(run: &RunId) -> String {
    format!("{run}/")
}

/// Name of the file that keeps the rows left out of one chunk: `quarantine/{run}/{unit}-{attempt}-{chunk}.csv`.
///
/// It lies beside the run's own prefix, so that sweeping the run leaves it.
pub fn quarantine_name(run: &RunId, unit: UnitNumber, attempt: AttemptNumber, chunk: ChunkNumber) -> String {
    format!("{}{unit}-{attempt}-{chunk}.csv", quarantine_prefix(run))
}

/// Prefix of every quarantine file of a run.
pub fn quarantine_prefix(run: &RunId) -> String {
    format!("{QUARANTINE}/{run}/")
}

/// The name is one of a chunk of this run, as [`blob_name`] makes them.
pub fn is_chunk_of(name: &str, run: &RunId) -> bool {
    let parts: Vec<&str> = name.split('/').collect();
    let is_number = |text: &str| !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit());
    match parts.as_slice() {
        [owner, unit, attempt, file] => {
            let chunk = file.split('.').next().unwrap_or_default();
            *owner == run.as_str() && [*unit, *attempt, chunk].iter().all(|part| is_number(part))
        }
        _ => false,
    }
}

/// What a blob of an attempt holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum BlobOf {
    /// A chunk.
    Chunk(ChunkNumber),
    /// The rows left out of a chunk.
    Quarantine(ChunkNumber),
}

/// What the blob of a name holds; `None` if it is not named as those of attempts are.
pub fn blob_of(name: &str) -> Option<BlobOf> {
    let parts: Vec<&str> = name.split('/').collect();
    let number = |text: &str| text.parse().ok().map(ChunkNumber);
    match parts.as_slice() {
        [_, _, _, chunk] => number(chunk.split('.').next()?).map(BlobOf::Chunk),
        [QUARANTINE, _, file] => number(file.strip_suffix(".csv")?.rsplit('-').next()?).map(BlobOf::Quarantine),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_runs_chunks_are_told_from_everything_else() {
        let run: RunId = "backups".parse().unwrap();
        for (name, is_ours) in [
            ("backups/1/2/0.csv.gz", true),
            ("backups/1/2/0.parquet", true),
            ("backups/monday.tar", false),
            ("backups/a/b/0.csv", false),
            ("backups/1/2/x.csv", false),
            ("other/1/2/0.csv", false),
            ("quarantine/backups/1-2-0.csv", false),
        ] {
            assert_eq!(is_chunk_of(name, &run), is_ours, "{name}");
        }
    }

    #[test]
    fn a_name_tells_its_chunk() {
        // Runs may be named like anything.
        for run in ["r-1.2", "quarantine"] {
            let run: RunId = run.parse().unwrap();
            let (unit, attempt, chunk) = (UnitNumber(3), AttemptNumber(2), ChunkNumber(17));
            let name = blob_name(&run, unit, attempt, chunk, "csv.gz");
            assert_eq!(blob_of(&name), Some(BlobOf::Chunk(chunk)), "{name}");
            let name = quarantine_name(&run, unit, attempt, chunk);
            assert_eq!(blob_of(&name), Some(BlobOf::Quarantine(chunk)), "{name}");
        }
        for odd in ["", "a", "r/1/2/x.csv", "other/r/1-2-3.csv", "quarantine/r/1-2-3.txt"] {
            assert_eq!(blob_of(odd), None, "{odd}");
        }
    }
}
