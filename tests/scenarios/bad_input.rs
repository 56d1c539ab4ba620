//! What users get wrong, and what they are told: a clear message, exit code 1 or 2, and nothing half-done.

use ferry_tests::{Cluster, ClusterOptions, Program, ferry, ferry_path, free_port, wait_for};
use flate2::{Compression, write::GzEncoder};
use serde_json::json;
use std::{
    fs,
    io::Write as _,
    os::unix::{fs::PermissionsExt as _, process::CommandExt as _},
    path::{Path, PathBuf},
    process::{Command, Output},
};
use tempfile::TempDir;

/// A local endpoint with one database, a source folder and a staging folder.
struct Bench {
    folder: TempDir,
    port: u16,
    _adx: Program,
}

impl Bench {
    async fn start() -> Self {
        ferry_common::install_tls_provider();
        let folder = TempDir::new().unwrap();
        let port = free_port();
        for name in ["source", "staging"] {
            fs::create_dir(folder.path().join(name)).unwrap();
        }
        let arguments = ["local-adx", "--listen", &format!("127.0.0.1:{port}"), "--database", "Test", "--data"];
        let data = folder.path().join("adx").display().to_string();
        let arguments: Vec<String> = arguments.iter().map(|a| (*a).to_owned()).chain([data]).collect();
        let adx = Program::ferry(&arguments, &[], folder.path().join("adx.log"));
        let bench = Self { folder, port, _adx: adx };
        let url = format!("{}/healthz", bench.endpoint());
        wait_for("local-adx", || async { reqwest::get(&url).await.ok() }).await;
        bench
    }

    fn endpoint(&self) -> String {
        format!("http://127.0.0.1:{}", self.port)
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    fn write(&self, name: &str, content: &[u8]) {
        fs::write(self.path("source").join(name), content).unwrap();
    }

    /// Arguments of a copy of `source` into the table T.
    fn copy_arguments(&self, source: &str) -> Vec<String> {
        let staging = self.path("staging").display().to_string();
        [
            "copy",
            source,
            "--endpoint",
            &self.endpoint(),
            "--database",
            "Test",
            "--table",
            "T",
            "--staging",
            &staging,
            "--create-table",
        ]
        .map(str::to_owned)
        .to_vec()
    }

    fn copy(&self, source: &str, more: &[&str]) -> Output {
        let mut arguments = self.copy_arguments(source);
        arguments.extend(more.iter().map(|m| (*m).to_owned()));
        ferry(&arguments.iter().map(String::as_str).collect::<Vec<_>>())
    }

    /// The copy failed as it should, and left nothing: no row, no staged blob.
    fn assert_told(&self, case: &str, output: &Output, code: i32, words: &[&str]) {
        assert_told(case, output, code, words);
        let rows =
            ferry(&["query", "T | count", "--endpoint", &self.endpoint(), "--database", "Test", "--output", "json"]);
        let text = String::from_utf8_lossy(&rows.stdout);
        assert!(!rows.status.success() || text.contains("\"Count\": 0"), "{case}: rows were left: {text}");
        assert_eq!(files_below(&self.path("staging")), Vec::<PathBuf>::new(), "{case}: staging is not empty");
    }
}

fn files_below(folder: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() { found.extend(files_below(&path)) } else { found.push(path) }
    }
    found
}

fn assert_told(case: &str, output: &Output, code: i32, words: &[&str]) {
    let told = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(code), "{case}: {told}");
    for word in words {
        assert!(told.contains(word), "{case}: {word:?} is missing in: {told}");
    }
    assert!(!told.contains("panicked"), "{case}: {told}");
}

fn gzip(text: &str) -> Vec<u8> {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::fast());
    encoder.write_all(text.as_bytes()).unwrap();
    encoder.finish().unwrap()
}

#[tokio::test]
async fn a_bad_file_is_told_with_its_name_and_place() {
    let rows: String = (0..20_000).map(|n| format!("{n},text {n}\n")).collect();
    let packed = gzip(&format!("a,b\n{rows}"));
    // Bad places lie behind what the sample of the listing sees.
    let late = |bad: &str| format!("a,b\n{rows}{bad}").into_bytes();
    let offset = "a,b\n".len() + rows.len();
    for (name, content, code, place) in [
        ("cut.csv.gz", packed[..packed.len() / 2].to_vec(), "CompressionCorrupt", "near byte".to_owned()),
        ("quote.csv", late("1,\"open\n2,b\n"), "UnclosedQuote", format!("line 20002 (byte {})", offset + 2)),
        ("ragged.csv", late("1\n"), "RaggedRow", format!("line 20002 (byte {offset}) has 1 field instead of 2")),
        (
            "bytes.csv",
            [late("1,"), vec![0xff, b'\n']].concat(),
            "InvalidUtf8",
            format!("line 20002 is not UTF-8 at byte {}", offset + 2),
        ),
    ] {
        let bench = Bench::start().await;
        bench.write("good.csv", b"a,b\n1,x\n");
        bench.write(name, &content);
        let output = bench.copy(&bench.path("source").display().to_string(), &["--chunk-size-mb", "0.05"]);
        bench.assert_told(name, &output, 1, &[code, name, &place]);
    }
}

