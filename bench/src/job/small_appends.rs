//! Appends of one row to many shards: in one transaction, and each in its own.

use std::cell::Cell;
use std::sync::Arc;
use std::time::{Duration, Instant};

use lowwater::{ShardId, Upper};
use lowwater_shard::{Append, Parts, Settings, Shards, Updates, Upkeep, Writer};

use crate::flights::{self, TIMES};
use crate::job::durable::Store;

/// Why a bench that fails has no figures.
const WORKS: &str = "the store of a bench works";

/// Shards before these belong to other benches.
const FIRST_SHARD: u128 = 1 << 64;

/// Shards that get a row each at every tick.
pub struct SmallAppends<'a> {
    store: &'a Store,
    shards: Shards<u64>,
    row: Updates<u64>,
    writers: Vec<Writer<u64>>,
    written: Cell<u64>,
}

impl<'a> SmallAppends<'a> {
    /// So many shards in this store.
    ///
    /// # Panics
    ///
    /// If the store fails.
    pub fn new(store: &'a Store, shards: u64) -> Self {
        let settings = Settings {
            // Nobody but the bench works on them.
            upkeep: Upkeep::ByHand,
            ..Settings::default()
        };
        let consensus = Arc::clone(&store.consensus);
        let all = Shards::new(store.runtime.handle(), consensus, Parts::memory(), settings);
        let schema = flights::schema();
        let writer = |shard| {
            let writer = all.writer(ShardId::new(FIRST_SHARD + u128::from(shard)), &schema);
            store.runtime.block_on(writer).expect(WORKS)
        };
        SmallAppends {
            store,
            writers: (0..shards).map(writer).collect(),
            shards: all,
            row: flights::updates(1),
            written: Cell::new(0),
        }
    }

    /// A row for each shard, so often, all in one transaction.
    ///
    /// # Panics
    ///
    /// If one is not appended.
    pub fn together(&self, operations: u64) -> Duration {
        self.timed(operations, |it, [lower, upper], row| {
            let append = |writer| Append {
                writer,
                lower: lower.clone(),
                upper: upper.clone(),
                updates: row.clone(),
            };
            let appends = it.writers.iter().map(append).collect();
            let appended = it.store.runtime.block_on(it.shards.append_all(appends));
            assert!(appended.iter().all(Result::is_ok), "{appended:?}");
        })
    }

    /// The same, in one transaction for each shard.
    ///
    /// # Panics
    ///
    /// If one is not appended.
    pub fn one_by_one(&self, operations: u64) -> Duration {
        self.timed(operations, |it, [lower, upper], row| {
            for writer in &it.writers {
                let append = writer.compare_and_append(lower.clone(), upper.clone(), row.clone());
                it.store.runtime.block_on(append).expect(WORKS);
            }
        })
    }

    fn timed(
        &self,
        operations: u64,
        append: impl Fn(&Self, [Upper<u64>; 2], Updates<u64>),
    ) -> Duration {
        let mut took = Duration::ZERO;
        for _ in 0..operations {
            let written = self.written.get();
            let bounds = [written, written + 1];
            let row = flights::later(&self.row, written * TIMES);
            let start = Instant::now();
            append(self, bounds.map(|at| Upper::at(at * TIMES)), row);
            took += start.elapsed();
            self.written.set(written + 1);
        }
        took
    }
}
