//! Rows of one number each.

use std::sync::Arc;

use arrow::array::{ArrayRef, Int64Array, RecordBatch};
use lowwater_shard::{Column, ColumnKind, Schema, ShardTime, Updates};

pub(crate) fn schema() -> Schema {
    Schema::new(vec![Column {
        name: "row".to_owned(),
        kind: ColumnKind::Int64,
        nullable: false,
    }])
    .unwrap()
}

pub(crate) fn updates<T: ShardTime>(of: &[(i64, T, i64)]) -> Updates<T> {
    let rows = Int64Array::from_iter_values(of.iter().map(|(row, _, _)| *row));
    let columns: Vec<ArrayRef> = vec![Arc::new(rows)];
    let rows = RecordBatch::try_new(schema().arrow(), columns).unwrap();
    let times = of.iter().map(|(_, time, _)| time.clone()).collect();
    let diffs = of.iter().map(|(_, _, diff)| *diff).collect();
    Updates::new(rows, times, diffs).unwrap()
}

/// Rows, times and differences, in order.
pub(crate) fn list<T: ShardTime>(updates: &Updates<T>) -> Vec<(i64, T, i64)> {
    let rows = updates.rows().column(0).as_any();
    let rows = rows.downcast_ref::<Int64Array>().unwrap().values();
    let times = updates.times().iter().cloned();
    let zipped = rows.iter().zip(times).zip(updates.diffs());
    let mut list: Vec<_> = zipped
        .map(|((row, time), diff)| (*row, time, *diff))
        .collect();
    list.sort();
    list
}
