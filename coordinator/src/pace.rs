//! How long stage 2 may take: from what earlier commands into the same database took, or from what is assumed where nothing is
//! known. Pure; what was measured comes out of the store.

use crate::store::{PaceRow, PaceSums};
use ferry_common::activity::{Ingestion, Publish, Sink};
use serde::Serialize;
use std::time::Duration;

/// Waits between looks at commands in flight: short at first, then longer.
pub(crate) const LOOK_FIRST: Duration = Duration::from_millis(100);
const LOOK_LAST: Duration = Duration::from_secs(5);
/// Looks after which the wait grows.
const LOOKS_ALIKE: u32 = 5;
/// The driver of a run never looks sooner than this: added to each wait.
const LOOK_LEAST: Duration = Duration::from_millis(50);

/// So many commands must be known before they are relied on.
const COMMANDS_MIN: u64 = 3;
/// What Microsoft estimates for Data Factory's sink: 11 to 13 MB a second. A figure from a manual, not measured by anybody
/// here.
///
/// Source: "Azure Data Explorer integration with Azure Data Factory", 2019-11-14.
const VENDOR_BYTES_PER_SECOND: f64 = 12e6;
/// What a command takes beside its bytes. Assumed.
const COMMAND_SECONDS: f64 = 2.0;
/// How long a blob waits in a queue. Source: the batching policy's default, 5 minutes.
const QUEUED_SECONDS: f64 = 300.0;
/// What `.move extents` or `.replace extents` takes. Assumed.
const PUBLISH_SECONDS: f64 = 1.0;
/// Round trips of publishing: both tables are looked at before and after.
const PUBLISH_ROUND_TRIPS: f64 = 5.0;
/// What comes before the first command: a look at the capacity.
const START_ROUND_TRIPS: f64 = 1.0;
/// What the store takes at both ends. Assumed.
const ENDS_SECONDS: f64 = 0.1;
/// Where commands are of about one size, their times tell nothing of a slope. This many commands of this spread (standard
/// deviation as a part of the mean) count as much as what is assumed of it.
const SPREAD: f64 = 0.25;
const SPREAD_COMMANDS: f64 = 2.0;
/// Commands that are larger by this than those known are called so.
const LARGER: f64 = 1.1;

/// The wait after a look, when there have been so many since something was confirmed. `first`: the first of these waits.
pub(crate) fn wait_after(looks: u32, first: Duration) -> Duration {
    (first * (1 + looks / LOOKS_ALIKE)).min(LOOK_LAST.max(first))
}

/// How late the end of a command is seen that takes so many seconds: half the wait between two looks, on average.
fn seen_late(seconds: f64) -> f64 {
    let (mut looks, mut waited) = (0, 0.0);
    loop {
        let wait = wait_after(looks, LOOK_FIRST);
        waited += (wait + LOOK_LEAST).as_secs_f64();
        // The waits grow to the longest one, so this comes to its end.
        if waited >= seconds || wait >= LOOK_LAST {
            return (wait + LOOK_LEAST).as_secs_f64() / 2.0;
        }
        looks += 1;
    }
}

/// Seconds of a command by its bytes: a straight line, which neither falls nor begins below zero.
#[derive(Debug, Clone, Copy, PartialEq)]
struct Line {
    fixed: f64,
    per_byte: f64,
    /// Larger commands are not known.
    known_to: f64,
    /// What a byte takes from there on.
    beyond: f64,
}

impl Line {
    fn assumed(ingestion: Ingestion) -> Self {
        let fixed = match ingestion {
            Ingestion::Direct => COMMAND_SECONDS,
            Ingestion::Queued => QUEUED_SECONDS,
        };
        let per_byte = 1.0 / VENDOR_BYTES_PER_SECOND;
        Self { fixed, per_byte, known_to: f64::INFINITY, beyond: per_byte }
    }

    /// The line of least squares through what was measured. `None`: it is too little.
    fn measured(sums: &PaceSums) -> Option<Self> {
        if sums.commands < COMMANDS_MIN || sums.weight <= 0.0 {
            return None;
        }
        let (bytes, seconds) = (sums.bytes / sums.weight, sums.seconds / sums.weight);
        let spread = (sums.bytes_squared - sums.bytes * bytes).max(0.0);
        let together = sums.bytes_seconds - sums.bytes * seconds;
        if ![bytes, seconds, spread, together].iter().all(|n| n.is_finite()) || bytes < 0.0 || seconds < 0.0 {
            return None;
        }
        // As steep as it may be: everything is the bytes'.
        let steepest = if bytes > 0.0 { seconds / bytes } else { 0.0 };
        let expected = steepest.min(1.0 / VENDOR_BYTES_PER_SECOND);
        let inertia = SPREAD_COMMANDS * (SPREAD * bytes).powi(2);
        let known = spread + inertia;
        let slope = if known > 0.0 { (together + inertia * expected) / known } else { 0.0 };
        let per_byte = slope.max(0.0).min(steepest);
        Some(Self {
            fixed: seconds - per_byte * bytes,
            per_byte,
            known_to: bytes + 2.0 * (spread / sums.weight).sqrt(),
            beyond: per_byte.max(expected),
        })
    }

