//! The screen as it looks: a pure function of what is known and of the window's size.

use super::model::{Failure, File, Model, Node, Overlay};
use crate::output::{bytes, count};
use ratatui::{
    Frame,
    layout::Rect,
    style::{Color, Modifier, Style},
    text::Line,
    widgets::{Block, Clear, LineGauge, Paragraph, Sparkline, Wrap},
};
use std::time::Duration;

/// The smallest window that shows everything.
pub(super) const WIDTH_MIN: u16 = 60;
/// See [`WIDTH_MIN`].
pub(super) const HEIGHT_MIN: u16 = 15;
/// From this height on the curve and the notes get more room.
const HEIGHT_ROOMY: u16 = 20;

const HELP: [&str; 8] = [
    "q, Ctrl-C   close this screen; the run goes on",
    "c           cancel the run, after a question",
    "up, down    scroll the files, page and home/end too",
    "esc         forget the last message",
    "",
    "Stage 1 copies files to staging. Stage 2 ingests what is",
    "staged: only then do rows become visible in the table.",
    "Any key closes this.",
];

/// Rows that are handed out from top to bottom.
struct Rows(Rect);

impl Rows {
    /// The next rows, or as many of them as there are.
    fn take(&mut self, height: u16) -> Rect {
        let height = height.min(self.0.height);
        let taken = Rect { height, ..self.0 };
        self.0 = Rect { y: self.0.y + height, height: self.0.height - height, ..self.0 };
        taken
    }
}

/// How things are told apart: by colour, where that is wanted.
struct Theme(bool);

impl Theme {
    fn of(&self, color: Color) -> Style {
        if self.0 { Style::new().fg(color) } else { Style::new() }
    }

    fn quiet(&self) -> Style {
        self.of(Color::DarkGray)
    }

    fn bad(&self) -> Style {
        self.of(Color::Red).add_modifier(Modifier::BOLD)
    }
}

/// Draws everything.
pub(super) fn render(frame: &mut Frame<'_>, model: &Model) {
    let area = frame.area();
    let theme = Theme(model.has_color);
    if area.width < WIDTH_MIN || area.height < HEIGHT_MIN {
        let words =
            format!("{} {} (a window of {WIDTH_MIN}x{HEIGHT_MIN} shows more)", model.run.run_id, model.run.state);
        frame.render_widget(Paragraph::new(words).wrap(Wrap { trim: true }), area);
        return;
    }
    let is_roomy = area.height >= HEIGHT_ROOMY;
    let (curve_height, note_height) = if is_roomy { (3, 2) } else { (1, 1) };
    let mut rows = Rows(area);
    let width = usize::from(area.width);
    frame.render_widget(Line::styled(header(model, width), Modifier::BOLD), rows.take(1));
    gauge(frame, rows.take(1), "copy", model.copy_ratio(), theme.of(Color::Cyan));
    frame.render_widget(Line::from(fit(&copy_facts(model), width)), rows.take(1));
    gauge(frame, rows.take(1), "ingest", model.ingest_ratio(), theme.of(Color::Green));
    frame.render_widget(Line::from(fit(&ingest_facts(model), width)), rows.take(1));
    let words = format!(" {}", explanation(model));
    frame.render_widget(Line::styled(cut(&words, width), theme.of(Color::Yellow)), rows.take(1));
    curve(frame, rows.take(curve_height), model, theme.of(Color::Cyan));

    // Nodes get a third of what is left, and files the rest.
    let left = rows.0.height.saturating_sub(note_height + 1);
    let nodes = u16::try_from(model.nodes.len()).unwrap_or(u16::MAX).min((left / 3).max(1));
    frame.render_widget(Line::styled(node_header(model), theme.quiet()), rows.take(1));
    for line in node_lines(&model.nodes, usize::from(nodes), width) {
        frame.render_widget(Line::from(line), rows.take(1));
    }
    let files = rows.0.height.saturating_sub(note_height + 2);
    frame.render_widget(Line::styled(file_header(model, usize::from(files)), theme.quiet()), rows.take(1));
    let mut list = Rows(rows.take(files));
    for (age, file) in model.files.iter().skip(model.scroll).take(usize::from(files)) {
        frame.render_widget(Line::from(file_line(*age, file, width)), list.take(1));
    }
    let mut notes = Rows(rows.take(note_height));
    for (is_bad, note) in notes_of(model).into_iter().take(usize::from(note_height)) {
        let style = if is_bad { theme.bad() } else { Style::new() };
        frame.render_widget(Line::styled(cut(&format!(" {note}"), width), style), notes.take(1));
    }
    let keys = " q close, run goes on   c cancel   up/down scroll   ? help";
    frame.render_widget(Line::styled(cut(keys, width), theme.quiet()), rows.take(1));

    match model.overlay {
        Overlay::None => {}
        Overlay::Help => boxed(frame, area, " help ", &HELP.map(str::to_owned)),
        Overlay::Confirm => {
            let lines = [
                format!("Cancel run {}?", model.run.run_id),
                "Files not copied yet are left; what the cluster is".to_owned(),
                "ingesting is followed to its end, and may stay.".to_owned(),
                String::new(),
                "y cancel the run        any other key: go on".to_owned(),
            ];
            boxed(frame, area, " cancel ", &lines);
        }
    }
}

