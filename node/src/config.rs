//! Checked settings of a node.

use crate::read::Roots;
use ferry_common::{id::RuntimeName, timetable::Timetable};
use std::{net::SocketAddr, path::PathBuf};

/// Settings of a node.
#[derive(Debug, Clone)]
pub struct NodeConfig {
    /// Address of the coordinator, such as `https://host:7400`.
    pub coordinator: String,
    /// The integration runtime it belongs to.
    pub runtime: RuntimeName,
    /// Its name, for people.
    pub name: String,
    /// Attempts it runs at once.
    pub slots: u32,
    /// Folders it may read.
    pub roots: Roots,
    /// It may delete and move files there, where a run asks for it.
    pub may_change_sources: bool,
    /// How much it may send to staging.
    pub bandwidth: Timetable,
    /// Where its health is served, if anywhere.
    pub health: Option<SocketAddr>,
    /// How it comes by its client certificate; `None`: it needs none.
    pub membership: Option<MembershipConfig>,
}

/// How a node comes by its client certificate.
#[derive(Debug, Clone)]
pub struct MembershipConfig {
    /// Where key and certificate are kept.
    pub folder: PathBuf,
    /// A file with a join token, for the first time.
    pub token_file: Option<PathBuf>,
    /// Authorities to believe, PEM; `None`: the one that the token names, or whom the machine believes.
    pub authority: Option<PathBuf>,
}
