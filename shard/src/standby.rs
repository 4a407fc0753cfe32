//! Shards behind an engine that only reads: it holds what it needs through leases, until it is put in
//! charge.

mod lease;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use lowwater::{
    DowngradeSinces, OpenOutcome, OpenShards, OpenedShard, ShardId, Since, SinceWish, Storage,
    StorageError, StorageErrorKind, StorageReport, StorageReports, Upper,
};
use parking_lot::Mutex;
use timely::PartialOrder;
use tokio::runtime::Handle;
use tokio::sync::{mpsc, oneshot, watch};
use tokio::time::{Interval, MissedTickBehavior};

use crate::clock::bounded;
use crate::hub::{Hub, Tidings};
use crate::record::DataRecord;
use crate::time::ShardTime;

use lease::Leases;

/// What a lease that has lapsed is told to.
type Lapsed<T> = dyn Fn(ShardId, &Since<T>) + Send + Sync;

type Outcomes<T> = BTreeMap<ShardId, Result<Since<T>, StorageError>>;

/// Shards behind an engine that only reads. Writes nothing but its own leases.
///
/// Put in charge, it hands everything to the storage of a controller, and keeps each lease until what
/// is planned has reached the critical since of its shard: nothing that is held is lost in between.
#[derive(Debug)]
pub(crate) struct StandbyStorage<T: ShardTime> {
    requests: mpsc::UnboundedSender<Request<T>>,
}

/// To put the storage in charge.
#[derive(Clone, Debug)]
pub(crate) struct Promoter<T: ShardTime> {
    requests: mpsc::WeakUnboundedSender<Request<T>>,
    /// Closed when the leases are given back.
    ended: watch::Receiver<()>,
}

enum Request<T> {
    Open(OpenShards<T>),
    Downgrade(DowngradeSinces<T>),
    /// Leases are this long from now on.
    Lease(Duration),
    /// The storage in charge has answered what it was asked.
    Downgraded(DowngradeSinces<T>, Outcomes<T>),
    Promote(
        Box<dyn Storage<T>>,
        oneshot::Sender<Result<(), StorageError>>,
    ),
}

impl<T: ShardTime> StandbyStorage<T> {
    /// `lapsed` is told where shards can be read from whose lease has lapsed, as it does when the
    /// process was stopped for long.
    pub(crate) fn spawn(
        runtime: &Handle,
        hub: Arc<Hub<T>>,
        lease: Duration,
        lapsed: impl Fn(ShardId, &Since<T>) + Send + Sync + 'static,
    ) -> (Self, Promoter<T>) {
        let (requests, receiver) = mpsc::unbounded_channel();
        let (alive, ended) = watch::channel(());
        let promoter = Promoter {
            requests: requests.downgrade(),
            ended,
        };
        let standby = Standby {
            advances: hub.listen(),
            leases: Leases::new(&hub, lease),
            lapsed: Box::new(lapsed),
            hub,
            reports: None,
            driver: None,
            requests: requests.downgrade(),
        };
        runtime.spawn(async move {
            standby.run(receiver, lease / 4).await;
            drop(alive);
        });
        (StandbyStorage { requests }, promoter)
    }
}

impl<T: ShardTime> Storage<T> for StandbyStorage<T> {
    fn open(&mut self, request: OpenShards<T>) {
        // Where the runtime has gone, the request is dropped here and counts as failed.
        drop(self.requests.send(Request::Open(request)));
    }

    fn downgrade(&mut self, request: DowngradeSinces<T>) {
        drop(self.requests.send(Request::Downgrade(request)));
    }
}

impl<T: ShardTime> Promoter<T> {
    /// From now on `driver` has everything: the storage of the controller that has taken over.
    ///
    /// # Errors
    ///
    /// If not all shards could be opened; then everything is as before.
    pub(crate) async fn promote(&self, driver: Box<dyn Storage<T>>) -> Result<(), StorageError> {
        let (answer, coming) = oneshot::channel();
        let requests = self.requests.upgrade().ok_or_else(ended)?;
        let sent = requests.send(Request::Promote(driver, answer));
        sent.map_err(|_| ended())?;
        drop(requests);
        coming.await.unwrap_or_else(|_| Err(ended()))
    }
}

