//! Who asked what, until it is answered.

use std::collections::HashMap;
use std::sync::Arc;

use crate::effect;
use crate::frontier::Time;
use crate::hold::ReadHold;
use crate::id::{CollectionId, Ticket};
use crate::link::Line;
use crate::message::Reply;

use super::board::Board;

/// Requests that the state has not answered yet.
pub(super) struct Replies<I: CollectionId, T: Time> {
    waiting: HashMap<Ticket, Reply<I, T>>,
    line: Arc<Line<I, T>>,
}

impl<I: CollectionId, T: Time> Replies<I, T> {
    pub(super) fn new(line: Arc<Line<I, T>>) -> Self {
        Replies {
            waiting: HashMap::new(),
            line,
        }
    }

    pub(super) fn expect(&mut self, ticket: Ticket, reply: Reply<I, T>) {
        self.waiting.insert(ticket, reply);
    }

    /// Whoever still waits hears that the engine has stopped.
    pub(super) fn abandon(&mut self) {
        self.waiting.clear();
    }

    pub(super) fn cancel(&mut self, ticket: Ticket) {
        self.waiting.remove(&ticket);
    }

    /// Sends an answer to whoever asked. What nobody takes any more is dropped, and so released.
    pub(super) fn answer(
        &mut self,
        ticket: Ticket,
        answer: effect::Answer<I, T>,
        board: &Board<I, T>,
    ) {
        use effect::Answer;
        let Some(reply) = self.waiting.remove(&ticket) else {
            // Cancelled. What was granted is released.
            if let Answer::Acquired(Ok(granted)) = answer {
                granted
                    .into_iter()
                    .for_each(|granted| drop(self.hold(granted)));
            }
            return;
        };
        match (reply, answer) {
            (Reply::Created(reply), Answer::Created(outcome)) => {
                tracing::debug!(?outcome, "created");
                let handle = |(id, key)| board.collection(id, key);
                let _ = reply.send(outcome.map(|all| all.into_iter().map(handle).collect()));
            }
            (Reply::Acquired(reply), Answer::Acquired(outcome)) => {
                let outcome =
                    outcome.map(|all| all.into_iter().map(|granted| self.hold(granted)).collect());
                let _ = reply.send(outcome);
            }
            (Reply::AcquiredOne(reply), Answer::Acquired(outcome)) => {
                let outcome = outcome
                    .map(|mut all| self.hold(all.pop().expect("one was asked for, and granted")));
                let _ = reply.send(outcome);
            }
            (Reply::Dropped(reply), Answer::Dropped(outcome)) => {
                tracing::debug!(?outcome, "dropped");
                drop(reply.send(outcome));
            }
            (Reply::PoliciesSet(reply), Answer::PoliciesSet(outcome)) => drop(reply.send(outcome)),
            (Reply::UppersReported(reply), Answer::UppersReported(outcome)) => {
                drop(reply.send(outcome));
            }
            (Reply::Waited(reply), Answer::Waited(outcome)) => drop(reply.send(outcome)),
            (Reply::Frontiers(reply), Answer::Frontiers(outcome)) => drop(reply.send(outcome)),
            (Reply::Explained(reply), Answer::Explained(outcome)) => drop(reply.send(outcome)),
            (Reply::Holds(reply), Answer::Holds(holds)) => drop(reply.send(Ok(holds))),
            (Reply::Checked(reply), Answer::Checked(outcome)) => drop(reply.send(outcome)),
            (Reply::ShardsKept(reply), Answer::ShardsKept) => drop(reply.send(Ok(()))),
            (_, answer) => unreachable!("{answer:?} answers something else than was asked"),
        }
    }

    fn hold(&self, granted: effect::Granted<I, T>) -> ReadHold<I, T> {
        let effect::Granted { id, key, since } = granted;
        ReadHold::counted(id, key, since, Arc::clone(&self.line))
    }
}
