//! An engine of one collection, as small as can be, that uses queue and pins as the real one does.

use std::collections::BTreeMap;

use loom::sync::Arc;
use loom::sync::atomic::{AtomicU64, Ordering};
use lowwater_queue::{CellId, Freed, Handle, Owner, Pin, Receiver, Sender, Shape, Slot, channel};

use crate::{Bell, Dropped, Witness};

/// What the engine shares: pins carry a time.
#[derive(Debug)]
pub enum Model {}

/// What a model's pins, handles and owner share.
#[derive(Debug)]
pub struct Context {
    sender: Sender<Message, Bell>,
    _table: Witness,
}

impl Shape for Model {
    type Capability = u64;
    type View = u64;
    type Context = Context;

    fn freed(freed: Freed<Self>) {
        let sender = freed.table().context().sender.clone();
        // Refused when the engine is gone: then nobody needs the cell.
        let _ = sender.send(Message::CellFree(freed));
    }
}

/// What the engine is told.
#[derive(Debug)]
pub enum Message {
    /// Count `to`, then give the pin back.
    Downgrade {
        /// Owned by the message.
        pin: Pin<Model>,
        /// The later time.
        to: u64,
        /// Tells when the message is gone, whatever became of it.
        answer: Option<Witness>,
    },
    /// A moved hold is given back.
    Release(u64),
    /// The last pin of a retired cell is gone.
    CellFree(Freed<Model>),
}

/// One collection, and its since.
#[derive(Debug)]
pub struct Engine {
    owner: Owner<Model>,
    receiver: Receiver<Message, Bell>,
    slot: Slot,
    /// How many count for each time: the implied capability, retired cells, moved holds.
    counted: BTreeMap<u64, u64>,
    retired: BTreeMap<CellId, u64>,
    implied: u64,
    /// The least time that is counted, for all to see.
    since: Arc<AtomicU64>,
}

impl Engine {
    /// A collection whose implied capability is 0. `tables` counts the tables that are gone.
    pub fn start(tables: &Dropped) -> (Self, Handle<Model>) {
        let (sender, receiver) = channel(Bell::new());
        let mut owner = Owner::new(Context {
            sender,
            _table: tables.witness(),
        });
        let handle = owner.register(0, 0);
        let engine = Self {
            slot: handle.slot(),
            owner,
            receiver,
            counted: BTreeMap::from([(0, 1)]),
            retired: BTreeMap::new(),
            implied: 0,
            since: Arc::new(AtomicU64::new(0)),
        };
        (engine, handle)
    }

    /// Sends to this engine.
    pub fn sender(&self) -> Sender<Message, Bell> {
        self.receiver.sender()
    }

    /// The least time that is counted, as it is told to everybody.
    pub fn since(&self) -> Arc<AtomicU64> {
        Arc::clone(&self.since)
    }

    /// How many retired cells have not come back.
    pub fn retired(&self) -> usize {
        self.retired.len()
    }

    /// How many times are counted that the implied capability does not account for.
    pub fn held(&self) -> u64 {
        self.counted.values().sum::<u64>() - 1
    }

    /// Moves the implied capability.
    pub fn advance(&mut self, to: u64) {
        let before = std::mem::replace(&mut self.implied, to);
        self.count(to);
        match self.owner.retire(self.slot, to) {
            // It stays counted, for its pins.
            Some(cell) => drop(self.retired.insert(cell, before)),
            None => self.release(before),
        }
        self.publish();
    }

    /// Takes what is queued.
    pub fn turn(&mut self) {
        while let Some(message) = self.receiver.pop() {
            self.obey(message);
        }
        self.publish();
    }

    /// Ends as the real one does: refuses, drains, and goes.
    pub fn stop(mut self) {
        self.receiver.close();
        self.turn();
        self.owner.close(self.slot);
    }

    fn obey(&mut self, message: Message) {
        match message {
            Message::Downgrade { pin, to, answer } => {
                self.count(to);
                drop(pin);
                drop(answer);
            }
            Message::Release(time) => self.release(time),
            Message::CellFree(freed) => {
                let cell = self.owner.reclaim(freed);
                let time = self.retired.remove(&cell).expect("a cell is freed once");
                self.release(time);
            }
        }
    }

    fn count(&mut self, time: u64) {
        *self.counted.entry(time).or_default() += 1;
    }

    fn release(&mut self, time: u64) {
        let count = self
            .counted
            .get_mut(&time)
            .expect("released what was counted");
        *count -= 1;
        if *count == 0 {
            self.counted.remove(&time);
        }
    }

    fn publish(&mut self) {
        let (&since, _) = self
            .counted
            .first_key_value()
            .expect("the implied one is counted");
        self.since.store(since, Ordering::Release);
    }
}
