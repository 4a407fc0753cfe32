//! Writes one part with a column of each kind into a folder, for another tool to read.

use std::error::Error;
use std::sync::Arc;

use arrow::array::{
    ArrayRef, BinaryArray, BooleanArray, Float64Array, Int32Array, Int64Array, StringArray,
    TimestampMicrosecondArray, UInt64Array,
};
use arrow::record_batch::RecordBatch;
use lowwater::ShardId;
use lowwater_shard::{Column, ColumnKind, Parts, Schema, SchemaId, SeqNo, Updates};

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Box<dyn Error>> {
    let folder = std::env::args().nth(1).ok_or("the folder is missing")?;
    let micros = vec![Some(1_700_000_000_000_001), Some(-1), None];
    let columns: [(&str, ColumnKind, ArrayRef); 8] = [
        (
            "flag",
            ColumnKind::Bool,
            Arc::new(BooleanArray::from(vec![Some(true), Some(false), None])),
        ),
        (
            "small",
            ColumnKind::Int32,
            Arc::new(Int32Array::from(vec![Some(-7), Some(7), None])),
        ),
        (
            "number",
            ColumnKind::Int64,
            Arc::new(Int64Array::from(vec![Some(i64::MIN), Some(i64::MAX), None])),
        ),
        (
            "count",
            ColumnKind::UInt64,
            Arc::new(UInt64Array::from(vec![Some(u64::MAX), Some(0), None])),
        ),
        (
            "ratio",
            ColumnKind::Float64,
            Arc::new(Float64Array::from(vec![Some(0.5), Some(-1.5), None])),
        ),
        (
            "délai",
            ColumnKind::Text,
            Arc::new(StringArray::from(vec![Some("é"), Some(""), None])),
        ),
        (
            "raw",
            ColumnKind::Bytes,
            Arc::new(BinaryArray::from_opt_vec(vec![
                Some(b"\x00\xff"),
                Some(b""),
                None,
            ])),
        ),
        (
            "at",
            ColumnKind::TimestampMicros,
            Arc::new(TimestampMicrosecondArray::from(micros).with_timezone("UTC")),
        ),
    ];
    let column = |(name, kind, _): &(&str, ColumnKind, ArrayRef)| Column {
        name: (*name).to_owned(),
        kind: *kind,
        nullable: true,
    };
    let schema = Schema::new(columns.iter().map(column).collect())?;
    let arrays = columns.into_iter().map(|(_, _, array)| array).collect();
    let rows = RecordBatch::try_new(schema.arrow(), arrays)?;
    let updates = Updates::new(rows, vec![1_000, 1_000, u64::MAX], vec![1, 3, -2])?;
    let parts = Parts::folder(folder)?;
    let (begun, id) = (SeqNo::FIRST, SchemaId::new(0));
    parts
        .write(ShardId::new(7), begun, id, &schema, &updates)
        .await?;
    Ok(())
}
