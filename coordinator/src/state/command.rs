//! An ingest command: what the coordinator sends, and that command as the cluster runs it.
//!
//! It is stored before it is sent, and `sent` is stored before the first byte leaves. A crash or a lost answer after
//! that leaves `Planned` with `sent`: the outcome is in doubt, and is asked for before anything is sent again. So no two
//! operations with one tag are ever in flight.

use super::Refused;
use ferry_common::{
    clock::Millis,
    failure::{Failure, backoff},
};
use serde::{Deserialize, Serialize};
use std::time::Duration;

/// A sending, by which the cluster's journals can be asked.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Sent {
    /// Our own id of the request.
    pub request_id: String,
    /// When it was sent.
    pub at: Millis,
}

/// State of an ingest command.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum CommandState {
    /// To be sent, or sent with unknown outcome.
    Planned {
        /// Failures so far.
        failures: u32,
        /// Not sent before this.
        not_before: Millis,
        /// The sending whose outcome is in doubt.
        sent: Option<Sent>,
    },
    /// The cluster runs it.
    Issued {
        /// As in `Planned`.
        failures: u32,
        /// The sending.
        sent: Sent,
        /// The cluster's id of the operation.
        operation: String,
    },
    /// Its rows are in the table. Final.
    Confirmed {
        /// Rows that the cluster counted; `None` where it could not be asked.
        rows: Option<u64>,
        /// When it was known.
        at: Millis,
        /// The sending that did it.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        sent: Option<Sent>,
        /// The cluster's id of the operation, where it was told.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        operation: Option<String>,
    },
    /// The cluster refused it for good. Final.
    Rejected {
        /// Why.
        failure: Failure,
    },
}

/// What happens to an ingest command.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum CommandEvent {
    /// It is about to leave.
    Sending(Sent),
    /// The cluster has taken it and named an operation, or the operation of a doubtful sending was found.
    Accepted {
        /// The cluster's id of the operation.
        operation: String,
    },
    /// It surely had no effect, and may be sent again.
    Postponed {
        /// The time of the event.
        now: Millis,
        /// The cluster is busy: no fault of the command.
        throttled: bool,
        /// Wait at least for this.
        least: Duration,
    },
    /// Whether it had an effect is not known.
    OutcomeUnknown,
    /// Its rows are in the table.
    Finished {
        /// Rows that the cluster counted.
        rows: Option<u64>,
        /// The time of the event.
        now: Millis,
    },
    /// The cluster refuses it for good.
    Refused(Failure),
}

/// Wait after a throttled sending. The scheduler sends no more than the cluster's capacity, so it need not grow.
pub(crate) const THROTTLED_WAIT: Duration = Duration::from_secs(2);

impl CommandState {
    /// A command that was never sent.
    pub const NEW: Self = Self::Planned { failures: 0, not_before: Millis(0), sent: None };

    /// The state after `event`, or [`Refused`] where the table has no such row.
    pub fn apply(self, event: CommandEvent) -> Result<Self, Refused> {
        use CommandEvent as E;
        match (self, event) {
            (Self::Planned { failures, not_before, sent: None }, E::Sending(sent)) => {
                Ok(Self::Planned { failures, not_before, sent: Some(sent) })
            }
            (Self::Planned { failures, sent: Some(sent), .. }, E::Accepted { operation }) => {
                Ok(Self::Issued { failures, sent, operation })
            }
            (
                Self::Planned { failures, sent: Some(_), .. } | Self::Issued { failures, .. },
                E::Postponed { now, throttled, least },
            ) => {
                let failures = failures + u32::from(!throttled);
                let wait = if throttled { THROTTLED_WAIT } else { backoff(failures, 0.5) };
                Ok(Self::Planned { failures, not_before: now.plus(wait.max(least)), sent: None })
            }
            (Self::Issued { failures, sent, .. }, E::OutcomeUnknown) => {
                Ok(Self::Planned { failures, not_before: Millis(0), sent: Some(sent) })
            }
            (Self::Planned { sent: Some(sent), .. }, E::Finished { rows, now }) => {
                Ok(Self::Confirmed { rows, at: now, sent: Some(sent), operation: None })
            }
            (Self::Issued { sent, operation, .. }, E::Finished { rows, now }) => {
                Ok(Self::Confirmed { rows, at: now, sent: Some(sent), operation: Some(operation) })
            }
            (Self::Planned { sent: Some(_), .. } | Self::Issued { .. }, E::Refused(failure)) => {
                Ok(Self::Rejected { failure })
            }
            (state, event) => Err(Refused { state: state.name(), event: event.name() }),
        }
    }

