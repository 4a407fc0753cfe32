//! Which columns are worth a dictionary.

use std::collections::HashSet;

use arrow::array::{ArrayRef, UInt32Array};
use arrow::compute::take;
use foldhash::fast::RandomState;

use crate::updates::{Kind, Values};

/// So many pieces of a column are looked at, of so many rows each: pieces, because equal values may
/// stand together.
const PIECES: usize = 64;
const PIECE_ROWS: usize = 16;

/// Columns of fewer rows are not worth the question.
const ROWS_MIN: usize = 4 * PIECES * PIECE_ROWS;

/// Whether the values of a column seem to repeat. Where they do not, a dictionary is the same values
/// and a number for each in addition, and to find that out takes longer than all else: of 100,000
/// different numbers, a third of the time that it takes to write a part.
pub(super) fn is_worth_it(column: &ArrayRef) -> bool {
    let rows = column.len();
    if rows < ROWS_MIN {
        return true;
    }
    let pieces = (0..PIECES).map(|piece| rows / PIECES * piece);
    let places = pieces.flat_map(|start| start..start + PIECE_ROWS);
    let places: UInt32Array = places.map(|at| u32::try_from(at).ok()).collect();
    let sample = take(column, &places, None).expect("these are rows of the column");
    let Values { nulls, kind } = Values::of(&sample);
    let there = (0..sample.len()).filter(|&at| nulls.is_none_or(|nulls| nulls.is_valid(at)));
    let (values, different) = match kind {
        Kind::Numbers(numbers) => {
            let numbers = numbers.to_vec();
            count(there.map(|at| numbers[at]))
        }
        Kind::Pieces(pieces) => count(there.map(|at| pieces.at(at))),
    };
    different <= values / 16 * 15
}

/// How many, and how many of them are different.
fn count<V: std::hash::Hash + Eq>(values: impl Iterator<Item = V>) -> (usize, usize) {
    let mut different = HashSet::with_hasher(RandomState::default());
    let values = values.map(|value| different.insert(value)).count();
    (values, different.len())
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use arrow::array::{Int64Array, StringArray};

    use super::*;

    fn numbers(number: impl Fn(i64) -> Option<i64>) -> ArrayRef {
        Arc::new((0..100_000).map(number).collect::<Int64Array>())
    }

    fn texts(text: impl Fn(i64) -> String) -> ArrayRef {
        let texts = (0..100_000).map(|at| Some(text(at)));
        Arc::new(texts.collect::<StringArray>())
    }

    #[test]
    fn values_that_are_all_different_are_not_worth_a_dictionary() {
        assert!(!is_worth_it(&numbers(Some)));
        assert!(!is_worth_it(&numbers(|at| (at % 2 == 0).then_some(at))));
        assert!(!is_worth_it(&texts(|at| format!("number {at}"))));
    }

    #[test]
    fn values_that_repeat_are_worth_one_wherever_they_stand() {
        assert!(is_worth_it(&numbers(|at| Some(at * 7_919 % 1_440))));
        assert!(is_worth_it(&numbers(|at| Some(at / 10))));
        assert!(is_worth_it(&numbers(|_| None)));
        assert!(is_worth_it(&texts(|at| format!("number {}", at / 10))));
    }

    #[test]
    fn few_rows_are_not_looked_at() {
        let few: ArrayRef = Arc::new(Int64Array::from_iter_values(0..100));
        assert!(is_worth_it(&few));
    }
}
