//! Being put in charge of a store.

use crate::consensus::{Consensus, ConsensusError, Fence, Fenced};
use crate::id::{Epoch, Incarnation};

/// How often it is tried to be put in charge: when others start at the same time, and when answers
/// are lost.
const TRIES: u32 = 32;

/// Why nobody was put in charge, or is not known to have been.
#[derive(Clone, Debug, thiserror::Error)]
pub enum TakeOverError {
    /// Another controller is, with a higher epoch, or with the same.
    #[error(transparent)]
    Fenced(#[from] Fenced),
    /// There is no epoch after the one in charge.
    #[error("epochs have run out")]
    Exhausted,
    /// The store has failed.
    #[error(transparent)]
    Store(#[from] ConsensusError),
}

/// Who is in charge now, and who was before.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TakenOver {
    /// Who was in charge before, if anybody was.
    pub previous: Option<Fence>,
    /// Who is now.
    pub fence: Fence,
}

/// Puts a new incarnation in charge of a store, in one write: with the epoch given, or else with the
/// one after that which is there.
///
/// # Errors
///
/// If somebody with a higher epoch is in charge, or with the one given, or the store fails.
///
/// # Durability
///
/// When this returns, it has survived a crash: the epoch is allotted to nobody else.
pub async fn take_over(
    store: &dyn Consensus,
    epoch: Option<Epoch>,
) -> Result<TakenOver, TakeOverError> {
    take_over_as(store, epoch, Incarnation::random()).await
}

/// The same, as this incarnation: one that was put in charge with the epoch given is so again.
pub(super) async fn take_over_as(
    store: &dyn Consensus,
    epoch: Option<Epoch>,
    incarnation: Incarnation,
) -> Result<TakenOver, TakeOverError> {
    let mut tries = 0;
    loop {
        let previous = store.fence().await?;
        let fence = Fence {
            epoch: match epoch {
                Some(epoch) => epoch,
                None => next(previous)?,
            },
            incarnation,
        };
        tries += 1;
        match insist(store, fence).await? {
            Ok(()) => return Ok(TakenOver { previous, fence }),
            // Somebody else was faster. With the next epoch we come after him.
            Err(_) if epoch.is_none() && tries < TRIES => {}
            Err(fenced) => return Err(fenced.into()),
        }
    }
}

fn next(previous: Option<Fence>) -> Result<Epoch, TakeOverError> {
    let number = previous.map_or(0, |fence| fence.epoch.number());
    let number = number.checked_add(1).ok_or(TakeOverError::Exhausted)?;
    Ok(Epoch::new(number))
}

/// Asks again where the answer was lost: with the same fence that does no harm.
async fn insist(store: &dyn Consensus, fence: Fence) -> Result<Result<(), Fenced>, ConsensusError> {
    let mut tries = 0;
    loop {
        match store.take_over(fence).await {
            Err(error) if !error.is_determinate() && tries < TRIES => tries += 1,
            outcome => return outcome,
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::consensus::MemoryConsensus;

    fn run<X>(future: impl Future<Output = X>) -> X {
        let runtime = tokio::runtime::Builder::new_current_thread();
        let runtime = { runtime }.enable_all().build().unwrap();
        runtime.block_on(future)
    }

    fn epoch(number: u64) -> Option<Epoch> {
        Some(Epoch::new(number))
    }

    #[test]
    fn each_start_is_allotted_the_next_epoch() {
        run(async {
            let store = MemoryConsensus::new();
            let first = take_over(&store, None).await.unwrap();
            assert_eq!(first.previous, None);
            assert_eq!(first.fence.epoch, Epoch::new(1));
            let second = take_over(&store, None).await.unwrap();
            assert_eq!(second.previous, Some(first.fence));
            assert_eq!(second.fence.epoch, Epoch::new(2));
            assert_ne!(second.fence.incarnation, first.fence.incarnation);
            assert_eq!(store.fence().await.unwrap(), Some(second.fence));
        });
    }

    #[test]
    fn an_epoch_that_was_given_is_refused_to_another_incarnation_with_it_and_to_lower_ones() {
        run(async {
            let store = MemoryConsensus::new();
            let taken = take_over(&store, epoch(7)).await.unwrap();
            for given in [6, 7] {
                let refused = take_over(&store, epoch(given)).await.unwrap_err();
                let by = Some(taken.fence);
                assert!(matches!(refused, TakeOverError::Fenced(fenced) if fenced.by == by));
            }
            let next = take_over(&store, None).await.unwrap();
            assert_eq!(next.fence.epoch, Epoch::new(8));
        });
    }

    #[test]
    fn those_who_start_together_have_epochs_of_their_own() {
        run(async {
            let store = Arc::new(MemoryConsensus::new());
            let mut starts = tokio::task::JoinSet::new();
            for _ in 0..20 {
                let store = Arc::clone(&store);
                starts.spawn(async move { take_over(&*store, None).await });
            }
            let mut epochs = Vec::new();
            while let Some(started) = starts.join_next().await {
                epochs.push(started.unwrap().unwrap().fence.epoch.number());
            }
            epochs.sort_unstable();
            assert_eq!(epochs, (1..=20).collect::<Vec<_>>());
        });
    }

    #[test]
    fn after_the_last_epoch_there_is_none() {
        run(async {
            let store = MemoryConsensus::new();
            let _ = take_over(&store, epoch(u64::MAX)).await.unwrap();
            let refused = take_over(&store, None).await.unwrap_err();
            assert!(matches!(refused, TakeOverError::Exhausted));
        });
    }
}
