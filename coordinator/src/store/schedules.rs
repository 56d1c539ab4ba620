//! Schedules, as they are kept: what is to be run, and how far it came.

use super::StoreError;
use crate::schedule::{Schedule, Window};
use async_trait::async_trait;
use ferry_common::{clock::Millis, failure::Failure, id::RunId};
use serde::{Deserialize, Serialize};

/// A schedule, as stored.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ScheduleRow {
    /// What is to be run, and when.
    pub schedule: Schedule,
    /// Changes with every write.
    #[serde(skip)]
    pub revision: i64,
    /// No new window begins.
    pub is_paused: bool,
    /// When it was first stored.
    pub created: Millis,
    /// Where the next window begins.
    pub reached: Millis,
    /// The newest window and its run.
    pub last: Option<LastWindow>,
    /// Why the newest window has no run.
    pub failure: Option<Failure>,
}

/// The newest window of a schedule, and its run.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct LastWindow {
    /// The window.
    pub window: Window,
    /// Its run.
    pub run: RunId,
    /// The run was submitted.
    pub is_submitted: bool,
}

/// Where schedules are kept. Each change is all or nothing, and holds for all coordinators at once.
#[async_trait]
pub trait Schedules: Send + Sync {
    /// All of them, by name.
    async fn schedules(&self) -> Result<Vec<ScheduleRow>, StoreError>;

    /// One of them.
    async fn schedule(&self, name: &str) -> Result<Option<ScheduleRow>, StoreError>;

    /// Keeps a new one (revision 0), or changes the one that was read with this revision. Conflict if it was changed since.
    async fn put_schedule(&self, row: &ScheduleRow) -> Result<(), StoreError>;

    /// The time: of the database, where several coordinators with clocks of their own share it.
    async fn time(&self) -> Result<Millis, StoreError>;

    /// Forgets one; its runs stay. False if there is none.
    async fn delete_schedule(&self, name: &str) -> Result<bool, StoreError>;
}