    /// Name of the state, as stored.
    pub fn name(&self) -> &'static str {
        match self {
            Self::Planned { .. } => "Planned",
            Self::Issued { .. } => "Issued",
            Self::Confirmed { .. } => "Confirmed",
            Self::Rejected { .. } => "Rejected",
        }
    }

    /// Failures so far.
    pub fn failures(&self) -> u32 {
        match self {
            Self::Planned { failures, .. } | Self::Issued { failures, .. } => *failures,
            Self::Confirmed { .. } | Self::Rejected { .. } => 0,
        }
    }

    /// The sending and the operation that it is known by, if there are any.
    pub fn known_by(&self) -> (Option<&Sent>, Option<&str>) {
        match self {
            Self::Planned { sent, .. } => (sent.as_ref(), None),
            Self::Issued { sent, operation, .. } => (Some(sent), Some(operation)),
            Self::Confirmed { sent, operation, .. } => (sent.as_ref(), operation.as_deref()),
            Self::Rejected { .. } => (None, None),
        }
    }
}

impl CommandEvent {
    fn name(&self) -> &'static str {
        match self {
            Self::Sending(_) => "Sending",
            Self::Accepted { .. } => "Accepted",
            Self::Postponed { .. } => "Postponed",
            Self::OutcomeUnknown => "OutcomeUnknown",
            Self::Finished { .. } => "Finished",
            Self::Refused(_) => "Refused",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_pair_of_state_and_event_is_as_the_table_says() {
        let sent = || Sent { request_id: "r".to_owned(), at: Millis(1) };
        let states = [
            CommandState::NEW,
            CommandState::Planned { failures: 1, not_before: Millis(0), sent: Some(sent()) },
            CommandState::Issued { failures: 1, sent: sent(), operation: "o".to_owned() },
            CommandState::Confirmed { rows: None, at: Millis(1), sent: None, operation: None },
            CommandState::Rejected { failure: Failure::internal("x") },
        ];
        let (now, least) = (Millis(5), Duration::ZERO);
        #[rustfmt::skip]
        let table: [(CommandEvent, [&str; 3]); 6] = [
            //                                                           new          in doubt     issued
            (CommandEvent::Sending(sent()),                            ["Planned",   "",          ""]),
            (CommandEvent::Accepted { operation: "o".to_owned() },     ["",          "Issued",    ""]),
            (CommandEvent::Postponed { now, throttled: true, least },         ["",          "Planned",   "Planned"]),
            (CommandEvent::OutcomeUnknown,                             ["",          "",          "Planned"]),
            (CommandEvent::Finished { rows: Some(1), now },            ["",          "Confirmed", "Confirmed"]),
            (CommandEvent::Refused(Failure::internal("x")),            ["",          "Rejected",  "Rejected"]),
        ];
        for (event, expected) in table {
            for (at, state) in states.iter().enumerate() {
                let expected = expected.get(at).copied().filter(|name| !name.is_empty());
                let next = state.clone().apply(event.clone()).ok();
                assert_eq!(next.as_ref().map(CommandState::name), expected, "{} in {state:?}", event.name());
            }
        }
    }

    #[test]
    fn nothing_is_sent_while_an_earlier_sending_is_in_doubt() {
        let sent = Sent { request_id: "r".to_owned(), at: Millis(1) };
        let doubtful = CommandState::NEW.apply(CommandEvent::Sending(sent.clone())).unwrap();
        assert!(doubtful.clone().apply(CommandEvent::Sending(sent)).is_err());
        let (now, least) = (Millis(5), Duration::from_secs(60));
        let clear = doubtful.apply(CommandEvent::Postponed { now, throttled: false, least }).unwrap();
        let CommandState::Planned { not_before, sent: None, .. } = &clear else { panic!("{clear:?}") };
        assert!(not_before.since(now) >= least, "a service that asks for a while gets it");
    }
}
