//! One part as bytes: a Parquet file.

use std::panic::{self, AssertUnwindSafe};
use std::sync::Arc;

use arrow::array::{ArrayRef, AsArray, Int64Array, RecordBatchReader, UInt64Array};
use arrow::compute::concat_batches;
use arrow::datatypes::{DataType, Field, Int64Type, Schema as ArrowSchema, SchemaRef, UInt64Type};
use arrow::record_batch::RecordBatch;
use bytes::Bytes;
use lowwater::ShardId;
use parquet::arrow::ArrowWriter;
use parquet::arrow::arrow_reader::{
    ArrowReaderMetadata, ArrowReaderOptions, ParquetRecordBatchReaderBuilder,
};
use parquet::arrow::arrow_writer::ArrowWriterOptions;
use parquet::basic::{Compression, Encoding};
use parquet::errors::ParquetError;
use parquet::file::metadata::{FileMetaData, KeyValue};
use parquet::file::properties::{EnabledStatistics, WriterProperties};
use parquet::schema::types::ColumnPath;

use crate::id::PartName;
use crate::record::Stored;
use crate::schema::Schema;
use crate::time::ShardTime;
use crate::updates::{Updates, UpdatesError, batch, is_same};

use super::{PartFault, dictionary};

const FORMAT: &str = "1";
const FORMAT_KEY: &str = "lowwater.format";
const SHARD_KEY: &str = "lowwater.shard";
const PART_KEY: &str = "lowwater.part";
const ORDER_KEY: &str = "lowwater.order";
const CONSOLIDATED: &str = "consolidated";

/// Which part it is.
#[derive(Clone, Copy, Debug)]
pub(super) struct PartFile {
    pub(super) shard: ShardId,
    pub(super) name: PartName,
}

impl PartFile {
    pub(super) fn encode<T: ShardTime>(self, updates: &Updates<T>) -> Result<Bytes, UpdatesError> {
        let rows = with_times(updates);
        let options = ArrowWriterOptions::new()
            .with_properties(self.properties(&rows, updates))
            // Whoever reads it knows the columns; and others do not need arrow's own description.
            .with_skip_arrow_metadata(true);
        let mut bytes = Vec::with_capacity(rows.get_array_memory_size() / 4);
        let written = (|| {
            let mut writer = ArrowWriter::try_new_with_options(&mut bytes, rows.schema(), options)?;
            writer.write(&rows)?;
            writer.close()
        })();
        match written {
            Ok(_) => Ok(bytes.into()),
            Err(_) => Err(UpdatesError::TooLarge("what Parquet can hold")),
        }
    }

    /// `rows`: those of the updates, with times and differences.
    fn properties<T: ShardTime>(
        self,
        rows: &RecordBatch,
        updates: &Updates<T>,
    ) -> WriterProperties {
        let width = updates.rows().num_columns();
        let says = |key: &str, value: String| KeyValue::new(key.to_owned(), value);
        let mut metadata = vec![
            says(FORMAT_KEY, FORMAT.to_owned()),
            says(SHARD_KEY, self.shard_text()),
            says(PART_KEY, self.name.to_string()),
        ];
        if updates.is_consolidated() {
            metadata.push(says(ORDER_KEY, CONSOLIDATED.to_owned()));
        }
        let mut properties = WriterProperties::builder();
        let columns = rows.schema_ref().fields().iter().zip(rows.columns());
        for (at, (field, column)) in columns.enumerate() {
            let path = ColumnPath::new(vec![field.name().clone()]);
            if at >= width {
                // Times are close together, and differences mostly equal.
                properties = properties
                    .set_column_dictionary_enabled(path.clone(), false)
                    .set_column_encoding(path, Encoding::DELTA_BINARY_PACKED);
            } else if !dictionary::is_worth_it(column) {
                properties = properties.set_column_dictionary_enabled(path, false);
            }
        }
        properties
            .set_created_by("lowwater".to_owned())
            .set_compression(Compression::SNAPPY)
            .set_statistics_enabled(EnabledStatistics::Chunk)
            .set_offset_index_disabled(true)
            .set_key_value_metadata(Some(metadata))
            .build()
    }

