//! Creating collections, and dropping them.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::sync::Arc;

use lowwater::{
    Collection, CollectionId, CreateError, Description, DropError, Key, Refusal, ShardId, Since,
    StopReason, StorageError, StorageErrorKind,
};

use crate::tables::{Passed, RegisterFault};
use crate::time::ShardTime;

use super::description::{CollectionDescription, Kind, KindName, NewCollection};
use super::ledger::Live;
use super::register::TableToBe;
use super::{Collections, Inner};

/// Why a batch of collections was not created: nothing of it was.
#[derive(Clone, Debug)]
pub enum CreateCollectionsError<I, T> {
    /// These ids were refused, each for its reason.
    Refused(Vec<(I, CollectionRefusal<I, T>)>),
    /// The registration time has passed: choose another one.
    Passed(Passed<T>),
    /// Tables could not be registered, or looked at.
    Storage(StorageError),
    /// The engine has stopped.
    Stopped(StopReason),
}

/// Why one collection of a batch was refused.
#[derive(Clone, Debug, thiserror::Error)]
pub enum CollectionRefusal<I, T> {
    /// The batch has this id twice.
    #[error("the batch names the collection twice")]
    Repeated,
    /// A collection of this id is there, and is another one.
    #[error("a collection of this id exists, with another description")]
    OtherDescription,
    /// By metadata that are known to be committed it owns no shard.
    #[error("the collection owns no shard by committed metadata")]
    NoShard,
    /// A table begins at a time.
    #[error("a table needs a registration time")]
    NoRegistrationTime,
    /// [Open](Collections::open_tables) the tables first.
    #[error("the tables are not open")]
    TablesNotOpen,
    /// Its shard does not become a table.
    #[error(transparent)]
    Registration(#[from] RegisterFault<T>),
    /// There is no such ingestion, neither in the batch nor before it.
    #[error("the ingestion {0} does not exist")]
    UnknownIngestion(I),
    /// What is said to be an ingestion is none.
    #[error("{0} is not an ingestion but a {1}")]
    NotAnIngestion(I, KindName),
    /// The engine has refused it.
    #[error(transparent)]
    Engine(#[from] Refusal<I, T>),
}

/// Names every id that was refused, with its reason.
impl<I: fmt::Display, T: fmt::Debug> fmt::Display for CreateCollectionsError<I, T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            CreateCollectionsError::Refused(refusals) => {
                f.write_str("no collection of the batch was created")?;
                refusals
                    .iter()
                    .try_for_each(|(id, refusal)| write!(f, "; {id}: {refusal}"))
            }
            CreateCollectionsError::Passed(passed) => passed.fmt(f),
            CreateCollectionsError::Storage(error) => error.fmt(f),
            CreateCollectionsError::Stopped(reason) => reason.fmt(f),
        }
    }
}

impl<I, T> std::error::Error for CreateCollectionsError<I, T>
where
    I: fmt::Display + fmt::Debug,
    T: fmt::Debug,
{
}

impl<I: CollectionId, T: ShardTime> From<CreateError<I, T>> for CreateCollectionsError<I, T> {
    fn from(error: CreateError<I, T>) -> Self {
        match error {
            CreateError::Refused(refusals) => {
                let refusals = refusals.into_iter();
                let refusals = refusals.map(|(id, refusal)| (id, refusal.into()));
                CreateCollectionsError::Refused(refusals.collect())
            }
            CreateError::Stopped(reason) => CreateCollectionsError::Stopped(reason),
        }
    }
}

#[derive(Debug, thiserror::Error)]
#[error("a lease has lapsed, and a collection of the batch is gone")]
struct LostMeanwhile;

/// A batch that is checked.
struct Batch<I, T> {
    checked: Vec<Checked<I, T>>,
    /// Tables that are there already, and the same.
    again: Vec<TableToBe<I>>,
}

/// A collection that is to be created, with its shard and all that it depends on.
struct Checked<I, T> {
    new: NewCollection<I, T>,
    shard: ShardId,
    dependencies: BTreeSet<I>,
}

impl<I: CollectionId, T: ShardTime> Collections<I, T> {
    /// Creates collections: all of the batch, or none. Gives a handle for each, in the order of the
    /// batch; one that is there already, and is the same, is given as it is.
    ///
    /// Tables become part of the transactions at `registered_at`, which closes that time for all
    /// tables; those that are part of them stay so, whatever the time, and if all are, none is closed.
    /// One of which nothing is written yet begins there; others keep their since. A controller that
    /// only reads registers nothing. What the collections depend on, by their kinds or because they
    /// say so, is there already or in the batch, in any order.
    ///
    /// To drop the future gives up the answer, not what was asked.
    ///
    /// # Errors
    ///
    /// Every id that is refused, each with its reason. If the registration time has passed, the first
    /// that has not.
    ///
    /// # Panics
    ///
    /// If the runtime ends meanwhile.
    pub async fn create(
        &self,
        registered_at: Option<T>,
        batch: Vec<NewCollection<I, T>>,
    ) -> Result<Vec<Collection<I, T>>, CreateCollectionsError<I, T>> {
        let inner = Arc::clone(&self.inner);
        self.carry_on(async move { inner.create(registered_at, batch).await })
            .await
    }

