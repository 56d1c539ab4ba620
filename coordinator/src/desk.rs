//! Where units are handed out: the line of those that are next, and those on their way to a node. What stands here may be
//! lost or stale at any time: the store decides.

use crate::store::{HeldSlots, RunRow, UnitRow};
use ferry_common::{
    clock::Millis,
    id::{NodeId, RunId, UnitNumber},
};
use std::{
    collections::{HashMap, HashSet, VecDeque},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

/// A run, and what tells it from an earlier one of the same id: its units look the same, and are of other files.
type LineKey = (RunId, String);

fn line_of(run: &RunRow) -> LineKey {
    (run.id.clone(), run.tag_nonce.clone())
}

/// Slots by run and by node.
#[derive(Debug, Default)]
pub(crate) struct Slots {
    by_run: HashMap<RunId, u32>,
    by_node: HashMap<NodeId, u32>,
}

impl Slots {
    pub(crate) fn of_run(&self, run: &RunId) -> u32 {
        self.by_run.get(run).copied().unwrap_or(0)
    }

    pub(crate) fn of_node(&self, node: &NodeId) -> u32 {
        self.by_node.get(node).copied().unwrap_or(0)
    }
}

impl FromIterator<HeldSlots> for Slots {
    fn from_iter<T: IntoIterator<Item = HeldSlots>>(held: T) -> Self {
        let mut slots = Self::default();
        for HeldSlots { run, node, slots: held } in held {
            *slots.by_run.entry(run).or_default() += held;
            *slots.by_node.entry(node).or_default() += held;
        }
        slots
    }
}

/// Units on their way to a node.
#[derive(Default)]
struct GoingUnits {
    units: HashSet<(RunId, UnitNumber)>,
    slots: Slots,
}

/// The desk.
#[derive(Default)]
pub(crate) struct Desk {
    /// Units of each run that were pending when they were read, in the order in which they are granted.
    lines: HashMap<LineKey, VecDeque<UnitRow>>,
    going: Arc<Mutex<GoingUnits>>,
    /// Who held what when that was read last.
    held: Option<(Millis, Arc<Slots>)>,
}

/// A unit on its way to a node. Nobody else gets it while this value lives.
pub(crate) struct Going {
    unit: (RunId, UnitNumber),
    node: NodeId,
    going: Arc<Mutex<GoingUnits>>,
}

impl Drop for Going {
    fn drop(&mut self) {
        let mut going = lock(&self.going);
        going.units.remove(&self.unit);
        take_one(&mut going.slots.by_run, &self.unit.0);
        take_one(&mut going.slots.by_node, &self.node);
    }
}

fn take_one<K: Eq + std::hash::Hash>(counts: &mut HashMap<K, u32>, key: &K) {
    if let Some(count) = counts.get_mut(key) {
        *count -= 1;
        if *count == 0 {
            counts.remove(key);
        }
    }
}

fn lock(going: &Mutex<GoingUnits>) -> MutexGuard<'_, GoingUnits> {
    going.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Desk {
    /// Forgets the lines of runs that are not among these.
    pub(crate) fn keep_lines(&mut self, runs: &[RunRow]) {
        self.lines.retain(|(id, nonce), _| runs.iter().any(|run| run.id == *id && run.tag_nonce == *nonce));
    }

    /// Forgets the line of a run: somebody else has taken what stands in it.
    pub(crate) fn forget_line(&mut self, run: &RunRow) {
        self.lines.remove(&line_of(run));
    }

    /// The next unit of the run's line.
    pub(crate) fn next(&mut self, run: &RunRow) -> Option<UnitRow> {
        let line = self.lines.get_mut(&line_of(run))?;
        std::iter::from_fn(|| line.pop_front()).find(|unit| !lock(&self.going).units.contains(&key_of(unit)))
    }

    /// Pending units of the run, in place of its line.
    pub(crate) fn line_up(&mut self, run: &RunRow, pending: Vec<UnitRow>) {
        self.lines.insert(line_of(run), pending.into());
    }

    /// Lets a unit go to a node. `None`: it is going to one already.
    pub(crate) fn let_go(&self, unit: &UnitRow, node: &NodeId) -> Option<Going> {
        let mut going = lock(&self.going);
        if !going.units.insert(key_of(unit)) {
            return None;
        }
        *going.slots.by_run.entry(unit.run.clone()).or_default() += 1;
        *going.slots.by_node.entry(node.clone()).or_default() += 1;
        Some(Going { unit: key_of(unit), node: node.clone(), going: self.going.clone() })
    }

    /// Units that are on their way.
    pub(crate) fn going(&self) -> u32 {
        u32::try_from(lock(&self.going).units.len()).unwrap_or(u32::MAX)
    }

    /// Units that are on their way, by run.
    pub(crate) fn going_by_run(&self) -> HashMap<RunId, u32> {
        lock(&self.going).slots.by_run.clone()
    }

    /// Units that are on their way to the node.
    pub(crate) fn going_to(&self, node: &NodeId) -> u32 {
        lock(&self.going).slots.of_node(node)
    }

    /// Who held what when that was read last, if it was within this time.
    pub(crate) fn held_lately(&self, now: Millis, within: Duration) -> Option<Arc<Slots>> {
        self.held.as_ref().filter(|(at, _)| now.since(*at) < within).map(|(_, held)| held.clone())
    }

    /// Who holds what.
    pub(crate) fn note_held(&mut self, now: Millis, held: Arc<Slots>) {
        self.held = Some((now, held));
    }
}

fn key_of(unit: &UnitRow) -> (RunId, UnitNumber) {
    (unit.run.clone(), unit.number)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::conformance::new_run;
    use ferry_common::unit::FileVersion;

    fn unit_of(run: &RunRow, path: &str) -> UnitRow {
        let file = FileVersion {
            path: path.to_owned(),
            relative_path: path.to_owned(),
            size_bytes: 1,
            modified_ns: 0,
            etag: String::new(),
        };
        UnitRow::new(run.id.clone(), UnitNumber(1), file)
    }

    #[test]
    fn a_run_never_gets_units_of_an_earlier_one_of_its_id() {
        let mut desk = Desk::default();
        let (first, second) = (new_run("weekly", 1), new_run("weekly", 2));
        desk.line_up(&first, vec![unit_of(&first, "old.csv")]);
        assert!(desk.next(&second).is_none(), "its unit 1 is another file");
        desk.keep_lines(std::slice::from_ref(&second));
        assert!(desk.next(&first).is_none());
    }

    #[test]
    fn a_unit_that_is_going_is_nobody_elses() {
        let mut desk = Desk::default();
        let run = new_run("r", 1);
        let unit = unit_of(&run, "a.csv");
        let node: NodeId = "n".parse().unwrap();
        let going = desk.let_go(&unit, &node).unwrap();
        assert!(desk.let_go(&unit, &node).is_none());
        desk.line_up(&run, vec![unit.clone()]);
        assert!(desk.next(&run).is_none());
        assert_eq!((desk.going(), desk.going_to(&node), desk.going_by_run()[&run.id]), (1, 1, 1));
        drop(going);
        assert_eq!((desk.going(), desk.going_to(&node), desk.going_by_run().len()), (0, 0, 0));
        assert!(desk.let_go(&unit, &node).is_some());
    }
}
