//! A node: lists sources, reads one file per attempt, stages its chunks and reports; where it may, it deletes or moves what is loaded. It dials out only, keeps nothing
//! that matters, and never talks to Azure Data Explorer.

mod bandwidth;
pub mod buffers;
mod clear;
mod compress;
mod config;
pub mod convert;
mod copy;
mod cut;
pub mod format;
mod health;
mod identity;
pub mod infer;
mod link;
mod list;
mod meters;
pub mod partition;
mod progress;
mod quarantine;
pub mod read;
pub mod record;
mod signatures;
mod slots;
mod stage;
mod trial;

pub use compress::gzip_bytes_per_second;
pub use config::{MembershipConfig, NodeConfig};
pub use identity::IdentityError;
pub use link::{LinkError, run, run_over};
pub use stage::Around;
