//! A store that fails when it is told to: for tests of those that rely on one.

use std::collections::VecDeque;
use std::sync::Arc;

use lowwater::StorageErrorKind;
use parking_lot::Mutex;
use tokio::sync::watch;

use crate::id::LogId;

use super::{
    Answer, Changes, Consensus, ConsensusError, Fence, Fenced, Offer, Outcome, Scan, Truncation,
    Version,
};

/// A store that fails when it is told to. Clones are handles of the same.
#[derive(Clone, Debug)]
pub struct UnreliableConsensus {
    inner: Arc<dyn Consensus>,
    plan: Arc<Mutex<Plan>>,
    /// Nothing is answered while this is so.
    is_stuck: watch::Sender<bool>,
}

/// How a commit goes wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// Not at all.
    None,
    /// It is refused, for sure.
    Refused,
    /// It is lost on the way, and the outcome unknown.
    LostBefore,
    /// It is carried out, and the answer is lost.
    LostAfter,
    /// The outcome is unknown, and it is carried out later: right after the next commit.
    Late,
}

#[derive(Debug, Default)]
struct Plan {
    commits: VecDeque<Fault>,
    reads_to_fail: usize,
    late: Vec<(Option<Fence>, Vec<Offer>)>,
}

#[derive(Debug, thiserror::Error)]
#[error("the store was told to fail")]
struct ToldToFail;

impl UnreliableConsensus {
    /// Fails where `inner` would not.
    pub fn new(inner: Arc<dyn Consensus>) -> Self {
        UnreliableConsensus {
            inner,
            plan: Arc::default(),
            is_stuck: watch::Sender::new(false),
        }
    }

    /// How the next commits go wrong, one after the other, behind those that were told before.
    pub fn next_commits(&self, faults: impl IntoIterator<Item = Fault>) {
        self.plan.lock().commits.extend(faults);
    }

    /// How many commits there are still to come that were told how to go.
    pub fn faults_left(&self) -> usize {
        self.plan.lock().commits.len()
    }

    /// From now on nothing goes wrong but what is told anew.
    pub fn forget_faults(&self) {
        let mut plan = self.plan.lock();
        plan.commits.clear();
        plan.reads_to_fail = 0;
    }

    /// Lets the next reads fail, as many as this.
    pub fn next_reads_fail(&self, reads: usize) {
        self.plan.lock().reads_to_fail += reads;
    }

    /// From now on nothing is answered, and nothing written.
    pub fn hold(&self) {
        self.is_stuck.send_replace(true);
    }

    /// Goes on, with what has waited first.
    pub fn release(&self) {
        self.is_stuck.send_replace(false);
    }

    /// Waits while it is stuck.
    fn goes_on(&self) -> impl Future<Output = ()> + Send + 'static {
        let mut is_stuck = self.is_stuck.subscribe();
        async move {
            // Where the store is gone, nobody holds it any more.
            let _ = is_stuck.wait_for(|is_stuck| !is_stuck).await;
        }
    }

    fn read<X: Send + 'static>(&self, read: impl FnOnce(&dyn Consensus) -> Answer<X>) -> Answer<X> {
        let mut plan = self.plan.lock();
        if plan.reads_to_fail > 0 {
            plan.reads_to_fail -= 1;
            return Box::pin(std::future::ready(Err(refused())));
        }
        let (goes_on, answer) = (self.goes_on(), read(&*self.inner));
        Box::pin(async move {
            goes_on.await;
            answer.await
        })
    }
}

fn refused() -> ConsensusError {
    ConsensusError::determinate(StorageErrorKind::Retry, ToldToFail)
}

impl Consensus for UnreliableConsensus {
    fn heads(&self, logs: Vec<LogId>) -> Answer<Vec<Option<Version>>> {
        self.read(|inner| inner.heads(logs))
    }

    fn commit(
        &self,
        fence: Option<Fence>,
        offers: Vec<Offer>,
    ) -> Answer<Result<Vec<Outcome>, Fenced>> {
        let fault = self.plan.lock().commits.pop_front().unwrap_or(Fault::None);
        let unreliable = self.clone();
        let goes_on = self.goes_on();
        Box::pin(async move {
            goes_on.await;
            let UnreliableConsensus { inner, plan, .. } = unreliable;
            let late = std::mem::take(&mut plan.lock().late);
            let lost = || Err(ConsensusError::indeterminate(ToldToFail));
            let outcome = match fault {
                Fault::None => inner.commit(fence, offers).await,
                Fault::Refused => Err(refused()),
                Fault::LostBefore => lost(),
                Fault::LostAfter => {
                    let _: Result<_, Fenced> = inner.commit(fence, offers).await?;
                    lost()
                }
                Fault::Late => {
                    plan.lock().late.push((fence, offers));
                    lost()
                }
            };
            for (fence, offers) in late {
                let _: Result<_, Fenced> = inner.commit(fence, offers).await?;
            }
            outcome
        })
    }

    fn scan(&self, scans: Vec<Scan>) -> Answer<Vec<Vec<Version>>> {
        self.read(|inner| inner.scan(scans))
    }

    fn truncate(&self, truncations: Vec<Truncation>) -> Answer<()> {
        self.inner.truncate(truncations)
    }

    fn list(&self, after: Option<LogId>, logs_max: usize) -> Answer<Vec<LogId>> {
        self.read(|inner| inner.list(after, logs_max))
    }

    fn fence(&self) -> Answer<Option<Fence>> {
        self.read(|inner| inner.fence())
    }

    fn take_over(&self, fence: Fence) -> Answer<Result<(), Fenced>> {
        self.inner.take_over(fence)
    }

    fn changes(&self) -> Changes {
        self.inner.changes()
    }
}
