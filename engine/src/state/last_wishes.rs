//! Shards whose collections are gone: they are to be given up.

use std::collections::BTreeMap;
use std::time::Duration;

use crate::frontier::{Since, Time};
use crate::id::{Key, ShardId};
use crate::storage::SinceWish;

/// Shards of collections that are gone, until the empty since is durable.
#[derive(Debug, Default)]
pub(crate) struct LastWishes {
    shards: BTreeMap<ShardId, Last>,
    /// Some of them are to be asked for at this time.
    at: Option<Duration>,
}

/// The wish of a shard to be given up.
#[derive(Clone, Copy, Debug)]
struct Last {
    key: Key,
    stage: Stage,
    failed: bool,
}

/// How far the wish of a shard to be given up has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Stage {
    /// It is asked for soon.
    Waiting,
    /// An older wish of the shard is under way: it is asked for right after.
    Behind,
    /// It is under way.
    Asked,
}

impl LastWishes {
    pub(crate) fn is_empty(&self) -> bool {
        self.shards.is_empty()
    }

    pub(crate) fn has(&self, shard: ShardId) -> bool {
        self.shards.contains_key(&shard)
    }

    pub(crate) fn stages(&self) -> impl Iterator<Item = Stage> {
        self.shards.values().map(|last| last.stage)
    }

    /// When some of them are to be asked for.
    pub(crate) fn next_at(&self) -> Option<Duration> {
        self.at
    }

    /// A shard is to be given up: at once, unless something of it is under way.
    pub(crate) fn add(&mut self, shard: ShardId, key: Key, stage: Stage, now: Duration) {
        let failed = false;
        self.shards.insert(shard, Last { key, stage, failed });
        if stage == Stage::Waiting {
            self.at = Some(now);
        }
    }

    /// Storage has answered for a shard. Says whether that was its last wish; none if there is no
    /// such shard.
    pub(crate) fn answered(&mut self, shard: ShardId, granted: bool) -> Option<bool> {
        let last = self.shards.get_mut(&shard)?;
        let is_last = last.stage == Stage::Asked;
        last.stage = Stage::Waiting;
        last.failed |= is_last && !granted;
        if granted && is_last {
            self.shards.remove(&shard);
        }
        Some(is_last)
    }

    /// What waits is to be asked for then, or before.
    pub(crate) fn ask_at(&mut self, at: Duration) {
        self.at = Some(self.at.map_or(at, |earlier| earlier.min(at)));
    }

    /// What is to be asked for now, and for each whether it has failed before.
    pub(crate) fn ask<T: Time>(&mut self, now: Duration) -> Vec<(SinceWish<T>, bool)> {
        if self.at.is_none_or(|at| at > now) {
            return Vec::new();
        }
        self.at = None;
        let waiting = self.shards.iter_mut();
        let waiting = waiting.filter(|(_, last)| last.stage == Stage::Waiting);
        let asked = waiting.map(|(&shard, last)| {
            last.stage = Stage::Asked;
            let (key, since) = (last.key, Since::gone());
            (SinceWish { key, shard, since }, last.failed)
        });
        asked.collect()
    }

    /// What waits is due now.
    pub(crate) fn hurry(&mut self, now: Duration) {
        if self.stages().any(|stage| stage == Stage::Waiting) {
            self.at = Some(now);
        }
    }

    /// Asserts that whatever is left is asked for at some time; `under_way` if storage has still to
    /// answer something.
    pub(crate) fn check(&self, under_way: bool) {
        let waiting = self.shards.iter();
        let waiting = waiting.filter(|(_, last)| last.stage == Stage::Waiting);
        let waiting: Vec<_> = waiting.map(|(shard, _)| shard).collect();
        assert!(
            waiting.is_empty() || self.at.is_some(),
            "the last wishes of {waiting:?} are forgotten"
        );
        assert!(
            waiting.len() == self.shards.len() || under_way,
            "last wishes wait for an answer to nothing"
        );
    }
}
