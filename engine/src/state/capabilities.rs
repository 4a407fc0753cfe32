//! The counted read capabilities of one collection, and their frontier.

use std::collections::BTreeMap;

use smallvec::SmallVec;
use timely::PartialOrder;
use timely::progress::Antichain;

use crate::frontier::{Since, Time};

/// Up to this many distinct times stand in a sorted list; beyond, in a tree.
const FEW_MAX: usize = 16;

/// A tree that shrinks to this many distinct times becomes a list again.
const FEW_AGAIN: usize = 8;

/// A multiset of times.
///
/// Times are kept sorted by [`Ord`], which [`timely`'s `Timestamp`](timely::progress::Timestamp)
/// demands to agree with the partial order: the first time is always minimal. Where the times form
/// a chain, as they always do when they are totally ordered, it is the whole frontier. Whether they
/// do is kept up to date by looking at the neighbours of what comes and goes, so no type needs to
/// say that its order is total, and partially ordered times are as fast while they are in fact a
/// chain.
#[derive(Clone, Debug)]
pub(crate) struct Capabilities<T> {
    counts: Counts<T>,
}

#[derive(Clone, Debug)]
enum Counts<T> {
    Few(SmallVec<[(T, u64); 2]>),
    Many(Box<Tree<T>>),
}

/// Many distinct times: O(log n) to count one, and to find the frontier of a chain.
#[derive(Clone, Debug)]
struct Tree<T> {
    counts: BTreeMap<T, u64>,
    /// How many neighbours in `counts` are incomparable: 0 iff all times form a chain.
    breaks: usize,
}

impl<T: Time> Capabilities<T> {
    /// Nothing is counted.
    pub(crate) fn new() -> Self {
        Capabilities {
            counts: Counts::Few(SmallVec::new()),
        }
    }

    /// Counts the times of `new` once more and those of `old` once less.
    #[inline]
    pub(crate) fn replace(&mut self, old: &Since<T>, new: &Since<T>) {
        // What happens to most collections in every tick: the only capability moves, or one of
        // many that move one after the other from the same frontier to the same frontier.
        if let (Counts::Few(counts), [old], [new]) = (
            &mut self.counts,
            old.frontier().elements(),
            new.frontier().elements(),
        ) {
            match counts.as_mut_slice() {
                [(time, 1)] if time == old => return time.clone_from(new),
                [(from, left @ 2..), (to, there)] if from == old && to == new => {
                    *left -= 1;
                    *there += 1;
                    return;
                }
                _ => {}
            }
        }
        self.add(new);
        self.remove(old);
    }

    /// Counts every time of `since` once more.
    pub(crate) fn add(&mut self, since: &Since<T>) {
        for time in since.frontier().iter() {
            self.count(time, 1);
        }
    }

    /// Counts every time of `since` once less.
    pub(crate) fn remove(&mut self, since: &Since<T>) {
        for time in since.frontier().iter() {
            self.count(time, -1);
        }
    }

    /// Counts `time` by `difference` more or less.
    ///
    /// # Panics
    ///
    /// If more is released than was held: a mistake of ours that would silently lose a hold later.
    pub(crate) fn count(&mut self, time: &T, difference: i64) {
        match &mut self.counts {
            Counts::Few(counts) => {
                count_in_list(counts, time, difference);
                if counts.len() > FEW_MAX {
                    self.counts = Counts::Many(Box::new(Tree::new(std::mem::take(counts))));
                }
            }
            Counts::Many(tree) => {
                tree.count(time, difference);
                if tree.counts.len() <= FEW_AGAIN {
                    let list = std::mem::take(&mut tree.counts).into_iter().collect();
                    self.counts = Counts::Few(list);
                }
            }
        }
    }

    /// Counts no more what is not `kept`.
    pub(crate) fn retain(&mut self, kept: impl Fn(&T) -> bool) {
        let mut rest = Capabilities::new();
        for (time, count) in self.iter().filter(|(time, _)| kept(time)) {
            let count = i64::try_from(count).expect("each was counted by itself");
            rest.count(time, count);
        }
        *self = rest;
    }

    /// The frontier of all counted times.
    #[inline]
    pub(crate) fn frontier(&self) -> Since<T> {
        Since::new(match &self.counts {
            Counts::Few(counts) if counts.len() == 1 => Antichain::from_elem(counts[0].0.clone()),
            Counts::Few(counts) => minimal(counts.iter().map(|(time, _)| time)),
            Counts::Many(tree) => tree.frontier(),
        })
    }

    /// All counted times with their counts, in order.
    pub(crate) fn iter(&self) -> Box<dyn Iterator<Item = (&T, u64)> + '_> {
        match &self.counts {
            Counts::Few(counts) => Box::new(counts.iter().map(|(time, count)| (time, *count))),
            Counts::Many(tree) => Box::new(tree.counts.iter().map(|(time, count)| (time, *count))),
        }
    }
}

