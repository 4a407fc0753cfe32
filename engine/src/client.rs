//! The two handles that any thread uses: [`Client`] for the engine, [`Collection`] for one
//! collection.

use std::fmt;
use std::sync::Arc;

use lowwater_queue::{PinError, read_all};
use timely::progress::Antichain;

use crate::command::{
    AcquireError, Command, CreateError, Description, DropError, LookupError, ReportError,
    SetPoliciesError, Start, StopReason, Target, Until, WaitError,
};
use crate::driver::Stats;
use crate::events::Events;
use crate::explanation::Explanation;
use crate::frontier::{Frontiers, Since, Time, Upper};
use crate::hold::ReadHold;
use crate::id::{CollectionId, Key, Ticket};
use crate::link::{Handle, Link};
use crate::message::{Answer, Message, Reply};
use crate::pending::Pending;
use crate::policy::ReadPolicy;
use crate::subscription::Subscription;

/// What any thread asks the engine with. Cheap to clone.
///
/// Holds and frontiers are had at once, without asking the owner thread. What has to be asked
/// returns a [`Pending`] answer; the owner thread answers when the turn that obeyed is over and its
/// outcome is visible to everybody.
///
/// Every command is checked as a whole and applied as a whole: refused, it changes nothing.
pub struct Client<I: CollectionId, T: Time> {
    link: Arc<Link<I, T>>,
}

impl<I: CollectionId, T: Time> Client<I, T> {
    pub(crate) fn new(link: Arc<Link<I, T>>) -> Self {
        Client { link }
    }

    /// Creates collections: all of the batch, or none.
    ///
    /// Dependencies may be in the batch, in any order. Where shards are named they are opened
    /// first; what the batch depends on is held meanwhile. The handles come in the order given.
    pub fn create(
        &self,
        batch: Vec<Description<I, T>>,
    ) -> Pending<Vec<Collection<I, T>>, CreateError<I, T>> {
        self.ask(Command::Create(batch), Reply::Created)
    }

    /// Gives collections up, all of them or none. Their holds and dependents keep them until the
    /// last one goes; they take no new ones. An id that is named twice is dropped once.
    pub fn drop_collections(&self, ids: Vec<I>) -> Pending<(), DropError<I>> {
        self.ask(Command::Drop(ids), Reply::Dropped)
    }

    /// Sets read policies, all of them or none; of several for one collection the last one wins.
    pub fn set_policies(
        &self,
        policies: Vec<(I, ReadPolicy<T>)>,
    ) -> Pending<(), SetPoliciesError<I>> {
        self.ask(Command::SetPolicies(policies), Reply::PoliciesSet)
    }

    /// Says how far collections are written: one, or many at once, which is one input to the
    /// engine and one turn.
    ///
    /// What is not later than what is known already is no news and no error: reports may come late,
    /// twice and out of order.
    pub fn report_uppers(&self, uppers: Vec<(I, Upper<T>)>) -> Pending<(), ReportError<I, T>> {
        self.ask(Command::ReportUppers(uppers), Reply::UppersReported)
    }

    /// The same by key, which spares the look-ups: for ticks of many collections. What is said of
    /// a collection that is gone is ignored.
    pub fn report(&self, uppers: Vec<(Key, Upper<T>)>) -> Pending<(), ReportError<I, T>> {
        self.ask(Command::ReportUppersByKey(uppers), Reply::UppersReported)
    }

    /// The handle of a collection that is there now, dropped ones that are still held included.
    /// Takes no lock and asks nobody.
    pub fn collection(&self, id: I) -> Option<Collection<I, T>> {
        let handle = self.link.directory.get(&id)?;
        Some(Collection::new(id, handle, &self.link))
    }

    /// Takes a hold at the implied capability of a collection. Never waits, and takes no lock.
    ///
    /// By [handle](Collection::acquire) it is faster still.
    ///
    /// # Errors
    ///
    /// There is no such collection, it was dropped, it has too many holds, or the engine has
    /// stopped.
    #[inline]
    pub fn acquire(&self, id: I) -> Result<ReadHold<I, T>, AcquireError<I, T>> {
        match self.link.directory.acquire(&id) {
            Some(Ok(pin)) => Ok(ReadHold::pinned(pin)),
            Some(Err(error)) => Err(self.not_pinned(id, error)),
            None => Err(self.not_found(id)),
        }
    }

    /// Takes holds on several collections, each at its own implied capability: all or none. A
    /// collection that is named twice is held twice.
    ///
    /// # Errors
    ///
    /// As for [`Client::acquire`], of the first collection that is refused.
    pub fn acquire_many(&self, ids: &[I]) -> Result<Vec<ReadHold<I, T>>, AcquireError<I, T>> {
        ids.iter().map(|id| self.acquire(*id)).collect()
    }

    /// Takes holds on several collections from `since` on: all or none.
    pub fn acquire_many_at(
        &self,
        ids: &[I],
        since: Since<T>,
    ) -> Pending<Vec<ReadHold<I, T>>, AcquireError<I, T>> {
        let wanted = ids
            .iter()
            .map(|id| (Target::Id(*id), Start::At(since.clone())))
            .collect();
        self.ask(Command::Acquire(wanted), Reply::Acquired)
    }

    /// Takes holds on several collections, each where it says: all or none.
    pub fn acquire_each(
        &self,
        wanted: Vec<(I, Start<T>)>,
    ) -> Pending<Vec<ReadHold<I, T>>, AcquireError<I, T>> {
        let wanted = wanted
            .into_iter()
            .map(|(id, start)| (Target::Id(id), start))
            .collect();
        self.ask(Command::Acquire(wanted), Reply::Acquired)
    }

