//! The state machine: all that the engine knows, and how it changes.
//!
//! Pure: no clock, thread, file, randomness, lock or hash order. The same inputs, with the same
//! answers of [`Readers`], give the same effects. [`State::apply`] takes one input;
//! [`State::settle`] ends the turn: it merges the hold changes, then walks the graph of
//! dependencies once, dependents before dependencies.

mod batch;
mod capabilities;
mod collection;
mod commands;
mod create;
mod downgrades;
mod durability;
mod explain;
mod graph;
mod invariants;
mod kept;
mod lapse;
mod last_wishes;
mod propagate;
mod sharers;
mod store;
mod waiters;

use std::collections::{BTreeMap, HashMap};
use std::time::Duration;

use foldhash::fast::FixedState;
use smallvec::SmallVec;
use timely::PartialOrder;
use timely::progress::ChangeBatch;

use crate::effect::{Answer, Effect, Readers};
use crate::frontier::{Since, Time, Upper};
use crate::id::{CollectionId, Epoch, Key, ShardId, Ticket};
use crate::input::{Cell, HoldChange, Input};

use collection::Collection;
use commands::Question;
use create::Opening;
use durability::Durability;
use graph::Agenda;
use kept::Kept;
use waiters::Waiters;

pub use downgrades::Downgrades;

/// A map that is only looked into, never walked: its order does not matter, and is the same in
/// every run.
type Lookup<K, V> = HashMap<K, V, FixedState>;

/// All collections, and what is under way.
#[derive(Debug)]
pub struct State<I, T> {
    /// By slot.
    collections: Vec<Option<Collection<I, T>>>,
    by_id: Lookup<I, Named>,
    /// Who has each shard: those that are alive, then those that are being created.
    by_shard: Lookup<ShardId, SmallVec<[I; 1]>>,
    /// What is planned for each shard that several have, or had, or that is kept.
    shared: Lookup<ShardId, Since<T>>,
    /// Shards that are kept for others, who are not here.
    kept: BTreeMap<ShardId, Kept<T>>,
    /// How many collections are alive.
    alive: usize,
    /// How many collections were ever created.
    created: u64,
    /// Changes of counted holds in this turn, by slot and time.
    held: ChangeBatch<(u32, T)>,
    agenda: Agenda,
    /// Cells that were retired with pins on them: each is one counted capability.
    /// What was revoked of it is not in here any more.
    retired: BTreeMap<Cell, (Key, Since<T>)>,
    /// Batches whose shards are being opened.
    opening: BTreeMap<u64, Opening<I, T>>,
    batches: u64,
    durability: Durability,
    waiters: Waiters<T>,
    questions: Vec<(Ticket, Question<I>)>,
    /// Who else is in charge of the storage: it is asked for nothing any more.
    fenced_by: Option<Epoch>,
    /// A lease has lapsed at some time: there may be holds that were revoked, of what is gone.
    lost: bool,
    now: Duration,
}

/// What an id stands for.
#[derive(Clone, Copy, Debug)]
enum Named {
    /// The collection in this slot.
    Slot(u32),
    /// A collection whose shard is being opened, in the batch of this number.
    Opening(u64),
}

impl<I: CollectionId, T: Time> State<I, T> {
    /// No collections. At most one write per shard and `downgrade_interval` makes sinces durable.
    pub fn new(downgrade_interval: Duration) -> Self {
        State {
            collections: Vec::new(),
            by_id: Lookup::default(),
            by_shard: Lookup::default(),
            shared: Lookup::default(),
            kept: BTreeMap::new(),
            alive: 0,
            created: 0,
            held: ChangeBatch::new(),
            agenda: Agenda::default(),
            retired: BTreeMap::new(),
            opening: BTreeMap::new(),
            batches: 0,
            durability: Durability::new(downgrade_interval),
            waiters: Waiters::new(),
            questions: Vec::new(),
            fenced_by: None,
            lost: false,
            now: Duration::ZERO,
        }
    }

    /// Takes one input. What it moves is seen by nobody before [`State::settle`].
    pub fn apply(
        &mut self,
        input: Input<I, T>,
        readers: &mut impl Readers<I, T>,
        effects: &mut Vec<Effect<I, T>>,
    ) {
        match input {
            Input::Command { ticket, command } => self.obey(ticket, command, readers, effects),
            Input::Cancelled(ticket) => self.cancelled(ticket),
            Input::Held(change) => self.held(change),
            Input::CellFreed(cell) => self.cell_freed(cell),
            Input::Storage(report) => self.storage_reported(report, readers, effects),
            Input::Tick(now) => self.now = self.now.max(now),
            Input::Flush => self.durability.hurry(self.now),
            Input::DowngradeInterval(interval) => {
                self.durability.set_interval(interval, self.now);
            }
        }
    }

    /// Ends the turn: all that was applied takes effect, and is shown to readers.
    pub fn settle(&mut self, readers: &mut impl Readers<I, T>, effects: &mut Vec<Effect<I, T>>) {
        self.count_held();
        self.propagate(readers, effects);
        self.answer_questions(readers, effects);
        self.ask_storage(effects);
    }

