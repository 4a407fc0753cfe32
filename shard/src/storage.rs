//! Shards behind the engine: its [`Storage`] trait on logs.

use std::collections::BTreeMap;
use std::sync::Arc;

use lowwater::{
    DowngradeSinces, OpenOutcome, OpenShards, OpenedShard, ShardId, Since, SinceWish, Storage,
    StorageError, StorageErrorKind, StorageReports, Upper,
};
use tokio::runtime::Handle;
use tokio::sync::mpsc;

use crate::consensus::{Consensus, ConsensusError, Fence, Fenced};
use crate::hub::{ById, Hub, Kept, Shard, Tidings};
use crate::id::{Epoch, ReaderId};
use crate::log::{Log, LogError};
use crate::record::{CriticalError, DataRecord, Decision, Downgraded, SinceChange, SinceRecord};
use crate::time::ShardTime;
use crate::transact::{CommandError, StoreTrouble, Task, Transactor};

/// Durable shards for an engine.
///
/// Each request is carried out as a whole, whatever the number of shards: one transaction, with an
/// outcome for each. Uppers are followed by what the store hints at, not by a poll for each shard.
/// Goes on in a task of a `tokio` runtime; ends when the engine has ended and all that it asked for
/// is carried out.
#[derive(Debug)]
pub struct ShardStorage<T> {
    requests: mpsc::UnboundedSender<Request<T>>,
}

#[derive(Debug)]
enum Request<T> {
    Open(OpenShards<T>),
    Downgrade(DowngradeSinces<T>),
    Fenced(Epoch),
}

/// Tells the engine of a storage that another controller is in charge.
#[derive(Debug)]
pub(crate) struct Herald<T> {
    requests: mpsc::WeakUnboundedSender<Request<T>>,
}

impl<T> Herald<T> {
    pub(crate) fn fenced(&self, by: Epoch) {
        if let Some(requests) = self.requests.upgrade() {
            // Where the runtime has gone, nobody is told anything any more.
            let _ = requests.send(Request::Fenced(by));
        }
    }
}

impl<T: ShardTime> ShardStorage<T> {
    /// Shards in this store, driven by the controller that is in charge of it.
    ///
    /// `reader` is the name of the controller's critical sinces, the same through all its
    /// incarnations; `fence` is what it has [taken over](Consensus::take_over) the store with.
    /// Opening a shard stamps it with the epoch.
    pub fn spawn(
        runtime: &Handle,
        store: Arc<dyn Consensus>,
        reader: ReaderId,
        fence: Fence,
    ) -> Self {
        let hub = Hub::spawn(runtime, store);
        ShardStorage::on(runtime, hub, reader, fence)
    }

    /// On what the handles of this process share.
    pub(crate) fn on(runtime: &Handle, hub: Arc<Hub<T>>, reader: ReaderId, fence: Fence) -> Self {
        let (requests, receiver) = mpsc::unbounded_channel();
        let controller = Controller {
            advances: hub.listen(),
            transactor: Transactor::new(Arc::clone(hub.store()), Some(fence)),
            hub,
            reader,
            epoch: fence.epoch,
            shards: BTreeMap::new(),
            reports: None,
            fenced_by: None,
        };
        runtime.spawn(controller.run(receiver));
        ShardStorage { requests }
    }

    /// To tell the engine of what it has not been asked about.
    pub(crate) fn herald(&self) -> Herald<T> {
        Herald {
            requests: self.requests.downgrade(),
        }
    }
}

impl<T: ShardTime> Storage<T> for ShardStorage<T> {
    fn open(&mut self, request: OpenShards<T>) {
        // Where the runtime has gone, the request is dropped here and counts as failed.
        drop(self.requests.send(Request::Open(request)));
    }

    fn downgrade(&mut self, request: DowngradeSinces<T>) {
        drop(self.requests.send(Request::Downgrade(request)));
    }
}

struct Controller<T: ShardTime> {
    transactor: Transactor,
    hub: Arc<Hub<T>>,
    /// The uppers that have advanced, of all shards of the hub.
    advances: Arc<Tidings<Upper<T>>>,
    reader: ReaderId,
    epoch: Epoch,
    shards: BTreeMap<ShardId, Box<Opened<T>>>,
    /// Where the engine hears of what it has not asked for, once it has opened a shard.
    reports: Option<StorageReports<T>>,
    /// Who has taken over, as the herald said.
    fenced_by: Option<Epoch>,
}