    /// The frontiers of several collections as they were together at the end of one turn.
    ///
    /// They are read without asking; only where turns keep coming in between is the owner asked.
    pub fn frontiers(&self, ids: &[I]) -> Pending<Vec<Frontiers<T>>, LookupError<I>> {
        let found: Result<Vec<_>, _> = ids
            .iter()
            .map(|id| self.link.directory.get(id).ok_or(*id))
            .collect();
        match found {
            Ok(handles) => {
                let handles: Vec<_> = handles.iter().collect();
                match read_all(&handles, |view| view.frontiers.clone()) {
                    Some(frontiers) => Pending::ready(self.hotline(), Ok(frontiers)),
                    None => self.ask(Command::Frontiers(ids.to_vec()), Reply::Frontiers),
                }
            }
            Err(unknown) => Pending::ready(
                self.hotline(),
                Err(self
                    .stopped()
                    .map_or(LookupError::UnknownCollection(unknown), Into::into)),
            ),
        }
    }

    /// Who keeps a collection readable, and from when on each. The owner walks all collections
    /// for it: a question for people, not for a loop.
    pub fn explain(&self, id: I) -> Pending<Explanation<I, T>, LookupError<I>> {
        self.ask(Command::Explain(id), Reply::Explained)
    }

    /// Comes true when everything that this thread has sent before, dropped holds included, has
    /// taken effect and can be seen.
    ///
    /// Frontiers are read without asking, so they may be a moment older than what one has just done
    /// oneself: this is how to wait for it.
    pub fn sync(&self) -> Pending<(), StopReason> {
        self.tell(|reply| Message::Sync {
            again: false,
            reply,
        })
    }

    /// How the engine is doing: turns, inputs, the queue.
    pub fn stats(&self) -> Pending<Stats, StopReason> {
        self.tell(Message::Stats)
    }

    /// What happens without anybody having asked, from now on.
    pub fn events(&self) -> Events<I, T> {
        Events::new(self.clone())
    }

    /// Ends the engine: what was sent before is obeyed, wishes that are left are made durable
    /// within [`Config::stop_within`](crate::Config::stop_within), everybody who waits is
    /// answered. Holds that are left hold nothing any more, and are dropped as ever.
    pub fn stop(&self) -> Pending<(), StopReason> {
        self.tell(Message::Stop)
    }

    pub(crate) fn ask<R, E: From<StopReason>>(
        &self,
        command: Command<I, T>,
        reply: impl FnOnce(Answer<R, E>) -> Reply<I, T>,
    ) -> Pending<R, E> {
        ask(&self.link, command, reply)
    }

    /// As `tell`, of a request that waits until something happens.
    pub(crate) fn tell_when<R>(
        &self,
        message: impl FnOnce(Ticket, Answer<R, StopReason>) -> Message<I, T>,
    ) -> Pending<R, StopReason> {
        let ticket = Ticket(self.link.tickets.take());
        let (answer, coming) = oneshot::channel();
        match self.link.line().send(message(ticket, answer)) {
            Ok(()) => Pending::sent(self.hotline(), coming, Some(ticket)),
            Err(_) => Pending::ready(self.hotline(), Err(self.link.line().stop_reason())),
        }
    }

    fn tell<R>(
        &self,
        message: impl FnOnce(Answer<R, StopReason>) -> Message<I, T>,
    ) -> Pending<R, StopReason> {
        let (answer, coming) = oneshot::channel();
        match self.link.line().send(message(answer)) {
            Ok(()) => Pending::sent(self.hotline(), coming, None),
            Err(_) => Pending::ready(self.hotline(), Err(self.link.line().stop_reason())),
        }
    }

    fn hotline(&self) -> Arc<Link<I, T>> {
        Arc::clone(&self.link)
    }

    fn stopped(&self) -> Option<StopReason> {
        self.link.line().stopped.get().copied()
    }

    #[cold]
    fn not_found(&self, id: I) -> AcquireError<I, T> {
        self.stopped()
            .map_or(AcquireError::UnknownCollection(id), AcquireError::Stopped)
    }

    #[cold]
    fn not_pinned(&self, id: I, error: PinError) -> AcquireError<I, T> {
        not_pinned(&self.link, id, error)
    }
}

fn ask<I: CollectionId, T: Time, R, E: From<StopReason>>(
    link: &Arc<Link<I, T>>,
    command: Command<I, T>,
    reply: impl FnOnce(Answer<R, E>) -> Reply<I, T>,
) -> Pending<R, E> {
    let ticket = Ticket(link.tickets.take());
    let waits = matches!(command, Command::Wait(..));
    let (answer, coming) = oneshot::channel();
    let hotline = Arc::clone(link);
    match link.line().send(Message::Command {
        ticket,
        command,
        reply: reply(answer),
    }) {
        Ok(()) => Pending::sent(hotline, coming, waits.then_some(ticket)),
        Err(_) => Pending::ready(hotline, Err(link.line().stop_reason().into())),
    }
}

#[cold]
fn not_pinned<I: CollectionId, T: Time>(
    link: &Link<I, T>,
    id: I,
    error: PinError,
) -> AcquireError<I, T> {
    match (error, link.line().stopped.get()) {
        (PinError::TooManyPins, _) => AcquireError::TooManyHolds(id),
        (PinError::Closed, Some(reason)) => AcquireError::Stopped(*reason),
        (PinError::Closed, None) => AcquireError::Dropped(id),
    }
}

impl<I: CollectionId, T: Time> Clone for Client<I, T> {
    fn clone(&self) -> Self {
        Client {
            link: Arc::clone(&self.link),
        }
    }
}

impl<I: CollectionId, T: Time> fmt::Debug for Client<I, T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Client").finish_non_exhaustive()
    }
}

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

    /// Names this incarnation, for [`Client::report`].
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
