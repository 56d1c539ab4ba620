//! How long a copy may take, and what to think of before it begins. Pure: what was measured comes in, and the basis of every
//! figure goes out with it. What nothing is known of stays unknown.

use crate::{
    fingerprint::FilesSum,
    pace::{self, Stage2, Work},
    packing::is_archive,
    store::{PaceRow, UnitRow},
};
use ferry_common::{
    activity::{Activity, FormatType, Publish},
    unit::{Scope, Trial},
};
use serde::Serialize;
use std::time::Duration;

/// Largest files that a plan names.
const LARGEST_MAX: usize = 10;
/// From this size on copying is what Microsoft advises; below it, commands.
///
/// Source: "Azure Data Explorer integration with Azure Data Factory", 2019-11-14.
const COPY_BYTES_MIN: u64 = 1_000_000_000;
/// Round trips that are longer lead to another region.
const LATENCY_MAX: Duration = Duration::from_millis(50);
/// So many files, smaller than [`SMALL_FILE_BYTES`] on average, are many small ones.
const MANY_FILES: u64 = 1_000;
const SMALL_FILE_BYTES: u64 = 1_000_000;
/// A file of this size is worth splitting.
const LARGE_FILE_BYTES: u64 = 128 << 20;
/// So many tags of one run are many.
const MANY_TAGS: u64 = 1_000;

/// What a run's units show.
#[derive(Debug, Clone, Default)]
pub(crate) struct Survey {
    pub(crate) files: FilesSum,
    /// The largest files, bytes and path, largest first.
    pub(crate) largest: Vec<(u64, String)>,
    pub(crate) units: u64,
    /// Units of several small files.
    pub(crate) packed: u64,
    /// Files that are several units.
    pub(crate) split: u64,
    /// Bytes of the largest unit.
    pub(crate) unit_bytes_max: u64,
    chunks: u64,
}

impl Survey {
    /// Takes a unit into account. `written_ratio`: bytes of staged records for each byte of the source.
    pub(crate) fn see(&mut self, unit: &UnitRow, written_ratio: Option<f64>, chunk_bytes_max: u64) {
        self.units += 1;
        self.unit_bytes_max = self.unit_bytes_max.max(unit.size_bytes);
        match &unit.scope {
            Scope::Pack(_) => self.packed += 1,
            Scope::Range(range) => self.split += u64::from(range.number == 0),
            Scope::File => {}
        }
        let written = unit.size_bytes as f64 * written_ratio.unwrap_or(0.0);
        self.chunks += (written / chunk_bytes_max.max(1) as f64).ceil() as u64;
        for file in unit.files() {
            self.files.add(file);
            let is_large = self.largest.last().is_none_or(|(least, _)| file.size_bytes > *least);
            if self.largest.len() < LARGEST_MAX || is_large {
                self.largest.push((file.size_bytes, file.relative_path.clone()));
                self.largest.sort_by_key(|file| std::cmp::Reverse(file.0));
                self.largest.truncate(LARGEST_MAX);
            }
        }
    }
}

/// What a byte of the source, as stored, becomes.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Ratios {
    rows: f64,
    pub(crate) written: f64,
    staged: f64,
    seconds: f64,
}

impl Ratios {
    /// The ratios that a trial showed, or why there are none. `is_as_it_is`: files are staged as the bytes they are.
    pub(crate) fn of(trial: Option<&Trial>, is_as_it_is: bool) -> Result<Self, String> {
        let Some(trial) = trial else {
            return Err("the node that listed the source tries nothing out; it is of an older version".to_owned());
        };
        let read = trial.counters.data_read_bytes as f64;
        if !trial.why_not.is_empty() || read == 0.0 {
            return Err(format!("nothing could be tried out: {}", trial.why_not));
        }
        let per_byte = |count: u64| count as f64 / read;
        Ok(Self {
            rows: per_byte(trial.counters.rows_read),
            written: if is_as_it_is { 1.0 } else { per_byte(trial.counters.data_written_bytes) },
            staged: if is_as_it_is { 1.0 } else { per_byte(trial.counters.staged_bytes) },
            seconds: per_byte(trial.duration_us) / 1e6,
        })
    }
}

