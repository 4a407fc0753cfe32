//! Sweeping parts that nobody refers to: their writers have died, or were refused.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use lowwater::{ShardId, StorageError};
use parking_lot::Mutex;
use tokio::time::Instant;

use crate::compaction::{NoRefusal, trouble};
use crate::hub::{ById, Shard};
use crate::id::{PartName, SeqNo};
use crate::parts::ListedPart;
use crate::record::DataRecord;
use crate::shards::{Inner, Shards};
use crate::time::ShardTime;

/// A version of a shard's data, and when it was seen.
#[derive(Clone, Copy, Debug)]
struct Sighting {
    version: SeqNo,
    seen: Instant,
}

/// What sweeps have seen of shards.
#[derive(Debug, Default)]
pub(crate) struct Sightings(Mutex<ById<Sighting>>);

impl Sightings {
    /// A version that was seen at least the grace ago, if there is one; notes the current one.
    fn note(&self, shard: ShardId, version: SeqNo, grace: Duration) -> Option<SeqNo> {
        let mut sightings = self.0.lock();
        let now = Sighting {
            version,
            seen: Instant::now(),
        };
        let old = *sightings.entry(shard).or_insert(now);
        if old.seen.elapsed() < grace {
            return None;
        }
        sightings.insert(shard, now);
        Some(old.version)
    }

    /// Forgets what was seen of other shards.
    pub(crate) fn keep(&self, mut is_kept: impl FnMut(ShardId) -> bool) {
        self.0.lock().retain(|shard, _| is_kept(*shard));
    }

    #[cfg(test)]
    pub(crate) fn len(&self) -> usize {
        self.0.lock().len()
    }

    pub(crate) fn forget(&self, shard: ShardId) {
        self.0.lock().remove(&shard);
    }
}

impl<T: ShardTime> Shards<T> {
    /// Deletes parts of a shard that nobody refers to, nor ever will; says how many. May be called
    /// at any time, by any number of processes.
    ///
    /// What was begun since less than [`part_grace`](crate::Settings::part_grace) stays, for a
    /// writer may be about to refer to it. How long that is this process tells by its own clock, so
    /// the first call deletes nothing. A writer that takes longer is not harmed: its part is refused
    /// and has to be written again. The parts of a shard that has gone are all nobody's.
    ///
    /// # Errors
    ///
    /// If storage fails.
    pub async fn sweep(&self, shard: ShardId) -> Result<usize, StorageError> {
        let shard = self.inner.hub.shard(shard);
        self.inner.sweep(&shard, &self.inner.sightings).await
    }
}

impl<T: ShardTime> Inner<T> {
    pub(crate) async fn sweep(
        &self,
        shard: &Arc<Shard<T>>,
        sightings: &Sightings,
    ) -> Result<usize, StorageError> {
        self.hub.refresh_one::<DataRecord<T>>(shard).await?;
        self.collect_garbage(shard).await?;
        let data = shard.data.lock().await;
        let (seen, is_buried) = (data.seen(), data.record().is_buried());
        drop(data);
        if is_buried {
            sightings.forget(shard.id);
            return self.clear(shard).await;
        }
        let Some(version) = seen else {
            return Ok(0);
        };
        let listed = self.unreferenced(shard).await?;
        let grace = self.settings.part_grace;
        let Some(old) = sightings.note(shard.id, version, grace) else {
            return Ok(0);
        };
        if listed.is_empty() {
            return Ok(0);
        }
        // One that was begun at the old version itself is taken next time: the floor that is raised
        // now makes for a later version.
        if listed.iter().any(|part| part.name.begun <= old) {
            let raise = |record: &DataRecord<T>| Ok::<_, NoRefusal>(record.raise_floor(old));
            let raised = self.hub.write(self.hub.transactor(), shard, raise).await;
            raised.map_err(trouble)?;
        }
        self.delete_below_floor(shard).await
    }

    /// Deletes what is below the floor and not referred to: no record will ever refer to it.
    async fn delete_below_floor(&self, shard: &Arc<Shard<T>>) -> Result<usize, StorageError> {
        // Listed before the record is read, which the floor is in already.
        let listed = self.parts.list(shard.id).await?;
        self.hub.refresh_one::<DataRecord<T>>(shard).await?;
        let data = shard.data.lock().await;
        let (floor, referenced) = (data.record().floor(), referenced(data.record()));
        drop(data);
        let nobodys = listed.into_iter().map(|part| part.name);
        let nobodys = nobodys.filter(|name| name.begun < floor && !referenced.contains(name));
        let nobodys: Vec<PartName> = nobodys.collect();
        if !nobodys.is_empty() {
            self.parts.delete(shard.id, &nobodys).await?;
        }
        Ok(nobodys.len())
    }

    async fn unreferenced(&self, shard: &Arc<Shard<T>>) -> Result<Vec<ListedPart>, StorageError> {
        let mut listed = self.parts.list(shard.id).await?;
        let data = shard.data.lock().await;
        let referenced = referenced(data.record());
        listed.retain(|part| !referenced.contains(&part.name));
        Ok(listed)
    }

    async fn clear(&self, shard: &Arc<Shard<T>>) -> Result<usize, StorageError> {
        let listed = self.parts.list(shard.id).await?.len();
        if listed > 0 {
            self.parts.clear(shard.id).await?;
        }
        Ok(listed)
    }

    /// The oldest version that readers of other processes may read parts of, as far as is known.
    pub(crate) async fn oldest_read_by_others(&self, shard: &Shard<T>) -> Option<SeqNo> {
        let sinces = shard.sinces.lock().await;
        let leased = sinces.record().leased().iter();
        let others = leased.filter(|(reader, _)| !self.leases.has(**reader));
        others.map(|(_, leased)| leased.reads_from).min()
    }
}

fn referenced<T: ShardTime>(record: &DataRecord<T>) -> BTreeSet<PartName> {
    record.parts().collect()
}
