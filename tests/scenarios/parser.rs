//! Microsoft's own KQL parser reads every command that ferry can render.

use ferry_tests::{repository, tools};
use serde_json::{Value, json};
use std::{
    fs,
    io::Write as _,
    process::{Command, Stdio},
};

fn parse(commands: &[String]) -> Vec<Vec<Value>> {
    let mut node = Command::new("node")
        .arg(repository().join("tests/scenarios/kqlcheck.cjs"))
        .arg(tools().join("npm"))
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    node.stdin.take().unwrap().write_all(json!(commands).to_string().as_bytes()).unwrap();
    let output = node.wait_with_output().unwrap();
    assert!(output.status.success());
    serde_json::from_slice(&output.stdout).unwrap()
}

#[test]
fn every_command_is_read_without_a_word_left_over() {
    let mut commands = Vec::new();
    for entry in fs::read_dir(repository().join("kusto/golden")).unwrap() {
        commands.push(fs::read_to_string(entry.unwrap().path()).unwrap().trim().to_owned());
    }
    assert!(commands.len() >= 14, "golden files are missing");
    for (command, wrong) in commands.iter().zip(parse(&commands)) {
        assert!(wrong.is_empty(), "{command}\n{wrong:?}");
    }
}

#[test]
fn the_check_notices_what_is_wrong() {
    for bad in [".drop table ['T'] if exists", ".show operations (1, 2", ".nonsense", "T | count"] {
        assert!(!parse(&[bad.to_owned()])[0].is_empty(), "{bad}");
    }
}
