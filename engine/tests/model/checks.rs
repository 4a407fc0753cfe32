//! What is compared after every turn.

use lowwater::{Since, Until, Upper};
use timely::PartialOrder;
use timely::progress::Antichain;

use super::text::{TestTime, show};
use super::world::World;

impl<T: TestTime> World<T> {
    pub(super) fn check(&self) {
        let ledger = self.ledger.iter();
        let held = ledger.map(|(key, since)| (*key, Since::new(since.clone())));
        self.state.check_invariants(held);
        self.check_collections();
        self.check_holds();
        self.check_waits();
        self.check_wishes();
    }

    fn check_collections(&self) {
        let shown = self.board.shown.iter().filter(|(_, shown)| !shown.removed);
        let shown: Vec<_> = shown.map(|(generation, _)| *generation).collect();
        let alive: Vec<_> = self.truth.alive.keys().copied().collect();
        assert_eq!(shown, alive, "the generations that are there");
        assert_eq!(self.state.collections(), alive.len(), "collections");
        for (generation, known) in &self.truth.alive {
            let id = known.id;
            let shown = &self.board.shown[generation].frontiers;
            assert_eq!(
                show(shown.since.frontier()),
                show(&known.since),
                "since of {id}"
            );
            assert_eq!(
                show(shown.upper.frontier()),
                show(&known.upper),
                "upper of {id}"
            );
            assert_eq!(
                show(shown.implied.frontier()),
                show(&known.implied),
                "implied of {id}"
            );
            let durable = shown.durable_since.frontier();
            assert_eq!(show(durable), show(&known.durable), "durable since of {id}");
            // Pins begin at the implied capability, or nowhere.
            let pins = self.board.current(*generation).cloned();
            assert_eq!(
                pins.unwrap_or_default(),
                known.implied,
                "where pins on {id} begin"
            );
            for dependency in &known.dependencies {
                let needed = self.truth.alive.get(dependency);
                assert!(
                    known.upper.is_empty()
                        || PartialOrder::less_equal(&needed.expect("kept").since, &known.since),
                    "what {id} depends on is compacted too far"
                );
            }
        }
    }

    /// Whoever holds a time can read it, unless a lease has lapsed on which that relied.
    fn check_holds(&self) {
        for (name, hold) in self.holds.iter().filter(|(_, hold)| !hold.may_be_lost) {
            let generation = hold.key.generation();
            let shown = &self.board.shown[&generation];
            // A hold at the empty frontier keeps nothing.
            let holds = !hold.since.is_empty();
            assert!(
                !(holds && shown.removed),
                "{name} holds {}, which is gone",
                hold.id
            );
            assert!(
                PartialOrder::less_equal(shown.frontiers.since.frontier(), &hold.since),
                "{name} at {} cannot read {} from {}",
                show(&hold.since),
                hold.id,
                shown.frontiers.since,
            );
        }
    }

    /// Answered as soon as it is so, and not before.
    fn check_waits(&self) {
        let mut waiting = 0;
        for (name, wait) in &self.waits {
            let shown = &self.board.shown[&wait.key.generation()];
            let is_so = match &wait.until {
                Until::UpperPast(bound) => is_past(shown.frontiers.upper.frontier(), bound),
                Until::SincePast(bound) => is_past(shown.frontiers.since.frontier(), bound),
                Until::ChangedAfter(version) => shown.frontiers.version > *version,
            };
            match wait.answer.as_deref() {
                None => {
                    assert!(!is_so && !shown.removed, "nobody told {name}");
                    waiting += 1;
                }
                Some("ok") => assert!(is_so, "{name} was told too early"),
                Some("Gone") => assert!(shown.removed, "{name} was told of an end"),
                Some(_) => {}
            }
        }
        assert_eq!(self.state.waiting(), waiting, "how many wait");
    }

    /// What is wished for is under way, or is asked for within the interval; at once if it is the
    /// last. Only what has failed waits longer, and keeps no other waiting.
    fn check_wishes(&self) {
        let next = self.state.next_tick();
        if self.is_fenced {
            assert_eq!(next, None, "a controller that is fenced has nothing to do");
            return;
        }
        let mut wishes = 0;
        for known in self.truth.alive.values() {
            let Some(shard) = known.shard else {
                continue;
            };
            let planned = self.truth.planned(shard).expect("somebody has it");
            if PartialOrder::less_equal(&planned, &known.durable) {
                continue;
            }
            wishes += 1;
            let within = self.now.saturating_add(self.interval);
            assert!(
                self.is_cared_for(shard) || next.is_some_and(|next| next <= within),
                "the wish of {} is forgotten, or waits too long",
                known.id
            );
        }
        for shard in &self.truth.given_up {
            if self.storage.shards[shard].since.is_empty() {
                continue;
            }
            wishes += 1;
            assert!(self.is_cared_for(*shard), "the shard {shard} is kept");
        }
        let is_durable = self.state.is_durable();
        assert!(wishes == 0 || !is_durable, "{wishes} wishes are left");
        assert!(
            is_durable || next.is_some() || !self.storage.requests.is_empty(),
            "not durable, and nothing will change that"
        );
    }

    /// It is being written, or has failed and will be tried again.
    fn is_cared_for(&self, shard: u64) -> bool {
        let is_tried_again = self.failed.contains(&shard) && self.state.next_tick().is_some();
        is_tried_again || self.in_flight.contains(&shard)
    }
}

/// Everything at the times of `bound` is complete.
fn is_past<T: TestTime>(frontier: &Antichain<T>, bound: &Antichain<T>) -> bool {
    !bound.is_empty()
        && bound
            .iter()
            .all(|time| Upper::new(frontier.clone()).is_complete_at(time))
}
