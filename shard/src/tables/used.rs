//! The shards that tables have used.

use std::sync::Arc;

use lowwater::ShardId;

use crate::hub::{ById, Shard};
use crate::time::ShardTime;

/// The shards that tables have used: what is used stays read.
#[derive(Debug)]
pub(super) struct Used<T: ShardTime> {
    shards: ById<Arc<Shard<T>>>,
    /// With more than this it is looked for those that need not be kept.
    entries_max: usize,
    #[cfg(test)]
    looked_at: usize,
}

impl<T: ShardTime> Used<T> {
    /// Only this one.
    pub(super) fn new(shard: Arc<Shard<T>>) -> Self {
        Used {
            shards: ById::from([(shard.id, shard)]),
            entries_max: 64,
            #[cfg(test)]
            looked_at: 0,
        }
    }

    /// One that was used before, or this new one.
    pub(super) fn shard(
        &mut self,
        id: ShardId,
        new: impl FnOnce() -> Arc<Shard<T>>,
    ) -> Arc<Shard<T>> {
        let shard = Arc::clone(self.shards.entry(id).or_insert_with(new));
        if self.shards.len() > self.entries_max {
            self.tidy();
        }
        shard
    }

    /// What is written to its end will hardly be used again.
    fn tidy(&mut self) {
        #[cfg(test)]
        {
            self.looked_at += self.shards.len();
        }
        self.shards.retain(|_, shard| !shard.upper().is_sealed());
        self.entries_max = 2 * self.shards.len().max(32);
    }
}

#[cfg(test)]
mod tests {
    use lowwater::Upper;
    use tokio::runtime::Handle;

    use super::*;
    use crate::consensus::MemoryConsensus;
    use crate::hub::Hub;
    use crate::record::{DataRecord, NewBatch};

    #[tokio::test]
    async fn many_shards_are_looked_at_a_few_times_each_and_what_is_sealed_does_not_stay() {
        let hub = Hub::<u64>::spawn(&Handle::current(), Arc::new(MemoryConsensus::new()));
        let mut used = Used::new(hub.shard(ShardId::new(0)));
        let all = 10_000;
        for id in 0..all {
            let id = ShardId::new(id);
            let shard = used.shard(id, || hub.shard(id));
            assert!(Arc::ptr_eq(
                &shard,
                &used.shard(id, || panic!("it is known"))
            ));
        }
        assert!(used.looked_at < 4 * 10_000, "{}", used.looked_at);
        for id in 0..10 {
            let shard = used.shard(ShardId::new(id), || panic!("it is known"));
            let end = NewBatch::empty(Upper::minimum(), Upper::sealed()).unwrap();
            let end = |record: &DataRecord<u64>| record.compare_and_append(end.clone());
            hub.write(hub.transactor(), &shard, end).await.unwrap();
        }
        for id in all..3 * all {
            let id = ShardId::new(id);
            used.shard(id, || hub.shard(id));
        }
        let kept: Vec<_> = used.shards.keys().take(2).copied().collect();
        assert_eq!(kept, [10, 11].map(ShardId::new));
    }
}
