//! What the screen knows, and what keys do to it: pure, so that tests need no terminal and no coordinator.

use serde::Deserialize;
use std::{
    collections::{HashMap, VecDeque},
    time::Duration,
};

/// Looks that are kept for the curve, one a second.
const SAMPLES_MAX: usize = 600;
/// Least time between two of them.
const SAMPLE_INTERVAL: Duration = Duration::from_secs(1);
/// Throughput is that of this long a while.
const RATE_WINDOW: Duration = Duration::from_secs(5);
/// What is left is reckoned from this long a while.
const LEFT_WINDOW: Duration = Duration::from_secs(30);
/// Lines that a page key moves by.
const PAGE: usize = 10;

/// A failure, as the API shows it.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(default)]
pub(super) struct Failure {
    pub(super) code: String,
    pub(super) message: String,
    /// What to do; not every coordinator says.
    pub(super) remedy: Option<String>,
}

/// A run, as the API shows it. What a coordinator does not say is as if there were none.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(super) struct Run {
    pub(super) run_id: String,
    pub(super) activity: String,
    pub(super) state: String,
    pub(super) is_final: bool,
    pub(super) is_swept: bool,
    pub(super) publish: Option<String>,
    pub(super) duration_seconds: f64,
    pub(super) failure: Option<Failure>,
    pub(super) last_failure: Option<Failure>,
    pub(super) sweep_failure: Option<Failure>,
    pub(super) warnings: Vec<String>,
    pub(super) waits_for: Option<String>,
    pub(super) copy: CopyStage,
    pub(super) ingest: IngestStage,
}

/// Stage 1.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(super) struct CopyStage {
    pub(super) files_total: u64,
    pub(super) files_done: u64,
    pub(super) files_active: u64,
    pub(super) bytes_total: u64,
    pub(super) bytes_done: u64,
    pub(super) rows_read: u64,
    pub(super) duration_seconds: f64,
}

/// Stage 2.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(super) struct IngestStage {
    pub(super) commands_total: u64,
    pub(super) commands_done: u64,
    pub(super) commands_active: u64,
    pub(super) rows_total: u64,
    pub(super) rows_visible: u64,
    pub(super) bytes_visible: u64,
    pub(super) duration_seconds: f64,
}

/// A node.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(super) struct Node {
    pub(super) name: String,
    pub(super) state: String,
    pub(super) slots: u32,
    pub(super) slots_busy: u32,
}

/// A file that a node works on.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(super) struct File {
    pub(super) path: String,
    pub(super) size_bytes: u64,
    pub(super) state: String,
    pub(super) attempts: u32,
    pub(super) node: String,
}

/// A key that means something.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Key {
    /// A letter or sign.
    Char(char),
    Up,
    Down,
    PageUp,
    PageDown,
    Home,
    End,
    Escape,
    /// Ctrl-C.
    Interrupt,
}

/// What comes in.
#[derive(Debug, Clone)]
pub(super) enum Input {
    /// The run was looked at, so long after the screen was opened.
    Run(Duration, Box<Run>),
    /// Nodes were looked at.
    Nodes(Vec<Node>),
    /// Files that are worked on were looked at.
    Files(Duration, Vec<File>),
    /// The coordinator does not answer: the time, as it is shown, and why.
    Silent(String, String),
    /// Something to tell.
    Notice(String),
    /// A key.
    Key(Key),
    /// The window has another size.
    Resized,
}

/// What the caller shall do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Action {
    /// Close the screen; the run goes on.
    Quit,
    /// Ask the coordinator to end the run.
    Cancel,
}

/// What lies over the screen.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) enum Overlay {
    #[default]
    None,
    Help,
    /// Whether the run shall really end.
    Confirm,
}

#[derive(Debug, Clone, Copy, PartialEq)]
struct Sample {
    at: Duration,
    read: u64,
    visible: u64,
}

/// What the screen knows.
#[derive(Debug, Clone, Default)]
pub(super) struct Model {
    pub(super) run: Run,
    pub(super) nodes: Vec<Node>,
    /// Longest held first.
    pub(super) files: Vec<(Duration, File)>,
    /// Since when the coordinator does not answer, and why.
    pub(super) silent: Option<(String, String)>,
    pub(super) notice: Option<String>,
    pub(super) overlay: Overlay,
    /// Files above the first one that is shown.
    pub(super) scroll: usize,
    pub(super) has_color: bool,
    samples: VecDeque<Sample>,
    /// When each file's attempt was seen first.
    seen: HashMap<(String, u32), Duration>,
}

