//! Rows to write.

use std::sync::Arc;

use arrow::array::{ArrayRef, Int64Array, StringArray};
use arrow::record_batch::RecordBatch;
use lowwater_shard::{Column, ColumnKind, Schema, Updates};

pub(crate) fn schema() -> Schema {
    let column = |name: &str, kind, nullable| Column {
        name: name.to_owned(),
        kind,
        nullable,
    };
    let columns = vec![
        column("carrier", ColumnKind::Text, false),
        column("delay", ColumnKind::Int64, true),
    ];
    Schema::new(columns).unwrap()
}

/// So many updates, at times from `from` on.
pub(crate) fn flights(from: u64, count: u64) -> Updates<u64> {
    let numbers = || from..from + count;
    let carriers: StringArray = numbers()
        .map(|number| Some(format!("carrier {}", number % 20)))
        .collect();
    let delays: Int64Array = numbers()
        .map(|number| (number % 7 > 0).then_some(number.cast_signed() % 90 - 20))
        .collect();
    let columns: Vec<ArrayRef> = vec![Arc::new(carriers), Arc::new(delays)];
    let rows = RecordBatch::try_new(schema().arrow(), columns).unwrap();
    let diffs = numbers().map(|number| 1 - 2 * i64::from(number % 3 == 0));
    Updates::new(rows, numbers().collect(), diffs.collect()).unwrap()
}
