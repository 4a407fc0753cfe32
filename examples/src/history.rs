//! Where the collections were left, and what the tables have.

use lowwater::Since;
use timely::progress::Antichain;

use crate::catalog::Relation;
use crate::minute::Minute;
use crate::past::Past;
use crate::store::{Places, Store, StoreError, decode, patiently, unread};
use crate::writers::Writers;

/// Where every collection was left, and what the tables and the ingestion have from `since` on, which
/// somebody must hold.
///
/// # Errors
/// When the store does not answer for a while, or has something else in it.
pub fn past(
    store: &Store,
    places: &Places,
    writers: &Writers<'_>,
    since: impl Fn(Relation) -> Minute,
) -> Result<Past, StoreError> {
    // Then all that has committed to the tables is in their own shards.
    writers.settle()?;
    let mut past = Past::none();
    for relation in Relation::ALL {
        let upper = writers.upper(relation);
        let updates = if relation.is_view() || *upper == Antichain::from_elem(0) {
            Vec::new()
        } else {
            let (shard, since) = (places.shard(relation), Since::at(since(relation)));
            let loaded = patiently(async || {
                let loaded = store.shards().history(shard, &since).await;
                loaded.map_err(unread)
            });
            decode(relation, &store.runtime().block_on(loaded)?)?
        };
        past.put(relation, upper.clone(), updates);
    }
    Ok(past)
}
