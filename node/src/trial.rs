//! A trial for a plan: some of the files are read, cut, checked and compressed on one thread, for a second at most, and sent
//! nowhere. It tells how many rows there may be, how large they get, and how long it takes.
//!
//! It never fails a listing: what is wrong with a file, the copy tells.

use crate::{
    compress::Encoder,
    convert::FileFacts,
    format::{self, Head, Input},
    read::{Packing, Roots, SourceFile, window_buffers},
    record::{Batch, Place},
};
use ferry_common::{
    activity::{FormatType, Settings, Shape, Source},
    failure::Failure,
    plan::{ColumnFrom, CopyColumn, CopyPlan},
    unit::{Counters, FileVersion, SampleColumn, Trial},
};
use std::{
    io::{self, Read, Write},
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};
use tokio_util::sync::CancellationToken;

/// Bytes of staged records after which a trial ends.
const TRIAL_BYTES_MAX: u64 = 8 << 20;
/// Time after which a trial ends.
const TRIAL_TIME_MAX: Duration = Duration::from_secs(1);
/// Files that are looked at for one of typical size.
const FILES_MAX: usize = 20;
/// A workbook is read as a whole: larger ones are not tried.
const WORKBOOK_BYTES_MAX: u64 = 8 << 20;

/// A trial in the making.
pub(crate) struct Trying {
    source: Source,
    settings: Settings,
    roots: Roots,
    files: Vec<FileVersion>,
}

impl Trying {
    /// A trial of copying from `source` with `settings`.
    pub(crate) fn new(source: &Source, settings: &Settings, roots: Roots) -> Self {
        // A bad row is no reason to end.
        let settings =
            Settings { enable_skip_incompatible_row: true, skip_rows_max: None, bandwidth: None, ..settings.clone() };
        Self { source: source.clone(), settings, roots, files: Vec::new() }
    }

    /// Takes note of files that were listed.
    pub(crate) fn see(&mut self, files: &[FileVersion]) {
        let room = FILES_MAX.saturating_sub(self.files.len());
        self.files.extend(files.iter().filter(|file| file.size_bytes > 0).take(room).cloned());
    }

    /// Tries, on a thread of its own. `sample` has the columns that were seen.
    pub(crate) async fn run(self, sample: Vec<SampleColumn>, stop: CancellationToken) -> Trial {
        let tried = tokio::task::spawn_blocking(move || self.try_out(&sample, &stop)).await;
        tried.unwrap_or_else(|e| Trial { why_not: format!("the trial broke off: {e}"), ..Trial::default() })
    }

    fn try_out(mut self, sample: &[SampleColumn], stop: &CancellationToken) -> Trial {
        let plan = plan_of(&self.source, sample);
        let begin = Instant::now();
        let (mut trial, mut why) = (Trial::default(), String::from("no file has a row"));
        typical_first(&mut self.files);
        for version in &self.files {
            let room = TRIAL_BYTES_MAX.saturating_sub(trial.counters.data_written_bytes);
            if room == 0 || begin.elapsed() >= TRIAL_TIME_MAX || stop.is_cancelled() {
                break;
            }
            let until = Until { begin, bytes: room, stop };
            let began = Instant::now();
            match self.try_file(version, &plan, &until) {
                Ok(counters) => {
                    trial.counters += counters;
                    trial.files += 1;
                    trial.duration_us += u64::try_from(began.elapsed().as_micros()).unwrap_or(u64::MAX);
                }
                Err(failure) => why = failure.message,
            }
        }
        if trial.counters.rows_read == 0 { Trial { why_not: why, ..Trial::default() } } else { trial }
    }

