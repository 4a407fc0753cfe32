//! Carrying out commands on logs: decide, offer, and where somebody was faster, read and decide
//! again. Outcomes that were lost are found out, never guessed.

mod running;

use std::sync::Arc;
use std::time::Duration;

use crate::consensus::{Consensus, ConsensusError, Fence, Fenced, Offer, Outcome, Scan, Version};
use crate::format::{Format, nonce};
use crate::id::Nonce;
use crate::log::{Log, LogError};
use crate::record::Decision;

use running::Running;

/// How often it is tried to find out what became of an offer.
const RESOLVE_TRIES: u32 = 8;

/// How long to wait before the first of them; twice as long before each next one.
const RESOLVE_WAIT: Duration = Duration::from_millis(5);

/// Carries out commands on the logs of a store.
#[derive(Clone, Debug)]
pub struct Transactor {
    store: Arc<dyn Consensus>,
    fence: Option<Fence>,
}

/// Why a command was not carried out, or is not known to have been.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
pub enum CommandError<E> {
    /// The command was refused, by the latest record.
    #[error(transparent)]
    Refused(E),
    /// Another controller is in charge of the store.
    #[error(transparent)]
    Fenced(Fenced),
    /// The log cannot be read.
    #[error(transparent)]
    Log(LogError),
    /// The store has failed. Where that is
    /// [indeterminate](ConsensusError::is_determinate), the command may have been carried out.
    #[error(transparent)]
    Store(StoreTrouble),
}

/// Trouble with a store; equal to no other.
#[derive(Clone, Debug, thiserror::Error)]
#[error(transparent)]
pub struct StoreTrouble(#[from] pub ConsensusError);

impl PartialEq for StoreTrouble {
    fn eq(&self, _: &Self) -> bool {
        false
    }
}

/// A command on a log.
#[derive(Debug)]
pub struct Task<'a, R, F> {
    /// The log; afterwards it is as far as the command has seen it.
    pub log: &'a mut Log<R>,
    /// Decides, by the record; again when somebody else has changed it.
    pub command: F,
}

/// What is known of an offer.
enum Known {
    Taken,
    Stale,
    Fenced(Fenced),
    Unknown(ConsensusError),
}

#[derive(Debug, thiserror::Error)]
#[error("the version that was offered was truncated before anybody looked whose it was")]
struct Truncated;

impl Transactor {
    /// Writes to this store, as the controller that `fence` names, or as none.
    pub fn new(store: Arc<dyn Consensus>, fence: Option<Fence>) -> Self {
        Transactor { store, fence }
    }

    /// The store.
    pub fn store(&self) -> &Arc<dyn Consensus> {
        &self.store
    }

    /// Reads what is new in these logs, in one request; an outcome for each.
    ///
    /// # Errors
    ///
    /// If the store fails.
    pub async fn refresh<R: Format>(
        &self,
        logs: &mut [&mut Log<R>],
    ) -> Result<Vec<Result<(), LogError>>, ConsensusError> {
        let scans: Vec<Scan> = logs.iter().map(|log| log.scan()).collect();
        let found = self.store.scan(scans).await?;
        let logs = logs.iter_mut().zip(found);
        Ok(logs.map(|(log, versions)| log.follow(&versions)).collect())
    }

    /// Carries out one command. See [`carry_out_all`](Transactor::carry_out_all).
    ///
    /// # Errors
    ///
    /// See [`CommandError`].
    ///
    /// # Panics
    ///
    /// Never.
    pub async fn carry_out<R, O, E>(
        &self,
        log: &mut Log<R>,
        command: impl FnMut(&R) -> Result<Decision<R::Change, O>, E>,
    ) -> Result<O, CommandError<E>>
    where
        R: Format,
    {
        let outcomes = self.carry_out_all(vec![Task { log, command }]).await;
        outcomes
            .into_iter()
            .next()
            .expect("one command has one outcome")
    }

    /// Carries out commands on logs, each on another, with as few transactions as possible: one, if
    /// nobody else writes to them. Each has an outcome of its own.
    ///
    /// What a command refuses, or finds done already, was decided by a record that was read since
    /// this was called, while the controller was in charge.
    ///
    /// # Durability
    ///
    /// What a command comes to has survived a crash when this returns it.
    pub async fn carry_out_all<R, O, E, F>(
        &self,
        tasks: Vec<Task<'_, R, F>>,
    ) -> Vec<Result<O, CommandError<E>>>
    where
        R: Format,
        F: FnMut(&R) -> Result<Decision<R::Change, O>, E>,
    {
        let mut running: Vec<Running<'_, R, F, O, E>> =
            tasks.into_iter().map(Running::new).collect();
        loop {
            // One name for all attempts of a transaction, each on another log.
            let nonce = Nonce::random();
            for task in &mut running {
                task.decide(nonce);
            }
            self.offer(&mut running).await;
            if running.iter().all(|task| task.outcome.is_some()) {
                break;
            }
            self.read_again(&mut running).await;
        }
        let outcomes = running.into_iter().filter_map(|task| task.outcome);
        outcomes.collect()
    }

