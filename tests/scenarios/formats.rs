//! Files of every format, written by other programs, and what becomes of damaged files and of rows that do not fit.
//!
//! The files and what is in them come from `tests/fixtures/formats.py`; ferry has no part in either.

use ferry_tests::{Program, free_port, repository, tools, wait_for};
use serde_json::{Value, json};
use std::{
    collections::BTreeMap,
    fs,
    io::Write as _,
    path::{Path, PathBuf},
    process::Command,
};
use tempfile::TempDir;

/// A local endpoint, a coordinator and one node; staging is a folder.
struct Bench {
    folder: TempDir,
    adx_port: u16,
    http_port: u16,
    http: reqwest::Client,
    _programs: [Program; 3],
}

/// `activity.json` of a case.
#[derive(Debug)]
struct Case {
    format: Value,
    mapping: Value,
    settings: Value,
    /// More of `source`.
    source: serde_json::Map<String, Value>,
    /// Names and types of the table's columns.
    columns: Vec<(String, String)>,
}

impl Case {
    fn read(folder: &Path) -> Self {
        let mut case: Value = serde_json::from_slice(&fs::read(folder.join("activity.json")).unwrap()).unwrap();
        Self {
            columns: serde_json::from_value(case["columns"].take()).unwrap(),
            source: serde_json::from_value(case["source"].take()).unwrap(),
            format: case["format"].take(),
            mapping: case["mapping"].take(),
            settings: case["settings"].take(),
        }
    }
}

impl Bench {
    async fn start() -> Self {
        ferry_common::install_tls_provider();
        let folder = TempDir::new().unwrap();
        let at = |name: &str| folder.path().join(name).display().to_string();
        for name in ["source", "staging"] {
            fs::create_dir(at(name)).unwrap();
        }
        let [adx_port, grpc_port, http_port] = [free_port(), free_port(), free_port()];
        let start = |name: &str, arguments: &[&str]| {
            let arguments: Vec<String> = arguments.iter().map(|a| (*a).to_owned()).collect();
            Program::ferry(&arguments, &[], folder.path().join(format!("{name}.log")))
        };
        let local = |port: u16| format!("127.0.0.1:{port}");
        let programs = [
            start("adx", &["local-adx", "--listen", &local(adx_port), "--database", "Test", "--data", &at("adx")]),
            start(
                "coordinator",
                &[
                    "coordinator",
                    "--grpc",
                    &local(grpc_port),
                    "--http",
                    &local(http_port),
                    "--store",
                    &format!("sqlite:{}", at("ferry.db")),
                ],
            ),
            start(
                "node",
                &[
                    "node",
                    "--coordinator",
                    &format!("http://{}", local(grpc_port)),
                    "--name",
                    "node-0",
                    "--slots",
                    "2",
                    "--allow-root",
                    &at("source"),
                ],
            ),
        ];
        let bench = Self { folder, adx_port, http_port, http: reqwest::Client::new(), _programs: programs };
        for (what, url) in [
            ("local-adx", format!("{}/healthz", bench.endpoint())),
            ("the coordinator", format!("http://127.0.0.1:{http_port}/readyz")),
        ] {
            wait_for(what, || async { bench.http.get(&url).send().await.ok().filter(|r| r.status().is_success()) })
                .await;
        }
        bench
    }

    fn endpoint(&self) -> String {
        format!("http://127.0.0.1:{}", self.adx_port)
    }

    fn source(&self) -> PathBuf {
        self.folder.path().join("source")
    }

    /// Lets the fixtures write below the source. Returns the names of the cases, ORC only where it is built in.
    fn fixtures(&self, which: &str) -> Vec<String> {
        let output = Command::new(tools().join("venv/bin/python"))
            .arg(repository().join("tests/fixtures/formats.py"))
            .args([which, &self.source().display().to_string()])
            .output()
            .unwrap();
        assert!(output.status.success(), "formats.py: {}", String::from_utf8_lossy(&output.stderr));
        let mut names: Vec<String> = serde_json::from_slice(&output.stdout).unwrap();
        names.retain(|name| cfg!(feature = "orc") || name != "orc");
        names
    }

