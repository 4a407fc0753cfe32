//! The world: the state machine, all who deal with it, and the truth beside it.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::fmt::Write;
use std::time::Duration;

use differential_dataflow::lattice::Lattice;
use lowwater::{Cell, Effect, Input, Key, ShardId, SinceWish, State, StorageReport, Ticket};
use timely::PartialOrder;
use timely::progress::Antichain;

use super::answers::Request;
use super::clients::{Hold, Message, Wait};
use super::readers::Board;
use super::storage::{self, Answering, Shards, number_of};
use super::text::{TestTime, show};
use super::truth::{Opened, Truth};

pub(crate) struct World<T: TestTime> {
    pub(crate) state: State<char, T>,
    pub(crate) board: Board<T>,
    pub(crate) storage: Shards<T>,
    pub(crate) truth: Truth<T>,
    pub(super) interval: Duration,
    pub(super) now: Duration,
    pub(super) effects: Vec<Effect<char, T>>,
    pub(super) requests: BTreeMap<Ticket, Request<T>>,
    pub(super) tickets: u64,
    /// The last incarnation of each id.
    pub(crate) keys: BTreeMap<char, Key>,
    /// Every incarnation there ever was.
    pub(super) old_keys: BTreeMap<u64, Key>,
    pub(crate) holds: BTreeMap<String, Hold<T>>,
    pub(crate) waits: BTreeMap<String, Wait<T>>,
    /// What the state counts one by one.
    pub(super) ledger: Vec<(Key, Antichain<T>)>,
    pub(crate) inbox: VecDeque<Message<T>>,
    pub(super) messages_flow: bool,
    pub(super) storage_works: bool,
    /// While shards are being reported as opened.
    pub(super) opened: Opened<T>,
    /// Where shards are whose leases have lapsed while they are being opened.
    lapsed_opening: BTreeMap<u64, Antichain<T>>,
    /// Shards that are being written.
    pub(super) in_flight: BTreeSet<u64>,
    /// Shards whose last write came to nothing.
    pub(super) failed: BTreeSet<u64>,
    asked_at: BTreeMap<u64, Duration>,
    /// Another controller is in charge.
    pub(super) is_fenced: bool,
    /// Of the last line: events, wishes, creations that were answered.
    pub(super) events: Vec<String>,
    pub(super) asked: Vec<String>,
    /// An answer without an expectation must be good.
    pub(super) all_succeeds: bool,
    /// Every effect there ever was.
    pub(crate) log: String,
}

impl<T: TestTime> World<T> {
    /// Where everything flows and works, and answers are good unless the line says otherwise.
    pub(crate) fn new() -> Self {
        let interval = Duration::from_millis(1_000);
        World {
            state: State::new(interval),
            board: Board::new(),
            storage: Shards::new(),
            truth: Truth::new(),
            interval,
            now: Duration::ZERO,
            effects: Vec::new(),
            requests: BTreeMap::new(),
            tickets: 0,
            keys: BTreeMap::new(),
            old_keys: BTreeMap::new(),
            holds: BTreeMap::new(),
            waits: BTreeMap::new(),
            ledger: Vec::new(),
            inbox: VecDeque::new(),
            messages_flow: true,
            storage_works: true,
            opened: Opened::new(),
            lapsed_opening: BTreeMap::new(),
            in_flight: BTreeSet::new(),
            failed: BTreeSet::new(),
            asked_at: BTreeMap::new(),
            is_fenced: false,
            events: Vec::new(),
            asked: Vec::new(),
            all_succeeds: true,
            log: String::new(),
        }
    }

    /// One turn, or one expectation.
    ///
    /// `create a lag:5 & create b on:a back => b:StillDropping` are two commands in one turn, of
    /// which the second is refused; `expect ..` looks at what the turns before have left.
    /// Commands: see [`World::command`]; expectations: [`World::expect`].
    pub(crate) fn line(&mut self, line: &str) {
        let line = line.split('#').next().unwrap_or_default().trim();
        if line.is_empty() {
            return;
        }
        if let Some(expected) = line.strip_prefix("expect ") {
            return self.expect(expected);
        }
        self.begin_turn();
        for part in line.split(" & ") {
            match part.split_once("=>") {
                Some((command, answer)) => self.command(command, Some(answer.trim())),
                None => self.command(part, None),
            }
        }
        self.end_turn();
    }

    pub(crate) fn begin_turn(&mut self) {
        self.events.clear();
        self.asked.clear();
    }

