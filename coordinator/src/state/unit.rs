//! A work unit: one thing that a node reads to its end. Unit 0 of a run is the source as a whole: first its listing, and at the end,
//! where that is asked for, what becomes of its files. The others are files.

use super::Refused;
use ferry_common::{
    clock::Millis,
    failure::{Failure, Fault, Retry, backoff},
    id::{AttemptNumber, LeaseToken, NodeId},
};
use serde::{Deserialize, Serialize};

/// A node's time-limited right to one attempt.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Lease {
    /// Who holds it.
    pub node: NodeId,
    /// The attempt.
    pub attempt: AttemptNumber,
    /// Proves it.
    pub token: LeaseToken,
    /// When it ends, unless it is renewed.
    pub expires: Millis,
}

/// State of a work unit.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum UnitState {
    /// Waits for a node.
    Pending {
        /// Failures so far that may be the unit's own fault.
        failures: u32,
        /// Not granted before this.
        not_before: Millis,
    },
    /// A node works on it.
    Leased {
        /// As in `Pending`.
        failures: u32,
        /// Whose it is.
        lease: Lease,
    },
    /// Every chunk's blob is committed.
    Staged {
        /// As in `Pending`.
        failures: u32,
        /// Chunks of the file.
        chunks: u32,
    },
    /// Every chunk is in the table. Final.
    Ingested,
    /// It cannot be copied. Final.
    Failed {
        /// Why.
        failure: Failure,
    },
    /// It cannot be copied, and the settings let it be left out. Final.
    Skipped {
        /// Why.
        failure: Failure,
    },
    /// The run was stopped. Final.
    Dropped,
}

/// What happens to a work unit.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum UnitEvent {
    /// The scheduler gave it to a node.
    Granted(Lease),
    /// The holder is alive, or has staged a chunk.
    Renewed {
        /// The holder's token.
        token: LeaseToken,
        /// The lease's new end.
        expires: Millis,
    },
    /// The holder has staged every chunk.
    Completed {
        /// The holder's token.
        token: LeaseToken,
        /// Chunks of the file.
        chunks: u32,
    },
    /// The holder gives it back.
    GivenBack {
        /// The holder's token.
        token: LeaseToken,
    },
    /// The holder's attempt failed.
    AttemptFailed {
        /// The holder's token.
        token: LeaseToken,
        /// Why.
        failure: Failure,
        /// When this is, and how many failures are too many.
        limit: RetryLimit,
    },
    /// The lease ended without a word.
    Expired(RetryLimit),
    /// Every chunk is in the table.
    Confirmed,
    /// A staging blob is gone before it was ingested.
    StagingLost {
        /// What the cluster said.
        failure: Failure,
        /// As in `AttemptFailed`.
        limit: RetryLimit,
    },
    /// The table refused the data.
    Rejected {
        /// What the cluster said.
        failure: Failure,
    },
    /// Counted once more, the table has another number of its rows than was staged.
    Miscounted {
        /// What was found.
        failure: Failure,
    },
    /// There is more to do at the source. Only for unit 0: a file that is in the table is done with.
    Reopened,
    /// The run fails or is cancelled.
    RunStopped,
}

/// What a retry depends on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RetryLimit {
    /// The time of the event.
    pub now: Millis,
    /// Failures at which the unit fails.
    pub failures_max: u32,
    /// A file that cannot be read is left out.
    pub skips_files: bool,
}

impl RetryLimit {
    fn next(self, failures: u32, failure: Failure) -> UnitState {
        let wait = match failure.retry {
            Retry::Never => return self.last(failure),
            _ if failures >= self.failures_max => return self.last(failure),
            Retry::Backoff => backoff(failures, 0.5),
            Retry::After(wait) => wait,
        };
        UnitState::Pending { failures, not_before: self.now.plus(wait) }
    }

    fn last(self, failure: Failure) -> UnitState {
        if self.skips_files && failure.fault == Fault::Source {
            UnitState::Skipped { failure }
        } else {
            UnitState::Failed { failure }
        }
    }
}

impl UnitState {
    /// A unit that waits for its first attempt.
    pub const NEW: Self = Self::Pending { failures: 0, not_before: Millis(0) };