    /// Rows of a query or a command.
    fn query(&self, text: &str) -> Vec<Value> {
        ferry_tests::query(&self.endpoint(), text)
    }

    fn count(&self, table: &str) -> u64 {
        self.query(&format!("['{table}'] | count"))[0]["Count"].as_u64().unwrap()
    }

    /// Creates the table of a case, and submits the copy of its files. Table and run have the case's name.
    async fn submit(&self, name: &str, case: &Case) {
        let columns: Vec<String> = case.columns.iter().map(|(name, kind)| format!("['{name}']:{kind}")).collect();
        self.query(&format!(".create table ['{name}'] ({})", columns.join(", ")));
        let mut source = case.source.clone();
        source.insert("type".to_owned(), json!("FileSystem"));
        source.insert("folderPath".to_owned(), json!(self.source().join(name).join("data")));
        source.insert("format".to_owned(), case.format.clone());
        let activity = json!({
            "name": name,
            "source": source,
            "sink": {"type": "AzureDataExplorer", "endpoint": self.endpoint(), "database": "Test", "table": name,
                     "mapping": case.mapping},
            "staging": {"type": "FileSystem", "folderPath": self.folder.path().join("staging")},
            "settings": case.settings,
        });
        let url = format!("http://127.0.0.1:{}/api/v1/runs", self.http_port);
        let body = json!({"runId": name, "activity": activity});
        let response = self.http.post(url).json(&body).send().await.unwrap();
        let status = response.status();
        assert!(status.is_success(), "{name}: {status}: {}", response.text().await.unwrap());
    }

    /// Waits for the end of a run, staging swept. Returns its report.
    async fn finish(&self, run: &str) -> Value {
        let url = format!("http://127.0.0.1:{}/api/v1/runs/{run}", self.http_port);
        let get = |url: String| async move { self.http.get(url).send().await.ok()?.json::<Value>().await.ok() };
        wait_for(run, || async { get(url.clone()).await.filter(|r| r["isFinal"] == true && r["isSwept"] == true) })
            .await;
        get(format!("{url}/report")).await.unwrap()
    }

    /// Files in staging, by their names below it.
    fn staged(&self) -> BTreeMap<String, Vec<u8>> {
        let root = self.folder.path().join("staging");
        let mut found = BTreeMap::new();
        let mut folders = vec![root.clone()];
        while let Some(folder) = folders.pop() {
            for entry in fs::read_dir(folder).unwrap() {
                let path = entry.unwrap().path();
                if path.is_dir() {
                    folders.push(path);
                } else {
                    let name = path.strip_prefix(&root).unwrap().display().to_string();
                    found.insert(name, fs::read(path).unwrap());
                }
            }
        }
        found
    }
}

/// One cell in the one form that both sides are compared in: dates become instants in UTC, reals doubles, and dynamic
/// values are compared as JSON. Nothing else is changed; what is none of its kind is told as it is.
fn comparable(kind: &str, text: Option<&str>) -> String {
    let Some(text) = text else { return "null".to_owned() };
    let form = match kind {
        "datetime" => instant(text),
        "real" => text.parse::<f64>().ok().map(|number| number.to_string()),
        "dynamic" => serde_json::from_str(text).ok().map(|mut value: Value| {
            value.sort_all_objects();
            value.to_string()
        }),
        _ => return text.to_owned(),
    };
    form.unwrap_or_else(|| format!("{text:?} is no {kind}"))
}

/// A date, with or without a time and an offset, as a time in UTC.
fn instant(text: &str) -> Option<String> {
    let (date, rest) = text.split_at_checked(10)?;
    let rest = rest.trim_start_matches(['T', ' ']);
    let (time, offset) = rest.split_at(rest.find(['Z', '+', '-']).unwrap_or(rest.len()));
    let time = if time.is_empty() { "00:00:00" } else { time };
    let moment = date.parse::<jiff::civil::Date>().ok()?.to_datetime(time.parse().ok()?);
    let Some((hours, minutes)) = offset.get(1..).and_then(|o| o.split_once(':')) else {
        return Some(moment.to_string());
    };
    let minutes = hours.parse::<i64>().ok()? * 60 + minutes.parse::<i64>().ok()?;
    let ahead = jiff::SignedDuration::from_mins(if offset.starts_with('-') { -minutes } else { minutes });
    Some(moment.checked_sub(ahead).ok()?.to_string())
}

