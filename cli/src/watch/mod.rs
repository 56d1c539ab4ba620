//! `ferry runs watch` on a terminal: both stages, nodes and files on one screen. It asks the coordinator's API alone, and goes on
//! while that is away.

mod model;
mod terminal;
mod view;

use crate::{
    api::Api,
    output::{CliError, message},
};
use model::{Action, File, Input, Model, Node, Run};
use serde::de::DeserializeOwned;
use serde_json::Value;
use std::{io, time::Duration};
use terminal::Screen;
use tokio::{sync::mpsc, time::Instant};
use tokio_util::sync::CancellationToken;

/// How often a run is looked at.
const LOOK_INTERVAL: Duration = Duration::from_millis(500);
/// Nodes and files are looked at once in so many times.
const LOOKS_FOR_DETAILS: u32 = 4;
/// What came in and is not shown yet.
const INPUTS_WAITING_MAX: usize = 64;
/// Files that are asked for.
const FILES_MAX: usize = 200;
/// A report is looked through for active files only up to this many files: it holds them all.
const REPORT_FILES_MAX: u64 = 2_000;
/// How long the end of a run is followed by the sweep of its staging.
const SWEEP_WAIT_MAX: Duration = Duration::from_secs(30);

/// There is a terminal to draw on and to read keys from.
pub(crate) fn is_possible() -> bool {
    terminal::is_there()
}

/// Follows a run on the whole terminal until it has ended and its staging is swept. Returns its report.
///
/// When the user closes the screen, or `interrupt` is cancelled, the run goes on.
pub(crate) async fn follow(api: &Api, run_id: &str, interrupt: &CancellationToken) -> Result<Value, CliError> {
    // What is wrong from the beginning is said without a screen.
    let run = read(api.get(&format!("/runs/{run_id}")).await?)?;
    let model = Model::new(run, std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty()));
    let screen = Screen::open().map_err(|e| CliError::Failed(format!("the terminal cannot be used: {e}")))?;
    let (sender, inputs) = mpsc::channel(INPUTS_WAITING_MAX);
    let looking = tokio::spawn(look(api.clone(), run_id.to_owned(), sender.clone()));
    let end = show(screen, model, api, inputs, sender, interrupt).await;
    looking.abort();
    match end? {
        End::Closed => Err(CliError::Interrupted(format!("; run {run_id} goes on"))),
        End::Ended { note } => {
            if let Some(note) = note {
                message(&note);
            }
            api.get(&format!("/runs/{run_id}/report")).await
        }
    }
}

/// How the screen came to its end.
enum End {
    /// The user closed it.
    Closed,
    /// The run has ended.
    Ended { note: Option<String> },
}

/// Draws until the end. The terminal is as it was before when this returns.
async fn show(
    mut screen: Screen,
    mut model: Model,
    api: &Api,
    mut inputs: mpsc::Receiver<Input>,
    sender: mpsc::Sender<Input>,
    interrupt: &CancellationToken,
) -> Result<End, CliError> {
    let mut ended: Option<Instant> = None;
    loop {
        screen.draw(|frame| view::render(frame, &model)).map_err(terminal_failed)?;
        if model.run.is_final {
            let since = *ended.get_or_insert_with(Instant::now);
            if model.run.is_swept {
                return Ok(End::Ended { note: None });
            }
            if let Some(failure) = &model.run.sweep_failure {
                return Ok(End::Ended { note: Some(format!("ferry: staging is not swept: {}", failure.message)) });
            }
            if since.elapsed() >= SWEEP_WAIT_MAX {
                let note = "ferry: staging could not be swept yet; the coordinator goes on trying".to_owned();
                return Ok(End::Ended { note: Some(note) });
            }
        }
        let input = tokio::select! {
            input = inputs.recv() => input,
            key = screen.key() => match key {
                Some(key) => Some(key),
                None => return Ok(End::Closed),
            },
            () = interrupt.cancelled() => return Ok(End::Closed),
        };
        // `None` does not come: a sender is held here.
        match input.and_then(|input| model.update(input)) {
            None => {}
            Some(Action::Quit) => return Ok(End::Closed),
            Some(Action::Cancel) => {
                let (api, path, sender) = (api.clone(), format!("/runs/{}/cancel", model.run.run_id), sender.clone());
                tokio::spawn(async move {
                    if let Err(e) = api.post(&path, None).await {
                        // Nobody listens any more when the screen is closed.
                        let _ = sender.send(Input::Notice(format!("not cancelled: {e}"))).await;
                    }
                });
            }
        }
    }
}

fn terminal_failed(error: io::Error) -> CliError {
    CliError::Failed(format!("the terminal cannot be written to: {error}"))
}

/// A value of the API.
fn read<T: DeserializeOwned>(value: Value) -> Result<T, CliError> {
    serde_json::from_value(value).map_err(|e| CliError::Failed(format!("an answer that cannot be read: {e}")))
}

/// Those of a list that can be read.
fn read_list<T: DeserializeOwned>(list: &mut Value, name: &str) -> Vec<T> {
    let Value::Array(items) = list[name].take() else { return Vec::new() };
    items.into_iter().filter_map(|item| serde_json::from_value(item).ok()).collect()
}

/// Where active files are asked for.
#[derive(Clone, Copy, PartialEq, Eq)]
enum FileSource {
    /// `/files`.
    Files,
    /// The report, of a coordinator that does not have that.
    Report,
}

/// Looks at the run, the nodes and the files, again and again, until nobody listens.
async fn look(api: Api, run_id: String, sender: mpsc::Sender<Input>) {
    let began = Instant::now();
    let mut source = FileSource::Files;
    for looks in 0_u32.. {
        let run = match api.get(&format!("/runs/{run_id}")).await.and_then(read::<Run>) {
            Ok(run) => run,
            Err(e) => {
                let now = jiff::Timestamp::now().strftime("%H:%M:%S UTC").to_string();
                if sender.send(Input::Silent(now, e.to_string())).await.is_err() {
                    return;
                }
                tokio::time::sleep(LOOK_INTERVAL).await;
                continue;
            }
        };
        let wants_details = looks % LOOKS_FOR_DETAILS == 0;
        let (is_copying, files_total) = (run.state == "Copying", run.copy.files_total);
        if sender.send(Input::Run(began.elapsed(), Box::new(run))).await.is_err() {
            return;
        }
        if wants_details {
            if let Ok(mut list) = api.get("/nodes").await
                && sender.send(Input::Nodes(read_list::<Node>(&mut list, "nodes"))).await.is_err()
            {
                return;
            }
            let files = if is_copying { files_of(&api, &run_id, files_total, &mut source).await } else { Vec::new() };
            if sender.send(Input::Files(began.elapsed(), files)).await.is_err() {
                return;
            }
        }
        tokio::time::sleep(LOOK_INTERVAL).await;
    }
}

/// Files that nodes work on.
async fn files_of(api: &Api, run_id: &str, files_total: u64, source: &mut FileSource) -> Vec<File> {
    if *source == FileSource::Files {
        match api.get(&format!("/runs/{run_id}/files?state=Leased&sort=size&order=desc&limit={FILES_MAX}")).await {
            Ok(mut list) => return read_list(&mut list, "files"),
            // An older coordinator, or one that just went away: the next look at the run tells.
            Err(_) => *source = FileSource::Report,
        }
    }
    if files_total > REPORT_FILES_MAX {
        return Vec::new();
    }
    match api.get(&format!("/runs/{run_id}/report")).await {
        Ok(mut report) => read_list(&mut report, "files"),
        Err(_) => Vec::new(),
    }
}
