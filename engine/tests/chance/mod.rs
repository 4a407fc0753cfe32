//! What happens by chance: lines for the world, and how often which.

mod time;

use fastrand::Rng;
use timely::progress::Antichain;

use crate::model::World;

pub(crate) use time::ChanceTime;
use time::show;

/// What depends on what.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Shape {
    /// Each on one that was created late.
    Chain,
    /// Many on one.
    FanOut,
    /// Each on two.
    Diamonds,
    /// None, some or many.
    Any,
}

pub(crate) struct Chance<T: ChanceTime> {
    rng: Rng,
    shape: Shape,
    pub(crate) world: World<T>,
    /// The lines so far.
    lines: Vec<String>,
    /// How many names were given.
    names: u64,
    /// What a command does, as often as it stands here.
    deck: Vec<Act>,
}

#[derive(Clone, Copy, Debug, PartialEq)]
enum Act {
    Create,
    Drop,
    Policy,
    Upper,
    Pin,
    Acquire,
    Clone,
    Move,
    Merge,
    Release,
    Wait,
    Cancel,
    Ask,
    After,
    Flush,
    Messages,
    Deliver,
    Freed,
    Storage,
    Answer,
    Written,
    ShardMoved,
}

const ALL: [(Act, usize); 22] = [
    (Act::Create, 12),
    (Act::Drop, 5),
    (Act::Policy, 6),
    (Act::Upper, 24),
    (Act::Pin, 12),
    (Act::Acquire, 8),
    (Act::Clone, 4),
    (Act::Move, 6),
    (Act::Merge, 3),
    (Act::Release, 12),
    (Act::Wait, 4),
    (Act::Cancel, 1),
    (Act::Ask, 3),
    (Act::After, 7),
    (Act::Flush, 1),
    (Act::Messages, 1),
    (Act::Deliver, 6),
    (Act::Freed, 4),
    (Act::Storage, 1),
    (Act::Answer, 9),
    (Act::Written, 4),
    (Act::ShardMoved, 1),
];

impl<T: ChanceTime> Chance<T> {
    pub(crate) fn new(seed: u64, shape: Shape) -> Self {
        let mut world = World::new();
        world.all_succeeds = false;
        let mut rng = Rng::with_seed(seed);
        let deck = ALL.iter().flat_map(|(act, weight)| {
            // Each seed has its own liking.
            let weight = (weight * rng.usize(1..=6)).div_ceil(3);
            std::iter::repeat_n(*act, weight)
        });
        let deck = deck.collect();
        Chance {
            rng,
            shape,
            world,
            lines: Vec::new(),
            names: 0,
            deck,
        }
    }

    /// The script so far.
    pub(crate) fn trace(&self) -> String {
        self.lines.join("\n")
    }

    pub(crate) fn turn(&mut self) {
        self.lines.push(String::new());
        self.world.begin_turn();
        for part in 0..self.rng.usize(1..=5) {
            let act = self.deck[self.rng.usize(..self.deck.len())];
            let Some(command) = self.command(act) else {
                continue;
            };
            let line = self.lines.last_mut().expect("just pushed");
            if part > 0 && !line.is_empty() {
                line.push_str(" & ");
            }
            line.push_str(&command);
            self.world.command(&command, None);
        }
        self.world.end_turn();
    }

