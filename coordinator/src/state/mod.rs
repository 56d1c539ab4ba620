//! The state machines: states, events, `apply`. Pure: no clock, store or network; times and limits arrive inside events.
//!
//! Stored exactly as written here. A pair of state and event that no arm names is [`Refused`] and changes nothing.

pub mod command;
pub mod run;
pub mod unit;

/// An event that a state does not know.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{state} does not take {event}")]
pub struct Refused {
    /// Name of the state.
    pub state: &'static str,
    /// Name of the event.
    pub event: &'static str,
}
