//! The end of a run, for people and for programs.

use crate::output::{self, CliError, OutputFormat, bytes, cell, count, message};
use serde_json::Value;

/// Prints a report; a run that did not succeed is an error.
pub(crate) fn print(report: &Value, output: OutputFormat) -> Result<(), CliError> {
    match output {
        OutputFormat::Json => output::json(report)?,
        OutputFormat::Table => print_table(report)?,
    }
    for warning in report["warnings"].as_array().into_iter().flatten() {
        message(&format!("ferry: note: {}", cell(warning)));
    }
    match report["status"].as_str() {
        Some("Succeeded") => Ok(()),
        Some("Planned") => {
            message(&format!("ferry: this was a dry run: see `ferry runs plan {}`", cell(&report["runId"])));
            Ok(())
        }
        Some("Cancelled") => Err(CliError::Failed(format!("run {} was cancelled", cell(&report["runId"])))),
        _ => {
            let errors: Vec<_> = report["errors"]
                .as_array()
                .into_iter()
                .flatten()
                .map(|e| format!("{}: {}", cell(&e["code"]), cell(&e["message"])))
                .collect();
            Err(CliError::Failed(if errors.is_empty() {
                "the run has not ended".to_owned()
            } else {
                errors.join("\nferry: ")
            }))
        }
    }
}

fn print_table(report: &Value) -> Result<(), CliError> {
    let number = |path: &str| report.pointer(path).and_then(Value::as_u64).unwrap_or(0);
    let real = |path: &str| report.pointer(path).and_then(Value::as_f64).unwrap_or(0.0);
    let stage = |name: &str| {
        format!(
            "{:.1} s, {:.1} MB/s",
            real(&format!("/stages/{name}/durationSeconds")),
            real(&format!("/stages/{name}/megabytesPerSecond"))
        )
    };
    let rows = [
        ("runId", cell(&report["runId"])),
        ("status", cell(&report["status"])),
        ("dataRead", format!("{} ({} bytes)", bytes(number("/dataRead")), count(number("/dataRead")))),
        ("dataWritten", format!("{} ({} bytes)", bytes(number("/dataWritten")), count(number("/dataWritten")))),
        ("filesRead", count(number("/filesRead"))),
        ("rowsRead", count(number("/rowsRead"))),
        ("rowsCopied", count(number("/rowsCopied"))),
        ("rowsSkipped", count(number("/rowsSkipped"))),
        ("copyDuration", format!("{:.1} s", real("/copyDuration"))),
        ("throughput", format!("{:.1} KB/s", real("/throughput"))),
        ("usedParallelCopies", count(number("/usedParallelCopies"))),
        ("usedDataIntegrationUnits", count(number("/usedDataIntegrationUnits"))),
        ("stage 1, copy", format!("{} of source, {} staged", stage("copy"), bytes(number("/stages/copy/stagedBytes")))),
        (
            "stage 2, ingest",
            format!("{} of records, {} commands", stage("ingest"), count(number("/stages/ingest/commandsDone"))),
        ),
    ];
    let width = rows.iter().map(|(name, _)| name.len()).max().unwrap_or(0);
    for (name, value) in rows {
        output::result(&format!("{name:width$}  {value}"))?;
    }
    Ok(())
}