impl Model {
    /// Of a run that was looked at once.
    pub(super) fn new(run: Run, has_color: bool) -> Self {
        let mut model = Self { has_color, ..Self::default() };
        model.take_run(Duration::ZERO, run);
        model
    }

    /// Takes something in. Returns what is to be done about it.
    pub(super) fn update(&mut self, input: Input) -> Option<Action> {
        match input {
            Input::Run(at, run) => self.take_run(at, *run),
            Input::Nodes(nodes) => {
                self.nodes = nodes;
                self.nodes.retain(|node| node.state != "Left");
            }
            Input::Files(at, files) => self.take_files(at, files),
            Input::Silent(since, why) => {
                // Since the first time; why is as it was last.
                let since = self.silent.take().map_or(since, |(first, _)| first);
                self.silent = Some((since, why));
            }
            Input::Notice(text) => self.notice = Some(text),
            Input::Key(key) => return self.press(key),
            Input::Resized => {}
        }
        None
    }

    fn take_run(&mut self, at: Duration, run: Run) {
        self.silent = None;
        let sample = Sample { at, read: run.copy.bytes_done, visible: run.ingest.bytes_visible };
        if self.samples.back().is_none_or(|last| at.saturating_sub(last.at) >= SAMPLE_INTERVAL) {
            if self.samples.len() >= SAMPLES_MAX {
                self.samples.pop_front();
            }
            self.samples.push_back(sample);
        }
        self.run = run;
    }

    fn take_files(&mut self, at: Duration, files: Vec<File>) {
        let known = std::mem::take(&mut self.seen);
        let mut held = Vec::new();
        for file in files.into_iter().filter(|file| file.state == "Leased") {
            let key = (file.path.clone(), file.attempts);
            let since = known.get(&key).copied().unwrap_or(at);
            self.seen.insert(key, since);
            held.push((at.saturating_sub(since), file));
        }
        held.sort_by(|(a, one), (b, other)| b.cmp(a).then(other.size_bytes.cmp(&one.size_bytes)));
        self.files = held;
        self.scroll = self.scroll.min(self.files.len().saturating_sub(1));
    }

    fn press(&mut self, key: Key) -> Option<Action> {
        if key == Key::Interrupt {
            return Some(Action::Quit);
        }
        match (self.overlay, key) {
            (Overlay::Confirm, Key::Char('y' | 'Y')) => {
                self.overlay = Overlay::None;
                self.notice = Some("asked the coordinator to end the run".to_owned());
                return Some(Action::Cancel);
            }
            (Overlay::Confirm | Overlay::Help, _) => self.overlay = Overlay::None,
            (Overlay::None, Key::Char('q' | 'Q')) => return Some(Action::Quit),
            (Overlay::None, Key::Char('c' | 'C')) if self.may_cancel() => self.overlay = Overlay::Confirm,
            (Overlay::None, Key::Char('c' | 'C')) => {
                self.notice = Some(format!("a run that is {} cannot be cancelled", self.run.state));
            }
            (Overlay::None, Key::Char('?' | 'h')) => self.overlay = Overlay::Help,
            (Overlay::None, Key::Up | Key::Char('k')) => self.scroll_to(self.scroll.saturating_sub(1)),
            (Overlay::None, Key::Down | Key::Char('j')) => self.scroll_to(self.scroll + 1),
            (Overlay::None, Key::PageUp) => self.scroll_to(self.scroll.saturating_sub(PAGE)),
            (Overlay::None, Key::PageDown) => self.scroll_to(self.scroll + PAGE),
            (Overlay::None, Key::Home) => self.scroll_to(0),
            (Overlay::None, Key::End) => self.scroll_to(usize::MAX),
            (Overlay::None, Key::Escape) => self.notice = None,
            (Overlay::None, _) => {}
        }
        None
    }

    fn may_cancel(&self) -> bool {
        matches!(self.run.state.as_str(), "Queued" | "Planning" | "Copying" | "Ingesting" | "Clearing")
    }

    fn scroll_to(&mut self, line: usize) {
        self.scroll = line.min(self.files.len().saturating_sub(1));
    }

    /// Bytes a second that are read now.
    pub(super) fn read_rate(&self) -> f64 {
        let stage = &self.run.copy;
        self.rate(RATE_WINDOW, |s| s.read).unwrap_or_else(|| per_second(stage.bytes_done, stage.duration_seconds))
    }

