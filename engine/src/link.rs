//! What the owner thread and everybody else share.

use std::sync::{Arc, OnceLock, Weak};

use lowwater_queue::{Directory, Sender, Sequence, Shape};

use crate::command::StopReason;
use crate::driver::{Bell, Gauges};
use crate::frontier::{Frontiers, Since, Time};
use crate::id::{CollectionId, Epoch, Key, Ticket};
use crate::message::Message;

/// The types that pins and published views are made of here.
pub(crate) struct Shared<I, T>(std::marker::PhantomData<fn() -> (I, T)>);

/// What a pin on a collection keeps.
#[derive(Debug)]
pub(crate) struct Capability<I, T> {
    pub(crate) id: I,
    pub(crate) key: Key,
    pub(crate) since: Since<T>,
}

/// What is published of a collection.
#[derive(Debug)]
pub(crate) struct View<T> {
    pub(crate) key: Key,
    pub(crate) frontiers: Frontiers<T>,
}

impl<I: CollectionId, T: Time> Shape for Shared<I, T> {
    type Capability = Capability<I, T>;
    type View = View<T>;
    type Context = Arc<Line<I, T>>;

    fn freed(freed: Freed<I, T>) {
        let table = Arc::clone(freed.table());
        // Refused: the engine is no more, and the cell goes with the table.
        let _ = table.context().queue.send(Message::Freed(freed));
    }
}

pub(crate) type Table<I, T> = lowwater_queue::Table<Shared<I, T>>;
pub(crate) type Handle<I, T> = lowwater_queue::Handle<Shared<I, T>>;
pub(crate) type Pin<I, T> = lowwater_queue::Pin<Shared<I, T>>;
pub(crate) type Freed<I, T> = lowwater_queue::Freed<Shared<I, T>>;

/// The line to the owner thread.
pub(crate) struct Line<I: CollectionId, T: Time> {
    pub(crate) queue: Sender<Message<I, T>, Bell>,
    /// Why the engine takes no more requests: set before it begins to refuse them.
    stopped: OnceLock<StopReason>,
    /// Who else is in charge of the storage: then this is the reason, also where the engine was
    /// stopping already.
    fenced_by: OnceLock<Epoch>,
    pub(crate) gauges: Gauges,
    /// The way back to collections, for holds that are counted: they have nothing but the line.
    link: OnceLock<Weak<Link<I, T>>>,
}

impl<I: CollectionId, T: Time> Line<I, T> {
    pub(crate) fn new(queue: Sender<Message<I, T>, Bell>, gauges: Gauges) -> Self {
        Line {
            queue,
            stopped: OnceLock::new(),
            fenced_by: OnceLock::new(),
            gauges,
            link: OnceLock::new(),
        }
    }

    /// There is a way to find collections.
    pub(crate) fn leads_to(&self, link: &Arc<Link<I, T>>) {
        // Set once, by the engine that made both.
        let _ = self.link.set(Arc::downgrade(link));
    }

    /// From when on this incarnation of a collection can be read, as was published last; none if it
    /// is not there any more.
    pub(crate) fn since_of(&self, id: I, key: Key) -> Option<Since<T>> {
        let link = self.link.get()?.upgrade()?;
        let shown = link.directory.with(&id, |handle| {
            handle.read(|view| (view.key == key).then(|| view.frontiers.since.clone()))
        });
        shown.flatten()
    }

    /// Takes no more requests, for this reason unless there was one before.
    pub(crate) fn stop(&self, reason: StopReason) {
        if let StopReason::Fenced { by } = reason {
            let _ = self.fenced_by.set(by);
        }
        let _ = self.stopped.set(reason);
    }

    /// Who else is in charge of the storage.
    pub(crate) fn fenced_by(&self) -> Option<Epoch> {
        self.fenced_by.get().copied()
    }

    /// Why no requests are taken any more; none while they are.
    pub(crate) fn stopped(&self) -> Option<StopReason> {
        let reason = self.stopped.get()?;
        Some(match self.fenced_by() {
            Some(by) => StopReason::Fenced { by },
            None => *reason,
        })
    }

    /// # Errors
    ///
    /// Why the engine takes no more requests.
    pub(crate) fn check(&self) -> Result<(), StopReason> {
        match self.stopped.get() {
            None => Ok(()),
            Some(_) => Err(self.stop_reason()),
        }
    }

    /// Sends, unless the engine has stopped; then the message comes back.
    pub(crate) fn send(&self, message: Message<I, T>) -> Result<(), Message<I, T>> {
        match self.check() {
            Ok(()) => self.queue.send(message).map_err(|closed| closed.0),
            Err(_) => Err(message),
        }
    }

    /// Why a message was refused, or an answer never came.
    pub(crate) fn stop_reason(&self) -> StopReason {
        self.stopped().unwrap_or(StopReason::Stopped)
    }
}

/// What a client needs: the line, through the table, and the way to find collections.
pub(crate) struct Link<I: CollectionId, T: Time> {
    pub(crate) table: Arc<Table<I, T>>,
    pub(crate) directory: Directory<I, Shared<I, T>>,
    pub(crate) tickets: Sequence,
}

impl<I: CollectionId, T: Time> Link<I, T> {
    pub(crate) fn line(&self) -> &Arc<Line<I, T>> {
        self.table.context()
    }
}

/// What a request that waits for its answer needs of the line.
pub(crate) trait Hotline: Send + Sync {
    fn stop_reason(&self) -> StopReason;
    fn cancel(&self, ticket: Ticket);
}

impl<I: CollectionId, T: Time> Hotline for Link<I, T> {
    fn stop_reason(&self) -> StopReason {
        self.line().stop_reason()
    }

    fn cancel(&self, ticket: Ticket) {
        // Refused: nobody keeps the request any more.
        let _ = self.line().queue.send(Message::Cancelled(ticket));
    }
}
