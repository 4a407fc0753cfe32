//! What a part's metadata say about its rows.

use lowwater::ShardId;
use object_store::{GetOptions, GetRange, ObjectStore};
use parquet::arrow::parquet_to_arrow_schema;
use parquet::file::metadata::{ParquetMetaData, ParquetMetaDataReader, RowGroupMetaData};
use parquet::file::statistics::Statistics;

use bytes::Bytes;

use crate::record::Stored;
use crate::schema::{ColumnKind, Schema};
use crate::time::ShardTime;

use super::file::{PartFile, check_count, guarded, with_time_fields};
use super::{PartError, PartFault, Parts};
use crate::updates::is_same;

/// How much of a part's end is read at first: the metadata of a few dozen columns.
const FOOTER_GUESS: u64 = 16 * 1024;

/// Behind the metadata: their length, 4 bytes, and four letters.
const TRAILER: usize = 8;
const LETTERS: &[u8] = b"PAR1";

/// What a part's metadata say about its rows.
#[derive(Clone, Debug, PartialEq)]
pub struct PartStats {
    /// How many updates.
    pub updates: u64,
    /// How large the part is.
    pub bytes: u64,
    /// About each column of the schema that it was written with.
    pub columns: Vec<ColumnStats>,
    /// About each coordinate of the times: all are within, both ends included. Empty where there are
    /// no updates.
    pub times: Vec<(u64, u64)>,
}

/// What is known of a column's values. Bounds need not be values: long ones are cut off.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct ColumnStats {
    /// None is less, if this is known and there are any.
    pub min: Option<Value>,
    /// None is greater, if this is known and there are any.
    pub max: Option<Value>,
    /// In how many rows there is nothing, if this is known.
    pub nulls: Option<u64>,
}

/// A value of a column. Those of one kind are ordered.
#[derive(Clone, Debug, PartialEq, PartialOrd)]
#[non_exhaustive]
pub enum Value {
    /// Of kind [`ColumnKind::Bool`].
    Bool(bool),
    /// Of kind [`ColumnKind::Int32`].
    Int32(i32),
    /// Of kind [`ColumnKind::Int64`].
    Int64(i64),
    /// Of kind [`ColumnKind::UInt64`].
    UInt64(u64),
    /// Of kind [`ColumnKind::Float64`]; bounds do not cover NaN, and 0 may stand for -0.
    Float64(f64),
    /// Of kind [`ColumnKind::Text`].
    Text(String),
    /// Of kind [`ColumnKind::Bytes`].
    Bytes(Vec<u8>),
    /// Of kind [`ColumnKind::TimestampMicros`].
    TimestampMicros(i64),
}

impl Parts {
    /// The part's metadata, as bytes.
    pub(super) async fn footer(&self, shard: ShardId, stored: &Stored) -> Result<Bytes, PartError> {
        let guess = self.end(shard, stored, FOOTER_GUESS).await?;
        let missing = || self.unreadable(stored, malformed("it has no footer"));
        let trailer = guess.len().checked_sub(TRAILER).ok_or_else(missing)?;
        let (length, letters) = guess[trailer..].split_at(4);
        if letters != LETTERS {
            return Err(missing());
        }
        let length: [u8; 4] = length.try_into().expect("these are four");
        let length = u32::from_le_bytes(length) as usize;
        if let Some(start) = trailer.checked_sub(length) {
            return Ok(guess.slice(start..trailer));
        }
        let whole = length as u64 + TRAILER as u64;
        if whole > stored.bytes {
            return Err(missing());
        }
        let whole = self.end(shard, stored, whole).await?;
        Ok(whole.slice(..length))
    }

    /// The last bytes of a part; all, if there are fewer.
    async fn end(&self, shard: ShardId, stored: &Stored, bytes: u64) -> Result<Bytes, PartError> {
        let name = stored.name();
        let wanted = bytes.min(stored.bytes);
        let options = GetOptions {
            range: Some(GetRange::Suffix(wanted)),
            ..GetOptions::default()
        };
        let path = self.path(shard, name);
        let read = self.store.get_opts(&path, options).await;
        let read = read.map_err(|error| self.error(name, &error))?;
        let found = read.meta.size;
        let bytes = read.bytes().await;
        let bytes = bytes.map_err(|error| self.error(name, &error))?;
        if found == stored.bytes && bytes.len() as u64 == wanted {
            return Ok(bytes);
        }
        let wanted = stored.bytes;
        Err(self.unreadable(stored, PartFault::Length { wanted, found }))
    }

    fn unreadable(&self, stored: &Stored, fault: PartFault) -> PartError {
        PartError::Unreadable {
            part: stored.name(),
            fault,
        }
    }
}

fn malformed(what: &str) -> PartFault {
    PartFault::Malformed(what.to_owned())
}

