//! Whether updates are sorted already, which stored ones are.

use std::cmp::Ordering;

use arrow::buffer::NullBuffer;
use arrow::record_batch::RecordBatch;

use crate::time::ShardTime;

use super::column::{Kind, Numbers, Values, of_float};
use super::{Known, Updates};

/// Where an update stands that equals the one before; `None` if the updates are not sorted.
pub(super) fn ties<T: ShardTime>(updates: &Updates<T>) -> Option<Vec<u32>> {
    let ties = match updates.known {
        Known::Consolidated => Vec::new(),
        Known::RowsInOrder => equal_neighbours(&updates.rows),
        Known::Nothing => ties_in_order(&updates.rows)?,
    };
    narrow_by(ties, Looking::ForOrder, None, |at| &updates.times[at])
}

/// Where a row equals the one before, of rows in their order.
fn equal_neighbours(rows: &RecordBatch) -> Vec<u32> {
    let mut ties = all_neighbours(rows);
    let mut columns: Vec<_> = rows.columns().iter().map(Values::of).collect();
    // Numbers are compared faster, and they often differ.
    columns.sort_by_key(|values| {
        (
            matches!(values.kind, Kind::Pieces(_)),
            values.nulls.is_some(),
        )
    });
    for values in columns {
        let narrowed = narrow(ties, Looking::ForEqual, &values);
        ties = narrowed.expect("only the order can be wrong, which nobody looks for");
    }
    ties
}

/// Where a row equals the one before; `None` if the rows are not in their order.
///
/// Looks at a column only where those before it are equal, and copies nothing.
pub(super) fn ties_in_order(rows: &RecordBatch) -> Option<Vec<u32>> {
    let mut ties = all_neighbours(rows);
    for column in rows.columns() {
        if ties.is_empty() {
            break;
        }
        ties = narrow(ties, Looking::ForOrder, &Values::of(column))?;
    }
    Some(ties)
}

fn all_neighbours(rows: &RecordBatch) -> Vec<u32> {
    let rows = u32::try_from(rows.num_rows()).expect("updates are fewer than 2^32");
    (1..rows).collect()
}

/// Whether it matters that a value is less than the one before.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Looking {
    ForOrder,
    ForEqual,
}

/// Those whose values still equal the ones before; `None` if it matters that one of them is less.
fn narrow(ties: Vec<u32>, looking: Looking, values: &Values<'_>) -> Option<Vec<u32>> {
    let nulls = values.nulls;
    match values.kind {
        Kind::Pieces(pieces) => narrow_with(ties, looking, nulls, |before, this| {
            compare(pieces.at(before), pieces.at(this))
        }),
        Kind::Numbers(numbers) => match numbers {
            Numbers::Bits(bits) => narrow_by(ties, looking, nulls, |at| bits.value(at)),
            Numbers::Int32(numbers) => narrow_by(ties, looking, nulls, |at| numbers[at]),
            Numbers::Int64(numbers) => narrow_by(ties, looking, nulls, |at| numbers[at]),
            Numbers::UInt64(numbers) => narrow_by(ties, looking, nulls, |at| numbers[at]),
            Numbers::Float64(numbers) => {
                narrow_by(ties, looking, nulls, |at| of_float(numbers[at]))
            }
        },
    }
}

fn narrow_by<V: Ord>(
    ties: Vec<u32>,
    looking: Looking,
    nulls: Option<&NullBuffer>,
    value: impl Fn(usize) -> V,
) -> Option<Vec<u32>> {
    narrow_with(ties, looking, nulls, |before, this| {
        value(before).cmp(&value(this))
    })
}

fn narrow_with(
    ties: Vec<u32>,
    looking: Looking,
    nulls: Option<&NullBuffer>,
    order: impl Fn(usize, usize) -> Ordering,
) -> Option<Vec<u32>> {
    let Some(nulls) = nulls else {
        return keep(ties, looking, order);
    };
    keep(ties, looking, |before, this| {
        match [before, this].map(|at| nulls.is_valid(at)) {
            [true, true] => order(before, this),
            [before, this] => before.cmp(&this),
        }
    })
}

fn keep(
    mut ties: Vec<u32>,
    looking: Looking,
    order: impl Fn(usize, usize) -> Ordering,
) -> Option<Vec<u32>> {
    let mut kept = 0;
    for next in 0..ties.len() {
        let at = ties[next];
        match order(at as usize - 1, at as usize) {
            Ordering::Equal => {
                ties[kept] = at;
                kept += 1;
            }
            Ordering::Greater if looking == Looking::ForOrder => return None,
            Ordering::Less | Ordering::Greater => {}
        }
    }
    ties.truncate(kept);
    Some(ties)
}

/// Compares bytes. In what is sorted neighbours are mostly equal and mostly short, and to call
/// `memcmp` for those takes longer than to compare them.
fn compare(left: &[u8], right: &[u8]) -> Ordering {
    if is_equal(left, right) {
        Ordering::Equal
    } else {
        left.cmp(right)
    }
}

#[inline]
fn is_equal(left: &[u8], right: &[u8]) -> bool {
    if left.len() != right.len() {
        return false;
    }
    match left.len() {
        0..4 => left.iter().eq(right),
        4..8 => have_equal_ends::<4>(left, right),
        8..=16 => have_equal_ends::<8>(left, right),
        17..=32 => have_equal_ends::<16>(left, right),
        _ => left == right,
    }
}

/// Whether the first `N` bytes are equal, and the last `N`: of up to twice as many, all.
#[inline]
fn have_equal_ends<const N: usize>(left: &[u8], right: &[u8]) -> bool {
    left.first_chunk::<N>() == right.first_chunk() && left.last_chunk::<N>() == right.last_chunk()
}
