//! What a shard had at a time.

use lowwater::{Since, StorageError, StorageErrorKind};
use lowwater_shard::Updates;
use lowwater_shard::parts::PartError;
use lowwater_shard::record::{Content, DataRecord};
use timely::PartialOrder;
use timely::progress::Antichain;

use crate::catalog::Relation;
use crate::minute::Minute;
use crate::store::Window;

use super::{Inner, Shard, Shards, give_up, part_trouble};

/// How often it is begun again when parts are merged away under the reading.
const TRIES_MAX: usize = 10;

/// What came of a reading.
#[derive(Clone, Debug)]
pub(in crate::store) enum Snapshot {
    /// The updates, consolidated.
    Found(Updates<Minute>),
    /// The time lies before since, or is not yet written.
    Refused(Window),
}

impl Shards {
    /// What a shard had at the minute `as_of`, if that can be read now.
    pub(in crate::store) async fn snapshot(
        &self,
        relation: Relation,
        as_of: Minute,
    ) -> Result<Snapshot, StorageError> {
        let shard = self.inner.shard(relation);
        let frontier = Antichain::from_elem(as_of);
        let (record, updates) = self.inner.read_all(shard).await?;
        // After the data: what they were compacted to was the since of that moment at the latest.
        let since = self.inner.sinces(shard).await?.since().clone();
        let upper = record.upper().clone();
        let is_readable = PartialOrder::less_equal(since.frontier(), &frontier);
        if !is_readable || !upper.is_past(&frontier) {
            return Ok(Snapshot::Refused(Window { since, upper }));
        }
        let mut updates = updates.filter(|at| *at <= as_of);
        updates.advance(&Since::new(frontier));
        Ok(Snapshot::Found(updates.consolidate()))
    }

    /// All that a shard has from the minute `since` on, which somebody must hold; what lies before
    /// stands there.
    pub(in crate::store) async fn history(
        &self,
        relation: Relation,
        since: Minute,
    ) -> Result<Updates<Minute>, StorageError> {
        let shard = self.inner.shard(relation);
        let (_, mut updates) = self.inner.read_all(shard).await?;
        updates.advance(&Since::at(since));
        Ok(updates.consolidate())
    }

    /// From when on a shard can be read, and how far it is written.
    pub(in crate::store) async fn window(
        &self,
        relation: Relation,
    ) -> Result<Window, StorageError> {
        let shard = self.inner.shard(relation);
        let upper = self.inner.refreshed(shard).await?.record().upper().clone();
        let since = self.inner.sinces(shard).await?.since().clone();
        Ok(Window { since, upper })
    }
}

impl Inner {
    /// All updates of a shard, and the record that refers to them. Parts that are gone were merged
    /// away, if the record has changed since: then it is read again.
    async fn read_all(
        &self,
        shard: &Shard,
    ) -> Result<(DataRecord<Minute>, Updates<Minute>), StorageError> {
        let mut missing = None;
        for _ in 0..TRIES_MAX {
            let data = self.refreshed(shard).await?;
            let (seen, record) = (data.seen(), data.record().clone());
            drop(data);
            if let Some((at, error)) = missing.take()
                && at == seen
            {
                return Err(part_trouble(error));
            }
            match self
                .read(shard, record.batches().iter().flat_map(|of| &of.contents))
                .await?
            {
                Ok(updates) => return Ok((record, updates)),
                Err(error) => missing = Some((seen, error)),
            }
        }
        Err(StorageError::new(
            StorageErrorKind::Retry,
            "its parts are merged faster than they can be read",
        ))
    }

    /// These updates, one behind the other; or which part is not there.
    pub(super) async fn read(
        &self,
        shard: &Shard,
        contents: impl Iterator<Item = &Content>,
    ) -> Result<Result<Updates<Minute>, PartError>, StorageError> {
        let mut all = Vec::new();
        for content in contents {
            all.push(match content {
                Content::Inline(inline) => {
                    let decoded = lowwater_shard::inline::decode(&inline.bytes, &shard.schema);
                    decoded.map_err(give_up)?
                }
                Content::Stored(stored) => {
                    match self.parts.read(shard.id, stored, &shard.schema).await {
                        Ok(updates) => updates,
                        Err(error @ PartError::Missing(_)) => return Ok(Err(error)),
                        Err(error) => return Err(part_trouble(error)),
                    }
                }
            });
        }
        Updates::concat(all, &shard.schema).map(Ok).map_err(give_up)
    }
}
