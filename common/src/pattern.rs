//! Patterns of paths, as settings and commands have them: `*`, `?`, `[..]`, `{a,b}`, and `**` for any number of folders.

use globset::{GlobBuilder, GlobMatcher};
use std::path::Path;

/// A pattern, matched against whole paths if it has a `/`, else against file names.
#[derive(Debug, Clone)]
pub struct PathPattern {
    matcher: GlobMatcher,
    whole_path: bool,
}

impl PathPattern {
    /// Reads a pattern. Fails with the pattern and what is wrong with it.
    pub fn new(text: &str) -> Result<Self, String> {
        let glob = GlobBuilder::new(text).literal_separator(true).build();
        let glob = glob.map_err(|e| format!("{text:?}: {}", e.kind()))?;
        Ok(Self { matcher: glob.compile_matcher(), whole_path: text.contains('/') })
    }

    /// Whether a file of that path is meant.
    pub fn matches(&self, path: &Path) -> bool {
        if self.whole_path {
            self.matcher.is_match(path)
        } else {
            path.file_name().is_some_and(|name| self.matcher.is_match(name))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn patterns_mean_whole_paths_or_names() {
        for (pattern, path, expected) in [
            ("/d/**", "/d/a/b.csv", true),
            ("/d/*", "/d/a/b.csv", false),
            ("/d/**", "/e/a/b.csv", false),
            ("*.csv", "/d/a/b.csv", true),
            ("b.{csv,txt}", "/d/a/b.csv", true),
            ("a", "/d/a/b.csv", false),
        ] {
            assert_eq!(PathPattern::new(pattern).unwrap().matches(Path::new(path)), expected, "{pattern} {path}");
        }
        assert!(PathPattern::new("[").is_err());
    }
}
