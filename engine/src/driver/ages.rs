//! How long the oldest entry of the queue has waited.

use std::collections::VecDeque;
use std::time::Instant;

/// More marks than this are not kept: ages are then told a little too great.
const MARKS_MAX: usize = 1_024;

/// Tells the age of the oldest entry without a clock in `send`: it notes at each turn how many
/// entries had been sent by then, and so knows between which turns each one came.
#[derive(Debug, Default)]
pub(super) struct Ages {
    /// How many had been sent when, the oldest first.
    marks: VecDeque<(u64, Instant)>,
}

impl Ages {
    /// At this time this many had been sent.
    pub(super) fn mark(&mut self, sent: u64, at: Instant) {
        if self.marks.len() < MARKS_MAX {
            self.marks.push_back((sent, at));
        }
    }

    /// The latest time at which the next entry had not been sent, where `received` have been taken.
    pub(super) fn oldest_came_after(&mut self, received: u64) -> Option<Instant> {
        while self.marks.get(1).is_some_and(|(sent, _)| *sent <= received) {
            self.marks.pop_front();
        }
        self.marks.front().map(|(_, at)| *at)
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn the_oldest_entry_came_after_the_last_turn_that_had_not_seen_it() {
        let start = Instant::now();
        let at = |ms| start + Duration::from_millis(ms);
        let mut ages = Ages::default();
        ages.mark(0, at(0));
        ages.mark(5, at(10));
        ages.mark(7, at(20));
        // Of the five that were sent before 10, three were taken: the fourth came after 0.
        assert_eq!(ages.oldest_came_after(3), Some(at(0)));
        assert_eq!(ages.oldest_came_after(5), Some(at(10)));
        assert_eq!(ages.oldest_came_after(7), Some(at(20)));
    }
}