    fn try_file(&self, version: &FileVersion, plan: &CopyPlan, until: &Until<'_>) -> Result<Counters, Failure> {
        let format = &self.source.format;
        let stored = Arc::<AtomicU64>::default();
        let file = SourceFile::open(&self.roots, version, format, stored.clone())?;
        let judge = |e: io::Error| file.failure(e);
        let packing = file.packing();
        if packing.archive.is_some() {
            return Err(Failure::internal("archives are not tried"));
        }
        if format.kind == FormatType::Excel && version.size_bytes > WORKBOOK_BYTES_MAX {
            return Err(Failure::internal("large workbooks are not tried"));
        }
        let unpacked = Arc::<AtomicU64>::default();
        let is_plain = packing == Packing::NONE;
        let input = match is_plain {
            true => Input::File(&file),
            false => Input::Stream(Box::new(Counted { inner: file.unpacked()?, count: unpacked.clone() })),
        };
        let mut reader = format::open(Head {
            input,
            label: version.path.clone(),
            format,
            plan,
            settings: &self.settings,
            creation_time: None,
            facts: FileFacts::of(&self.source, &version.relative_path),
            range: None,
            from: Place::START,
            pool: window_buffers(),
            judge: &judge,
        })?;
        let (compression, level) = (self.settings.compression, self.settings.compression_level);
        let mut encoder = Encoder::new(Size(0), compression, level);
        let (mut counters, mut batch) = (Counters::default(), Batch::default());
        let (mut consumed, mut is_whole) = (0, false);
        while !until.is_over(counters.data_written_bytes) {
            batch.clear();
            if !reader.next(&mut batch)? {
                is_whole = true;
                break;
            }
            counters.data_written_bytes += write(&batch, &mut encoder);
            let rows: u64 = batch.records.iter().map(|record| u64::from(record.rows)).sum();
            let bad = batch.bad.len() as u64;
            counters.rows_read += rows + bad;
            counters.rows_skipped += bad;
            consumed = batch.end().byte;
        }
        drop(reader);
        counters.staged_bytes = encoder.finish().map_or(0, |size| size.0);
        let (stored, unpacked) = (stored.load(Ordering::Relaxed), unpacked.load(Ordering::Relaxed));
        // What was read ahead was not copied; where offsets are those of the text, they tell how much that is.
        let has_offsets = format.kind.is_text() && format.kind != FormatType::Xml && format.encoding_name.is_none();
        counters.data_read_bytes = match () {
            () if is_whole => version.size_bytes,
            () if has_offsets && is_plain => consumed,
            () if has_offsets && unpacked > 0 => (stored as f64 * consumed as f64 / unpacked as f64) as u64,
            () => stored.min(version.size_bytes),
        };
        Ok(counters)
    }
}

/// When a trial ends.
struct Until<'a> {
    begin: Instant,
    bytes: u64,
    stop: &'a CancellationToken,
}

impl Until<'_> {
    fn is_over(&self, written: u64) -> bool {
        written >= self.bytes || self.begin.elapsed() >= TRIAL_TIME_MAX || self.stop.is_cancelled()
    }
}

/// Puts the file of middle size first, then those that are larger, then the smaller ones.
fn typical_first(files: &mut [FileVersion]) {
    files.sort_by_key(|file| file.size_bytes);
    let middle = files.len() / 2;
    files.rotate_left(middle);
}

/// A plan as it would be if the table had the columns that were seen: the run's own is not made yet.
fn plan_of(source: &Source, sample: &[SampleColumn]) -> CopyPlan {
    let shape = source.format.kind.shape();
    let by_name = shape != Shape::Fields || source.format.has_names();
    let columns = sample.iter().zip(0..).map(|(column, at)| CopyColumn {
        name: column.name.clone(),
        kind: column.kind.parse().ok(),
        source: match by_name || column.is_added {
            true => ColumnFrom::Name(column.name.clone()),
            false => ColumnFrom::Ordinal(at),
        },
        format: None,
    });
    let names = || sample.iter().map(|column| column.name.clone()).collect();
    CopyPlan {
        columns: columns.collect(),
        layout: if shape == Shape::Fields { names() } else { Vec::new() },
        rewrites: shape == Shape::Columns,
        ignores_unknown: true,
        ..CopyPlan::default()
    }
}

/// Writes the records of a batch. Returns their bytes.
fn write(batch: &Batch, encoder: &mut Encoder<Size>) -> u64 {
    let mut bytes = 0;
    for run in batch.runs() {
        // A sink that only counts does not fail.
        let _ = encoder.write(&batch.bytes(run.is_rewritten, run.start, run.end));
        bytes += run.bytes();
    }
    bytes
}

/// Counts what is written and keeps nothing.
struct Size(u64);

impl Write for Size {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0 += bytes.len() as u64;
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// Counts what is read.
struct Counted<R> {
    inner: R,
    count: Arc<AtomicU64>,
}

impl<R: Read> Read for Counted<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let read = self.inner.read(buffer)?;
        self.count.fetch_add(read as u64, Ordering::Relaxed);
        Ok(read)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::read::version_of;
    use std::{fmt::Write as _, fs, path::Path};

