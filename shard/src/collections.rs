//! Collections over shards: all that a controller does with storage, from boot to drop.
//!
//! ```
//! use std::collections::BTreeSet;
//! use std::sync::Arc;
//!
//! use arrow::array::{ArrayRef, Int64Array, RecordBatch};
//! use lowwater::ReadPolicy;
//! use lowwater_shard::collections::{
//!     Allotment, CollectionDescription, Collections, Kind, NewCollection, Start,
//! };
//! use lowwater_shard::consensus::MemoryConsensus;
//! use lowwater_shard::metadata::StoredMetadata;
//! use lowwater_shard::{Column, ColumnKind, Parts, Schema, Settings, Shards};
//! use timely::progress::Antichain;
//!
//! # let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().unwrap();
//! # let handle = runtime.handle().clone();
//! # runtime.block_on(async {
//! // Boot: take charge of the store, and bring its metadata in line with the catalogue.
//! let store = Arc::new(MemoryConsensus::new());
//! let shards = Shards::new(&handle, store.clone(), Parts::memory(), Settings::default());
//! let collections = Collections::<u64, u64>::start(&shards, Start::default()).await?;
//! let metadata = StoredMetadata::<u64>::new(store, collections.fence());
//! let (existing, dropped) = (BTreeSet::new(), BTreeSet::new());
//! let mut transaction = metadata.begin().await?;
//! let prepared = collections.initialize(&mut transaction, &existing, &dropped)?;
//! transaction.commit().await?;
//! let _found = prepared.committed();
//! collections.open_tables(BTreeSet::new()).await?;
//!
//! // Create: the catalogue's transaction allots shards; then come the collections. Tables begin
//! // at a time.
//! let mut transaction = metadata.begin().await?;
//! let added = vec![(7, Allotment::Own), (8, Allotment::Own)];
//! let prepared = collections.prepare(&mut transaction, added, &BTreeSet::new())?;
//! transaction.commit().await?;
//! let _allotted = prepared.committed();
//! let column = Column { name: "delay".into(), kind: ColumnKind::Int64, nullable: true };
//! let schema = Schema::new(vec![column])?;
//! let table = |id| NewCollection {
//!     id,
//!     description: CollectionDescription::new(Kind::Table, schema.clone()),
//!     policy: ReadPolicy::lag_writes_by(1_440, 60).expect("it lags by something"),
//!     since: None,
//! };
//! let created = collections.create(Some(1), vec![table(7), table(8)]).await?;
//!
//! // Write: what is in one transaction is in all its tables at its time, or in none.
//! let delays = |delay| {
//!     let delays: ArrayRef = Arc::new(Int64Array::from(vec![delay]));
//!     RecordBatch::try_new(schema.arrow(), vec![delays])
//! };
//! let mut minute = collections.begin()?;
//! minute.write(7, delays(15)?, vec![1])?;
//! minute.write(8, delays(30)?, vec![1])?;
//! minute.commit_at(&10).await?;
//!
//! // Read: a hold keeps it readable, together with the frontiers at that instant.
//! let held = collections.acquire(&[7]).await?.remove(0);
//! assert_eq!(held.hold.since(), &created[0].since());
//! assert_eq!(collections.snapshot(7, &Antichain::from_elem(10)).await?.len(), 1);
//! drop(held);
//!
//! // Drop: once the catalogue has committed, nobody owns the shard, and it is finalized when the
//! // last hold has gone, and what was committed until then is in it.
//! let mut transaction = metadata.begin().await?;
//! let prepared = collections.prepare(&mut transaction, vec![], &BTreeSet::from([7]))?;
//! transaction.commit().await?;
//! let _given_up = prepared.committed();
//! collections.drop_tables(&20, vec![7]).await?;
//! while collections.finalizer_stats().succeeded == 0 {
//!     tokio::time::sleep(std::time::Duration::from_millis(1)).await;
//! }
//! collections.stop().await?;
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! # }).unwrap();
//! ```

mod description;
mod epoch;
mod plan;
mod prepared;
mod ledger;
mod create;
mod register;
mod ask;
mod read;
mod alter;
mod standby;
mod guard;
mod table_set;
mod late;
mod tables;
mod finalize;
mod finalizer;
mod watch;
mod metrics;

use std::collections::BTreeSet;
use std::fmt;
use std::io;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use lowwater::{Client, CollectionId, Config, Engine, EngineThread, StopError, Storage};
use parking_lot::Mutex;
use tokio::runtime::Handle;

use crate::consensus::Fence;
use crate::id::{Epoch, ReaderId};
use crate::shards::Shards;
use crate::storage::Herald;
use crate::time::ShardTime;
use crate::transact::Transactor;

use finalize::{Explained, Finalizes};
use finalizer::Finalizer;
use guard::Guarded;
use late::{LateTables, TableStorage};
use ledger::{Keeping, Ledger};
use standby::Standby;
use watch::Watch;

