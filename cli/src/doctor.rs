//! `ferry doctor`: whether this host is strong enough and reaches what it must, and whether a coordinator is as it should be.

mod coordinator;
mod disk;
mod host;
mod network;
mod slots;

use crate::{
    api::NamedCoordinatorArg,
    output::{self, CliError, OutputFormat},
};
use clap::Args as ClapArgs;
use serde::Serialize;
use serde_json::{Value, json};
use std::path::PathBuf;

/// `ferry doctor`
#[derive(ClapArgs)]
#[command(after_help = "Examples:
  ferry doctor --path /exports/taxi --staging https://acct.blob.core.windows.net/staging
  ferry doctor --leaks --output json")]
pub(crate) struct Args {
    #[command(flatten)]
    pub(crate) coordinator: NamedCoordinatorArg,
    /// Look for staging blobs and staging tables that no living run owns, wherever known runs have staged, and for nothing
    /// else. Nothing is deleted.
    #[arg(long)]
    leaks: bool,
    #[command(flatten)]
    pub(crate) host: HostArgs,
}

/// What of this host is looked at.
#[derive(ClapArgs, Clone, Default)]
pub(crate) struct HostArgs {
    /// Folder or file to measure reading with: up to 256 MB of it.
    #[arg(long, value_name = "DIR")]
    path: Option<PathBuf>,
    /// Folder to measure writing with, 64 MB; default: the one for temporary files.
    #[arg(long, value_name = "DIR")]
    work_dir: Option<PathBuf>,
    /// Address of the cluster, to try the way to it.
    #[arg(long, env = "FERRY_ADX_ENDPOINT", value_name = "URL")]
    endpoint: Option<String>,
    /// Address of the staging container, to try the way to it.
    #[arg(long, value_name = "URL")]
    staging: Option<String>,
    /// Shared access signature of the container, `env:NAME` or `file:PATH`: 16 MB are written to measure the way, and deleted.
    #[arg(long, value_name = "SECRET", requires = "staging")]
    staging_sas: Option<String>,
}

/// How one thing is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Verdict {
    /// As it should be.
    Ok,
    /// It works, and holds copies up.
    Weak,
    /// Copies will fail.
    Bad,
}

impl Verdict {
    fn name(self) -> &'static str {
        match self {
            Self::Ok => "ok",
            Self::Weak => "weak",
            Self::Bad => "bad",
        }
    }
}

/// One line of the findings.
#[derive(Debug, Clone, Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Finding {
    name: String,
    verdict: Verdict,
    detail: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    remedy: Option<String>,
}

impl Finding {
    fn ok(name: impl Into<String>, detail: impl Into<String>) -> Self {
        Self { name: name.into(), verdict: Verdict::Ok, detail: detail.into(), remedy: None }
    }

    fn weak(name: impl Into<String>, detail: impl Into<String>, remedy: impl Into<String>) -> Self {
        Self { verdict: Verdict::Weak, remedy: Some(remedy.into()), ..Self::ok(name, detail) }
    }

    fn bad(name: impl Into<String>, detail: impl Into<String>, remedy: impl Into<String>) -> Self {
        Self { verdict: Verdict::Bad, ..Self::weak(name, detail, remedy) }
    }
}

/// Everything about this host.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Examined {
    verdict: Verdict,
    suggested_slots: u32,
    slots_reason: String,
    findings: Vec<Finding>,
}

/// Examines this host. It takes a few seconds, most of them for measuring.
pub(crate) async fn examine(args: &HostArgs, coordinator: &NamedCoordinatorArg) -> Result<Examined, CliError> {
    let blocking = |e: tokio::task::JoinError| CliError::Failed(e.to_string());
    let gzip = tokio::task::spawn_blocking(host::gzip_speed).await.map_err(blocking)?;
    let (path, work_dir) = (args.path.clone(), args.work_dir.clone());
    let disks = tokio::task::spawn_blocking(move || {
        let mut findings: Vec<Finding> = path.iter().map(|path| disk::read(path)).collect();
        findings.extend(disk::write(&work_dir.unwrap_or_else(std::env::temp_dir)));
        findings
    });
    let disks = disks.await.map_err(blocking)?;
    let network = Box::pin(network::look(args, coordinator)).await?;
    let available = host::memory_available();
    let suggestion = slots::suggest(&slots::Means {
        cores: host::cores(),
        memory_bytes: available,
        gzip_bytes_per_second: gzip,
        upload_bytes_per_second: network.upload_bytes_per_second,
    });
    let mut findings = vec![host::cpu(gzip), host::memory(available, suggestion.slots), host::files(suggestion.slots)];
    findings.extend(disks);
    findings.extend(network.findings);
    let verdict = findings.iter().map(|finding| finding.verdict).max().unwrap_or(Verdict::Ok);
    Ok(Examined { verdict, suggested_slots: suggestion.slots, slots_reason: suggestion.reason, findings })
}

pub(crate) async fn run(args: Args, output: OutputFormat) -> Result<(), CliError> {
    if args.leaks {
        return coordinator::leaks(&args.coordinator.or_default(), output).await;
    }
    let mut examined = examine(&args.host, &args.coordinator).await?;
    let mut more = Value::Null;
    if let Some(to) = args.coordinator.named() {
        let (finding, nodes_ready) = coordinator::look(&to).await?;
        more = json!({"address": to.coordinator, "nodesReady": nodes_ready});
        examined.verdict = examined.verdict.max(finding.verdict);
        examined.findings.push(finding);
    }
    match output {
        OutputFormat::Json => {
            let mut told = serde_json::to_value(&examined).map_err(|e| CliError::Failed(e.to_string()))?;
            told["coordinator"] = more;
            output::json(&told)?;
        }
        OutputFormat::Table => tell(&examined)?,
    }
    let bad: Vec<&str> =
        examined.findings.iter().filter(|f| f.verdict == Verdict::Bad).map(|f| f.name.as_str()).collect();
    if bad.is_empty() { Ok(()) } else { Err(CliError::Failed(format!("not as it must be: {}", bad.join(", ")))) }
}

fn tell(examined: &Examined) -> Result<(), CliError> {
    let width = examined.findings.iter().map(|finding| finding.name.len()).max().unwrap_or(0);
    for Finding { name, verdict, detail, remedy } in &examined.findings {
        output::result(&format!("{:5} {name:width$}  {detail}", verdict.name()))?;
        if let Some(remedy) = remedy {
            output::result(&format!("{:5} {:width$}  -> {remedy}", "", ""))?;
        }
    }
    output::result("")?;
    output::result(&format!("suggested: --slots {} ({})", examined.suggested_slots, examined.slots_reason))
}
