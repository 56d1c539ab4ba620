//! The screen at two sizes, as text.

use super::*;
use crate::watch::model::{Input, Key, Run};
use ratatui::{Terminal, backend::TestBackend};
use serde_json::{Value, json};

/// Lines of the screen, without the blanks at their ends.
fn screen(model: &Model, width: u16, height: u16) -> Vec<String> {
    let mut terminal = Terminal::new(TestBackend::new(width, height)).unwrap();
    terminal.draw(|frame| render(frame, model)).unwrap();
    let buffer = terminal.backend().buffer();
    let line = |y: u16| (0..width).map(|x| buffer[(x, y)].symbol()).collect::<String>().trim_end().to_owned();
    (0..height).map(line).collect()
}

fn assert_screen(model: &Model, width: u16, height: u16, expected: &[&str]) {
    let shown = screen(model, width, height);
    assert_eq!(shown, expected, "\n{}", shown.join("\n"));
}

fn run_of(value: &Value) -> Run {
    serde_json::from_value(value.clone()).unwrap()
}

fn look(model: &mut Model, at: u64, value: &Value) {
    model.update(Input::Run(Duration::from_secs(at), Box::new(run_of(value))));
}

fn run() -> Value {
    json!({
        "runId": "taxi-2026-11", "activity": "taxi", "state": "Copying", "durationSeconds": 192.4, "publish": "atomic",
        "copy": {"filesTotal": 48, "filesDone": 12, "filesActive": 3, "bytesTotal": 3_400_000_000_u64,
                 "bytesDone": 1_130_000_000_u64, "rowsRead": 1_234_567, "durationSeconds": 180.0},
        "ingest": {"commandsTotal": 14, "rowsTotal": 400_000},
        "lastFailure": {"code": "StagingUnreachable", "fault": "Sink", "message": "no connection"},
        "warnings": ["2 columns were added"],
    })
}

/// A run of which a third is copied, with nodes and files.
fn copying() -> Model {
    let mut value = run();
    let mut model = Model::new(run_of(&value), false);
    for (at, megabytes) in [(1, 1_180), (2, 1_280), (3, 1_430), (4, 1_530)] {
        value["copy"]["bytesDone"] = json!(megabytes * 1_000_000_u64);
        look(&mut model, at, &value);
    }
    let node =
        |name: &str, state: &str, busy: u32| json!({"name": name, "state": state, "slots": 2, "slotsBusy": busy});
    let nodes = json!([node("node-3", "Lost", 0), node("node-1", "Ready", 2), node("node-2", "Ready", 1)]);
    model.update(Input::Nodes(serde_json::from_value(nodes).unwrap()));
    let file = |path: &str, megabytes: u64, node: &str, attempts: u32| {
        let file = json!({"path": format!("/exports/taxi/{path}"), "sizeBytes": megabytes * 1_000_000, "state": "Leased",
                          "node": node, "attempts": attempts});
        serde_json::from_value::<File>(file).unwrap()
    };
    let long = file("2026/11/a-rather-long-name-of-a-file.csv.gz", 900, "node-1", 1);
    let held = vec![file("b.csv.gz", 800, "node-1", 1), long];
    model.update(Input::Files(Duration::from_secs(1), held.clone()));
    let held = held.into_iter().chain([file("c.csv.gz", 12, "node-2", 3)]).collect();
    model.update(Input::Files(Duration::from_secs(8), held));
    model
}

#[rustfmt::skip]
#[test]
fn a_small_window_shows_what_matters_most() {
    assert_screen(&copying(), 60, 15, &[
        " taxi-2026-11  taxi                         Copying  3m 12s",
        " copy    45% █████████████████████░░░░░░░░░░░░░░░░░░░░░░░░░░",
        " 1.5 GB/3.4 GB   100.0 MB/s   19s left",
        " ingest   0% ░░░░░░░░░░░░░░░░░░░░░░░░░░░░░░░░░░░░░░░░░░░░░░░",
        " 0/400,000 rows visible   0/14 commands, 0 active",
        " staged rows are not visible yet: stage 2 follows stage 1",
        " ▂▅█▅",
        " nodes: 2 ready, 3 of 4 slots busy",
        "  node-1                    Ready     2/2 busy",
        "  and 2 more",
        " files being copied: 1-2 of 3, those held longest first",
        "       7s   900.0 MB  node-1        …g-name-of-a-file.csv.gz",
        "       7s   800.0 MB  node-1        /exports/taxi/b.csv.gz",
        " tried again after: StagingUnreachable: no connection",
        " q close, run goes on   c cancel   up/down scroll   ? help",
    ]);
}