pub use alter::AlterError;
pub use ask::{CollectionMetadata, Held};
pub use create::{CollectionRefusal, CreateCollectionsError};
pub use description::{CollectionDescription, Kind, KindName, NewCollection};
pub use epoch::{TakeOverError, TakenOver, take_over};
pub use finalizer::{Finalization, FinalizerStats, HeldBy, Unfinalized};
pub use metrics::{Distance, MetricsOptions};
pub use plan::{Allotment, Plan, PrepareError};
pub use prepared::Prepared;
pub use read::ReadCollectionError;
pub use standby::PromoteError;
pub use tables::{
    AdvanceError, CommitTablesError, DropTablesError, OpenTablesError, SubscribeError,
    TableTransaction, TableTrouble, WriteTableError,
};

/// The name of a controller's critical sinces, if it says no other: the same through all its
/// incarnations.
pub const CONTROLLER: ReaderId = ReaderId::new(u128::from_be_bytes(*b"lowwater control"));

/// How a controller starts.
#[derive(Clone, Debug)]
pub struct Start {
    /// The epoch to start with, or else the one after that which is in charge.
    pub epoch: Option<Epoch>,
    /// The name of its critical sinces, the same through all its incarnations.
    pub reader: ReaderId,
    /// How its engine runs.
    pub engine: Config,
    /// How shards are finalized.
    pub finalization: Finalization,
    /// What is committed to tables reaches their own shards not more often than this, so that many
    /// commits are applied in one write; but soon when they are large.
    pub apply_interval: Duration,
}

impl Default for Start {
    fn default() -> Self {
        Start {
            epoch: None,
            reader: CONTROLLER,
            engine: Config::default(),
            finalization: Finalization::default(),
            apply_interval: Duration::from_secs(1),
        }
    }
}

/// Why a controller has not started.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// It is not in charge of the store.
    #[error(transparent)]
    TakeOver(#[from] TakeOverError),
    /// The engine's thread could not be started. The epoch is taken all the same.
    #[error("the engine's thread could not be started: {0}")]
    Thread(#[from] io::Error),
}

/// Collections over shards: what a controller embeds.
///
/// It is in charge of a store, and of all critical sinces there, until another one with a higher
/// epoch takes over: from then on nothing that it was in the middle of lands, and every call comes to
/// an error that says who is in charge. Clones are handles of the same; when the last one goes, the
/// engine stops.
pub struct Collections<I: CollectionId, T: ShardTime> {
    inner: Arc<Inner<I, T>>,
}

struct Inner<I: CollectionId, T: ShardTime> {
    shards: Shards<T>,
    client: Client<I, T>,
    /// Writes as nobody.
    reads: Transactor,
    /// How it drives the store, from when on it is in charge.
    driving: OnceLock<Driving>,
    /// How it can be put in charge, if it was not from the beginning.
    standby: Option<Standby<T>>,
    reader: ReaderId,
    finalization: Mutex<Finalization>,
    ledger: Arc<Mutex<Ledger<I>>>,
    tables: Arc<LateTables<T>>,
    /// Tables that are not part of the transactions while this only reads.
    migrated: OnceLock<BTreeSet<I>>,
    apply_interval: Duration,
    engine: Mutex<Option<EngineThread>>,
}

/// What a controller that is in charge has.
struct Driving {
    taken: TakenOver,
    /// Writes as this controller.
    transactor: Transactor,
    finalizer: Finalizer,
    watch: Watch,
}

/// The controller only reads: another one is in charge, or nobody. [Promote](Collections::promote) it
/// first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the controller only reads")]
pub struct ReadOnly;

impl<I: CollectionId, T: ShardTime> Collections<I, T> {
    /// Takes charge of a store, and starts an engine on its shards. What is to be done in the
    /// background is done in tasks of their runtime.
    ///
    /// What comes next is [`initialize`](Collections::initialize).
    ///
    /// # Errors
    ///
    /// If another controller is in charge with a higher epoch, or with the one given; if the store
    /// fails; if no thread can be started.
    pub async fn start(shards: &Shards<T>, start: Start) -> Result<Self, StartError> {
        let taken = take_over(&**shards.store(), start.epoch).await?;
        let ledger = Arc::new(Mutex::new(Ledger::new()));
        let storage = shards.storage(start.reader, taken.fence);
        let herald = storage.herald();
        let storage = Guarded {
            storage,
            ledger: Arc::clone(&ledger),
        };
        let collections = Collections::on(shards, start, ledger, storage, None)?;
        collections.inner.drive(taken, herald);
        Ok(collections)
    }

    fn on(
        shards: &Shards<T>,
        start: Start,
        ledger: Arc<Mutex<Ledger<I>>>,
        storage: impl Storage<T>,
        standby: Option<Standby<T>>,
    ) -> Result<Self, StartError> {
        let tables = LateTables::new();
        let storage = TableStorage {
            within: storage,
            runtime: shards.inner.runtime.clone(),
            late: Arc::clone(&tables),
        };
        let (engine, client) = Engine::new(start.engine, storage)?;
        let engine = engine.spawn()?;
        let inner = Inner {
            shards: shards.clone(),
            client,
            reads: Transactor::new(Arc::clone(shards.store()), None),
            driving: OnceLock::new(),
            standby,
            reader: start.reader,
            finalization: Mutex::new(start.finalization),
            ledger,
            tables,
            migrated: OnceLock::new(),
            apply_interval: start.apply_interval,
            engine: Mutex::new(Some(engine)),
        };
        Ok(Collections {
            inner: Arc::new(inner),
        })
    }

    /// Who is in charge of the store, this controller, and who was before; none while it only reads.
    pub fn taken_over(&self) -> Option<TakenOver> {
        self.inner.driving.get().map(|driving| driving.taken)
    }

    /// What this controller writes with: for metadata and tables in the same store. None while it
    /// only reads.
    pub fn fence(&self) -> Option<Fence> {
        self.taken_over().map(|taken| taken.fence)
    }

    /// The shards behind the collections.
    pub fn shards(&self) -> &Shards<T> {
        &self.inner.shards
    }

    /// The engine, for what needs no storage: holds by handle, subscriptions, explanations.
    pub fn client(&self) -> &Client<I, T> {
        &self.inner.client
    }

    /// Ends it: what was asked before is done, wishes that are left are made durable, everybody who
    /// waits is answered. What is finalized is left where it is: the next start goes on.
    ///
    /// # Errors
    ///
    /// If not all wishes were durable in time, or the engine had stopped before, or of itself.
    pub async fn stop(&self) -> Result<(), StopError> {
        let stopped = self.inner.client.stop().await;
        if let Some(driving) = self.inner.driving.get() {
            driving.finalizer.stop();
            driving.watch.stop();
        }
        if let Some(tables) = self.inner.tables.set() {
            tables.stop().await;
        }
        let engine = self.inner.engine.lock().take();
        if let Some(engine) = engine {
            // Over in a moment: it has answered. How it ended was its answer.
            let _ = self
                .inner
                .runtime()
                .spawn_blocking(move || engine.join())
                .await;
        }
        if let Some(standby) = &self.inner.standby {
            standby.end().await;
        }
        stopped
    }

    /// Goes on even if nobody waits for it any more, so that what is known here and in the engine
    /// stays the same.
    async fn carry_on<X: Send + 'static>(
        &self,
        work: impl Future<Output = X> + Send + 'static,
    ) -> X {
        let done = self.inner.runtime().spawn(work).await;
        done.expect("the runtime outlives those who wait in it, and the work does not panic")
    }
}

