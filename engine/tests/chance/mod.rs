//! What happens by chance: lines for the world, and how often which.

mod commands;
mod deck;
mod time;

use fastrand::Rng;
use timely::progress::Antichain;

use crate::model::World;

use deck::Act;
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

impl<T: ChanceTime> Chance<T> {
    pub(crate) fn new(seed: u64, shape: Shape) -> Self {
        let mut world = World::new();
        let first = String::from("answers any");
        world.line(&first);
        let mut rng = Rng::with_seed(seed);
        let deck = deck::shuffled(&mut rng);
        Chance {
            rng,
            shape,
            world,
            lines: vec![first],
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
            Act::Ask if self.rng.bool() => format!("holds {}", self.some(4, |c| c.id().into())),
            Act::Ask => format!("frontiers {}", self.some(1, |c| c.id().into())),
            Act::After => {
                let ms = [1, 50, 100, 200, 500, 1_000, 3_000];
                format!("after {}", self.one_of(&ms)?)
            }
            Act::Flush => String::from("flush"),
            Act::Interval => {
                let ms = ["0", "100", "1000", "1000", "3000"];
                format!("interval {}", self.one_of(&ms)?)
            }
            // Storage has nothing to say any more after it.
            Act::Fenced if self.lines.len() < 130 => return None,
            Act::Fenced => String::from("fenced"),
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
            Act::Lapsed => {
                let lapsed = (0..self.rng.usize(1..=3)).map(|_| {
                    let shard = self.shard()?;
                    // Mostly past what is held.
                    let known = self.world.truth.planned(shard);
                    let since = self.world.storage.shards[&shard].since.clone();
                    let since = known.filter(|_| self.rng.u32(..4) > 0).unwrap_or(since);
                    Some(format!("{shard}={}", show(&self.later(&since))))
                });
                format!("lapsed {}", lapsed.collect::<Option<Vec<_>>>()?.join(" "))
            }
            Act::Keep => format!("keep {}", self.shard()?),
            Act::Free => {
                let kept: Vec<u64> = self.world.truth.kept.keys().copied().collect();
                format!("free {}", self.one_of(&kept)?)
            }
            Act::ShardMoved => {
                let shard = self.shard()?;
                let since = self.world.storage.shards[&shard].since.clone();
                format!("shard {shard} since:{}", show(&self.later(&since)))
            }
        })
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
