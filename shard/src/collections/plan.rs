//! What a change of the embedder's catalogue means for shards: which are allotted, given up, saved,
//! and which have been finalized. Pure, but for the transaction that it is done in.

use std::collections::BTreeSet;

use lowwater::{CollectionId, ShardId, StopReason};

use crate::metadata::{MetadataError, MetadataTransaction};

use super::ReadOnly;

/// Where a collection's data are to be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Allotment<I> {
    /// In a shard of its own.
    Own,
    /// In the shard of this one, which exists already, goes in the same transaction, or comes before
    /// it in the same list: as a version of a table's schema does.
    Shared(I),
}

/// What a transaction over the catalogue comes to, once it has committed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Plan<I> {
    /// Which collections own which shard from then on, of those that owned none before.
    pub allotted: Vec<(I, ShardId)>,
    /// Which shard each of the collections owns from then on that were added, or exist, also of those
    /// that owned it before: so that what has committed can be prepared again, and is known then.
    pub owners: Vec<(I, ShardId)>,
    /// Which of the collections that were dropped own nothing from then on, also of those that owned
    /// nothing before.
    pub ownerless: BTreeSet<I>,
    /// Which collections own theirs no more.
    pub disowned: Vec<(I, ShardId)>,
    /// Which shards are to be finalized from then on, for nobody owns them any more.
    pub given_up: BTreeSet<ShardId>,
    /// Which shards were disowned and are still owned: by these, among others.
    pub kept: Vec<(ShardId, I)>,
    /// Which shards waited to be finalized although these collections own them. They wait no more.
    pub rescued: Vec<(ShardId, Vec<I>)>,
    /// Which shards have been finalized, and wait no more.
    pub finalized: BTreeSet<ShardId>,
    /// Which collections own a shard although the catalogue has never heard of them. They keep it:
    /// better to leak than to destroy.
    pub strangers: Vec<(I, ShardId)>,
    /// All shards that wait to be finalized from then on.
    pub unfinalized: BTreeSet<ShardId>,
    /// Which shard carries the transactions of tables.
    pub txns_shard: Option<ShardId>,
}