    /// Gives collections up, all of them or none. Their holds and dependents keep them until the
    /// last one goes. A table is part of the transactions until then, and is forgotten with the next
    /// time that is closed after that; [`drop_tables`](Collections::drop_tables) says when.
    ///
    /// # Errors
    ///
    /// If one does not exist, or was dropped before.
    ///
    /// # Panics
    ///
    /// If the runtime ends meanwhile.
    pub async fn drop_collections(&self, ids: Vec<I>) -> Result<(), DropError<I>> {
        let inner = Arc::clone(&self.inner);
        self.carry_on(async move { inner.drop_collections(ids).await })
            .await
    }

    /// Gives those of these collections up that are there: after a restart some may be unknown.
    ///
    /// # Errors
    ///
    /// If the engine has stopped.
    ///
    /// # Panics
    ///
    /// If the runtime ends meanwhile.
    pub async fn drop_collections_unvalidated(&self, ids: Vec<I>) -> Result<(), StopReason> {
        let inner = Arc::clone(&self.inner);
        let dropping = async move {
            let mut ids = ids;
            loop {
                match inner.drop_collections(ids.clone()).await {
                    Ok(()) => return Ok(()),
                    Err(DropError::UnknownCollection(gone) | DropError::Dropped(gone)) => {
                        ids.retain(|id| *id != gone);
                    }
                    Err(DropError::Stopped(reason)) => return Err(reason),
                }
            }
        };
        self.carry_on(dropping).await
    }
}

impl<I: CollectionId, T: ShardTime> Inner<I, T> {
    async fn create(
        &self,
        registered_at: Option<T>,
        batch: Vec<NewCollection<I, T>>,
    ) -> Result<Vec<Collection<I, T>>, CreateCollectionsError<I, T>> {
        let ids: Vec<I> = batch.iter().map(|new| new.id).collect();
        let Batch { checked, again } = self.check(registered_at.is_some(), batch)?;
        let shards: Vec<ShardId> = checked.iter().map(|checked| checked.shard).collect();
        let created = self.install(registered_at, checked, again).await;
        let mut ledger = self.ledger.lock();
        shards.iter().for_each(|shard| ledger.end_to_create(*shard));
        drop(ledger);
        let mut created = created?;
        let handles = ids.into_iter().map(|id| {
            let there = || self.client.collection(id);
            created.remove(&id).or_else(there)
        });
        let handles: Option<Vec<_>> = handles.collect();
        handles.ok_or_else(|| self.gone())
    }

    /// One that was there when the batch was checked is not there any more.
    fn gone(&self) -> CreateCollectionsError<I, T> {
        match self.client.stopped() {
            Some(reason) => CreateCollectionsError::Stopped(reason),
            None => {
                let kind = StorageErrorKind::Retry;
                CreateCollectionsError::Storage(StorageError::new(kind, LostMeanwhile))
            }
        }
    }

    /// The engine still has it: it loses what only a lease kept, once that has lapsed.
    pub(super) fn has(&self, id: I, key: Key) -> bool {
        let found = self.client.collection(id);
        found.is_some_and(|found| found.key() == key)
    }

