//! How much a node may send to staging: in all, and of one run.

use ferry_common::timetable::Timetable;
use jiff::{Zoned, civil::Time};
use std::{
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};
use tokio::time::Instant;

/// What holds now.
#[derive(Debug)]
struct Line {
    /// When the next piece may go.
    next: Option<Instant>,
    /// Slots that share the timetable's rate, here and everywhere.
    slots: (u32, u32),
}

/// A bandwidth that several share: all that a node sends, or all that it sends of one run. Pieces go one after the other, each as
/// soon as the ones before it have had their time at the rate of the moment when it came.
#[derive(Debug)]
pub(crate) struct Bandwidth {
    timetable: Timetable,
    line: Mutex<Line>,
}

/// What one attempt keeps to.
#[derive(Debug, Clone)]
pub(crate) struct Throttle {
    node: Arc<Bandwidth>,
    run: Option<Arc<Bandwidth>>,
}

impl Throttle {
    pub(crate) fn new(node: Arc<Bandwidth>, run: Option<Arc<Bandwidth>>) -> Self {
        Self { node, run }
    }

    /// Waits until so many bytes may go.
    pub(crate) async fn pass(&self, bytes: usize) {
        if let Some(run) = &self.run {
            run.pass(bytes).await;
        }
        self.node.pass(bytes).await;
    }
}

impl Bandwidth {
    pub(crate) fn new(timetable: Timetable) -> Self {
        Self { timetable, line: Mutex::new(Line { next: None, slots: (1, 1) }) }
    }

    fn lock(&self) -> MutexGuard<'_, Line> {
        self.line.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Of so many slots that share the rate, so many are here.
    pub(crate) fn share(&self, here: u32, everywhere: u32) {
        self.lock().slots = (here.max(1), everywhere.max(here).max(1));
    }

    /// Bytes a second that may go from here at a time of the day; `None`: no limit.
    fn rate_at(&self, time: Time) -> Option<f64> {
        let (here, everywhere) = self.lock().slots;
        self.timetable.rate_at(time).map(|rate| f64::from(rate.get()) * f64::from(here) / f64::from(everywhere))
    }

    async fn pass(&self, bytes: usize) {
        if self.timetable.is_empty() {
            return;
        }
        let Some(rate) = self.rate_at(Zoned::now().time()) else { return };
        let start = {
            let (mut line, now) = (self.lock(), Instant::now());
            let start = line.next.map_or(now, |next| next.max(now));
            line.next = Some(start + Duration::from_secs_f64(bytes as f64 / rate));
            start
        };
        tokio::time::sleep_until(start).await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn what_passes_keeps_to_the_rate_whatever_share_it_is() {
        let bandwidth = Arc::new(Bandwidth::new("1M".parse().unwrap()));
        let begin = Instant::now();
        let pass = |pieces: u32| {
            let passes = (0..pieces).map(|_| {
                let bandwidth = bandwidth.clone();
                tokio::spawn(async move { bandwidth.pass(100_000).await })
            });
            futures::future::join_all(passes.collect::<Vec<_>>())
        };
        pass(5).await;
        // The first piece goes at once; four more wait 0.1 s each.
        assert_eq!(begin.elapsed().as_millis() / 10, 40);
        for (here, everywhere) in [(1, 2), (1, 4), (1, 2)] {
            bandwidth.share(here, everywhere);
            pass(1).await;
        }
        // They wait for the one before: 0.1 s at the whole rate, 0.2 s at a half, 0.4 s at a quarter.
        assert_eq!(begin.elapsed().as_millis() / 10, 110);
    }

    #[test]
    fn a_run_has_its_share_of_what_is_meant_for_all_its_slots() {
        let bandwidth = Bandwidth::new("8M".parse().unwrap());
        for (here, everywhere, rate) in [(1, 1, 8e6), (1, 4, 2e6), (3, 4, 6e6), (2, 1, 8e6)] {
            bandwidth.share(here, everywhere);
            assert_eq!(bandwidth.rate_at(Time::midnight()), Some(rate), "{here} of {everywhere}");
        }
    }
}
