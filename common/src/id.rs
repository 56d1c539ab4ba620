//! Typed ids. An id is checked where it enters and trusted afterwards.

use serde::{Deserialize, Serialize};
use std::fmt;

/// Longest run or node name.
pub const NAME_CHARS_MAX: usize = 63;

/// A text that is not fit to be an id.
#[derive(Debug, Clone, thiserror::Error, PartialEq, Eq)]
#[error(
    "{kind} {text:?} must have 1 to {NAME_CHARS_MAX} letters, digits, '-', '_' or '.', and start with a letter or digit"
)]
pub struct InvalidId {
    kind: &'static str,
    text: String,
}

fn is_name(text: &str) -> bool {
    text.len() <= NAME_CHARS_MAX
        && text.starts_with(|c: char| c.is_ascii_alphanumeric())
        && text.chars().all(|c| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.'))
}

macro_rules! name_id {
    ($(#[$doc:meta])* $name:ident, $kind:literal) => {
        $(#[$doc])*
        #[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
        #[serde(try_from = "String", into = "String")]
        pub struct $name(String);

        impl $name {
            /// The id as text.
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }
        impl TryFrom<String> for $name {
            type Error = InvalidId;
            fn try_from(text: String) -> Result<Self, InvalidId> {
                if is_name(&text) { Ok(Self(text)) } else { Err(InvalidId { kind: $kind, text }) }
            }
        }
        impl std::str::FromStr for $name {
            type Err = InvalidId;
            fn from_str(text: &str) -> Result<Self, InvalidId> {
                Self::try_from(text.to_owned())
            }
        }
        impl From<$name> for String {
            fn from(id: $name) -> String {
                id.0
            }
        }
        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }
    };
}

name_id!(
    /// Names one run. The caller picks it, so that submitting twice is one run.
    RunId, "run id");
name_id!(
    /// Names one life of a node: a restarted program is a new node.
    NodeId, "node id");
name_id!(
    /// Names an integration runtime: a pool of nodes that can reach the same sources.
    RuntimeName, "integration runtime");

name_id!(
    /// Names a node as its certificates do, over all its lives.
    IdentityId, "identity");

impl IdentityId {
    /// A new id.
    pub fn generate() -> Self {
        Self(uuid::Uuid::now_v7().to_string())
    }
}

impl RunId {
    /// A new id, later ones sorting after earlier ones.
    pub fn generate() -> Self {
        Self(uuid::Uuid::now_v7().to_string())
    }
}

impl NodeId {
    /// A new id.
    pub fn generate() -> Self {
        Self(uuid::Uuid::now_v7().to_string())
    }
}

impl Default for RuntimeName {
    fn default() -> Self {
        Self("default".to_owned())
    }
}

macro_rules! number_id {
    ($(#[$doc:meta])* $name:ident, $of:ty) => {
        $(#[$doc])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
        #[serde(transparent)]
        pub struct $name(pub $of);

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                self.0.fmt(f)
            }
        }
    };
}

number_id!(
    /// A work unit of a run. 0 is the listing of the source; files count from 1.
    UnitNumber, u64);
number_id!(
    /// A try at a unit, from 1; a number is never reused.
    AttemptNumber, u32);
number_id!(
    /// A chunk of a file, from 0 without gaps.
    ChunkNumber, u32);

impl UnitNumber {
    /// The unit that stands for listing the source.
    pub const LISTING: Self = Self(0);
}

/// Proves the right to one attempt. Not shown by `Debug`, so that a log does not hand it on.
#[derive(Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct LeaseToken(String);

impl LeaseToken {
    /// A new token that nobody can guess.
    pub fn generate() -> Self {
        Self(uuid::Uuid::new_v4().to_string())
    }

    /// A token as it came over the wire. Any text will do: only an equal one opens anything.
    pub fn from_wire(text: String) -> Self {
        Self(text)
    }

    /// The token as text, for the wire.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for LeaseToken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("LeaseToken(..)")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_checked_where_they_enter() {
        for (text, good) in [
            ("run-1", true),
            ("2026.11_a", true),
            ("", false),
            ("-x", false),
            ("a/b", false),
            ("a b", false),
            ("é", false),
        ] {
            assert_eq!(text.parse::<RunId>().is_ok(), good, "{text:?}");
        }
        assert!("x".repeat(NAME_CHARS_MAX + 1).parse::<RunId>().is_err());
    }
}
