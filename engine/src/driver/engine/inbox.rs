//! What comes out of the queue: each message becomes inputs of the state, or an answer.

use crate::frontier::Time;
use crate::hold::Token;
use crate::id::CollectionId;
use crate::input::{HoldChange, Input};
use crate::message::Message;

use super::Engine;
use crate::driver::Stats;

impl<I: CollectionId, T: Time> Engine<I, T> {
    pub(super) fn take_inputs(&mut self) -> u64 {
        let before = self.receiver.received();
        for _ in 0..self.config.turn_inputs_max.max(1) {
            let Some(message) = self.receiver.pop() else {
                break;
            };
            self.receive(message);
        }
        self.receiver.received() - before
    }

    pub(super) fn receive(&mut self, message: Message<I, T>) {
        match message {
            Message::Command {
                ticket,
                command,
                reply,
            } => {
                self.replies.expect(ticket, reply);
                self.apply(Input::Command { ticket, command });
            }
            Message::Cancelled(ticket) => {
                self.replies.cancel(ticket);
                self.journal.cancel(ticket);
                self.apply(Input::Cancelled(ticket));
            }
            Message::Moved { key, from, to } => {
                // Counted first: only then do the tokens let go, of what they held until now.
                self.apply(Input::Held(HoldChange {
                    key,
                    acquired: Some(to),
                    released: None,
                }));
                from.into_iter().for_each(|token| self.let_go(token));
            }
            Message::Cloned { key, since } => {
                self.apply(Input::Held(HoldChange {
                    key,
                    acquired: Some(since),
                    released: None,
                }));
            }
            Message::Released { key, since } => {
                self.apply(Input::Held(HoldChange {
                    key,
                    acquired: None,
                    released: Some(since),
                }));
            }
            Message::Freed(freed) => {
                let cell = self.board.reclaim(freed);
                self.apply(Input::CellFreed(cell));
            }
            Message::Sync {
                again: false,
                reply,
            } => {
                let again = Message::Sync { again: true, reply };
                if let Err(closed) = self.line.queue.send(again) {
                    self.receive(closed.0);
                }
            }
            Message::Sync { again: true, reply } => self.syncs.push(reply),
            Message::Storage(report) => self.apply(Input::Storage(report)),
            Message::Stats(reply) => {
                let (collections, waiting) = (self.state.collections(), self.state.waiting());
                let _ = reply.send(Ok(Stats {
                    collections,
                    waiting,
                    ..self.stats.clone()
                }));
            }
            Message::Event {
                ticket,
                from,
                reply,
            } => self.journal.ask(ticket, from, reply),
            Message::Change(parameters, reply) => {
                parameters.change(&mut self.config);
                if self.stopping.is_none() {
                    self.apply(Input::DowngradeInterval(self.config.downgrade_interval));
                }
                self.syncs.push(reply);
            }
            Message::Stop(reply) => self.stop(reply),
        }
    }

    /// A token of a hold that has moved.
    fn let_go(&mut self, token: Token<I, T>) {
        match token {
            // Its word or its cell counts one less; if it was the last, we send ourselves a message.
            Token::Pinned(pin) => drop(pin),
            Token::Counted(mut counted) => {
                counted.settled = true;
                let released = Some(counted.since.clone());
                self.apply(Input::Held(HoldChange {
                    key: counted.key,
                    acquired: None,
                    released,
                }));
            }
        }
    }
}
