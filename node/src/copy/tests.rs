//! Whole attempts on real files, staged into a folder and read back.

use super::*;
use crate::bandwidth::{Bandwidth, Throttle};
use ferry_common::{
    activity::{self, CreationTime, Format, Settings},
    id::{AttemptNumber, ChunkNumber, LeaseToken, UnitNumber},
    plan::{ColumnFrom, CopyColumn, CopyPlan},
    scalar::ScalarType,
    storage::Connections,
    timetable::Timetable,
    unit::{FileRange, Resume, StagingTarget},
};
use flate2::write::GzEncoder;
use std::{
    fs,
    io::{Read as _, Write as _},
    path::Path,
    sync::Mutex,
};

struct Bench {
    folder: tempfile::TempDir,
    format: Format,
    chunk_bytes_max: u64,
}

fn csv() -> Format {
    serde_json::from_str(r#"{"type": "DelimitedText", "firstRowAsHeader": true}"#).unwrap()
}

impl Bench {
    fn new(format: Format, chunk_bytes_max: u64) -> Self {
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
            file: read::version_of(path.clone(), name.to_owned(), &fs::metadata(&path).unwrap()),
            scope: Scope::File,
            source: serde_json::from_str(&source).unwrap(),
            settings: Settings { chunk_size_mb: self.chunk_bytes_max as f64 / 1e6, ..Settings::default() },
            creation_time: None,
            plan: CopyPlan::default(),
            staging: StagingTarget::FileSystem { folder: self.path("staging") },
            resume,
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
        let bandwidth = Bandwidth::new(Timetable::default());
        let throttle = Throttle::new(Arc::new(bandwidth), None);
        let staging = Staging::open(&work.staging, None, throttle, &Connections::default()).unwrap();
        let result = copy(&key, work, roots, &staging, Arc::default(), &CancellationToken::new(), |chunk| {
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

/// The resume of an attempt after the first `done` of these chunks.
fn resume_after(chunks: &[Chunk], done: usize) -> Resume {
    match chunks[..done].last() {
        None => Resume::default(),
        Some(reached) => Resume {
            next_chunk: done as u32,
            source_offset_bytes: reached.source_end_bytes,
            source_lines: reached.source_lines_end,
            rows: reached.rows_end,
            rows_skipped: reached.skipped_end,
            file: reached.file_end,
            accepted_chunks: Vec::new(),
        },
    }
}

fn column(name: &str, kind: ScalarType) -> CopyColumn {
    CopyColumn { name: name.to_owned(), kind: Some(kind), source: ColumnFrom::Name(name.to_owned()), format: None }
}

fn plan_of(columns: &[(&str, ScalarType)]) -> CopyPlan {
    CopyPlan {
        columns: columns.iter().map(|(name, kind)| column(name, *kind)).collect(),
        layout: columns.iter().map(|(name, _)| (*name).to_owned()).collect(),
        ..CopyPlan::default()
    }
}

fn format(json: &str) -> Format {
    serde_json::from_str(json).unwrap()
}

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
        assert_eq!(reached.number, ChunkNumber(3), "{name}");
        let resume = Resume { accepted_chunks: vec![ChunkNumber(6)], ..resume_after(&first, 4) };
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
        ("not.csv.gz", b"n,t\n1,2\n".to_vec(), Code::FormatMismatch, ".gz, but the content is"),
        ("quote.csv", b"n,t\n1,a\n2,\"b\n3,c\n".to_vec(), Code::UnclosedQuote, "line 3 (byte 10)"),
        ("ragged.csv", b"n,t\n1,a\n2\n".to_vec(), Code::RaggedRow, "line 3 (byte 8) has 1 field instead of 2"),
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
    for (layout, required, words) in [(vec!["n"], vec![], "extra"), (vec![], vec!["t"], "lacks columns t")] {
        let mut work = bench.work("a.csv", Resume::default());
        work.plan.layout = layout.into_iter().map(str::to_owned).collect();
        work.plan.required = required.into_iter().map(str::to_owned).collect();
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

/// Copies a file and gives its rows as staged, quarantine apart.
async fn staged_of(bench: &Bench, work: CopyWork) -> (String, Copied, Vec<Chunk>) {
    let (copied, chunks) = bench.copy(work, 1).await;
    let copied = copied.unwrap().unwrap();
    let text = chunks.iter().map(|c| bench.staged(c)).collect();
    (text, copied, chunks)
}

#[tokio::test]
async fn every_format_becomes_rows_of_the_table() {
    use ScalarType as T;
    let two = plan_of(&[("n", T::Long), ("t", T::String)]);
    let by_order = |mut plan: CopyPlan| {
        plan.layout.clear();
        plan.fields_expected = 2;
        for (at, column) in plan.columns.iter_mut().enumerate() {
            column.source = ColumnFrom::Ordinal(at as u32);
        }
        plan
    };
    for (case, kind, bytes, plan, expected) in [
        (
            "a.tsv",
            r#"{"type":"DelimitedText","columnDelimiter":"\\t","firstRowAsHeader":true}"#,
            "n\tt\n1\ta,b\n2\t\"x\ty\"\n",
            two.clone(),
            "1,\"a,b\"\n2,x\ty\n",
        ),
        (
            "escape.csv",
            r#"{"type":"DelimitedText","escapeChar":"\\"}"#,
            "1,\"a\\\"b\"\n2,c\\,d\n",
            by_order(two.clone()),
            "1,\"a\"\"b\"\n2,\"c,d\"\n",
        ),
        (
            "two.csv",
            r#"{"type":"DelimitedText","columnDelimiter":"||"}"#,
            "1||a|b\n2||\n",
            by_order(two.clone()),
            "1,a|b\n2,\n",
        ),
        (
            "comment.csv",
            r##"{"type":"DelimitedText","commentChar":"#","skipLineCount":1}"##,
            "junk\n# 1,\"2\n1,a\n",
            by_order(two.clone()),
            "1,a\n",
        ),
        (
            "null.csv",
            r#"{"type":"DelimitedText","nullValue":"NA"}"#,
            "NA,NA\n1,\"NA\"\n",
            by_order(two.clone()),
            ",\n1,\"NA\"\n",
        ),
        (
            "mac.csv",
            r#"{"type":"DelimitedText","rowDelimiter":"\\r"}"#,
            "1,a\r2,b\r",
            by_order(two.clone()),
            "1,a\n2,b\n",
        ),
        (
            "plain.csv",
            r#"{"type":"DelimitedText","quoteChar":"","columnDelimiter":";"}"#,
            "1;\"a\n2;b\n",
            by_order(two.clone()),
            "1,\"\"\"a\"\n2,b\n",
        ),
        (
            "lines.txt",
            r#"{"type":"TextLines"}"#,
            "a \"b\"\n\nc,d\r\n",
            CopyPlan {
                columns: vec![CopyColumn { source: ColumnFrom::Ordinal(0), ..column("t", T::String) }],
                fields_expected: 1,
                ..CopyPlan::default()
            },
            "\"a \"\"b\"\"\"\n\"c,d\"\n",
        ),
        (
            "fixed.txt",
            r#"{"type":"FixedWidthText","columns":[{"name":"n","width":3},{"name":"t","width":4}]}"#,
            "  1ab\n 22 c d\n",
            two.clone(),
            "1,ab\n22,c d\n",
        ),
        ("iis.log", r#"{"type":"W3CLog"}"#, "#Version: 1.0\n#Fields: n t\n1 a\n2 -\n", two.clone(), "1,a\n2,\n"),
        (
            "array.json",
            r#"{"type":"Json"}"#,
            "[\n {\"n\": 1,\n \"t\": \"a\"},{\"n\":2}\n]\n",
            two.clone(),
            "{\"n\": 1,  \"t\": \"a\"}\n{\"n\":2}\n",
        ),
        (
            "joined.json",
            r#"{"type":"Json"}"#,
            "{\"n\":1}{\"n\":2} {\"n\":3}",
            two.clone(),
            "{\"n\":1}\n{\"n\":2}\n{\"n\":3}\n",
        ),
        ("mended.json", r#"{"type":"Json"}"#, "{\"n\":\"5.0\",\"t\":7}\n", two.clone(), "{\"n\":5,\"t\":7}\n"),
        (
            "a.xml",
            r#"{"type":"Xml"}"#,
            "<r><row n=\"1\"><t>a</t></row><row><n>2</n></row></r>",
            CopyPlan { ignores_unknown: true, ..two.clone() },
            "{\"@n\":\"1\",\"t\":\"a\"}\n{\"n\":\"2\"}\n",
        ),
    ] {
        let bench = Bench::new(format(kind), 1_000);
        fs::write(bench.path(case), bytes).unwrap();
        let mut work = bench.work(case, Resume::default());
        work.plan = plan;
        let (text, copied, _) = staged_of(&bench, work).await;
        assert_eq!(text, expected, "{case}");
        assert_eq!(copied.counters.rows_read, text.lines().count() as u64, "{case}");
    }
}

#[tokio::test]
async fn a_property_without_a_column_is_not_lost_in_silence() {
    let bench = Bench::new(format(r#"{"type":"Json"}"#), 1_000);
    fs::write(bench.path("a.json"), "{\"n\":1}\n{\"n\":2,\"late\":true}\n").unwrap();
    let mut work = bench.work("a.json", Resume::default());
    work.plan = plan_of(&[("n", ScalarType::Long)]);
    let failure = bench.copy(work.clone(), 1).await.0.unwrap_err();
    assert!(failure.message.contains("record 2: property \"late\" has no column"), "{}", failure.message);
    work.plan.ignores_unknown = true;
    assert_eq!(staged_of(&bench, work).await.0, "{\"n\":1}\n{\"n\":2,\"late\":true}\n");
}

#[tokio::test]
async fn objects_become_rows_where_the_mapping_says_so() {
    use ScalarType as T;
    let path =
        |name: &str, kind, path: &str| CopyColumn { source: ColumnFrom::Path(path.to_owned()), ..column(name, kind) };
    let plan = CopyPlan {
        columns: vec![path("id", T::Long, "$.id"), path("x", T::String, "x"), path("all", T::Dynamic, "$.deep.er")],
        rewrites: true,
        collection: Some("$.items".to_owned()),
        ..CopyPlan::default()
    };
    let bench = Bench::new(format(r#"{"type":"Json"}"#), 20);
    let text = r#"{"id":1,"items":[{"x":"a,b"},{"x":null}],"deep":{"er":[1.4000000000000001]}}
{"id":2,"items":[]}
"#;
    fs::write(bench.path("a.json"), text).unwrap();
    let mut work = bench.work("a.json", Resume::default());
    work.plan = plan;
    let (text, copied, chunks) = staged_of(&bench, work).await;
    assert_eq!(text, "1,\"a,b\",[1.4000000000000001]\n1,,[1.4000000000000001]\n2,,\n");
    // Rows of one record stay together, however small a chunk is.
    assert_eq!((copied.counters.rows_read, chunks[0].rows), (3, 2));
}

#[tokio::test]
async fn bad_rows_go_to_the_quarantine_and_the_rest_is_staged() {
    use ScalarType as T;
    let mut text = String::from("n,t\n");
    for n in 0..200 {
        match n % 50 {
            7 => text.push_str("x,bad number\n"),
            8 => text.push_str("1,2,3\n"),
            _ => text.push_str(&format!("{n},\"t\n{n}\"\n")),
        }
    }
    let mut bytes = text.into_bytes();
    bytes.extend_from_slice(b"9,\xff\n300,last\n301");
    let bench = Bench::new(csv(), 300);
    fs::write(bench.path("a.csv"), &bytes).unwrap();
    let mut work = bench.work("a.csv", Resume::default());
    work.plan = plan_of(&[("n", T::Long), ("t", T::String)]);
    let strict = bench.copy(work.clone(), 1).await.0.unwrap_err();
    assert_eq!(strict.code, Code::ValueIncompatible);
    assert!(
        strict.message.contains("line 16 (byte 60), column \"n\": \"x\" is not a whole number"),
        "{}",
        strict.message
    );

    work.settings.enable_skip_incompatible_row = true;
    let (staged, copied, chunks) = staged_of(&bench, work.clone()).await;
    assert_eq!((copied.counters.rows_read, copied.counters.rows_skipped), (203, 10));
    assert!(staged.ends_with("300,last\n") && !staged.contains("bad number"));
    let mut kept: Vec<_> = chunks.iter().filter_map(|c| c.quarantine.clone()).collect();
    kept.extend(copied.quarantine.clone());
    let kept: String = kept
        .iter()
        .map(|q| {
            fs::read_to_string(Path::new(&bench.path("staging")).join(q)).unwrap_or_else(|_| {
                String::from_utf8_lossy(&fs::read(Path::new(&bench.path("staging")).join(q)).unwrap()).into_owned()
            })
        })
        .collect();
    assert_eq!(kept.matches("TabularRowSkip").count(), 10, "{kept}");
    assert!(kept.contains(",a.csv,16,60,n,ValueIncompatible\n"), "{kept}");
    assert!(kept.contains("\"1,2,3\"") && kept.contains(",RaggedRow\n") && kept.contains(",InvalidUtf8\n"), "{kept}");

    // Whatever an earlier attempt staged, the next one cuts the same.
    for done in 0..chunks.len() {
        let mut work = work.clone();
        work.resume = resume_after(&chunks, done);
        let (again, copied_again, rest) = staged_of(&bench, work).await;
        assert!(staged.ends_with(&again), "after {done}");
        assert_eq!(copied_again.counters.rows_read, 203, "after {done}");
        assert_eq!(copied_again.counters.rows_skipped, 10, "after {done}");
        assert_eq!(rest.len(), chunks.len() - done, "after {done}");
    }
    work.settings.skip_rows_max = Some(3);
    assert_eq!(bench.copy(work, 1).await.0.unwrap_err().code, Code::TooManyRowsSkipped);
}

#[tokio::test]
async fn parts_of_a_file_give_the_rows_of_the_whole() {
    let bench = Bench::new(csv(), 5_000);
    let text = format!("n,t\n{}", rows(0, 60_000));
    fs::write(bench.path("a.csv"), &text).unwrap();
    let whole = bench.work("a.csv", Resume::default());
    let file =
        SourceFile::open(&Roots::new([bench.folder.path().to_owned()]).unwrap(), &whole.file, &csv(), Arc::default())
            .unwrap();
    let parts = format::split_points(&file, &csv(), text.len() as u64, 200_000).unwrap();
    assert!(parts.len() >= 4, "{parts:?}");
    let (mut joined, mut rows_read) = (String::new(), 0);
    for part in &parts {
        let (text, copied, _) = staged_of(&bench, CopyWork { scope: Scope::Range(*part), ..whole.clone() }).await;
        joined.push_str(&text);
        rows_read += copied.counters.rows_read;
    }
    assert!(joined == rows(0, 60_000));
    assert_eq!(rows_read, 60_000);
    // A part that does not end where a record does is noticed.
    for (start, end) in [(0, parts[0].end - 3), (0, parts[0].end - 8), (parts[1].start, parts[1].end - 1)] {
        let part = FileRange { start, end, ..parts[0] };
        let work = CopyWork { scope: Scope::Range(part), ..whole.clone() };
        assert_eq!(bench.copy(work, 1).await.0.unwrap_err().code, Code::SplitInsideRecord, "{start} {end}");
    }
}

#[tokio::test]
async fn small_files_are_staged_together_and_told_apart() {
    let bench = Bench::new(csv(), 100);
    let names = ["a.csv", "b.csv", "empty.csv", "c.csv"];
    let texts = ["n,t\n1,a\n2,b\n", "t,n\nx,3\n", "n,t\n", "n,t\n4,d"];
    for (name, text) in names.iter().zip(texts) {
        fs::write(bench.path(name), text).unwrap();
    }
    let mut work = bench.work("a.csv", Resume::default());
    work.plan = plan_of(&[("n", ScalarType::Long), ("t", ScalarType::String)]);
    work.scope = Scope::Pack(names.iter().map(|n| bench.work(n, Resume::default()).file).collect());
    let (text, copied, chunks) = staged_of(&bench, work.clone()).await;
    assert_eq!(text, "1,a\n2,b\n3,x\n4,d\n");
    assert_eq!((chunks.len(), copied.counters.rows_read), (1, 4));
    let files: Vec<_> = chunks[0].files.iter().map(|f| (f.relative_path.as_str(), f.rows)).collect();
    assert_eq!(files, [("a.csv", 2), ("b.csv", 1), ("empty.csv", 0), ("c.csv", 1)]);

    work.settings.chunk_size_mb = 0.000_004;
    let (text, _, chunks) = staged_of(&bench, work.clone()).await;
    assert_eq!((text.lines().count(), chunks.len()), (4, 4));
    for done in 0..=4 {
        let (again, copied, rest) =
            staged_of(&bench, CopyWork { resume: resume_after(&chunks, done), ..work.clone() }).await;
        assert!(text.ends_with(&again) && rest.len() == 4 - done, "after {done}");
        assert_eq!(copied.counters.rows_read, 4, "after {done}");
    }
}

#[tokio::test]
async fn members_of_archives_are_files() {
    let members = [("a.csv", "n,t\n1,a\n2,b\n".as_bytes().to_vec()), ("d/b.csv.gz", gzip("n,t\n3,c\n"))];
    let mut tar = tar::Builder::new(Vec::new());
    let mut zip = zip::ZipWriter::new(io::Cursor::new(Vec::new()));
    for (name, bytes) in &members {
        let mut header = tar::Header::new_gnu();
        header.set_size(bytes.len() as u64);
        header.set_cksum();
        tar.append_data(&mut header, name, bytes.as_slice()).unwrap();
        zip.start_file(*name, zip::write::SimpleFileOptions::default()).unwrap();
        zip.write_all(bytes).unwrap();
    }
    let tar = tar.into_inner().unwrap();
    let mut tar_gz = GzEncoder::new(Vec::new(), flate2::Compression::fast());
    tar_gz.write_all(&tar).unwrap();
    for (name, bytes) in
        [("a.tar", tar), ("a.tgz", tar_gz.finish().unwrap()), ("a.zip", zip.finish().unwrap().into_inner())]
    {
        let bench = Bench::new(csv(), 4);
        fs::write(bench.path(name), bytes).unwrap();
        let work = bench.work(name, Resume::default());
        let (text, copied, chunks) = staged_of(&bench, work.clone()).await;
        assert_eq!((text.as_str(), copied.counters.rows_read), ("1,a\n2,b\n3,c\n", 3), "{name}");
        let last = &chunks.last().unwrap().files;
        assert!(last.iter().any(|f| f.relative_path == format!("{name}/d/b.csv.gz") && f.rows == 1), "{last:?}");
        for done in 0..=3 {
            let (again, copied, _) =
                staged_of(&bench, CopyWork { resume: resume_after(&chunks, done), ..work.clone() }).await;
            assert!(text.ends_with(&again) && again.lines().count() == 3 - done, "{name} after {done}");
            assert_eq!(copied.counters.rows_read, 3, "{name} after {done}");
        }
    }
}

#[tokio::test]
async fn added_columns_and_dates_come_from_the_path() {
    let bench = Bench::new(csv(), 1_000);
    fs::create_dir_all(bench.path("region=north/2026/01/02")).unwrap();
    let name = "region=north/2026/01/02/a.csv";
    fs::write(bench.path(name), "n,t\n1,a\r\n2,\"b\"\n").unwrap();
    let mut work = bench.work(name, Resume::default());
    work.source.additional_columns = vec![
        activity::AdditionalColumn { name: "file".to_owned(), value: "$$FILENAME".to_owned() },
        activity::AdditionalColumn { name: "why".to_owned(), value: "be,cause".to_owned() },
    ];
    work.source.enable_partition_discovery = true;
    work.plan.layout = ["n", "t", "file", "why", "region"].map(str::to_owned).to_vec();
    work.creation_time = Some(CreationTime { path_pattern: Some("**/{yyyy}/{MM}/{dd}/*".to_owned()), column: None });
    let (text, _, chunks) = staged_of(&bench, work.clone()).await;
    assert_eq!(text, "1,a,a.csv,\"be,cause\",north\n2,\"b\",a.csv,\"be,cause\",north\n");
    assert_eq!(chunks[0].created.as_deref(), Some("2026-01-02T00:00:00Z"));
    work.creation_time = Some(CreationTime { path_pattern: Some("{yyyy}-{MM}.csv".to_owned()), column: None });
    assert_eq!(bench.copy(work, 1).await.0.unwrap_err().code, Code::SettingsInvalid);
}

#[tokio::test]
async fn a_chunk_never_mixes_days() {
    let bench = Bench::new(csv(), 1_000);
    fs::write(
        bench.path("a.csv"),
        "n,day\n1,2026-01-01T23:00:00Z\n2,2026-01-02\n3,2026-01-02T05:00:00Z\n4,2026-01-03\n",
    )
    .unwrap();
    let mut work = bench.work("a.csv", Resume::default());
    work.plan = plan_of(&[("n", ScalarType::Long), ("day", ScalarType::DateTime)]);
    work.creation_time = Some(CreationTime { path_pattern: None, column: Some("day".to_owned()) });
    let (_, _, chunks) = staged_of(&bench, work.clone()).await;
    let days: Vec<_> = chunks.iter().map(|c| (c.rows, c.created.clone().unwrap())).collect();
    let day = |d: u32| format!("2026-01-0{d}T00:00:00Z");
    assert_eq!(days, [(1, day(1)), (2, day(2)), (1, day(3))]);
    let (_, _, rest) = staged_of(&bench, CopyWork { resume: resume_after(&chunks, 1), ..work }).await;
    assert_eq!(rest.iter().map(|c| c.created.clone().unwrap()).collect::<Vec<_>>(), [day(2), day(3)]);
}

#[tokio::test]
async fn records_of_different_width_never_share_a_blob() {
    let plan = CopyPlan { late: vec!["c".to_owned()], ..plan_of(&[("a", ScalarType::Long), ("b", ScalarType::Long)]) };
    let widths = |text: String| {
        let mut widths: Vec<_> = text.lines().map(|line| line.split(',').count()).collect();
        widths.dedup();
        widths
    };

    let bench = Bench::new(csv(), 1_000_000);
    for (name, text) in
        [("a.csv", "a,b\n1,2\n"), ("b.csv", "a,b,c\n3,4,5\n"), ("c.csv", "a,b,c\n6,7,8\n"), ("d.csv", "a,b\n9,0\n")]
    {
        fs::write(bench.path(name), text).unwrap();
    }
    let version =
        |name: &str| read::version_of(bench.path(name), name.to_owned(), &fs::metadata(bench.path(name)).unwrap());
    let pack = Scope::Pack(["a.csv", "b.csv", "c.csv", "d.csv"].map(version).to_vec());
    let work = |resume| CopyWork { scope: pack.clone(), plan: plan.clone(), ..bench.work("a.csv", resume) };
    let (copied, chunks) = bench.copy(work(Resume::default()), 1).await;
    assert_eq!(copied.unwrap().unwrap().counters.rows_read, 4);
    assert_eq!(chunks.iter().map(|c| widths(bench.staged(c))).collect::<Vec<_>>(), [[2], [3], [2]]);
    let files = |c: &Chunk| c.files.iter().map(|f| (f.relative_path.clone(), f.rows)).collect::<Vec<_>>();
    assert_eq!(files(&chunks[1]), [("b.csv".to_owned(), 1), ("c.csv".to_owned(), 1)]);
    for done in 1..chunks.len() {
        let (copied, rest) = bench.copy(work(resume_after(&chunks, done)), 2).await;
        assert_eq!(copied.unwrap().unwrap().counters.rows_read, 4, "after chunk {done}");
        let staged = |of: &[Chunk]| of.iter().map(|c| bench.staged(c)).collect::<Vec<_>>();
        assert_eq!(staged(&rest), staged(&chunks[done..]), "after chunk {done}");
    }

    let bench = Bench::new(format(r#"{"type": "W3CLog"}"#), 1_000_000);
    let log = "#Fields: a b\n1 2\n3 4\n#Fields: a b c\n5 6 7\n#Fields: b a\n9 8\n";
    fs::write(bench.path("w.log"), log).unwrap();
    let work = |resume| CopyWork { plan: plan.clone(), ..bench.work("w.log", resume) };
    let (copied, chunks) = bench.copy(work(Resume::default()), 1).await;
    assert_eq!(copied.unwrap().unwrap().counters.rows_read, 4);
    assert_eq!(chunks.iter().map(|c| bench.staged(c)).collect::<Vec<_>>(), ["1,2\n3,4\n", "5,6,7\n", "8,9\n"]);
    for done in 1..chunks.len() {
        let (_, rest) = bench.copy(work(resume_after(&chunks, done)), 2).await;
        assert_eq!(rest.len(), chunks.len() - done, "after chunk {done}");
    }
}