fn gauge(frame: &mut Frame<'_>, area: Rect, name: &str, ratio: f64, style: Style) {
    // Rounded down: all is done when it is.
    let label = format!(" {name:<7}{:>3}%", (ratio * 100.0).floor());
    let gauge = LineGauge::default().ratio(ratio).label(label).filled_symbol("█").unfilled_symbol("░");
    frame.render_widget(gauge.filled_style(style).unfilled_style(style), area);
}

fn curve(frame: &mut Frame<'_>, area: Rect, model: &Model, style: Style) {
    let all = model.curve();
    let peak = all.iter().max().copied().unwrap_or(0);
    let mut rows = Rows(area);
    if area.height > 1 {
        let words = format!(" throughput, at most {}/s", bytes(peak));
        frame.render_widget(Line::from(words), rows.take(1));
    }
    let inner = Rect { x: rows.0.x + 1, width: rows.0.width.saturating_sub(2), ..rows.0 };
    let newest = all.len().saturating_sub(usize::from(inner.width));
    frame.render_widget(Sparkline::default().data(all[newest..].iter().copied()).max(peak).style(style), inner);
}

fn boxed(frame: &mut Frame<'_>, area: Rect, title: &str, lines: &[String]) {
    let longest = lines.iter().map(|line| line.chars().count()).max().unwrap_or(0);
    let width = u16::try_from(longest + 4).unwrap_or(u16::MAX).min(area.width);
    let height = u16::try_from(lines.len() + 2).unwrap_or(u16::MAX).min(area.height);
    let place = Rect { x: area.x + (area.width - width) / 2, y: area.y + (area.height - height) / 2, width, height };
    let text: Vec<Line<'_>> = lines.iter().map(|line| Line::from(format!(" {line}"))).collect();
    frame.render_widget(Clear, place);
    frame.render_widget(Paragraph::new(text).block(Block::bordered().title(title.to_owned())), place);
}

/// A text that is cut off where the window ends.
fn cut(text: &str, width: usize) -> String {
    if text.chars().count() <= width {
        return text.to_owned();
    }
    text.chars().take(width.saturating_sub(1)).chain(['…']).collect()
}

/// The end of a path, which tells more than its beginning.
fn cut_front(text: &str, width: usize) -> String {
    let length = text.chars().count();
    if length <= width {
        return text.to_owned();
    }
    ['…'].into_iter().chain(text.chars().skip(length + 1 - width.max(1))).collect()
}

/// As many facts as there is room for, the first ones first.
fn fit(facts: &[String], width: usize) -> String {
    let mut line = String::new();
    for fact in facts.iter().filter(|fact| !fact.is_empty()) {
        let gap = if line.is_empty() { 1 } else { 3 };
        if line.chars().count() + gap + fact.chars().count() > width {
            break;
        }
        line.push_str(&" ".repeat(gap));
        line.push_str(fact);
    }
    line
}

/// A time for people: `12s`, `3m 10s`, `2h 05m`.
fn short(seconds: f64) -> String {
    let seconds = seconds.max(0.0).round() as u64;
    match seconds {
        0..60 => format!("{seconds}s"),
        60..3600 => format!("{}m {:02}s", seconds / 60, seconds % 60),
        _ => format!("{}h {:02}m", seconds / 3600, seconds / 60 % 60),
    }
}

fn left(seconds: Option<f64>) -> String {
    seconds.map(|seconds| format!("{} left", short(seconds))).unwrap_or_default()
}

fn rate(bytes_per_second: f64) -> String {
    format!("{:.1} MB/s", bytes_per_second / 1e6)
}

fn header(model: &Model, width: usize) -> String {
    let run = &model.run;
    let right = format!("{}  {} ", run.state, short(run.duration_seconds));
    let room = width.saturating_sub(right.chars().count() + 1);
    let left = cut(&format!(" {}  {}", run.run_id, run.activity), room);
    format!("{left:<room$} {right}")
}

fn copy_facts(model: &Model) -> [String; 5] {
    let stage = &model.run.copy;
    let is_going = model.run.state == "Copying";
    [
        format!("{}/{}", bytes(stage.bytes_done), bytes(stage.bytes_total)),
        if is_going { rate(model.read_rate()) } else { String::new() },
        if is_going { left(model.copy_left_seconds()) } else { String::new() },
        format!("{}/{} files, {} active", count(stage.files_done), count(stage.files_total), stage.files_active),
        format!("{} rows", count(stage.rows_read)),
    ]
}

