//! What a replay has come to.

use std::time::Duration;

use timely::PartialOrder;
use timely::progress::Antichain;

use crate::catalog::Relation;
use crate::course::Course;
use crate::latency::Latency;
use crate::minute::Minute;
use crate::probe::Reading;
use crate::store::{Places, Space, Store};
use crate::tally::Tally;
use crate::trouble::ReplayError;

/// What a replay has done and seen.
#[derive(Debug)]
pub struct Outcome {
    /// Up to which minute everything was written at the start.
    pub from: Minute,
    /// Up to which minute everything is written now.
    pub now: Minute,
    /// In the order of [`Relation::ALL`].
    pub relations: Vec<RelationOutcome>,
    /// How often uppers were reported.
    pub ticks: u64,
    /// How long it took from the report until the sinces had moved.
    pub tick: Latency,
    /// How long it took to append to all shards.
    pub append: Latency,
    /// What readers and probes did, together.
    pub tally: Tally,
    /// What the probes found.
    pub probes: Vec<Reading>,
    /// Flights in the air in the last minute.
    pub airborne_at_end: i64,
    /// How long it all took.
    pub elapsed: Duration,
    /// What the store took, and takes.
    pub space: Space,
    /// The way of since and upper, if it was to be drawn.
    pub course: Option<Course>,
}

/// What has become of a collection.
#[derive(Clone, Debug)]
pub struct RelationOutcome {
    /// Which.
    pub relation: Relation,
    /// How many updates were written.
    pub updates: u64,
    /// How many of them were kept at most.
    pub kept_most: usize,
    /// How many the since at the end still keeps apart.
    pub kept_at_end: usize,
    /// Its since at the end, as the engine has planned it.
    pub since: Antichain<Minute>,
    /// Its since at the end, as its shard has it.
    pub durable_since: Antichain<Minute>,
    /// What its since should be at the end, now that nobody holds anything.
    pub since_asked_for: Antichain<Minute>,
    /// Its upper at the end.
    pub upper: Antichain<Minute>,
}

impl RelationOutcome {
    /// Whether somebody still holds it who should not.
    #[must_use]
    pub fn leaked(&self) -> bool {
        self.since != self.since_asked_for
    }

    /// Whether its shard keeps more than planned. Another controller that has taken over since may
    /// have moved it further.
    #[must_use]
    pub fn is_behind(&self) -> bool {
        !PartialOrder::less_equal(&self.since, &self.durable_since)
    }
}

impl Outcome {
    /// Whether every reading was right and nothing leaked.
    #[must_use]
    pub fn is_good(&self) -> bool {
        let dropped = self.tally.taken == self.tally.dropped;
        let is_good = |relation: &RelationOutcome| !relation.leaked() && !relation.is_behind();
        self.tally.wrong == 0 && dropped && self.relations.iter().all(is_good)
    }

    /// Looks what has become of the store, now that the engine has stopped, and tidies it up.
    ///
    /// # Errors
    /// When the store does not answer for a while.
    pub fn settle(mut self, store: &mut Store, places: &Places) -> Result<Self, ReplayError> {
        for of_one in &mut self.relations {
            of_one.durable_since = store.kept_from(of_one.relation, places)?.into_frontier();
        }
        self.space.held_most = self.space.held_most.max(store.held(places)?);
        store.tidy(places)?;
        self.space.held_at_end = store.held(places)?;
        self.space.written = store.written();
        Ok(self)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_later_controller_has_moved_on_is_not_behind() {
        let is_behind = |durable: Antichain<Minute>| {
            let since = Antichain::from_elem(5);
            let of_one = RelationOutcome {
                relation: Relation::Flights,
                updates: 0,
                kept_most: 0,
                kept_at_end: 0,
                since: since.clone(),
                durable_since: durable,
                since_asked_for: since,
                upper: Antichain::from_elem(9),
            };
            of_one.is_behind()
        };
        assert!(is_behind(Antichain::from_elem(4)));
        assert!(!is_behind(Antichain::from_elem(5)));
        assert!(!is_behind(Antichain::from_elem(6)));
        assert!(!is_behind(Antichain::new()));
    }
}
