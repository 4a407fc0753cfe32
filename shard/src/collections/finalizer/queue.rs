//! Which shard is tried when.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use lowwater::ShardId;
use tokio::time::Instant;

use crate::clock::after;
use crate::id::Epoch;

use super::{Finalization, FinalizerStats, Unfinalized};

/// Which shard is tried when.
#[derive(Debug)]
pub(super) struct Queue {
    settings: Finalization,
    waiting: BTreeMap<ShardId, Waiting>,
    running: BTreeMap<ShardId, Tried>,
    /// Those that were given up again while they were tried, or were not to be any more.
    kept: BTreeSet<ShardId>,
    pub(super) finalized: BTreeSet<ShardId>,
    blocked: BTreeMap<ShardId, Unfinalized>,
    fenced_by: Option<Epoch>,
    started: u64,
    succeeded: u64,
    failed: u64,
}

#[derive(Debug)]
struct Waiting {
    tried: Tried,
    due: Instant,
}

/// How a shard has fared so far; those that are to be preferred come first.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
struct Tried {
    /// The last try took too long.
    is_stuck: bool,
    /// How often it has failed.
    failures: u32,
}

impl Queue {
    pub(super) fn new(settings: Finalization) -> Self {
        Queue {
            settings,
            waiting: BTreeMap::new(),
            running: BTreeMap::new(),
            kept: BTreeSet::new(),
            finalized: BTreeSet::new(),
            blocked: BTreeMap::new(),
            fenced_by: None,
            started: 0,
            succeeded: 0,
            failed: 0,
        }
    }

    pub(super) fn set(&mut self, settings: Finalization) {
        self.settings = settings;
    }

    pub(super) fn add(&mut self, shards: impl IntoIterator<Item = ShardId>, now: Instant) {
        for shard in shards {
            self.kept.remove(&shard);
            if !self.finalized.contains(&shard) && !self.running.contains_key(&shard) {
                let tried = Tried::default();
                let waiting = Waiting { tried, due: now };
                self.waiting.entry(shard).or_insert(waiting);
            }
        }
    }

    pub(super) fn remove(&mut self, shards: impl IntoIterator<Item = ShardId>) {
        for shard in shards {
            self.waiting.remove(&shard);
            self.blocked.remove(&shard);
            if self.running.contains_key(&shard) {
                self.kept.insert(shard);
            }
        }
    }

    /// Which are to be tried now, and how long each try may take; when the next one is due, if there
    /// is room for it.
    pub(super) fn take_due(&mut self, now: Instant) -> (Vec<(ShardId, Duration)>, Option<Instant>) {
        if !self.settings.enabled || self.fenced_by.is_some() {
            return (Vec::new(), None);
        }
        let all = self.settings.shards_at_once.max(1);
        let room = all.saturating_sub(self.running.len());
        let due = self
            .waiting
            .iter()
            .filter(|(_, waiting)| waiting.due <= now);
        let mut due: Vec<_> = due.map(|(id, waiting)| (waiting.tried, *id)).collect();
        // Those that have failed least often first. What is stuck has not all the room, but waits
        // its turn in half of it.
        due.sort_unstable();
        let stuck = self.running.values().filter(|tried| tried.is_stuck).count();
        let mut for_stuck = all.div_ceil(2).saturating_sub(stuck);
        due.retain(|(tried, _)| {
            let has_room = !tried.is_stuck || for_stuck > 0;
            for_stuck = for_stuck.saturating_sub(tried.is_stuck.into());
            has_room
        });
        due.truncate(room);
        for (tried, shard) in &due {
            self.waiting.remove(shard);
            self.running.insert(*shard, *tried);
            self.started += 1;
        }
        // What is due already waits for one that is running to end.
        let later = self.waiting.values().map(|waiting| waiting.due);
        let next = later.filter(|due| *due > now).min();
        let next = next.filter(|_| due.len() < room);
        let max = self.settings.try_max;
        (due.into_iter().map(|(_, id)| (id, max)).collect(), next)
    }

    pub(super) fn over(&mut self, shard: ShardId, outcome: Result<(), Unfinalized>, now: Instant) {
        let Tried { failures, .. } = self.running.remove(&shard).unwrap_or_default();
        let is_kept = self.kept.remove(&shard);
        self.blocked.remove(&shard);
        let reason = match outcome {
            Ok(()) => {
                self.succeeded += 1;
                self.finalized.insert(shard);
                return;
            }
            Err(reason) => reason,
        };
        self.failed += 1;
        if let Unfinalized::Fenced { by } = &reason {
            self.fenced_by = Some(*by);
        }
        let again = !is_kept && !matches!(reason, Unfinalized::Owned(_));
        if again {
            let wait = self
                .settings
                .retry_min
                .saturating_mul(1 << failures.min(16));
            let due = after(now, wait.min(self.settings.retry_max));
            let tried = Tried {
                is_stuck: matches!(reason, Unfinalized::TooLong),
                failures: failures.saturating_add(1),
            };
            self.waiting.insert(shard, Waiting { tried, due });
        }
        self.blocked.insert(shard, reason);
    }

    pub(super) fn stats(&self) -> FinalizerStats {
        FinalizerStats {
            outstanding: self.waiting.len() + self.running.len(),
            pending_commit: 0,
            started: self.started,
            succeeded: self.succeeded,
            failed: self.failed,
            blocked: self.blocked.clone(),
            fenced_by: self.fenced_by,
        }
    }
}