impl<T: ShardTime> Promoter<T> {
    /// Leases that are taken from now on are this long.
    pub(crate) fn change_lease(&self, lease: Duration) {
        if let Some(requests) = self.requests.upgrade() {
            drop(requests.send(Request::Lease(lease)));
        }
    }

    /// Waits until the engine has ended and its leases are given back.
    pub(crate) async fn ended(&self) {
        let mut ended = self.ended.clone();
        while ended.changed().await.is_ok() {}
    }
}

#[derive(Debug, thiserror::Error)]
#[error("the engine has ended")]
struct Ended;

fn ended() -> StorageError {
    StorageError::new(StorageErrorKind::GiveUp, Ended)
}

#[derive(Debug, thiserror::Error)]
#[error("the shard was not opened")]
struct NotOpened;

fn not_opened() -> StorageError {
    StorageError::new(StorageErrorKind::Reopen, NotOpened)
}

struct Standby<T: ShardTime> {
    hub: Arc<Hub<T>>,
    advances: Arc<Tidings<Upper<T>>>,
    leases: Leases<T>,
    /// Is told from when on shards can be read whose lease has lapsed.
    lapsed: Box<Lapsed<T>>,
    /// Where the engine hears of uppers, once it has opened a shard.
    reports: Option<StorageReports<T>>,
    /// In charge, if that is so.
    driver: Option<Box<dyn Storage<T>>>,
    requests: mpsc::WeakUnboundedSender<Request<T>>,
}

impl<T: ShardTime> Standby<T> {
    async fn run(mut self, mut requests: mpsc::UnboundedReceiver<Request<T>>, every: Duration) {
        let mut renewals = every_so_often(every);
        loop {
            tokio::select! {
                biased;
                request = requests.recv() => match request {
                    Some(Request::Open(request)) => self.open(request).await,
                    Some(Request::Downgrade(request)) => self.downgrade(request).await,
                    Some(Request::Lease(lease)) => {
                        self.leases.change(lease);
                        // Those that are there keep their length.
                        if lease / 4 < renewals.period() {
                            renewals = every_so_often(lease / 4);
                        }
                    }
                    Some(Request::Downgraded(request, outcomes)) => {
                        self.downgraded(request, outcomes).await;
                    }
                    Some(Request::Promote(driver, answer)) => {
                        let promoted = self.promote(driver).await;
                        // Nobody may wait for it any more.
                        let _ = answer.send(promoted);
                    }
                    None => break,
                },
                _ = renewals.tick() => self.leases.renew().await,
                advances = self.advances.next() => self.report(advances),
            }
            self.report_lapsed();
        }
        // The engine has ended: what it held is given back.
        self.leases.leave_all().await;
    }

    async fn open(&mut self, request: OpenShards<T>) {
        self.reports = Some(request.reports().clone());
        if let Some(driver) = &mut self.driver {
            return driver.open(request);
        }
        let shards = request.shards().iter();
        let followed = shards.map(|id| (*id, self.hub.shard(*id))).collect();
        let read = self.hub.refresh::<DataRecord<T>>(&followed).await;
        let outcomes = match read {
            Ok(mut read) => {
                let mut taken = self.leases.take(&followed).await;
                let opened = request.shards().iter().map(|id| {
                    let data = read.remove(id).unwrap_or(Ok(()));
                    let taken = taken.remove(id).unwrap_or_else(|| Err(not_opened()));
                    let opened = data.map_err(StorageError::from).and(taken);
                    let upper = followed[id].upper();
                    (*id, opened.map(|since| OpenedShard { since, upper }))
                });
                opened.collect()
            }
            Err(error) => {
                let failed = |id: &ShardId| (*id, Err(error.clone().into()));
                request.shards().iter().map(failed).collect()
            }
        };
        request.answer(outcomes);
    }