#[rustfmt::skip]
#[test]
fn a_large_window_shows_the_curve_and_all_files() {
    assert_screen(&copying(), 100, 30, &[
        " taxi-2026-11  taxi                                                                 Copying  3m 12s",
        " copy    45% ███████████████████████████████████████░░░░░░░░░░░░░░░░░░░░░░░░░░░░░░░░░░░░░░░░░░░░░░░░",
        " 1.5 GB/3.4 GB   100.0 MB/s   19s left   12/48 files, 3 active   1,234,567 rows",
        " ingest   0% ░░░░░░░░░░░░░░░░░░░░░░░░░░░░░░░░░░░░░░░░░░░░░░░░░░░░░░░░░░░░░░░░░░░░░░░░░░░░░░░░░░░░░░░",
        " 0/400,000 rows visible   0/14 commands, 0 active",
        " staged rows are not visible yet: stage 2 follows stage 1",
        " throughput, at most 150.0 MB/s",
        "  ▂█▂",
        " ▅███",
        " nodes: 2 ready, 3 of 4 slots busy",
        "  node-1                    Ready     2/2 busy",
        "  node-2                    Ready     1/2 busy",
        "  node-3                    Lost      0/2 busy",
        " files being copied: 3",
        "       7s   900.0 MB  node-1        /exports/taxi/2026/11/a-rather-long-name-of-a-file.csv.gz",
        "       7s   800.0 MB  node-1        /exports/taxi/b.csv.gz",
        "       0s    12.0 MB  node-2       attempt 3  /exports/taxi/c.csv.gz",
        "",
        "",
        "",
        "",
        "",
        "",
        "",
        "",
        "",
        "",
        " tried again after: StagingUnreachable: no connection",
        " warning: 2 columns were added",
        " q close, run goes on   c cancel   up/down scroll   ? help",
    ]);
}

#[rustfmt::skip]
#[test]
fn while_the_coordinator_is_away_what_is_known_stays() {
    let mut model = copying();
    let mut value = run();
    value["state"] = json!("Ingesting");
    value["copy"] = json!({"filesTotal": 48, "filesDone": 48, "bytesTotal": 3_400_000_000_u64, "bytesDone": 3_400_000_000_u64,
                           "rowsRead": 9_000_000, "durationSeconds": 200.0});
    value["lastFailure"] = Value::Null;
    for (at, megabytes) in [(100, 0), (101, 60), (102, 120)] {
        value["ingest"] = json!({"commandsTotal": 40, "commandsDone": 10, "commandsActive": 4, "rowsTotal": 9_000_000,
                                 "rowsVisible": 2_500_000, "bytesVisible": megabytes * 1_000_000_u64, "durationSeconds": 20.0});
        look(&mut model, at, &value);
    }
    model.update(Input::Files(Duration::from_secs(102), Vec::new()));
    model.update(Input::Silent("10:00:01".to_owned(), "nobody listens there".to_owned()));
    assert_screen(&model, 60, 15, &[
        " taxi-2026-11  taxi                       Ingesting  3m 12s",
        " copy   100% ███████████████████████████████████████████████",
        " 3.4 GB/3.4 GB   48/48 files, 0 active   9,000,000 rows",
        " ingest  25% ███████████░░░░░░░░░░░░░░░░░░░░░░░░░░░░░░░░░░░░",
        " 2,500,000/9,000,000 rows visible   60.0 MB/s   1m 00s left",
        " rows gather apart: all become visible at once, at the end",
        " ▂▅█▅▁▃▃",
        " nodes: 2 ready, 3 of 4 slots busy",
        "  node-1                    Ready     2/2 busy",
        "  and 2 more",
        " files being copied: 0",
        "",
        "",
        " no answer since 10:00:01, retrying: nobody listens there",
        " q close, run goes on   c cancel   up/down scroll   ? help",
    ]);
}

#[test]
fn questions_and_help_lie_over_the_rest() {
    for (key, words) in [('c', "Cancel run taxi-2026-11?"), ('?', "cancel the run, after a question")] {
        for (width, height) in [(60, 15), (100, 30)] {
            let mut model = copying();
            model.update(Input::Key(Key::Char(key)));
            let shown = screen(&model, width, height);
            assert!(shown.iter().any(|line| line.contains(words)), "{key} at {width}x{height}:\n{}", shown.join("\n"));
            assert!(shown[0].contains("taxi-2026-11"), "the rest stays");
        }
    }
}

#[test]
fn no_size_of_a_window_is_a_panic() {
    let mut model = copying();
    for key in ['x', '?', '?', 'c'] {
        model.update(Input::Key(Key::Char(key)));
        for (width, height) in [(1, 1), (5, 3), (59, 40), (60, 14), (60, 16), (61, 19), (60, 20), (300, 4), (250, 80)] {
            let shown = screen(&model, width, height).join("\n");
            assert!(width < 20 || shown.contains("taxi-2026-11"), "{width}x{height}:\n{shown}");
        }
    }
    screen(&Model::default(), 80, 24);
}

#[test]
fn colour_is_used_only_where_it_is_wanted() {
    for has_color in [false, true] {
        let mut model = copying();
        model.has_color = has_color;
        let mut terminal = Terminal::new(TestBackend::new(80, 24)).unwrap();
        terminal.draw(|frame| render(frame, &model)).unwrap();
        let is_colored = |cell: &ratatui::buffer::Cell| cell.fg != Color::Reset || cell.bg != Color::Reset;
        assert_eq!(terminal.backend().buffer().content().iter().any(is_colored), has_color);
    }
}

#[test]
fn control_characters_of_a_path_do_not_reach_the_terminal() {
    let mut model = copying();
    let evil = File { path: "/d/\u{1b}[2Jx.csv".to_owned(), state: "Leased".to_owned(), ..File::default() };
    model.update(Input::Files(Duration::ZERO, vec![evil]));
    assert!(screen(&model, 80, 24).iter().all(|line| !line.contains(char::is_control)));
}
