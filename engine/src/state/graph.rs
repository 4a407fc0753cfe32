//! The order of a turn: dependents before dependencies, each collection once.

/// No collection: the end of a list.
pub(crate) const NONE: u32 = u32::MAX;

/// The collections that a turn still has to visit, by rank, the greatest first.
///
/// A collection's rank is greater than those of all its dependencies, so whoever is visited has
/// heard from all its dependents. The lists run through the collections themselves
/// ([`Links`]), so that nothing is allocated in a turn, and a bitmap of the occupied ranks finds
/// the next one in O(log₆₄ ranks), however far it is.
#[derive(Debug, Default)]
pub(crate) struct Agenda {
    /// The first collection of each rank's list.
    heads: Vec<u32>,
    /// `levels[0]` has a bit for each rank, `levels[n + 1]` one for each word of `levels[n]`.
    levels: Vec<Vec<u64>>,
}

/// Where a collection stands in the agenda.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Links {
    /// Greater than the rank of every dependency.
    pub(crate) rank: u32,
    /// The next one of the same rank, if `queued`.
    next: u32,
    queued: bool,
}

impl Links {
    pub(crate) fn new(rank: u32) -> Self {
        Links {
            rank,
            next: NONE,
            queued: false,
        }
    }
}

impl Agenda {
    /// Makes room for `rank`, so that queueing a collection of it allocates nothing.
    pub(crate) fn reserve(&mut self, rank: u32) {
        let ranks = rank as usize + 1;
        if self.heads.len() >= ranks {
            return;
        }
        let ranks = ranks.next_power_of_two().max(64);
        self.heads.resize(ranks, NONE);
        let mut words = ranks;
        let mut level = 0;
        loop {
            words = words.div_ceil(64);
            if self.levels.len() == level {
                // A new top: it says which words of the level below are occupied.
                let below = level
                    .checked_sub(1)
                    .map_or(&[][..], |below| &self.levels[below]);
                let mut top = vec![0; words];
                for (at, word) in below.iter().enumerate() {
                    top[at / 64] |= u64::from(*word != 0) << (at % 64);
                }
                self.levels.push(top);
            } else {
                self.levels[level].resize(words, 0);
            }
            if words == 1 {
                return;
            }
            level += 1;
        }
    }

    /// Queues the collection `slot`, once.
    #[inline]
    pub(crate) fn push(&mut self, slot: u32, links: &mut Links) {
        if links.queued {
            return;
        }
        let head = &mut self.heads[links.rank as usize];
        if *head == NONE {
            self.mark(links.rank as usize);
        }
        let head = &mut self.heads[links.rank as usize];
        links.queued = true;
        links.next = std::mem::replace(head, slot);
    }

    /// A collection of the greatest rank that is queued; [`Agenda::remove_first`] takes it out.
    #[inline]
    pub(crate) fn first(&self) -> Option<u32> {
        let mut at = 0;
        for level in self.levels.iter().rev() {
            let word = level[at];
            if word == 0 {
                return None;
            }
            at = at * 64 + (63 - word.leading_zeros() as usize);
        }
        self.heads.get(at).copied()
    }

    /// Takes out what [`Agenda::first`] returned, whose links these are.
    #[inline]
    pub(crate) fn remove_first(&mut self, links: &mut Links) {
        links.queued = false;
        let rank = links.rank as usize;
        self.heads[rank] = links.next;
        if links.next == NONE {
            self.clear(rank);
        }
    }

    fn mark(&mut self, rank: usize) {
        let mut at = rank;
        for level in &mut self.levels {
            let word = &mut level[at / 64];
            let was = *word;
            *word |= 1 << (at % 64);
            if was != 0 {
                return;
            }
            at /= 64;
        }
    }

    fn clear(&mut self, rank: usize) {
        let mut at = rank;
        for level in &mut self.levels {
            let word = &mut level[at / 64];
            *word &= !(1 << (at % 64));
            if *word != 0 {
                return;
            }
            at /= 64;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn drain(agenda: &mut Agenda, links: &mut [Links]) -> Vec<u32> {
        let mut order = Vec::new();
        while let Some(slot) = agenda.first() {
            agenda.remove_first(&mut links[slot as usize]);
            order.push(slot);
        }
        order
    }

    #[test]
    fn the_greatest_rank_comes_first_and_each_collection_once() {
        let ranks = [0, 5, 70_000, 63, 64, 5, 4_095, 4_096, 262_144];
        let mut links: Vec<_> = ranks.iter().map(|&rank| Links::new(rank)).collect();
        let mut agenda = Agenda::default();
        for (slot, links) in links.iter_mut().enumerate() {
            agenda.reserve(links.rank);
            agenda.push(slot as u32, links);
            agenda.push(slot as u32, links);
        }
        assert_eq!(drain(&mut agenda, &mut links), [8, 2, 7, 6, 4, 3, 5, 1, 0]);
        assert_eq!(agenda.first(), None);
    }

    #[test]
    fn what_is_queued_while_the_turn_goes_down_is_still_visited() {
        let mut links = [Links::new(9), Links::new(3), Links::new(0)];
        let mut agenda = Agenda::default();
        agenda.reserve(9);
        agenda.push(0, &mut links[0]);
        assert_eq!(agenda.first(), Some(0));
        agenda.remove_first(&mut links[0]);
        agenda.push(2, &mut links[2]);
        agenda.push(1, &mut links[1]);
        assert_eq!(drain(&mut agenda, &mut links), [1, 2]);
    }

    #[test]
    fn growing_keeps_what_is_queued() {
        let mut links = [Links::new(1), Links::new(100_000)];
        let mut agenda = Agenda::default();
        agenda.reserve(1);
        agenda.push(0, &mut links[0]);
        agenda.reserve(100_000);
        agenda.push(1, &mut links[1]);
        assert_eq!(drain(&mut agenda, &mut links), [1, 0]);
    }
}
