//! Commands with many parts.

use fastrand::Rng;
use timely::progress::Antichain;

use super::time::{ChanceTime, show};
use super::{Chance, Shape};

impl<T: ChanceTime> Chance<T> {
    pub(super) fn create(&mut self) -> String {
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
                let known = self.shard().filter(|_| self.rng.u32(..3) == 0);
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

    pub(super) fn policy(&mut self) -> String {
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

    pub(super) fn upper(&mut self) -> String {
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

    pub(super) fn acquire(&mut self) -> String {
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

    pub(super) fn merge(&mut self) -> Option<String> {
        let hold = self.hold()?;
        let key = self.world.holds[&hold].key;
        let holds = self.world.holds.iter();
        let same = holds.filter(|(name, other)| other.key == key && **name != hold);
        let same: Vec<_> = same.map(|(name, _)| name.clone()).collect();
        Some(format!("merge {hold} {}", self.one_of(&same)?))
    }

    pub(super) fn wait(&mut self) -> Option<String> {
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
}
