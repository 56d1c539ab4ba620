//! What to do about each failure: the words of `docs/failures.md`, which every failure's code has a section in.

use ferry_common::failure::Code;
use std::{collections::HashMap, sync::LazyLock};

const TOLD: &str = include_str!("../../docs/failures.md");

static REMEDIES: LazyLock<HashMap<&'static str, String>> = LazyLock::new(|| {
    let sections = TOLD.split("\n## ").skip(1);
    sections.filter_map(|section| section.split_once('\n')).map(|(code, words)| (code.trim(), plain(words))).collect()
});

/// A section in one paragraph.
fn plain(words: &str) -> String {
    words.split_whitespace().collect::<Vec<_>>().join(" ")
}

/// What the code means, and what to do about it. Empty for a code that nothing is told of.
pub(crate) fn remedy(code: Code) -> &'static str {
    REMEDIES.get(code.as_str()).map_or("", String::as_str)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_code_has_a_remedy() {
        for code in Code::ALL {
            let words = remedy(*code);
            assert!(words.len() > 20 && !words.contains('\n') && !words.contains("##"), "{code}: {words:?}");
        }
        assert!(remedy(Code::SecretMissing).contains("set the variable"), "{}", remedy(Code::SecretMissing));
    }
}