    /// Bytes a second, before compression, that become visible now.
    pub(super) fn visible_rate(&self) -> f64 {
        let stage = &self.run.ingest;
        self.rate(RATE_WINDOW, |s| s.visible).unwrap_or_else(|| per_second(stage.bytes_visible, stage.duration_seconds))
    }

    /// Seconds that stage 1 has left, if it goes on as of late.
    pub(super) fn copy_left_seconds(&self) -> Option<f64> {
        let stage = &self.run.copy;
        let left = stage.bytes_total.saturating_sub(stage.bytes_done);
        let rate = self.rate(LEFT_WINDOW, |s| s.read);
        left_seconds(left, rate.unwrap_or_else(|| per_second(stage.bytes_done, stage.duration_seconds)))
    }

    /// Seconds that stage 2 has left, if it goes on as it did.
    pub(super) fn ingest_left_seconds(&self) -> Option<f64> {
        let stage = &self.run.ingest;
        let left = stage.commands_total.saturating_sub(stage.commands_done);
        left_seconds(left, per_second(stage.commands_done, stage.duration_seconds))
    }

    /// The share of the window that is known, from the newest look back; `None`: there is only one.
    fn rate(&self, window: Duration, of: impl Fn(&Sample) -> u64) -> Option<f64> {
        let last = self.samples.back()?;
        let first = self.samples.iter().find(|s| last.at.saturating_sub(s.at) <= window)?;
        let seconds = last.at.saturating_sub(first.at).as_secs_f64();
        (seconds > 0.0).then(|| of(last).saturating_sub(of(first)) as f64 / seconds)
    }

    /// Bytes a second between looks, the newest last, of whichever stage moved.
    pub(super) fn curve(&self) -> Vec<u64> {
        let pairs = self.samples.iter().zip(self.samples.iter().skip(1));
        pairs
            .map(|(a, b)| {
                let moved = b.read.saturating_sub(a.read).max(b.visible.saturating_sub(a.visible));
                per_second(moved, b.at.saturating_sub(a.at).as_secs_f64()) as u64
            })
            .collect()
    }

    /// How much of stage 1 is done, 0 to 1.
    pub(super) fn copy_ratio(&self) -> f64 {
        let stage = &self.run.copy;
        match stage.bytes_total {
            0 => ratio(stage.files_done, stage.files_total),
            total => ratio(stage.bytes_done, total),
        }
    }

    /// How much of stage 2 is done, 0 to 1.
    pub(super) fn ingest_ratio(&self) -> f64 {
        ratio(self.run.ingest.commands_done, self.run.ingest.commands_total)
    }
}

fn ratio(done: u64, total: u64) -> f64 {
    if total == 0 { 0.0 } else { (done as f64 / total as f64).clamp(0.0, 1.0) }
}

fn per_second(bytes: u64, seconds: f64) -> f64 {
    if seconds > 0.0 { bytes as f64 / seconds } else { 0.0 }
}