    pub(crate) fn end_turn(&mut self) {
        if self.messages_flow {
            self.deliver_all();
        }
        self.settle();
        let mut answered = 0;
        while self.storage_works && !self.storage.requests.is_empty() {
            self.answer_storage(0, &Answering::default());
            self.settle();
            answered += 1;
            assert!(answered < 100, "storage is asked without an end");
        }
    }

    pub(super) fn apply(&mut self, input: Input<char, T>) {
        self.state.apply(input, &mut self.board, &mut self.effects);
        self.carry_out();
    }

    pub(super) fn settle(&mut self) {
        self.state.settle(&mut self.board, &mut self.effects);
        self.board.end_turn();
        let retired = self.board.retired();
        let mut kept: Vec<_> = retired.map(|(of, since)| (of, since.clone())).collect();
        let counted = self.ledger.iter();
        kept.extend(counted.map(|(key, since)| (key.generation(), since.clone())));
        self.truth.settle(&kept);
        self.carry_out();
        self.check();
    }

    fn carry_out(&mut self) {
        for effect in std::mem::take(&mut self.effects) {
            writeln!(self.log, "{effect:?}").expect("strings take everything");
            match effect {
                Effect::Answer(ticket, answer) => self.answered(ticket, answer),
                Effect::OpenShards(batch, shards) => {
                    assert!(!self.is_fenced, "shards of another controller are opened");
                    self.storage.asked_to_open(batch, &shards);
                }
                Effect::LetGo(shards) => {
                    assert!(!self.is_fenced, "shards of another controller are let go");
                    for shard in shards {
                        let shard = number_of(shard);
                        let mut alive = self.truth.alive.values();
                        let has = alive.any(|known| known.shard == Some(shard));
                        assert!(!has, "{shard} is let go, and a collection has it");
                    }
                }
                Effect::DowngradeSinces(wishes) => self.asked_to_downgrade(wishes),
                Effect::Event(event) => self.events.push(super::tell::event(&event)),
                Effect::Fenced(by) => {
                    assert!(!self.is_fenced, "it is said once");
                    self.is_fenced = true;
                    self.events.push(format!("Fenced({by})"));
                }
            }
        }
    }

    fn asked_to_downgrade(&mut self, wishes: Vec<SinceWish<T>>) {
        assert!(!wishes.is_empty(), "storage was asked for nothing");
        assert!(!self.is_fenced, "shards of another controller are moved");
        for wish in &wishes {
            let shard = number_of(wish.shard);
            let since = wish.since.frontier();
            self.asked.push(format!("{shard}={}", show(since)));
            assert!(
                self.in_flight.insert(shard),
                "{shard} is being written already"
            );
            match self.truth.alive.get(&wish.key.generation()) {
                Some(known) => {
                    assert_eq!(known.shard, Some(shard), "whose shard");
                    let planned = self.truth.planned(shard);
                    assert_eq!(
                        planned.as_ref(),
                        Some(since),
                        "asked of storage for {}",
                        known.id
                    );
                    let before = self.asked_at.insert(shard, self.now);
                    let next = before.map(|before| before.saturating_add(self.interval));
                    assert!(next <= Some(self.now), "{shard} is written too often");
                }
                None => assert!(
                    since.is_empty() && self.truth.given_up.contains(&shard),
                    "the shard {shard} of what is gone was asked for {}",
                    show(since)
                ),
            }
        }
        self.storage
            .requests
            .push_back(storage::Request::Downgrade(wishes));
    }

    pub(super) fn answer_storage(&mut self, at: usize, how: &Answering) {
        if let Some(storage::Request::Open { found, .. }) = self.storage.requests.get(at) {
            // Every advance since was reported, so the shards are found where they are now.
            let opened = found.iter().filter(|(shard, _)| !how.refuses(*shard));
            self.opened = opened
                .map(|(shard, found)| {
                    let upper = self.storage.shards[shard].upper.clone();
                    let lapsed = self.lapsed_opening.get(shard);
                    let since = lapsed.map_or(found.since.clone(), |to| found.since.join(to));
                    (*shard, (since, upper))
                })
                .collect();
            for (shard, _) in found {
                self.lapsed_opening.remove(shard);
            }
        }
        let report = self.storage.answer(at, how);
        if let StorageReport::Downgraded(outcomes) = &report {
            for (wish, outcome) in outcomes {
                let shard = number_of(wish.shard);
                self.in_flight.remove(&shard);
                match outcome {
                    Ok(actual) if PartialOrder::less_equal(&wish.since, actual) => {
                        self.failed.remove(&shard);
                    }
                    Ok(_) | Err(_) => {
                        self.failed.insert(shard);
                    }
                }
                if wish.since.is_gone() && outcome.is_ok() {
                    self.truth.tombstones.insert(shard);
                }
                if let Ok(durable) = outcome {
                    self.truth.durable(shard, durable.frontier());
                }
            }
        }
        self.apply(Input::Storage(report));
    }

