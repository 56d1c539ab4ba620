//! What a plan is known by: activity, files and columns, each as a hash, so that a run can tell whether it finds what was
//! planned, and which of the three is another. Pure.

use crate::planner::Plan;
use ferry_common::{
    activity::Activity,
    failure::{Code, Failure},
    id::RunId,
    unit::FileVersion,
};
use ring::digest::{Context, SHA256, digest};
use serde::{Deserialize, Serialize};
use std::collections::HashMap;

/// Names of files that a message lists.
const NAMES_MAX: usize = 5;

/// The plan that a run must find.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Expected {
    /// Its fingerprint.
    pub fingerprint: String,
    /// What the fingerprint is made of, to tell what is another.
    #[serde(default)]
    pub parts: Option<Parts>,
    /// The dry run that made it, to tell which files are others.
    #[serde(default)]
    pub run_id: Option<RunId>,
    /// Its files.
    #[serde(default)]
    pub files: Option<u64>,
    /// Their bytes.
    #[serde(default)]
    pub bytes: Option<u64>,
}

/// What a fingerprint is made of: SHA-256 in hexadecimal digits.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Parts {
    /// Of the activity, defaults filled in.
    pub activity: String,
    /// Of the files: path, size, time and etag of each.
    pub files: String,
    /// Of the column plan.
    pub columns: String,
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn hash_of(value: &impl Serialize) -> String {
    // Plain values: writing them to memory does not fail.
    hex(digest(&SHA256, &serde_json::to_vec(value).unwrap_or_default()).as_ref())
}

impl Parts {
    /// The parts of a run's plan.
    pub(crate) fn of(activity: &Activity, files: &FilesSum, plan: &Plan) -> Self {
        Self { activity: hash_of(activity), files: files.hash(), columns: hash_of(plan) }
    }

    /// The fingerprint.
    pub(crate) fn whole(&self) -> String {
        let text = format!("ferry plan 1\n{}\n{}\n{}\n", self.activity, self.files, self.columns);
        hex(digest(&SHA256, text.as_bytes()).as_ref())
    }
}

/// The files of a run. In which order a node found them changes nothing: two nodes may list a folder in two orders.
#[derive(Debug, Clone, Default)]
pub(crate) struct FilesSum {
    /// The sum of the hashes of all files, modulo 2^256, the lowest byte first.
    sum: [u8; 32],
    pub(crate) count: u64,
    pub(crate) bytes: u64,
}

impl FilesSum {
    pub(crate) fn add(&mut self, file: &FileVersion) {
        self.count += 1;
        self.bytes += file.size_bytes;
        let mut context = Context::new(&SHA256);
        for text in [&file.relative_path, &file.etag] {
            context.update(&(text.len() as u64).to_le_bytes());
            context.update(text.as_bytes());
        }
        context.update(&file.size_bytes.to_le_bytes());
        context.update(&file.modified_ns.to_le_bytes());
        let mut carry = 0;
        for (byte, more) in self.sum.iter_mut().zip(context.finish().as_ref()) {
            let added = u16::from(*byte) + u16::from(*more) + carry;
            *byte = (added & 0xff) as u8;
            carry = added >> 8;
        }
    }

    fn hash(&self) -> String {
        hash_of(&(self.sum, self.count))
    }
}

/// Some names, and how many there are.
#[derive(Debug, Default)]
struct Names {
    count: u64,
    first: Vec<String>,
}

impl Names {
    fn add(&mut self, name: &str) {
        self.count += 1;
        if self.first.len() < NAMES_MAX {
            self.first.push(name.to_owned());
        }
    }

    fn told(&self, what: &str) -> Option<String> {
        let more = if self.count > self.first.len() as u64 { ", ..." } else { "" };
        (self.count > 0).then(|| format!("{} {what} ({}{more})", self.count, self.first.join(", ")))
    }
}

/// Two sets of files, held against each other by their paths.
#[derive(Debug, Default)]
pub(crate) struct Comparison {
    /// Of those that were planned and are not found yet.
    planned: HashMap<String, (u64, i64, String)>,
    added: Names,
    changed: Names,
}

impl Comparison {
    /// A file that was planned.
    pub(crate) fn plan(&mut self, file: &FileVersion) {
        let version = (file.size_bytes, file.modified_ns, file.etag.clone());
        self.planned.insert(file.relative_path.clone(), version);
    }

    /// A file that is there, once all planned ones are known.
    pub(crate) fn find(&mut self, file: &FileVersion) {
        match self.planned.remove(&file.relative_path) {
            None => self.added.add(&file.relative_path),
            Some((size, modified, etag)) => {
                if (size, modified, &etag) != (file.size_bytes, file.modified_ns, &file.etag) {
                    self.changed.add(&file.relative_path);
                }
            }
        }
    }

    /// What differs, in words.
    pub(crate) fn told(self) -> String {
        let mut gone: Vec<_> = self.planned.into_keys().collect();
        gone.sort();
        let mut removed = Names::default();
        gone.iter().for_each(|name| removed.add(name));
        let told = [self.added.told("added"), removed.told("gone"), self.changed.told("changed")];
        format!("files: {}", told.into_iter().flatten().collect::<Vec<_>>().join(", "))
    }
}