/// What was found out about cluster and staging.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Cluster {
    /// Ingestions that it runs at once.
    pub(crate) capacity: Option<u32>,
    /// Its nodes.
    pub(crate) nodes: Option<u32>,
    /// The shortest round trip from the coordinator.
    pub(crate) latency: Option<Duration>,
    /// The same to the staging storage.
    pub(crate) staging_latency: Option<Duration>,
}

/// Under which conditions a run would go.
#[derive(Debug, Clone, Default)]
pub(crate) struct Conditions {
    /// Nodes of the integration runtime that take work.
    pub(crate) nodes_ready: u32,
    /// Their slots, whoever holds them now.
    pub(crate) slots_ready: u32,
    pub(crate) cluster: Cluster,
    /// How commands of earlier runs into the same database went.
    pub(crate) pace: Option<PaceRow>,
    /// Commands that a run has in flight at once at most.
    pub(crate) commands_at_once: u32,
    /// What listing the source and looking at the sink took now.
    pub(crate) planning: Option<Duration>,
}

/// How long a copy may take. Seconds and bytes are rough; `basis` says what they rest on.
#[derive(Debug, Clone, Default, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Estimate {
    pub(crate) rows: Option<u64>,
    pub(crate) data_written: Option<u64>,
    pub(crate) staged_bytes: Option<u64>,
    /// Until stage 1 begins.
    pub(crate) planning_seconds: Option<f64>,
    pub(crate) stage1_seconds: Option<f64>,
    pub(crate) stage2_seconds: Option<f64>,
    /// All three.
    pub(crate) total_seconds: Option<f64>,
    pub(crate) stage2: Option<Stage2>,
    pub(crate) slots: u64,
    pub(crate) nodes_ready: u32,
    pub(crate) basis: String,
}

/// Chunks of a run, and what their number rests on.
pub(crate) fn chunks(activity: &Activity, survey: &Survey, ratios: &Result<Ratios, String>) -> (Option<u64>, String) {
    let size = size_text(activity.settings.chunk_bytes_max());
    match ratios {
        Ok(_) => {
            let days = match activity.sink.creation_time {
                Some(_) => "; sink.creationTime may make more",
                None => "",
            };
            (Some(survey.chunks), format!("each unit's size before compression, in chunks of {size}{days}"))
        }
        Err(why) => (None, why.clone()),
    }
}

/// Estimates rows, sizes and times.
pub(crate) fn estimate(
    activity: &Activity,
    survey: &Survey,
    ratios: &Result<Ratios, String>,
    trial: Option<&Trial>,
    conditions: &Conditions,
) -> Estimate {
    let parallel_max = u64::from(activity.settings.parallel_copies.unwrap_or(u32::MAX));
    let slots = u64::from(conditions.slots_ready).min(parallel_max).min(survey.units);
    let mut estimate = Estimate { slots, nodes_ready: conditions.nodes_ready, ..Estimate::default() };
    let (ratios, trial) = match (ratios, trial) {
        (Ok(ratios), Some(trial)) => (ratios, trial),
        (Err(why), _) => return Estimate { basis: format!("nothing is estimated: {why}"), ..estimate },
        (Ok(_), None) => return estimate,
    };
    let bytes = survey.files.bytes as f64;
    let written = bytes * ratios.written;
    estimate.rows = Some((bytes * ratios.rows).round() as u64);
    estimate.data_written = Some(written.round() as u64);
    estimate.staged_bytes = Some((bytes * ratios.staged).round() as u64);
    let tried = trial.counters.data_read_bytes;
    let mut basis = vec![format!(
        "rows and sizes: a trial with {} of {} files, read {} in {:.2} s",
        trial.files,
        survey.files.count,
        size_text(tried),
        trial.duration_us as f64 / 1e6
    )];
    if slots > 0 {
        // No node helps another with its last unit.
        let stage1 = (bytes / slots as f64).max(survey.unit_bytes_max as f64) * ratios.seconds;
        estimate.stage1_seconds = Some(rounded(stage1));
        let mut text = format!(
            "stage 1: {slots} slots at the trial's {:.1} MB/s each, without the time that the network takes",
            1.0 / ratios.seconds.max(1e-12) / 1e6
        );
        if activity.settings.bandwidth.is_some() {
            text += " or settings.bandwidth";
        }
        basis.push(text);
    } else {
        basis.push("stage 1: no node of the integration runtime is ready".to_owned());
    }
    let largest = survey.unit_bytes_max as f64 * ratios.written;
    let largest = largest.min(activity.settings.chunk_bytes_max() as f64);
    let work = Work { commands: survey.chunks, bytes: written, largest };
    let (known, cluster) = (conditions.pace.as_ref(), &conditions.cluster);
    let (at_once, is_told) = (conditions.commands_at_once, cluster.capacity.is_some());
    let stage2 = pace::stage2(&activity.sink, work, known, at_once, is_told, cluster.latency);
    basis.push(stage2.words.clone());
    let planning = conditions.planning.map(|took| rounded(took.as_secs_f64()));
    estimate.planning_seconds = planning;
    estimate.stage2_seconds = Some(rounded(stage2.seconds));
    estimate.stage2 = Some(Stage2 {
        command_seconds: rounded(stage2.command_seconds),
        publish_seconds: stage2.publish_seconds.map(rounded),
        ..stage2
    });
    let stages = estimate.stage1_seconds.zip(estimate.stage2_seconds);
    estimate.total_seconds = stages.map(|(one, two)| rounded(planning.unwrap_or(0.0) + one + two));
    estimate.basis = basis.join(". ") + ".";
    estimate
}

