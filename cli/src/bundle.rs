//! `ferry support-bundle`: one archive with what somebody needs who is to help. It is written here and sent nowhere, and
//! everything in it goes through redaction.

use crate::{
    api::{Api, NamedCoordinatorArg},
    doctor,
    output::{self, CliError, OutputFormat, bytes, cell, message},
    redaction::{Redactor, secrets_of_environment},
};
use clap::Args as ClapArgs;
use ferry_common::address::path_encoded;
use flate2::{Compression, write::GzEncoder};
use serde_json::{Value, json};
use std::{
    fs::{File, OpenOptions},
    io::ErrorKind,
    os::unix::fs::OpenOptionsExt as _,
    path::{Path, PathBuf},
};

/// Failed runs that are told in full, newest first.
const RUNS_TOLD_MAX: usize = 5;
/// Runs that are listed.
const RUNS_LISTED: u32 = 50;
/// Beginnings of names of variables that ferry and its libraries read.
const VARIABLES: [&str; 6] = ["FERRY_", "AZURE_", "SSL_CERT", "KUBERNETES_", "IDENTITY_", "PG"];
const PROXY_VARIABLES: [&str; 4] = ["HTTPS_PROXY", "HTTP_PROXY", "ALL_PROXY", "NO_PROXY"];

/// `ferry support-bundle`
#[derive(ClapArgs)]
#[command(after_help = "Example: ferry support-bundle ferry-support.tar.gz --coordinator https://ferry.example:7480

Look through the archive before you hand it on: `tar -tzf OUT.tar.gz`.")]
pub(crate) struct Args {
    /// The archive to write, such as ferry-support.tar.gz. One that is there is not overwritten.
    out: PathBuf,
    #[command(flatten)]
    coordinator: NamedCoordinatorArg,
    #[command(flatten)]
    host: doctor::HostArgs,
}

/// An archive that grows file by file.
struct Archive {
    builder: tar::Builder<GzEncoder<File>>,
    redactor: Redactor,
    /// Names and sizes of what is in it.
    contents: Vec<(String, u64)>,
    /// What should be in it, and is not.
    missing: Vec<String>,
    modified: u64,
}

impl Archive {
    fn create(path: &Path, redactor: Redactor) -> Result<Self, CliError> {
        // For its owner alone.
        let file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(path);
        let file = file.map_err(|e| match e.kind() {
            ErrorKind::AlreadyExists => {
                CliError::Usage(format!("{} is there already; choose another name", path.display()))
            }
            _ => CliError::Failed(format!("{}: {e}", path.display())),
        })?;
        let builder = tar::Builder::new(GzEncoder::new(file, Compression::new(6)));
        let modified = u64::try_from(jiff::Timestamp::now().as_second()).unwrap_or(0);
        Ok(Self { builder, redactor, contents: Vec::new(), missing: Vec::new(), modified })
    }

    fn add(&mut self, name: &str, text: &str) -> Result<(), CliError> {
        let mut header = tar::Header::new_gnu();
        header.set_size(text.len() as u64);
        header.set_mode(0o600);
        header.set_mtime(self.modified);
        self.builder.append_data(&mut header, format!("ferry-support/{name}"), text.as_bytes())?;
        self.contents.push((name.to_owned(), text.len() as u64));
        Ok(())
    }

    fn add_text(&mut self, name: &str, text: &str) -> Result<(), CliError> {
        let safe = self.redactor.text(text);
        self.add(name, &safe)
    }

    fn add_json(&mut self, name: &str, value: &Value) -> Result<(), CliError> {
        let safe = serde_json::to_string_pretty(&self.redactor.json(value));
        self.add(name, &safe.map_err(|e| CliError::Failed(e.to_string()))?)
    }

    /// Adds what a coordinator answers; what it does not answer is noted. Returns JSON as it came.
    async fn fetch(&mut self, api: &Api, path: &str, name: &str) -> Result<Value, CliError> {
        let text = match api.text(path).await {
            Ok(text) => text,
            Err(e) => {
                let why = self.redactor.text(&format!("{name}: {e}"));
                self.missing.push(why);
                return Ok(Value::Null);
            }
        };
        match serde_json::from_str(&text) {
            Ok(value) => {
                self.add_json(name, &value)?;
                Ok(value)
            }
            Err(_) => {
                self.add_text(name, &text)?;
                Ok(Value::Null)
            }
        }
    }

    fn finish(mut self) -> Result<Vec<(String, u64)>, CliError> {
        if !self.missing.is_empty() {
            let missing = self.missing.join("\n") + "\n";
            self.add_text("missing.txt", &missing)?;
        }
        self.builder.into_inner()?.finish()?.sync_all()?;
        Ok(self.contents)
    }
}

