//! Shards behind the engine: its [`Storage`] trait on logs.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use lowwater::{
    DowngradeSinces, OpenOutcome, OpenShards, OpenedShard, ShardId, Since, SinceWish, Storage,
    StorageError, StorageErrorKind, StorageReports, Upper,
};
use tokio::runtime::Handle;
use tokio::sync::mpsc;

use crate::consensus::{Changes, Consensus, ConsensusError, Fence, Fenced, Hint};
use crate::id::{Epoch, LogId, ReaderId};
use crate::log::{Log, LogError};
use crate::record::{CriticalError, DataRecord, Decision, Downgraded, SinceChange, SinceRecord};
use crate::time::ShardTime;
use crate::transact::{CommandError, StoreTrouble, Task, Transactor};

/// How many logs are read in one request when any may have changed: so that commits come between.
const LOGS_AT_ONCE: usize = 1_000;

/// How long to wait before logs are read again that could not be read.
const READ_AGAIN: Duration = Duration::from_secs(1);

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
        let (requests, receiver) = mpsc::unbounded_channel();
        let controller = Controller {
            changes: store.changes(),
            transactor: Transactor::new(store, Some(fence)),
            reader,
            epoch: fence.epoch,
            shards: BTreeMap::new(),
            unread: false,
        };
        runtime.spawn(controller.run(receiver));
        ShardStorage { requests }
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
    changes: Changes,
    reader: ReaderId,
    epoch: Epoch,
    shards: BTreeMap<ShardId, Box<Shard<T>>>,
    /// Some logs could not be read when they had changed: all are read again soon.
    unread: bool,
}

struct Shard<T: ShardTime> {
    since: Log<SinceRecord<T>>,
    data: Log<DataRecord<T>>,
    reports: StorageReports<T>,
}

impl<T: ShardTime> Shard<T> {
    fn new(shard: ShardId, reports: StorageReports<T>) -> Self {
        Shard {
            since: Log::new(shard),
            data: Log::new(shard),
            reports,
        }
    }
}

impl<T: ShardTime> Controller<T> {
    async fn run(mut self, mut requests: mpsc::UnboundedReceiver<Request<T>>) {
        loop {
            tokio::select! {
                biased;
                request = requests.recv() => match request {
                    Some(Request::Open(request)) => self.open(request).await,
                    Some(Request::Downgrade(request)) => self.downgrade(request).await,
                    None => return,
                },
                hint = self.changes.next() => self.follow(&hint).await,
                () = tokio::time::sleep(READ_AGAIN), if self.unread => {
                    self.follow(&Hint::Any).await;
                }
            }
        }
    }

    /// Opens shards: reads all, then registers or stamps all of them in one transaction.
    async fn open(&mut self, request: OpenShards<T>) {
        let new = |shard: &ShardId| Shard::new(*shard, request.reports().clone());
        let mut shards: Vec<Shard<T>> = request.shards().iter().map(new).collect();
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
        shards: &mut [Shard<T>],
    ) -> Result<Vec<Result<OpenedShard<T>, StorageError>>, ConsensusError> {
        let mut data: Vec<_> = shards.iter_mut().map(|shard| &mut shard.data).collect();
        let data_read = self.transactor.refresh(&mut data).await?;
        let mut sinces: Vec<_> = shards.iter_mut().map(|shard| &mut shard.since).collect();
        let sinces_read = self.transactor.refresh(&mut sinces).await?;
        let (reader, epoch) = (self.reader, self.epoch);
        let tasks = sinces.into_iter().map(|log| Task {
            log,
            command: |record: &SinceRecord<T>| take_charge(record, reader, epoch),
        });
        let taken = self.transactor.carry_out_all(tasks.collect()).await;
        let read = data_read.into_iter().zip(sinces_read);
        let opened = shards.iter().zip(read.zip(taken));
        let opened = opened.map(|(shard, ((data, sinces), taken))| {
            data.and(sinces).map_err(unreadable)?;
            Ok(OpenedShard {
                since: taken.map_err(|error| refused(error, epoch))?,
                upper: shard.data.record().upper().clone(),
            })
        });
        Ok(opened.collect())
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

    /// Reads the data of the shards that have changed, and reports how far they are written now.
    async fn follow(&mut self, hint: &Hint) {
        let everything = std::mem::take(&mut self.unread);
        let hinted = |shard: &ShardId| everything || hint.names(LogId::data(*shard));
        let mut changed = Vec::new();
        for (id, shard) in &mut self.shards {
            if hinted(id) {
                changed.push((*id, shard));
            }
        }
        for some in changed.chunks_mut(LOGS_AT_ONCE) {
            let mut logs: Vec<_> = some.iter_mut().map(|(_, shard)| &mut shard.data).collect();
            let before: Vec<_> = logs
                .iter()
                .map(|log| log.record().upper().clone())
                .collect();
            match self.transactor.refresh(&mut logs).await {
                Ok(read) => report(some, before, read),
                Err(error) => {
                    tracing::warn!(%error, "how far shards are written could not be read");
                    self.unread = true;
                    return;
                }
            }
        }
    }
}

/// Tells the engine about the shards whose upper has advanced.
fn report<T: ShardTime>(
    shards: &[(ShardId, &mut Box<Shard<T>>)],
    before: Vec<Upper<T>>,
    read: Vec<Result<(), LogError>>,
) {
    let mut advanced = Vec::new();
    let mut reports = None;
    for (((id, shard), before), read) in shards.iter().zip(before).zip(read) {
        if let Err(error) = read {
            tracing::error!(%error, "a shard cannot be followed any more");
        } else if *shard.data.record().upper() != before {
            advanced.push((*id, shard.data.record().upper().clone()));
            reports = Some(&shard.reports);
        }
    }
    // All of them lead to the one engine.
    if let Some(reports) = reports {
        reports.uppers_advanced(advanced);
    }
}

/// Registers the controller's critical since, or stamps the one that a lower epoch has left; says
/// where it is.
fn take_charge<T: ShardTime>(
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

fn unreadable(error: LogError) -> StorageError {
    StorageError::new(StorageErrorKind::GiveUp, error)
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
