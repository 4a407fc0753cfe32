//! How the wishes for durable sinces have fared.

use super::collection::Wish;

/// How the wishes for durable sinces have fared, since the engine started.
///
/// A wish is a planned since of a shard that is not durable yet. Each one is
/// [written](Downgrades::written) or [coalesced](Downgrades::coalesced) in the end; until then it is
/// [waiting](Downgrades::waiting) or [in flight](Downgrades::in_flight).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Downgrades {
    /// Wishes there ever were: a planned since moved.
    pub wished: u64,
    /// Wishes that storage has made durable.
    pub written: u64,
    /// Wishes that were never written, for a later one of their shard took their place.
    pub coalesced: u64,
    /// How often storage was asked for a wish in vain.
    pub failed: u64,
    /// How often storage was asked again for what had failed.
    pub retried: u64,
    /// Wishes that wait for their interval, or for another try: never more than there are shards.
    pub waiting: u64,
    /// Wishes that storage was asked for and has not answered: never more than there are shards.
    pub in_flight: u64,
    /// Shards whose durable since is behind the planned one.
    pub behind: u64,
}

impl Downgrades {
    /// There is a new wish of a shard whose last one had come so far.
    pub(super) fn wished(&mut self, before: Wish) {
        self.wished += 1;
        match before {
            Wish::Granted => {
                self.waiting += 1;
                self.behind += 1;
            }
            Wish::Asked => self.waiting += 1,
            Wish::Queued | Wish::AskedAndQueued => self.coalesced += 1,
        }
    }

    /// Storage is asked for a wish that was waiting.
    pub(super) fn asked(&mut self, again: bool) {
        self.waiting -= 1;
        self.in_flight += 1;
        self.retried += u64::from(again);
    }

    /// Storage has answered. A wish that is not durable waits again, unless a later one has taken
    /// its place.
    pub(super) fn answered(&mut self, granted: bool, replaced: bool) {
        self.in_flight -= 1;
        if granted {
            self.written += 1;
            self.behind -= u64::from(!replaced);
        } else {
            self.failed += 1;
            *if replaced {
                &mut self.coalesced
            } else {
                &mut self.waiting
            } += 1;
        }
    }

    /// Asserts that no wish was lost, and none counted twice.
    pub(super) fn check(&self) {
        let Downgrades {
            wished,
            written,
            coalesced,
            waiting,
            in_flight,
            ..
        } = *self;
        assert_eq!(
            wished,
            written + coalesced + waiting + in_flight,
            "a wish was lost, or counted twice"
        );
    }
}
