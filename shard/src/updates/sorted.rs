//! Whether updates are sorted already, which stored ones are.

use crate::time::ShardTime;

use super::Updates;
use super::column::{Kind, Values};

/// Where an update stands that equals the one before; `None` if the updates are not sorted.
///
/// Looks at a column only where those before it are equal, and copies nothing.
pub(super) fn ties<T: ShardTime>(updates: &Updates<T>) -> Option<Vec<u32>> {
    let rows = u32::try_from(updates.len()).expect("updates are fewer than 2^32");
    let mut tied: Vec<u32> = (1..rows).collect();
    for column in updates.rows.columns() {
        if tied.is_empty() {
            return Some(tied);
        }
        let Values { nulls, kind } = Values::of(column);
        tied = match (kind, nulls) {
            (Kind::Numbers(numbers), None) => narrow(&tied, |at| numbers[at]),
            (Kind::Pieces(pieces), None) => narrow(&tied, |at| pieces.at(at)),
            (Kind::Numbers(numbers), Some(nulls)) => {
                narrow(&tied, |at| nulls.is_valid(at).then(|| numbers[at]))
            }
            (Kind::Pieces(pieces), Some(nulls)) => {
                narrow(&tied, |at| nulls.is_valid(at).then(|| pieces.at(at)))
            }
        }?;
    }
    narrow(&tied, |at| &updates.times[at])
}

/// Those that still equal the one before; `None` if one of them is less.
fn narrow<V: Ord>(tied: &[u32], value: impl Fn(usize) -> V) -> Option<Vec<u32>> {
    let mut still = Vec::new();
    for &at in tied {
        let [before, this] = [at as usize - 1, at as usize].map(&value);
        if before > this {
            return None;
        }
        if before == this {
            still.push(at);
        }
    }
    Some(still)
}