struct Opened<T: ShardTime> {
    since: Log<SinceRecord<T>>,
    shard: Arc<Shard<T>>,
    reports: StorageReports<T>,
}

impl<T: ShardTime> Controller<T> {
    async fn run(mut self, mut requests: mpsc::UnboundedReceiver<Request<T>>) {
        loop {
            tokio::select! {
                biased;
                request = requests.recv() => match request {
                    Some(Request::Open(request)) => self.open(request).await,
                    Some(Request::Downgrade(request)) => self.downgrade(request).await,
                    Some(Request::Fenced(by)) => {
                        self.fenced_by = Some(by);
                        self.tell_fenced();
                    }
                    None => return,
                },
                advances = self.advances.next() => self.report(advances),
            }
        }
    }

    /// Opens shards: reads all, then registers or stamps all of them in one transaction.
    async fn open(&mut self, request: OpenShards<T>) {
        let new = |id: &ShardId| Opened {
            since: Log::new(*id),
            shard: self.hub.shard(*id),
            reports: request.reports().clone(),
        };
        self.reports = Some(request.reports().clone());
        // Nobody could be told before.
        self.tell_fenced();
        let mut shards: Vec<Opened<T>> = request.shards().iter().map(new).collect();
        let outcomes = match self.open_all(&mut shards).await {
            Ok(opened) => request.shards().iter().copied().zip(opened).collect(),
            Err(error) => all_failed(request.shards(), &error),
        };
        for (shard, outcome) in shards.into_iter().zip(&outcomes) {
            if outcome.1.is_ok() {
                self.shards.insert(outcome.0, Box::new(shard));
            }
        }
        request.answer(outcomes);
    }

    async fn open_all(
        &self,
        shards: &mut [Opened<T>],
    ) -> Result<Vec<Result<OpenedShard<T>, StorageError>>, ConsensusError> {
        let followed = shards.iter().map(|opened| Arc::clone(&opened.shard));
        let followed: ById<_> = followed.map(|shard| (shard.id, shard)).collect();
        let mut data_read = self.read_data(followed).await?;
        let mut sinces: Vec<_> = shards.iter_mut().map(|shard| &mut shard.since).collect();
        let sinces_read = self.transactor.refresh(&mut sinces).await?;
        let (reader, epoch) = (self.reader, self.epoch);
        let tasks = sinces.into_iter().map(|log| Task {
            log,
            command: |record: &SinceRecord<T>| take_charge(record, reader, epoch),
        });
        let taken = self.transactor.carry_out_all(tasks.collect()).await;
        let opened = shards.iter().zip(sinces_read.into_iter().zip(taken));
        let opened = opened.map(|(opened, (sinces, taken))| {
            let data = data_read.remove(&opened.shard.id).unwrap_or(Ok(()));
            data.and(sinces)?;
            Ok(OpenedShard {
                since: taken.map_err(|error| refused(error, epoch))?,
                upper: opened.shard.upper(),
            })
        });
        Ok(opened.collect())
    }

    /// Reads how far shards are written. Who is just writing to one of them may be stuck, and is not
    /// waited for: that shard is read beside him.
    async fn read_data(
        &self,
        shards: ById<Arc<Shard<T>>>,
    ) -> Result<ById<Result<(), LogError>>, ConsensusError> {
        let (mut read, busy) = self.hub.refresh_free::<DataRecord<T>>(&shards).await?;
        if busy.is_empty() {
            return Ok(read);
        }
        let mut logs: Vec<Log<DataRecord<T>>> = busy.iter().map(|id| Log::new(*id)).collect();
        let mut beside: Vec<_> = logs.iter_mut().collect();
        let outcomes = self.transactor.refresh(&mut beside).await?;
        for ((id, log), outcome) in busy.into_iter().zip(&logs).zip(outcomes) {
            if let (Ok(()), Some(shard)) = (&outcome, shards.get(&id)) {
                log.record().publish(shard, &self.hub);
            }
            read.insert(id, outcome);
        }
        Ok(read)
    }

