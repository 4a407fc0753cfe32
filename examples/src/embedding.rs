//! Lowwater, as this controller embeds it.

mod failure;
mod standby;

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use lowwater::{
    Client, Collection, Config, ReadHold, ReadPolicy, Since, StorageError, StorageErrorKind, Upper,
};
use lowwater_shard::collections::{
    CollectionDescription, Collections, NewCollection, OpenTablesError, ReadCollectionError, Start,
    StartError, TakeOverError,
};
use lowwater_shard::metadata::{CommitError, MetadataTrouble, StoredMetadata};
use timely::progress::Antichain;
use tokio::runtime::Handle;

use crate::catalog::{KEPT, REGISTERED, Relation};
use crate::columns;
use crate::minute::Minute;
use crate::store::{Places, Reading, Store, StoreError, Window, patiently, rows};
use crate::trouble::ReplayError;

pub use failure::EmbeddingError;
pub use standby::APPEAR_WITHIN;

use failure::may_pass;

/// A token that keeps a collection readable from a minute on.
pub type Hold = ReadHold<u64, Minute>;

/// How long the engine tries to make its last sinces durable when it is stopped: a database that is
/// started anew is back by then.
const STOP_WITHIN: Duration = Duration::from_secs(10);

/// How long it may take until the engine hears how far the tables are written.
const HEAR_WITHIN: Duration = Duration::from_secs(20);

/// All collections of the catalog, over the shards of a store.
pub struct Embedding {
    collections: Collections<u64, Minute>,
    /// In the order of [`Relation::ALL`].
    handles: Vec<Collection<u64, Minute>>,
    places: Places,
    runtime: Handle,
}

impl Embedding {
    /// Takes charge of a store, from the controller that had it before if there was one, and creates
    /// all collections in one batch. Each stays where its shard is until it is told to
    /// [follow its policy](Self::follow_policies).
    ///
    /// # Errors
    /// When the store does not answer for a while, the engine cannot start, a collection is refused,
    /// or another controller takes over meanwhile.
    pub fn start(store: &Store) -> Result<Self, ReplayError> {
        let runtime = store.runtime().clone();
        let started = patiently(
            async || match Collections::start(store.shards(), start()).await {
                Err(StartError::TakeOver(TakeOverError::Store(error))) => Err(error.into()),
                started => Ok(started),
            },
        );
        let collections = match runtime.block_on(started).map_err(EmbeddingError::from)? {
            Ok(collections) => collections,
            Err(error) => {
                let error = ReplayError::from(EmbeddingError::from(error));
                return Err(error.or_told());
            }
        };
        store.figures().register(&collections);
        let client = collections.client().clone();
        let started = Self::start_with(store, collections);
        started.map_err(|error| ReplayError::from(error).or_fenced(&client))
    }

    fn start_with(
        store: &Store,
        collections: Collections<u64, Minute>,
    ) -> Result<Self, EmbeddingError> {
        let runtime = store.runtime().clone();
        let places = initialize(store, &collections)?;
        let none = BTreeSet::new;
        let opened = patiently(async || match collections.open_tables(none()).await {
            Err(OpenTablesError::Storage(error)) => Err(error),
            opened => Ok(opened),
        });
        runtime.block_on(opened)??;
        let stay = ReadPolicy::NoPolicy {
            initial_since: Since::minimum(),
        };
        let handles = create(&runtime, &collections, &stay)?;
        Ok(Self {
            collections,
            handles,
            places,
            runtime,
        })
    }

    /// Has every collection keep what its policy asks for from now on, and no more than that.
    ///
    /// # Errors
    /// When the engine has stopped.
    pub fn follow_policies(&self) -> Result<(), EmbeddingError> {
        let policy = policy()?;
        let policies = Relation::ALL.map(|relation| (relation.id(), policy.clone()));
        Ok(self.client().set_policies(policies.into()).wait()?)
    }

    /// Holds all of `relations` where each can still be read: nothing of them is lost meanwhile.
    ///
    /// # Errors
    /// When the engine has stopped.
    pub fn hold_all_of(&self, relations: &[Relation]) -> Result<Vec<Hold>, EmbeddingError> {
        let wanted = relations
            .iter()
            .map(|of| (of.id(), lowwater::Start::Earliest));
        Ok(self.client().acquire_each(wanted.collect()).wait()?)
    }

    /// The way to the engine.
    #[must_use]
    pub fn client(&self) -> &Client<u64, Minute> {
        self.collections.client()
    }

    /// The handle of a collection.
    #[must_use]
    pub fn collection(&self, relation: Relation) -> &Collection<u64, Minute> {
        &self.handles[relation.index()]
    }

    /// Where the collections are.
    #[must_use]
    pub fn places(&self) -> &Places {
        &self.places
    }

    /// Up to which minute all collections are written, as far as the engine has heard.
    #[must_use]
    pub fn reached(&self) -> Minute {
        let ends = self.handles.iter().map(|of_one| {
            let upper = of_one.upper();
            upper.frontier().first().copied().unwrap_or(Minute::MAX)
        });
        ends.min().unwrap_or(0)
    }

    /// Tells the engine how far everything is written that is no table, and waits until it has heard
    /// of the tables, which are written up to `tables`, and has moved the sinces.
    ///
    /// # Errors
    /// When the engine has stopped, or does not hear of the tables.
    pub fn report(
        &self,
        tables: Minute,
        upper: impl Fn(Relation) -> Antichain<Minute>,
    ) -> Result<(), EmbeddingError> {
        let others = Relation::ALL.into_iter().filter(|of| !of.is_table());
        let uppers = others.map(|of| (self.collection(of).key(), Upper::new(upper(of))));
        self.client().report(uppers.collect()).wait()?;
        for table in Relation::TABLES {
            let last = Antichain::from_elem(tables.saturating_sub(1));
            let heard = self.collection(table).wait_for_upper_past(last);
            match heard.wait_timeout(HEAR_WITHIN) {
                Ok(heard) => drop(heard?),
                Err(_) => return Err(EmbeddingError::Unheard(table)),
            }
        }
        Ok(())
    }

