//! What any thread asks the engine with.

use std::fmt;
use std::sync::Arc;

use lowwater_queue::{PinError, read_all};

use crate::collection::Collection;
use crate::command::{
    AcquireError, Command, CreateError, Description, DropError, LookupError, ReportError,
    SetPoliciesError, Start, StopError, StopReason, Target,
};
use crate::driver::{Metrics, Parameters, Stats};
use crate::events::Events;
use crate::explanation::Explanation;
use crate::frontier::{Frontiers, Since, Time, Upper};
use crate::hold::ReadHold;
use crate::id::{CollectionId, Key, ShardId, Ticket};
use crate::link::Link;
use crate::message::{Answer, Message, Reply};
use crate::pending::Pending;
use crate::policy::ReadPolicy;

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

    /// How many holds each of these collections has by now, in the order asked: pins, and those that
    /// were moved or taken by asking; revoked ones too, until they are dropped. None for what is not
    /// there.
    pub fn holds(&self, ids: Vec<I>) -> Pending<Vec<Option<u64>>, StopReason> {
        self.ask(Command::Holds(ids), Reply::Holds)
    }

    /// Checks a batch as [creating](Client::create) it does before shards are opened, and does nothing
    /// with it: for who has something to do first that cannot be undone. When it is created it is
    /// checked again.
    pub fn check(&self, descriptions: Vec<Description<I, T>>) -> Pending<(), CreateError<I, T>> {
        self.ask(Command::Check(descriptions), Reply::Checked)
    }

    /// Keeps shards for others who need them and are not here: owners that are known and not created
    /// yet, for example. Until it is [let go](Client::free_shards), the since of such a shard stays
    /// where it is planned now, or else where it is found; when the last collection on it goes, it is
    /// not given up; and a collection that is created on it begins where it was kept. The sinces of
    /// collections move as ever. Takes effect without being waited for, before what is asked later.
    pub fn keep_shards(&self, shards: Vec<ShardId>) -> Pending<(), StopReason> {
        self.ask(Command::KeepShards(shards), Reply::ShardsKept)
    }

    /// Keeps shards no more: their sinces move to what is planned, and those that were left by all
    /// are given up.
    pub fn free_shards(&self, shards: Vec<ShardId>) -> Pending<(), StopReason> {
        self.ask(Command::FreeShards(shards), Reply::ShardsKept)
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

    /// How the engine is doing: figures that any thread reads at once, without asking the owner.
    pub fn metrics(&self) -> Metrics {
        let line = self.link.line();
        line.gauges.read(line.queue.depth())
    }

    /// How the engine is doing, as the owner says it: with each length of a turn.
    pub fn stats(&self) -> Pending<Stats, StopReason> {
        self.tell(Message::Stats)
    }

    /// What happens without anybody having asked, from now on.
    pub fn events(&self) -> Events<I, T> {
        Events::new(self.clone())
    }

    /// Changes how the engine runs. Holds when the answer is there.
    pub fn change(&self, parameters: Parameters) -> Pending<(), StopReason> {
        self.tell(|reply| Message::Change(parameters, reply))
    }

    /// Ends the engine: what was sent before is obeyed, wishes that are left are made durable
    /// within [`Config::stop_within`](crate::Config::stop_within), everybody who waits is
    /// answered. Holds that are left hold nothing any more, and are dropped as ever.
    pub fn stop(&self) -> Pending<(), StopError> {
        self.tell(Message::Stop)
    }

    /// Why the engine takes no requests any more; none while it does.
    pub fn stopped(&self) -> Option<StopReason> {
        self.link.line().stopped()
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

    fn tell<R, E: From<StopReason>>(
        &self,
        message: impl FnOnce(Answer<R, E>) -> Message<I, T>,
    ) -> Pending<R, E> {
        let (answer, coming) = oneshot::channel();
        match self.link.line().send(message(answer)) {
            Ok(()) => Pending::sent(self.hotline(), coming, None),
            Err(_) => Pending::ready(self.hotline(), Err(self.link.line().stop_reason().into())),
        }
    }

    fn hotline(&self) -> Arc<Link<I, T>> {
        Arc::clone(&self.link)
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

pub(crate) fn ask<I: CollectionId, T: Time, R, E: From<StopReason>>(
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
pub(crate) fn not_pinned<I: CollectionId, T: Time>(
    link: &Link<I, T>,
    id: I,
    error: PinError,
) -> AcquireError<I, T> {
    match (error, link.line().stopped()) {
        (PinError::TooManyPins, _) => AcquireError::TooManyHolds(id),
        (PinError::Closed, Some(reason)) => AcquireError::Stopped(reason),
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
