//! Readers that keep a shard readable as long as they are heard of.

use std::sync::Arc;

use lowwater::{ShardId, Since, StorageError, StorageErrorKind, Upper};
use timely::progress::Antichain;
use tokio::time::Instant;

use crate::id::{ReaderId, SeqNo};
use crate::lease::{Lease, LeaseCheck, Wished};
use crate::record::{DataRecord, Downgraded, LeaseLost, ReaderExists, SinceRecord};
use crate::shards::{Shards, WaitError, wait_past};
use crate::snapshot::SnapshotError;
use crate::time::ShardTime;
use crate::transact::CommandError;
use crate::updates::Updates;

/// Keeps a shard readable from a since on, as long as it is renewed, which happens in the background.
///
/// A process that is silent for longer than its lease, because it slept or could not reach the store,
/// may be expired by others. It is told so by the next [`snapshot`](Reader::snapshot) or
/// [`downgrade`](Reader::downgrade), also where its clock stood still meanwhile, and has to begin anew; it
/// is never given wrong contents. What reads no contents, [`upper`](Reader::upper),
/// [`wait_for_upper_past`](Reader::wait_for_upper_past), [`downgrade_soon`](Reader::downgrade_soon),
/// tells nothing of it. Dropped, it leaves in the background; [`leave`](Reader::leave) waits for
/// that.
#[derive(Debug)]
pub struct Reader<T: ShardTime> {
    pub(crate) shards: Shards<T>,
    pub(crate) lease: Arc<Lease<T>>,
}