fn ingest_facts(model: &Model) -> [String; 4] {
    let stage = &model.run.ingest;
    let is_going = model.run.state == "Ingesting";
    [
        format!("{}/{} rows visible", count(stage.rows_visible), count(stage.rows_total)),
        if is_going { rate(model.visible_rate()) } else { String::new() },
        if is_going { left(model.ingest_left_seconds()) } else { String::new() },
        format!(
            "{}/{} commands, {} active",
            count(stage.commands_done),
            count(stage.commands_total),
            stage.commands_active
        ),
    ]
}

/// What the state means for who waits for rows.
fn explanation(model: &Model) -> &'static str {
    let run = &model.run;
    let is_at_once = matches!(run.publish.as_deref(), Some("atomic" | "replace"));
    match run.state.as_str() {
        "Queued" if run.waits_for.is_some() => "waits for the end of another run that loads into the same table",
        "Queued" => "waits for its turn",
        "Planning" => "files are being listed; nothing is copied yet",
        "Copying" => "staged rows are not visible yet: stage 2 follows stage 1",
        "Ingesting" if is_at_once => "rows gather apart: all become visible at once, at the end",
        "Ingesting" => "rows become visible command by command",
        "Publishing" => "all rows become visible with one command",
        "Clearing" => "every row is in the table; nodes delete or move the files that were loaded",
        "Cancelling" | "Failing" => "ends when what is in flight is known",
        "Succeeded" if run.is_swept => "every row is in the table",
        "Succeeded" => "every row is in the table; staging is being swept",
        "Failed" | "Cancelled" => "`ferry runs report` tells what stayed in the table",
        _ => "",
    }
}

fn node_header(model: &Model) -> String {
    let ready: Vec<_> = model.nodes.iter().filter(|node| node.state == "Ready").collect();
    let slots: u32 = ready.iter().map(|node| node.slots).sum();
    let busy: u32 = ready.iter().map(|node| node.slots_busy).sum();
    format!(" nodes: {} ready, {busy} of {slots} slots busy", ready.len())
}

/// The busiest nodes first; the last line tells of those that have no line.
fn node_lines(nodes: &[Node], lines: usize, width: usize) -> Vec<String> {
    let mut sorted: Vec<_> = nodes.iter().collect();
    sorted.sort_by(|a, b| b.slots_busy.cmp(&a.slots_busy).then(a.name.cmp(&b.name)));
    let shown = if sorted.len() > lines { lines.saturating_sub(1) } else { sorted.len() };
    let line = |node: &&Node| {
        let name = cut(&node.name, 24);
        cut(&format!("  {name:<24}  {:<8}  {}/{} busy", node.state, node.slots_busy, node.slots), width)
    };
    let mut told: Vec<String> = sorted.iter().take(shown).map(line).collect();
    if sorted.len() > shown {
        told.push(format!("  and {} more", sorted.len() - shown));
    }
    told
}

fn file_header(model: &Model, lines: usize) -> String {
    let all = model.files.len();
    if all <= lines {
        return format!(" files being copied: {all}");
    }
    let last = (model.scroll + lines).min(all);
    format!(" files being copied: {}-{last} of {all}, those held longest first", model.scroll + 1)
}

fn file_line(age: Duration, file: &File, width: usize) -> String {
    let attempt = if file.attempts > 1 { format!(" attempt {}", file.attempts) } else { String::new() };
    let begin = format!(
        "  {:>7}  {:>9}  {:<12}{attempt}  ",
        short(age.as_secs_f64()),
        bytes(file.size_bytes),
        cut(&file.node, 12)
    );
    let room = width.saturating_sub(begin.chars().count());
    cut(&format!("{begin}{}", cut_front(&file.path, room)), width)
}

/// What went wrong or is worth knowing, the most pressing first; whether it is bad.
fn notes_of(model: &Model) -> Vec<(bool, String)> {
    let run = &model.run;
    let told = |what: &str, failure: &Failure| format!("{what}: {}: {}", failure.code, failure.message);
    let mut notes = Vec::new();
    if let Some((since, why)) = &model.silent {
        notes.push((true, format!("no answer since {since}, retrying: {why}")));
    }
    if let Some(notice) = &model.notice {
        notes.push((false, notice.clone()));
    }
    if let Some(failure) = &run.failure {
        notes.push((true, told("failed", failure)));
        notes.extend(failure.remedy.iter().map(|remedy| (false, remedy.clone())));
    }
    if let Some(failure) = &run.last_failure {
        notes.push((true, told("tried again after", failure)));
    }
    if let Some(failure) = &run.sweep_failure {
        notes.push((true, told("staging is not swept", failure)));
    }
    notes.extend(run.warnings.iter().rev().map(|warning| (false, format!("warning: {warning}"))));
    notes
}

#[cfg(test)]
mod tests;