    async fn downgrade(&mut self, request: DowngradeSinces<T>) {
        let Some(driver) = &mut self.driver else {
            let outcomes = self.leases.downgrade(request.wishes()).await;
            return answer(request, outcomes);
        };
        let wishes = request.wishes().to_vec();
        let (requests, request) = (self.requests.clone(), Mutex::new(Some(request)));
        let reports = StorageReports::new(move |report| {
            if let StorageReport::Downgraded(outcomes) = report
                && let Some(request) = request.lock().take()
                && let Some(requests) = requests.upgrade()
            {
                let outcomes = outcomes.into_iter();
                let outcomes = outcomes.map(|(wish, outcome)| (wish.shard, outcome));
                let told = Request::Downgraded(request, outcomes.collect());
                drop(requests.send(told));
            }
        });
        driver.downgrade(DowngradeSinces::new(wishes, reports));
    }

    /// Critical sinces have moved, or not. A lease from which one was reached is needed no more; one
    /// that still is behind it follows what is planned.
    async fn downgraded(&mut self, request: DowngradeSinces<T>, mut outcomes: Outcomes<T>) {
        let mut kept = Vec::new();
        let mut reached = Vec::new();
        for wish in request.wishes() {
            if !self.leases.has(wish.shard) {
                continue;
            }
            match outcomes.get(&wish.shard) {
                Some(Ok(critical)) if PartialOrder::less_equal(critical, &wish.since) => {
                    reached.push(wish.shard);
                }
                Some(Ok(_)) => kept.push(wish.clone()),
                Some(Err(_)) | None => {}
            }
        }
        self.leases.leave(&reached).await;
        // The critical since is further, and the shard where the lease is.
        outcomes.append(&mut self.leases.downgrade(&kept).await);
        answer(request, outcomes);
    }

    /// Opens all shards once more, as the controller. The leases stay until what is planned has
    /// reached the critical sinces.
    async fn promote(&mut self, mut driver: Box<dyn Storage<T>>) -> Result<(), StorageError> {
        let (shards, reports) = (self.leases.shards(), self.reports.clone());
        if let Some(engine) = reports.filter(|_| !shards.is_empty()) {
            let (answer, coming) = oneshot::channel();
            driver.open(OpenShards::new(0, shards, forward(engine, answer)));
            let outcomes = coming.await.map_err(|_| ended())?;
            let mut outcomes = outcomes.into_iter();
            outcomes.try_for_each(|(_, outcome)| outcome.map(drop))?;
        }
        self.driver = Some(driver);
        Ok(())
    }

    /// Tells the engine what it has lost.
    fn report_lapsed(&mut self) {
        let lapsed = self.leases.take_lapsed();
        for (shard, since) in &lapsed {
            (self.lapsed)(*shard, since);
        }
        if let Some(reports) = &self.reports {
            reports.lapsed(lapsed);
        }
    }

    /// Tells the engine which of its shards were written; the driver does that by itself.
    fn report(&self, advances: BTreeMap<ShardId, Upper<T>>) {
        if let (Some(reports), None) = (&self.reports, &self.driver) {
            let advances = advances.into_iter();
            let mine = advances.filter(|(shard, _)| self.leases.has(*shard));
            reports.uppers_advanced(mine.collect());
        }
    }
}

fn every_so_often(every: Duration) -> Interval {
    let mut interval = tokio::time::interval(bounded(every.max(Duration::from_millis(1))));
    interval.set_missed_tick_behavior(MissedTickBehavior::Delay);
    interval
}

/// Reports of a driver: that its shards are open is ours, all else is for the engine.
fn forward<T: ShardTime>(
    engine: StorageReports<T>,
    answer: oneshot::Sender<Vec<OpenOutcome<T>>>,
) -> StorageReports<T> {
    let answer = Mutex::new(Some(answer));
    StorageReports::new(move |report| match report {
        StorageReport::Opened { outcomes, .. } => {
            if let Some(answer) = answer.lock().take() {
                // Nobody may wait for it any more.
                let _ = answer.send(outcomes);
            }
        }
        StorageReport::UppersAdvanced(uppers) => engine.uppers_advanced(uppers),
        StorageReport::Fenced(by) => engine.fenced(by),
        StorageReport::Lapsed(sinces) => engine.lapsed(sinces),
        StorageReport::Downgraded(_) => {}
    })
}

fn answer<T>(request: DowngradeSinces<T>, mut outcomes: Outcomes<T>) {
    request.answer(|wish: &SinceWish<T>| {
        let outcome = outcomes.remove(&wish.shard);
        outcome.unwrap_or_else(|| Err(not_opened()))
    });
}
