//! A run: one execution of a copy activity.

use super::Refused;
use ferry_common::failure::Failure;
use serde::{Deserialize, Serialize};

/// State of a run.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum RunState {
    /// Waits to be admitted.
    Queued,
    /// The source is being listed, the sink looked at.
    Planning,
    /// Nodes stage files.
    Copying,
    /// The cluster ingests what is staged.
    Ingesting,
    /// Every row is in the run's staging table and becomes visible with one command. Cannot be cancelled any more.
    Publishing,
    /// Every row is visible; nodes delete or move the files that were loaded. Cannot fail, and ends early when asked to.
    Clearing,
    /// Asked to end; what is in flight is followed to its end.
    Cancelling,
    /// Cannot succeed; what is in flight is followed to its end.
    Failing {
        /// Why.
        failure: Failure,
    },
    /// A dry run whose plan is there to be looked at. Final.
    Planned,
    /// Every row is in the table. Final.
    Succeeded,
    /// Ended as asked. Final.
    Cancelled,
    /// Ended by a failure. Final.
    Failed {
        /// Why.
        failure: Failure,
    },
}

/// What happens to a run.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum RunEvent {
    /// There is room for it.
    Admitted,
    /// Its units and its mapping are stored.
    PlanStored,
    /// The plan of a dry run is stored: that is all it was for.
    PlanShown,
    /// No unit is pending or leased.
    LastUnitStaged,
    /// A unit must be copied again: its staging blob is gone.
    UnitReturned,
    /// Every unit is in the table.
    LastUnitIngested,
    /// Every unit is in the run's staging table.
    LastUnitGathered,
    /// Every row has become visible.
    Published,
    /// Every row is visible, and the files that were loaded are to be deleted or moved.
    FilesRemain,
    /// No file is to be deleted or moved any more.
    FilesCleared,
    /// The caller wants it to end.
    CancelAsked,
    /// It cannot succeed.
    FailureFound(Failure),
    /// No lease lives and no operation is in flight.
    Drained,
}

impl RunState {
    /// The state after `event`, or [`Refused`] where the table has no such row.
    pub fn apply(self, event: RunEvent) -> Result<Self, Refused> {
        use RunEvent as E;
        match (self, event) {
            (Self::Queued, E::Admitted) => Ok(Self::Planning),
            (Self::Planning, E::PlanStored) => Ok(Self::Copying),
            (Self::Planning, E::PlanShown) => Ok(Self::Planned),
            (Self::Copying, E::LastUnitStaged) => Ok(Self::Ingesting),
            (Self::Ingesting, E::UnitReturned) => Ok(Self::Copying),
            (Self::Ingesting, E::LastUnitIngested) => Ok(Self::Succeeded),
            (Self::Ingesting, E::LastUnitGathered) => Ok(Self::Publishing),
            (Self::Publishing, E::Published) => Ok(Self::Succeeded),
            (Self::Ingesting | Self::Publishing, E::FilesRemain) => Ok(Self::Clearing),
            // What a node has in hand is followed to its end.
            (Self::Clearing, E::CancelAsked) => Ok(Self::Clearing),
            (Self::Clearing, E::FilesCleared) => Ok(Self::Succeeded),
            (Self::Queued, E::CancelAsked) => Ok(Self::Cancelled),
            (Self::Planning | Self::Copying | Self::Ingesting, E::CancelAsked) => Ok(Self::Cancelling),
            (Self::Planning | Self::Copying | Self::Ingesting | Self::Publishing, E::FailureFound(failure)) => {
                Ok(Self::Failing { failure })
            }
            (Self::Cancelling, E::Drained) => Ok(Self::Cancelled),
            (Self::Failing { failure }, E::Drained) => Ok(Self::Failed { failure }),
            (state, event) => Err(Refused { state: state.name(), event: event.name() }),
        }
    }

