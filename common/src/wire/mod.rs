//! The generated types, and conversions both ways. Only this module and [`crate::link`] name them; the rest of both
//! programs sees plain values.

mod convert;

/// What `proto/` compiles to.
#[allow(missing_docs, unreachable_pub, unused_qualifications, clippy::all, reason = "generated")]
pub mod generated {
    tonic::include_proto!("ferry.v1");
}

/// A message that this version cannot understand.
#[derive(Debug, thiserror::Error)]
pub enum WireError {
    /// A field that must be there is not.
    #[error("message lacks {0}")]
    Missing(&'static str),
    /// A field holds what it must not.
    #[error("{field}: {why}")]
    Invalid {
        /// The field.
        field: &'static str,
        /// What is wrong with it.
        why: String,
    },
}

impl WireError {
    fn invalid(field: &'static str, why: impl std::fmt::Display) -> Self {
        Self::Invalid { field, why: why.to_string() }
    }
}
