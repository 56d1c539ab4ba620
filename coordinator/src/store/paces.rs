//! How fast ingest commands against a database went, as sums: a run adds to them when it ends, so that a restart goes on with
//! what is known, and a row stays as small as it is.

use ferry_common::{
    activity::{Activity, Ingestion},
    clock::Millis,
};
use std::time::Duration;

/// What is left of a command's weight with each newer one: about the last 200 count.
const COMMAND_KEEPS: f64 = 0.995;
/// The same of publishing: about the last 5.
const PUBLISH_KEEPS: f64 = 0.8;
/// Less than this of a weight is nothing: PostgreSQL refuses a product that is too small for a number, and with it the
/// end of the run.
const KEEPS_MIN: f64 = 1e-6;

/// Commands that are held against each other: into one database, in one way.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct PaceKey {
    /// The cluster's address.
    pub endpoint: String,
    /// The database.
    pub database: String,
    /// `direct` or `queued`: what they wait for is not the same.
    pub ingestion: String,
}

impl PaceKey {
    /// Those of an activity.
    pub fn of(activity: &Activity) -> Self {
        let sink = &activity.sink;
        let ingestion = match sink.ingestion {
            Ingestion::Direct => "direct",
            Ingestion::Queued => "queued",
        };
        Self {
            endpoint: sink.endpoint.trim_end_matches('/').to_ascii_lowercase(),
            database: sink.database.clone(),
            ingestion: ingestion.to_owned(),
        }
    }
}

/// Sums over what was measured. Each is weighted: what is newer counts for more.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub struct PaceSums {
    /// Commands, without any weight.
    pub commands: u64,
    /// Weights of the commands.
    pub weight: f64,
    /// Bytes of their records before compression.
    pub bytes: f64,
    /// Seconds from a command's sending until its place was free for another.
    pub seconds: f64,
    /// Squares of the bytes.
    pub bytes_squared: f64,
    /// Bytes times seconds.
    pub bytes_seconds: f64,
    /// Weights of runs that published.
    pub publish_weight: f64,
    /// Seconds that their publishing took.
    pub publish_seconds: f64,
}

impl PaceSums {
    /// Adds a command.
    pub fn note_command(&mut self, bytes: u64, took: Duration) {
        let (bytes, seconds) = (bytes as f64, took.as_secs_f64());
        let one = Self {
            commands: 1,
            weight: 1.0,
            bytes,
            seconds,
            bytes_squared: bytes * bytes,
            bytes_seconds: bytes * seconds,
            ..Self::default()
        };
        *self = self.and(&one, one.keeps());
    }

    /// Adds the publishing of a run.
    pub fn note_publishing(&mut self, took: Duration) {
        let one = Self { publish_weight: 1.0, publish_seconds: took.as_secs_f64(), ..Self::default() };
        *self = self.and(&one, (1.0, PUBLISH_KEEPS));
    }

    /// Nothing was measured.
    pub fn is_empty(&self) -> bool {
        self.commands == 0 && self.publish_weight == 0.0
    }

    /// What is left of the weights of older commands, and of older publishing, when these are added.
    pub(super) fn keeps(&self) -> (f64, f64) {
        let of_publishing = if self.publish_weight > 0.0 { PUBLISH_KEEPS } else { 1.0 };
        let of_commands = COMMAND_KEEPS.powf(self.commands as f64);
        (if of_commands < KEEPS_MIN { 0.0 } else { of_commands }, of_publishing)
    }

    /// These and newer ones.
    pub(super) fn and(&self, newer: &Self, (commands, publishing): (f64, f64)) -> Self {
        Self {
            commands: self.commands.saturating_add(newer.commands),
            weight: self.weight * commands + newer.weight,
            bytes: self.bytes * commands + newer.bytes,
            seconds: self.seconds * commands + newer.seconds,
            bytes_squared: self.bytes_squared * commands + newer.bytes_squared,
            bytes_seconds: self.bytes_seconds * commands + newer.bytes_seconds,
            publish_weight: self.publish_weight * publishing + newer.publish_weight,
            publish_seconds: self.publish_seconds * publishing + newer.publish_seconds,
        }
    }
}

/// How commands into a database went, as stored.
#[derive(Debug, Clone, PartialEq)]
pub struct PaceRow {
    /// Which commands.
    pub key: PaceKey,
    /// When something was added last.
    pub last: Millis,
    /// What was measured.
    pub sums: PaceSums,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_added_in_parts_is_what_is_added_at_once() {
        let measured = |from: u64, to: u64| {
            let mut sums = PaceSums::default();
            (from..to).for_each(|n| sums.note_command(n * 1_000, Duration::from_millis(n * 7 % 50)));
            sums
        };
        let newer = measured(40, 100);
        let parts = measured(0, 40).and(&newer, newer.keeps());
        let whole = measured(0, 100);
        assert_eq!(parts.commands, 100);
        for (part, whole) in [
            (parts.weight, whole.weight),
            (parts.bytes, whole.bytes),
            (parts.seconds, whole.seconds),
            (parts.bytes_squared, whole.bytes_squared),
            (parts.bytes_seconds, whole.bytes_seconds),
        ] {
            assert!((part - whole).abs() <= whole.abs() * 1e-9, "{part} is not {whole}");
        }
    }

    #[test]
    fn what_is_old_counts_for_little() {
        let mut sums = PaceSums::default();
        (0..1_000).for_each(|_| sums.note_command(10, Duration::from_secs(60)));
        (0..1_000).for_each(|_| sums.note_command(10, Duration::from_secs(1)));
        assert!(sums.weight < 201.0, "a row must not grow stiff: {sums:?}");
        assert!((sums.seconds / sums.weight) < 1.5, "{sums:?}");
        assert_eq!(sums.commands, 2_000);
    }

    #[test]
    fn a_run_of_a_million_commands_leaves_nothing_of_older_ones() {
        let older = PaceSums { commands: 1, weight: 1.0, bytes: 1.0, ..PaceSums::default() };
        for commands in [200_000, 1_000_000, u64::MAX] {
            let newer = PaceSums { commands, weight: 200.0, ..PaceSums::default() };
            assert_eq!(newer.keeps().0, 0.0, "{commands}");
            assert_eq!(older.and(&newer, newer.keeps()).weight, 200.0, "{commands}");
        }
    }

    #[test]
    fn one_cluster_is_one_however_its_address_is_written() {
        let activity = |endpoint: &str| {
            let text = format!(
                "{{name: a, source: {{type: FileSystem, folderPath: /d, format: {{type: Json}}}}, sink: {{type: \
                 AzureDataExplorer, endpoint: '{endpoint}', database: D, table: T}}, staging: {{type: FileSystem, \
                 folderPath: /s}}}}"
            );
            Activity::parse(&text, "test").unwrap()
        };
        let key = PaceKey::of(&activity("http://127.0.0.1:1"));
        assert_eq!(key, PaceKey::of(&activity("http://127.0.0.1:1/")));
        assert_ne!(key, PaceKey::of(&activity("http://127.0.0.1:2")));
        assert_eq!((key.database.as_str(), key.ingestion.as_str()), ("D", "direct"));
    }
}