impl<I: CollectionId, T: ShardTime> Inner<I, T> {
    /// From now on it is in charge; the engine hears through `herald` when somebody else is.
    fn drive(&self, taken: TakenOver, herald: Herald<T>) {
        let transactor = Transactor::new(Arc::clone(self.reads.store()), Some(taken.fence));
        let finalizes = Finalizes {
            client: self.client.clone(),
            shards: self.shards.clone(),
            reader: self.reader,
            fence: taken.fence,
            ledger: Arc::clone(&self.ledger),
            tables: Arc::clone(&self.tables),
            explained: Arc::new(tokio::sync::Mutex::new(Explained::new())),
        };
        let settings = self.finalization.lock().clone();
        let driving = Driving {
            taken,
            transactor,
            finalizer: Finalizer::spawn(self.runtime(), Arc::new(finalizes), settings),
            watch: Watch::spawn(
                self.runtime(),
                Arc::clone(self.reads.store()),
                taken.fence,
                herald,
            ),
        };
        assert!(
            self.driving.set(driving).is_ok(),
            "it is put in charge once"
        );
        let mut ledger = self.ledger.lock();
        ledger.take_charge();
        self.settle(&mut ledger, &BTreeSet::new());
    }

    /// Tells the engine for whom it has to keep shards, and for whom no more. It has heard of it before
    /// whatever follows from it is asked.
    fn settle(&self, ledger: &mut Ledger<I>, coming: &BTreeSet<I>) {
        let Keeping { keep, free } = ledger.settle(coming);
        if !keep.is_empty() {
            drop(self.client.keep_shards(keep));
        }
        if !free.is_empty() {
            drop(self.client.free_shards(free));
        }
    }

    fn runtime(&self) -> &Handle {
        &self.shards.inner.runtime
    }

    fn driving(&self) -> Result<&Driving, ReadOnly> {
        self.driving.get().ok_or(ReadOnly)
    }
}

impl<I: CollectionId, T: ShardTime> Clone for Collections<I, T> {
    fn clone(&self) -> Self {
        Collections {
            inner: Arc::clone(&self.inner),
        }
    }
}

impl<I: CollectionId, T: ShardTime> Drop for Inner<I, T> {
    fn drop(&mut self) {
        // Nobody waits for what it comes to.
        drop(self.client.stop());
    }
}

impl<I: CollectionId, T: ShardTime> fmt::Debug for Collections<I, T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Collections")
            .field("taken", &self.taken_over())
            .finish_non_exhaustive()
    }
}
