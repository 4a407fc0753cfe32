//! Rows appended to shards and read again, beside the `parquet` crate alone.

use crate::job::durable::Store;
use crate::job::rows::Place;
use crate::job::small_appends::SmallAppends;
use crate::report::{Goal, Row};
use crate::sample::{Scale, medians};

const ROWS: u64 = 100_000;
const SHARDS: u64 = 100;

/// Half as fast is fast enough.
const GOAL: Goal = Goal {
    text: "≥ 0.5 × the parquet crate alone (the baseline of this row)",
    times_baseline: Some(0.5),
    at_most: None,
    times_floor: None,
    missed_otherwise: false,
};

pub(super) struct Appends {
    pub(super) rows: Vec<Row>,
    pub(super) notes: Vec<String>,
}

/// Large batches, in a folder and in memory: all appends, then all snapshots.
pub(super) fn measure(scale: Scale) -> Appends {
    let rows = scale.rows(ROWS);
    let places = [
        ("folder", Place::folder(rows)),
        ("memory", Place::memory(rows)),
    ];
    let mut measured = Appends {
        rows: Vec::new(),
        notes: Vec::new(),
    };
    for (name, place) in &places {
        let figures = medians(
            scale,
            [&mut |n| place.append_to_a_shard(n), &mut |n| {
                place.append_with_parquet_alone(n)
            }],
        );
        let bytes = place.bytes();
        measured.push(&format!("append_100k_{name}"), figures, rows, bytes);
    }
    for (name, place) in &places {
        let bytes = place.bytes();
        let written = place.written();
        let figures = medians(
            scale,
            [&mut |n| written.snapshot(n), &mut |n| {
                written.read_with_parquet_alone(n)
            }],
        );
        measured.push(&format!("snapshot_100k_{name}"), figures, rows, bytes);
    }
    measured
}

impl Appends {
    fn push(&mut self, name: &str, figures: [f64; 2], rows: u64, bytes: usize) {
        let speed = |nanoseconds: f64| {
            let per_second = 1e9 / nanoseconds;
            let (rows, megabytes) = (rows as f64 * per_second, bytes as f64 * per_second / 1e6);
            format!("{per_second:.1} a second, {rows:.0} rows/s, {megabytes:.0} MB/s")
        };
        let [ours, alone] = figures;
        self.notes.push(format!(
            "{name}, {rows} rows, {bytes} bytes in memory: ours {}; the parquet crate alone, which neither sorts nor adds up, {}",
            speed(ours),
            speed(alone),
        ));
        self.rows
            .push(Row::nanoseconds(name, ours, alone).goal(GOAL));
    }
}

/// A row for each of many shards, in one transaction; the baseline is one transaction for each.
pub(super) fn small(scale: Scale, store: &Store, name: &str) -> Row {
    let shards = scale.collections(SHARDS);
    let appends = SmallAppends::new(store, shards);
    let figures = medians(
        scale,
        [&mut |n| appends.together(n), &mut |n| appends.one_by_one(n)],
    );
    let [together, one_by_one] = figures.map(|figure| figure / shards as f64);
    Row::nanoseconds(&format!("append_small_{name}"), together, one_by_one)
}
