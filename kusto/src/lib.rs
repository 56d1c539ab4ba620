//! A client for Azure Data Explorer (Kusto): commands, queries, replies, judged errors. It knows nothing of runs.
//!
//! Sources of outside facts: the public documentation of the REST API and of the management commands, and what
//! Microsoft's open client libraries send and accept.

pub mod auth;
mod client;
pub mod commands;
mod error;
mod frames;
pub mod queued;
pub mod text;

pub use client::{Client, ClientOptions, Engine, Reply, RequestId};
pub use error::{KustoError, ServiceError};
pub use frames::{Column, Table};
