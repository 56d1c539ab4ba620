//! What a seed decides.

use std::{
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

/// One source of chance for the whole world. The same seed asks it the same questions.
#[derive(Debug, Clone)]
pub(crate) struct Chance(Arc<Mutex<fastrand::Rng>>);

impl Chance {
    pub(crate) fn new(seed: u64) -> Self {
        Self(Arc::new(Mutex::new(fastrand::Rng::with_seed(seed))))
    }

    /// True once in `1 / share` times.
    pub(crate) fn strikes(&self, share: f64) -> bool {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).f64() < share
    }

    /// A number from `from` to `to`, both included.
    pub(crate) fn number(&self, from: u64, to: u64) -> u64 {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).u64(from..=to)
    }

    /// A while: mostly short, now and then long.
    pub(crate) fn wait(&self, usual_ms: u64, rare_ms: u64) -> Duration {
        let is_rare = self.strikes(0.05);
        Duration::from_millis(self.number(1, if is_rare { rare_ms } else { usual_ms }))
    }
}
