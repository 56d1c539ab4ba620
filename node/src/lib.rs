//! A node: lists sources, reads one file per attempt, stages its chunks and reports. It dials out only, keeps nothing
//! that matters, and never talks to Azure Data Explorer.

mod config;
mod copy;
pub mod format;
mod health;
mod infer;
mod link;
mod list;
pub mod read;
mod slots;
mod stage;

pub use config::NodeConfig;
pub use link::run;
