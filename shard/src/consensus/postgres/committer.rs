//! The task that commits: all that waits, in one transaction.

use std::collections::{BTreeSet, VecDeque};
use std::sync::Arc;

use tokio::sync::{mpsc, oneshot};

use crate::id::LogId;

use super::super::hints::Hints;
use super::super::{Answer, ConsensusError, Fence, Fenced, Offer, Outcome};
use super::notifier::Notifier;
use super::offers::Commit;
use super::pool::{Pool, timed_out_in_transaction};
use super::session::Session;

type Committed = Result<Vec<Outcome>, Fenced>;
type Reply = oneshot::Sender<Result<Committed, ConsensusError>>;

/// Where commits go.
#[derive(Clone, Debug)]
pub(super) struct Committer {
    requests: mpsc::UnboundedSender<Request>,
}

struct Request {
    commit: Commit,
    answer: Reply,
}

#[derive(Debug, thiserror::Error)]
#[error("the runtime of the store has stopped")]
struct Stopped;

impl Committer {
    pub(super) fn spawn(
        pool: Arc<Pool>,
        session: Session,
        hints: Hints,
        notifier: Notifier,
    ) -> Self {
        let (requests, receiver) = mpsc::unbounded_channel();
        let task = Task {
            pool,
            session: Some(session),
            hints,
            notifier,
            waiting: VecDeque::new(),
        };
        tokio::spawn(task.run(receiver));
        Committer { requests }
    }

    pub(super) fn commit(&self, fence: Option<Fence>, offers: Vec<Offer>) -> Answer<Committed> {
        let (answer, answered) = oneshot::channel();
        let commit = Commit::new(fence, offers);
        // Where the runtime has gone, the request is dropped here, and the caller hears of it.
        drop(self.requests.send(Request { commit, answer }));
        Box::pin(async move {
            let stopped = |_| Err(ConsensusError::indeterminate(Stopped));
            answered.await.unwrap_or_else(stopped)
        })
    }
}

struct Task {
    pool: Arc<Pool>,
    /// None after it was lost, until the next group.
    session: Option<Session>,
    hints: Hints,
    notifier: Notifier,
    waiting: VecDeque<Request>,
}

impl Task {
    async fn run(mut self, mut requests: mpsc::UnboundedReceiver<Request>) {
        while let Some(first) = requests.recv().await {
            self.waiting.push_back(first);
            while !self.waiting.is_empty() {
                // While one group is on its way, the next one gathers.
                while let Ok(request) = requests.try_recv() {
                    self.waiting.push_back(request);
                }
                let (commits, answers) = self.next_group();
                let committed = self.commit(&commits).await;
                self.answer(&commits, answers, committed);
            }
        }
    }

    /// As many of those that wait as have no log in common, nor different fences: what is offered
    /// to one log twice could not be told apart. The others keep their order and wait on.
    fn next_group(&mut self) -> (Vec<Commit>, Vec<Reply>) {
        let mut logs = BTreeSet::new();
        let mut fence = None;
        let (mut commits, mut answers) = (Vec::new(), Vec::new());
        if self.waiting.len() == 1
            && let Some(Request { commit, answer }) = self.waiting.pop_front()
        {
            return (vec![commit], vec![answer]);
        }
        for Request { commit, answer } in std::mem::take(&mut self.waiting) {
            let fenced = commit.fence();
            let apart = commit.logs().all(|log| !logs.contains(&log))
                && fenced.is_none_or(|fenced| *fence.get_or_insert(fenced) == fenced);
            logs.extend(commit.logs());
            if apart {
                commits.push(commit);
                answers.push(answer);
            } else {
                self.waiting.push_back(Request { commit, answer });
            }
        }
        (commits, answers)
    }

    async fn commit(&mut self, commits: &[Commit]) -> Result<Vec<Committed>, ConsensusError> {
        let session = match self.session.take().filter(|session| !session.is_closed()) {
            Some(session) => session,
            None => self.pool.within(self.pool.connect()).await?,
        };
        let timeout = self.pool.config().request_timeout;
        let committed = tokio::time::timeout(timeout, session.commit(commits)).await;
        let committed = committed.unwrap_or_else(|_| Err(timed_out_in_transaction()));
        if committed.is_ok() {
            self.session = Some(session);
        }
        committed
    }

    fn answer(
        &self,
        commits: &[Commit],
        answers: Vec<Reply>,
        committed: Result<Vec<Committed>, ConsensusError>,
    ) {
        match committed {
            Ok(committed) => {
                let taken: Vec<LogId> = commits.iter().zip(&committed).flat_map(taken).collect();
                self.hints.logs_changed(taken.iter().copied());
                self.notifier.logs_changed(taken);
                for (answer, committed) in answers.into_iter().zip(committed) {
                    // Whoever has lost interest learns nothing.
                    drop(answer.send(Ok(committed)));
                }
            }
            Err(error) => {
                tracing::warn!(%error, requests = answers.len(), "a transaction has failed");
                if !error.is_determinate() {
                    // It may have been carried out all the same.
                    let logs: Vec<LogId> = commits.iter().flat_map(Commit::logs).collect();
                    self.hints.logs_changed(logs.iter().copied());
                    self.notifier.logs_changed(logs);
                }
                for answer in answers {
                    drop(answer.send(Err(error.clone())));
                }
            }
        }
    }
}

/// The logs that a commit has written.
fn taken((commit, committed): (&Commit, &Committed)) -> Vec<LogId> {
    let outcomes = committed.as_deref().unwrap_or_default();
    let logs = commit.logs().zip(outcomes);
    let taken = logs.filter(|(_, outcome)| **outcome == Outcome::Taken);
    taken.map(|(log, _)| log).collect()
}
