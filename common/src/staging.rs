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
