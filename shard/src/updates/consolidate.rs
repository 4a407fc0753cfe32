//! Adding up what cannot be told apart.

use std::cmp::Ordering;

use arrow::array::UInt32Array;
use arrow::compute::take_record_batch;
use arrow::row::{RowConverter, Rows, SortField};

use crate::time::ShardTime;

use super::Updates;

impl<T: ShardTime> Updates<T> {
    /// Equal rows at equal times become one, whose difference is the sum (modulo 2^64, as
    /// everywhere); where that is zero they vanish. What is left is sorted by row, in the order of
    /// [arrow's row format](arrow::row), and by time: equal updates come out equal, whatever they
    /// were put together from.
    ///
    /// What is consolidated already is found so, and nothing is copied; sorted pieces that stand
    /// one behind the other are merged.
    #[must_use]
    pub fn consolidate(self) -> Self {
        let keys = Keys::of(&self);
        if keys.are_ascending() && !self.diffs.contains(&0) {
            return self;
        }
        let mut order: Vec<u32> = (0..keys.len()).collect();
        // Stable, for this sort finds what is sorted already.
        order.sort_by(|&left, &right| keys.compare(left, right));
        let (kept, diffs) = keys.add_up(&order, &self.diffs);
        drop(keys);
        let times = kept.iter().map(|&at| self.times[at as usize].clone());
        Updates {
            times: times.collect(),
            diffs,
            rows: take_record_batch(&self.rows, &UInt32Array::from(kept))
                .expect("these are places of rows"),
        }
    }
}

/// What updates are compared by.
struct Keys<'a, T> {
    /// In the order of the rows themselves, byte by byte; `None` for rows without columns.
    rows: Option<Rows>,
    times: &'a [T],
}

impl<'a, T: ShardTime> Keys<'a, T> {
    fn of(updates: &'a Updates<T>) -> Self {
        let fields = updates.rows.schema_ref().fields().iter();
        let fields: Vec<SortField> = fields
            .map(|field| SortField::new(field.data_type().clone()))
            .collect();
        let rows = (!fields.is_empty()).then(|| {
            let converter = RowConverter::new(fields).expect("all our types have a row format");
            let rows = converter.convert_columns(updates.rows.columns());
            rows.expect("the columns have the types of their fields")
        });
        Keys {
            rows,
            times: &updates.times,
        }
    }

    fn len(&self) -> u32 {
        u32::try_from(self.times.len()).expect("updates are fewer than 2^32")
    }

    fn compare(&self, left: u32, right: u32) -> Ordering {
        let (left, right) = (left as usize, right as usize);
        let rows = match &self.rows {
            Some(rows) => rows.row(left).cmp(&rows.row(right)),
            None => Ordering::Equal,
        };
        rows.then_with(|| self.times[left].cmp(&self.times[right]))
    }

    fn are_ascending(&self) -> bool {
        (1..self.len()).all(|at| self.compare(at - 1, at) == Ordering::Less)
    }

    /// The first of each run of equal ones, and the sum of the run, where it is not zero.
    fn add_up(&self, order: &[u32], diffs: &[i64]) -> (Vec<u32>, Vec<i64>) {
        let (mut kept, mut sums) = (Vec::with_capacity(order.len()), Vec::new());
        for run in order.chunk_by(|&left, &right| self.compare(left, right) == Ordering::Equal) {
            let each = run.iter().map(|&at| diffs[at as usize]);
            let sum = each.fold(0, i64::wrapping_add);
            if sum != 0 {
                kept.push(run[0]);
                sums.push(sum);
            }
        }
        (kept, sums)
    }
}
