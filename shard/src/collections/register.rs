//! Making collections that are to be created parts of the transactions, if they are tables.

use std::collections::{BTreeMap, BTreeSet};

use lowwater::{CollectionId, ShardId};

use crate::schema::Schema;
use crate::tables::{RegisterError, RegisterFaults};
use crate::time::ShardTime;

use super::Inner;
use super::create::{CollectionRefusal, CreateCollectionsError};
use super::table_set::trouble;

/// A table of a batch: its id, its shard, and the columns of its rows.
pub(super) type TableToBe<I> = (I, ShardId, Schema);

impl<I: CollectionId, T: ShardTime> Inner<I, T> {
    /// True iff a table is not part of the transactions: it is migrated, and this only reads.
    pub(super) fn stands_apart(&self, id: I) -> bool {
        let set = self.tables.set();
        let migrated = self.migrated.get().filter(|them| them.contains(&id));
        migrated.is_some() && set.is_none_or(|set| set.is_read_only())
    }

    /// Makes tables part of the transactions, new ones and those that are there already, unless this
    /// only reads. Says where those of the new ones begin to which nothing was ever written.
    pub(super) async fn register(
        &self,
        at: Option<T>,
        new: Vec<TableToBe<I>>,
        again: Vec<TableToBe<I>>,
    ) -> Result<BTreeMap<ShardId, T>, CreateCollectionsError<I, T>> {
        let (Some(set), Some(at)) = (self.tables.set(), at) else {
            return Ok(BTreeMap::new());
        };
        let writes = !set.is_read_only();
        let is_one = |(id, ..): &TableToBe<I>| !self.stands_apart(*id);
        let new: Vec<_> = new.into_iter().filter(is_one).collect();
        let again: Vec<_> = again.into_iter().filter(is_one).collect();
        let shards = |tables: &[TableToBe<I>]| -> BTreeSet<ShardId> {
            tables.iter().map(|(_, shard, _)| *shard).collect()
        };
        let (begin, there) = (shards(&new), shards(&again));
        self.tables.follow(begin.union(&there).copied());
        if writes {
            // Who starts again finds its tables: no time has to be closed for them.
            let missing = set.unregistered(begin.union(&there).copied().collect());
            let missing = missing.await;
            let tables = new.into_iter().chain(again);
            let tables: Vec<TableToBe<I>> = tables
                .filter(|(_, shard, _)| missing.contains(shard))
                .collect();
            if !tables.is_empty() {
                let named = tables
                    .iter()
                    .map(|(_, shard, schema)| (*shard, schema.clone()));
                let registered = set.register(at.clone(), named.collect()).await;
                registered.map_err(|error| refused(error, &tables))?;
            }
        }
        if begin.is_empty() {
            return Ok(BTreeMap::new());
        }
        let blank = set.blank(begin).await;
        let blank = blank.map_err(CreateCollectionsError::Storage)?.into_iter();
        let since_when = |since: Option<T>| since.unwrap_or_else(|| at.clone());
        Ok(blank
            .map(|(shard, since)| (shard, since_when(since)))
            .collect())
    }
}

fn refused<I: CollectionId, T: ShardTime>(
    error: RegisterError<T>,
    tables: &[TableToBe<I>],
) -> CreateCollectionsError<I, T> {
    let faults = match trouble(error) {
        Ok(RegisterFaults::Passed(passed)) => return CreateCollectionsError::Passed(passed),
        Ok(RegisterFaults::Tables(faults)) => faults,
        Err(error) => return CreateCollectionsError::Storage(error),
    };
    let refusal = |(id, shard, _): &TableToBe<I>| {
        let fault = faults.get(shard)?.clone();
        Some((*id, CollectionRefusal::from(fault)))
    };
    CreateCollectionsError::Refused(tables.iter().filter_map(refusal).collect())
}
