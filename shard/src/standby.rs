//! Shards behind an engine that only reads: it holds what it needs through leases, until it is put in
//! charge.

mod lease;

use std::collections::BTreeMap;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use lowwater::{
    DowngradeSinces, OpenOutcome, OpenShards, OpenedShard, ShardId, Since, SinceWish, Storage,
    StorageError, StorageErrorKind, StorageReport, StorageReports, Upper,
};
use parking_lot::Mutex;
use timely::PartialOrder;
use tokio::sync::{mpsc, oneshot, watch};
use tokio::time::{Interval, MissedTickBehavior};

use crate::clock::bounded;
use crate::hub::{Hub, Tidings};
use crate::id::{Epoch, ReaderId};
use crate::record::DataRecord;
use crate::shards::Shards;
use crate::time::ShardTime;
use crate::transact::Transactor;

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

/// How a storage is put in charge.
pub(crate) struct Promotion<T: ShardTime> {
    /// The storage of the controller that has taken over: it has everything from then on.
    pub(crate) driver: Box<dyn Storage<T>>,
    pub(crate) charge: Charge,
    /// What else has to be done, once all shards are open, and before the driver has them.
    pub(crate) before: Before,
}

type Before = Pin<Box<dyn Future<Output = Result<(), StorageError>> + Send>>;

/// Who drives the critical sinces.
pub(crate) struct Charge {
    pub(crate) transactor: Transactor,
    pub(crate) reader: ReaderId,
    pub(crate) epoch: Epoch,
}

/// To put the storage in charge.
#[derive(Clone, Debug)]
pub(crate) struct Promoter<T: ShardTime> {
    requests: mpsc::WeakUnboundedSender<Request<T>>,
    /// Closed when the leases are given back.
    ended: watch::Receiver<()>,
}

enum Request<T: ShardTime> {
    Open(OpenShards<T>),
    Downgrade(DowngradeSinces<T>),
    LetGo(Vec<ShardId>),
    /// Leases are this long from now on.
    Lease(Duration),
    /// The storage in charge has answered what it was asked.
    Downgraded(DowngradeSinces<T>, Outcomes<T>),
    Promote(Promotion<T>, oneshot::Sender<Result<(), StorageError>>),
}

