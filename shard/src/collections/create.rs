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

/// A batch that is checked, as far as that is known without the engine.
struct Batch<I, T> {
    /// All of it, in its order.
    ids: Vec<I>,
    checked: Vec<Checked<I, T>>,
    /// Tables that are there already, and the same.
    again: Vec<TableToBe<I>>,
    refusals: Refusals<I, T>,
}

/// Who was refused, and why.
type Refusals<I, T> = Vec<(I, CollectionRefusal<I, T>)>;

/// A collection that is to be created, with its shard and all that it depends on.
struct Checked<I, T> {
    new: NewCollection<I, T>,
    shard: ShardId,
    dependencies: BTreeSet<I>,
}

impl<I: CollectionId, T: ShardTime> Checked<I, T> {
    /// As the engine is asked for it, with the since asked for, but for what a registration adds.
    fn description(&self) -> Description<I, T> {
        let NewCollection {
            id, policy, since, ..
        } = &self.new;
        let description = Description::new(*id, policy.clone())
            .shard(self.shard)
            .depends_on(self.dependencies.iter().copied());
        match since {
            Some(since) => description.since(since.clone()),
            None => description,
        }
    }

    fn is_table(&self) -> bool {
        self.new.description.kind == Kind::Table
    }
}

impl<I: CollectionId, T: ShardTime> Collections<I, T> {
    /// Creates collections: all of the batch, or none. Gives a handle for each, in the order of the
    /// batch; one that is there already, and is the same, is given as it is.
    ///
    /// Tables become part of the transactions at `registered_at`, which closes that time for all
    /// tables; those that are part of them stay so, whatever the time, and if all are, none is closed.
    /// One of which nothing is written yet begins there; others keep their since. A controller that
    /// only reads registers nothing. What the collections depend on, by their kinds or because they
    /// say so, is there already or in the batch, in any order. One that is created after what it
    /// depends on, and not with it, begins where that is by then: after a restart that may be later
    /// than it was before.
    ///
    /// Where others own a shard of the batch too, and were not created yet, the shard stays where it is
    /// [until they are](Collections::awaited).
    ///
    /// To drop the future gives up the answer, not what was asked.
    ///
    /// # Errors
    ///
    /// Every id that is refused, each with its reason; no table was registered then, unless it is a
    /// table's registration that was refused, or something has changed meanwhile. If the registration
    /// time has passed, the first that has not.
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
                {
                    let ledger = inner.ledger.lock();
                    ids.retain(|id| ledger.live(*id).is_some_and(|live| !live.dropping));
                }
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
        let batch = self.check(registered_at.is_some(), batch);
        let ids = batch.ids.clone();
        let shards = batch.checked.iter().map(|checked| checked.shard);
        let shards: Vec<ShardId> = shards.collect();
        let created = match self.check_in_engine(&batch).await {
            Ok(()) => {
                let Batch { checked, again, .. } = batch;
                self.install(registered_at, checked, again).await
            }
            Err(refused) => Err(refused),
        };
        let mut ledger = self.ledger.lock();
        shards.iter().for_each(|shard| ledger.end_to_create(*shard));
        ledger.sweep(|id, key| self.has(id, key));
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
    fn check(&self, has_time: bool, batch: Vec<NewCollection<I, T>>) -> Batch<I, T> {
        let ids: Vec<I> = batch.iter().map(|new| new.id).collect();
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
        for checked in &checked {
            ledger.begin_to_create(checked.shard);
        }
        let coming = checked.iter().map(|checked| checked.new.id).collect();
        self.settle(&mut ledger, &coming);
        Batch {
            ids,
            checked,
            again,
            refusals,
        }
    }

    /// Lets the engine check what has not been refused, so that a refusal names all, and before tables
    /// are registered, which nobody takes back. Otherwise it checks as it creates.
    async fn check_in_engine(
        &self,
        batch: &Batch<I, T>,
    ) -> Result<(), CreateCollectionsError<I, T>> {
        let registers = batch.checked.iter().any(Checked::is_table) || !batch.again.is_empty();
        if batch.refusals.is_empty() && !registers {
            return Ok(());
        }
        let descriptions = batch.checked.iter().map(Checked::description);
        let mut refusals = batch.refusals.clone();
        match self.client.check(descriptions.collect()).await {
            Ok(()) => {}
            Err(CreateError::Refused(refused)) => {
                let already: BTreeSet<I> = refusals.iter().map(|(id, _)| *id).collect();
                // Each for its own sake, and not for that of another one of the batch.
                let for_others = |why: &Refusal<I, T>| matches!(why, Refusal::UnknownDependency(on) if already.contains(on));
                let refused = refused.into_iter().filter(|(_, why)| !for_others(why));
                refusals.extend(refused.map(|(id, why)| (id, why.into())));
            }
            Err(CreateError::Stopped(reason)) => {
                return Err(CreateCollectionsError::Stopped(reason));
            }
        }
        if refusals.is_empty() {
            return Ok(());
        }
        let places = batch.ids.iter().enumerate();
        // Of those that are named twice, the last one: it is the one that is refused.
        let places: BTreeMap<I, usize> = places.map(|(place, id)| (*id, place)).collect();
        refusals.sort_by_key(|(id, _)| places.get(id).copied());
        Err(CreateCollectionsError::Refused(refusals))
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
        for checked in batch {
            let mut engines = checked.description();
            let Checked { new, shard, .. } = checked;
            if let Some(registered) = begin.get(&shard).cloned().map(Since::at) {
                let asked = new.since.unwrap_or_else(Since::minimum);
                engines = engines.since(asked.join(&registered));
            }
            descriptions.push(engines);
            whats.push((new.id, Arc::new(new.description), shard));
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
        let created = created.collect();
        self.settle(&mut ledger, &BTreeSet::new());
        Ok(created)
    }

    pub(super) async fn drop_collections(&self, ids: Vec<I>) -> Result<(), DropError<I>> {
        let (keys, dropping) = {
            let mut ledger = self.ledger.lock();
            let keys = ledger.begin_to_drop(&ids)?;
            // What is dropped before its catalogue has said so keeps its shard until then.
            self.settle(&mut ledger, &BTreeSet::new());
            (keys, self.client.drop_collections(ids))
        };
        let dropped = dropping.await;
        let mut ledger = self.ledger.lock();
        for (id, key) in keys {
            ledger.end_to_drop(id, key, dropped.is_ok());
        }
        self.settle(&mut ledger, &BTreeSet::new());
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