    fn shard_text(self) -> String {
        format!("{:032x}", self.shard.number())
    }

    /// Checks that the metadata are those of this part.
    pub(super) fn check(self, metadata: &FileMetaData) -> Result<(), PartFault> {
        let says = |key: &str| said(metadata, key);
        match says(FORMAT_KEY) {
            Some(FORMAT) => {}
            Some(_) => return Err(PartFault::UnknownFormat),
            None => return Err(PartFault::Foreign),
        }
        let ours = says(SHARD_KEY) == Some(&self.shard_text())
            && says(PART_KEY) == Some(&self.name.to_string());
        ours.then_some(()).ok_or(PartFault::Foreign)
    }

    pub(super) fn decode<T: ShardTime>(
        self,
        bytes: Bytes,
        stored: &Stored,
        schema: &Schema,
    ) -> Result<Updates<T>, PartFault> {
        let found = bytes.len() as u64;
        if found != stored.bytes {
            let wanted = stored.bytes;
            return Err(PartFault::Length { wanted, found });
        }
        // First: what was damaged is not even looked at.
        if stored
            .checksum
            .is_some_and(|checksum| checksum != crc32fast::hash(&bytes))
        {
            return Err(PartFault::Checksum);
        }
        let columns = with_time_fields::<T>(&schema.arrow());
        let (rows, is_consolidated) = guarded(|| self.read(bytes, stored, &columns))?;
        let updates = without_times(rows, schema)?;
        // Without a checksum anybody could have said so.
        Ok(match is_consolidated && stored.checksum.is_some() {
            true => updates.known_as_consolidated(),
            false => updates,
        })
    }

    /// The rows, and whether the file says that they are consolidated.
    fn read(
        self,
        bytes: Bytes,
        stored: &Stored,
        fields: &SchemaRef,
    ) -> Result<(RecordBatch, bool), PartFault> {
        let options = ArrowReaderOptions::new().with_skip_arrow_metadata(true);
        let metadata = ArrowReaderMetadata::load(&bytes, options)?;
        let file = metadata.metadata().file_metadata();
        self.check(file)?;
        if !is_same(metadata.schema(), fields) {
            return Err(PartFault::OtherColumns);
        }
        check_count(file.num_rows(), stored)?;
        let is_consolidated = said(file, ORDER_KEY) == Some(CONSOLIDATED);
        let (_, columns, rows) = read_rows(bytes, metadata, stored)?.into_parts();
        Ok((batch(Arc::clone(fields), columns, rows), is_consolidated))
    }
}

/// All rows as one batch.
fn read_rows(
    bytes: Bytes,
    metadata: ArrowReaderMetadata,
    stored: &Stored,
) -> Result<RecordBatch, PartFault> {
    let rows = usize::try_from(stored.updates).unwrap_or(usize::MAX);
    let reader = ParquetRecordBatchReaderBuilder::new_with_metadata(bytes, metadata)
        .with_batch_size(rows.max(1))
        .build()?;
    let schema = reader.schema();
    let mut batches = reader.collect::<Result<Vec<_>, _>>().map_err(malformed)?;
    let read = match batches.len() {
        1 => batches.remove(0),
        _ => concat_batches(&schema, &batches).map_err(malformed)?,
    };
    check_count(i64::try_from(read.num_rows()).unwrap_or(-1), stored)?;
    Ok(read)
}

fn said<'a>(metadata: &'a FileMetaData, key: &str) -> Option<&'a str> {
    let mut pairs = metadata.key_value_metadata().into_iter().flatten();
    pairs.find(|pair| pair.key == key)?.value.as_deref()
}

