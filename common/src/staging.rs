//! Where a chunk's blob lives: the naming scheme, and nothing more.

use crate::id::{AttemptNumber, ChunkNumber, RunId, UnitNumber};

/// Name of the blob of one chunk, below the staging container: `{run}/{unit}/{attempt}/{chunk}.{extension}`.
///
/// No two attempts share a name, so a late writer overwrites nothing that was accepted.
pub fn blob_name(run: &RunId, unit: UnitNumber, attempt: AttemptNumber, chunk: ChunkNumber, extension: &str) -> String {
    format!("{run}/{unit}/{attempt}/{chunk}.{extension}")
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
    format!("quarantine/{run}/")
}