    /// Checks the batch as a whole. What is left of it are those that are new; their shards are
    /// taken for being used from then on.
    fn check(
        &self,
        has_time: bool,
        batch: Vec<NewCollection<I, T>>,
    ) -> Result<Batch<I, T>, CreateCollectionsError<I, T>> {
        let are_tables_open = self.tables.set().is_some();
        let mut ledger = self.ledger.lock();
        let mut refusals = Vec::new();
        let mut seen = BTreeSet::new();
        let kinds: BTreeMap<I, Kind<I>> = batch
            .iter()
            .map(|new| (new.id, new.description.kind.clone()))
            .collect();
        let kind_of = |id: I| {
            let live = || ledger.live(id).map(|live| &live.description.kind);
            kinds.get(&id).or_else(live)
        };
        let (mut checked, mut again) = (Vec::new(), Vec::new());
        for new in batch {
            let id = new.id;
            let live = ledger.live(id);
            let live = live.filter(|live| live.dropping || self.has(id, live.key));
            let refusal = match (seen.insert(id), live) {
                (false, _) => CollectionRefusal::Repeated,
                (true, Some(live)) if live.is_same(&new.description) => {
                    if new.description.kind == Kind::Table {
                        again.push((id, live.shard, new.description.schema));
                    }
                    continue;
                }
                (true, Some(live)) if !live.dropping => CollectionRefusal::OtherDescription,
                (true, _) => match (ledger.shard_of(id), dependencies(&new, kind_of)) {
                    (None, _) => CollectionRefusal::NoShard,
                    (Some(_), Err(refusal)) => refusal,
                    (Some(_), Ok(_)) if new.description.kind == Kind::Table && !has_time => {
                        CollectionRefusal::NoRegistrationTime
                    }
                    (Some(_), Ok(_)) if new.description.kind == Kind::Table && !are_tables_open => {
                        CollectionRefusal::TablesNotOpen
                    }
                    (Some(shard), Ok(dependencies)) => {
                        checked.push(Checked {
                            new,
                            shard,
                            dependencies,
                        });
                        continue;
                    }
                },
            };
            refusals.push((id, refusal));
        }
        if !refusals.is_empty() {
            return Err(CreateCollectionsError::Refused(refusals));
        }
        for checked in &checked {
            ledger.begin_to_create(checked.shard);
        }
        Ok(Batch { checked, again })
    }

    async fn install(
        &self,
        registered_at: Option<T>,
        batch: Vec<Checked<I, T>>,
        again: Vec<TableToBe<I>>,
    ) -> Result<BTreeMap<I, Collection<I, T>>, CreateCollectionsError<I, T>> {
        let new = batch.iter().map(|checked| &checked.new);
        let new = new.zip(batch.iter().map(|checked| checked.shard));
        let new = new.filter(|(new, _)| new.description.kind == Kind::Table);
        let new = new.map(|(new, shard)| (new.id, shard, new.description.schema.clone()));
        let begin = self.register(registered_at, new.collect(), again).await?;
        let mut descriptions = Vec::with_capacity(batch.len());
        let mut whats = Vec::with_capacity(batch.len());
        for Checked {
            new,
            shard,
            dependencies,
        } in batch
        {
            let NewCollection {
                id,
                description,
                policy,
                since,
            } = new;
            let mut asked = since;
            if let Some(registered) = begin.get(&shard).cloned().map(Since::at) {
                asked = Some(asked.map_or(registered.clone(), |asked| asked.join(&registered)));
            }
            let mut engines = Description::new(id, policy)
                .shard(shard)
                .depends_on(dependencies);
            if let Some(since) = asked {
                engines = engines.since(since);
            }
            descriptions.push(engines);
            whats.push((id, Arc::new(description), shard));
        }
        if descriptions.is_empty() {
            return Ok(BTreeMap::new());
        }
        let created = self.client.create(descriptions).await?;
        let mut ledger = self.ledger.lock();
        let created = created.into_iter().zip(whats);
        let created = created.map(|(collection, (id, description, shard))| {
            let key = collection.key();
            let live = Live {
                description,
                shard,
                key,
                dropping: false,
            };
            ledger.created(id, live);
            (id, collection)
        });
        Ok(created.collect())
    }

    pub(super) async fn drop_collections(&self, ids: Vec<I>) -> Result<(), DropError<I>> {
        let keys = self.ledger.lock().begin_to_drop(&ids)?;
        let dropped = self.client.drop_collections(ids).await;
        let mut ledger = self.ledger.lock();
        for (id, key) in keys {
            ledger.end_to_drop(id, key, dropped.is_ok());
        }
        dropped
    }
}

/// All that a collection depends on.
fn dependencies<'a, I: CollectionId, T>(
    new: &NewCollection<I, T>,
    kind_of: impl Fn(I) -> Option<&'a Kind<I>>,
) -> Result<BTreeSet<I>, CollectionRefusal<I, T>> {
    let CollectionDescription {
        kind, dependencies, ..
    } = &new.description;
    let mut all = dependencies.clone();
    match kind {
        // One that is its own remap collection depends on nothing for that.
        Kind::Ingestion { remap, .. } => all.extend((*remap != new.id).then_some(*remap)),
        Kind::IngestionExport { ingestion } => match kind_of(*ingestion) {
            Some(Kind::Ingestion { remap, .. }) => {
                all.insert(*remap);
            }
            Some(other) => {
                let (ingestion, other) = (*ingestion, other.name());
                return Err(CollectionRefusal::NotAnIngestion(ingestion, other));
            }
            None => return Err(CollectionRefusal::UnknownIngestion(*ingestion)),
        },
        Kind::Table | Kind::Progress | Kind::Introspection | Kind::Webhook | Kind::Compute => {}
    }
    Ok(all)
}
