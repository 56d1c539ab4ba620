//! Checks of the repository itself: which way imports point, and lists that must be complete.
#![allow(
    clippy::unwrap_used,
    clippy::type_complexity,
    reason = "a check fails by panicking; its tables are spelled out"
)]

use std::{
    collections::BTreeMap,
    fs,
    path::{Path, PathBuf},
};

fn root() -> &'static Path {
    Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/.."))
}

fn rust_files(folder: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            found.extend(rust_files(&path));
        } else if path.extension().is_some_and(|e| e == "rs") {
            found.push(path);
        }
    }
    found
}

/// Crates of the workspace, and the crates of the workspace that each may use.
const CRATES: &[(&str, &[&str])] = &[
    ("common", &[]),
    ("kusto", &[]),
    ("local-adx", &[]),
    ("node", &["ferry-common", "ferry-isal"]),
    ("coordinator", &["ferry-common", "ferry-kusto"]),
    ("cli", &["ferry-common", "ferry-kusto", "ferry-coordinator", "ferry-node", "ferry-local-adx"]),
    ("tests", &["ferry-common", "ferry-kusto", "ferry-coordinator", "ferry-node"]),
];

#[test]
fn crates_import_one_way() {
    for (name, allowed) in CRATES {
        let manifest = fs::read_to_string(root().join(name).join("Cargo.toml")).unwrap();
        let used = manifest
            .lines()
            .filter_map(|line| line.split_once(" = "))
            .map(|(key, _)| key)
            .filter(|key| key.starts_with("ferry-"));
        for used in used {
            assert!(allowed.contains(&used), "{name} may not use {used}");
        }
    }
}

/// Modules of a crate, and the modules of it that each may use. `lib`, `main` and `config` may be used by all.
const MODULES: &[(&str, &[(&str, &[&str])])] = &[
    (
        "coordinator",
        &[
            ("state", &[]),
            ("scheduler", &[]),
            ("planner", &[]),
            ("vault", &[]),
            ("secrets", &["vault"]),
            ("identities", &["secrets"]),
            ("schedule", &[]),
            ("sas", &["identities"]),
            ("within", &[]),
            ("access", &["identities", "sas", "within"]),
            ("fingerprint", &["planner"]),
            ("store", &["fingerprint", "schedule", "state", "planner"]),
            ("door", &["store"]),
            ("desk", &["store"]),
            ("meters", &[]),
            ("timeline", &[]),
            ("remedies", &[]),
            ("web", &[]),
            ("core", &["access", "desk", "identities", "meters", "state", "store", "timeline"]),
            ("packing", &["store"]),
            ("pace", &["store"]),
            ("estimate", &["fingerprint", "pace", "packing", "store"]),
            ("listed", &["store"]),
            ("loaded", &["listed", "state", "store"]),
            ("reports", &["clearing", "core", "listed", "loaded", "packing", "state", "store"]),
            ("clearing", &["core", "loaded", "state", "store"]),
            ("blobs", &["access", "core", "reports", "store"]),
            ("grants", &["access", "blobs", "core", "desk", "scheduler", "state", "store"]),
            ("attempts", &["blobs", "core", "grants", "reports", "state", "store"]),
            ("ingest", &["core", "estimate", "identities", "meters", "pace", "state", "store", "planner", "access"]),
            ("report", &["core", "packing", "remedies", "state", "store", "timeline", "attempts"]),
            ("ledger", &["core", "ingest", "report", "state", "store"]),
            ("metrics", &["core", "report", "state", "store"]),
            ("leaks", &["core", "store"]),
            (
                "duties",
                &[
                    "access",
                    "attempts",
                    "clearing",
                    "core",
                    "estimate",
                    "fingerprint",
                    "ingest",
                    "loaded",
                    "planner",
                    "report",
                    "reports",
                    "state",
                    "store",
                ],
            ),
            ("checks", &["access", "core", "ingest", "planner", "report", "store"]),
            (
                "api",
                &[
                    "access",
                    "checks",
                    "core",
                    "door",
                    "fingerprint",
                    "state",
                    "store",
                    "report",
                    "ledger",
                    "leaks",
                    "loaded",
                    "metrics",
                    "schedule",
                    "timeline",
                    "web",
                ],
            ),
            ("rpc", &["core", "door", "store", "attempts"]),
            ("rehearsal", &["core", "state", "store", "duties", "report", "rpc"]),
        ],
    ),
    (
        "node",
        &[
            ("record", &[]),
            ("buffers", &[]),
            ("partition", &[]),
            ("meters", &[]),
            ("progress", &["meters"]),
            ("infer", &[]),
            ("health", &["meters"]),
            ("bandwidth", &[]),
            ("identity", &[]),
            ("signatures", &[]),
            ("stage", &["bandwidth", "meters"]),
            ("compress", &["buffers", "stage"]),
            ("read", &["buffers", "record"]),
            ("convert", &["record", "partition"]),
            ("format", &["buffers", "record", "convert", "infer", "read"]),
            ("quarantine", &["record"]),
            ("cut", &["compress", "convert", "progress", "quarantine", "record"]),
            (
                "copy",
                &[
                    "bandwidth",
                    "buffers",
                    "compress",
                    "convert",
                    "cut",
                    "format",
                    "partition",
                    "progress",
                    "read",
                    "record",
                    "stage",
                ],
            ),
            ("list", &["convert", "format", "infer", "read"]),
            ("clear", &["read"]),
            ("trial", &["compress", "convert", "format", "read", "record"]),
            (
                "slots",
                &["bandwidth", "clear", "copy", "list", "meters", "progress", "read", "signatures", "stage", "trial"],
            ),
            ("link", &["bandwidth", "identity", "slots", "health", "meters", "stage"]),
        ],
    ),
];

