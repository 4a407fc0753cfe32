//! What happens without anybody having asked.

use std::time::Duration;

use crate::client::Client;
use crate::command::StopReason;
use crate::driver::Noted;
use crate::effect::Event;
use crate::frontier::Time;
use crate::id::CollectionId;
use crate::message::Message;
use crate::pending::Pending;

/// What happens without anybody having asked, one after the other.
///
/// It begins with the oldest that is still kept. The engine keeps the last
/// [`EVENTS_MAX`](crate::EVENTS_MAX): who comes later than that hears how many were missed.
#[derive(Debug)]
pub struct Events<I: CollectionId, T: Time> {
    client: Client<I, T>,
    /// The number of the next one to hear.
    next: u64,
}

/// An event, and how many before it came too fast.
#[derive(Clone, Debug)]
pub struct Heard<I, T> {
    /// What happened.
    pub event: Event<I, T>,
    /// How many events were missed since the last one heard.
    pub missed: u64,
}

impl<I: CollectionId, T: Time> Events<I, T> {
    pub(crate) fn new(client: Client<I, T>) -> Self {
        Events { client, next: 0 }
    }

    /// Waits for the next one. Dropping the future loses nothing.
    ///
    /// # Errors
    ///
    /// The engine has stopped.
    pub async fn next(&mut self) -> Result<Heard<I, T>, StopReason> {
        let noted = self.ask().await?;
        Ok(self.hear(noted))
    }

    /// Blocks this thread until the next one.
    ///
    /// # Errors
    ///
    /// The engine has stopped.
    pub fn wait(&mut self) -> Result<Heard<I, T>, StopReason> {
        let noted = self.ask().wait()?;
        Ok(self.hear(noted))
    }

    /// Blocks this thread until the next one, but not longer than `timeout`: then there is none.
    ///
    /// # Errors
    ///
    /// The engine has stopped.
    pub fn wait_timeout(&mut self, timeout: Duration) -> Result<Option<Heard<I, T>>, StopReason> {
        match self.ask().wait_timeout(timeout) {
            Ok(noted) => noted.map(|noted| Some(self.hear(noted))),
            Err(_pending) => Ok(None),
        }
    }

    fn ask(&self) -> Pending<Noted<I, T>, StopReason> {
        let from = self.next;
        self.client.tell_when(|ticket, reply| Message::Event {
            ticket,
            from,
            reply,
        })
    }

    fn hear(&mut self, noted: Noted<I, T>) -> Heard<I, T> {
        let Noted { number, event } = noted;
        let missed = number - self.next;
        self.next = number + 1;
        Heard { event, missed }
    }
}
