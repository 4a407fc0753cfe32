//! How long a store is waited for that does not answer.

use std::time::Duration;

use lowwater::{StorageError, StorageErrorKind};
use tokio::time::{Instant, sleep};

/// How long it is tried again before the program gives up: a database that is started anew is back
/// by then.
const PATIENCE: Duration = Duration::from_secs(20);

/// The first wait; doubled with every failure that follows.
const WAIT_MIN: Duration = Duration::from_millis(20);

/// The longest wait between two tries.
const WAIT_MAX: Duration = Duration::from_secs(1);

/// The patience with one request.
#[derive(Debug, Default)]
pub(crate) struct Patience {
    failures: u32,
    /// When it is over.
    over_at: Option<Instant>,
}

impl Patience {
    /// Waits a little, so that what has failed can be tried again.
    ///
    /// # Errors
    /// The error itself: if it will not pass, or if patience is over.
    pub(crate) async fn wait(&mut self, error: StorageError) -> Result<(), StorageError> {
        let now = Instant::now();
        let over_at = *self.over_at.get_or_insert(now + PATIENCE);
        let may_pass = match error.kind() {
            StorageErrorKind::Retry | StorageErrorKind::Reopen => true,
            StorageErrorKind::GiveUp | StorageErrorKind::Fenced { .. } => false,
        };
        if !may_pass || now >= over_at {
            return Err(error);
        }
        sleep((WAIT_MIN * (1 << self.failures.min(10))).min(WAIT_MAX)).await;
        self.failures += 1;
        Ok(())
    }
}

/// Tries `work` until it succeeds, fails in a way that does not pass, or patience is over.
///
/// # Errors
/// The last error of `work`.
pub(crate) async fn patiently<X>(
    mut work: impl AsyncFnMut() -> Result<X, StorageError>,
) -> Result<X, StorageError> {
    let mut patience = Patience::default();
    loop {
        match work().await {
            Ok(done) => return Ok(done),
            Err(error) => patience.wait(error).await?,
        }
    }
}

#[cfg(test)]
mod tests {
    use lowwater::Epoch;

    use super::*;

    fn trouble(kind: StorageErrorKind) -> StorageError {
        StorageError::new(kind, "no answer")
    }

    #[tokio::test(start_paused = true)]
    async fn what_passes_is_tried_again_and_what_does_not_is_told_at_once() {
        let mut tries = 0;
        let done = patiently(async || {
            tries += 1;
            match tries {
                1..=9 => Err(trouble(StorageErrorKind::Retry)),
                _ => Ok(tries),
            }
        });
        assert_eq!(done.await.unwrap(), 10);

        let begin = Instant::now();
        let by = Epoch::new(7);
        for kind in [StorageErrorKind::GiveUp, StorageErrorKind::Fenced { by }] {
            let failed = patiently(async || Err::<(), _>(trouble(kind)));
            assert_eq!(failed.await.unwrap_err().kind(), kind);
            assert_eq!(begin.elapsed(), Duration::ZERO, "{kind:?}");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn patience_ends() {
        let begin = Instant::now();
        let failed = patiently(async || Err::<(), _>(trouble(StorageErrorKind::Retry)));
        assert!(failed.await.is_err());
        assert!((PATIENCE..PATIENCE + 2 * WAIT_MAX).contains(&begin.elapsed()));
    }
}
