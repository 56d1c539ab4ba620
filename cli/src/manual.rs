//! `ferry completions`, `ferry man`: what shells and `man` want to know of the command line.

use crate::output::{self, CliError, OutputFormat, message};
use clap::{Args, Command};
use clap_complete::Shell;
use serde_json::json;
use std::{fs, path::PathBuf};

/// Name of the program, as completions are registered for it.
const PROGRAM: &str = "ferry";

/// `ferry completions`
#[derive(Args)]
#[command(after_help = "Examples:
  ferry completions bash > /etc/bash_completion.d/ferry
  ferry completions zsh > ~/.zfunc/_ferry
  ferry completions fish > ~/.config/fish/completions/ferry.fish")]
pub(crate) struct CompletionsArgs {
    /// The shell.
    #[arg(value_enum)]
    shell: Shell,
}

/// `ferry man`
#[derive(Args)]
#[command(after_help = "Examples:
  ferry man | man -l -
  ferry man /usr/local/share/man/man1")]
pub(crate) struct ManArgs {
    /// Write one page for each command into this folder, which is made if it is not there. Without it the page of `ferry`
    /// itself goes to standard output.
    #[arg(value_name = "DIR")]
    folder: Option<PathBuf>,
}

/// Prints the script that completes the words of `command` in a shell.
pub(crate) fn completions(args: &CompletionsArgs, mut command: Command, output: OutputFormat) -> Result<(), CliError> {
    let mut script = Vec::new();
    clap_complete::generate(args.shell, &mut command, PROGRAM, &mut script);
    let script = String::from_utf8(script).map_err(|e| CliError::Failed(e.to_string()))?;
    match output {
        OutputFormat::Json => output::json(&json!({"shell": args.shell.to_string(), "script": script})),
        OutputFormat::Table => output::result(script.trim_end()),
    }
}

/// Prints the page of `command`, or writes those of all its subcommands.
pub(crate) fn man(args: ManArgs, command: Command, output: OutputFormat) -> Result<(), CliError> {
    let Some(folder) = args.folder else {
        let mut page = Vec::new();
        clap_mangen::Man::new(command).render(&mut page)?;
        let page = String::from_utf8(page).map_err(|e| CliError::Failed(e.to_string()))?;
        return match output {
            OutputFormat::Json => output::json(&json!({"page": page})),
            OutputFormat::Table => output::result(page.trim_end()),
        };
    };
    let failed = |e: std::io::Error| CliError::Failed(format!("{}: {e}", folder.display()));
    fs::create_dir_all(&folder).map_err(failed)?;
    let before = pages_of(&command);
    clap_mangen::generate_to(command, &folder).map_err(failed)?;
    match output {
        OutputFormat::Json => {
            let paths: Vec<_> = before.iter().map(|page| folder.join(page)).collect();
            output::json(&json!({"pages": paths}))
        }
        OutputFormat::Table => {
            message(&format!("ferry: {} pages are in {}", before.len(), folder.display()));
            Ok(())
        }
    }
}

/// Names of the pages that are made of `command`, its own first.
fn pages_of(command: &Command) -> Vec<String> {
    fn collect(command: &Command, prefix: &str, pages: &mut Vec<String>) {
        let name =
            if prefix.is_empty() { command.get_name().to_owned() } else { format!("{prefix}-{}", command.get_name()) };
        pages.push(format!("{name}.1"));
        for inner in command.get_subcommands().filter(|c| !c.is_hide_set()) {
            collect(inner, &name, pages);
        }
    }
    let mut pages = Vec::new();
    collect(command, "", &mut pages);
    pages
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::{CommandFactory as _, Parser as _};

    fn each_command(command: &Command, path: &str, seen: &mut dyn FnMut(&str, &Command)) {
        seen(path, command);
        for inner in command.get_subcommands() {
            each_command(inner, &format!("{path} {}", inner.get_name()), seen);
        }
    }

    #[test]
    fn every_command_that_does_something_shows_an_example() {
        each_command(&crate::Cli::command(), PROGRAM, &mut |path, command| {
            if command.has_subcommands() {
                return;
            }
            let help = command.get_after_help().map(ToString::to_string).unwrap_or_default();
            assert!(help.contains(path), "{path}: its help has no example that begins with it: {help:?}");
        });
    }

    #[test]
    fn every_command_has_a_page_and_is_completed() {
        let folder = tempfile::tempdir().unwrap();
        let args = ManArgs { folder: Some(folder.path().join("man1")) };
        man(args, crate::Cli::command(), OutputFormat::Json).unwrap();
        each_command(&crate::Cli::command(), PROGRAM, &mut |path, _| {
            let page = folder.path().join("man1").join(format!("{}.1", path.replace(' ', "-")));
            let text = fs::read_to_string(&page).unwrap_or_else(|e| panic!("{}: {e}", page.display()));
            assert!(text.contains(".SH NAME"), "{path}");
        });
        for shell in [Shell::Bash, Shell::Elvish, Shell::Fish, Shell::PowerShell, Shell::Zsh] {
            let mut script = Vec::new();
            clap_complete::generate(shell, &mut crate::Cli::command(), PROGRAM, &mut script);
            let script = String::from_utf8(script).unwrap();
            assert!(script.contains("quickstart") && script.contains("cancel"), "{shell}");
        }
    }

    #[test]
    fn the_command_line_is_sound_and_guesses_what_was_meant() {
        crate::Cli::command().debug_assert();
        let Err(error) = crate::Cli::try_parse_from([PROGRAM, "quikstart"]) else { panic!("it must be refused") };
        assert!(error.to_string().contains("quickstart"), "{error}");
    }
}
