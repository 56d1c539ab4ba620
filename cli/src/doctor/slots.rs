//! How many files a node on this host should copy at once.
//!
//! Compression is the one thing of a copy that takes a core; reading, cutting and sending go on beside it. So a slot takes a
//! core, as long as memory and the line to staging have room for it.

use crate::output::bytes;

/// What a node takes by itself, and each slot more: blocks on their way, a window of the file, the compressor.
pub(super) const NODE_BYTES: u64 = 64 << 20;
pub(super) const SLOT_BYTES: u64 = 32 << 20;
/// What gzip makes of records, at least: the line carries so many times less than one reads.
const RATIO: f64 = 2.5;
/// Part of the free memory that ferry may take.
const MEMORY_SHARE: f64 = 0.75;

/// What the host has.
#[derive(Debug, Clone, Copy)]
pub(super) struct Means {
    pub(super) cores: u32,
    /// `None`: not known.
    pub(super) memory_bytes: Option<u64>,
    /// Records that one core compresses.
    pub(super) gzip_bytes_per_second: f64,
    /// What the line to staging takes; `None`: not measured.
    pub(super) upload_bytes_per_second: Option<f64>,
}

/// A number of slots and why.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Suggestion {
    pub(super) slots: u32,
    pub(super) reason: String,
}

/// Slots that fit into so much memory.
pub(super) fn slots_in(memory_bytes: u64) -> u32 {
    let ours = (memory_bytes as f64 * MEMORY_SHARE) as u64;
    u32::try_from(ours.saturating_sub(NODE_BYTES) / SLOT_BYTES).unwrap_or(u32::MAX)
}

/// The number of slots that all means allow.
pub(super) fn suggest(means: &Means) -> Suggestion {
    let cores = means.cores.max(1);
    let by_memory = means.memory_bytes.map_or(u32::MAX, slots_in).max(1);
    let by_line = means.upload_bytes_per_second.map_or(u32::MAX, |upload| {
        let of_slot = (means.gzip_bytes_per_second / RATIO).max(1.0);
        ((upload / of_slot).ceil() as u32).max(1)
    });
    let slots = cores.min(by_memory).min(by_line);
    let reason = if slots == cores {
        format!("one a core: {cores} of them, and compression takes one a slot")
    } else if slots == by_memory {
        format!("memory: {} for the node and {} a slot", bytes(NODE_BYTES), bytes(SLOT_BYTES))
    } else {
        let upload = bytes(means.upload_bytes_per_second.unwrap_or_default() as u64);
        format!("the line to staging takes {upload}/s, which so many slots fill; more would wait")
    };
    Suggestion { slots, reason }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_scarcest_means_decides() {
        let host = Means {
            cores: 8,
            memory_bytes: Some(16 << 30),
            gzip_bytes_per_second: 200e6,
            upload_bytes_per_second: None,
        };
        for (case, means, slots, reason) in [
            ("nothing is scarce", host, 8, "one a core"),
            ("memory is", Means { memory_bytes: Some(256 << 20), ..host }, 4, "memory"),
            ("memory is very", Means { memory_bytes: Some(10 << 20), ..host }, 1, "memory"),
            ("memory is not known", Means { memory_bytes: None, ..host }, 8, "one a core"),
            ("a line of 1 Gbit/s", Means { upload_bytes_per_second: Some(120e6), ..host }, 2, "the line"),
            ("a slow line", Means { upload_bytes_per_second: Some(1e6), ..host }, 1, "the line"),
            ("a line that is not scarce", Means { upload_bytes_per_second: Some(2e9), ..host }, 8, "one a core"),
        ] {
            let suggestion = suggest(&means);
            assert_eq!(suggestion.slots, slots, "{case}");
            assert!(suggestion.reason.starts_with(reason), "{case}: {}", suggestion.reason);
        }
    }
}