    /// The state after `event`, or [`Refused`] where the table has no such row.
    pub fn apply(self, event: UnitEvent) -> Result<Self, Refused> {
        use UnitEvent as E;
        match (self, event) {
            (Self::Pending { failures, .. }, E::Granted(lease)) => Ok(Self::Leased { failures, lease }),
            (Self::Leased { failures, lease }, E::Renewed { token, expires }) if token == lease.token => {
                Ok(Self::Leased { failures, lease: Lease { expires: expires.max(lease.expires), ..lease } })
            }
            (Self::Leased { failures, lease }, E::Completed { token, chunks }) if token == lease.token => {
                Ok(Self::Staged { failures, chunks })
            }
            (Self::Leased { failures, lease }, E::GivenBack { token }) if token == lease.token => {
                Ok(Self::Pending { failures, not_before: Millis(0) })
            }
            (Self::Leased { failures, lease }, E::AttemptFailed { token, failure, limit }) if token == lease.token => {
                Ok(limit.next(failures + 1, failure))
            }
            (Self::Leased { failures, .. }, E::Expired(limit)) => {
                Ok(limit.next(failures + 1, Failure::lease_expired()))
            }
            (Self::Staged { .. }, E::Confirmed) => Ok(Self::Ingested),
            (Self::Staged { failures, .. }, E::StagingLost { failure, limit }) => Ok(limit.next(failures + 1, failure)),
            (Self::Staged { .. }, E::Rejected { failure }) => Ok(Self::Failed { failure }),
            (Self::Staged { .. } | Self::Ingested, E::Miscounted { failure }) => Ok(Self::Failed { failure }),
            (Self::Ingested, E::Reopened) => Ok(Self::NEW),
            (Self::Pending { .. } | Self::Leased { .. } | Self::Staged { .. }, E::RunStopped) => Ok(Self::Dropped),
            (state, event) => Err(Refused { state: state.name(), event: event.name() }),
        }
    }

    /// Name of the state, as stored.
    pub fn name(&self) -> &'static str {
        match self {
            Self::Pending { .. } => "Pending",
            Self::Leased { .. } => "Leased",
            Self::Staged { .. } => "Staged",
            Self::Ingested => "Ingested",
            Self::Failed { .. } => "Failed",
            Self::Skipped { .. } => "Skipped",
            Self::Dropped => "Dropped",
        }
    }

    /// The lease, while there is one.
    pub fn lease(&self) -> Option<&Lease> {
        match self {
            Self::Leased { lease, .. } => Some(lease),
            _ => None,
        }
    }
}