/// Why a change of the catalogue was not prepared. Abort the transaction: some of it may have been
/// written there.
#[derive(Clone, Debug, thiserror::Error)]
pub enum PrepareError<I> {
    /// It is said to exist and to have been dropped.
    #[error("the collection {0} cannot exist and have been dropped")]
    Contradiction(I),
    /// The one whose shard it is to have owns none.
    #[error("the collection {collection} cannot share the shard of {with}, which owns none")]
    NothingToShare {
        /// Which collection.
        collection: I,
        /// Whose shard it was to have.
        with: I,
    },
    /// Nothing is prepared by a controller that only reads.
    #[error(transparent)]
    ReadOnly(#[from] ReadOnly),
    /// The controller has stopped, as it does when another one has taken over.
    #[error(transparent)]
    Stopped(#[from] StopReason),
    /// The transaction has refused or failed.
    #[error(transparent)]
    Metadata(#[from] MetadataError),
}

impl<I> Plan<I> {
    fn new() -> Self {
        Plan {
            allotted: Vec::new(),
            owners: Vec::new(),
            ownerless: BTreeSet::new(),
            disowned: Vec::new(),
            given_up: BTreeSet::new(),
            kept: Vec::new(),
            rescued: Vec::new(),
            finalized: BTreeSet::new(),
            strangers: Vec::new(),
            unfinalized: BTreeSet::new(),
            txns_shard: None,
        }
    }
}

/// Brings the metadata in line with the catalogue, when a controller starts: allots shards to the
/// collections that exist and own none, gives up those of the collections that were dropped, and
/// saves those that wait although somebody owns them.
pub(super) fn initialize<I: CollectionId>(
    metadata: &mut impl MetadataTransaction<I>,
    existing: &BTreeSet<I>,
    dropped: &BTreeSet<I>,
    mut new_shard: impl FnMut() -> ShardId,
) -> Result<Plan<I>, PrepareError<I>> {
    if let Some(both) = existing.intersection(dropped).next() {
        return Err(PrepareError::Contradiction(*both));
    }
    let mut plan = Plan::new();
    let known = |id: &I| existing.contains(id) || dropped.contains(id);
    let owned = metadata.owned()?.into_iter();
    plan.strangers = owned.filter(|(id, _)| !known(id)).collect();
    let new = existing.iter().map(|id| (*id, Allotment::Own)).collect();
    change(metadata, new, dropped, &mut new_shard, &mut plan)?;
    if metadata.txns_shard()?.is_none() {
        metadata.set_txns_shard(new_shard())?;
    }
    finish(metadata, &BTreeSet::new(), plan)
}

/// Does the same for a change of the catalogue. Strikes what has been finalized, of what the
/// transaction lists.
pub(super) fn prepare<I: CollectionId>(
    metadata: &mut impl MetadataTransaction<I>,
    added: Vec<(I, Allotment<I>)>,
    dropped: &BTreeSet<I>,
    finalized: &BTreeSet<ShardId>,
    mut new_shard: impl FnMut() -> ShardId,
) -> Result<Plan<I>, PrepareError<I>> {
    let mut plan = Plan::new();
    change(metadata, added, dropped, &mut new_shard, &mut plan)?;
    finish(metadata, finalized, plan)
}

fn change<I: CollectionId>(
    metadata: &mut impl MetadataTransaction<I>,
    added: Vec<(I, Allotment<I>)>,
    dropped: &BTreeSet<I>,
    new_shard: &mut impl FnMut() -> ShardId,
    plan: &mut Plan<I>,
) -> Result<(), PrepareError<I>> {
    // Before anything is owned anew, so that what is owned already can be seen to be saved.
    rescue(metadata, plan)?;
    for &id in dropped {
        if let Some(shard) = metadata.disown(id)? {
            plan.disowned.push((id, shard));
        }
    }
    for (id, allotment) in added {
        let owned = metadata.shard_of(id)?;
        let shard = match allotment {
            Allotment::Own => owned.unwrap_or_else(&mut *new_shard),
            Allotment::Shared(with) => shared(metadata, plan, id, with)?,
        };
        metadata.own(id, shard)?;
        plan.owners.push((id, shard));
        if owned.is_none() {
            plan.allotted.push((id, shard));
        }
    }
    for &id in dropped {
        if metadata.shard_of(id)?.is_none() {
            plan.ownerless.insert(id);
        }
    }
    Ok(())
}

/// The shard of `with`, whom this transaction may have disowned; or that which the collection shares
/// already, where an earlier one did.
fn shared<I: CollectionId>(
    metadata: &impl MetadataTransaction<I>,
    plan: &Plan<I>,
    collection: I,
    with: I,
) -> Result<ShardId, PrepareError<I>> {
    let disowned = || {
        let mut disowned = plan.disowned.iter();
        let disowned = disowned.find(|(id, _)| *id == with);
        disowned.map(|(_, shard)| *shard)
    };
    let shard = metadata.shard_of(with)?.or_else(disowned);
    let shard = match shard {
        Some(shard) => Some(shard),
        None => metadata.shard_of(collection)?,
    };
    shard.ok_or(PrepareError::NothingToShare { collection, with })
}

/// Whatever a list says: a shard that somebody owns is not finalized.
fn rescue<I: CollectionId>(
    metadata: &mut impl MetadataTransaction<I>,
    plan: &mut Plan<I>,
) -> Result<(), PrepareError<I>> {
    for shard in metadata.unfinalized()? {
        let owners = metadata.owners(shard)?;
        if !owners.is_empty() || metadata.txns_shard()? == Some(shard) {
            metadata.remove_unfinalized(shard)?;
            plan.rescued.push((shard, owners));
        }
    }
    Ok(())
}

fn finish<I: CollectionId>(
    metadata: &mut impl MetadataTransaction<I>,
    finalized: &BTreeSet<ShardId>,
    mut plan: Plan<I>,
) -> Result<Plan<I>, PrepareError<I>> {
    let listed = metadata.unfinalized()?;
    for &shard in listed.intersection(finalized) {
        metadata.remove_unfinalized(shard)?;
        plan.finalized.insert(shard);
    }
    let txns_shard = metadata.txns_shard()?;
    let disowned: BTreeSet<ShardId> = plan.disowned.iter().map(|(_, shard)| *shard).collect();
    for shard in disowned {
        // Read again: it may be owned by others, or by one that comes with this transaction.
        match metadata.owners(shard)?.first() {
            Some(owner) => plan.kept.push((shard, *owner)),
            None if txns_shard == Some(shard) => {}
            None => {
                metadata.add_unfinalized(shard)?;
                plan.given_up.insert(shard);
            }
        }
    }
    plan.unfinalized = metadata.unfinalized()?;
    plan.txns_shard = txns_shard;
    Ok(plan)
}

#[cfg(test)]
mod tests;