fn rounded(seconds: f64) -> f64 {
    (seconds * 100.0).round() / 100.0
}

/// Bytes for people, in powers of a thousand.
pub(crate) fn size_text(bytes: u64) -> String {
    let value = bytes as f64;
    match value {
        v if v >= 1e12 => format!("{:.1} TB", v / 1e12),
        v if v >= 1e9 => format!("{:.1} GB", v / 1e9),
        v if v >= 1e6 => format!("{:.1} MB", v / 1e6),
        v if v >= 1e3 => format!("{:.1} KB", v / 1e3),
        _ => format!("{bytes} bytes"),
    }
}

/// Whether copying is the way to go at all.
pub(crate) fn advice(activity: &Activity, survey: &Survey) -> Vec<String> {
    // Kinds of source that a cluster reaches by itself, by name: not all of them are built.
    let kind = format!("{:?}", activity.source.kind);
    let table = &activity.sink.table;
    let size = size_text(survey.files.bytes);
    if kind == "AzureDataExplorer" {
        return vec![format!(
            "from one cluster to another a command does it without a detour: .set-or-append {table} <| QUERY, or .export for what \
             it can write to"
        )];
    }
    if survey.files.bytes > COPY_BYTES_MIN {
        return vec![format!("{size} are more than 1 GB: a copy, as this is one, is what Microsoft advises for that")];
    }
    if ["AzureBlob", "S3"].contains(&kind.as_str()) {
        return vec![format!(
            "{size} are less than 1 GB, and the cluster can read this source by itself: a command .ingest into table {table} may be \
             faster and cheaper, if none of the copy's checks and mappings is needed"
        )];
    }
    Vec::new()
}

