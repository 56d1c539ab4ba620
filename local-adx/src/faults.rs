//! Fault switches, for tests: `KIND[:TIMES[:SECONDS]]`, several joined by commas. They strike `.ingest`; those that begin
//! with `op-`, and `slow`, strike queued ingestion, too. Those that begin with `publish-` strike `.move extents` and `.replace extents`, where there is something to move.
//!
//! | kind | what happens |
//! |---|---|
//! | `throttle` | the command is refused with 429 |
//! | `error` | the command is refused with 500, before it has any effect |
//! | `lost-answer` | the command is carried out, and the connection breaks instead of an answer |
//! | `hang` | the command is carried out after SECONDS |
//! | `op-throttle` | the command is taken, and its operation ends as Throttled |
//! | `op-error` | the command is taken, and its operation ends as Failed, to be tried again |
//! | `op-abandon` | the command is taken, its rows are stored, and its operation ends as Abandoned |
//! | `op-forget` | the command is taken, its rows are stored, and its operation is not listed any more |
//! | `slow` | each operation takes SECONDS longer |
//! | `publish-throttle` | the command is refused with 429 |
//! | `publish-error` | the command is refused with 500, before it has any effect |
//! | `publish-lost-answer` | the command is carried out, and the connection breaks instead of an answer |

use std::{
    str::FromStr,
    sync::{Mutex, PoisonError},
    time::Duration,
};

/// What can be made to go wrong.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[allow(missing_docs, reason = "the module's table says it")]
pub enum Fault {
    Throttle,
    Error,
    LostAnswer,
    Hang(Duration),
    OpThrottle,
    OpError,
    OpAbandon,
    OpForget,
    Slow(Duration),
    PublishThrottle,
    PublishError,
    PublishLostAnswer,
}

impl Fault {
    fn is_about_publishing(self) -> bool {
        matches!(self, Self::PublishThrottle | Self::PublishError | Self::PublishLostAnswer)
    }

    fn is_refusal(self) -> bool {
        matches!(self, Self::Throttle | Self::Error | Self::PublishThrottle | Self::PublishError)
    }
}

/// Faults that are still to strike.
#[derive(Debug, Default)]
pub struct Faults(Mutex<Vec<(Fault, u32)>>);

impl FromStr for Faults {
    type Err = String;
    fn from_str(spec: &str) -> Result<Self, String> {
        let mut faults = Vec::new();
        for part in spec.split(',').map(str::trim).filter(|p| !p.is_empty()) {
            let mut fields = part.split(':');
            let kind = fields.next().unwrap_or_default();
            let mut number = |default: u32| match fields.next() {
                None => Ok(default),
                Some(text) => text.parse().map_err(|_| format!("fault {part:?}: {text:?} is no number")),
            };
            let (times, seconds) = (number(1)?, Duration::from_secs(number(5)?.into()));
            let fault = match kind {
                "throttle" => Fault::Throttle,
                "error" => Fault::Error,
                "lost-answer" => Fault::LostAnswer,
                "hang" => Fault::Hang(seconds),
                "op-throttle" => Fault::OpThrottle,
                "op-error" => Fault::OpError,
                "op-abandon" => Fault::OpAbandon,
                "op-forget" => Fault::OpForget,
                "slow" => Fault::Slow(seconds),
                "publish-throttle" => Fault::PublishThrottle,
                "publish-error" => Fault::PublishError,
                "publish-lost-answer" => Fault::PublishLostAnswer,
                other => {
                    return Err(format!(
                        "fault {other:?} is none of throttle, error, lost-answer, hang, op-throttle, op-error, op-abandon, op-forget, \
                         slow, publish-throttle, publish-error, publish-lost-answer"
                    ));
                }
            };
            faults.push((fault, times));
        }
        Ok(Self(Mutex::new(faults)))
    }
}

impl Faults {
    /// The faults that strike this ingestion: each kind counts one off.
    pub fn strike(&self) -> Vec<Fault> {
        self.strike_those(|fault| !fault.is_about_publishing())
    }

    /// The faults that strike this ingestion out of a queue: those of operations.
    pub fn strike_queued(&self) -> Vec<Fault> {
        self.strike_those(|fault| matches!(fault, Fault::OpThrottle | Fault::OpError | Fault::Slow(_)))
    }

    /// The faults that strike this move of extents.
    pub fn strike_publish(&self) -> Vec<Fault> {
        self.strike_those(Fault::is_about_publishing)
    }

    fn strike_those(&self, is_meant: impl Fn(Fault) -> bool) -> Vec<Fault> {
        let mut faults = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let mut struck: Vec<Fault> = Vec::new();
        for (fault, times) in faults.iter_mut().filter(|(fault, times)| *times > 0 && is_meant(*fault)) {
            // A refusal leaves nothing for the others to spoil.
            if !struck.iter().any(|f| f.is_refusal()) {
                *times -= 1;
                tracing::info!("fault strikes: {fault:?}");
                struck.push(*fault);
            }
        }
        struck
    }
}
