//! Rows that become durable in a shard and are read again, and the same by the `parquet` crate alone.

use std::cell::Cell;
use std::fs;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use arrow::record_batch::RecordBatch;
use bytes::Bytes;
use lowwater::{ShardId, Upper};
use lowwater_shard::consensus::embedded::EmbeddedConsensus;
use lowwater_shard::consensus::{Consensus, MemoryConsensus};
use lowwater_shard::{Parts, Settings, Shards, Updates, Upkeep, Writer};
use tempfile::TempDir;
use timely::progress::Antichain;
use tokio::runtime::Runtime;

use crate::baseline::parquet;
use crate::flights::{self, TIMES};

/// Why a bench that fails has no figures.
const WORKS: &str = "the store of a bench works";

/// Rows that are written and read as a whole, in memory or in a folder.
#[derive(Debug)]
pub struct Place {
    runtime: Runtime,
    shards: Shards<u64>,
    /// Shards that were given names so far.
    named: Cell<u128>,
    rows: u64,
    /// The rows of a shard.
    updates: Updates<u64>,
    /// The rows of the `parquet` crate.
    columns: RecordBatch,
    /// `None`: in memory.
    folder: Option<TempDir>,
}

impl Place {
    /// Batches of so many rows, in memory.
    pub fn memory(rows: u64) -> Self {
        Self::new(
            rows,
            None,
            Arc::new(MemoryConsensus::new()),
            Parts::memory(),
        )
    }

    /// Batches of so many rows, in a folder: parts beside records in SQLite.
    ///
    /// # Panics
    ///
    /// If the folder cannot be used.
    pub fn folder(rows: u64) -> Self {
        let folder = tempfile::tempdir().expect(WORKS);
        let store = EmbeddedConsensus::open(folder.path().join("records")).expect(WORKS);
        let parts = Parts::folder(folder.path().join("parts")).expect(WORKS);
        Self::new(rows, Some(folder), Arc::new(store), parts)
    }

    fn new(rows: u64, folder: Option<TempDir>, store: Arc<dyn Consensus>, parts: Parts) -> Self {
        let runtime = super::durable::runtime();
        let settings = Settings {
            // However few they are: a part is what is measured.
            inline_bytes_max: 0,
            // Nobody but the bench works on them.
            upkeep: Upkeep::ByHand,
            ..Settings::default()
        };
        let updates = flights::updates(rows);
        Place {
            shards: Shards::new(runtime.handle(), store, parts, settings),
            runtime,
            named: Cell::new(0),
            rows,
            columns: parquet::columns(&updates),
            updates,
            folder,
        }
    }

    /// How large the rows are in memory.
    pub fn bytes(&self) -> usize {
        self.columns.get_array_memory_size()
    }

    fn name(&self) -> ShardId {
        self.named.set(self.named.get() + 1);
        ShardId::new(self.named.get())
    }

    fn writer(&self, shard: ShardId) -> Writer<u64> {
        let schema = flights::schema();
        let writer = self.shards.writer(shard, &schema);
        let writer = self.runtime.block_on(writer).expect(WORKS);
        // So that the shard, its schema and its folder are there.
        self.append(&writer, 0, self.updates.clone());
        writer
    }

    fn append(&self, writer: &Writer<u64>, batch: u64, updates: Updates<u64>) {
        let [lower, upper] = [batch, batch + 1].map(|batch| Upper::at(batch * TIMES));
        let appended = writer.compare_and_append(lower, upper, updates);
        self.runtime.block_on(appended).expect(WORKS);
    }

    /// One compare-and-append of all rows after another, to a new shard.
    ///
    /// # Panics
    ///
    /// If one fails.
    pub fn append_to_a_shard(&self, operations: u64) -> Duration {
        let shard = self.name();
        let writer = self.writer(shard);
        let batches = 1..=operations;
        let batches: Vec<_> = batches
            .map(|batch| (batch, flights::later(&self.updates, batch * TIMES)))
            .collect();
        let start = Instant::now();
        for (batch, updates) in batches {
            self.append(&writer, batch, updates);
        }
        let took = start.elapsed();
        let inspected = self.runtime.block_on(self.shards.inspect(shard));
        assert_eq!(
            inspected.expect(WORKS).updates,
            (operations + 1) * self.rows
        );
        // Its space has to be free again.
        let cleared = self.shards.parts().clear(shard);
        self.runtime.block_on(cleared).expect(WORKS);
        took
    }

    /// The same rows by the `parquet` crate alone, each time into a new file.
    ///
    /// # Panics
    ///
    /// If one fails.
    pub fn append_with_parquet_alone(&self, operations: u64) -> Duration {
        match &self.folder {
            Some(folder) => {
                let files: Vec<PathBuf> = (0..operations)
                    .map(|file| folder.path().join(format!("{file}.parquet")))
                    .collect();
                let start = Instant::now();
                for file in &files {
                    parquet::write_file(&self.columns, file).expect(WORKS);
                }
                let took = start.elapsed();
                for file in &files {
                    fs::remove_file(file).expect(WORKS);
                }
                took
            }
            None => {
                let mut files = Vec::new();
                let start = Instant::now();
                for _ in 0..operations {
                    files.push(parquet::write_memory(&self.columns).expect(WORKS));
                }
                start.elapsed()
            }
        }
    }

    /// A shard with all rows in one part, and the file that the `parquet` crate has written of them.
    ///
    /// # Panics
    ///
    /// If they cannot be written.
    pub fn written(&self) -> Written<'_> {
        let shard = self.name();
        self.writer(shard);
        let file = match &self.folder {
            Some(folder) => {
                let path = folder.path().join("written.parquet");
                parquet::write_file(&self.columns, &path).expect(WORKS);
                ParquetFile::Folder(path)
            }
            None => ParquetFile::Memory(parquet::write_memory(&self.columns).expect(WORKS)),
        };
        Written {
            place: self,
            shard,
            file,
        }
    }
}

enum ParquetFile {
    Folder(PathBuf),
    Memory(Bytes),
}

/// Rows that are written, on both sides.
pub struct Written<'a> {
    place: &'a Place,
    shard: ShardId,
    file: ParquetFile,
}

impl Written<'_> {
    /// Snapshots as of the last time, so often: all rows advanced to it, and consolidated.
    ///
    /// # Panics
    ///
    /// If one fails, or has not as many rows as were written.
    pub fn snapshot(&self, operations: u64) -> Duration {
        let Place {
            runtime, shards, ..
        } = self.place;
        let end = Antichain::from_elem(TIMES - 1);
        let start = Instant::now();
        for _ in 0..operations {
            let snapshot = runtime.block_on(shards.snapshot(self.shard, &end));
            let rows: i64 = snapshot.expect(WORKS).diffs().iter().sum();
            assert_eq!(rows.cast_unsigned(), self.place.rows);
        }
        start.elapsed()
    }

    /// The same rows by the `parquet` crate alone, as they stand in the file.
    ///
    /// # Panics
    ///
    /// If they cannot be read, or are not as many as were written.
    pub fn read_with_parquet_alone(&self, operations: u64) -> Duration {
        let start = Instant::now();
        for _ in 0..operations {
            let batches = match &self.file {
                ParquetFile::Folder(path) => parquet::read_file(path),
                ParquetFile::Memory(file) => parquet::read_memory(file.clone()),
            };
            let batches = batches.expect(WORKS);
            let rows: usize = batches.iter().map(RecordBatch::num_rows).sum();
            assert_eq!(rows as u64, self.place.rows);
        }
        start.elapsed()
    }
}