/// The `parquet` crate panics on some damaged pages. The checksum stands before it; this is for
/// what that does not cover: parts of which the record does not know it, and metadata read alone.
pub(super) fn guarded<R>(read: impl FnOnce() -> Result<R, PartFault>) -> Result<R, PartFault> {
    // Nothing that the reader may have left half done is looked at afterwards.
    let read = panic::catch_unwind(AssertUnwindSafe(read));
    read.unwrap_or_else(|_| Err(PartFault::Malformed("its reader panicked".to_owned())))
}

pub(super) fn check_count(rows: i64, stored: &Stored) -> Result<(), PartFault> {
    if u64::try_from(rows) == Ok(stored.updates) {
        return Ok(());
    }
    let wanted = stored.updates;
    Err(PartFault::Malformed(format!(
        "it has {rows} rows, not {wanted}"
    )))
}

pub(super) fn malformed(error: impl std::error::Error) -> PartFault {
    PartFault::Malformed(error.to_string())
}

impl From<ParquetError> for PartFault {
    fn from(error: ParquetError) -> Self {
        malformed(error)
    }
}

/// The name of a coordinate's column.
pub(super) fn time_column(coordinate: usize, coordinates: usize) -> String {
    match coordinates {
        1 => "__time".to_owned(),
        _ => format!("__time_{coordinate}"),
    }
}

pub(super) fn with_time_fields<T: ShardTime>(schema: &SchemaRef) -> SchemaRef {
    let mut fields = schema.fields().to_vec();
    let width = usize::from(T::COORDINATES);
    let times = (0..width).map(|coordinate| time_column(coordinate, width));
    fields.extend(times.map(|name| Arc::new(Field::new(name, DataType::UInt64, false))));
    fields.push(Arc::new(Field::new("__diff", DataType::Int64, false)));
    Arc::new(ArrowSchema::new(fields))
}

fn with_times<T: ShardTime>(updates: &Updates<T>) -> RecordBatch {
    let rows = updates.len();
    let width = usize::from(T::COORDINATES);
    let mut coordinates = vec![Vec::with_capacity(rows); width];
    for time in updates.times() {
        let mut columns = coordinates.iter_mut();
        time.coordinates(&mut |coordinate| {
            let column = columns.next();
            column
                .expect("a time has as many as it says")
                .push(coordinate);
        });
    }
    let times = coordinates
        .into_iter()
        .map(|times| Arc::new(UInt64Array::from(times)) as ArrayRef);
    let mut columns = updates.rows().columns().to_vec();
    columns.extend(times);
    columns.push(Arc::new(Int64Array::from(updates.diffs().to_vec())));
    let schema = with_time_fields::<T>(updates.rows().schema_ref());
    batch(schema, columns, rows)
}

/// The other way round, for rows whose columns were checked.
fn without_times<T: ShardTime>(
    rows: RecordBatch,
    schema: &Schema,
) -> Result<Updates<T>, PartFault> {
    let (_, mut columns, count) = rows.into_parts();
    let diffs = columns.pop().expect("there is a column for differences");
    let times = columns.split_off(schema.columns().len());
    let times: Vec<&[u64]> = times
        .iter()
        .map(|times| &**times.as_primitive::<UInt64Type>().values())
        .collect();
    let time = |at: usize| {
        let mut coordinates = times.iter().map(|times| times[at]);
        T::from_coordinates(&mut || coordinates.next())
    };
    let times: Option<Vec<T>> = (0..count).map(time).collect();
    let times = times.ok_or_else(|| PartFault::Malformed("no such time".to_owned()))?;
    let rows = batch(schema.arrow(), columns, count);
    Updates::new(rows, times, numbers(diffs)).map_err(malformed)
}

/// The numbers of a column, which are not copied where nobody else has it.
fn numbers(column: ArrayRef) -> Vec<i64> {
    let numbers = column.as_primitive::<Int64Type>().values().clone();
    drop(column);
    let numbers = numbers.into_inner().into_vec();
    numbers.unwrap_or_else(|shared| shared.typed_data().to_vec())
}