impl UnitEvent {
    fn name(&self) -> &'static str {
        match self {
            Self::Granted(_) => "Granted",
            Self::Renewed { .. } => "Renewed",
            Self::Completed { .. } => "Completed",
            Self::GivenBack { .. } => "GivenBack",
            Self::AttemptFailed { .. } => "AttemptFailed",
            Self::Expired(_) => "Expired",
            Self::Confirmed => "Confirmed",
            Self::StagingLost { .. } => "StagingLost",
            Self::Rejected { .. } => "Rejected",
            Self::Miscounted { .. } => "Miscounted",
            Self::Reopened => "Reopened",
            Self::RunStopped => "RunStopped",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use ferry_common::failure::Code;

    const NOW: Millis = Millis(1_000);

    fn failure(retry: Retry) -> Failure {
        Failure::new(Code::SourceReadFailed, Fault::Source, retry, "x")
    }

    fn lease(token: &str) -> Lease {
        Lease {
            node: "n".parse().unwrap(),
            attempt: AttemptNumber(1),
            token: LeaseToken::from_wire(token.to_owned()),
            expires: Millis(900),
        }
    }

    /// Every pair is tried: `Some` names the state that follows, `None` says that the pair is refused.
    #[test]
    fn every_pair_of_state_and_event_is_as_the_table_says() {
        let token = || LeaseToken::from_wire("t".to_owned());
        let limit = RetryLimit { now: NOW, failures_max: 3, skips_files: false };
        let states = [
            UnitState::NEW,
            UnitState::Leased { failures: 0, lease: lease("t") },
            UnitState::Staged { failures: 0, chunks: 2 },
            UnitState::Ingested,
            UnitState::Failed { failure: failure(Retry::Never) },
            UnitState::Dropped,
        ];
        let (retry, never) = (failure(Retry::Backoff), failure(Retry::Never));
        #[rustfmt::skip]
        let table = [
            //                                                                    Pending          Leased           Staged            final
            (UnitEvent::Granted(lease("u")),                                      [Some("Leased"),  None,            None]),
            (UnitEvent::Renewed { token: token(), expires: NOW },                 [None,            Some("Leased"),  None]),
            (UnitEvent::Completed { token: token(), chunks: 1 },                  [None,            Some("Staged"),  None]),
            (UnitEvent::GivenBack { token: token() },                             [None,            Some("Pending"), None]),
            (UnitEvent::AttemptFailed { token: token(), failure: retry.clone(), limit }, [None,     Some("Pending"), None]),
            (UnitEvent::AttemptFailed { token: token(), failure: never.clone(), limit }, [None,     Some("Failed"),  None]),
            (UnitEvent::Expired(limit),                                           [None,            Some("Pending"), None]),
            (UnitEvent::Confirmed,                                                [None,            None,            Some("Ingested")]),
            (UnitEvent::StagingLost { failure: retry, limit },                    [None,            None,            Some("Pending")]),
            (UnitEvent::Rejected { failure: never.clone() },                        [None,            None,            Some("Failed")]),
            (UnitEvent::RunStopped,                                               [Some("Dropped"), Some("Dropped"), Some("Dropped")]),
        ];
        for (at, state) in states.iter().enumerate() {
            // The only rows of a state that is final otherwise.
            let next = state.clone().apply(UnitEvent::Reopened).ok();
            assert_eq!(next, (at == 3).then_some(UnitState::NEW), "Reopened in {}", state.name());
            let next = state.clone().apply(UnitEvent::Miscounted { failure: never.clone() }).ok();
            let failed = UnitState::Failed { failure: never.clone() };
            assert_eq!(next, matches!(at, 2 | 3).then_some(failed), "Miscounted in {}", state.name());
        }
        for (event, expected) in table {
            for (at, state) in states.iter().enumerate() {
                let expected = expected.get(at).copied().flatten();
                let next = state.clone().apply(event.clone());
                assert_eq!(next.as_ref().ok().map(UnitState::name), expected, "{} in {}", event.name(), state.name());
                if let Err(refused) = next {
                    assert_eq!((refused.state, refused.event), (state.name(), event.name()));
                }
            }
        }
    }

    #[test]
    fn a_late_holder_is_fenced() {
        let state = UnitState::Leased { failures: 0, lease: lease("t") };
        let other = LeaseToken::from_wire("other".to_owned());
        let limit = RetryLimit { now: NOW, failures_max: 3, skips_files: false };
        for event in [
            UnitEvent::Renewed { token: other.clone(), expires: NOW },
            UnitEvent::Completed { token: other.clone(), chunks: 1 },
            UnitEvent::GivenBack { token: other.clone() },
            UnitEvent::AttemptFailed { token: other, failure: failure(Retry::Never), limit },
        ] {
            assert!(state.clone().apply(event).is_err());
        }
    }

    #[test]
    fn failures_have_a_limit_and_giving_back_is_none() {
        let limit = RetryLimit { now: NOW, failures_max: 3, skips_files: false };
        let mut state = UnitState::NEW;
        for expected in ["Pending", "Pending", "Failed"] {
            let token = LeaseToken::from_wire("t".to_owned());
            let held = state.apply(UnitEvent::Granted(lease("t"))).unwrap();
            let back = held.apply(UnitEvent::GivenBack { token: token.clone() }).unwrap();
            let held = back.apply(UnitEvent::Granted(lease("t"))).unwrap();
            state = held.apply(UnitEvent::AttemptFailed { token, failure: failure(Retry::Backoff), limit }).unwrap();
            assert_eq!(state.name(), expected);
        }
    }
}