    fn seconds(&self, bytes: f64) -> f64 {
        self.fixed + self.per_byte * bytes.min(self.known_to) + self.beyond * (bytes - self.known_to).max(0.0)
    }
}

/// Where a figure comes from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) enum Basis {
    /// Commands into the same database took as long.
    Measured,
    /// Nothing is known; the figure is a default.
    Assumed,
}

/// What is to be ingested.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Work {
    pub(crate) commands: u64,
    /// Bytes of records before compression, of all commands.
    pub(crate) bytes: f64,
    /// The same of the largest one.
    pub(crate) largest: f64,
}

/// How stage 2 may go.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Stage2 {
    /// Of the commands' time.
    pub(crate) basis: Basis,
    pub(crate) commands: u64,
    /// Commands in flight at once.
    pub(crate) at_once: u64,
    /// What one takes, of average size.
    pub(crate) command_seconds: f64,
    /// Commands that are known.
    pub(crate) measured_commands: u64,
    /// What making all rows visible takes at the end; null: they are visible as they come.
    pub(crate) publish_seconds: Option<f64>,
    /// See `publish_seconds`.
    pub(crate) publish_basis: Option<Basis>,
    /// All of it.
    #[serde(skip)]
    pub(crate) seconds: f64,
    /// What it rests on, in words.
    #[serde(skip)]
    pub(crate) words: String,
}

