//! The columns of a part, read by several threads where there is much to read.

use std::cmp::Reverse;
use std::num::NonZero;
use std::sync::LazyLock;
use std::thread;

use arrow::array::ArrayRef;
use arrow::compute::concat_batches;
use bytes::Bytes;
use parquet::arrow::ProjectionMask;
use parquet::arrow::arrow_reader::{ArrowReaderMetadata, ParquetRecordBatchReaderBuilder};

use crate::record::Stored;

use super::PartFault;
use super::file::{check_count, malformed};

/// What a thread should have to do at least, in bytes of memory: to start one takes some 30 µs, in
/// which a core decodes a tenth of this.
const SHARE_MIN: i64 = 1 << 20;

/// More threads than this help little: there are few columns.
const SHARES_MAX: usize = 4;

/// To ask the system takes as long as to start a thread.
static CORES: LazyLock<usize> =
    LazyLock::new(|| thread::available_parallelism().map_or(1, NonZero::get));

/// All columns, in their order.
pub(super) fn read(
    bytes: &Bytes,
    metadata: &ArrowReaderMetadata,
    stored: &Stored,
) -> Result<Vec<ArrayRef>, PartFault> {
    let mut shares = shares(&weights(metadata), *CORES).into_iter();
    let first = shares.next().unwrap_or_default();
    let read_share = |share: Vec<usize>| read_some(bytes, metadata, stored, share);
    let mut read = thread::scope(|scope| {
        let others = shares.map(|share| scope.spawn(move || read_share(share)));
        let others: Vec<_> = others.collect();
        let mut read = read_share(first);
        for other in others {
            let other = other.join().unwrap_or_else(|_| Err(panicked()));
            read = read.and_then(|mut read| {
                read.extend(other?);
                Ok(read)
            });
        }
        read
    })?;
    read.sort_unstable_by_key(|(at, _)| *at);
    Ok(read.into_iter().map(|(_, column)| column).collect())
}

/// As damage is told that the `parquet` crate panics on.
pub(super) fn panicked() -> PartFault {
    PartFault::Malformed("its reader panicked".to_owned())
}

/// How much there is to read of each column, in bytes of memory, about.
fn weights(metadata: &ArrowReaderMetadata) -> Vec<i64> {
    let groups = metadata.metadata().row_groups();
    let weight = |at: usize| {
        let chunks = groups.iter().filter_map(|group| group.columns().get(at));
        let weight = chunks.map(|chunk| {
            let texts = chunk.unencoded_byte_array_data_bytes().unwrap_or(0);
            // What is damaged may say anything.
            chunk.num_values().saturating_mul(8).saturating_add(texts)
        });
        weight.fold(0, i64::saturating_add).max(0)
    };
    (0..metadata.schema().fields().len()).map(weight).collect()
}

/// Which columns are read by one thread: shares that are about as large as each other.
fn shares(weights: &[i64], cores: usize) -> Vec<Vec<usize>> {
    let all = weights.iter().copied().fold(0, i64::saturating_add);
    let worthwhile = usize::try_from(all / SHARE_MIN).unwrap_or(usize::MAX);
    let count = cores.min(SHARES_MAX).min(worthwhile).min(weights.len());
    let count = count.max(1);
    let mut shares = vec![(0, Vec::new()); count];
    let mut columns: Vec<usize> = (0..weights.len()).collect();
    columns.sort_by_key(|&at| Reverse(weights[at]));
    for at in columns {
        let least = shares.iter_mut().min_by_key(|(weight, _)| *weight);
        let (weight, share) = least.expect("there is one at least");
        *weight = i64::saturating_add(*weight, weights[at]);
        share.push(at);
    }
    shares.into_iter().map(|(_, share)| share).collect()
}

/// Some of the columns, each with its place.
fn read_some(
    bytes: &Bytes,
    metadata: &ArrowReaderMetadata,
    stored: &Stored,
    mut share: Vec<usize>,
) -> Result<Vec<(usize, ArrayRef)>, PartFault> {
    share.sort_unstable();
    let schema = metadata.metadata().file_metadata().schema_descr();
    let projection = ProjectionMask::roots(schema, share.iter().copied());
    let rows = usize::try_from(stored.updates).unwrap_or(usize::MAX);
    let reader =
        ParquetRecordBatchReaderBuilder::new_with_metadata(bytes.clone(), metadata.clone())
            .with_projection(projection)
            .with_batch_size(rows.max(1))
            .build()?;
    let columns = arrow::array::RecordBatchReader::schema(&reader);
    let mut batches = reader.collect::<Result<Vec<_>, _>>().map_err(malformed)?;
    let read = match batches.len() {
        1 => batches.remove(0),
        _ => concat_batches(&columns, &batches).map_err(malformed)?,
    };
    check_count(i64::try_from(read.num_rows()).unwrap_or(-1), stored)?;
    let (_, columns, _) = read.into_parts();
    Ok(share.into_iter().zip(columns).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn threads_have_about_as_much_to_read_as_each_other() {
        let sizes = [20, 18, 8, 8, 8, 8].map(|size| size << 20);
        assert_eq!(shares(&sizes, 2), [vec![0, 3, 5], vec![1, 2, 4]]);
        assert_eq!(shares(&sizes, 1), [vec![0, 1, 2, 3, 4, 5]]);
        let columns = shares(&sizes, 64);
        assert_eq!(columns.len(), SHARES_MAX);
        let mut columns = columns.concat();
        columns.sort_unstable();
        assert_eq!(columns, [0, 1, 2, 3, 4, 5]);
    }

    #[test]
    fn what_is_little_is_read_by_one_thread() {
        assert_eq!(shares(&[1_000, 2_000], 2), [vec![1, 0]]);
        assert_eq!(shares(&[0, 0], 2), [vec![0, 1]]);
        assert_eq!(shares(&[i64::MAX, i64::MAX], 2).concat().len(), 2);
        // A thread has no less than it is worth to start it for.
        assert_eq!(shares(&[SHARE_MIN, SHARE_MIN / 2], 2).len(), 1);
    }
}
