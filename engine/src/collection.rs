//! The handle of one collection.

use std::fmt;
use std::sync::Arc;

use timely::progress::Antichain;

use crate::client::{ask, not_pinned};
use crate::command::{AcquireError, Command, Start, Target, Until, WaitError};
use crate::frontier::{Frontiers, Since, Time, Upper};
use crate::hold::ReadHold;
use crate::id::{CollectionId, Key};
use crate::link::{Handle, Link};
use crate::message::Reply;
use crate::pending::Pending;
use crate::subscription::Subscription;

/// The handle of one incarnation of a collection. Cheap to clone; it holds nothing readable.
pub struct Collection<I: CollectionId, T: Time> {
    id: I,
    handle: Handle<I, T>,
    link: Arc<Link<I, T>>,
}

impl<I: CollectionId, T: Time> Collection<I, T> {
    pub(crate) fn new(id: I, handle: Handle<I, T>, link: &Arc<Link<I, T>>) -> Self {
        Collection {
            id,
            handle,
            link: Arc::clone(link),
        }
    }

    /// The id of the collection.
    pub fn id(&self) -> I {
        self.id
    }

    /// Names this incarnation, for [`Client::report`](crate::Client::report).
    pub fn key(&self) -> Key {
        self.handle.read(|view| view.key)
    }

    /// Takes a hold at the implied capability: what the collection's own policy keeps. Never
    /// waits, takes no lock.
    ///
    /// Readers that overlap without a gap do not keep the since back this way: each starts where
    /// the policy is by then.
    ///
    /// # Errors
    ///
    /// The collection was dropped, it has too many holds, or the engine has stopped.
    #[inline]
    pub fn acquire(&self) -> Result<ReadHold<I, T>, AcquireError<I, T>> {
        match self.handle.acquire() {
            Ok(pin) => Ok(ReadHold::pinned(pin)),
            Err(error) => Err(not_pinned(&self.link, self.id, error)),
        }
    }

    /// Takes a hold from `since` on: at once where the implied capability is not later, else by
    /// asking the owner, who knows whether anybody still keeps it readable.
    pub fn acquire_at(&self, since: Since<T>) -> Pending<ReadHold<I, T>, AcquireError<I, T>> {
        if let Ok(mut hold) = self.acquire()
            && hold.downgrade(since.clone()).is_ok()
        {
            return Pending::ready(self.hotline(), Ok(hold));
        }
        self.acquire_by_asking(Start::At(since))
    }

    /// Takes a hold at the since itself: the earliest that somebody still keeps readable, so that a
    /// second party gets what the first one has.
    ///
    /// Holds that start here and overlap keep the since where it is for ever. Where the exact time
    /// does not matter, [`Collection::acquire`] does not.
    pub fn acquire_earliest(&self) -> Pending<ReadHold<I, T>, AcquireError<I, T>> {
        self.acquire_by_asking(Start::Earliest)
    }

    fn acquire_by_asking(&self, start: Start<T>) -> Pending<ReadHold<I, T>, AcquireError<I, T>> {
        let wanted = vec![(Target::Key(self.id, self.key()), start)];
        ask(&self.link, Command::Acquire(wanted), Reply::AcquiredOne)
    }

    /// What was published last, all of it of one instant. Asks nobody; after the collection is
    /// gone, or the engine has stopped, how it was last.
    pub fn frontiers(&self) -> Frontiers<T> {
        self.handle.read(|view| view.frontiers.clone())
    }

    /// How far the collection is written.
    pub fn upper(&self) -> Upper<T> {
        self.handle.read(|view| view.frontiers.upper.clone())
    }

    /// The planned since: from when on the collection can be read.
    pub fn since(&self) -> Since<T> {
        self.handle.read(|view| view.frontiers.since.clone())
    }

    /// What the collection's own policy keeps readable.
    pub fn implied(&self) -> Since<T> {
        self.handle.read(|view| view.frontiers.implied.clone())
    }

    /// The since that is durable: only what is before it may be deleted.
    pub fn durable_since(&self) -> Since<T> {
        self.handle
            .read(|view| view.frontiers.durable_since.clone())
    }

    /// Comes true when everything at the times of `frontier` is written: when no element of the
    /// upper is `≤` an element of it. Past the empty frontier is refused at once.
    pub fn wait_for_upper_past(
        &self,
        frontier: impl IntoIterator<Item = T>,
    ) -> Pending<Frontiers<T>, WaitError> {
        self.wait(Until::UpperPast(
            frontier.into_iter().collect::<Antichain<T>>(),
        ))
    }

    /// Comes true when nothing at the times of `frontier` can be read any more: when no element of
    /// the planned since is `≤` an element of it. Past the empty frontier is refused at once.
    pub fn wait_for_since_past(
        &self,
        frontier: impl IntoIterator<Item = T>,
    ) -> Pending<Frontiers<T>, WaitError> {
        self.wait(Until::SincePast(
            frontier.into_iter().collect::<Antichain<T>>(),
        ))
    }

    /// The collection's frontiers as they change: always the latest, none of them twice.
    pub fn subscribe(&self) -> Subscription<I, T> {
        Subscription::new(self.clone())
    }

    pub(crate) fn wait(&self, until: Until<T>) -> Pending<Frontiers<T>, WaitError> {
        if !until.is_never()
            && let Some(frontiers) = self
                .handle
                .read(|view| until.holds(&view.frontiers).then(|| view.frontiers.clone()))
        {
            return Pending::ready(self.hotline(), Ok(frontiers));
        }
        ask(&self.link, Command::Wait(self.key(), until), Reply::Waited)
    }

    fn hotline(&self) -> Arc<Link<I, T>> {
        Arc::clone(&self.link)
    }
}

impl<I: CollectionId, T: Time> Clone for Collection<I, T> {
    fn clone(&self) -> Self {
        Collection {
            id: self.id,
            handle: self.handle.clone(),
            link: Arc::clone(&self.link),
        }
    }
}

impl<I: CollectionId, T: Time> fmt::Debug for Collection<I, T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Collection")
            .field("id", &self.id)
            .finish_non_exhaustive()
    }
}
