//! Where the updates of tables are: in the record if they are few, in a part of their own if not.

use std::collections::BTreeMap;
use std::collections::btree_map::Entry;
use std::sync::Arc;

use lowwater::{ShardId, Since, StorageError, Upper};
use timely::PartialOrder;

use crate::append::{inline_within, store};
use crate::hub::Shard;
use crate::inline;
use crate::parts::{PartError, Parts};
use crate::record::{Batch, Content, Stored, UnknownSchema};
use crate::schema::Schema;
use crate::updates::Updates;

use super::encoding::{decode_rows, encode_timed};
use super::error::give_up;
use super::row::TxnsRow;
use super::time::{TableTime, last_before};

/// What takes more bytes than this becomes a part.
const INLINE_BYTES_MAX: usize = 64 << 10;

/// The latest batches of the txns shard, that are left as they are: who has read up to one of them
/// reads on from there, and does not have to begin anew.
const BATCHES_LEFT: usize = 8;

/// How many batches are merged at least.
const BATCHES_MERGED: usize = 16;

/// Why contents were not read.
#[derive(Debug)]
pub(super) enum Unread {
    /// A part was deleted, or lost.
    Missing(Stored),
    Storage(StorageError),
}

impl<E: Into<StorageError>> From<E> for Unread {
    fn from(error: E) -> Self {
        Unread::Storage(error.into())
    }
}

/// Encodes updates for a record, and stores them before if they are large.
pub(super) async fn write<T: TableTime>(
    parts: &Parts,
    shard: &Arc<Shard<T>>,
    schema: &Schema,
    updates: &Updates<T>,
) -> Result<Vec<Content>, StorageError> {
    match inline_within(updates, schema, INLINE_BYTES_MAX) {
        Some(contents) => contents.map_err(give_up),
        None => store(parts, shard, schema, Arc::new(updates.clone())).await,
    }
}

/// The updates of batches, each content as it is stored.
pub(super) async fn read<T: TableTime>(
    parts: &Parts,
    shard: ShardId,
    batches: &[Batch<T>],
    schemas: &[Schema],
) -> Result<Vec<Updates<T>>, Unread> {
    let mut all = Vec::new();
    for content in batches.iter().flat_map(|batch| &batch.contents) {
        all.push(read_one(parts, shard, content, schemas).await?);
    }
    Ok(all)
}

async fn read_one<T: TableTime>(
    parts: &Parts,
    shard: ShardId,
    content: &Content,
    schemas: &[Schema],
) -> Result<Updates<T>, Unread> {
    let schema = usize::try_from(content.schema().number()).ok();
    let schema = schema.and_then(|at| schemas.get(at));
    let schema = schema.ok_or_else(|| give_up(UnknownSchema(content.schema())))?;
    match content {
        Content::Inline(inline) => Ok(inline::decode(&inline.bytes, schema).map_err(give_up)?),
        Content::Stored(stored) => match parts.read(shard, stored, schema).await {
            Err(PartError::Missing(_)) => Err(Unread::Missing(stored.clone())),
            read => Ok(read.map_err(trouble)?),
        },
    }
}

/// Rows of the txns shard that are being merged, added up: so many batches, and so much in them, are
/// merged as there are, while no more is in memory than there is left of them.
#[derive(Debug)]
pub(super) struct Merging<T> {
    since: Since<T>,
    rows: BTreeMap<(T, TxnsRow<T>), i64>,
}

impl<T: TableTime> Merging<T> {
    /// Nothing yet; the times are advanced to `since`.
    pub(super) fn new(since: Since<T>) -> Self {
        Merging {
            since,
            rows: BTreeMap::new(),
        }
    }

    /// What the batches of the txns shard come to.
    pub(super) async fn read(
        mut self,
        parts: &Parts,
        txns: ShardId,
        batches: &[Batch<T>],
        schemas: &[Schema],
    ) -> Result<Self, Unread> {
        for content in batches.iter().flat_map(|batch| &batch.contents) {
            self.add(read_one(parts, txns, content, schemas).await?)?;
        }
        Ok(self)
    }

    fn add(&mut self, mut updates: Updates<T>) -> Result<(), StorageError> {
        updates.advance(&self.since);
        let rows = decode_rows(&updates).map_err(give_up)?;
        for ((row, diff), time) in rows.into_iter().zip(updates.times()) {
            match self.rows.entry((time.clone(), row)) {
                Entry::Vacant(vacant) => drop(vacant.insert(diff)),
                Entry::Occupied(known) if *known.get() == -diff => drop(known.remove()),
                Entry::Occupied(mut known) => *known.get_mut() += diff,
            }
        }
        Ok(())
    }

    /// Takes out rows of about this size together, one at least; `None` if none are left.
    pub(super) fn next(&mut self, bytes_max: usize) -> Option<Result<Updates<T>, StorageError>> {
        let (mut bytes, mut rows, mut times) = (0, Vec::new(), Vec::new());
        while let Some(first) = self.rows.first_entry() {
            bytes += first.key().1.bytes();
            if bytes > bytes_max && !rows.is_empty() {
                break;
            }
            let ((time, row), diff) = first.remove_entry();
            rows.push((row, diff));
            times.push(time);
        }
        let updates = || encode_timed(&rows, times).map_err(give_up);
        (!rows.is_empty()).then(|| Ok(updates()?.consolidate()))
    }
}

fn trouble(error: PartError) -> StorageError {
    StorageError::new(error.kind(), error)
}