#[tokio::test]
async fn a_source_that_is_not_there_or_not_allowed_is_told() {
    let bench = Bench::start().await;
    bench.write("a.csv", b"a,b\n1,x\n");
    let at = |name: &str| bench.path("source").join(name).display().to_string();

    bench.assert_told(
        "folder missing",
        &bench.copy(&bench.path("nope").display().to_string(), &[]),
        1,
        &["FolderMissing", "nope"],
    );
    bench.assert_told("no file matches", &bench.copy(&at("*.xyz"), &[]), 1, &["NoFilesMatched", "*.xyz", "1 files"]);
    std::os::unix::fs::symlink("/etc/passwd", bench.path("source").join("out.csv")).unwrap();
    bench.assert_told(
        "a link that leaves the root",
        &bench.copy(&at("*.csv"), &[]),
        1,
        &["PathNotAllowed", "/etc/passwd"],
    );
    fs::remove_file(at("out.csv")).unwrap();

    // Files that the program may not read: root may read all, so somebody else tries.
    bench.write("secret.csv", b"a,b\n1,x\n");
    fs::set_permissions(at("secret.csv"), fs::Permissions::from_mode(0o000)).unwrap();
    fs::set_permissions(bench.folder.path(), fs::Permissions::from_mode(0o755)).unwrap();
    fs::set_permissions(bench.path("staging"), fs::Permissions::from_mode(0o777)).unwrap();
    let mut command = Command::new(ferry_path());
    command.args(bench.copy_arguments(&at("*.csv"))).env("NO_COLOR", "1");
    if fs::read(at("secret.csv")).is_ok() {
        command.uid(65_534).gid(65_534);
    }
    bench.assert_told("unreadable file", &command.output().unwrap(), 1, &["FileForbidden", "secret.csv"]);
}

#[tokio::test]
async fn a_sink_that_is_not_there_is_told() {
    let bench = Bench::start().await;
    bench.write("a.csv", b"a,b\n1,x\n");
    let source = bench.path("source").display().to_string();
    let nobody = format!("http://127.0.0.1:{}", free_port());
    // The later of two equal flags is an error in clap, so these are spelled out.
    let staging = bench.path("staging").display().to_string();
    let copy = |endpoint: &str, database: &str, more: &[&str]| {
        let fixed =
            ["copy", &source, "--endpoint", endpoint, "--database", database, "--table", "T", "--staging", &staging];
        ferry(&[&fixed[..], more].concat())
    };
    bench.assert_told("endpoint unreachable", &copy(&nobody, "Test", &[]), 1, &["SinkUnreachable", &nobody]);
    bench.assert_told("database missing", &copy(&bench.endpoint(), "Nope", &[]), 1, &["DatabaseNotFound", "Nope"]);
    bench.assert_told(
        "table missing",
        &copy(&bench.endpoint(), "Test", &[]),
        1,
        &["TableNotFound", "\"T\"", "createTable"],
    );
    bench.assert_told(
        "plain http elsewhere",
        &copy("http://adx.example", "Test", &[]),
        1,
        &["http://adx.example", "https"],
    );
    bench.assert_told(
        "no such host for a token",
        &copy("https://adx.example", "Test", &[]),
        1,
        &["https://adx.example", "Azure Data Explorer"],
    );

    let create =
        ferry(&["query", ".create table T (a:long, c:string)", "--endpoint", &bench.endpoint(), "--database", "Test"]);
    assert!(create.status.success());
    bench.assert_told(
        "stray column",
        &copy(&bench.endpoint(), "Test", &[]),
        1,
        &["MappingColumnMissing", "source columns b", "a, c"],
    );
}

#[tokio::test]
async fn staging_without_room_or_place_is_told() {
    let bench = Bench::start().await;
    let rows: String = (0..200_000_u64).map(|n| format!("{n},{}\n", n.wrapping_mul(0x9e37_79b9_7f4a_7c15))).collect();
    bench.write("a.csv", format!("a,b\n{rows}").as_bytes());
    let source = bench.path("source").display().to_string();

    fs::remove_dir(bench.path("staging")).unwrap();
    let output = bench.copy(&source, &[]);
    fs::create_dir(bench.path("staging")).unwrap();
    bench.assert_told("no staging folder", &output, 1, &["StagingMissing", "staging", "create it"]);

    // A file system of one megabyte, for this one program.
    let script = format!(
        "mount -t tmpfs -o size=1m none {} && exec {} \"$@\"",
        bench.path("staging").display(),
        ferry_path().display()
    );
    let output = Command::new("unshare")
        .args(["-rm", "sh", "-c", &script, "sh"])
        .args(bench.copy_arguments(&source))
        .output()
        .unwrap();
    bench.assert_told("disk full", &output, 1, &["StagingFull", "no room left"]);
}

