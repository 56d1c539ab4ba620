//! What becomes of source files once their rows are visible.

use super::Source;
use std::path::{Component, Path};

/// What becomes of a file that is loaded.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum AfterCompletion<'a> {
    /// It is deleted.
    Delete,
    /// It is moved below this folder.
    Move(&'a str),
}

impl AfterCompletion<'_> {
    /// The setting that asks for it, as people write it.
    pub fn setting(self) -> &'static str {
        match self {
            Self::Delete => "source.deleteFilesAfterCompletion",
            Self::Move(_) => "source.moveFilesAfterCompletion",
        }
    }
}

impl Source {
    /// What becomes of files once their rows are visible; `None`: nothing.
    pub fn after_completion(&self) -> Option<AfterCompletion<'_>> {
        match &self.move_files_after_completion {
            Some(folder) => Some(AfterCompletion::Move(folder)),
            None => self.delete_files_after_completion.then_some(AfterCompletion::Delete),
        }
    }

    /// The coordinator remembers which files are loaded: they are to be left out, or they might be left in place.
    pub fn keeps_ledger(&self) -> bool {
        self.skip_loaded_files || self.after_completion().is_some()
    }

    /// The same source with nothing said of that: nodes of an older release take no setting that is new to them.
    pub fn without_after_completion(&self) -> Self {
        Self { delete_files_after_completion: false, move_files_after_completion: None, ..self.clone() }
    }

    pub(super) fn check_after_completion(&self) -> Result<(), String> {
        let Some(folder) = &self.move_files_after_completion else { return Ok(()) };
        if self.delete_files_after_completion {
            return Err(
                "source: only one of deleteFilesAfterCompletion, moveFilesAfterCompletion may be given".to_owned()
            );
        }
        let (to, from) = (Path::new(folder), Path::new(&self.folder_path));
        let is_plain = to.components().all(|part| matches!(part, Component::RootDir | Component::Normal(_)));
        if !to.is_absolute() || !is_plain {
            return Err(format!("source.moveFilesAfterCompletion {folder:?} must be absolute, without .. in it"));
        }
        let is_walked = self.recursive && self.file_name.is_none() && self.file_list_path.is_none();
        if to == from || (is_walked && to.starts_with(from)) {
            return Err(format!(
                "source.moveFilesAfterCompletion {folder:?} lies in source.folderPath, where the next run would load the files again; \
                 name a folder beside it"
            ));
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn source(more: &str) -> Source {
        let text = format!(r#"{{"type":"FileSystem","folderPath":"/in","format":{{"type":"Json"}}{more}}}"#);
        serde_json::from_str(&text).unwrap()
    }

    #[test]
    fn files_are_left_alone_unless_it_is_said() {
        for (more, expected) in [
            ("", None),
            (r#","deleteFilesAfterCompletion":false"#, None),
            (r#","deleteFilesAfterCompletion":true"#, Some(AfterCompletion::Delete)),
            (r#","moveFilesAfterCompletion":"/done""#, Some(AfterCompletion::Move("/done"))),
        ] {
            let source = source(more);
            source.check_after_completion().unwrap();
            assert_eq!(source.after_completion(), expected, "{more}");
            let sent = serde_json::to_string(&source.without_after_completion()).unwrap();
            assert!(!sent.contains("AfterCompletion"), "an older node would refuse {sent}");
        }
    }

    #[test]
    fn a_folder_that_files_cannot_go_to_is_refused() {
        for (case, more, word) in [
            ("both", r#","deleteFilesAfterCompletion":true,"moveFilesAfterCompletion":"/done""#, "only one of"),
            ("relative", r#","moveFilesAfterCompletion":"done""#, "absolute"),
            ("upwards", r#","moveFilesAfterCompletion":"/done/../in2""#, "absolute"),
            ("the same", r#","moveFilesAfterCompletion":"/in/""#, "load the files again"),
            ("read again", r#","moveFilesAfterCompletion":"/in/done""#, "load the files again"),
        ] {
            let why = source(more).check_after_completion().unwrap_err();
            assert!(why.contains(word), "{case}: {why}");
        }
        for more in [
            r#","moveFilesAfterCompletion":"/in-done""#,
            r#","moveFilesAfterCompletion":"/in/done","recursive":false"#,
            r#","moveFilesAfterCompletion":"/in/done","fileName":"a.json""#,
        ] {
            source(more).check_after_completion().unwrap();
        }
    }
}
