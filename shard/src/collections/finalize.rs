//! Finalizing one shard: whether it may be, and how.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use lowwater::{Cause, Client, CollectionId, ShardId, StorageError, StorageErrorKind};
use parking_lot::Mutex;
use tokio::time::Instant;

use crate::consensus::{Fence, Fenced};
use crate::finalize::FinalizeError;
use crate::id::ReaderId;
use crate::record::Blocked;
use crate::shards::Shards;
use crate::time::ShardTime;

use super::finalizer::{Finalize, Finalizing, HeldBy, Unfinalized};
use super::late::LateTables;
use super::ledger::{Ledger, names};

/// How often it is looked at most who keeps a collection: the owner walks all of them for it.
const EXPLAIN_INTERVAL: Duration = Duration::from_secs(1);

/// How long that is remembered.
const EXPLAINED_MAX: Duration = Duration::from_secs(60);

/// Who kept dropped collections when that was looked last.
#[derive(Debug)]
pub(super) struct Explained {
    looked_at: Option<Instant>,
    held: BTreeMap<ShardId, (Instant, HeldBy)>,
}

/// What it takes to finalize a shard.
pub(super) struct Finalizes<I: CollectionId, T: ShardTime> {
    pub(super) client: Client<I, T>,
    pub(super) shards: Shards<T>,
    pub(super) reader: ReaderId,
    pub(super) fence: Fence,
    pub(super) ledger: Arc<Mutex<Ledger<I>>>,
    pub(super) tables: Arc<LateTables<T>>,
    pub(super) explained: Arc<tokio::sync::Mutex<Explained>>,
}

/// Why nobody may finalize a shard, as far as this process knows.
enum Needed<I> {
    /// That is all there is to say.
    Known(Unfinalized),
    /// These collections were dropped and are still there.
    Held(Vec<I>),
}

impl Explained {
    pub(super) fn new() -> Self {
        Explained {
            looked_at: None,
            held: BTreeMap::new(),
        }
    }
}

impl<I: CollectionId, T: ShardTime> Finalize for Finalizes<I, T> {
    fn finalize(&self, shard: ShardId) -> Finalizing {
        // Whatever a list says, and each time anew.
        match self.check(shard) {
            Ok(()) => {}
            Err(Needed::Known(reason)) => {
                return Box::pin(std::future::ready(Err(reason)));
            }
            Err(Needed::Held(ids)) => {
                let (client, explained) = (self.client.clone(), Arc::clone(&self.explained));
                return Box::pin(async move {
                    let held_by = held_by(&client, &explained, shard, ids).await;
                    Err(Unfinalized::Held(held_by))
                });
            }
        }
        let (shards, reader, fence) = (self.shards.clone(), self.reader, self.fence);
        let no_table = self.check_table(shard);
        Box::pin(async move {
            no_table.await?;
            let finalized = shards.finalize(shard, reader, Some(fence)).await;
            finalized.map_err(unfinalized)
        })
    }
}

impl<I: CollectionId, T: ShardTime> Finalizes<I, T> {
    /// Whether nobody in this process needs the shard.
    fn check(&self, shard: ShardId) -> Result<(), Needed<I>> {
        let mut ledger = self.ledger.lock();
        let owners = ledger.names_of_owners(shard);
        if !owners.is_empty() {
            return Err(Needed::Known(Unfinalized::Owned(owners)));
        }
        if ledger.is_being_created(shard) {
            return Err(Needed::Known(Unfinalized::Creating));
        }
        let held = ledger.held(shard, |id, key| {
            let collection = self.client.collection(id);
            collection.is_some_and(|collection| collection.key() == key)
        });
        if held.is_empty() {
            Ok(())
        } else {
            Err(Needed::Held(held))
        }
    }
}

/// Who keeps these collections of a shard, as of now or of when it was looked last. Where that is long
/// ago, or it never was, it is looked, but not for many shards at once.
async fn held_by<I: CollectionId, T: ShardTime>(
    client: &Client<I, T>,
    explained: &tokio::sync::Mutex<Explained>,
    shard: ShardId,
    ids: Vec<I>,
) -> HeldBy {
    let collections = names(ids.iter().copied());
    let mut explained = explained.lock().await;
    let now = Instant::now();
    let is_old = |at: Instant| now.duration_since(at) >= EXPLAIN_INTERVAL;
    let known = explained.held.get(&shard);
    let known = known.filter(|(_, known)| known.collections == collections);
    let may_look = explained.looked_at.is_none_or(is_old);
    match known {
        Some((at, known)) if !may_look || !is_old(*at) => return known.clone(),
        None if !may_look => {
            return HeldBy {
                collections,
                ..HeldBy::default()
            };
        }
        Some(_) | None => {}
    }
    explained.looked_at = Some(now);
    // What is finalized by now, or forgotten, is asked for no more.
    explained
        .held
        .retain(|_, (at, _)| now.duration_since(*at) < EXPLAINED_MAX);
    let (mut dependents, mut holds) = (BTreeSet::new(), 0);
    for id in ids {
        // Gone meanwhile, or the engine has stopped.
        let Ok(explanation) = client.explain(id).await else {
            continue;
        };
        for cause in explanation.causes {
            match cause {
                Cause::Policy(_) => {}
                Cause::Dependent(id, _) => drop(dependents.insert(id)),
                Cause::Pins { holds: more, .. } | Cause::Holds { holds: more, .. } => holds += more,
            }
        }
    }
    let held_by = HeldBy {
        collections,
        dependents: names(dependents),
        holds,
    };
    explained.held.insert(shard, (now, held_by.clone()));
    held_by
}

impl<I: CollectionId, T: ShardTime> Finalizes<I, T> {
    /// Whether no transactions need the shard. A table that nobody in this process needs is
    /// forgotten with the next time that is closed.
    fn check_table(
        &self,
        shard: ShardId,
    ) -> impl Future<Output = Result<(), Unfinalized>> + Send + 'static + use<I, T> {
        let (shards, tables) = (self.shards.clone(), Arc::clone(&self.tables));
        let ledger = Arc::clone(&self.ledger);
        async move {
            let needed = match (tables.set(), { ledger.lock().txns_shard() }) {
                (Some(set), _) => set.needs(shard).await?,
                // Where there are transactions, and nobody has looked at them: it may.
                (None, Some(txns)) => !shards.upper(txns).await?.is_minimum(),
                (None, None) => false,
            };
            if !needed {
                return Ok(());
            }
            ledger.lock().leave(shard);
            Err(Unfinalized::Table)
        }
    }
}

fn unfinalized<T: ShardTime>(error: FinalizeError<T>) -> Unfinalized {
    match error {
        FinalizeError::Blocked(Blocked::Readers(readers)) => Unfinalized::Readers(readers),
        FinalizeError::Blocked(Blocked::Fenced { by }) => Unfinalized::Fenced { by },
        // Others do the same at the same time.
        FinalizeError::Blocked(
            blocked @ (Blocked::Readable(_) | Blocked::NotSealed | Blocked::NotEmpty),
        ) => StorageError::new(StorageErrorKind::Retry, blocked).into(),
        FinalizeError::Fenced(Fenced { by: Some(fence) }) => {
            Unfinalized::Fenced { by: fence.epoch }
        }
        FinalizeError::Fenced(nobody @ Fenced { by: None }) => {
            StorageError::new(StorageErrorKind::GiveUp, nobody).into()
        }
        FinalizeError::Storage(error) => error.into(),
    }
}
