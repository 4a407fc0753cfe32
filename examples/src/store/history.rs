//! Where the collections were left, and what the tables have.

use lowwater::Since;
use lowwater_shard::Inspection;
use timely::progress::Antichain;

use crate::catalog::Relation;
use crate::minute::Minute;
use crate::past::Past;

use super::patience::patiently;
use super::{Store, StoreError, Window, Writers, decode, unread};

impl Store {
    /// Where every collection was left, and what the tables have from `since` on, which somebody
    /// must hold.
    ///
    /// # Errors
    /// When the store does not answer for a while, or has something else in it.
    pub fn past(
        &self,
        writers: &Writers<'_>,
        since: impl Fn(Relation) -> Minute,
    ) -> Result<Past, StoreError> {
        let mut past = Past::none();
        for relation in Relation::ALL {
            let upper = writers.upper(relation);
            let updates = if relation.is_view() || *upper == Antichain::from_elem(0) {
                Vec::new()
            } else {
                let since = since(relation);
                let (shard, since) = (relation.shard(), Since::at(since));
                let loaded = patiently(async || {
                    let loaded = self.shards.history(shard, &since).await;
                    loaded.map_err(unread)
                });
                decode(relation, &self.runtime.block_on(loaded)?)?
            };
            past.put(relation, upper.clone(), updates);
        }
        Ok(past)
    }

    /// From when on `relation` can be read, and how far it is written.
    ///
    /// # Errors
    /// When the store does not answer for a while.
    pub fn window(&self, relation: Relation) -> Result<Window, StoreError> {
        let inspected = patiently(async || self.shards.inspect(relation.shard()).await);
        let Inspection { since, upper, .. } = self.runtime.block_on(inspected)?;
        Ok(Window { since, upper })
    }
}
