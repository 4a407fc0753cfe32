//! Updates as the few bytes that a record carries inline.
//!
//! A tick writes a handful of rows per shard, into the record itself, so this form is small first:
//! a row of two short columns takes about ten bytes, where a Parquet file begins at a thousand. What
//! has grown is a [part](crate::Parts). The bytes stand in a record, whose checksum covers them.
//!
//! ```text
//! inline    = 1 byte, 1: this form; rows: number, columns, times, diffs
//! columns   = for each column of the schema: nulls if it is nullable, then the values of the rows
//!             that have one
//! nulls     = 0 (no row is null) | 1, a bit for each row, set where there is a value
//! values    = Bool: a bit for each          Int32, Int64: number, zigzag
//!           | UInt64: number                Float64: 8 bytes, IEEE
//!           | TimestampMicros: number, zigzag, of the difference to the one before, from 0 on
//!           | Text, Bytes: the lengths as numbers, then all bytes
//! times     = for each coordinate: number, zigzag, of the difference to the one before, from 0 on
//! diffs     = number, zigzag
//!
//! number    = LEB128, at most 64 bits       zigzag = 0, -1, 1, -2, 2, …
//! bits      = as many bytes as are needed, from the lowest bit of the first byte on
//! ```
//!
//! Numbers of several bytes are little-endian. Differences are taken modulo 2^64.

mod read;
mod write;
#[cfg(test)]
mod tests;

use bytes::Bytes;

use crate::format::{FormatError, Reader, Writer};
use crate::schema::Schema;
use crate::time::ShardTime;
use crate::updates::{Updates, UpdatesError};

const FORM: u8 = 1;

/// Bytes that are no updates of this schema.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("these are no inline updates: {0}")]
pub struct InlineError(#[from] FormatError);

/// Writes updates of this schema.
///
/// # Errors
///
/// If they are not of this schema.
pub fn encode<T: ShardTime>(updates: &Updates<T>, schema: &Schema) -> Result<Bytes, UpdatesError> {
    let bytes = encode_within(updates, schema, usize::MAX)?;
    Ok(bytes.expect("nothing is larger than that"))
}

/// Writes updates of this schema, if they take at most so many bytes; it is given up as soon as
/// they take more.
///
/// # Errors
///
/// If they are not of this schema.
pub fn encode_within<T: ShardTime>(
    updates: &Updates<T>,
    schema: &Schema,
    bytes_max: usize,
) -> Result<Option<Bytes>, UpdatesError> {
    updates.check(schema)?;
    let mut writer = Writer::new();
    let fits = write::updates(&mut writer, updates, bytes_max);
    Ok(fits.then(|| writer.finish()))
}

/// Reads updates of this schema, the one that they were written with.
///
/// # Errors
///
/// If they are not. No bytes make this panic.
pub fn decode<T: ShardTime>(bytes: &Bytes, schema: &Schema) -> Result<Updates<T>, InlineError> {
    let mut reader = Reader::new(bytes.clone(), FORM);
    if reader.byte()? != FORM {
        return Err(FormatError::Malformed("this form of inline updates is not known").into());
    }
    let updates = read::updates(&mut reader, schema)?;
    reader.end()?;
    Ok(updates)
}