/// Names behind `crate::` in a text: the first part of each path, inside braces too.
fn crate_paths(text: &str) -> Vec<String> {
    let mut found = Vec::new();
    let word = |text: &str| text.chars().take_while(|c| c.is_alphanumeric() || *c == '_').collect::<String>();
    for (at, _) in text.match_indices("crate::") {
        let rest = &text[at + "crate::".len()..];
        match rest.strip_prefix('{') {
            None => found.push(word(rest)),
            Some(list) => {
                let mut depth = 0;
                let mut begins = true;
                for (at, c) in list.char_indices() {
                    match c {
                        '{' => depth += 1,
                        '}' if depth == 0 => break,
                        '}' => depth -= 1,
                        ',' if depth == 0 => begins = true,
                        c if depth == 0 && begins && c.is_alphabetic() => {
                            found.push(word(&list[at..]));
                            begins = false;
                        }
                        _ => {}
                    }
                }
            }
        }
    }
    found
}

#[test]
fn modules_import_one_way() {
    for (name, modules) in MODULES {
        let allowed: BTreeMap<_, _> = modules.iter().copied().collect();
        let source = root().join(name).join("src");
        for file in rust_files(&source) {
            let relative = file.strip_prefix(&source).unwrap().to_str().unwrap().to_owned();
            let module = relative.split(['/', '.']).next().unwrap().to_owned();
            if module == "lib" || module == "config" {
                continue;
            }
            let allowed = allowed
                .get(module.as_str())
                .unwrap_or_else(|| panic!("{name}: module {module} has no row in this table"));
            for used in crate_paths(&fs::read_to_string(&file).unwrap()) {
                // A name in capitals is one that lib.rs gives on.
                let is_type = used.starts_with(char::is_uppercase);
                assert!(
                    is_type || used == module || used == "config" || allowed.contains(&used.as_str()),
                    "{name}: {relative} may not use crate::{used}"
                );
            }
        }
    }
}

#[test]
fn states_and_scheduler_do_no_io() {
    for file in rust_files(&root().join("coordinator/src/state"))
        .into_iter()
        .chain([root().join("coordinator/src/scheduler.rs")])
    {
        let text = fs::read_to_string(&file).unwrap();
        for word in ["tokio", "sqlx", "axum", "tonic", "reqwest", "std::fs", "std::net", "Clock", "async fn", "Instant"]
        {
            assert!(!text.contains(word), "{} names {word}", file.display());
        }
    }
}

#[test]
fn only_the_two_ends_of_the_link_name_generated_types() {
    let allowed = [
        "common/src/wire",
        "common/src/link.rs",
        "node/src/link.rs",
        "node/src/identity.rs",
        "coordinator/src/rpc/join.rs",
        "coordinator/src/rpc/node.rs",
        "tests/bench/control/nodes.rs",
        "tests/harness/intruder.rs",
        "tests/tidy/main.rs",
    ];
    for (name, _) in CRATES {
        for file in rust_files(&root().join(name)) {
            let relative = file.strip_prefix(root()).unwrap().to_str().unwrap().to_owned();
            if !allowed.iter().any(|a| relative.starts_with(a)) {
                let text = fs::read_to_string(&file).unwrap();
                assert!(!text.contains("wire::generated"), "{relative} names generated types");
            }
        }
    }
}

#[test]
fn every_failure_code_has_a_section() {
    let text = fs::read_to_string(root().join("docs/failures.md")).unwrap();
    let told: Vec<_> = text.lines().filter_map(|l| l.strip_prefix("## ")).collect();
    let codes: Vec<_> = ferry_common::failure::Code::ALL.iter().map(|c| c.as_str()).collect();
    for code in &codes {
        assert!(told.contains(code), "docs/failures.md has no section {code}");
    }
    for section in told {
        assert!(codes.contains(&section), "docs/failures.md tells of {section}, which is no code");
    }
}

#[test]
fn every_dependency_has_its_reason() {
    let manifest = fs::read_to_string(root().join("Cargo.toml")).unwrap();
    let reasons = fs::read_to_string(root().join("docs/decisions/dependencies.md")).unwrap();
    let section = manifest.split("[workspace.dependencies]").nth(1).unwrap().split("\n[").next().unwrap();
    for name in section.lines().filter_map(|l| l.split_once(" = ")).map(|(name, _)| name.trim()) {
        if !name.starts_with("ferry-") {
            assert!(reasons.contains(&format!("`{name}`")), "docs/decisions/dependencies.md has no line on {name}");
        }
    }
}

#[test]
fn enums_of_the_protocol_begin_unspecified() {
    for name in ["types", "node", "join"] {
        let text = fs::read_to_string(root().join(format!("proto/ferry/v1/{name}.proto"))).unwrap();
        for part in text.split("\nenum ").skip(1) {
            let first = part.lines().nth(1).unwrap();
            assert!(first.contains("_UNSPECIFIED = 0;"), "{name}.proto: {first}");
        }
    }
}
