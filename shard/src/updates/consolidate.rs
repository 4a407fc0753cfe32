//! Adding up what cannot be told apart.

use std::cell::OnceCell;
use std::cmp::Ordering;

use arrow::array::UInt32Array;
use arrow::compute::take_record_batch;
use arrow::record_batch::RecordBatch;
use arrow::row::{RowConverter, Rows, SortField};

use crate::time::ShardTime;

use super::codes::Codes;
use super::{Known, Updates, sorted};

impl<T: ShardTime> Updates<T> {
    /// Equal rows at equal times become one, whose difference is the sum (modulo 2^64, as
    /// everywhere); where that is zero they vanish. What is left is sorted by row, in the order of
    /// [arrow's row format](arrow::row), and by time: equal updates come out equal, whatever they
    /// were put together from.
    ///
    /// What is consolidated already is found so, and nothing is copied.
    #[must_use]
    pub fn consolidate(self) -> Self {
        debug_assert!(self.is_as_known(), "{:?} is wrong", self.known);
        if self.is_consolidated() {
            return self;
        }
        let order = match sorted::ties(&self) {
            Some(ties) if ties.is_empty() && !self.diffs.contains(&0) => {
                return self.known_as_consolidated();
            }
            Some(ties) => Order::as_it_is(self.len(), ties),
            None => Order::sort(&self),
        };
        let (kept, diffs) = order.add_up(&self.diffs);
        let times = kept.iter().map(|&at| self.times[at as usize].clone());
        Updates {
            times: times.collect(),
            diffs,
            rows: take(&self.rows, kept),
            known: Known::Consolidated,
        }
    }

    /// Whether what is known of their order is so.
    fn is_as_known(&self) -> bool {
        let are_rows_in_order = || sorted::ties_in_order(&self.rows).is_some();
        match self.known {
            Known::Nothing => true,
            Known::RowsInOrder => are_rows_in_order(),
            Known::Consolidated => {
                let known = Known::RowsInOrder;
                let known_less = Updates {
                    known,
                    ..self.clone()
                };
                let ties = sorted::ties(&known_less);
                are_rows_in_order() && ties == Some(Vec::new()) && !self.diffs.contains(&0)
            }
        }
    }
}

fn take(rows: &RecordBatch, places: Vec<u32>) -> RecordBatch {
    let taken = take_record_batch(rows, &UInt32Array::from(places));
    taken.expect("these are places of rows")
}

/// Places of updates, sorted.
struct Order {
    places: Vec<u32>,
    /// Whether the update at a place equals the one at the place before in this order.
    is_tied: Vec<bool>,
}

impl Order {
    fn as_it_is(updates: usize, ties: Vec<u32>) -> Self {
        let mut order = Order::untied((0..updates as u32).collect());
        for at in ties {
            order.is_tied[at as usize] = true;
        }
        order
    }

    fn untied(places: Vec<u32>) -> Self {
        Order {
            is_tied: vec![false; places.len()],
            places,
        }
    }

    fn sort<T: ShardTime>(updates: &Updates<T>) -> Self {
        let sorted = Codes::of(&updates.rows).sort();
        let mut order = Order::untied(sorted.places());
        let rows = WholeRows::of(&updates.rows);
        let compare = |left: u32, right: u32| {
            let of_rows = match sorted.is_exact {
                true => Ordering::Equal,
                false => rows.compare(left, right),
            };
            let times = &updates.times;
            of_rows.then_with(|| times[left as usize].cmp(&times[right as usize]))
        };
        for tied in sorted.ties() {
            let run = &mut order.places[tied.clone()];
            run.sort_by(|&left, &right| compare(left, right));
            let pairs = run.array_windows();
            let is_tied = pairs.map(|&[left, right]| compare(left, right) == Ordering::Equal);
            for (at, is_tied) in (tied.start + 1..).zip(is_tied) {
                order.is_tied[at] = is_tied;
            }
        }
        order
    }

    /// The first of each run of equal ones, and the sum of the run, where it is not zero.
    fn add_up(&self, diffs: &[i64]) -> (Vec<u32>, Vec<i64>) {
        let mut kept: Vec<u32> = Vec::with_capacity(self.places.len());
        let mut sums: Vec<i64> = Vec::with_capacity(self.places.len());
        for (place, is_tied) in self.places.iter().zip(&self.is_tied) {
            let diff = diffs[*place as usize];
            match sums.last_mut() {
                Some(sum) if *is_tied => *sum = sum.wrapping_add(diff),
                _ => {
                    // The run before has ended.
                    if sums.last() == Some(&0) {
                        kept.pop();
                        sums.pop();
                    }
                    kept.push(*place);
                    sums.push(diff);
                }
            }
        }
        if sums.last() == Some(&0) {
            kept.pop();
            sums.pop();
        }
        (kept, sums)
    }
}

/// Rows as the bytes that they are ordered by, which are made only if somebody asks.
struct WholeRows<'a> {
    rows: &'a RecordBatch,
    bytes: OnceCell<Rows>,
}

impl<'a> WholeRows<'a> {
    fn of(rows: &'a RecordBatch) -> Self {
        let bytes = OnceCell::new();
        WholeRows { rows, bytes }
    }

    fn compare(&self, left: u32, right: u32) -> Ordering {
        let bytes = self.bytes.get_or_init(|| convert(self.rows));
        bytes.row(left as usize).cmp(&bytes.row(right as usize))
    }
}

/// There is a column, else nobody would have to ask.
fn convert(rows: &RecordBatch) -> Rows {
    let fields = rows.schema_ref().fields().iter();
    let fields = fields.map(|field| SortField::new(field.data_type().clone()));
    let converter = RowConverter::new(fields.collect());
    let converter = converter.expect("all our types have a row format");
    let rows = converter.convert_columns(rows.columns());
    rows.expect("the columns have the types of their fields")
}