    fn source(folder: &Path) -> Source {
        let text = format!(
            r#"{{"type":"FileSystem","folderPath":"{}","format":{{"type":"DelimitedText","firstRowAsHeader":true}}}}"#,
            folder.display()
        );
        serde_json::from_str(&text).unwrap()
    }

    fn version(folder: &Path, name: &str) -> FileVersion {
        let path = folder.join(name);
        version_of(path.display().to_string(), name.to_owned(), &fs::metadata(&path).unwrap())
    }

    fn column(name: &str, kind: &str) -> SampleColumn {
        SampleColumn { name: name.to_owned(), kind: kind.to_owned(), is_added: false, reads_as: Vec::new() }
    }

    fn tried(folder: &Path, names: &[&str]) -> Trial {
        let roots = Roots::new([folder.to_owned()]).unwrap();
        let mut trying = Trying::new(&source(folder), &Settings::default(), roots);
        trying.see(&names.iter().map(|name| version(folder, name)).collect::<Vec<_>>());
        trying.try_out(&[column("id", "long"), column("text", "string")], &CancellationToken::new())
    }

    fn rows(count: u32) -> String {
        let mut text = "id,text\n".to_owned();
        for row in 0..count {
            writeln!(text, "{row},some text that repeats {}", row % 7).unwrap();
        }
        text
    }

    #[test]
    fn small_files_are_counted_to_the_row() {
        let folder = tempfile::tempdir().unwrap();
        fs::write(folder.path().join("a.csv"), rows(100)).unwrap();
        fs::write(folder.path().join("b.csv"), rows(50) + "not a number,x\n").unwrap();
        let trial = tried(folder.path(), &["a.csv", "b.csv"]);
        assert_eq!((trial.files, trial.why_not.as_str()), (2, ""), "{trial:?}");
        assert_eq!((trial.counters.rows_read, trial.counters.rows_skipped), (151, 1));
        let size: u64 = ["a.csv", "b.csv"].iter().map(|n| version(folder.path(), n).size_bytes).sum();
        assert_eq!(trial.counters.data_read_bytes, size);
        let header_and_bad = 2 * "id,text\n".len() as u64 + "not a number,x\n".len() as u64;
        assert_eq!(trial.counters.data_written_bytes, size - header_and_bad);
        assert!(trial.counters.staged_bytes > 0 && trial.counters.staged_bytes < size / 2);
        assert!(trial.duration_us > 0);
    }

    #[test]
    fn a_large_file_is_left_in_the_middle_and_its_ratio_holds() {
        let folder = tempfile::tempdir().unwrap();
        let text = rows(1_000_000);
        fs::write(folder.path().join("a.csv"), &text).unwrap();
        let mut gz = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
        gz.write_all(text.as_bytes()).unwrap();
        fs::write(folder.path().join("b.csv.gz"), gz.finish().unwrap()).unwrap();
        for name in ["a.csv", "b.csv.gz"] {
            let trial = tried(folder.path(), &[name]);
            let size = version(folder.path(), name).size_bytes as f64;
            // Rows get longer with their numbers: the head of the file has some more of them than the rest.
            let estimated = trial.counters.rows_read as f64 * size / trial.counters.data_read_bytes as f64;
            assert!((600_000.0..1_300_000.0).contains(&estimated), "{name}: {estimated} of {trial:?}");
            assert!(trial.counters.rows_read < 1_000_000, "{name}: it is not read to its end");
        }
    }

    #[test]
    fn what_cannot_be_tried_says_why() {
        let folder = tempfile::tempdir().unwrap();
        fs::write(folder.path().join("a.csv"), "id,text\n1,\"left open\n").unwrap();
        let trial = tried(folder.path(), &["a.csv"]);
        assert!(trial.why_not.contains("never closed"), "{trial:?}");
        assert_eq!(tried(folder.path(), &[]).why_not, "no file has a row");
    }

    #[test]
    fn the_file_of_middle_size_comes_first() {
        let folder = tempfile::tempdir().unwrap();
        for (name, size) in [("a", 30), ("b", 10), ("c", 20)] {
            fs::write(folder.path().join(name), vec![b'x'; size]).unwrap();
        }
        let mut files: Vec<_> = ["a", "b", "c"].iter().map(|name| version(folder.path(), name)).collect();
        typical_first(&mut files);
        let names: Vec<_> = files.iter().map(|file| file.relative_path.as_str()).collect();
        assert_eq!(names, ["c", "a", "b"]);
    }
}
