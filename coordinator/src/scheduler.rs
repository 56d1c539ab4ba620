//! Which run gets the next slot. Pure.

use std::cmp::Reverse;

/// A run that has units to give.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Candidate {
    /// Slots it holds.
    pub held: u32,
    /// Slots it may hold at most.
    pub held_max: u32,
    /// The higher, the sooner.
    pub priority: i32,
}

/// The run that gets the next slot: of those with the highest priority the one that holds the fewest, the oldest among
/// equals. `runs` are oldest first.
pub fn next_run(runs: &[Candidate]) -> Option<usize> {
    let may_hold_more = |at: &usize| runs[*at].held < runs[*at].held_max;
    (0..runs.len()).filter(may_hold_more).min_by_key(|at| (Reverse(runs[*at].priority), runs[*at].held))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn runs_share_slots_and_keep_their_caps() {
        let run = |held, held_max| Candidate { held, held_max, priority: 0 };
        let urgent = |held, held_max| Candidate { priority: 5, ..run(held, held_max) };
        for (case, runs, expected) in [
            ("nobody", vec![], None),
            ("the oldest of equals", vec![run(1, 9), run(1, 9)], Some(0)),
            ("the one with less", vec![run(2, 9), run(1, 9)], Some(1)),
            ("not beyond its cap", vec![run(1, 1), run(5, 9)], Some(1)),
            ("the one that matters more, whatever it holds", vec![run(0, 9), urgent(7, 9)], Some(1)),
            ("others, when that has what it may have", vec![run(3, 9), urgent(7, 7)], Some(0)),
            ("all at their caps", vec![run(1, 1), run(2, 2)], None),
        ] {
            assert_eq!(next_run(&runs), expected, "{case}");
        }
    }
}