fn left_seconds(left: u64, rate: f64) -> Option<f64> {
    (left > 0 && rate > 0.0).then(|| left as f64 / rate)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn copying(read: u64) -> Run {
        let copy = CopyStage { bytes_done: read, bytes_total: 1_000, ..CopyStage::default() };
        Run { state: "Copying".to_owned(), copy, ..Run::default() }
    }

    fn file(path: &str, attempts: u32, size_bytes: u64) -> File {
        File { path: path.to_owned(), attempts, size_bytes, state: "Leased".to_owned(), ..File::default() }
    }

    fn seconds(n: u64) -> Duration {
        Duration::from_secs(n)
    }

    #[test]
    fn throughput_is_that_of_the_last_seconds() {
        let mut model = Model::new(copying(0), false);
        for (at, read) in [(10, 100), (11, 200), (12, 300), (13, 400), (14, 500), (15, 600)] {
            model.update(Input::Run(seconds(at), Box::new(copying(read))));
        }
        assert_eq!(model.read_rate(), 100.0);
        assert_eq!(model.copy_left_seconds(), Some(400.0 / 40.0));
        assert_eq!(model.curve(), [10, 100, 100, 100, 100, 100]);
        // Looks that follow closely make no point of the curve, and are shown all the same.
        model.update(Input::Run(Duration::from_millis(15_300), Box::new(copying(900))));
        assert_eq!((model.curve().len(), model.run.copy.bytes_done), (6, 900));
    }

    #[test]
    fn the_file_held_longest_comes_first_and_another_attempt_begins_anew() {
        let mut model = Model::new(copying(0), false);
        let staged = File { state: "Staged".to_owned(), ..file("z", 1, 9) };
        model.update(Input::Files(seconds(0), vec![file("a", 1, 5), staged]));
        model.update(Input::Files(seconds(7), vec![file("b", 1, 500), file("a", 1, 5), file("c", 1, 600)]));
        let shown =
            |model: &Model| model.files.iter().map(|(age, f)| (f.path.clone(), age.as_secs())).collect::<Vec<_>>();
        let owned = |list: &[(&str, u64)]| list.iter().map(|(p, s)| ((*p).to_owned(), *s)).collect::<Vec<_>>();
        assert_eq!(shown(&model), owned(&[("a", 7), ("c", 0), ("b", 0)]));
        model.update(Input::Files(seconds(9), vec![file("a", 2, 5), file("b", 1, 500)]));
        assert_eq!(shown(&model), owned(&[("b", 2), ("a", 0)]));
    }

    #[test]
    fn a_run_is_cancelled_only_when_that_is_confirmed() {
        let mut model = Model::new(copying(0), false);
        let press = |model: &mut Model, key| model.update(Input::Key(key));
        assert_eq!(press(&mut model, Key::Char('c')), None);
        assert_eq!(model.overlay, Overlay::Confirm);
        // Any other key means no, also the one that would quit.
        assert_eq!(press(&mut model, Key::Char('q')), None);
        assert_eq!(model.overlay, Overlay::None);
        press(&mut model, Key::Char('c'));
        assert_eq!(press(&mut model, Key::Char('y')), Some(Action::Cancel));
        assert_eq!(press(&mut model, Key::Char('y')), None);
        model.update(Input::Run(seconds(1), Box::new(Run { state: "Publishing".to_owned(), ..Run::default() })));
        press(&mut model, Key::Char('c'));
        assert_eq!(model.overlay, Overlay::None);
        assert!(model.notice.as_deref().unwrap().contains("Publishing"));
    }

    #[test]
    fn quitting_and_ctrl_c_end_the_screen_and_not_the_run() {
        for (overlay, key, action) in [
            (Overlay::None, Key::Char('q'), Some(Action::Quit)),
            (Overlay::None, Key::Interrupt, Some(Action::Quit)),
            (Overlay::Confirm, Key::Interrupt, Some(Action::Quit)),
            (Overlay::Help, Key::Char('q'), None),
            (Overlay::None, Key::Char('x'), None),
        ] {
            let mut model = Model { overlay, ..Model::new(copying(0), false) };
            assert_eq!(model.update(Input::Key(key)), action, "{overlay:?} {key:?}");
        }
    }

    #[test]
    fn scrolling_stays_within_the_files() {
        let mut model = Model::new(copying(0), false);
        let many: Vec<_> = (0..25).map(|n| file(&n.to_string(), 1, n)).collect();
        model.update(Input::Files(seconds(0), many));
        for (key, line) in
            [(Key::Up, 0), (Key::PageDown, 10), (Key::Down, 11), (Key::End, 24), (Key::PageDown, 24), (Key::Home, 0)]
        {
            model.update(Input::Key(key));
            assert_eq!(model.scroll, line, "{key:?}");
        }
        model.update(Input::Key(Key::End));
        model.update(Input::Files(seconds(1), vec![file("1", 1, 1)]));
        assert_eq!(model.scroll, 0, "what is gone is not scrolled to");
    }

    #[test]
    fn a_coordinator_that_restarts_is_told_of_until_it_answers() {
        let mut model = Model::new(copying(5), false);
        model.update(Input::Silent("10:00:01".to_owned(), "nobody listens there".to_owned()));
        model.update(Input::Silent("10:00:02".to_owned(), "no answer".to_owned()));
        assert_eq!(model.silent, Some(("10:00:01".to_owned(), "no answer".to_owned())));
        assert_eq!(model.run.copy.bytes_done, 5, "what is known stays");
        model.update(Input::Run(seconds(3), Box::new(copying(6))));
        assert_eq!(model.silent, None);
    }

    #[test]
    fn what_a_coordinator_does_not_say_harms_nothing() {
        let run: Run =
            serde_json::from_str(r#"{"runId": "r", "state": "Copying", "copy": {"filesTotal": 3}, "new": 1}"#).unwrap();
        assert_eq!((run.run_id.as_str(), run.copy.files_total, run.is_final), ("r", 3, false));
        let model = Model::new(run, false);
        assert_eq!((model.copy_ratio(), model.ingest_ratio(), model.copy_left_seconds()), (0.0, 0.0, None));
    }
}
