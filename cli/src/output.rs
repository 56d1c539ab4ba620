//! Results go to stdout, messages to stderr, and the exit code says which it was.

use ferry_common::failure::{Code, Failure};
use serde_json::Value;
use std::{io::Write as _, process::ExitCode};

/// How results are printed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, clap::ValueEnum)]
pub(crate) enum OutputFormat {
    /// For people.
    #[default]
    Table,
    /// For programs.
    Json,
}

/// Why a command did not do what it was asked.
#[derive(Debug, thiserror::Error)]
pub(crate) enum CliError {
    /// The run or the check failed: exit code 1.
    #[error("{0}")]
    Failed(String),
    /// The command was used wrongly: exit code 2.
    #[error("{0}")]
    Usage(String),
    /// The user stopped it: exit code 130.
    #[error("interrupted{0}")]
    Interrupted(String),
}

impl From<Failure> for CliError {
    fn from(failure: Failure) -> Self {
        let text = format!("{}: {}", failure.code, failure.message);
        match failure.code {
            Code::SettingsInvalid => Self::Usage(text),
            _ => Self::Failed(text),
        }
    }
}

impl From<std::io::Error> for CliError {
    fn from(error: std::io::Error) -> Self {
        Self::Failed(error.to_string())
    }
}

/// Says what went wrong, and gives the exit code.
pub(crate) fn fail(error: &CliError) -> ExitCode {
    message(&format!("ferry: {error}"));
    ExitCode::from(match error {
        CliError::Failed(_) => 1,
        CliError::Usage(_) => 2,
        CliError::Interrupted(_) => 130,
    })
}

/// A message for people, on stderr.
pub(crate) fn message(text: &str) {
    // Where nobody listens there is nobody to tell.
    let _ = writeln!(std::io::stderr(), "{text}");
}

/// A result, on stdout.
pub(crate) fn result(text: &str) -> Result<(), CliError> {
    match writeln!(std::io::stdout(), "{text}") {
        // `ferry ... | head` has seen enough.
        Err(e) if e.kind() == std::io::ErrorKind::BrokenPipe => Ok(()),
        other => Ok(other?),
    }
}

/// A result as JSON.
pub(crate) fn json(value: &impl serde::Serialize) -> Result<(), CliError> {
    result(&serde_json::to_string_pretty(value).map_err(|e| CliError::Failed(e.to_string()))?)
}

/// A result as a table.
pub(crate) fn table(header: &[&str], rows: impl IntoIterator<Item = Vec<String>>) -> Result<(), CliError> {
    let mut table = comfy_table::Table::new();
    table.load_style(comfy_table::presets::NOTHING).set_header(header.to_vec());
    for row in rows {
        table.add_row(row);
    }
    let text = table.to_string();
    let lines = text.lines().map(|line| line.strip_prefix(' ').unwrap_or(line).trim_end());
    result(&lines.collect::<Vec<_>>().join("\n"))
}

/// A value of a reply, for people.
pub(crate) fn cell(value: &Value) -> String {
    match value {
        Value::Null => String::new(),
        Value::String(text) => text.clone(),
        other => other.to_string(),
    }
}

/// Bytes for people, in powers of a thousand.
pub(crate) fn bytes(count: u64) -> String {
    const UNITS: [&str; 5] = ["B", "KB", "MB", "GB", "TB"];
    let mut value = count as f64;
    let mut unit = 0;
    while value >= 1000.0 && unit + 1 < UNITS.len() {
        value /= 1000.0;
        unit += 1;
    }
    if unit == 0 { format!("{count} B") } else { format!("{value:.1} {}", UNITS[unit]) }
}

/// A count for people: `336,776`.
pub(crate) fn count(number: u64) -> String {
    let digits = number.to_string();
    let mut out = String::new();
    for (at, digit) in digits.chars().enumerate() {
        if at > 0 && (digits.len() - at).is_multiple_of(3) {
            out.push(',');
        }
        out.push(digit);
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_read_well() {
        assert_eq!(count(336_776), "336,776");
        assert_eq!(count(12), "12");
        assert_eq!(bytes(999), "999 B");
        assert_eq!(bytes(31_053_850), "31.1 MB");
    }
}