/// Estimates stage 2. `at_once`: commands that a run has in flight at most; `is_told`: the cluster says so; `latency`: of a
/// round trip, where known.
pub(crate) fn stage2(
    sink: &Sink,
    work: Work,
    known: Option<&PaceRow>,
    at_once: u32,
    is_told: bool,
    latency: Option<Duration>,
) -> Stage2 {
    let latency = latency.map_or(0.0, |l| l.as_secs_f64());
    let is_queued = sink.ingestion == Ingestion::Queued;
    let at_once = u64::from(at_once).min(work.commands).max(1);
    let measured = known.and_then(|row| Line::measured(&row.sums));
    let line = measured.unwrap_or_else(|| Line::assumed(sink.ingestion));
    // What was measured has the waits between looks in it.
    let taken = |bytes: f64| match (measured, line.seconds(bytes)) {
        (None, seconds) if !is_queued => seconds + seen_late(seconds),
        (_, seconds) => seconds,
    };
    let (average, longest) = (taken(work.bytes / work.commands.max(1) as f64), taken(work.largest));
    // Those that begin together end together, about; and the longest is as long as it is.
    let rounds = work.commands.div_ceil(at_once);
    let commands = if work.commands == 0 { 0.0 } else { (rounds as f64 * average).max(longest) };

    let published = known.map(|row| row.sums).filter(|sums| sums.publish_weight > 0.0);
    let (publish_seconds, publish_basis) = match (sink.publish, published) {
        (Publish::Append, _) => (None, None),
        (_, Some(sums)) => (Some(sums.publish_seconds / sums.publish_weight), Some(Basis::Measured)),
        (_, None) => (Some(PUBLISH_SECONDS + PUBLISH_ROUND_TRIPS * latency), Some(Basis::Assumed)),
    };
    let ends = ENDS_SECONDS + START_ROUND_TRIPS * latency;
    let measured_commands = known.map_or(0, |row| row.sums.commands);
    let mut words = match known.filter(|_| measured.is_some()) {
        Some(row) => {
            let larger = match work.largest > line.known_to * LARGER {
                true => "; some are larger than those, and what that adds is assumed",
                false => "",
            };
            format!(
                "stage 2: measured in {measured_commands} commands into this database, the last on {}: {average:.1} s for one of \
                 average size{larger}",
                row.last
            )
        }
        None => {
            let beside = if is_queued { QUEUED_SECONDS } else { COMMAND_SECONDS };
            format!(
                "stage 2: assumed, not measured, since {measured_commands} commands into this database are known and {COMMANDS_MIN} are \
                 needed: {beside:.0} s a command and 12 MB/s, which is what Microsoft's manual of 2019 estimates for Data \
                 Factory's sink (11-13 MB/s)"
            )
        }
    };
    words += &match (is_queued, is_told) {
        (true, _) => format!("; {at_once} blobs in the queue at once, which the cluster takes up in its own time"),
        (false, true) => format!("; {at_once} commands at once, as the cluster's capacity allows"),
        (false, false) => format!("; {at_once} commands at once, since the cluster does not tell its capacity"),
    };
    match (publish_seconds, publish_basis) {
        (Some(seconds), Some(Basis::Measured)) => words += &format!("; {seconds:.1} s to publish, as measured before"),
        (Some(seconds), _) => words += &format!("; {seconds:.1} s to publish, which is assumed"),
        (None, _) => {}
    }
    Stage2 {
        basis: if measured.is_some() { Basis::Measured } else { Basis::Assumed },
        commands: work.commands,
        at_once,
        command_seconds: average,
        measured_commands,
        publish_seconds,
        publish_basis,
        seconds: ends + commands + publish_seconds.unwrap_or(0.0),
        words,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::PaceKey;
    use ferry_common::{activity::Activity, clock::Millis};

    fn sums(measured: &[(u64, f64)]) -> PaceSums {
        let mut sums = PaceSums::default();
        measured.iter().for_each(|(bytes, seconds)| sums.note_command(*bytes, Duration::from_secs_f64(*seconds)));
        sums
    }

    fn line(measured: &[(u64, f64)]) -> Line {
        Line::measured(&sums(measured)).unwrap()
    }

    fn sink(more: &str) -> Sink {
        let text = format!(
            "{{name: a, source: {{type: FileSystem, folderPath: /d, format: {{type: DelimitedText}}}}, \
             sink: {{type: AzureDataExplorer, endpoint: 'http://127.0.0.1:1', database: D, table: T{more}}}, \
             staging: {{type: FileSystem, folderPath: /s}}}}"
        );
        Activity::parse(&text, "test").unwrap().sink
    }

    fn row(sums: PaceSums) -> PaceRow {
        let key = PaceKey { endpoint: "e".to_owned(), database: "D".to_owned(), ingestion: "direct".to_owned() };
        PaceRow { key, last: Millis(0), sums }
    }

    #[track_caller]
    fn assert_near(found: f64, expected: f64, part: f64) {
        assert!((found - expected).abs() <= expected.abs() * part + 1e-9, "{found} is not {expected}");
    }

    #[test]
    fn sizes_that_differ_show_a_line() {
        let measured: Vec<_> = (1..=20).map(|n| (n * 40_000_000, 3.0 + n as f64 * 2.0)).collect();
        let line = line(&measured);
        for n in [1.0, 10.0, 20.0] {
            assert_near(line.seconds(n * 40e6), 3.0 + n * 2.0, 0.1);
        }
    }

    #[test]
    fn too_few_commands_tell_nothing() {
        assert_eq!(Line::measured(&PaceSums::default()), None);
        assert_eq!(Line::measured(&sums(&[(1_000, 1.0), (2_000, 2.0)])), None);
        assert!(Line::measured(&sums(&[(1_000, 1.0), (2_000, 2.0), (3_000, 3.0)])).is_some());
    }

    #[test]
    fn whatever_was_measured_times_are_sensible() {
        for (case, measured) in [
            ("all of one size", vec![(1_000_000, 5.0); 8]),
            (
                "nearly of one size, with noise",
                vec![(1_000_000, 5.2), (1_000_100, 4.8), (999_900, 5.1), (1_000_050, 4.9)],
            ),
            ("the larger the faster", vec![(1_000_000, 9.0), (2_000_000, 6.0), (3_000_000, 3.0)]),
            ("from nothing to much", vec![(1_000, 0.1), (2_000, 0.1), (1_000_000, 40.0)]),
            ("no bytes at all", vec![(0, 1.0); 3]),
            ("no time at all", vec![(1_000, 0.0); 3]),
            ("huge", vec![(u64::MAX, 1.0), (u64::MAX / 2, 9.0), (7, 2.0)]),
        ] {
            let line = line(&measured);
            assert!(line.fixed >= -1e-6 && line.per_byte >= 0.0 && line.beyond >= line.per_byte, "{case}: {line:?}");
            let times: Vec<_> = [0.0, 1e3, 1e6, 1e9, 1e12].iter().map(|bytes| line.seconds(*bytes)).collect();
            assert!(times.iter().all(|t| t.is_finite() && *t >= -1e-6), "{case}: {times:?}");
            assert!(
                times.windows(2).all(|pair| pair[0] <= pair[1]),
                "{case}: a larger command is no faster: {times:?}"
            );
            let weight = measured.len() as f64;
            let mean = measured.iter().map(|(bytes, _)| *bytes as f64).sum::<f64>() / weight;
            let expected = measured.iter().map(|(_, seconds)| seconds).sum::<f64>() / weight;
            // Newer ones weigh a little more.
            assert_near(line.seconds(mean), expected, 0.02);
        }
    }

    #[test]
    fn noise_is_no_slope() {
        // A few bytes more and half a second: taken for a slope, twice the size would take a day.
        let steep = line(&[(1_000_000, 5.0), (1_000_010, 5.5), (1_000_000, 5.0), (1_000_010, 5.5)]);
        assert_near(steep.seconds(2e6), 5.25, 0.05);
        // What is far beyond takes more than what was measured, though nothing grew there.
        let flat = line(&[(1_000_000, 5.0); 10]);
        assert!(flat.seconds(1e9) > 60.0 && flat.seconds(1e9) < 120.0, "{flat:?}");
    }

    #[test]
    fn commands_go_in_rounds_of_what_the_cluster_takes_at_once() {
        let known = row(sums(&[(1_000_000, 5.0); 6]));
        let of = |commands: u64, at_once| {
            let work = Work { commands, bytes: commands as f64 * 1e6, largest: 1e6 };
            stage2(&sink(""), work, Some(&known), at_once, true, None)
        };
        for (commands, at_once, rounds) in
            [(0, 4, 0.0), (1, 4, 1.0), (4, 4, 1.0), (5, 4, 2.0), (12, 2, 6.0), (3, 0, 3.0)]
        {
            let stage2 = of(commands, at_once);
            assert_near(stage2.seconds, ENDS_SECONDS + rounds * 5.0, 0.01);
            assert_eq!((stage2.basis, stage2.measured_commands), (Basis::Measured, 6));
        }
        assert_eq!(of(5, 4).at_once, 4);
        assert_eq!(of(3, 64).at_once, 3);
        // One that is much larger than the others lasts as long as it lasts.
        let work = Work { commands: 4, bytes: 4e6, largest: 1.2e9 };
        assert!(stage2(&sink(""), work, Some(&known), 4, true, None).seconds > 90.0);
    }

    #[test]
    fn what_is_assumed_is_called_so() {
        let work = Work { commands: 10, bytes: 120e6, largest: 12e6 };
        let two = row(sums(&[(1_000_000, 50.0); 2]));
        for known in [None, Some(&two)] {
            let stage2 = stage2(&sink(""), work, known, 5, true, Some(Duration::from_millis(100)));
            assert_eq!(stage2.basis, Basis::Assumed);
            assert!(stage2.words.contains("assumed, not measured") && stage2.words.contains("Microsoft's manual"));
            // Two rounds of 2 s and 12 MB at 12 MB/s, seen a little later.
            assert!(stage2.seconds > 6.2 && stage2.seconds < 7.2, "{stage2:?}");
        }
        let queued = Sink { ingestion: Ingestion::Queued, ..sink("") };
        let queued = stage2(&queued, work, None, 200, false, None);
        assert!(queued.seconds > 300.0 && queued.words.contains("in its own time"), "{queued:?}");
        let silent = stage2(&sink(""), work, None, 2, false, None);
        assert!(silent.words.contains("does not tell its capacity"), "{silent:?}");
    }

    #[test]
    fn publishing_takes_what_it_took() {
        let work = Work { commands: 1, bytes: 1e6, largest: 1e6 };
        let mut known = row(sums(&[(1_000_000, 5.0); 3]));
        let of = |known: &PaceRow, more| stage2(&sink(more), work, Some(known), 1, true, None);
        let atomic = ", publish: atomic";
        assert_eq!(of(&known, "").publish_seconds, None);
        assert_eq!(of(&known, atomic).publish_basis, Some(Basis::Assumed));
        known.sums.note_publishing(Duration::from_secs(20));
        let published = of(&known, atomic);
        assert_eq!((published.publish_seconds, published.publish_basis), (Some(20.0), Some(Basis::Measured)));
        assert_near(published.seconds, ENDS_SECONDS + 25.0, 0.01);
    }

    #[test]
    fn ends_are_seen_a_little_late() {
        let of = |seconds| seen_late(seconds);
        assert_near(of(0.0), 0.075, 0.01);
        assert!(of(5.0) > of(1.0) && of(5.0) < 0.5);
        assert!(of(1e9) <= (LOOK_LAST + LOOK_LEAST).as_secs_f64() / 2.0);
        assert_eq!(wait_after(1_000_000, LOOK_FIRST), LOOK_LAST);
        assert_eq!(wait_after(0, Duration::from_secs(9)), Duration::from_secs(9));
    }
}
