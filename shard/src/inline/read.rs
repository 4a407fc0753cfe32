//! Reading each kind of column. Makes no room for more than the bytes that are there can say.

use std::sync::Arc;

use arrow::array::{
    ArrayRef, BinaryArray, BooleanArray, Float64Array, Int32Array, Int64Array, StringArray,
    TimestampMicrosecondArray, UInt64Array,
};
use bytes::Bytes;

use crate::format::{FormatError, Reader};
use crate::schema::{Column, ColumnKind, Schema};
use crate::time::ShardTime;
use crate::updates::{Updates, batch};

type Result<X> = std::result::Result<X, FormatError>;

pub(super) fn updates<T: ShardTime>(reader: &mut Reader, schema: &Schema) -> Result<Updates<T>> {
    let rows = reader.count()?;
    // Each takes a byte for its difference at least.
    if rows > reader.left() {
        return Err(FormatError::Malformed("it ends before all its rows"));
    }
    let columns = schema.columns().iter();
    let columns: Vec<ArrayRef> = columns
        .map(|each| column(reader, each, rows))
        .collect::<Result<_>>()?;
    let times = times(reader, rows)?;
    let diffs = (0..rows).map(|_| reader.zigzag());
    let diffs = diffs.collect::<Result<_>>()?;
    Updates::new(batch(schema.arrow(), columns, rows), times, diffs)
        .map_err(|_| FormatError::Malformed("there are too many rows"))
}

/// Which rows have a value; `None` for all.
type There = Option<Vec<bool>>;

fn column(reader: &mut Reader, column: &Column, rows: usize) -> Result<ArrayRef> {
    let there = match column.nullable && reader.flag()? {
        true => Some(bits(reader, rows)?),
        false => None,
    };
    let count = match &there {
        Some(there) => there.iter().filter(|there| **there).count(),
        None => rows,
    };
    Ok(match column.kind {
        ColumnKind::Bool => {
            let mut values = bits(reader, count)?.into_iter();
            let next = || {
                values
                    .next()
                    .ok_or(FormatError::Malformed("a bit is missing"))
            };
            Arc::new(BooleanArray::from(spread(&there, rows, next)?))
        }
        ColumnKind::Int32 => {
            let next = || i32::try_from(reader.zigzag()?).map_err(|_| WIDE);
            Arc::new(Int32Array::from(spread(&there, rows, next)?))
        }
        ColumnKind::Int64 => Arc::new(Int64Array::from(spread(&there, rows, || reader.zigzag())?)),
        ColumnKind::UInt64 => {
            Arc::new(UInt64Array::from(spread(&there, rows, || reader.number())?))
        }
        ColumnKind::Float64 => {
            let next = || Ok(f64::from_le_bytes(reader.eight()?));
            Arc::new(Float64Array::from(spread(&there, rows, next)?))
        }
        ColumnKind::TimestampMicros => {
            let mut value = 0_i64;
            let next = || {
                value = value.wrapping_add(reader.zigzag()?);
                Ok(value)
            };
            let values = TimestampMicrosecondArray::from(spread(&there, rows, next)?);
            Arc::new(values.with_timezone("UTC"))
        }
        ColumnKind::Text => {
            let mut pieces = pieces(reader, count)?.into_iter();
            let next = || {
                let piece = pieces.next().unwrap_or_default();
                let text = String::from_utf8(piece.into());
                text.map_err(|_| FormatError::Malformed("text is UTF-8"))
            };
            Arc::new(StringArray::from(spread(&there, rows, next)?))
        }
        ColumnKind::Bytes => {
            let mut pieces = pieces(reader, count)?.into_iter();
            let values = spread(&there, rows, || Ok(pieces.next().unwrap_or_default()))?;
            Arc::new(BinaryArray::from_iter(values))
        }
    })
}

const WIDE: FormatError = FormatError::Malformed("a number is too large for its column");

/// The values, each in its row.
fn spread<X>(
    there: &There,
    rows: usize,
    mut next: impl FnMut() -> Result<X>,
) -> Result<Vec<Option<X>>> {
    match there {
        Some(there) => {
            let each = there.iter().map(|there| there.then(&mut next).transpose());
            each.collect()
        }
        None => (0..rows).map(|_| next().map(Some)).collect(),
    }
}

fn times<T: ShardTime>(reader: &mut Reader, rows: usize) -> Result<Vec<T>> {
    let width = usize::from(T::COORDINATES);
    let mut coordinates = Vec::with_capacity(width);
    for _ in 0..width {
        let mut before = 0_u64;
        let each = (0..rows).map(|_| {
            before = before.wrapping_add(reader.zigzag()?.cast_unsigned());
            Ok(before)
        });
        coordinates.push(each.collect::<Result<Vec<u64>>>()?.into_iter());
    }
    let time = |_| {
        let mut of_time = coordinates.iter_mut();
        let time = T::from_coordinates(&mut || of_time.next()?.next());
        time.ok_or(FormatError::Malformed("the coordinates are no time"))
    };
    (0..rows).map(time).collect()
}

fn bits(reader: &mut Reader, count: usize) -> Result<Vec<bool>> {
    let bytes = reader.raw(count.div_ceil(8))?;
    let bit = |at: usize| bytes[at / 8] >> (at % 8) & 1 == 1;
    Ok((0..count).map(bit).collect())
}

fn pieces(reader: &mut Reader, count: usize) -> Result<Vec<Bytes>> {
    let lengths = (0..count).map(|_| reader.count());
    let lengths: Vec<usize> = lengths.collect::<Result<_>>()?;
    let pieces = lengths.into_iter().map(|length| reader.raw(length));
    let pieces: Vec<Bytes> = pieces.collect::<Result<_>>()?;
    let bytes: usize = pieces.iter().map(Bytes::len).sum();
    match i32::try_from(bytes) {
        Ok(_) => Ok(pieces),
        Err(_) => Err(FormatError::Malformed("a column holds less than 2 GiB")),
    }
}
