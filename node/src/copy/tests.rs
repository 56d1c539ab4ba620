//! Whole attempts on real files, staged into a folder and read back.

use super::*;
use ferry_common::activity;
use ferry_common::{
    id::{AttemptNumber, LeaseToken, UnitNumber},
    unit::{FileVersion, Resume, StagingTarget},
};
use std::{
    fs,
    io::{Read as _, Write as _},
    path::Path,
    sync::Mutex,
};

struct Bench {
    folder: tempfile::TempDir,
    format: activity::Format,
    chunk_bytes_max: u64,
}

fn csv() -> activity::Format {
    serde_json::from_str(r#"{"type": "DelimitedText", "firstRowAsHeader": true}"#).unwrap()
}

impl Bench {
    fn new(format: activity::Format, chunk_bytes_max: u64) -> Self {
        let folder = tempfile::tempdir().unwrap();
        fs::create_dir(folder.path().join("staging")).unwrap();
        Self { folder, format, chunk_bytes_max }
    }

    fn path(&self, name: &str) -> String {
        self.folder.path().join(name).to_str().unwrap().to_owned()
    }

    fn work(&self, name: &str, resume: Resume) -> CopyWork {
        let source = format!(
            r#"{{"type": "FileSystem", "folderPath": "{}", "format": {}}}"#,
            self.folder.path().display(),
            serde_json::to_string(&self.format).unwrap()
        );
        let path = self.path(name);
        CopyWork {
            file: crate::read::version_of(path.clone(), name.to_owned(), &fs::metadata(&path).unwrap()),
            source: serde_json::from_str(&source).unwrap(),
            staging: StagingTarget::FileSystem { folder: self.path("staging") },
            chunk_bytes_max: self.chunk_bytes_max,
            resume,
            columns_known: Vec::new(),
            columns_required: Vec::new(),
            fields_expected: 0,
            gzip_level: 1,
        }
    }

    async fn copy(&self, work: CopyWork, attempt: u32) -> (Result<Option<Copied>, Failure>, Vec<Chunk>) {
        let key = AttemptKey {
            run: "r".parse().unwrap(),
            unit: UnitNumber(1),
            attempt: AttemptNumber(attempt),
            token: LeaseToken::generate(),
        };
        let chunks = Mutex::new(Vec::new());
        let roots = Roots::new([self.folder.path().to_owned()]).unwrap();
        let result = copy(&key, work, roots, Arc::default(), &CancellationToken::new(), |chunk| {
            chunks.lock().unwrap().push(chunk);
            std::future::ready(())
        })
        .await;
        (result, chunks.into_inner().unwrap())
    }

    fn staged(&self, chunk: &Chunk) -> String {
        let bytes = fs::read(Path::new(&self.path("staging")).join(&chunk.blob)).unwrap();
        assert_eq!(bytes.len() as u64, chunk.staged_bytes);
        assert_eq!(crc32fast::hash(&bytes), chunk.crc32);
        let mut text = String::new();
        // A reader that stops at the first member must see all.
        flate2::read::GzDecoder::new(&bytes[..]).read_to_string(&mut text).unwrap();
        assert_eq!(text.len() as u64, chunk.raw_bytes);
        text
    }
}

fn rows(from: usize, to: usize) -> String {
    (from..to).map(|n| format!("{n},\"line\n{n}\"\n")).collect()
}

fn gzip(text: &str) -> Vec<u8> {
    let mut encoder = GzEncoder::new(Vec::new(), flate2::Compression::fast());
    encoder.write_all(text.as_bytes()).unwrap();
    encoder.finish().unwrap()
}
use flate2::write::GzEncoder;

#[tokio::test]
async fn chunks_joined_are_the_file_without_its_header() {
    let text = rows(0, 1000);
    for (name, bytes) in [
        ("plain.csv", format!("n,t\n{text}").into_bytes()),
        ("mark.csv", format!("\u{feff}n,t\r\n{text}").into_bytes()),
        ("packed.csv.gz", gzip(&format!("n,t\n{text}"))),
        ("packed-but-not-by-name.csv", gzip(&format!("n,t\n{text}"))),
    ] {
        let bench = Bench::new(csv(), 700);
        fs::write(bench.path(name), bytes).unwrap();
        let (copied, chunks) = bench.copy(bench.work(name, Resume::default()), 1).await;
        let copied = copied.unwrap().unwrap();
        assert_eq!(copied.columns, ["n", "t"], "{name}");
        assert_eq!(copied.counters.rows_read, 1000, "{name}");
        assert_eq!(copied.counters.data_read_bytes, fs::metadata(bench.path(name)).unwrap().len(), "{name}");
        assert_eq!(copied.chunks as usize, chunks.len(), "{name}");
        assert!(chunks.len() > 10 && chunks.iter().all(|c| c.raw_bytes <= 700), "{name}");
        assert_eq!(chunks.iter().map(|c| bench.staged(c)).collect::<String>(), text, "{name}");
        assert_eq!(chunks.last().unwrap().rows_end, 1000, "{name}");
    }
}

#[tokio::test]
async fn a_later_attempt_goes_on_after_the_accepted_chunks_with_the_same_bytes() {
    for name in ["a.csv", "a.csv.gz"] {
        let bench = Bench::new(csv(), 500);
        let text = format!("n,t\n{}", rows(0, 300));
        fs::write(bench.path(name), if name.ends_with("gz") { gzip(&text) } else { text.into_bytes() }).unwrap();
        let (_, first) = bench.copy(bench.work(name, Resume::default()), 1).await;
        let reached = &first[3];
        let resume = Resume {
            next_chunk: 4,
            source_offset_bytes: reached.source_end_bytes,
            source_lines: reached.source_lines_end,
            rows: reached.rows_end,
            accepted_chunks: vec![ChunkNumber(6)],
        };
        let (copied, second) = bench.copy(bench.work(name, resume), 2).await;
        let copied = copied.unwrap().unwrap();
        assert_eq!((copied.chunks as usize, copied.counters.rows_read), (first.len(), 300), "{name}");
        let expected: Vec<_> = first.iter().filter(|c| c.number.0 == 4 || c.number.0 == 5 || c.number.0 > 6).collect();
        assert_eq!(second.len(), expected.len(), "{name}");
        for (again, first) in second.iter().zip(expected) {
            assert_eq!(Chunk { blob: first.blob.clone(), ..again.clone() }, *first, "{name}");
            assert_eq!(bench.staged(again), bench.staged(first), "{name}");
        }
    }
}

#[tokio::test]
async fn files_without_rows_have_no_chunks() {
    for (name, text) in [("empty.csv", ""), ("header.csv", "n,t\r\n"), ("blank.csv", "n,t\n\n\n")] {
        let bench = Bench::new(csv(), 500);
        fs::write(bench.path(name), text).unwrap();
        let (copied, chunks) = bench.copy(bench.work(name, Resume::default()), 1).await;
        assert_eq!((copied.unwrap().unwrap().chunks, chunks.len()), (0, 0), "{name}");
    }
}

#[tokio::test]
async fn bad_files_are_told_with_file_and_place() {
    let half = gzip(&format!("n,t\n{}", rows(0, 5000)));
    for (case, bytes, code, words) in [
        ("cut.csv.gz", half[..half.len() / 2].to_vec(), Code::CompressionCorrupt, "cut.csv.gz is damaged or cut off"),
        ("not.csv.gz", b"n,t\n1,2\n".to_vec(), Code::CompressionCorrupt, "the content does not"),
        ("quote.csv", b"n,t\n1,a\n2,\"b\n3,c\n".to_vec(), Code::UnclosedQuote, "line 3 (byte 10)"),
        ("ragged.csv", b"n,t\n1,a\n2\n".to_vec(), Code::RaggedRow, "line 3 (byte 8) has 1 fields where 2"),
        ("bytes.csv", b"n,t\n1,\xff\n".to_vec(), Code::InvalidUtf8, "line 2 is not UTF-8 at byte 6"),
        ("twice.csv", b"n,n\n1,2\n".to_vec(), Code::MappingColumnMissing, "\"n\" twice"),
    ] {
        let bench = Bench::new(csv(), 500);
        fs::write(bench.path(case), bytes).unwrap();
        let (result, _) = bench.copy(bench.work(case, Resume::default()), 1).await;
        let failure = result.unwrap_err();
        assert_eq!(failure.code, code, "{case}");
        assert!(failure.message.contains(words) && failure.message.contains(case), "{case}: {}", failure.message);
    }
}

#[tokio::test]
async fn a_header_that_does_not_fit_the_mapping_stops_before_anything_is_staged() {
    let bench = Bench::new(csv(), 500);
    fs::write(bench.path("a.csv"), "n,extra\n1,2\n").unwrap();
    for (known, required, words) in [(vec!["n"], vec![], "extra"), (vec![], vec!["t"], "lacks column \"t\"")] {
        let mut work = bench.work("a.csv", Resume::default());
        work.columns_known = known.into_iter().map(str::to_owned).collect();
        work.columns_required = required.into_iter().map(str::to_owned).collect();
        let (result, chunks) = bench.copy(work, 1).await;
        let failure = result.unwrap_err();
        assert_eq!(failure.code, Code::MappingColumnMissing);
        assert!(failure.message.contains(words), "{}", failure.message);
        assert!(chunks.is_empty());
    }
}

#[tokio::test]
async fn another_version_of_the_file_is_never_copied() {
    let bench = Bench::new(csv(), 500);
    fs::write(bench.path("a.csv"), "n,t\n1,2\n").unwrap();
    let work = bench.work("a.csv", Resume::default());
    let stale = FileVersion { modified_ns: work.file.modified_ns - 1, ..work.file.clone() };
    fs::write(bench.path("a.csv"), "n,t\n1,2\n3,4\n").unwrap();
    for file in [work.file.clone(), stale] {
        let (result, chunks) = bench.copy(CopyWork { file, ..work.clone() }, 1).await;
        assert_eq!(result.unwrap_err().code, Code::SourceChanged);
        assert!(chunks.is_empty());
    }
}

#[tokio::test]
async fn lines_of_json_are_cut_and_checked() {
    let bench = Bench::new(serde_json::from_str(r#"{"type": "Json"}"#).unwrap(), 50);
    let text: String = (0..50).map(|n| format!("{{\"n\":{n}}}\n")).collect();
    fs::write(bench.path("a.json"), &text).unwrap();
    let (copied, chunks) = bench.copy(bench.work("a.json", Resume::default()), 1).await;
    assert_eq!(copied.unwrap().unwrap().counters.rows_read, 50);
    assert_eq!(chunks.iter().map(|c| bench.staged(c)).collect::<String>(), text);

    fs::write(bench.path("b.json"), "{\"n\":1}\n{\"n\":\n").unwrap();
    let (result, _) = bench.copy(bench.work("b.json", Resume::default()), 1).await;
    let failure = result.unwrap_err();
    assert_eq!(failure.code, Code::InvalidJsonRecord);
    assert!(failure.message.contains("line 2 (byte 8)"), "{}", failure.message);
}

#[tokio::test]
async fn a_missing_staging_folder_is_said() {
    let bench = Bench::new(csv(), 500);
    fs::write(bench.path("a.csv"), "n,t\n1,2\n").unwrap();
    let mut work = bench.work("a.csv", Resume::default());
    work.staging = StagingTarget::FileSystem { folder: bench.path("no-such") };
    let (result, _) = bench.copy(work, 1).await;
    assert_eq!(result.unwrap_err().code, Code::StagingMissing);
}
