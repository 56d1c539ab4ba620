//! `ferry schedules`: activities that a coordinator runs again and again.

use crate::{
    api::{Api, CoordinatorArg},
    output::{self, CliError, OutputFormat, cell},
};
use clap::{Args, Subcommand};
use ferry_common::address::path_encoded;
use ferry_coordinator::Schedule;
use serde_json::Value;
use std::path::PathBuf;

/// `ferry schedules`
#[derive(Args)]
pub(crate) struct SchedulesArgs {
    #[command(subcommand)]
    command: SchedulesCommand,
}

#[derive(Subcommand)]
enum SchedulesCommand {
    /// Store a schedule, or change one: it goes on where it was.
    #[command(after_help = "Example: ferry schedules put hourly.yaml\n\n\
        A schedule: {name: hourly, cron: \"5 * * * *\", activity: {...}}; texts of the activity may hold {{ windowStart }} and\n\
        {{ windowEnd }}.")]
    Put {
        /// File of the schedule, YAML or JSON.
        file: PathBuf,
        #[command(flatten)]
        coordinator: CoordinatorArg,
    },
    /// All schedules.
    #[command(after_help = "Example: ferry schedules list --coordinator https://ferry.example:7480")]
    List {
        #[command(flatten)]
        coordinator: CoordinatorArg,
    },
    /// One schedule: what it runs, and how far it came.
    #[command(after_help = "Example: ferry schedules show hourly")]
    Show(OneSchedule),
    /// Begin no new window until it is resumed. What runs goes on.
    #[command(after_help = "Example: ferry schedules pause hourly")]
    Pause(OneSchedule),
    /// Go on; windows missed meanwhile are treated as `catchUp` says.
    #[command(after_help = "Example: ferry schedules resume hourly")]
    Resume(OneSchedule),
    /// Forget a schedule. Its runs stay.
    #[command(after_help = "Example: ferry schedules delete hourly")]
    Delete(OneSchedule),
}

#[derive(Args)]
struct OneSchedule {
    /// Name of the schedule.
    name: String,
    #[command(flatten)]
    coordinator: CoordinatorArg,
}

pub(crate) async fn run(args: SchedulesArgs, output: OutputFormat) -> Result<(), CliError> {
    match args.command {
        SchedulesCommand::Put { file, coordinator } => {
            let origin = file.display().to_string();
            let text = std::fs::read_to_string(&file).map_err(|e| CliError::Usage(format!("{origin}: {e}")))?;
            let schedule = Schedule::parse(&text, &origin)?;
            let path = format!("/schedules/{}", path_encoded(&schedule.name));
            let body = serde_json::to_value(&schedule).map_err(|e| CliError::Failed(e.to_string()))?;
            show(&Api::new(&coordinator)?.put(&path, &body).await?, output)
        }
        SchedulesCommand::List { coordinator } => {
            let list = Api::new(&coordinator)?.get("/schedules").await?;
            if output == OutputFormat::Json {
                return output::json(&list["schedules"]);
            }
            let rows = list["schedules"].as_array().into_iter().flatten().map(|row| {
                let when = ["cron", "interval"].iter().find_map(|key| row["schedule"][*key].as_str());
                vec![
                    cell(&row["name"]),
                    when.unwrap_or_default().to_owned(),
                    state_of(row).to_owned(),
                    cell(&row["nextWindow"]["begins"]),
                    cell(&row["lastRun"]),
                ]
            });
            output::table(&["NAME", "WHEN", "STATE", "NEXT", "LAST RUN"], rows)
        }
        SchedulesCommand::Show(one) => show(&one.api()?.get(&one.path("")).await?, output),
        SchedulesCommand::Pause(one) => show(&one.api()?.post(&one.path("/pause"), None).await?, output),
        SchedulesCommand::Resume(one) => show(&one.api()?.post(&one.path("/resume"), None).await?, output),
        SchedulesCommand::Delete(one) => {
            let answer = one.api()?.delete(&one.path("")).await?;
            match output {
                OutputFormat::Json => output::json(&answer),
                OutputFormat::Table => output::result(&format!("schedule {} is deleted", one.name)),
            }
        }
    }
}

impl OneSchedule {
    fn api(&self) -> Result<Api, CliError> {
        Api::new(&self.coordinator)
    }

    fn path(&self, end: &str) -> String {
        format!("/schedules/{}{end}", path_encoded(&self.name))
    }
}

fn state_of(row: &Value) -> &'static str {
    match () {
        () if !row["failure"].is_null() => "Failed",
        () if row["isPaused"] == true => "Paused",
        () if row["nextWindow"].is_null() => "Ended",
        () => "Active",
    }
}

fn show(row: &Value, output: OutputFormat) -> Result<(), CliError> {
    if output == OutputFormat::Json {
        return output::json(row);
    }
    let window = |window: &Value| match window["start"].as_str() {
        Some(start) => format!("{start} to {}", cell(&window["end"])),
        None => "none".to_owned(),
    };
    output::result(&format!("schedule     {}", cell(&row["name"])))?;
    output::result(&format!("state        {}", state_of(row)))?;
    output::result(&format!("last window  {}", window(&row["lastWindow"])))?;
    output::result(&format!("last run     {}", row["lastRun"].as_str().unwrap_or("none")))?;
    output::result(&format!("next window  {}", window(&row["nextWindow"])))?;
    if let Some(begins) = row["nextWindow"]["begins"].as_str() {
        output::result(&format!("begins       {begins}"))?;
    }
    match row["failure"]["message"].as_str() {
        Some(why) => output::result(&format!("failure      {why}")),
        None => Ok(()),
    }
}