/// What may make the copy slow or costly.
pub(crate) fn warnings(activity: &Activity, survey: &Survey, conditions: &Conditions) -> Vec<String> {
    let (settings, cluster) = (&activity.settings, &conditions.cluster);
    let mut warnings = Vec::new();
    if cluster.nodes == Some(1) {
        warnings.push(
            "the cluster has one node, as those of the SKUs Dev (No SLA) have: they limit ingestion severely, and no time is \
             promised by anybody"
                .to_owned(),
        );
    }
    for (what, latency) in [("the cluster", cluster.latency), ("the staging storage", cluster.staging_latency)] {
        if let Some(latency) = latency.filter(|l| *l > LATENCY_MAX) {
            warnings.push(format!(
                "a round trip from the coordinator to {what} takes {} ms: is it in another region? Source, nodes, staging and \
                 cluster should be in one, at least nodes and cluster",
                latency.as_millis()
            ));
        }
    }
    let files = survey.files.count;
    let average = survey.files.bytes.checked_div(files).unwrap_or(0);
    if files >= MANY_FILES && average < SMALL_FILE_BYTES {
        let advice = match settings.pack_small_files {
            true => "fewer and larger ones would be read faster",
            false => "settings.packSmallFiles: true stages many of them together",
        };
        warnings.push(format!("{files} files have {} on average: {advice}", size_text(average)));
    }
    let idle = u64::from(conditions.slots_ready).saturating_sub(survey.units);
    if idle > 0 && survey.unit_bytes_max >= LARGE_FILE_BYTES {
        let size = size_text(survey.unit_bytes_max);
        warnings.push(if settings.split_large_files || !can_be_split(activity, survey) {
            format!("one file of {size} is one node's work alone, while {idle} slots have nothing to do: several files go faster")
        } else {
            format!(
                "one file of {size} is one node's work alone, while {idle} slots have nothing to do: settings.splitLargeFiles: \
                 true copies its parts side by side"
            )
        });
    }
    if survey.chunks > MANY_TAGS {
        warnings.push(format!(
            "{} chunks make as many ingest-by tags, and many tags slow a cluster down: larger chunks (settings.chunkSizeMB) or \
             packed files make fewer",
            survey.chunks
        ));
    }
    if settings.parallel_copies.is_some() {
        warnings.push(
            "settings.parallelCopies limits how many files are read at once; on ingestion by the cluster it has no effect"
                .to_owned(),
        );
    }
    if conditions.slots_ready == 0 {
        warnings.push(format!("no node of integration runtime {} is ready any more", activity.source.connect_via));
    }
    if activity.sink.publish == Publish::Replace {
        warnings.push(format!("sink.publish: replace drops all rows that table {} has", activity.sink.table));
    }
    warnings
}