    /// A shard was written by somebody, who says so.
    pub(super) fn written(&mut self, number: u64, upper: Antichain<T>) {
        let shard = self.storage.shard(number);
        super::requests::advance(&mut shard.upper, &upper);
        let owners = self.truth.alive.values_mut();
        for owner in owners.filter(|known| known.shard == Some(number)) {
            super::requests::advance(&mut owner.upper, &upper);
        }
        let uppers = vec![(ShardId::new(number.into()), upper.into())];
        self.apply(Input::Storage(StorageReport::UppersAdvanced(uppers)));
    }

    /// The leases of shards have lapsed, and others have moved them on.
    pub(super) fn lapsed(&mut self, lapsed: impl Iterator<Item = (u64, Antichain<T>)>) {
        let mut sinces = Vec::new();
        for (number, since) in lapsed {
            let shard = self.storage.shard(number);
            shard.since = shard.since.join(&since);
            let since = shard.since.clone();
            self.lose(number, &since);
            if self.storage.is_opening(number) {
                self.lapsed_opening.insert(number, since.clone());
            }
            sinces.push((ShardId::new(number.into()), since.into()));
        }
        self.apply(Input::Storage(StorageReport::Lapsed(sinces)));
    }

    /// What the owner knows to be held before `since` may be revoked, and what he does not know yet.
    fn lose(&mut self, shard: u64, since: &Antichain<T>) {
        let lost = self.truth.lapsed(shard, since);
        let under_way: BTreeSet<Key> = self.inbox.iter().map(Message::key).collect();
        for hold in self.holds.values_mut() {
            if let Some(since) = lost.get(&hold.key.generation()) {
                let is_kept = PartialOrder::less_equal(since, &hold.since);
                hold.may_be_lost |= !is_kept || under_way.contains(&hold.key);
            }
        }
    }

    pub(super) fn after(&mut self, passed: Duration) {
        self.now += passed;
        self.apply(Input::Tick(self.now));
    }

    /// Whatever is wished is asked for now, however long ago it was asked for last.
    pub(super) fn flush(&mut self) {
        self.asked_at.clear();
        self.apply(Input::Flush);
    }

    pub(super) fn deliver_all(&mut self) {
        loop {
            while !self.inbox.is_empty() {
                self.deliver();
            }
            if self.board.freed.is_empty() {
                return;
            }
            self.free_cell(0);
        }
    }

    /// The message that the last pin of a retired cell left behind arrives.
    pub(super) fn free_cell(&mut self, at: usize) {
        let cell = self.board.freed.remove(at);
        self.board.reclaim(cell);
        self.apply(Input::CellFreed(Cell(cell)));
    }

    /// Everybody lets go of everything: nothing may be left.
    pub(crate) fn finish(&mut self) {
        self.line("storage works");
        self.line("messages flow");
        self.all_succeeds = true;
        for name in self.holds.keys().cloned().collect::<Vec<_>>() {
            self.line(&format!("release {name}"));
        }
        let alive: Vec<_> = self.truth.alive.values().cloned().collect();
        for known in alive.iter().filter(|known| known.policy.is_some()) {
            self.line(&format!("drop {}", known.id));
        }
        for shard in self.truth.kept.keys().copied().collect::<Vec<_>>() {
            self.line(&format!("free {shard}"));
        }
        for _ in 0..100 {
            if let Some(next) = self.state.next_tick() {
                let wait = next.saturating_sub(self.now).as_millis();
                self.line(&format!("after {wait}"));
            }
        }
        assert_eq!(self.state.collections(), 0, "collections are left");
        assert_eq!(self.state.waiting(), 0, "somebody waits for what is gone");
        assert_eq!(self.state.next_tick(), None, "a tick is needed for nothing");
        if self.is_fenced {
            return;
        }
        assert!(self.state.is_durable(), "storage was not told everything");
        for shard in &self.truth.given_up {
            let since = &self.storage.shards[shard].since;
            assert!(since.is_empty(), "the shard {shard} was not given up");
        }
    }
}