/// The first batch with updates at times from `from` on, if those before can be told from them; all
/// behind it have only such.
pub(super) fn cut<T: TableTime>(batches: &[Batch<T>], from: &Upper<T>) -> Option<usize> {
    let reaches = |batch: &Batch<T>| !PartialOrder::less_equal(&batch.upper, from);
    let Some(first) = batches.iter().position(reaches) else {
        return Some(batches.len());
    };
    let batch = &batches[first];
    if PartialOrder::less_equal(from, &batch.lower) {
        return Some(first);
    }
    // Times before were advanced to its since at most.
    let before = last_before(from)?;
    batch.since.can_read(&before).then_some(first)
}

/// The batches that are merged next: those since the last merge, or all of them once they have
/// become as large as what was merged, so that what is written over and over is in proportion to
/// what is new.
pub(super) fn worth_merging<T>(batches: &[Batch<T>]) -> &[Batch<T>] {
    let old = batches.len().saturating_sub(BATCHES_LEFT);
    if old < BATCHES_MERGED {
        return &[];
    }
    let merged_is_larger = bytes(&batches[..1]) > bytes(&batches[1..old]);
    &batches[usize::from(merged_is_larger)..old]
}

fn bytes<T>(batches: &[Batch<T>]) -> u64 {
    let contents = batches.iter().flat_map(|batch| &batch.contents);
    let bytes = contents.map(|content| match content {
        Content::Inline(inline) => inline.bytes.len() as u64,
        Content::Stored(stored) => stored.bytes,
    });
    bytes.sum()
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;

    use super::*;
    use crate::id::{BatchId, SchemaId};
    use crate::record::Inline;

    fn batch(lower: u64, upper: u64, since: u64) -> Batch<u64> {
        Batch {
            id: BatchId::new(lower),
            lower: Upper::at(lower),
            upper: Upper::at(upper),
            since: Since::at(since),
            contents: Vec::new(),
        }
    }

    #[test]
    fn what_is_new_is_read_alone_where_it_can_be_told_from_what_was_before() {
        let batches = [batch(0, 5, 3), batch(5, 9, 0), batch(9, 12, 11)];
        let cut = |from| cut(&batches, &Upper::at(from));
        // Where a batch begins, and within one that was not compacted up to there.
        assert_eq!(cut(5), Some(1));
        assert_eq!(cut(7), Some(1));
        assert_eq!(cut(4), Some(0));
        // What was before 3 is at 3 now.
        assert_eq!(cut(3), None);
        assert_eq!(cut(11), None);
        assert_eq!(cut(9), Some(2));
        assert_eq!(cut(12), Some(3));
        assert_eq!(cut(20), Some(3));
        assert_eq!(cut(0), Some(0));
    }

    #[test]
    fn what_was_merged_is_left_alone_until_as_much_is_new() {
        let many: Vec<_> = (0..40).map(|at| batch(at, at + 1, 0)).collect();
        assert!(worth_merging(&many[..23]).is_empty());
        assert_eq!(worth_merging(&many[..24]).len(), 16);
        let mut large = many.clone();
        let bytes = Bytes::from(vec![0; 100]);
        let (schema, updates) = (SchemaId::new(0), 1);
        let inline = Inline {
            schema,
            updates,
            bytes,
        };
        large[0].contents.push(Content::Inline(inline.clone()));
        assert_eq!(worth_merging(&large)[0].id, BatchId::new(1));
        large[3].contents.push(Content::Inline(inline));
        assert_eq!(worth_merging(&large)[0].id, BatchId::new(0));
    }

    fn row(number: u64) -> TxnsRow<u64> {
        TxnsRow::Written {
            table: ShardId::new(1),
            at: 3,
            number,
            payload: Bytes::from(vec![7; 100]),
        }
    }

    #[test]
    fn what_is_merged_is_added_up_whatever_it_is_stored_in_and_stored_in_pieces_of_a_bounded_size()
    {
        let mut merging = Merging::new(Since::at(4));
        let came: Vec<_> = (0..10).map(|number| (row(number), 1)).collect();
        let went: Vec<_> = (3..6).map(|number| (row(number), -1)).collect();
        for (rows, at) in [(&came, 2), (&went, 4), (&vec![(row(0), -1)], 5)] {
            let updates = encode_timed(rows, vec![at; rows.len()]).unwrap();
            merging.add(updates).unwrap();
        }
        let mut pieces = Vec::new();
        while let Some(piece) = merging.next(300) {
            pieces.push(piece.unwrap());
        }
        let sizes: Vec<usize> = pieces.iter().map(Updates::len).collect();
        assert_eq!(sizes, [2, 2, 2, 2]);
        let left = |piece: &Updates<u64>| {
            let rows = decode_rows(piece).unwrap().into_iter();
            rows.zip(piece.times().to_vec()).collect::<Vec<_>>()
        };
        let mut left: Vec<_> = pieces.iter().flat_map(left).collect();
        left.sort_by(|one, other| (one.1, &one.0.0).cmp(&(other.1, &other.0.0)));
        let mut expected: Vec<_> = [0, 1, 2, 6, 7, 8, 9].map(|n| ((row(n), 1), 4)).into();
        expected.push(((row(0), -1), 5));
        assert_eq!(left, expected);
    }

    #[test]
    fn a_row_that_is_larger_than_a_piece_is_one_of_its_own() {
        let mut merging = Merging::new(Since::at(0));
        let rows = [(row(1), 1), (row(2), 1)];
        merging
            .add(encode_timed(&rows, vec![1, 1]).unwrap())
            .unwrap();
        assert_eq!(merging.next(10).unwrap().unwrap().len(), 1);
        assert_eq!(merging.next(10).unwrap().unwrap().len(), 1);
        assert!(merging.next(10).is_none());
    }
}