#[tokio::test]
async fn a_bad_activity_is_told_with_line_and_nearest_key() {
    let folder = TempDir::new().unwrap();
    let path = folder.path().join("activity.yaml");
    let good = "name: a\nsource:\n  type: FileSystem\n  folderPath: /d\n  format: {type: DelimitedText}\nsink:\n  type: AzureDataExplorer\n  \
                endpoint: http://127.0.0.1:1\n  database: D\n  table: T\nstaging: {type: FileSystem, folderPath: /s}\n";
    for (case, from, to, words) in [
        ("unknown key", "folderPath: /d", "foldrPath: /d", &["line 4", "foldrPath", "did you mean folderPath?"][..]),
        ("wrong type", "database: D", "createTable: 7", &["line 9"]),
        ("old name", "AzureDataExplorer", "Kusto", &["AzureDataExplorer"]),
        ("not YAML", "name: a", "name: [", &["line"]),
    ] {
        fs::write(&path, good.replacen(from, to, 1)).unwrap();
        let output = ferry(&["run", path.to_str().unwrap()]);
        assert_told(case, &output, 2, &[&["activity.yaml"], words].concat());
    }
    assert_told("no such file", &ferry(&["run", "/no/such.yaml"]), 2, &["/no/such.yaml"]);
    fs::write(&path, good).unwrap();
    let nobody = format!("http://127.0.0.1:{}", free_port());
    let output = ferry(&["run", path.to_str().unwrap(), "--coordinator", &nobody]);
    assert_told("no coordinator", &output, 1, &[&nobody, "nobody listens there"]);
    assert_told("unknown flag", &ferry(&["run", "--nope"]), 2, &["--nope"]);
}

#[tokio::test]
async fn a_port_in_use_is_told() {
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap().to_string();
    let folder = TempDir::new().unwrap();
    let store = format!("sqlite:{}", folder.path().join("ferry.db").display());
    let free = format!("127.0.0.1:{}", free_port());
    let output = ferry(&["coordinator", "--grpc", &address, "--http", &free, "--store", &store]);
    assert_told("gRPC", &output, 1, &[&address, "--grpc"]);
    let output = ferry(&["coordinator", "--grpc", &free, "--http", &address, "--store", &store]);
    assert_told("HTTP", &output, 1, &[&address, "--http"]);
    let output = ferry(&["local-adx", "--listen", &address, "--data", folder.path().join("adx").to_str().unwrap()]);
    assert_told("local-adx", &output, 1, &[&address, "--listen"]);
}

#[tokio::test]
async fn a_file_outside_the_allowed_roots_is_refused_by_the_node() {
    let cluster = Cluster::start(ClusterOptions { nodes: 1, ..ClusterOptions::default() }).await;
    let mut activity = cluster.flights_activity();
    activity["source"]["folderPath"] = json!("/etc");
    activity["source"]["fileName"] = json!("passwd");
    cluster.submit("outside", &activity).await;
    let report = cluster.finish("outside").await;
    assert_eq!(report["status"], "Failed");
    assert_eq!(report["errors"][0]["code"], "PathNotAllowed", "{report:#}");
    assert!(report["errors"][0]["message"].as_str().unwrap().contains("--allow-root"));
}

#[tokio::test]
async fn a_command_that_the_cluster_refuses_fails_the_run_and_leaves_nothing() {
    let cluster = Cluster::start(ClusterOptions { nodes: 1, ..ClusterOptions::default() }).await;
    fs::write(cluster.source().join("a.csv"), "a,b\n1,x\n").unwrap();
    let mut activity = cluster.flights_activity();
    activity["sink"]["mapping"] = json!({"reference": "no such mapping"});
    cluster.submit("refused", &activity).await;
    let report = cluster.finish("refused").await;
    assert_eq!(report["errors"][0]["code"], "IngestRejected", "{report:#}");
    assert!(report["errors"][0]["message"].as_str().unwrap().contains("no such mapping"));
    assert_eq!((&report["rowsCopied"], cluster.azurite.blobs().await.len()), (&json!(0), 0));
}

#[tokio::test]
async fn a_file_that_changes_during_the_copy_fails_the_run() {
    let cluster = Cluster::start(ClusterOptions { nodes: 1, ..ClusterOptions::default() }).await;
    let rows: String = (0..300_000).map(|n| format!("{n},text {n}\n")).collect();
    let path = cluster.source().join("a.csv");
    fs::write(&path, format!("a,b\n{rows}")).unwrap();
    cluster.submit("changed", &cluster.flights_activity()).await;
    let (holder, _) = cluster.freeze_a_holder("changed").await;
    fs::OpenOptions::new().append(true).open(&path).unwrap().write_all(b"300000,late\n").unwrap();
    cluster.nodes[holder].signal("CONT");
    let report = cluster.finish("changed").await;
    assert_eq!(report["errors"][0]["code"], "SourceChanged", "{report:#}");
    assert!(report["errors"][0]["message"].as_str().unwrap().contains("a.csv"));
    assert_eq!((&report["rowsCopied"], cluster.azurite.blobs().await.len()), (&json!(0), 0));
}
