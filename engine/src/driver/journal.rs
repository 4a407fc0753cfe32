//! The events of late, for those who ask.

use std::collections::VecDeque;

use crate::command::StopReason;
use crate::effect::Event;
use crate::id::Ticket;
use crate::message::Answer;

/// How many events are kept for those who have not heard them yet.
pub const EVENTS_MAX: usize = 1_024;

/// An event and its number, from 0.
#[derive(Clone, Debug)]
pub(crate) struct Noted<I, T> {
    pub(crate) number: u64,
    pub(crate) event: Event<I, T>,
}

/// The last events, and who waits for the next one.
pub(super) struct Journal<I, T> {
    events: VecDeque<Event<I, T>>,
    /// How many events were noted so far.
    noted: u64,
    waiting: Vec<Listener<I, T>>,
}

type Listener<I, T> = (Ticket, Answer<Noted<I, T>, StopReason>);

impl<I: Clone, T: Clone> Journal<I, T> {
    pub(super) fn new() -> Self {
        Journal {
            events: VecDeque::new(),
            noted: 0,
            waiting: Vec::new(),
        }
    }

    pub(super) fn note(&mut self, event: Event<I, T>) {
        for (_, reply) in self.waiting.drain(..) {
            let _ = reply.send(Ok(Noted {
                number: self.noted,
                event: event.clone(),
            }));
        }
        if self.events.len() == EVENTS_MAX {
            self.events.pop_front();
        }
        self.events.push_back(event);
        self.noted += 1;
    }

    /// Answers with the first event from number `from` on, at once or when there is one.
    pub(super) fn ask(
        &mut self,
        ticket: Ticket,
        from: u64,
        reply: Answer<Noted<I, T>, StopReason>,
    ) {
        let oldest = self.noted - self.events.len() as u64;
        let number = from.max(oldest);
        match self.events.get((number - oldest) as usize) {
            Some(event) => {
                let _ = reply.send(Ok(Noted {
                    number,
                    event: event.clone(),
                }));
            }
            None => self.waiting.push((ticket, reply)),
        }
    }

    /// Whoever waits hears that there will be nothing more.
    pub(super) fn abandon(&mut self) {
        self.waiting.clear();
    }

    pub(super) fn cancel(&mut self, ticket: Ticket) {
        self.waiting.retain(|(waiting, _)| *waiting != ticket);
    }
}
