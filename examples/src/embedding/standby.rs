//! Following another controller, and taking its place.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use lowwater::{Collection, StorageError, StorageErrorKind};
use lowwater_shard::collections::{
    Collections, OpenTablesError, PromoteError, TakeOverError, TakenOver,
};
use lowwater_shard::metadata::StoredMetadata;
use tokio::time::{Instant, sleep};

use crate::catalog::REGISTERED;
use crate::minute::Minute;
use crate::signals::Progress;
use crate::store::{Places, Store, patiently};
use crate::trouble::ReplayError;

use super::failure::may_pass_while_followed;
use super::{Embedding, EmbeddingError, batch, create, initialize, policy, start, trouble};

/// How long it is waited for the collections to appear that are to be followed.
pub const APPEAR_WITHIN: Duration = Duration::from_secs(30);

/// How often it is looked whether they have.
const LOOK_AGAIN: Duration = Duration::from_millis(50);

/// How long what is read here stays readable after this process was heard of last.
const LEASE: Duration = Duration::from_secs(120);

impl Embedding {
    /// Follows the collections of a store that another controller is in charge of, or none: nothing
    /// is written there but leases. Waits a while for the collections to appear; meanwhile `progress`
    /// may end it.
    ///
    /// # Errors
    /// When they do not appear, the store does not answer for a while, or the engine cannot start.
    /// What was leased by then is given back.
    pub fn follow(store: &Store, progress: &mut Progress<'_>) -> Result<Self, ReplayError> {
        let runtime = store.runtime().clone();
        let collections = Collections::follow(store.shards(), start(), LEASE);
        let collections = collections.map_err(EmbeddingError::from)?;
        store.figures().register(&collections);
        let appeared = runtime.block_on(appear(store, &collections, progress));
        let (handles, places) = match appeared {
            Ok(appeared) => appeared,
            Err(error) => {
                // Why it has not come to anything matters more than how it stops.
                let _ = runtime.block_on(collections.stop());
                return Err(error);
            }
        };
        Ok(Self {
            collections,
            handles,
            places,
            runtime,
        })
    }

    /// Takes charge of the store that was only followed so far. Holds stay what they are.
    ///
    /// # Errors
    /// When the store does not answer for a while, or somebody else is faster again and again.
    pub fn promote(&mut self, store: &Store) -> Result<TakenOver, EmbeddingError> {
        let promoted = patiently(async || match self.collections.promote(None).await {
            Err(PromoteError::TakeOver(TakeOverError::Store(error))) => Err(error.into()),
            Err(PromoteError::Storage(error)) => Err(error),
            promoted => Ok(promoted),
        });
        let taken = self.runtime.block_on(promoted)??;
        self.places = initialize(store, &self.collections)?;
        // Those are there; but the tables may not have been registered yet.
        create(&self.runtime, &self.collections, &policy()?)?;
        Ok(taken)
    }
}

type Appeared = (Vec<Collection<u64, Minute>>, Places);

/// Waits for the collections to appear.
async fn appear(
    store: &Store,
    collections: &Collections<u64, Minute>,
    progress: &mut Progress<'_>,
) -> Result<Appeared, ReplayError> {
    let give_up_at = Instant::now() + APPEAR_WITHIN;
    let mut why = None;
    loop {
        let tried = patiently(async || try_to_follow(store, collections).await).await;
        match tried.map_err(EmbeddingError::from)? {
            Ok(appeared) => return Ok(appeared),
            Err(None) => {}
            Err(Some(error)) if may_pass_while_followed(&error) => why = Some(Box::new(error)),
            Err(Some(error)) => return Err(error.into()),
        }
        if Instant::now() >= give_up_at {
            return Err(why
                .map_or(EmbeddingError::NothingToFollow, |error| *error)
                .into());
        }
        progress(0)?;
        sleep(LOOK_AGAIN).await;
    }
}

/// Creates the collections if they are there; `None` if they are not.
async fn try_to_follow(
    store: &Store,
    collections: &Collections<u64, Minute>,
) -> Result<Result<Appeared, Option<EmbeddingError>>, StorageError> {
    let records = Arc::clone(store.shards().store());
    let metadata = StoredMetadata::<u64>::new(records, None);
    let transaction = metadata.begin().await.map_err(trouble)?;
    let damaged = |error| StorageError::new(StorageErrorKind::GiveUp, error);
    let Some(places) = Places::of(&transaction).map_err(damaged)? else {
        return Ok(Err(None));
    };
    collections.observe(&transaction).map_err(damaged)?;
    if collections.tables().is_none() {
        match collections.open_tables(BTreeSet::new()).await {
            Ok(()) => {}
            Err(OpenTablesError::Storage(error)) => return Err(error),
            Err(error) => return Ok(Err(Some(error.into()))),
        }
    }
    let policy = match policy() {
        Ok(policy) => policy,
        Err(error) => return Ok(Err(Some(error))),
    };
    let created = collections.create(Some(REGISTERED), batch(&policy)).await;
    Ok(match created {
        Ok(handles) => Ok((handles, places)),
        Err(error) => Err(Some(error.into())),
    })
}
