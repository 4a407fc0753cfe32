//! The rows, and what the `parquet` crate alone does with them.

use std::sync::Arc;

use arrow::array::{ArrayRef, Int64Array, StringArray, UInt64Array};
use arrow::datatypes::{DataType, Field, Schema as ArrowSchema};
use arrow::record_batch::RecordBatch;
use bytes::Bytes;
use lowwater_shard::{Column, ColumnKind, Schema, Updates};
use parquet::arrow::ArrowWriter;
use parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder;
use parquet::basic::Compression;
use parquet::file::properties::{EnabledStatistics, WriterProperties};

/// Two texts and two numbers, as in a table of flights.
pub(crate) fn schema() -> Schema {
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
    Schema::new(columns).unwrap()
}

/// In no order, always the same.
pub(crate) fn flights(count: u64) -> Updates<u64> {
    let mut random = fastrand::Rng::with_seed(7);
    let mut numbers = |below: i64| (0..count).map(|_| random.i64(0..below)).collect::<Vec<_>>();
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
    let rows = RecordBatch::try_new(schema().arrow(), columns).unwrap();
    let times = numbers(1_440).into_iter().map(i64::cast_unsigned).collect();
    Updates::new(rows, times, vec![1; count as usize]).unwrap()
}

/// The same columns, compression and order as in a part.
pub(crate) fn parquet(updates: &Updates<u64>) -> Bytes {
    let mut fields = updates.rows().schema_ref().fields().to_vec();
    fields.push(Arc::new(Field::new("time", DataType::UInt64, false)));
    fields.push(Arc::new(Field::new("diff", DataType::Int64, false)));
    let mut columns = updates.rows().columns().to_vec();
    columns.push(Arc::new(UInt64Array::from(updates.times().to_vec())));
    columns.push(Arc::new(Int64Array::from(updates.diffs().to_vec())));
    let schema = Arc::new(ArrowSchema::new(fields));
    let rows = RecordBatch::try_new(Arc::clone(&schema), columns).unwrap();
    let properties = WriterProperties::builder()
        .set_compression(Compression::SNAPPY)
        .set_statistics_enabled(EnabledStatistics::Chunk)
        .build();
    let mut writer = ArrowWriter::try_new(Vec::new(), schema, Some(properties)).unwrap();
    writer.write(&rows).unwrap();
    writer.into_inner().unwrap().into()
}

/// Reads it as one batch.
pub(crate) fn read_parquet(bytes: Bytes) -> RecordBatch {
    let reader = ParquetRecordBatchReaderBuilder::try_new(bytes).unwrap();
    let mut reader = reader.with_batch_size(1 << 20).build().unwrap();
    reader.next().unwrap().unwrap()
}
