//! Which shard is tried when.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use lowwater::ShardId;
use tokio::time::Instant;

use crate::id::Epoch;

use super::{Finalization, FinalizerStats, Unfinalized};

/// Which shard is tried when.
#[derive(Debug)]
pub(super) struct Queue {
    settings: Finalization,
    waiting: BTreeMap<ShardId, Waiting>,
    running: BTreeMap<ShardId, u32>,
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
    /// How often it has failed.
    failures: u32,
    due: Instant,
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
                let waiting = Waiting {
                    failures: 0,
                    due: now,
                };
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
        let room = self.settings.shards_at_once.max(1);
        let room = room.saturating_sub(self.running.len());
        let due = self
            .waiting
            .iter()
            .filter(|(_, waiting)| waiting.due <= now);
        let mut due: Vec<_> = due.map(|(id, waiting)| (waiting.failures, *id)).collect();
        // Those that have failed least often first: what is stuck keeps nobody waiting for long.
        due.sort_unstable();
        due.truncate(room);
        for (failures, shard) in &due {
            self.waiting.remove(shard);
            self.running.insert(*shard, *failures);
            self.started += 1;
        }
        let next = self.waiting.values().map(|waiting| waiting.due).min();
        let next = next.filter(|_| due.len() < room);
        let max = self.settings.try_max;
        (due.into_iter().map(|(_, id)| (id, max)).collect(), next)
    }

    pub(super) fn over(&mut self, shard: ShardId, outcome: Result<(), Unfinalized>, now: Instant) {
        let failures = self.running.remove(&shard).unwrap_or_default();
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
            let wait = self.settings.retry_min * (1 << failures.min(16));
            let due = now + wait.min(self.settings.retry_max);
            let failures = failures.saturating_add(1);
            self.waiting.insert(shard, Waiting { failures, due });
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
