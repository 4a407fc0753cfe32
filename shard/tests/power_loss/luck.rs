//! What becomes of changes that were not synced when the power was lost.

use std::collections::HashMap;
use std::hash::Hash;

use fastrand::Rng;

/// A seeded choice. A disk writes in any order, sector by sector; but what is in one sector is
/// written as a whole, and never something older after something newer.
pub(crate) struct Luck {
    how: How,
    random: Rng,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum How {
    /// Nothing was written that need not be.
    Nothing,
    /// Everything was, as if only the process had been killed.
    Everything,
    /// Some of each.
    Torn,
}

/// The last change of a sector that was written; those after it are lost.
#[derive(Clone, Copy)]
pub(crate) struct Last(u64);

impl Luck {
    pub(crate) fn new(how: How, seed: u64) -> Self {
        Luck {
            how,
            random: Rng::with_seed(seed),
        }
    }

    /// Whether the change of a name was written.
    pub(crate) fn is_kept(&mut self) -> bool {
        match self.how {
            How::Nothing => false,
            How::Everything => true,
            How::Torn => self.random.bool(),
        }
    }

    /// How far something that goes through these changes was written.
    pub(crate) fn last_of(&mut self, changes: &[u64]) -> Last {
        match self.how {
            How::Nothing => Last(0),
            How::Everything => Last(u64::MAX),
            How::Torn => match self.random.u8(0..3) {
                0 => Last(0),
                1 => Last(u64::MAX),
                _ => Last(self.random.choice(changes).copied().unwrap_or(0)),
            },
        }
    }

    /// How far one of many things of a kind was written: the same each time it is asked.
    pub(crate) fn last_of_each<K: Eq + Hash>(
        &mut self,
        each: K,
        chosen: &mut HashMap<K, Last>,
        changes: &[u64],
    ) -> Last {
        *chosen.entry(each).or_insert_with(|| self.last_of(changes))
    }

    /// What is left of memory that is never written for certain.
    pub(crate) fn rubbish(&mut self) -> Vec<u8> {
        let length = *self.random.choice(&[0, 3, 4_096, 32_768]).expect("some");
        std::iter::repeat_with(|| self.random.u8(..))
            .take(length)
            .collect()
    }
}

impl Last {
    pub(crate) fn includes(self, change: u64) -> bool {
        change <= self.0
    }
}