    /// The rows of `relation` as of a time, or why they cannot be read.
    ///
    /// # Errors
    /// When the store does not answer for a while, has something else in it, or the engine has
    /// stopped.
    pub fn read(&self, relation: Relation, as_of: Minute) -> Result<Reading, ReplayError> {
        let as_of = Antichain::from_elem(as_of);
        let read = async || match self.collections.snapshot(relation.id(), &as_of).await {
            Ok(updates) => Ok(Ok(updates)),
            Err(ReadCollectionError::Storage(error)) => Err(error),
            Err(ReadCollectionError::TooEarly { since, upper, .. }) => {
                Ok(Err(Ok(Window { since, upper })))
            }
            Err(error) => Ok(Err(Err(error))),
        };
        let read = self.runtime.block_on(patiently(read));
        match read.map_err(StoreError::from)? {
            Ok(updates) => Ok(Reading::Rows(rows(relation, &updates)?)),
            Err(Ok(window)) => Ok(Reading::Refused(window)),
            Err(Err(error)) => Err(EmbeddingError::from(error).into()),
        }
    }

    /// All collections.
    #[must_use]
    pub fn collections(&self) -> &Collections<u64, Minute> {
        &self.collections
    }

    /// The sinces of `relations` at one instant, after all that this thread has sent or dropped, or
    /// has heard of, has taken effect.
    ///
    /// # Errors
    /// When the engine has stopped.
    pub fn sinces(&self, relations: &[Relation]) -> Result<Vec<Antichain<Minute>>, EmbeddingError> {
        let ids: Vec<u64> = relations.iter().map(|relation| relation.id()).collect();
        // Frontiers are read without asking the engine, so they may be a moment old.
        self.client().sync().wait()?;
        let frontiers = self.client().frontiers(&ids).wait()?;
        Ok(frontiers
            .into_iter()
            .map(|of_one| of_one.since.frontier().clone())
            .collect())
    }

    /// Stops the engine.
    ///
    /// # Errors
    /// When it had stopped before, of itself.
    pub fn stop(self) -> Result<(), EmbeddingError> {
        Ok(self.runtime.block_on(self.collections.stop())?)
    }
}

/// Creates all collections in one batch; storage that does not answer is waited for.
fn create(
    runtime: &Handle,
    collections: &Collections<u64, Minute>,
    policy: &ReadPolicy<Minute>,
) -> Result<Vec<Collection<u64, Minute>>, EmbeddingError> {
    let created =
        patiently(
            async || match collections.create(Some(REGISTERED), batch(policy)).await {
                Err(error) if may_pass(&error) => {
                    Err(StorageError::new(StorageErrorKind::Retry, error))
                }
                created => Ok(created),
            },
        );
    Ok(runtime.block_on(created)??)
}

fn start() -> Start {
    Start {
        engine: Config {
            stop_within: STOP_WITHIN,
            ..Config::default()
        },
        ..Start::default()
    }
}

fn policy() -> Result<ReadPolicy<Minute>, EmbeddingError> {
    Ok(ReadPolicy::lag_writes_by(KEPT, 1)?)
}

fn batch(policy: &ReadPolicy<Minute>) -> Vec<NewCollection<u64, Minute>> {
    let collections = Relation::ALL.into_iter().map(|relation| {
        let schema = columns::schema(relation);
        let mut description = CollectionDescription::new(relation.kind(), schema);
        if relation.is_view() {
            // Those of the others follow from their kinds.
            let dependencies = relation.depends_on().iter().map(|of| of.id());
            description.dependencies = dependencies.collect();
        }
        NewCollection {
            id: relation.id(),
            description,
            policy: policy.clone(),
            since: None,
        }
    });
    collections.collect()
}

/// Brings the store's metadata in line with the catalog, as the controller in charge.
fn initialize(
    store: &Store,
    collections: &Collections<u64, Minute>,
) -> Result<Places, EmbeddingError> {
    let records = store.shards().store();
    let metadata = StoredMetadata::<u64>::new(Arc::clone(records), collections.fence());
    let ids: BTreeSet<u64> = Relation::ALL.map(Relation::id).into();
    let initialized = patiently(async || {
        let mut transaction = metadata.begin().await.map_err(trouble)?;
        let prepared = collections.initialize(&mut transaction, &ids, &BTreeSet::new());
        let (prepared, places) = match (prepared, Places::of(&transaction)) {
            (Ok(prepared), Ok(places)) => (prepared, places),
            (Err(error), _) => return Ok(Err(EmbeddingError::from(error))),
            (_, Err(error)) => return Ok(Err(error.into())),
        };
        match transaction.commit().await {
            Ok(()) => {
                let _found = prepared.committed();
                Ok(Ok(places.expect("all collections exist by now")))
            }
            // Somebody else has committed in between: begin again.
            Err(CommitError::Conflict(conflict)) => {
                Err(StorageError::new(StorageErrorKind::Retry, conflict))
            }
            Err(CommitError::Trouble(error)) => Err(trouble(error)),
            Err(CommitError::Fenced(fenced)) => Ok(Err(fenced.into())),
        }
    });
    store.runtime().block_on(initialized)?
}

fn trouble(error: MetadataTrouble) -> StorageError {
    StorageError::new(error.kind(), error)
}
