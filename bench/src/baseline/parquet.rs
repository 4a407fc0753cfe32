//! The `parquet` crate alone: the same rows, written to a file and read back.
//!
//! The same columns, compression and statistics as in a part of a shard, and as durable. It knows
//! nothing of the rows: it neither sorts nor adds up, checks nothing when it reads, and keeps no
//! record of what there is.

use std::fs::{self, File};
use std::io;
use std::path::Path;
use std::sync::Arc;

use arrow::array::{Int64Array, UInt64Array};
use arrow::datatypes::{DataType, Field, Schema};
use arrow::record_batch::RecordBatch;
use bytes::Bytes;
use lowwater_shard::Updates;
use parquet::arrow::ArrowWriter;
use parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder;
use parquet::basic::Compression;
use parquet::errors::Result;
use parquet::file::properties::{EnabledStatistics, WriterProperties};

/// One batch for all rows of a file.
const BATCH_ROWS: usize = 1 << 20;

/// Rows, times and differences as the columns of a part.
///
/// # Panics
///
/// Never: updates have one time and one difference for each row.
pub fn columns(updates: &Updates<u64>) -> RecordBatch {
    let mut fields = updates.rows().schema_ref().fields().to_vec();
    fields.push(Arc::new(Field::new("__time", DataType::UInt64, false)));
    fields.push(Arc::new(Field::new("__diff", DataType::Int64, false)));
    let mut columns = updates.rows().columns().to_vec();
    columns.push(Arc::new(UInt64Array::from(updates.times().to_vec())));
    columns.push(Arc::new(Int64Array::from(updates.diffs().to_vec())));
    let schema = Arc::new(Schema::new(fields));
    RecordBatch::try_new(schema, columns).expect("there is one time and difference for each row")
}

/// Writes rows into a file that was not there. It is durable when this returns.
///
/// # Errors
///
/// If the rows or the file cannot be written.
pub fn write_file(rows: &RecordBatch, path: &Path) -> Result<()> {
    let file = encode(rows, File::create_new(path)?)?;
    file.sync_all()?;
    let folder = path
        .parent()
        .ok_or(io::Error::from(io::ErrorKind::NotFound))?;
    File::open(folder)?.sync_all()?;
    Ok(())
}

/// Rows as a file in memory.
///
/// # Errors
///
/// If the rows cannot be written.
pub fn write_memory(rows: &RecordBatch) -> Result<Bytes> {
    Ok(encode(rows, Vec::new())?.into())
}

fn encode<W: io::Write + Send>(rows: &RecordBatch, into: W) -> Result<W> {
    let properties = WriterProperties::builder()
        .set_compression(Compression::SNAPPY)
        .set_statistics_enabled(EnabledStatistics::Chunk)
        .build();
    let mut writer = ArrowWriter::try_new(into, rows.schema(), Some(properties))?;
    writer.write(rows)?;
    writer.into_inner()
}

/// Reads a file's rows.
///
/// # Errors
///
/// If it cannot be read.
pub fn read_file(path: &Path) -> Result<Vec<RecordBatch>> {
    read_memory(fs::read(path)?.into())
}

/// Reads the rows of a file in memory.
///
/// # Errors
///
/// If they cannot be read.
pub fn read_memory(file: Bytes) -> Result<Vec<RecordBatch>> {
    let reader = ParquetRecordBatchReaderBuilder::try_new(file)?;
    let batches = reader.with_batch_size(BATCH_ROWS).build()?;
    Ok(batches.collect::<std::result::Result<_, _>>()?)
}
