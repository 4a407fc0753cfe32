//! Rows as a table of flights has them, as updates of a shard.

use std::sync::Arc;

use arrow::array::{ArrayRef, Int64Array, StringArray};
use arrow::record_batch::RecordBatch;
use lowwater_shard::{Column, ColumnKind, Schema, Updates};

/// How many times the updates of one batch are spread over: a day of minutes.
pub const TIMES: u64 = 1_440;

/// Two texts and two numbers, one of which may be missing.
///
/// # Panics
///
/// Never: no two columns have one name.
pub fn schema() -> Schema {
    let column = |name: &str, kind, nullable| Column {
        name: name.to_owned(),
        kind,
        nullable,
    };
    let columns = vec![
        column("carrier", ColumnKind::Text, false),
        column("origin", ColumnKind::Text, false),
        column("flight", ColumnKind::Int64, false),
        column("delay", ColumnKind::Int64, true),
    ];
    Schema::new(columns).expect("no two columns have one name")
}

/// So many rows in no order, always the same, at [`TIMES`] times from 0 on.
///
/// # Panics
///
/// Never: they are of the [`schema`].
pub fn updates(rows: u64) -> Updates<u64> {
    let mut random = fastrand::Rng::with_seed(7);
    let mut numbers = |below: i64| (0..rows).map(|_| random.i64(0..below)).collect::<Vec<_>>();
    let text = |prefix: &str, numbers: Vec<i64>| {
        let texts = numbers
            .iter()
            .map(|number| Some(format!("{prefix}{number}")));
        Arc::new(texts.collect::<StringArray>()) as ArrayRef
    };
    let carriers = text("carrier ", numbers(20));
    let origins = text("airport ", numbers(300));
    let flights = Int64Array::from(numbers(1 << 40));
    let delays = numbers(200)
        .into_iter()
        .map(|delay| (delay > 10).then_some(delay - 30));
    let delays: Int64Array = delays.collect();
    let columns = vec![carriers, origins, Arc::new(flights), Arc::new(delays)];
    let times = numbers(TIMES.cast_signed()).into_iter();
    let times: Vec<u64> = times.map(i64::cast_unsigned).collect();
    let batch = RecordBatch::try_new(schema().arrow(), columns).expect("they are of the schema");
    let diffs = vec![1; times.len()];
    Updates::new(batch, times, diffs).expect("there is a time and a difference for each row")
}

/// The same rows, so much later.
///
/// # Panics
///
/// Never: they are as many.
pub fn later(updates: &Updates<u64>, by: u64) -> Updates<u64> {
    let (rows, times, diffs) = updates.clone().into_parts();
    let times = times.into_iter().map(|time| time + by).collect();
    Updates::new(rows, times, diffs).expect("they are as many as before")
}