    /// None if there is nothing to do it with.
    fn command(&mut self, act: Act) -> Option<String> {
        Some(match act {
            Act::Create => self.create(),
            Act::Drop => format!("drop {}", self.some(1, |chance| chance.id().into())),
            Act::Policy => {
                let policies = self.some(2, |c| format!("{}={}", c.id(), c.policy()));
                format!("policy {policies}")
            }
            Act::Upper => self.upper(),
            Act::Pin => format!("pin {} {}", self.name('h'), self.known_id()?),
            Act::Acquire => self.acquire(),
            Act::Clone => format!("clone {} {}", self.name('h'), self.hold()?),
            Act::Move => {
                let hold = self.hold()?;
                let since = self.world.holds[&hold].since.clone();
                format!("move {hold} {}", show(&self.later(&since)))
            }
            Act::Merge => self.merge()?,
            Act::Release => format!("release {}", self.hold()?),
            Act::Wait => self.wait()?,
            Act::Cancel => {
                let waits: Vec<_> = self.world.waits.keys().cloned().collect();
                format!("cancel {}", self.one_of(&waits)?)
            }
            Act::Ask if self.rng.bool() => format!("explain {}", self.id()),
            Act::Ask => format!("frontiers {}", self.some(1, |c| c.id().into())),
            Act::After => {
                let ms = [1, 50, 100, 200, 500, 1_000, 3_000];
                format!("after {}", self.one_of(&ms)?)
            }
            // Nothing is rate-limited any more after it.
            Act::Flush if self.lines.len() < 120 => return None,
            Act::Flush => String::from("flush"),
            Act::Messages if self.rng.bool() => String::from("messages wait"),
            Act::Messages => String::from("messages flow"),
            Act::Deliver => format!("deliver {}", self.rng.usize(..=self.world.inbox.len())),
            Act::Freed => format!("freed {}", self.below(self.world.board.freed.len())?),
            Act::Storage if self.rng.bool() => String::from("storage waits"),
            Act::Storage => String::from("storage works"),
            Act::Answer => {
                let at = self.below(self.world.storage.requests.len())?;
                let how = [
                    "ok",
                    "ok",
                    "ok",
                    "ok",
                    "fail",
                    "lost",
                    "fail 1 3 5 7",
                    "lost 2 4 6 8",
                ];
                format!("answer at:{at} {}", self.one_of(&how)?)
            }
            Act::Written => {
                let shard = self.shard()?;
                let upper = self.world.storage.shards[&shard].upper.clone();
                let upper = match self.rng.u32(..8) {
                    0 => Antichain::from_elem(T::minimum()),
                    1 => Antichain::new(),
                    _ => self.later(&upper),
                };
                format!("written {shard}={}", show(&upper))
            }
            Act::ShardMoved => {
                let shard = self.shard()?;
                let since = self.world.storage.shards[&shard].since.clone();
                format!("shard {shard} since:{}", show(&self.later(&since)))
            }
        })
    }

    fn create(&mut self) -> String {
        let batch = match self.rng.u32(..4) {
            0 => self.rng.usize(2..=4),
            _ => 1,
        };
        let ids: Vec<_> = (0..batch).map(|_| self.new_id()).collect();
        let mut news = Vec::new();
        for id in &ids {
            let mut new = format!("{id} {}", self.policy());
            let mut on = self.dependencies();
            if batch > 1 && self.rng.bool() {
                on.push(ids[self.rng.usize(..batch)]);
            }
            // An existing collection that depends on itself is nothing to look for often.
            if !on.is_empty() && (!on.contains(id) || self.rng.u32(..8) == 0) {
                let on: Vec<_> = on.into_iter().map(String::from).collect();
                new.push_str(&format!(" on:{}", on.join(",")));
            }
            if self.rng.u32(..5) == 0 {
                let from = T::any(&mut self.rng);
                new.push_str(&format!(" from:{}", show(&Antichain::from_elem(from))));
            }
            if self.rng.u32(..5) < 2 {
                self.names += 1;
                let known = self.shard().filter(|_| self.rng.u32(..8) == 0);
                new.push_str(&format!(" shard:{}", known.unwrap_or(self.names)));
            }
            news.push(new);
        }
        format!("create {}", news.join(", "))
    }

    fn dependencies(&mut self) -> Vec<char> {
        let alive: Vec<char> = self
            .world
            .truth
            .alive
            .values()
            .map(|known| known.id)
            .collect();
        if alive.is_empty() {
            return Vec::new();
        }
        let some = |count: usize, rng: &mut Rng| {
            (0..count)
                .map(|_| alive[rng.usize(..alive.len())])
                .collect()
        };
        match self.shape {
            Shape::Chain => alive[alive.len() - 1..].to_vec(),
            Shape::FanOut => alive[..1].to_vec(),
            Shape::Diamonds => some(2, &mut self.rng),
            Shape::Any => {
                let count = [0, 0, 1, 1, 2, 3, 7][self.rng.usize(..7)];
                some(count, &mut self.rng)
            }
        }
    }

    fn policy(&mut self) -> String {
        let at = show(&T::frontier(&mut self.rng));
        match self.rng.u32(..24) {
            0..=8 => String::from("back"),
            9..=12 => format!("lag:{}", self.rng.u32(2..12)),
            13..=15 => format!("valid:{at}"),
            16 => format!("stay:{at}"),
            17 => format!("panics:{at}"),
            18 => String::from("least()"),
            19 => String::from("valid:[]"),
            20 => format!("gives:{at}"),
            21 => format!("panics:{}", T::minimum().show()),
            _ => format!("least(lag:{}|valid:{at})", self.rng.u32(1..6)),
        }
    }