/// A cell of a query's result as text; null is the empty text in a column of strings.
fn cell(kind: &str, value: &Value) -> Option<String> {
    match value {
        Value::Null if kind == "string" => Some(String::new()),
        Value::Null => None,
        Value::String(text) if kind != "dynamic" => Some(text.clone()),
        other => Some(other.to_string()),
    }
}

/// Rows that one side has more often than the other: `-` is missing in the table, `+` is too many there.
fn differences(expected: &[Vec<String>], found: &[Vec<String>]) -> Vec<String> {
    let mut counts: BTreeMap<&Vec<String>, i64> = BTreeMap::new();
    for row in expected {
        *counts.entry(row).or_default() -= 1;
    }
    for row in found {
        *counts.entry(row).or_default() += 1;
    }
    let told = counts.into_iter().filter(|(_, count)| *count != 0);
    told.map(|(row, count)| format!("{count:+} x {}", row.join(" | ").chars().take(1_000).collect::<String>()))
        .collect()
}

#[tokio::test]
async fn files_of_every_format_arrive_cell_by_cell() {
    let bench = Bench::start().await;
    let names = bench.fixtures("good");
    assert!(names.len() >= 25, "{names:?}");
    let mut cases = Vec::new();
    for name in names {
        let case = Case::read(&bench.source().join(&name));
        bench.submit(&name, &case).await;
        cases.push((name, case));
    }
    // All are tried before the first is told: one bad format says nothing of the next.
    let mut told = Vec::new();
    for (name, case) in &cases {
        let report = bench.finish(name).await;
        if report["status"] != "Succeeded" {
            told.push(format!("{name}: {:#}", report["errors"]));
            continue;
        }
        let text = fs::read_to_string(bench.source().join(name).join("expected.json")).unwrap();
        let expected: Vec<Vec<Option<String>>> = serde_json::from_str(&text).unwrap();
        let expected: Vec<Vec<String>> = expected
            .iter()
            .map(|row| {
                row.iter().zip(&case.columns).map(|(text, (_, kind))| comparable(kind, text.as_deref())).collect()
            })
            .collect();
        let found: Vec<Vec<String>> = bench
            .query(&format!("['{name}']"))
            .iter()
            .map(|row| {
                let columns = case.columns.iter();
                columns.map(|(name, kind)| comparable(kind, cell(kind, &row[name]).as_deref())).collect()
            })
            .collect();
        let differences = differences(&expected, &found);
        if !differences.is_empty() {
            let first: Vec<&String> = differences.iter().take(6).collect();
            told.push(format!("{name}: {} rows differ: {first:#?}", differences.len()));
        }
        if report["rowsCopied"].as_u64() != Some(expected.len() as u64) {
            told.push(format!("{name}: rowsCopied is {} of {}", report["rowsCopied"], expected.len()));
        }
    }
    assert!(told.is_empty(), "{} of {} cases:\n{}", told.len(), cases.len(), told.join("\n"));
    assert_eq!(bench.staged().into_keys().collect::<Vec<_>>(), Vec::<String>::new());
}

/// `bad.json` of a case.
#[derive(Debug)]
struct Bad {
    /// Rows of the good files.
    rows: u64,
    /// Names of the damaged files, and the codes that tell rightly what is wrong.
    bad: BTreeMap<String, Vec<String>>,
}

impl Bad {
    fn read(folder: &Path) -> Self {
        let mut bad: Value = serde_json::from_slice(&fs::read(folder.join("bad.json")).unwrap()).unwrap();
        Self { rows: bad["rows"].as_u64().unwrap(), bad: serde_json::from_value(bad["bad"].take()).unwrap() }
    }
}