/// The largest file is of a kind that has places to be cut at.
fn can_be_split(activity: &Activity, survey: &Survey) -> bool {
    let format = &activity.source.format;
    let by_kind = match format.kind {
        FormatType::DelimitedText | FormatType::TextLines | FormatType::FixedWidthText => true,
        FormatType::Parquet | FormatType::Avro => true,
        FormatType::Json | FormatType::Orc | FormatType::W3CLog | FormatType::Excel | FormatType::Xml => false,
    };
    let is_packed = |path: &str| {
        let path = path.to_ascii_lowercase();
        let ends = [".gz", ".bz2", ".zst", ".xz", ".lz4", ".sz", ".deflate", ".snappy"];
        is_archive(&path) || ends.iter().any(|end| path.ends_with(end))
    };
    let is_plain = survey.largest.first().is_some_and(|(_, path)| !is_packed(path));
    by_kind && is_plain && format.skip_line_count.unwrap_or(0) == 0
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::{PaceKey, PaceSums};
    use ferry_common::{
        clock::Millis,
        id::UnitNumber,
        unit::{Counters, FileRange, FileVersion},
    };

    fn activity(more: &str) -> Activity {
        let text = format!(
            "{{name: a, source: {{type: FileSystem, folderPath: /d, format: {{type: DelimitedText}}}}, \
             sink: {{type: AzureDataExplorer, endpoint: 'http://127.0.0.1:1', database: D, table: T}}, \
             staging: {{type: FileSystem, folderPath: /s}}, settings: {{chunkSizeMB: 10{more}}}}}"
        );
        Activity::parse(&text, "test").unwrap()
    }

    fn file(name: &str, size_bytes: u64) -> FileVersion {
        let path = format!("/d/{name}");
        FileVersion { path, relative_path: name.to_owned(), size_bytes, modified_ns: 0, etag: String::new() }
    }

    fn unit(number: u64, size_bytes: u64) -> UnitRow {
        UnitRow::new("r".parse().unwrap(), UnitNumber(number), file(&number.to_string(), size_bytes))
    }

    /// Reads 1 MB in a tenth of a second, which becomes 2 MB of 1,000 rows, staged in 500 KB.
    fn trial() -> Trial {
        let counters = Counters {
            data_read_bytes: 1_000_000,
            data_written_bytes: 2_000_000,
            staged_bytes: 500_000,
            rows_read: 1_000,
            rows_skipped: 0,
        };
        Trial { counters, duration_us: 100_000, files: 1, why_not: String::new() }
    }

    fn survey(units: &[UnitRow], ratio: Option<f64>) -> Survey {
        let mut survey = Survey::default();
        units.iter().for_each(|unit| survey.see(unit, ratio, 10_000_000));
        survey
    }

    fn conditions(slots_ready: u32) -> Conditions {
        Conditions { nodes_ready: slots_ready, slots_ready, ..Conditions::default() }
    }

    #[test]
    fn units_files_and_chunks_are_counted() {
        let range = |number| FileRange { start: 0, end: 1, number, count: 2 };
        let mut parts = [unit(1, 20_000_000), unit(2, 20_000_000)];
        for (part, number) in parts.iter_mut().zip(0..) {
            (part.scope, part.size_bytes) = (Scope::Range(range(number)), 10_000_000);
            part.file = file("large", 20_000_000);
        }
        let mut pack = unit(3, 0);
        (pack.scope, pack.size_bytes) = (Scope::Pack(vec![file("a", 1_000), file("b", 2_000)]), 3_000);
        let units = [parts[0].clone(), parts[1].clone(), pack, unit(4, 0), unit(5, 6_000_000)];
        let survey = survey(&units, Some(2.0));
        assert_eq!((survey.units, survey.packed, survey.split), (5, 1, 1));
        assert_eq!((survey.files.count, survey.files.bytes), (5, 26_003_000));
        // Two for each part, one for the pack, none for the empty file, two for the last one.
        assert_eq!((survey.chunks, survey.unit_bytes_max), (7, 10_000_000));
        let largest: Vec<_> = survey.largest.iter().map(|(_, path)| path.as_str()).collect();
        assert_eq!(largest, ["large", "5", "b", "a", "4"]);
    }

    #[test]
    fn only_the_largest_files_are_named() {
        let units: Vec<_> = (1..=100).map(|n| unit(n, n * 7 % 101)).collect();
        let survey = survey(&units, None);
        let sizes: Vec<_> = survey.largest.iter().map(|(size, _)| *size).collect();
        assert_eq!(sizes, (91..=100).rev().collect::<Vec<_>>());
    }

    #[test]
    fn times_follow_from_slots_and_rates() {
        let units: Vec<_> = (1..=4).map(|n| unit(n, 10_000_000)).collect();
        let ratios = Ratios::of(Some(&trial()), false);
        let seen = survey(&units, Some(2.0));
        for (case, more, slots, expected) in [
            ("one slot takes it all", "", 1, 4.0),
            ("two share it", "", 2, 2.0),
            ("no more than units", "", 9, 1.0),
            ("no more than asked for", ", parallelCopies: 2", 9, 2.0),
        ] {
            let estimate = estimate(&activity(more), &seen, &ratios, Some(&trial()), &conditions(slots));
            assert_eq!(estimate.stage1_seconds, Some(expected), "{case}: {estimate:?}");
            assert_eq!((estimate.rows, estimate.data_written), (Some(40_000), Some(80_000_000)), "{case}");
            assert_eq!(estimate.staged_bytes, Some(20_000_000), "{case}");
        }
        // The largest unit is one node's work.
        let uneven = survey(&[unit(1, 30_000_000), unit(2, 1_000_000)], Some(2.0));
        let estimate = estimate(&activity(""), &uneven, &ratios, Some(&trial()), &conditions(2));
        assert_eq!((estimate.stage1_seconds, estimate.slots), (Some(3.0), 2));
    }

    #[test]
    fn ingestion_is_estimated_from_the_best_that_is_known_and_says_so() {
        let ratios = Ratios::of(Some(&trial()), false);
        let seen = survey(&[unit(1, 60_000_000)], Some(2.0));
        let mut sums = PaceSums::default();
        (0..5).for_each(|_| sums.note_command(10_000_000, Duration::from_secs(3)));
        let pace = PaceRow { key: PaceKey::of(&activity("")), last: Millis(0), sums };
        let on = |commands_at_once, pace: Option<&PaceRow>| Conditions {
            commands_at_once,
            pace: pace.cloned(),
            planning: Some(Duration::from_secs(1)),
            ..conditions(1)
        };
        // There are 12 chunks of 10 MB.
        for (conditions, seconds, words) in [
            (on(2, None), 18.0..20.0, "assumed, not measured"),
            (on(2, Some(&pace)), 18.0..18.5, "measured in 5 commands"),
            (on(5, Some(&pace)), 9.0..9.5, "measured in 5 commands"),
            (on(64, Some(&pace)), 3.0..3.5, "12 commands at once"),
        ] {
            let estimate = estimate(&activity(""), &seen, &ratios, Some(&trial()), &conditions);
            let stage2 = estimate.stage2_seconds.unwrap();
            assert!(seconds.contains(&stage2), "{estimate:?}");
            assert!(estimate.basis.contains(words), "{estimate:?}");
            let is_the_vendors = estimate.basis.contains("Microsoft's manual");
            assert_eq!(is_the_vendors, conditions.pace.is_none(), "a figure of the manual must be called that");
            let total = 1.0 + estimate.stage1_seconds.unwrap() + stage2;
            assert!((estimate.total_seconds.unwrap() - total).abs() < 0.02, "{estimate:?}");
        }
        let shown = estimate(&activity(""), &seen, &ratios, Some(&trial()), &on(2, Some(&pace)));
        let shown = serde_json::to_value(shown).unwrap();
        assert_eq!((&shown["stage2"]["basis"], &shown["stage2"]["atOnce"]), (&"measured".into(), &2.into()));
        assert_eq!((&shown["stage2"]["commandSeconds"], &shown["planningSeconds"]), (&3.0.into(), &1.0.into()));
    }

    #[test]
    fn what_was_not_tried_is_not_estimated() {
        let nothing = Trial { why_not: "archives are not tried".to_owned(), ..Trial::default() };
        for (trial, words) in [(None, "older version"), (Some(&nothing), "archives are not tried")] {
            let ratios = Ratios::of(trial, false);
            let seen = survey(&[unit(1, 10)], None);
            let estimate = estimate(&activity(""), &seen, &ratios, trial, &conditions(3));
            assert_eq!((estimate.rows, estimate.stage1_seconds, estimate.total_seconds), (None, None, None));
            assert_eq!((estimate.slots, estimate.nodes_ready), (1, 3));
            assert!(estimate.basis.contains(words), "{estimate:?}");
            let (count, why) = chunks(&activity(""), &seen, &ratios);
            assert!(count.is_none() && why.contains(words), "{why}");
        }
    }

    #[test]
    fn files_that_are_staged_as_they_are_keep_their_size() {
        let ratios = Ratios::of(Some(&trial()), true).unwrap();
        assert_eq!((ratios.written, ratios.staged, ratios.rows), (1.0, 1.0, 0.001));
    }

    #[test]
    fn warnings_and_advice_name_what_is_so() {
        let large = || survey(&[unit(1, 2_000_000_000)], Some(1.0));
        let small = || survey(&(1..=2_000).map(|n| unit(n, 1_000)).collect::<Vec<_>>(), Some(1.0));
        let far = Some(Duration::from_millis(120));
        let on = |cluster| Conditions { cluster, ..conditions(4) };
        for (case, more, seen, conditions, words) in [
            ("idle slots", "", large(), conditions(4), "settings.splitLargeFiles: true"),
            ("idle slots in vain", ", splitLargeFiles: true", large(), conditions(4), "several files go faster"),
            ("many small files", ", packSmallFiles: false", small(), conditions(1), "settings.packSmallFiles: true"),
            ("many tags", "", small(), conditions(1), "2000 chunks make as many ingest-by tags"),
            ("parallelCopies", ", parallelCopies: 3", large(), conditions(1), "it has no effect"),
            ("far away", "", large(), on(Cluster { latency: far, ..Cluster::default() }), "the cluster takes 120 ms"),
            ("one node", "", large(), on(Cluster { nodes: Some(1), ..Cluster::default() }), "Dev (No SLA)"),
            ("nobody there", "", large(), conditions(0), "is ready any more"),
        ] {
            let warnings = warnings(&activity(more), &seen, &conditions);
            assert!(warnings.iter().any(|w| w.contains(words)), "{case}: {warnings:?}");
        }
        let near = Cluster { latency: Some(Duration::from_millis(20)), nodes: Some(4), ..Cluster::default() };
        let quiet = survey(&[unit(1, 1_000)], Some(1.0));
        assert_eq!(warnings(&activity(""), &quiet, &on(near)), Vec::<String>::new());
        assert!(advice(&activity(""), &large())[0].contains("more than 1 GB"));
        assert_eq!(advice(&activity(""), &quiet), Vec::<String>::new());
    }
}
