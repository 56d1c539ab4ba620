//! JSON paths as ingestion mappings have them: `$.a.b`, `$['odd name'][0]`.

/// A step of a path.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Step {
    /// A property.
    Key(String),
    /// An element of an array.
    Element(usize),
}

/// A path into a JSON value.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct JsonPath {
    /// It begins at the whole record, not at an element of the collection.
    pub is_absolute: bool,
    /// Its steps.
    pub steps: Vec<Step>,
}

impl JsonPath {
    /// Takes a path apart; `None` if it is none. A path without `$` begins at an element of the collection.
    pub fn parse(path: &str) -> Option<Self> {
        let (is_absolute, mut rest) = match path.strip_prefix('$') {
            Some(rest) => (true, rest),
            None => (false, path),
        };
        let mut steps = Vec::new();
        if !is_absolute && !rest.is_empty() && !rest.starts_with('[') && !rest.starts_with('.') {
            let end = rest.find(['.', '[']).unwrap_or(rest.len());
            steps.push(Step::Key(rest[..end].to_owned()));
            rest = &rest[end..];
        }
        while !rest.is_empty() {
            if let Some(after) = rest.strip_prefix("['") {
                let mut key = String::new();
                let mut chars = after.char_indices();
                let end = loop {
                    match chars.next()? {
                        (_, '\\') => key.push(chars.next()?.1),
                        (at, '\'') => break at,
                        (_, c) => key.push(c),
                    }
                };
                steps.push(Step::Key(key));
                rest = after[end + 1..].strip_prefix(']')?;
            } else if let Some(after) = rest.strip_prefix('[') {
                let (number, after) = after.split_once(']')?;
                steps.push(Step::Element(number.parse().ok()?));
                rest = after;
            } else {
                let after = rest.strip_prefix('.')?;
                let end = after.find(['.', '[']).unwrap_or(after.len());
                if end == 0 {
                    return None;
                }
                steps.push(Step::Key(after[..end].to_owned()));
                rest = &after[end..];
            }
        }
        Some(Self { is_absolute, steps })
    }

    /// The path's first property, and the steps after it.
    pub fn head(&self) -> Option<(&str, &[Step])> {
        match self.steps.split_first()? {
            (Step::Key(key), rest) => Some((key, rest)),
            (Step::Element(_), _) => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_are_taken_apart() {
        let key = |k: &str| Step::Key(k.to_owned());
        for (path, is_absolute, steps) in [
            ("$", true, vec![]),
            ("$.a.b[0]", true, vec![key("a"), key("b"), Step::Element(0)]),
            (r"$['a']['b'][1]['it\'s']", true, vec![key("a"), key("b"), Step::Element(1), key("it's")]),
            ("a.b", false, vec![key("a"), key("b")]),
        ] {
            assert_eq!(JsonPath::parse(path), Some(JsonPath { is_absolute, steps }), "{path}");
        }
        for bad in ["$a", "$..a", "$[x]", "$['a"] {
            assert!(JsonPath::parse(bad).is_none(), "{bad}");
        }
    }
}