    /// Offers what was decided.
    async fn offer<R: Format, F, O, E>(&self, running: &mut [Running<'_, R, F, O, E>]) {
        let mut offered: Vec<_> = running
            .iter_mut()
            .filter(|task| task.decided.is_some())
            .collect();
        let offers = offered.iter().filter_map(|task| task.offer());
        let known = self.commit::<R>(offers.collect()).await;
        for (task, known) in offered.iter_mut().zip(known) {
            task.learn(known);
        }
    }

    /// Reads the logs of those that have to decide once more.
    async fn read_again<R: Format, F, O, E>(&self, running: &mut [Running<'_, R, F, O, E>]) {
        let mut again: Vec<_> = running
            .iter_mut()
            .filter(|task| task.outcome.is_none())
            .collect();
        let mut logs: Vec<_> = again.iter_mut().map(|task| &mut *task.log).collect();
        let read = match self.refresh(&mut logs).await {
            // Asked last: what was read is what there was while it was in charge.
            Ok(read) => self.overtaken().await.map(|overtaken| (read, overtaken)),
            Err(error) => Err(error),
        };
        match read {
            Ok((_, Some(fenced))) => {
                for task in again {
                    task.outcome = Some(Err(CommandError::Fenced(fenced)));
                }
            }
            Ok((read, None)) => {
                for (task, read) in again.iter_mut().zip(read) {
                    let read = read.and_then(|()| task.check_progress());
                    task.is_fresh = true;
                    task.outcome = read.err().map(|error| Err(CommandError::Log(error)));
                }
            }
            Err(error) => {
                for task in again {
                    task.outcome = Some(Err(store_trouble(error.clone())));
                }
            }
        }
    }

    /// Who is in charge of the store, if that is not the controller that we write as. The store says
    /// so whenever something is offered; this is for commands that come to nothing to write.
    async fn overtaken(&self) -> Result<Option<Fenced>, ConsensusError> {
        let Some(fence) = self.fence else {
            return Ok(None);
        };
        let by = self.store.fence().await?;
        Ok((by != Some(fence)).then_some(Fenced { by }))
    }

    /// What becomes of proposals, each by itself.
    async fn commit<R: Format>(&self, proposals: Vec<Proposed<'_>>) -> Vec<Known> {
        if proposals.is_empty() {
            return Vec::new();
        }
        let offers: Vec<Offer> = proposals
            .iter()
            .map(|(offer, _)| (*offer).clone())
            .collect();
        match self.store.commit(self.fence, offers.clone()).await {
            Ok(Ok(outcomes)) => outcomes.into_iter().map(Known::from).collect(),
            Ok(Err(fenced)) => proposals.iter().map(|_| Known::Fenced(fenced)).collect(),
            Err(error) if error.is_determinate() => unknown(&proposals, &error),
            Err(error) => self.resolve::<R>(&proposals, offers, error).await,
        }
    }

    /// Finds out what became of offers whose answer was lost: offers the same once more, which
    /// takes the place unless it is taken, and then looks whose nonce is there.
    async fn resolve<R: Format>(
        &self,
        proposals: &[Proposed<'_>],
        offers: Vec<Offer>,
        mut error: ConsensusError,
    ) -> Vec<Known> {
        tracing::debug!(%error, offers = offers.len(), "an answer was lost: finding out");
        let mut wait = RESOLVE_WAIT;
        for _ in 0..RESOLVE_TRIES {
            tokio::time::sleep(wait).await;
            wait *= 2;
            match self.try_to_resolve::<R>(proposals, offers.clone()).await {
                Ok(known) => return known,
                Err(again) => error = again,
            }
        }
        // However the last try ended, what became of the first is not known.
        unknown(proposals, &ConsensusError::indeterminate(error))
    }

    async fn try_to_resolve<R: Format>(
        &self,
        proposals: &[Proposed<'_>],
        offers: Vec<Offer>,
    ) -> Result<Vec<Known>, ConsensusError> {
        let scans = offers.iter().map(|offer| Scan {
            log: offer.log,
            from: offer.seqno(),
        });
        let scans: Vec<Scan> = scans.collect();
        let committed = self.store.commit(self.fence, offers).await?;
        // From here on nothing of ours is on its way any more: each place is taken, by us or by
        // somebody else, or the fence keeps us from it.
        let found = self.store.scan(scans).await?;
        let known = proposals.iter().zip(found).enumerate();
        let known = known.map(|(at, (proposal, found))| match &committed {
            Ok(outcomes) if outcomes[at] == Outcome::Taken => Known::Taken,
            Ok(_) => whose::<R>(proposal, &found).unwrap_or(Known::Stale),
            Err(fenced) => whose::<R>(proposal, &found).unwrap_or(Known::Fenced(*fenced)),
        });
        Ok(known.collect())
    }
}

/// An offer, and the nonce that is in it.
type Proposed<'a> = (&'a Offer, Nonce);

/// Whether the version that was offered is ours, given the versions from there on; `None` if
/// nobody's is there.
fn whose<R: Format>((offer, mine): &Proposed<'_>, found: &[Version]) -> Option<Known> {
    let first = found.first()?;
    if first.seqno != offer.seqno() {
        return Some(Known::Unknown(ConsensusError::indeterminate(Truncated)));
    }
    match nonce::<R>(offer.log, first.seqno, &first.data) {
        Ok(theirs) if theirs == *mine => Some(Known::Taken),
        // What cannot be read is not ours; whoever reads the log will say so.
        Ok(_) | Err(_) => None,
    }
}

fn unknown(proposals: &[Proposed<'_>], error: &ConsensusError) -> Vec<Known> {
    let known = proposals.iter().map(|_| Known::Unknown(error.clone()));
    known.collect()
}

fn store_trouble<E>(error: ConsensusError) -> CommandError<E> {
    CommandError::Store(StoreTrouble(error))
}

impl From<Outcome> for Known {
    fn from(outcome: Outcome) -> Self {
        match outcome {
            Outcome::Taken => Known::Taken,
            Outcome::Stale => Known::Stale,
        }
    }
}

#[cfg(test)]
mod tests;
