//! How rows of the txns shard, and what transactions write, are stored.
//!
//! A row of the txns shard is a row like any other: its columns are `kind` (1 registered, 2
//! forgotten, 3 written), `table` (the shard's number, 16 bytes), `time` (8 bytes for each
//! coordinate), `number` and `payload`; numbers are big-endian, so that rows sort as they mean. A
//! payload is 1 byte for the form, 1; 4 bytes for the number of the schema among those of the
//! table's shard; and the updates as they would be [inline](crate::inline), all at the least time.

use std::sync::Arc;

use arrow::array::{ArrayRef, AsArray, BinaryArray, Int32Array, UInt64Array};
use arrow::datatypes::{Int32Type, UInt64Type};
use arrow::record_batch::RecordBatch;
use bytes::Bytes;
use lowwater::ShardId;

use crate::id::SchemaId;
use crate::inline::{self, InlineError};
use crate::schema::{Column, ColumnKind, Schema};
use crate::updates::{Updates, UpdatesError};

use super::row::{PAYLOADS_BYTES_MAX, TxnsRow};
use super::time::TableTime;

const REGISTERED: i32 = 1;
const FORGOTTEN: i32 = 2;
const WRITTEN: i32 = 3;

const PAYLOAD_FORM: u8 = 1;

/// Bytes in the txns shard that mean nothing.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum EncodingError {
    #[error("a row of the txns shard cannot be read: {0}")]
    Row(&'static str),
    #[error("a write in the txns shard cannot be read: {0}")]
    Payload(&'static str),
    #[error("a write in the txns shard cannot be read: {0}")]
    Inline(#[from] InlineError),
    #[error("a write in the txns shard does not fit its table: {0}")]
    Updates(#[from] UpdatesError),
}

/// The schema of the txns shard.
pub(crate) fn txns_schema() -> Schema {
    let column = |name: &str, kind| Column {
        name: name.to_owned(),
        kind,
        nullable: false,
    };
    Schema::new(vec![
        column("kind", ColumnKind::Int32),
        column("table", ColumnKind::Bytes),
        column("time", ColumnKind::Bytes),
        column("number", ColumnKind::UInt64),
        column("payload", ColumnKind::Bytes),
    ])
    .expect("the names differ")
}

/// Rows as updates at one time.
pub(crate) fn encode_rows<T: TableTime>(
    rows: &[(TxnsRow<T>, i64)],
    at: &T,
) -> Result<Updates<T>, UpdatesError> {
    encode_timed(rows, vec![at.clone(); rows.len()])
}

/// Rows as updates, each at its time.
pub(super) fn encode_timed<T: TableTime>(
    rows: &[(TxnsRow<T>, i64)],
    times: Vec<T>,
) -> Result<Updates<T>, UpdatesError> {
    let payloads = rows.iter().map(|(row, _)| payload(row).len());
    if payloads.sum::<usize>() > PAYLOADS_BYTES_MAX {
        return Err(UpdatesError::TooLarge("1 GiB in one transaction"));
    }
    let tables = rows
        .iter()
        .map(|(row, _)| row.table().number().to_be_bytes());
    let columns: Vec<ArrayRef> = vec![
        Arc::new(Int32Array::from_iter_values(
            rows.iter().map(|(row, _)| kind(row)),
        )),
        Arc::new(BinaryArray::from_iter_values(tables)),
        Arc::new(BinaryArray::from_iter_values(
            rows.iter().map(|(row, _)| encode_time(row.at())),
        )),
        Arc::new(UInt64Array::from_iter_values(
            rows.iter().map(|(row, _)| number(row)),
        )),
        Arc::new(BinaryArray::from_iter_values(
            rows.iter().map(|(row, _)| payload(row)),
        )),
    ];
    let batch = RecordBatch::try_new(txns_schema().arrow(), columns);
    let batch = batch.expect("the columns are those of the schema, and equally long");
    let diffs = rows.iter().map(|(_, diff)| *diff).collect();
    Updates::new(batch, times, diffs)
}

/// The rows that updates are.
pub(crate) fn decode_rows<T: TableTime>(
    updates: &Updates<T>,
) -> Result<Vec<(TxnsRow<T>, i64)>, EncodingError> {
    if updates.is_empty() {
        // Of no schema, if nothing was ever written.
        return Ok(Vec::new());
    }
    updates.check(&txns_schema())?;
    let columns = updates.rows().columns();
    let [kinds, tables, times, numbers, payloads] = columns else {
        return Err(EncodingError::Row("there are five columns"));
    };
    let kinds = kinds.as_primitive::<Int32Type>();
    let (tables, times) = (tables.as_binary::<i32>(), times.as_binary::<i32>());
    let numbers = numbers.as_primitive::<UInt64Type>();
    let payloads = payloads.as_binary::<i32>();
    let row = |at: usize| {
        let table = tables.value(at).try_into();
        let table = table.map_err(|_| EncodingError::Row("a table is 16 bytes"))?;
        let table = ShardId::new(u128::from_be_bytes(table));
        let time = decode_time(times.value(at)).ok_or(EncodingError::Row("a time is no time"))?;
        match kinds.value(at) {
            REGISTERED => Ok(TxnsRow::Registered { table, at: time }),
            FORGOTTEN => Ok(TxnsRow::Forgotten { table, at: time }),
            WRITTEN => Ok(TxnsRow::Written {
                table,
                at: time,
                number: numbers.value(at),
                payload: Bytes::copy_from_slice(payloads.value(at)),
            }),
            _ => Err(EncodingError::Row("a kind of row is unknown")),
        }
    };
    let rows = updates.diffs().iter().enumerate();
    rows.map(|(at, diff)| Ok((row(at)?, *diff))).collect()
}

/// What a transaction writes to a table, but for the number of its schema.
#[derive(Clone, Debug)]
pub(crate) struct Unnumbered(Vec<u8>);

impl Unnumbered {
    pub(crate) fn encode<T: TableTime>(
        rows: RecordBatch,
        diffs: Vec<i64>,
        schema: &Schema,
    ) -> Result<Self, UpdatesError> {
        let updates = Updates::new(rows, vec![T::minimum(); diffs.len()], diffs)?;
        let inline = inline::encode(&updates, schema)?;
        let mut bytes = Vec::with_capacity(5 + inline.len());
        bytes.push(PAYLOAD_FORM);
        bytes.extend([0; 4]);
        bytes.extend(&inline);
        Ok(Unnumbered(bytes))
    }

    pub(crate) fn len(&self) -> usize {
        self.0.len()
    }

    /// Of this one of the table's schemas.
    pub(crate) fn number(mut self, id: SchemaId) -> Bytes {
        self.0[1..5].copy_from_slice(&id.number().to_be_bytes());
        self.0.into()
    }
}

/// Writes, each with the time at which it was committed, as updates of the latest of the table's
/// schemas.
pub(crate) fn decode_writes<T: TableTime>(
    writes: &[(T, Bytes)],
    schemas: &[Schema],
) -> Result<Updates<T>, EncodingError> {
    let Some(latest) = schemas.last() else {
        return Err(EncodingError::Payload("the table has no schema"));
    };
    let decoded = writes
        .iter()
        .map(|(at, payload)| decode(at, payload, schemas));
    let decoded: Vec<Updates<T>> = decoded.collect::<Result<_, _>>()?;
    Ok(Updates::concat(decoded, latest)?)
}

fn decode<T: TableTime>(
    at: &T,
    payload: &Bytes,
    schemas: &[Schema],
) -> Result<Updates<T>, EncodingError> {
    let Some((&[form, a, b, c, d], _)) = payload.split_first_chunk() else {
        return Err(EncodingError::Payload("it ends early"));
    };
    if form != PAYLOAD_FORM {
        return Err(EncodingError::Payload("this form is not known"));
    }
    let schema = usize::try_from(u32::from_be_bytes([a, b, c, d]));
    let schema = schema.ok().and_then(|id| schemas.get(id));
    let schema = schema.ok_or(EncodingError::Payload("its schema is not known"))?;
    let updates = inline::decode::<T>(&payload.slice(5..), schema)?;
    let (rows, _, diffs) = updates.into_parts();
    Ok(Updates::new(rows, vec![at.clone(); diffs.len()], diffs)?)
}

fn kind<T>(row: &TxnsRow<T>) -> i32 {
    match row {
        TxnsRow::Registered { .. } => REGISTERED,
        TxnsRow::Forgotten { .. } => FORGOTTEN,
        TxnsRow::Written { .. } => WRITTEN,
    }
}

fn number<T>(row: &TxnsRow<T>) -> u64 {
    match row {
        TxnsRow::Registered { .. } | TxnsRow::Forgotten { .. } => 0,
        TxnsRow::Written { number, .. } => *number,
    }
}

fn payload<T>(row: &TxnsRow<T>) -> &[u8] {
    match row {
        TxnsRow::Registered { .. } | TxnsRow::Forgotten { .. } => &[],
        TxnsRow::Written { payload, .. } => payload,
    }
}

fn encode_time<T: TableTime>(time: &T) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(8 * usize::from(T::COORDINATES));
    time.coordinates(&mut |coordinate| bytes.extend(coordinate.to_be_bytes()));
    bytes
}

fn decode_time<T: TableTime>(bytes: &[u8]) -> Option<T> {
    let (coordinates, rest) = bytes.as_chunks::<8>();
    if !rest.is_empty() || coordinates.len() != usize::from(T::COORDINATES) {
        return None;
    }
    let mut coordinates = coordinates.iter().map(|bytes| u64::from_be_bytes(*bytes));
    T::from_coordinates(&mut || coordinates.next())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rows() -> Vec<(TxnsRow<u64>, i64)> {
        let table = ShardId::new(u128::MAX - 3);
        vec![
            (TxnsRow::Registered { table, at: 1 }, 1),
            (
                TxnsRow::Forgotten {
                    table,
                    at: u64::MAX,
                },
                -1,
            ),
            (
                TxnsRow::Written {
                    table,
                    at: 7,
                    number: 9,
                    payload: Bytes::from_static(b"what it is"),
                },
                1,
            ),
        ]
    }

    #[test]
    fn rows_are_what_they_were() {
        let updates = encode_rows(&rows(), &3).unwrap();
        assert_eq!(updates.times(), [3, 3, 3]);
        assert_eq!(decode_rows(&updates).unwrap(), rows());
        let none = encode_rows::<u64>(&[], &3).unwrap();
        assert_eq!(decode_rows(&none).unwrap(), []);
    }

    #[test]
    fn a_row_that_means_nothing_is_an_error() {
        let updates = encode_rows(&rows(), &3).unwrap();
        let with = |column: usize, values: ArrayRef| {
            let mut columns = updates.rows().columns().to_vec();
            columns[column] = values;
            let rows = RecordBatch::try_new(txns_schema().arrow(), columns).unwrap();
            let (_, times, diffs) = updates.clone().into_parts();
            decode_rows(&Updates::new(rows, times, diffs).unwrap())
        };
        assert!(with(0, Arc::new(Int32Array::from(vec![1, 4, 1]))).is_err());
        let short: ArrayRef = Arc::new(BinaryArray::from_iter_values([[1; 5]; 3]));
        assert!(with(1, Arc::clone(&short)).is_err());
        assert!(with(2, short).is_err());
        let values: ArrayRef = Arc::new(Int32Array::from(vec![1]));
        let other = RecordBatch::try_from_iter([("kind", values)]).unwrap();
        let other = Updates::new(other, vec![1_u64], vec![1]).unwrap();
        assert!(decode_rows(&other).is_err());
    }

    #[test]
    fn writes_of_an_older_schema_become_rows_of_the_latest() {
        let column = |name: &str, nullable| Column {
            name: name.to_owned(),
            kind: ColumnKind::Int64,
            nullable,
        };
        let old = Schema::new(vec![column("a", false)]).unwrap();
        let new = Schema::new(vec![column("a", false), column("b", true)]).unwrap();
        let schemas = [old.clone(), new.clone()];
        let values: ArrayRef = Arc::new(arrow::array::Int64Array::from(vec![5, 6]));
        let rows = RecordBatch::try_new(old.arrow(), vec![values]).unwrap();
        let payload = Unnumbered::encode::<u64>(rows, vec![1, -1], &old).unwrap();
        let payload = payload.number(SchemaId::new(0));
        let decoded = decode_writes(&[(9_u64, payload.clone())], &schemas).unwrap();
        assert_eq!(
            (decoded.times(), decoded.diffs()),
            (&[9, 9][..], &[1, -1][..])
        );
        assert!(decoded.check(&new).is_ok());
        assert!(decode_writes(&[(9_u64, payload.clone())], &[]).is_err());
        for cut in 0..payload.len() {
            let cut = payload.slice(..cut);
            assert!(decode_writes(&[(9_u64, cut)], &schemas).is_err());
        }
    }
}