    /// When the next [`Input::Tick`] is needed, in the time that ticks tell.
    pub fn next_tick(&self) -> Option<Duration> {
        match self.fenced_by {
            None => self.durability.next_at(),
            Some(_) => None,
        }
    }

    /// True iff nothing that was asked of storage is unanswered, and no wish is left.
    pub fn is_durable(&self) -> bool {
        self.durability.is_idle()
    }

    /// How the wishes for durable sinces have fared so far.
    pub fn downgrades(&self) -> Downgrades {
        self.durability.downgrades()
    }

    /// How many collections are alive, dropped ones that are still held included.
    pub fn collections(&self) -> usize {
        self.alive
    }

    /// How many requests wait for a collection to come far enough.
    pub fn waiting(&self) -> usize {
        self.waiters.len()
    }

    fn cancelled(&mut self, ticket: Ticket) {
        if let Some(slot) = self.waiters.cancel(ticket)
            && let Some(collection) = &mut self.collections[slot as usize]
        {
            collection.watched = false;
        }
    }

    /// Holds that are counted one by one have changed. Merged with the others of the turn.
    fn held(&mut self, change: HoldChange<T>) {
        let HoldChange {
            key,
            acquired,
            released,
        } = change;
        let Some(collection) = self.alive(key) else {
            // Late releases for what is gone are taken in silence. What is alive through a hold
            // cannot be gone when that hold moves, but a hold at the empty frontier, and its
            // clones, keep nothing alive; nor do those that were revoked.
            assert!(
                self.lost || acquired.is_none_or(|acquired| acquired.is_gone()),
                "a hold of the collection {key:?}, which is gone, moved"
            );
            return;
        };
        if let Some(acquired) = acquired {
            if collection.floor.is_some() {
                self.acquired_above_floor(key.slot, &acquired);
            } else {
                assert!(
                    PartialOrder::less_equal(&collection.since, &acquired),
                    "a hold moved to {acquired}, which {} cannot read from {}",
                    collection.id,
                    collection.since,
                );
            }
            self.count_hold(key.slot, acquired, 1);
        }
        if let Some(released) = released {
            self.count_hold(key.slot, released, -1);
        }
    }

    /// A hold that is counted by itself came or went.
    fn count_hold(&mut self, slot: u32, since: Since<T>, difference: i64) {
        let holds = &mut self.at_mut(slot).holds;
        // A release too many is found out where times are counted.
        *holds = holds.saturating_add_signed(difference.signum() as i32);
        for time in since.into_frontier() {
            if self.at(slot).counts(&time) {
                self.held.update((slot, time), difference);
            }
        }
    }

    fn cell_freed(&mut self, cell: Cell) {
        let (key, since) = self
            .retired
            .remove(&cell)
            .expect("a cell is freed once, after retiring");
        if since.is_gone() {
            // All of it was revoked; the collection may have gone.
            return;
        }
        let collection = self
            .alive_mut(key)
            .expect("its counted cell kept the collection alive");
        collection.capabilities.remove(&since);
        self.push(key.slot);
    }

    /// The upper has advanced, or not at all: reports may come late and twice.
    fn upper_advanced(&mut self, slot: u32, upper: &Upper<T>) {
        let collection = self.at_mut(slot);
        if collection.upper == *upper || !PartialOrder::less_equal(&collection.upper, upper) {
            return;
        }
        collection.upper = upper.clone();
        collection.due = true;
        collection.changed = true;
        self.push(slot);
    }

    fn at(&self, slot: u32) -> &Collection<I, T> {
        self.collections[slot as usize]
            .as_ref()
            .expect("a slot is named only while it is taken")
    }

    fn at_mut(&mut self, slot: u32) -> &mut Collection<I, T> {
        self.collections[slot as usize]
            .as_mut()
            .expect("a slot is named only while it is taken")
    }

    fn alive(&self, key: Key) -> Option<&Collection<I, T>> {
        self.collections
            .get(key.slot as usize)?
            .as_ref()
            .filter(|found| found.key == key)
    }

    fn alive_mut(&mut self, key: Key) -> Option<&mut Collection<I, T>> {
        self.collections
            .get_mut(key.slot as usize)?
            .as_mut()
            .filter(|found| found.key == key)
    }

    fn by_id(&self, id: I) -> Option<&Collection<I, T>> {
        match self.by_id.get(&id)? {
            Named::Slot(slot) => Some(self.at(*slot)),
            Named::Opening(_) => None,
        }
    }

    fn push(&mut self, slot: u32) {
        let collection = self.collections[slot as usize].as_mut();
        let collection = collection.expect("a slot is named only while it is taken");
        self.agenda.push(slot, &mut collection.links);
    }
}

fn answer<I, T>(ticket: Ticket, answer: Answer<I, T>) -> Effect<I, T> {
    Effect::Answer(ticket, answer)
}