/// The failure of a run that does not find the plan it expects. `files_told` says how the files differ, where that is known.
pub(crate) fn changed(expected: &Expected, found: &Parts, files: &FilesSum, files_told: Option<String>) -> Failure {
    let mut reasons = Vec::new();
    match &expected.parts {
        None => reasons.push("files, activity or columns are not what was planned".to_owned()),
        Some(parts) => {
            if parts.activity != found.activity {
                reasons.push("the activity is another one, or another version of ferry planned it".to_owned());
            }
            if parts.columns != found.columns {
                reasons.push("the columns of the files or of the table, or their mapping, are others".to_owned());
            }
            if parts.files != found.files {
                let planned = match (expected.files, expected.bytes) {
                    (Some(count), Some(bytes)) => format!("{count} files of {bytes} bytes were planned"),
                    _ => "the files are not those that were planned".to_owned(),
                };
                let told = files_told.unwrap_or_else(|| {
                    format!("{planned}, and {} files of {} bytes are there", files.count, files.bytes)
                });
                reasons.push(told);
            }
            if reasons.is_empty() {
                reasons.push("the plan's fingerprint is not that of its parts".to_owned());
            }
        }
    }
    let message = format!("the plan does not hold any more: {}; nothing was copied. Plan anew", reasons.join("; "));
    Failure::settings(Code::PlanChanged, message)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn file(name: &str, size_bytes: u64, modified_ns: i64) -> FileVersion {
        let path = format!("/d/{name}");
        FileVersion { path, relative_path: name.to_owned(), size_bytes, modified_ns, etag: "e".to_owned() }
    }

    fn sum(files: &[FileVersion]) -> FilesSum {
        let mut sum = FilesSum::default();
        files.iter().for_each(|file| sum.add(file));
        sum
    }

    #[test]
    fn the_order_of_files_does_not_matter_and_everything_else_does() {
        let (a, b) = (file("a", 1, 2), file("b", 1, 2));
        let both = sum(&[a.clone(), b.clone()]).hash();
        assert_eq!(sum(&[b.clone(), a.clone()]).hash(), both);
        let other_etag = FileVersion { etag: "f".to_owned(), ..b.clone() };
        for (case, others) in [
            ("one is missing", vec![a.clone()]),
            ("one is there twice", vec![a.clone(), b.clone(), b.clone()]),
            ("another size", vec![a.clone(), file("b", 2, 2)]),
            ("another time", vec![a.clone(), file("b", 1, 3)]),
            ("another name", vec![a.clone(), file("c", 1, 2)]),
            ("another etag", vec![a.clone(), other_etag]),
        ] {
            assert_ne!(sum(&others).hash(), both, "{case}");
        }
    }

    #[test]
    fn sums_carry_over_all_bytes() {
        let files: Vec<_> = (0..1_000).map(|n| file(&n.to_string(), n, 0)).collect();
        let mut reversed = files.clone();
        reversed.reverse();
        assert_eq!(sum(&files).hash(), sum(&reversed).hash());
        assert_eq!((sum(&files).count, sum(&files).bytes), (1_000, 499_500));
    }

    #[test]
    fn differences_are_told_by_name() {
        let mut comparison = Comparison::default();
        for name in ["same", "changed", "gone"] {
            comparison.plan(&file(name, 1, 1));
        }
        comparison.find(&file("same", 1, 1));
        comparison.find(&file("changed", 1, 2));
        (0..7).for_each(|n| comparison.find(&file(&format!("new-{n}"), 1, 1)));
        let told = comparison.told();
        assert_eq!(told, "files: 7 added (new-0, new-1, new-2, new-3, new-4, ...), 1 gone (gone), 1 changed (changed)");
    }

    #[test]
    fn a_changed_plan_says_which_part_is_another() {
        let parts = |activity: &str, files: &str, columns: &str| Parts {
            activity: activity.to_owned(),
            files: files.to_owned(),
            columns: columns.to_owned(),
        };
        let planned = parts("a", "f", "c");
        let expected = Expected {
            fingerprint: planned.whole(),
            parts: Some(planned.clone()),
            run_id: None,
            files: Some(3),
            bytes: Some(30),
        };
        for (found, words) in [
            (parts("x", "f", "c"), "the activity is another one"),
            (parts("a", "f", "x"), "the columns of the files or of the table"),
            (parts("a", "x", "c"), "3 files of 30 bytes were planned, and 0 files of 0 bytes are there"),
        ] {
            assert_ne!(found.whole(), expected.fingerprint);
            let failure = changed(&expected, &found, &FilesSum::default(), None);
            assert_eq!(failure.code, Code::PlanChanged);
            assert!(failure.message.contains(words), "{failure}");
        }
        let told = changed(&expected, &parts("a", "x", "c"), &FilesSum::default(), Some("files: 1 changed".to_owned()));
        assert!(told.message.contains("files: 1 changed"), "{told}");
    }
}