    /// Name of the state, as stored and shown.
    pub fn name(&self) -> &'static str {
        match self {
            Self::Queued => "Queued",
            Self::Planning => "Planning",
            Self::Copying => "Copying",
            Self::Ingesting => "Ingesting",
            Self::Publishing => "Publishing",
            Self::Clearing => "Clearing",
            Self::Cancelling => "Cancelling",
            Self::Failing { .. } => "Failing",
            Self::Planned => "Planned",
            Self::Succeeded => "Succeeded",
            Self::Cancelled => "Cancelled",
            Self::Failed { .. } => "Failed",
        }
    }

    /// Nothing more will happen to the run.
    pub fn is_final(&self) -> bool {
        matches!(self, Self::Planned | Self::Succeeded | Self::Cancelled | Self::Failed { .. })
    }

    /// Why the run fails or failed.
    pub fn failure(&self) -> Option<&Failure> {
        match self {
            Self::Failing { failure } | Self::Failed { failure } => Some(failure),
            _ => None,
        }
    }
}

impl RunEvent {
    fn name(&self) -> &'static str {
        match self {
            Self::Admitted => "Admitted",
            Self::PlanStored => "PlanStored",
            Self::PlanShown => "PlanShown",
            Self::LastUnitStaged => "LastUnitStaged",
            Self::UnitReturned => "UnitReturned",
            Self::LastUnitIngested => "LastUnitIngested",
            Self::LastUnitGathered => "LastUnitGathered",
            Self::Published => "Published",
            Self::FilesRemain => "FilesRemain",
            Self::FilesCleared => "FilesCleared",
            Self::CancelAsked => "CancelAsked",
            Self::FailureFound(_) => "FailureFound",
            Self::Drained => "Drained",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_pair_of_state_and_event_is_as_the_table_says() {
        let failure = || Failure::internal("x");
        let states = [
            RunState::Queued,
            RunState::Planning,
            RunState::Copying,
            RunState::Ingesting,
            RunState::Publishing,
            RunState::Clearing,
            RunState::Cancelling,
            RunState::Failing { failure: failure() },
            RunState::Planned,
            RunState::Succeeded,
            RunState::Cancelled,
            RunState::Failed { failure: failure() },
        ];
        #[rustfmt::skip]
        let table: [(RunEvent, [&str; 8]); 13] = [
            //                                   Queued       Planning      Copying       Ingesting     Publishing   Clearing     Cancelling   Failing
            (RunEvent::Admitted,                ["Planning",  "",           "",           "",           "",          "",          "",          ""]),
            (RunEvent::PlanStored,              ["",          "Copying",    "",           "",           "",          "",          "",          ""]),
            (RunEvent::PlanShown,               ["",          "Planned",    "",           "",           "",          "",          "",          ""]),
            (RunEvent::LastUnitStaged,          ["",          "",           "Ingesting",  "",           "",          "",          "",          ""]),
            (RunEvent::UnitReturned,            ["",          "",           "",           "Copying",    "",          "",          "",          ""]),
            (RunEvent::LastUnitIngested,        ["",          "",           "",           "Succeeded",  "",          "",          "",          ""]),
            (RunEvent::LastUnitGathered,        ["",          "",           "",           "Publishing", "",          "",          "",          ""]),
            (RunEvent::Published,               ["",          "",           "",           "",           "Succeeded", "",          "",          ""]),
            (RunEvent::FilesRemain,             ["",          "",           "",           "Clearing",   "Clearing",  "",          "",          ""]),
            (RunEvent::FilesCleared,            ["",          "",           "",           "",           "",          "Succeeded", "",          ""]),
            (RunEvent::CancelAsked,             ["Cancelled", "Cancelling", "Cancelling", "Cancelling", "",          "Clearing",  "",          ""]),
            (RunEvent::FailureFound(failure()), ["",          "Failing",    "Failing",    "Failing",    "Failing",   "",          "",          ""]),
            (RunEvent::Drained,                 ["",          "",           "",           "",           "",          "",          "Cancelled", "Failed"]),
        ];
        for (event, expected) in table {
            for (at, state) in states.iter().enumerate() {
                // Final states accept nothing.
                let expected = expected.get(at).copied().filter(|name| !name.is_empty());
                let next = state.clone().apply(event.clone()).ok();
                assert_eq!(next.as_ref().map(RunState::name), expected, "{} in {}", event.name(), state.name());
            }
        }
    }
}
