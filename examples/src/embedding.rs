//! Lowwater, as this controller embeds it.

use std::io;
use std::thread;
use std::time::{Duration, Instant};

use lowwater::{
    AcquireError, Client, CloneError, Collection, Config, CreateError, Description, DowngradeError,
    Engine, EngineThread, LookupError, PolicyError, ReadHold, ReadPolicy, Refusal, ReportError,
    SetPoliciesError, Since, Start, StopError, StopReason, Storage, StorageErrorKind, Upper,
    WaitError,
};
use timely::progress::Antichain;

use crate::catalog::{KEPT, Relation};
use crate::minute::Minute;

/// A token that keeps a collection readable from a minute on.
pub type Hold = ReadHold<u64, Minute>;

/// How long the engine tries to make its last sinces durable when it is stopped: a database that is
/// started anew is back by then.
const STOP_WITHIN: Duration = Duration::from_secs(10);

/// How long it is tried to create the collections while storage does not answer.
const CREATE_WITHIN: Duration = Duration::from_secs(20);

/// The wait between two tries.
const CREATE_AGAIN: Duration = Duration::from_millis(200);

type CreateFailure = CreateError<u64, Minute>;

/// A running engine that knows all collections of the catalog.
pub struct Embedding {
    client: Client<u64, Minute>,
    thread: EngineThread,
    /// In the order of [`Relation::ALL`].
    collections: Vec<Collection<u64, Minute>>,
}

impl Embedding {
    /// Starts the engine on a thread of its own, and creates all collections in one batch, on their
    /// shards in `storage`. Each stays where its shard is until it is told to
    /// [follow its policy](Self::follow_policies).
    ///
    /// # Errors
    /// When the engine cannot start, or refuses a collection.
    pub fn start(storage: impl Storage<Minute>) -> Result<Self, EmbeddingError> {
        let config = Config {
            stop_within: STOP_WITHIN,
            ..Config::default()
        };
        let (engine, client) = Engine::new(config, storage)?;
        let thread = engine.spawn()?;
        let collections = create_all(&client)?;
        Ok(Self {
            client,
            thread,
            collections,
        })
    }

    /// Has every collection keep what its policy asks for from now on, and no more than that.
    ///
    /// # Errors
    /// When the engine has stopped.
    pub fn follow_policies(&self) -> Result<(), EmbeddingError> {
        let policy = ReadPolicy::lag_writes_by(KEPT, 1)?;
        let policies = Relation::ALL.map(|relation| (relation.id(), policy.clone()));
        Ok(self.client.set_policies(policies.into()).wait()?)
    }

    /// Holds all of `relations` where each can still be read: nothing of them is lost meanwhile.
    ///
    /// # Errors
    /// When the engine has stopped.
    pub fn hold_all_of(&self, relations: &[Relation]) -> Result<Vec<Hold>, EmbeddingError> {
        let wanted = relations.iter().map(|of| (of.id(), Start::Earliest));
        Ok(self.client.acquire_each(wanted.collect()).wait()?)
    }

    /// The way to the engine.
    #[must_use]
    pub fn client(&self) -> &Client<u64, Minute> {
        &self.client
    }

    /// The handle of a collection.
    #[must_use]
    pub fn collection(&self, relation: Relation) -> &Collection<u64, Minute> {
        &self.collections[relation.index()]
    }

    /// Tells the engine how far everything is written, and waits until it has moved the sinces.
    ///
    /// # Errors
    /// When the engine has stopped.
    pub fn report(
        &self,
        upper: impl FnMut(Relation) -> Antichain<Minute>,
    ) -> Result<(), EmbeddingError> {
        let uppers = Relation::ALL.into_iter().map(upper).map(Upper::new);
        let keys = self.collections.iter().map(Collection::key);
        self.client.report(keys.zip(uppers).collect()).wait()?;
        Ok(())
    }

    /// The sinces of `relations` at one instant, after all that this thread has sent or dropped, or
    /// has heard of, has taken effect.
    ///
    /// # Errors
    /// When the engine has stopped.
    pub fn sinces(&self, relations: &[Relation]) -> Result<Vec<Antichain<Minute>>, EmbeddingError> {
        let ids: Vec<u64> = relations.iter().map(|relation| relation.id()).collect();
        // Frontiers are read without asking the engine, so they may be a moment old.
        self.client.sync().wait()?;
        let frontiers = self.client.frontiers(&ids).wait()?;
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
        self.client.stop().wait()?;
        Ok(self.thread.join()?)
    }
}

/// Creates all collections; storage that does not answer is waited for.
fn create_all(client: &Client<u64, Minute>) -> Result<Vec<Collection<u64, Minute>>, CreateFailure> {
    let give_up_at = Instant::now() + CREATE_WITHIN;
    loop {
        let descriptions = Relation::ALL.into_iter().map(description).collect();
        match client.create(descriptions).wait() {
            Err(error) if may_pass(&error) && Instant::now() < give_up_at => {
                thread::sleep(CREATE_AGAIN);
            }
            done => return done,
        }
    }
}

fn may_pass(failure: &CreateFailure) -> bool {
    let CreateError::Refused(refusals) = failure else {
        return false;
    };
    refusals.iter().all(|(_, refusal)| {
        matches!(refusal, Refusal::Storage(error) if matches!(
            error.kind(),
            StorageErrorKind::Retry | StorageErrorKind::Reopen
        ))
    })
}

fn description(relation: Relation) -> Description<u64, Minute> {
    let dependencies = relation.depends_on().iter().map(|of| of.id());
    let stay = ReadPolicy::NoPolicy {
        initial_since: Since::minimum(),
    };
    Description::new(relation.id(), stay)
        .depends_on(dependencies)
        .shard(relation.shard())
}

/// The engine did not do what it was asked to.
#[derive(Debug, thiserror::Error)]
pub enum EmbeddingError {
    /// It did not start.
    #[error("the engine did not start: {0}")]
    Start(#[from] io::Error),
    /// The policy that the catalog wants makes no sense.
    #[error(transparent)]
    Policy(#[from] PolicyError),
    /// The policies were not taken.
    #[error("setting policies: {0}")]
    Policies(#[from] SetPoliciesError<u64>),
    /// A collection was refused.
    #[error("creating the collections: {0}")]
    Create(#[from] CreateError<u64, Minute>),
    /// The uppers were not taken.
    #[error("reporting uppers: {0}")]
    Report(#[from] ReportError<u64, Minute>),
    /// The frontiers could not be told.
    #[error("asking for frontiers: {0}")]
    Lookup(#[from] LookupError<u64>),
    /// Waiting for an upper came to nothing.
    #[error("waiting for an upper: {0}")]
    Wait(#[from] WaitError),
    /// A hold was refused.
    #[error("taking a hold: {0}")]
    Acquire(#[from] AcquireError<u64, Minute>),
    /// A hold was not cloned.
    #[error("cloning a hold: {0}")]
    Clone(#[from] CloneError),
    /// A hold was not moved.
    #[error("moving a hold: {0}")]
    Downgrade(#[from] DowngradeError<Minute>),
    /// It stopped of itself.
    #[error(transparent)]
    Stopped(#[from] StopReason),
    /// Stopping left something undone.
    #[error("stopping: {0}")]
    Stopping(#[from] StopError),
}