    fn upper(&mut self) -> String {
        let by_key = self.rng.bool() && !self.world.keys.is_empty();
        let verb = if by_key { "upper-by-key" } else { "upper" };
        let count = [1, 1, 1, 2, 4, 8][self.rng.usize(..6)];
        let uppers: Vec<_> = (0..count)
            .filter_map(|_| {
                let wild = !by_key && self.rng.u32(..40) == 0;
                let id = if wild { self.id() } else { self.alive_id()? };
                let known = self
                    .world
                    .truth
                    .by_id(id)
                    .map(|(_, known)| known.upper.clone());
                let upper = match self.rng.u32(..50) {
                    0 => Antichain::new(),
                    1 | 2 => T::frontier(&mut self.rng),
                    _ => self.later(&known.unwrap_or_default()),
                };
                Some(format!("{id}={}", show(&upper)))
            })
            .collect();
        format!("{verb} {}", uppers.join(" "))
    }

    fn acquire(&mut self) -> String {
        let count = if self.rng.u32(..4) == 0 {
            self.rng.usize(2..=4)
        } else {
            1
        };
        let holds: Vec<_> = (0..count)
            .map(|_| {
                let id = self.alive_id().unwrap_or('a');
                let by_key = if self.rng.bool() { "!" } else { "" };
                let since = self
                    .world
                    .truth
                    .by_id(id)
                    .map(|(_, known)| known.since.clone());
                let at = match self.rng.u32(..8) {
                    0..=2 => String::from("earliest"),
                    3 => show(&T::frontier(&mut self.rng)),
                    _ => show(&self.later(&since.unwrap_or_default())),
                };
                format!("{} {id}{by_key} {at}", self.name('h'))
            })
            .collect();
        format!("acquire {}", holds.join(", "))
    }

    fn merge(&mut self) -> Option<String> {
        let hold = self.hold()?;
        let key = self.world.holds[&hold].key;
        let holds = self.world.holds.iter();
        let same = holds.filter(|(name, other)| other.key == key && **name != hold);
        let same: Vec<_> = same.map(|(name, _)| name.clone()).collect();
        Some(format!("merge {hold} {}", self.one_of(&same)?))
    }

    fn wait(&mut self) -> Option<String> {
        let id = self.known_id()?;
        let (upper, since) = match self.world.truth.by_id(id) {
            Some((_, known)) => (known.upper.clone(), known.since.clone()),
            None => Default::default(),
        };
        let until = match self.rng.u32(..3) {
            0 => String::from("change"),
            1 => format!("upper:{}", show(&self.later(&upper))),
            _ => format!("since:{}", show(&self.later(&since))),
        };
        Some(format!("wait {} {id} {until}", self.name('w')))
    }

    /// At or after `frontier`.
    fn later(&mut self, frontier: &Antichain<T>) -> Antichain<T> {
        T::later(&mut self.rng, frontier)
    }

    fn name(&mut self, kind: char) -> String {
        self.names += 1;
        format!("{kind}{}", self.names)
    }

    fn id(&mut self) -> char {
        self.rng.char('a'..='l')
    }

    /// Mostly one that nobody has.
    fn new_id(&mut self) -> char {
        let ids = (0..3).map(|_| self.id()).collect::<Vec<_>>();
        let free = ids.iter().find(|id| self.world.truth.by_id(**id).is_none());
        *free.unwrap_or(&ids[0])
    }

    fn alive_id(&mut self) -> Option<char> {
        let ids: Vec<_> = self
            .world
            .truth
            .alive
            .values()
            .map(|known| known.id)
            .collect();
        self.one_of(&ids)
    }

    /// One that was there at some time.
    fn known_id(&mut self) -> Option<char> {
        let ids: Vec<_> = self.world.keys.keys().copied().collect();
        self.one_of(&ids)
    }

    fn hold(&mut self) -> Option<String> {
        let names: Vec<_> = self.world.holds.keys().cloned().collect();
        self.one_of(&names)
    }

    fn shard(&mut self) -> Option<u64> {
        let shards: Vec<_> = self.world.storage.shards.keys().copied().collect();
        self.one_of(&shards)
    }

    fn one_of<V: Clone>(&mut self, all: &[V]) -> Option<V> {
        let at = self.below(all.len())?;
        Some(all[at].clone())
    }

    fn below(&mut self, count: usize) -> Option<usize> {
        (count > 0).then(|| self.rng.usize(..count))
    }

    /// One, and sometimes more.
    fn some(&mut self, often: u32, mut one: impl FnMut(&mut Self) -> String) -> String {
        let mut all = vec![one(self)];
        while self.rng.u32(..8) < often {
            all.push(one(self));
        }
        all.join(" ")
    }
}
