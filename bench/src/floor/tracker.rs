//! The reachability tracker of `timely` on a chain: the one library that does this job already.

use timely::progress::reachability::{self, Builder};
use timely::progress::{Antichain, Source, Target};

/// A chain of operators, and the time that its first one still holds.
pub struct Tracker {
    tracker: reachability::Tracker<u64>,
    time: u64,
}

impl Tracker {
    /// A chain of so many operators, each of which can still produce time 0.
    pub fn chain(len: u64) -> Self {
        let mut builder = Builder::new();
        let len = len as usize;
        for node in 0..len {
            let unchanged = [(0, Antichain::from_elem(0))].into_iter().collect();
            builder.add_node(node, 1, 1, vec![unchanged]);
        }
        for node in 1..len {
            builder.add_edge(Source::new(node - 1, 0), Target::new(node, 0));
        }
        let (mut tracker, _) = builder.build(None);
        tracker.update_source(Source::new(0, 0), 0, 1);
        tracker.propagate_all();
        tracker.pushed().0.clear();
        Self { tracker, time: 0 }
    }

    /// Moves the time of the first one by one; the change travels to the last. Gives the number of
    /// changes on the way.
    pub fn advance(&mut self) -> usize {
        let first = Source::new(0, 0);
        self.tracker.update_source(first, self.time + 1, 1);
        self.tracker.update_source(first, self.time, -1);
        self.time += 1;
        self.tracker.propagate_all();
        self.tracker.pushed().0.drain().count()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_change_reaches_every_operator_of_the_chain() {
        let mut tracker = Tracker::chain(50);
        // The new time comes and the old one goes, at each place that the first source reaches.
        assert!(tracker.advance() >= 2 * 49);
        assert!(tracker.advance() >= 2 * 49);
    }
}