impl<T: ShardTime> StandbyStorage<T> {
    /// `lapsed` is told where shards can be read from whose lease has lapsed, as it does when the
    /// process was stopped for long.
    pub(crate) fn spawn(
        shards: &Shards<T>,
        lease: Duration,
        lapsed: impl Fn(ShardId, &Since<T>) + Send + Sync + 'static,
    ) -> (Self, Promoter<T>) {
        let (hub, own) = (
            Arc::clone(&shards.inner.hub),
            Arc::clone(&shards.inner.leases),
        );
        let (requests, receiver) = mpsc::unbounded_channel();
        let (alive, ended) = watch::channel(());
        let promoter = Promoter {
            requests: requests.downgrade(),
            ended,
        };
        // Whoever calls this may be outside of the runtime.
        let entered = shards.inner.runtime.enter();
        let standby = Standby {
            advances: hub.listen(),
            leases: Leases::new(&hub, own, lease),
            lapsed: Box::new(lapsed),
            hub,
            reports: None,
            driver: None,
            renewals: every_so_often(lease / 4),
            requests: requests.downgrade(),
        };
        drop(entered);
        shards.inner.runtime.spawn(async move {
            standby.run(receiver).await;
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

    fn let_go(&mut self, shards: Vec<ShardId>) {
        drop(self.requests.send(Request::LetGo(shards)));
    }
}

impl<T: ShardTime> Promoter<T> {
    /// From now on the driver has everything.
    ///
    /// # Errors
    ///
    /// If not all shards could be opened, or what has to be done before was not; then everything is
    /// as before. Ask again, with a driver of the same controller or of another one.
    pub(crate) async fn promote(&self, promotion: Promotion<T>) -> Result<(), StorageError> {
        let (answer, coming) = oneshot::channel();
        let requests = self.requests.upgrade().ok_or_else(ended)?;
        let sent = requests.send(Request::Promote(promotion, answer));
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
    driver: Option<(Box<dyn Storage<T>>, Charge)>,
    renewals: Interval,
    requests: mpsc::WeakUnboundedSender<Request<T>>,
}

impl<T: ShardTime> Standby<T> {
    async fn run(mut self, mut requests: mpsc::UnboundedReceiver<Request<T>>) {
        loop {
            // Leases come first, however much is asked for; and what is asked for keeps nobody from
            // hearing of uppers.
            let request = tokio::select! {
                biased;
                _ = self.renewals.tick() => {
                    self.renew().await;
                    continue;
                }
                next = next(&mut requests, &self.advances) => match next {
                    Next::Request(request) => request,
                    Next::Advances(advances) => {
                        self.report(advances);
                        continue;
                    }
                    Next::End => break,
                },
            };
            match request {
                Request::Open(request) => self.open(request).await,
                Request::Downgrade(request) => self.downgrade(request).await,
                Request::LetGo(shards) => drop(self.leases.leave(&shards).await),
                Request::Lease(lease) => {
                    self.leases.change(lease);
                    // Those that are there keep their length.
                    if lease / 4 < self.renewals.period() {
                        self.renewals = every_so_often(lease / 4);
                    }
                }
                Request::Downgraded(request, outcomes) => {
                    self.downgraded(request, outcomes).await;
                }
                Request::Promote(promotion, answer) => {
                    let promoted = self.promote(promotion).await;
                    // Nobody may wait for it any more.
                    let _ = answer.send(promoted);
                }
            }
            self.report_lapsed();
        }
        // The engine has ended: what it held is given back.
        self.leases.leave_all().await;
    }

    /// Renews the leases; those that are needed no more are given back.
    async fn renew(&mut self) {
        self.leases.renew().await;
        if let Some((_, charge)) = &self.driver {
            self.leases.settle(charge).await;
        }
        // However long it took, what is asked for has its turn before the next time.
        self.renewals.reset();
        self.report_lapsed();
    }

    async fn open(&mut self, request: OpenShards<T>) {
        self.reports = Some(request.reports().clone());
        if let Some((driver, _)) = &mut self.driver {
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
        let Some((driver, _)) = &mut self.driver else {
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
    async fn promote(&mut self, promotion: Promotion<T>) -> Result<(), StorageError> {
        let Promotion {
            mut driver,
            charge,
            before,
        } = promotion;
        let mut uppers = Vec::new();
        // Also where there are no shards: so the driver knows whom to tell that it was overtaken.
        if let Some(engine) = self.reports.clone() {
            let (answer, coming) = oneshot::channel();
            driver.open(OpenShards::new(
                0,
                self.leases.shards(),
                forward(engine, answer),
            ));
            let outcomes = self.keep_leases(coming).await;
            for (shard, outcome) in outcomes.map_err(|_| ended())? {
                uppers.push((shard, outcome?.upper));
            }
        }
        self.keep_leases(before).await?;
        self.leases.settle(&charge).await;
        self.driver = Some((driver, charge));
        if let Some(engine) = &self.reports {
            // What was written meanwhile is told by nobody else: the driver tells what comes later.
            engine.uppers_advanced(uppers);
        }
        Ok(())
    }

    /// Renews the leases while something takes its time.
    async fn keep_leases<X>(&mut self, work: impl Future<Output = X>) -> X {
        let mut work = std::pin::pin!(work);
        loop {
            tokio::select! {
                biased;
                done = &mut work => return done,
                _ = self.renewals.tick() => {}
            }
            self.renew().await;
        }
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

enum Next<T: ShardTime> {
    Request(Request<T>),
    Advances(BTreeMap<ShardId, Upper<T>>),
    /// The engine has ended.
    End,
}

/// What comes next; where there is both, either.
async fn next<T: ShardTime>(
    requests: &mut mpsc::UnboundedReceiver<Request<T>>,
    advances: &Tidings<Upper<T>>,
) -> Next<T> {
    tokio::select! {
        request = requests.recv() => request.map_or(Next::End, Next::Request),
        advances = advances.next() => Next::Advances(advances),
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

#[cfg(test)]
mod tests;
