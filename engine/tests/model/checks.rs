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

    /// Whoever holds a time can read it.
    fn check_holds(&self) {
        for (name, hold) in &self.holds {
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

    /// What is wished for is under way, or will be asked for.
    fn check_wishes(&self) {
        let alive = self.truth.alive.values();
        let not_durable =
            alive.filter(|known| !PartialOrder::less_equal(&known.since, &known.durable));
        let given_up = self.truth.given_up.iter();
        let not_given_up = given_up.filter(|shard| !self.storage.shards[shard].since.is_empty());
        let wishes = not_durable.count() + not_given_up.count();
        let is_cared_for = !self.storage.requests.is_empty() || self.state.next_tick().is_some();
        assert!(wishes == 0 || is_cared_for, "{wishes} wishes are forgotten");
        assert!(
            wishes == 0 || !self.state.is_durable(),
            "{wishes} wishes are left"
        );
        assert!(
            self.state.is_durable() || is_cared_for,
            "not durable, and nothing will change that"
        );
    }
}

/// Everything at the times of `bound` is complete.
fn is_past<T: TestTime>(frontier: &Antichain<T>, bound: &Antichain<T>) -> bool {
    !bound.is_empty()
        && bound
            .iter()
            .all(|time| Upper::new(frontier.clone()).is_complete_at(time))
}