    /// Moves sinces, all in one transaction.
    async fn downgrade(&mut self, request: DowngradeSinces<T>) {
        // Out of the map while they are worked on; a shard occurs once.
        let shard = |wish: &SinceWish<T>| self.shards.remove(&wish.shard);
        let mut found: Vec<_> = request.wishes().iter().map(shard).collect();
        let (reader, epoch) = (self.reader, self.epoch);
        let wished = request.wishes().iter().zip(&mut found);
        let tasks = wished.filter_map(|(wish, shard)| {
            let log = &mut shard.as_mut()?.since;
            let command = |record: &SinceRecord<T>| {
                record.compare_and_downgrade(reader, epoch, epoch, &wish.since)
            };
            Some(Task { log, command })
        });
        let moved = self.transactor.carry_out_all(tasks.collect()).await;
        let mut moved = moved.into_iter();
        let mut outcomes = Vec::with_capacity(found.len());
        for (wish, shard) in request.wishes().iter().zip(found) {
            let Some((shard, moved)) = shard.and_then(|shard| Some((shard, moved.next()?))) else {
                outcomes.push(Err(not_opened()));
                continue;
            };
            let moved = moved.map(|moved| where_it_is(wish, moved));
            let moved = moved.map_err(|error| refused(error, epoch));
            // A shard that was given up is never heard of again.
            if !moved.as_ref().is_ok_and(Since::is_gone) {
                self.shards.insert(wish.shard, shard);
            }
            outcomes.push(moved);
        }
        let mut outcomes = outcomes.into_iter();
        request.answer(|_| outcomes.next().expect("there is one for each wish"));
    }

    /// Tells the engine who has taken over, if anybody has, and it can be told.
    fn tell_fenced(&self) {
        if let (Some(reports), Some(by)) = (&self.reports, self.fenced_by) {
            reports.fenced(by);
        }
    }

    /// Tells the engine which of its shards were written, and how far.
    fn report(&self, advances: BTreeMap<ShardId, Upper<T>>) {
        let mut reports = None;
        let mut advanced = Vec::with_capacity(advances.len());
        for (shard, upper) in advances {
            if let Some(opened) = self.shards.get(&shard) {
                // All of them lead to the one engine.
                reports = Some(&opened.reports);
                advanced.push((shard, upper));
            }
        }
        if let Some(reports) = reports {
            reports.uppers_advanced(advanced);
        }
    }
}

/// Registers the controller's critical since, or stamps the one that a lower epoch has left; says
/// where it is.
pub(crate) fn take_charge<T: ShardTime>(
    record: &SinceRecord<T>,
    reader: ReaderId,
    epoch: Epoch,
) -> Result<Decision<SinceChange<T>, Since<T>>, CriticalError<T>> {
    let opened = record.open_critical(reader, epoch);
    let since = opened.outcome.since.clone();
    let changes = if opened.outcome.epoch < epoch {
        let stamped = record.compare_and_downgrade(reader, opened.outcome.epoch, epoch, &since)?;
        stamped.changes
    } else if opened.outcome.epoch == epoch {
        opened.changes
    } else {
        let actual = opened.outcome.epoch;
        return Err(CriticalError::EpochMismatch { actual, since });
    };
    Ok(Decision {
        changes,
        outcome: since,
    })
}

fn where_it_is<T: ShardTime>(wish: &SinceWish<T>, moved: Downgraded<T>) -> Since<T> {
    match moved {
        Downgraded::Moved => wish.since.clone(),
        Downgraded::Kept(since) => since,
    }
}

fn all_failed<T>(shards: &[ShardId], error: &ConsensusError) -> Vec<OpenOutcome<T>> {
    let failed = |shard: &ShardId| (*shard, Err(error.clone().into()));
    shards.iter().map(failed).collect()
}

#[derive(Debug, thiserror::Error)]
#[error("the shard was not opened")]
struct NotOpened;

fn not_opened() -> StorageError {
    StorageError::new(StorageErrorKind::Reopen, NotOpened)
}

/// Why a command of the controller with this epoch was not carried out.
fn refused<T: ShardTime>(error: CommandError<CriticalError<T>>, epoch: Epoch) -> StorageError {
    let kind = match &error {
        CommandError::Store(StoreTrouble(error)) => return error.clone().into(),
        CommandError::Fenced(Fenced { by: Some(fence) }) => {
            StorageErrorKind::Fenced { by: fence.epoch }
        }
        // The shard alone says it as well.
        CommandError::Refused(CriticalError::EpochMismatch { actual, .. }) if *actual > epoch => {
            StorageErrorKind::Fenced { by: *actual }
        }
        CommandError::Refused(
            CriticalError::UnknownReader(_) | CriticalError::EpochMismatch { .. },
        ) => StorageErrorKind::Reopen,
        CommandError::Refused(CriticalError::EpochGoesBack { .. })
        | CommandError::Fenced(Fenced { by: None })
        | CommandError::Log(_) => StorageErrorKind::GiveUp,
    };
    StorageError::new(kind, error)
}