fn count_in_list<T: Time>(counts: &mut SmallVec<[(T, u64); 2]>, time: &T, difference: i64) {
    // From the end: what comes is mostly the latest.
    let at = counts.iter().rposition(|(counted, _)| counted <= time);
    match at {
        Some(at) if counts[at].0 == *time => {
            counts[at].1 = changed(time, counts[at].1, difference);
            if counts[at].1 == 0 {
                counts.remove(at);
            }
        }
        Some(_) | None => {
            let count = changed(time, 0, difference);
            if count > 0 {
                counts.insert(at.map_or(0, |at| at + 1), (time.clone(), count));
            }
        }
    }
}

fn changed<T: Time>(time: &T, count: u64, difference: i64) -> u64 {
    match count.checked_add_signed(difference) {
        Some(count) => count,
        None => panic!(
            "{} released at {time:?}, where {count} were held",
            difference.unsigned_abs()
        ),
    }
}

fn minimal<'a, T: Time>(sorted: impl Iterator<Item = &'a T>) -> Antichain<T> {
    let mut frontier = Antichain::new();
    for time in sorted {
        frontier.insert_ref(time);
    }
    frontier
}

impl<T: Time> Tree<T> {
    fn new(sorted: SmallVec<[(T, u64); 2]>) -> Self {
        let breaks = sorted
            .windows(2)
            .filter(|pair| is_break(&pair[0].0, &pair[1].0))
            .count();
        Tree {
            counts: sorted.into_iter().collect(),
            breaks,
        }
    }

    fn count(&mut self, time: &T, difference: i64) {
        if let Some(count) = self.counts.get_mut(time) {
            *count = changed(time, *count, difference);
            if *count == 0 {
                self.counts.remove(time);
                let (without, with) = self.breaks_around(time);
                self.breaks = self.breaks + without - with;
            }
        } else {
            let count = changed(time, 0, difference);
            if count > 0 {
                let (without, with) = self.breaks_around(time);
                self.breaks = self.breaks + with - without;
                self.counts.insert(time.clone(), count);
            }
        }
    }

    /// Between the neighbours of `time`, which is not counted: the breaks without it and with it.
    fn breaks_around(&self, time: &T) -> (usize, usize) {
        let before = self
            .counts
            .range(..time)
            .next_back()
            .map(|(before, _)| before);
        let after = self.counts.range(time..).next().map(|(after, _)| after);
        let without = matches!((before, after), (Some(a), Some(b)) if is_break(a, b));
        let with = before.is_some_and(|before| is_break(before, time)) as usize
            + after.is_some_and(|after| is_break(time, after)) as usize;
        (without as usize, with)
    }

    fn frontier(&self) -> Antichain<T> {
        if self.breaks == 0 {
            self.counts.keys().next().cloned().into_iter().collect()
        } else {
            minimal(self.counts.keys())
        }
    }
}

fn is_break<T: Time>(before: &T, after: &T) -> bool {
    !PartialOrder::less_equal(before, after)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use timely::order::Product;

    use super::*;

    type Pair = Product<u64, u64>;

    /// Counts each time at most a few times, so that lists become trees and lists again.
    fn agrees_with_a_plain_count<T: Time>(changes: Vec<(T, bool)>) {
        let mut plain = BTreeMap::<T, u64>::new();
        let mut ours = Capabilities::new();
        for (time, acquire) in changes {
            let count = plain.entry(time.clone()).or_default();
            if acquire {
                *count += 1;
                ours.count(&time, 1);
            } else if *count > 0 {
                *count -= 1;
                ours.count(&time, -1);
            }
            plain.retain(|_, count| *count > 0);
            assert_eq!(ours.frontier().into_frontier(), minimal(plain.keys()));
            assert!(
                ours.iter()
                    .eq(plain.iter().map(|(time, count)| (time, *count)))
            );
        }
    }

    proptest! {
        #[test]
        fn the_frontier_of_total_orders_is_that_of_a_plain_count(
            changes in prop::collection::vec((0_u64..60, prop::bool::weighted(0.6)), 0..300)
        ) {
            agrees_with_a_plain_count(changes);
        }

        #[test]
        fn the_frontier_of_partial_orders_is_that_of_a_plain_count(
            changes in prop::collection::vec(
                ((0_u64..8, 0_u64..8), prop::bool::weighted(0.6)), 0..300)
        ) {
            let pair = |(outer, inner)| Pair::new(outer, inner);
            agrees_with_a_plain_count(
                changes.into_iter().map(|(time, acquire)| (pair(time), acquire)).collect());
        }
    }

    #[test]
    #[should_panic(expected = "released at 7, where 1 were held")]
    fn counts_never_go_below_zero() {
        let mut capabilities = Capabilities::new();
        capabilities.count(&7_u64, 1);
        capabilities.count(&7, -2);
    }

    #[test]
    #[should_panic(expected = "released at 9, where 0 were held")]
    fn what_is_not_held_is_not_replaced() {
        let mut capabilities = Capabilities::new();
        capabilities.count(&7_u64, 1);
        capabilities.replace(&Since::at(9), &Since::at(11));
    }
}
