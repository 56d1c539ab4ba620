//! Follows a run to its end: progress bars for both stages on a terminal, nothing elsewhere.

use crate::{
    api::Api,
    output::{CliError, bytes, count, message},
};
use indicatif::{MultiProgress, ProgressBar, ProgressDrawTarget, ProgressStyle};
use serde_json::Value;
use std::{io::IsTerminal as _, time::Duration};
use tokio_util::sync::CancellationToken;

/// How often a run is looked at.
const LOOK_INTERVAL: Duration = Duration::from_millis(300);
/// How long the end of a run is followed by the sweep of its staging.
const SWEEP_WAIT_MAX: Duration = Duration::from_secs(30);
/// How long a coordinator that does not answer is waited for: it may be restarting.
const SILENCE_MAX: Duration = Duration::from_secs(60);

/// Bars of one run.
struct Bars {
    _all: MultiProgress,
    copy: ProgressBar,
    ingest: ProgressBar,
    said: Option<String>,
}

fn bar(all: &MultiProgress, template: &str) -> ProgressBar {
    let style = ProgressStyle::with_template(template).unwrap_or_else(|_| ProgressStyle::default_bar());
    all.add(ProgressBar::new(0).with_style(style.progress_chars("=> ")))
}

impl Bars {
    fn new() -> Self {
        let is_shown = std::io::stderr().is_terminal();
        let all = MultiProgress::with_draw_target(if is_shown {
            ProgressDrawTarget::stderr()
        } else {
            ProgressDrawTarget::hidden()
        });
        let copy = bar(&all, "copy    [{bar:30}] {msg}");
        let ingest = bar(&all, "ingest  [{bar:30}] {msg}");
        Self { _all: all, copy, ingest, said: None }
    }

    fn show(&mut self, run: &Value) {
        let number = |path: &str| run.pointer(path).and_then(Value::as_u64).unwrap_or(0);
        let seconds = |path: &str| run.pointer(path).and_then(Value::as_f64).unwrap_or(0.0);
        let (done, total) = (number("/copy/bytesDone"), number("/copy/bytesTotal"));
        let elapsed = seconds("/copy/durationSeconds");
        let rate = if elapsed > 0.0 { done as f64 / elapsed } else { 0.0 };
        let left = if rate > 0.0 && done < total {
            let eta = Duration::from_secs(((total - done) as f64 / rate).ceil() as u64);
            format!(", {} left", humantime::format_duration(eta))
        } else {
            String::new()
        };
        self.copy.set_length(total.max(1));
        self.copy.set_position(done);
        self.copy.set_message(format!(
            "{}/{} files, {}/{}, {:.1} MB/s{left}",
            count(number("/copy/filesDone")),
            count(number("/copy/filesTotal")),
            bytes(done),
            bytes(total),
            rate / 1e6
        ));
        self.ingest.set_length(number("/ingest/commandsTotal").max(1));
        self.ingest.set_position(number("/ingest/commandsDone"));
        let is_waiting = matches!(run["state"].as_str(), Some("Planning" | "Copying" | "Queued"));
        self.ingest.set_message(if is_waiting {
            "begins when all files are staged; the table shows no rows until then".to_owned()
        } else {
            format!(
                "{}/{} commands, {}/{} rows visible",
                count(number("/ingest/commandsDone")),
                count(number("/ingest/commandsTotal")),
                count(number("/ingest/rowsVisible")),
                count(number("/ingest/rowsTotal"))
            )
        });
        self.tell(run);
    }

    /// Says once why an attempt failed that is tried again.
    fn tell(&mut self, run: &Value) {
        let failure = run.pointer("/lastFailure/message").and_then(Value::as_str);
        if let Some(text) = failure
            && self.said.as_deref() != Some(text)
        {
            self.said = Some(text.to_owned());
            let words = format!("ferry: an attempt failed and is tried again: {text}");
            self.copy.suspend(|| message(&words));
        }
    }

    fn clear(&self) {
        self.copy.finish_and_clear();
        self.ingest.finish_and_clear();
    }
}

/// Follows a run until it has ended and its staging is swept. Returns its report.
///
/// When `interrupt` is cancelled the run goes on; the caller says what that means.
pub(crate) async fn follow(api: &Api, run_id: &str, interrupt: &CancellationToken) -> Result<Value, CliError> {
    let mut bars = Bars::new();
    let result = follow_to_end(api, run_id, &mut bars, interrupt).await;
    bars.clear();
    result?;
    api.get(&format!("/runs/{run_id}/report")).await
}

async fn follow_to_end(
    api: &Api,
    run_id: &str,
    bars: &mut Bars,
    interrupt: &CancellationToken,
) -> Result<(), CliError> {
    let mut silent = Duration::ZERO;
    let mut swept = Duration::ZERO;
    loop {
        match api.get(&format!("/runs/{run_id}")).await {
            Ok(run) => {
                silent = Duration::ZERO;
                bars.show(&run);
                if run["isFinal"] == true {
                    if run["isSwept"] == true {
                        return Ok(());
                    }
                    if let Some(why) = run.pointer("/sweepFailure/message").and_then(Value::as_str) {
                        message(&format!("ferry: staging is not swept: {why}"));
                        return Ok(());
                    }
                    swept += LOOK_INTERVAL;
                    if swept >= SWEEP_WAIT_MAX {
                        message("ferry: staging could not be swept yet; the coordinator goes on trying");
                        return Ok(());
                    }
                }
            }
            Err(CliError::Failed(_)) if silent < SILENCE_MAX => silent += LOOK_INTERVAL,
            Err(e) => return Err(e),
        }
        tokio::select! {
            () = tokio::time::sleep(LOOK_INTERVAL) => {}
            () = interrupt.cancelled() => return Err(CliError::Interrupted(format!("; run {run_id} goes on"))),
        }
    }
}

/// A token that Ctrl-C and SIGTERM cancel.
pub(crate) fn interrupt() -> CancellationToken {
    let token = CancellationToken::new();
    let on_signal = token.clone();
    tokio::spawn(async move {
        use tokio::signal::unix::{SignalKind, signal};
        let Ok(mut terminate) = signal(SignalKind::terminate()) else { return };
        tokio::select! {
            _ = tokio::signal::ctrl_c() => {}
            _ = terminate.recv() => {}
        }
        on_signal.cancel();
    });
    token
}
