//! A hold as nothing but a count in a word.

use std::sync::atomic::{AtomicU64, Ordering};

/// One counted word per collection, each on a cache line of its own.
pub struct Words {
    words: Box<[Word]>,
}

#[derive(Default)]
#[repr(align(64))]
struct Word(AtomicU64);

impl Words {
    /// So many words.
    pub fn new(len: u64) -> Self {
        Self {
            words: (0..len).map(|_| Word::default()).collect(),
        }
    }

    /// Counts one more, and then one less by compare-and-swap, as a pin does it.
    #[inline]
    pub fn acquire_and_drop(&self, id: u64) {
        let word = &self.words[id as usize].0;
        // Relaxed wherever nothing is passed on: a floor owes nobody an ordering.
        let mut seen = word.fetch_add(1, Ordering::Acquire) + 1;
        while let Err(actual) =
            word.compare_exchange_weak(seen, seen - 1, Ordering::Release, Ordering::Relaxed)
        {
            seen = actual;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_word_counts_back_to_where_it_was_also_with_two_threads() {
        let words = Words::new(3);
        std::thread::scope(|scope| {
            for _ in 0..2 {
                scope.spawn(|| (0..1000).for_each(|_| words.acquire_and_drop(1)));
            }
        });
        assert!(
            words
                .words
                .iter()
                .all(|word| word.0.load(Ordering::Relaxed) == 0)
        );
    }
}
