//! Checked settings of a node.

use crate::read::Roots;
use ferry_common::{id::RuntimeName, timetable::Timetable};
use std::net::SocketAddr;

/// Settings of a node.
#[derive(Debug, Clone)]
pub struct NodeConfig {
    /// Address of the coordinator, such as `http://127.0.0.1:7400`.
    pub coordinator: String,
    /// The integration runtime it belongs to.
    pub runtime: RuntimeName,
    /// Its name, for people.
    pub name: String,
    /// Attempts it runs at once.
    pub slots: u32,
    /// Folders it may read.
    pub roots: Roots,
    /// How much it may send to staging.
    pub bandwidth: Timetable,
    /// Where its health is served, if anywhere.
    pub health: Option<SocketAddr>,
}