/// Why a reader cannot read, or not so.
#[derive(Clone, Debug, thiserror::Error)]
pub enum ReadError<T: ShardTime> {
    /// The lease has lapsed: what it kept readable may be gone.
    #[error(transparent)]
    LeaseLost(#[from] LeaseLost),
    /// The contents cannot be read as of this frontier.
    #[error(transparent)]
    Snapshot(SnapshotError<T>),
    /// Storage failed.
    #[error(transparent)]
    Storage(#[from] StorageError),
}

impl<T: ShardTime> From<LeaseCheck> for ReadError<T> {
    fn from(check: LeaseCheck) -> Self {
        match check {
            LeaseCheck::Lost(lost) => lost.into(),
            LeaseCheck::Storage(error) => error.into(),
        }
    }
}

impl<T: ShardTime> Shards<T> {
    /// A reader, registered with the shard's since.
    ///
    /// A shard that has gone gives a reader with the empty since, and registers nobody.
    ///
    /// # Errors
    ///
    /// If storage fails.
    pub async fn reader(&self, id: ShardId) -> Result<Reader<T>, StorageError> {
        let inner = &self.inner;
        let shard = inner.hub.shard(id);
        inner.hub.refresh_one::<DataRecord<T>>(&shard).await?;
        let reads_from = shard.data.lock().await.seen().unwrap_or(SeqNo::FIRST);
        let length = inner.lease();
        let lease_ms = u64::try_from(length.as_millis()).unwrap_or(u64::MAX);
        let reader = ReaderId::random();
        let began = Instant::now();
        let lease = Lease::new(reader, Arc::clone(&shard), length, Since::minimum(), began);
        let lease = Arc::new(lease);
        // From here on it may be in the record, whoever drops this.
        let taking = inner.leases.take(&lease);
        let register =
            |record: &SinceRecord<T>| record.register_leased(reader, lease_ms, reads_from);
        let registered = inner
            .hub
            .write(inner.hub.transactor(), &shard, register)
            .await;
        let since = match registered {
            Ok(since) => since,
            Err(error) => {
                if is_refused(&error) {
                    taking.refused();
                }
                return Err(unregistered(error));
            }
        };
        taking.registered(since.clone(), began);
        // From here on the parts stay that the record refers to now.
        inner.hub.refresh_one::<DataRecord<T>>(&shard).await?;
        if !since.is_gone() {
            taking.hold();
        }
        Ok(Reader {
            shards: self.clone(),
            lease,
        })
    }
}

/// Whether the reader is not in the record, and will not be.
fn is_refused(error: &CommandError<ReaderExists>) -> bool {
    match error {
        CommandError::Refused(_) | CommandError::Fenced(_) | CommandError::Log(_) => true,
        CommandError::Store(trouble) => trouble.0.is_determinate(),
    }
}

fn unregistered(error: CommandError<ReaderExists>) -> StorageError {
    let give_up = StorageErrorKind::GiveUp;
    match error {
        CommandError::Refused(exists) => StorageError::new(StorageErrorKind::Retry, exists),
        CommandError::Fenced(fenced) => StorageError::new(give_up, fenced),
        CommandError::Log(error) => error.into(),
        CommandError::Store(trouble) => trouble.0.into(),
    }
}

impl<T: ShardTime> Reader<T> {
    /// Its name in the shard's record.
    pub fn id(&self) -> ReaderId {
        self.lease.reader
    }

    /// The shard.
    pub fn shard(&self) -> ShardId {
        self.lease.shard.id
    }

    /// What it keeps readable.
    pub fn since(&self) -> Since<T> {
        self.lease.since()
    }

    /// How far the shard is written, as far as this process knows. Does not wait.
    pub fn upper(&self) -> Upper<T> {
        self.lease.shard.upper()
    }

    /// Waits until the shard is written past `frontier`. To drop the future does no harm.
    ///
    /// Says nothing of the lease: the shard is written so far whether it has lapsed or not.
    ///
    /// # Errors
    ///
    /// At once if the frontier is empty; if what is written cannot be read; if the runtime of the
    /// shards ends.
    pub async fn wait_for_upper_past(
        &self,
        frontier: &Antichain<T>,
    ) -> Result<Upper<T>, WaitError> {
        wait_past(&self.lease.shard, frontier).await
    }

    /// The contents as of a frontier; see [`Shards::snapshot`].
    ///
    /// # Errors
    ///
    /// If the lease has lapsed; see [`SnapshotError`].
    pub async fn snapshot(&self, as_of: &Antichain<T>) -> Result<Updates<T>, ReadError<T>> {
        self.check().await?;
        match self.shards.snapshot(self.shard(), as_of).await {
            Ok(updates) => {
                // Right as they are, but nothing keeps readable what is read next.
                self.check_registered().await?;
                Ok(updates)
            }
            Err(refusal) => Err(self.refused(refusal).await),
        }
    }

    /// Whether it is the lease that is to blame.
    pub(crate) async fn refused(&self, refusal: SnapshotError<T>) -> ReadError<T> {
        if matches!(refusal, SnapshotError::TooEarly { .. })
            && let Err(lost) = self.check_registered().await
        {
            return lost.into();
        }
        ReadError::Snapshot(refusal)
    }

    /// Whether the sinces that a snapshot has just read still name the reader: clocks may stand still
    /// where the machine sleeps, so they do not tell how long it was silent.
    async fn check_registered(&self) -> Result<(), LeaseLost> {
        let sinces = self.lease.shard.sinces.lock().await;
        let is_known = sinces.seen().is_some();
        let is_there = sinces.record().leased().contains_key(&self.id());
        if is_there || !is_known || self.since().is_gone() {
            return Ok(());
        }
        Err(self.lease.lose())
    }

    pub(crate) async fn check(&self) -> Result<(), ReadError<T>> {
        if self.lease.since().is_gone() {
            return Ok(());
        }
        Ok(self.shards.inner.check_lease(&self.lease).await?)
    }

    /// Lets go of what is before `since`, durably. What is behind or incomparable moves nothing, and
    /// is told so.
    ///
    /// # Errors
    ///
    /// If the lease has lapsed; if storage fails.
    pub async fn downgrade(&self, since: &Since<T>) -> Result<Downgraded<T>, ReadError<T>> {
        self.check().await?;
        if self.lease.wish(since) == Wished::Refused {
            return Ok(Downgraded::Kept(self.since()));
        }
        self.shards.inner.renew(&self.lease).await?;
        self.check().await?;
        Ok(Downgraded::Moved)
    }

    /// Lets go of what is before `since`, some time soon: what all readers of this process wish is
    /// written at once, at most once in a [`downgrade_interval`](crate::Settings::downgrade_interval).
    /// The last wish is kept. To let go of everything is written at once. What is behind or
    /// incomparable moves nothing, and neither does the wish of one whose lease has lapsed: what reads
    /// next says so.
    pub fn downgrade_soon(&self, since: &Since<T>) {
        let inner = &self.shards.inner;
        let interval = inner.settings.downgrade_interval;
        inner.leases.wish(&self.lease, since, interval);
    }

    /// Leaves, and waits until that is durable.
    ///
    /// # Errors
    ///
    /// If storage fails: it leaves in the background then, or its lease ends.
    pub async fn leave(self) -> Result<(), StorageError> {
        let inner = Arc::clone(&self.shards.inner);
        inner.leave(&self.lease).await?;
        inner.leases.forget(&self.lease);
        Ok(())
    }
}

impl<T: ShardTime> Drop for Reader<T> {
    fn drop(&mut self) {
        self.shards.inner.leases.give_back(&self.lease);
    }
}