#[tokio::test]
async fn bad_files_are_told_and_the_other_files_of_the_run_are_unharmed() {
    let bench = Bench::start().await;
    let mut cases = Vec::new();
    for name in bench.fixtures("bad") {
        let folder = bench.source().join(&name);
        bench.submit(&name, &Case::read(&folder)).await;
        cases.push((name, Bad::read(&folder)));
    }
    let mut told = Vec::new();
    for (name, Bad { rows, bad }) in &cases {
        let report = bench.finish(name).await;
        if report["status"] != "Succeeded" {
            told.push(format!("{name}: {:#}", report["errors"]));
            continue;
        }
        assert_eq!(report["filesSkipped"].as_u64(), Some(bad.len() as u64), "{name}: {report:#}");
        assert_eq!(report["rowsCopied"].as_u64(), Some(*rows), "{name}: {report:#}");
        assert_eq!(bench.count(name), *rows, "{name}");
        for file in report["files"].as_array().unwrap() {
            let (path, failure) = (file["path"].as_str().unwrap(), &file["lastFailure"]);
            let base = path.rsplit('/').next().unwrap();
            let Some(codes) = bad.get(base) else {
                assert_eq!(file["state"], "Ingested", "{name}: {file:#}");
                continue;
            };
            let errors = report["errors"].as_array().unwrap();
            let is_listed = errors
                .iter()
                .any(|e| e["code"] == failure["code"] && e["message"].as_str().is_some_and(|m| m.contains(base)));
            let is_told = is_listed
                && codes.iter().any(|c| failure["code"] == c.as_str())
                && failure["message"].as_str().is_some_and(|m| m.contains(base))
                && file["state"] == "Skipped"
                // Nothing of this gets better by another try.
                && file["attempts"] == 1;
            if !is_told {
                told.push(format!("{name}: {base} is to be told with one of {codes:?}: {file:#}"));
            }
        }
    }
    assert!(told.is_empty(), "{}", told.join("\n"));
    assert_eq!(bench.staged().into_keys().collect::<Vec<_>>(), Vec::<String>::new());
}

/// Rows `from..to` that fit.
fn fitting(from: usize, to: usize) -> String {
    (from..to).map(|n| format!("{n},2026-01-01T00:00:{:02}Z,w{n}\n", n % 60)).collect()
}

/// Rows that do not, with the column and the code that tell why, and the lines that each takes.
const UNFIT: [(&[u8], &str, &str, u64); 6] = [
    (b"x1,2026-01-01,\"a, b\"", "id", "ValueIncompatible", 1),
    (b"2,yesterday,w", "at", "ValueIncompatible", 1),
    (b"3,2026-01-01", "", "RaggedRow", 1),
    (b"4,2026-01-01,\xff", "", "InvalidUtf8", 1),
    (b"5,2026-01-01,\"two\nlines\",more", "", "RaggedRow", 2),
    (b"99999999999999999999,2026-01-01,w", "id", "ValueIncompatible", 1),
];

/// A quarantine file's fields after its time: level, operation, row, message, file, line, byte, column, code.
fn quarantined(content: &[u8]) -> Vec<Vec<Vec<u8>>> {
    let (mut rows, mut row, mut field, mut is_quoted) = (Vec::new(), Vec::new(), Vec::new(), false);
    let mut bytes = content.iter().peekable();
    while let Some(byte) = bytes.next() {
        match byte {
            b'"' if is_quoted && bytes.peek() == Some(&&b'"') => field.extend(bytes.next()),
            b'"' => is_quoted = !is_quoted,
            b',' if !is_quoted => row.push(std::mem::take(&mut field)),
            b'\n' if !is_quoted => {
                row.push(std::mem::take(&mut field));
                rows.push(std::mem::take(&mut row));
            }
            other => field.push(*other),
        }
    }
    assert!(row.is_empty() && field.is_empty(), "a line without its end");
    assert_eq!(
        rows.remove(0).join(&b","[..]),
        b"Timestamp,Level,OperationName,OperationItem,Message,File,Line,Byte,Column,Code"
    );
    rows.into_iter()
        .map(|mut row| {
            let time = String::from_utf8(row.remove(0)).unwrap();
            assert!(time.parse::<jiff::Timestamp>().is_ok(), "{time}");
            row
        })
        .collect()
}

