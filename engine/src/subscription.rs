//! A collection's frontiers as they change.

use std::time::Duration;

use crate::collection::Collection;
use crate::command::{Until, WaitError};
use crate::frontier::{Frontiers, Time};
use crate::id::CollectionId;

/// A collection's frontiers as they change.
///
/// Each call gives the latest state that was not given before, at once or when there is one; what
/// came in between is skipped, so a slow subscriber costs nothing and never falls behind. The first
/// call gives the state as it is. After the state whose since is empty comes [`WaitError::Gone`].
#[derive(Debug)]
pub struct Subscription<I: CollectionId, T: Time> {
    collection: Collection<I, T>,
    /// The version that was given last.
    seen: Option<u64>,
}

impl<I: CollectionId, T: Time> Subscription<I, T> {
    pub(crate) fn new(collection: Collection<I, T>) -> Self {
        Subscription {
            collection,
            seen: None,
        }
    }

    /// Waits for the next change. Dropping the future loses nothing.
    ///
    /// # Errors
    ///
    /// The collection is gone, or the engine has stopped.
    pub async fn changed(&mut self) -> Result<Frontiers<T>, WaitError> {
        let frontiers = match self.here() {
            Some(frontiers) => frontiers,
            None => self.collection.wait(self.until()).await?,
        };
        self.seen = Some(frontiers.version);
        Ok(frontiers)
    }

    /// Blocks this thread until the next change.
    ///
    /// # Errors
    ///
    /// As [`Subscription::changed`].
    pub fn wait(&mut self) -> Result<Frontiers<T>, WaitError> {
        let frontiers = match self.here() {
            Some(frontiers) => frontiers,
            None => self.collection.wait(self.until()).wait()?,
        };
        self.seen = Some(frontiers.version);
        Ok(frontiers)
    }

    /// Blocks this thread until the next change, but not longer than `timeout`: then there is none.
    ///
    /// # Errors
    ///
    /// As [`Subscription::changed`].
    pub fn wait_timeout(&mut self, timeout: Duration) -> Result<Option<Frontiers<T>>, WaitError> {
        let frontiers = match self.here() {
            Some(frontiers) => frontiers,
            None => match self.collection.wait(self.until()).wait_timeout(timeout) {
                Ok(answer) => answer?,
                Err(_pending) => return Ok(None),
            },
        };
        self.seen = Some(frontiers.version);
        Ok(Some(frontiers))
    }

    /// The state as it is, if none was given yet.
    fn here(&self) -> Option<Frontiers<T>> {
        self.seen.is_none().then(|| self.collection.frontiers())
    }

    fn until(&self) -> Until<T> {
        Until::ChangedAfter(self.seen.unwrap_or_default())
    }
}
