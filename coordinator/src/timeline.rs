//! How far a run had come, and when: points for a chart. They stand in memory alone, and may be lost at any time.

use ferry_common::{clock::Millis, id::RunId};
use std::{
    collections::{HashMap, VecDeque},
    time::Duration,
};

/// Points of one run. When there are more, every second one goes, and the next ones are twice as far apart.
pub(crate) const POINTS_MAX: usize = 300;
/// Least time between two points.
const INTERVAL_MIN: Duration = Duration::from_secs(1);
/// Runs that are remembered, those that ended among them.
const RUNS_MAX: usize = 200;

/// How far a run had come.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Point {
    pub(crate) at: Millis,
    pub(crate) bytes_read: u64,
    pub(crate) rows_read: u64,
    pub(crate) staged_bytes: u64,
    pub(crate) rows_visible: u64,
    pub(crate) slots_busy: u64,
}

/// The points of one run.
#[derive(Debug, Clone)]
pub(crate) struct Timeline {
    /// Tells the run from an earlier one of its id.
    submitted: Millis,
    points: Vec<Point>,
    interval: Duration,
    has_ended: bool,
}

impl Timeline {
    fn new(submitted: Millis) -> Self {
        Self { submitted, points: Vec::new(), interval: INTERVAL_MIN, has_ended: false }
    }

    fn wants(&self, now: Millis, cost: Duration) -> bool {
        !self.has_ended && self.points.last().is_none_or(|last| now.since(last.at) >= self.interval.max(cost))
    }

    fn push(&mut self, point: Point, is_last: bool) {
        self.has_ended |= is_last;
        self.points.push(point);
        if self.points.len() > POINTS_MAX {
            let newest = self.points.len() - 1;
            let mut at = 0;
            // The first and the newest stay.
            self.points.retain(|_| {
                let stays = at % 2 == 0 || at == newest;
                at += 1;
                stays
            });
            self.interval *= 2;
        }
    }
}

/// The points of runs, those that came last.
#[derive(Debug, Default)]
pub(crate) struct Timelines {
    runs: HashMap<RunId, Timeline>,
    /// In the order in which they came.
    order: VecDeque<RunId>,
}

impl Timelines {
    /// It is time for a point of the run. `cost`: least time since the last one, for what a point costs.
    pub(crate) fn wants(&self, run: &RunId, submitted: Millis, now: Millis, cost: Duration) -> bool {
        self.runs.get(run).filter(|known| known.submitted == submitted).is_none_or(|known| known.wants(now, cost))
    }

    /// A point of the run; `is_last`: it has ended.
    pub(crate) fn push(&mut self, run: &RunId, submitted: Millis, point: Point, is_last: bool) {
        if self.runs.get(run).is_none_or(|known| known.submitted != submitted) {
            self.order.retain(|known| known != run);
            self.order.push_back(run.clone());
            self.runs.insert(run.clone(), Timeline::new(submitted));
            while self.order.len() > RUNS_MAX {
                if let Some(oldest) = self.order.pop_front() {
                    self.runs.remove(&oldest);
                }
            }
        }
        if let Some(known) = self.runs.get_mut(run) {
            known.push(point, is_last);
        }
    }

    /// The points of a run.
    pub(crate) fn points(&self, run: &RunId, submitted: Millis) -> Vec<Point> {
        self.runs
            .get(run)
            .filter(|known| known.submitted == submitted)
            .map_or_else(Vec::new, |known| known.points.clone())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn point(second: i64) -> Point {
        let count = second.unsigned_abs();
        Point {
            at: Millis(second * 1_000),
            bytes_read: count,
            rows_read: count,
            staged_bytes: count,
            rows_visible: 0,
            slots_busy: 1,
        }
    }

    #[test]
    fn a_long_run_keeps_its_first_and_newest_points_and_few_between() {
        let (mut timelines, run, submitted) = (Timelines::default(), "r".parse().unwrap(), Millis(0));
        for second in 0..10_000 {
            let now = Millis(second * 1_000);
            if timelines.wants(&run, submitted, now, Duration::ZERO) {
                timelines.push(&run, submitted, point(second), false);
            }
        }
        let points = timelines.points(&run, submitted);
        assert!((POINTS_MAX / 3..=POINTS_MAX).contains(&points.len()), "{}", points.len());
        assert_eq!(points[0], point(0));
        assert!(points.last().unwrap().at.0 > 9_900_000);
        assert!(points.windows(2).all(|pair| pair[0].at < pair[1].at));
    }

    #[test]
    fn after_the_end_there_are_no_more_points_and_a_new_run_of_the_id_begins_anew() {
        let (mut timelines, run) = (Timelines::default(), "r".parse().unwrap());
        timelines.push(&run, Millis(0), point(1), true);
        assert!(!timelines.wants(&run, Millis(0), Millis(1 << 40), Duration::ZERO));
        assert!(timelines.wants(&run, Millis(7), Millis(8), Duration::ZERO));
        assert!(timelines.points(&run, Millis(7)).is_empty());
        timelines.push(&run, Millis(7), point(2), false);
        assert_eq!(timelines.points(&run, Millis(7)), [point(2)]);
    }

    #[test]
    fn what_costs_much_is_asked_for_rarely() {
        let (mut timelines, run) = (Timelines::default(), "r".parse().unwrap());
        timelines.push(&run, Millis(0), point(1), false);
        assert!(timelines.wants(&run, Millis(0), Millis(3_000), Duration::ZERO));
        assert!(!timelines.wants(&run, Millis(0), Millis(3_000), Duration::from_secs(60)));
    }

    #[test]
    fn many_runs_push_the_oldest_out() {
        let mut timelines = Timelines::default();
        let id = |n: usize| format!("r{n}").parse::<RunId>().unwrap();
        (0..=RUNS_MAX).for_each(|n| timelines.push(&id(n), Millis(0), point(1), false));
        assert!(timelines.points(&id(0), Millis(0)).is_empty());
        assert_eq!(timelines.points(&id(RUNS_MAX), Millis(0)).len(), 1);
    }
}