#[tokio::test]
async fn rows_that_do_not_fit_are_kept_with_their_place_and_too_many_fail_the_run() {
    let bench = Bench::start().await;
    let header = "id,at,word\n";
    let mut content = format!("{header}{}", fitting(0, 100)).into_bytes();
    let (mut expected, mut line) = (Vec::new(), 102_u64);
    for (row, column, code, lines) in UNFIT {
        expected.push((row, "a.csv", line, content.len(), column, code));
        content.extend_from_slice(row);
        content.push(b'\n');
        line += lines;
    }
    content.extend_from_slice(fitting(100, 200).as_bytes());
    // A compressed file: places count in its text.
    let packed = format!("{header}{}y,,\n", fitting(200, 300)).replace('\n', "\r\n");
    expected.push((&b"y,,"[..], "b.csv.gz", 102, packed.len() - "y,,\r\n".len(), "id", "ValueIncompatible"));

    for (run, limit) in [
        ("within", json!({"skipRowsPercentMax": 5})),
        ("beyond", json!({"skipRowsPercentMax": 2})),
        ("counted", json!({"skipRowsMax": 3})),
    ] {
        let data = bench.source().join(run).join("data");
        fs::create_dir_all(&data).unwrap();
        fs::write(data.join("a.csv"), &content).unwrap();
        let mut gzip = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
        gzip.write_all(packed.as_bytes()).unwrap();
        fs::write(data.join("b.csv.gz"), gzip.finish().unwrap()).unwrap();
        let mut settings = json!({"enableSkipIncompatibleRow": true});
        settings.as_object_mut().unwrap().extend(limit.as_object().unwrap().clone());
        let case = Case {
            format: json!({"type": "DelimitedText", "firstRowAsHeader": true}),
            mapping: json!({}),
            settings,
            source: serde_json::Map::new(),
            columns: [("id", "long"), ("at", "datetime"), ("word", "string")]
                .map(|(n, k)| (n.to_owned(), k.to_owned()))
                .to_vec(),
        };
        bench.submit(run, &case).await;
    }

    let report = bench.finish("within").await;
    assert_eq!(report["status"], "Succeeded", "{report:#}");
    assert_eq!(
        (&report["rowsRead"], &report["rowsCopied"], &report["rowsSkipped"]),
        (&json!(307), &json!(300), &json!(7))
    );
    let sums = bench.query("within | summarize count(), sum(id), dcount(word)");
    assert_eq!((&sums[0]["count_"], &sums[0]["sum_id"]), (&json!(300), &json!(299 * 300 / 2)), "{sums:?}");
    let staged = bench.staged();
    let kept = staged.iter().filter(|(name, _)| name.starts_with("quarantine/within/") && name.ends_with(".csv"));
    let mut kept: Vec<_> = kept.flat_map(|(_, content)| quarantined(content)).collect();
    kept.sort_by_key(|row| (row[4].clone(), String::from_utf8_lossy(&row[6]).parse::<usize>().unwrap()));
    assert_eq!(kept.len(), expected.len(), "{kept:?}");
    for (row, (item, file, line, byte, column, code)) in kept.iter().zip(&expected) {
        assert_eq!(row[..3], [b"Warning".to_vec(), b"TabularRowSkip".to_vec(), item.to_vec()]);
        assert!(!row[3].is_empty());
        let place: Vec<String> = row[4..].iter().map(|f| String::from_utf8(f.clone()).unwrap()).collect();
        assert_eq!(place, [*file, &line.to_string(), &byte.to_string(), *column, *code]);
    }

    for (run, setting) in [("beyond", "skipRowsPercentMax"), ("counted", "skipRowsMax")] {
        let report = bench.finish(run).await;
        assert_eq!(report["status"], "Failed", "{report:#}");
        assert_eq!(report["errors"][0]["code"], "TooManyRowsSkipped", "{report:#}");
        assert!(report["errors"][0]["message"].as_str().unwrap().contains(setting), "{report:#}");
        assert_eq!((&report["rowsCopied"], bench.count(run)), (&json!(0), 0), "{run}");
    }
    // Of runs that have ended only the quarantine is left.
    let left: Vec<String> = bench.staged().into_keys().filter(|name| !name.starts_with("quarantine/")).collect();
    assert_eq!(left, Vec::<String>::new());
}