pub(crate) async fn run(args: Args, output: OutputFormat) -> Result<(), CliError> {
    let mut secrets = secrets_of_environment();
    secrets.extend(args.coordinator.token_file().and_then(|file| std::fs::read_to_string(file).ok()));
    let archive = Archive::create(&args.out, Redactor::new(secrets)?)?;
    let contents = match Box::pin(fill(archive, &args)).await {
        Ok(contents) => contents,
        Err(e) => {
            // Half an archive helps nobody.
            let _ = std::fs::remove_file(&args.out);
            return Err(e);
        }
    };
    if output == OutputFormat::Json {
        let files: Vec<Value> = contents.iter().map(|(name, bytes)| json!({"name": name, "bytes": bytes})).collect();
        output::json(&json!({"archive": args.out, "contents": files}))?;
    } else {
        output::table(&["IN IT", "SIZE"], contents.into_iter().map(|(name, size)| vec![name, bytes(size)]))?;
    }
    message(&format!(
        "ferry: wrote {}; nothing was sent anywhere. Look through it before you hand it on",
        args.out.display()
    ));
    Ok(())
}

async fn fill(mut archive: Archive, args: &Args) -> Result<Vec<(String, u64)>, CliError> {
    archive.add_json("about.json", &about())?;
    archive.add_text("environment.txt", &environment())?;
    match doctor::examine(&args.host, &args.coordinator).await {
        Ok(examined) => {
            let examined = serde_json::to_value(examined).map_err(|e| CliError::Failed(e.to_string()))?;
            archive.add_json("doctor.json", &examined)?;
        }
        Err(e) => archive.missing.push(format!("doctor.json: {e}")),
    }
    match args.coordinator.named() {
        None => {
            archive.missing.push("coordinator: none is named; --coordinator or FERRY_COORDINATOR names one".to_owned())
        }
        Some(to) => {
            let api = Api::new(&to)?;
            ask(&mut archive, &api).await?;
        }
    }
    archive.finish()
}

async fn ask(archive: &mut Archive, api: &Api) -> Result<(), CliError> {
    for (path, name) in [
        ("/healthz", "coordinator/health.txt"),
        ("/readyz", "coordinator/ready.txt"),
        ("/metrics", "coordinator/metrics.txt"),
        ("/api/v1/nodes", "coordinator/nodes.json"),
        ("/api/v1/leaks", "coordinator/leaks.json"),
    ] {
        archive.fetch(api, path, name).await?;
    }
    let runs = archive.fetch(api, &format!("/api/v1/runs?limit={RUNS_LISTED}"), "coordinator/runs.json").await?;
    let failed = runs["runs"].as_array().into_iter().flatten().filter(|run| run["state"] == "Failed");
    for run in failed.take(RUNS_TOLD_MAX) {
        let id = cell(&run["runId"]);
        let path = format!("/api/v1/runs/{}", path_encoded(&id));
        archive.fetch(api, &format!("{path}/report"), &format!("runs/{id}/report.json")).await?;
        archive.fetch(api, &format!("{path}/activity"), &format!("runs/{id}/activity.json")).await?;
    }
    Ok(())
}

fn about() -> Value {
    let read = |path: &str| std::fs::read_to_string(path).map(|text| text.trim().to_owned()).ok();
    json!({
        "ferry": env!("CARGO_PKG_VERSION"),
        "written": jiff::Timestamp::now().to_string(),
        "os": std::env::consts::OS,
        "architecture": std::env::consts::ARCH,
        "kernel": read("/proc/sys/kernel/osrelease"),
        "host": read("/proc/sys/kernel/hostname"),
        "removed": "values of environment variables, signatures, tokens, keys, and passwords in addresses",
    })
}

/// Names of variables that are set, and how long their values are.
fn environment() -> String {
    let is_ours = |name: &str| {
        let upper = name.to_uppercase();
        VARIABLES.iter().any(|start| upper.starts_with(start)) || PROXY_VARIABLES.contains(&upper.as_str())
    };
    let mut lines: Vec<String> = std::env::vars_os()
        .filter_map(|(name, value)| Some((name.into_string().ok()?, value.len())))
        .filter(|(name, _)| is_ours(name))
        .map(|(name, length)| format!("{name} is set, {length} bytes\n"))
        .collect();
    lines.sort();
    if lines.is_empty() { "none of ferry's variables is set\n".to_owned() } else { lines.concat() }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Read as _;

    fn unpacked(path: &Path) -> String {
        let mut text = Vec::new();
        flate2::read::GzDecoder::new(File::open(path).unwrap()).read_to_end(&mut text).unwrap();
        String::from_utf8_lossy(&text).into_owned()
    }

    #[test]
    fn nothing_goes_in_as_it_is_and_nothing_is_overwritten() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("out.tar.gz");
        let mut archive = Archive::create(&path, Redactor::new(["PLANTED-value".to_owned()]).unwrap()).unwrap();
        archive.add_text("a.txt", "x PLANTED-value y").unwrap();
        archive.add_json("b.json", &json!({"message": "https://x/y?sig=PLANTED", "token": "PLANTED"})).unwrap();
        archive.missing.push("c.json: gone".to_owned());
        let contents = archive.finish().unwrap();
        assert_eq!(
            contents.iter().map(|(name, _)| name.as_str()).collect::<Vec<_>>(),
            ["a.txt", "b.json", "missing.txt"]
        );
        let text = unpacked(&path);
        assert!(text.contains("ferry-support/a.txt") && text.contains("c.json: gone"), "{text}");
        assert!(!text.contains("PLANTED"), "{text}");
        let again = Archive::create(&path, Redactor::new([]).unwrap());
        assert!(matches!(again, Err(CliError::Usage(why)) if why.contains("choose another name")));
    }
}
