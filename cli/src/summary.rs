//! The end of a run, for people and for programs.

use crate::output::{self, CliError, OutputFormat, bytes, cell, count, message};
use ferry_common::failure::plural;
use serde_json::Value;

/// Prints a report; a run that did not succeed is an error.
pub(crate) fn print(report: &Value, output: OutputFormat) -> Result<(), CliError> {
    match output {
        OutputFormat::Json => output::json(report)?,
        OutputFormat::Table => print_table(report)?,
    }
    for warning in report["warnings"].as_array().into_iter().flatten() {
        message(&format!("ferry: warning: {}", cell(warning)));
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
    let rows = figures(report);
    let width = rows.iter().map(|(name, _)| name.len()).max().unwrap_or(0);
    for (name, value) in rows {
        output::result(&format!("{name:width$}  {value}"))?;
    }
    Ok(())
}

/// The figures of a report, by name.
fn figures(report: &Value) -> Vec<(&'static str, String)> {
    let number = |path: &str| report.pointer(path).and_then(Value::as_u64).unwrap_or(0);
    let real = |path: &str| report.pointer(path).and_then(Value::as_f64).unwrap_or(0.0);
    let stage = |name: &str| {
        format!(
            "{:.1} s, {:.1} MB/s",
            real(&format!("/stages/{name}/durationSeconds")),
            real(&format!("/stages/{name}/megabytesPerSecond"))
        )
    };
    let commands = number("/stages/ingest/commandsDone");
    let mut rows = vec![
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
            format!("{} of records, {} {}", stage("ingest"), count(commands), plural(commands, "command")),
        ),
    ];
    // Empty where no row was left out, or none is kept.
    if let Some(path) = report["logPath"].as_str().filter(|path| !path.is_empty()) {
        rows.push(("logPath", format!("{path} in staging")));
    }
    rows
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn where_the_rows_that_were_left_out_are_is_told() {
        let mut report = json!({"logPath": "quarantine/r/", "stages": {"ingest": {"commandsDone": 1}}});
        let told = figures(&report);
        assert!(told.contains(&("logPath", "quarantine/r/ in staging".to_owned())), "{told:?}");
        assert!(
            told.iter().any(|(name, value)| *name == "stage 2, ingest" && value.ends_with(" 1 command")),
            "{told:?}"
        );
        report["logPath"] = json!("");
        assert!(figures(&report).iter().all(|(name, _)| *name != "logPath"));
    }
}