pub(super) fn read<T: ShardTime>(
    file: PartFile,
    footer: &[u8],
    stored: &Stored,
    schema: &Schema,
) -> Result<PartStats, PartFault> {
    let (metadata, columns) = guarded(|| {
        let metadata = ParquetMetaDataReader::decode_metadata(footer)?;
        let columns = parquet_to_arrow_schema(metadata.file_metadata().schema_descr(), None)?;
        Ok((metadata, columns))
    })?;
    file.check(metadata.file_metadata())?;
    if !is_same(&columns.into(), &with_time_fields::<T>(&schema.arrow())) {
        return Err(PartFault::OtherColumns);
    }
    check_count(metadata.file_metadata().num_rows(), stored)?;
    let columns = schema.columns().iter().enumerate();
    let columns = columns.map(|(at, column)| of_column(&metadata, at, column.kind));
    let width = schema.columns().len();
    let times = (0..usize::from(T::COORDINATES)).map(|coordinate| {
        match of_column(&metadata, width + coordinate, ColumnKind::UInt64) {
            ColumnStats {
                min: Some(Value::UInt64(min)),
                max: Some(Value::UInt64(max)),
                ..
            } => Ok((min, max)),
            _ => Err(malformed("its times have no statistics")),
        }
    });
    Ok(PartStats {
        updates: stored.updates,
        bytes: stored.bytes,
        columns: columns.collect(),
        times: match stored.updates {
            0 => Vec::new(),
            _ => times.collect::<Result<_, _>>()?,
        },
    })
}

fn of_column(metadata: &ParquetMetaData, at: usize, kind: ColumnKind) -> ColumnStats {
    let groups = metadata.row_groups().iter();
    let mut groups = groups.map(|group| of_group(group, at, kind));
    let Some(first) = groups.next() else {
        return ColumnStats {
            nulls: Some(0),
            ..ColumnStats::default()
        };
    };
    groups.fold(first, GroupStats::and).stats
}

/// Of one group of rows, or several.
struct GroupStats {
    stats: ColumnStats,
    /// There is nothing in any of the rows, so that there are no bounds.
    is_nothing: bool,
}

impl GroupStats {
    fn and(self, other: Self) -> Self {
        let nulls = self.stats.nulls.zip(other.stats.nulls);
        let nulls = nulls.map(|(left, right)| left.saturating_add(right));
        let (min, max) = match (self.is_nothing, other.is_nothing) {
            (true, _) => (other.stats.min, other.stats.max),
            (_, true) => (self.stats.min, self.stats.max),
            (false, false) => {
                let min = self.stats.min.zip(other.stats.min);
                let max = self.stats.max.zip(other.stats.max);
                (
                    min.map(|(left, right)| if right < left { right } else { left }),
                    max.map(|(left, right)| if right > left { right } else { left }),
                )
            }
        };
        GroupStats {
            stats: ColumnStats { min, max, nulls },
            is_nothing: self.is_nothing && other.is_nothing,
        }
    }
}

fn of_group(group: &RowGroupMetaData, at: usize, kind: ColumnKind) -> GroupStats {
    let statistics = group
        .columns()
        .get(at)
        .and_then(|column| column.statistics());
    let nulls = statistics.and_then(Statistics::null_count_opt);
    let (min, max) = statistics.map_or((None, None), |statistics| bounds(statistics, kind));
    let rows = u64::try_from(group.num_rows()).ok();
    GroupStats {
        is_nothing: nulls.is_some() && nulls == rows,
        stats: ColumnStats { min, max, nulls },
    }
}

fn bounds(statistics: &Statistics, kind: ColumnKind) -> (Option<Value>, Option<Value>) {
    macro_rules! each {
        ($stats:expr, $value:expr) => {
            (
                $stats.min_opt().and_then($value),
                $stats.max_opt().and_then($value),
            )
        };
    }
    match (statistics, kind) {
        (Statistics::Boolean(stats), ColumnKind::Bool) => {
            each!(stats, |value| Some(Value::Bool(*value)))
        }
        (Statistics::Int32(stats), ColumnKind::Int32) => {
            each!(stats, |value| Some(Value::Int32(*value)))
        }
        (Statistics::Int64(stats), ColumnKind::Int64) => {
            each!(stats, |value| Some(Value::Int64(*value)))
        }
        (Statistics::Int64(stats), ColumnKind::UInt64) => {
            each!(stats, |value| Some(Value::UInt64(value.cast_unsigned())))
        }
        (Statistics::Int64(stats), ColumnKind::TimestampMicros) => {
            each!(stats, |value| Some(Value::TimestampMicros(*value)))
        }
        (Statistics::Double(stats), ColumnKind::Float64) => {
            each!(stats, |value| Some(Value::Float64(*value)))
        }
        (Statistics::ByteArray(stats), ColumnKind::Text) => each!(stats, |value| {
            let text = value.as_utf8().ok()?;
            Some(Value::Text(text.to_owned()))
        }),
        (Statistics::ByteArray(stats), ColumnKind::Bytes) => {
            each!(stats, |value| Some(Value::Bytes(value.data().to_vec())))
        }
        _ => (None, None),
    }
}
