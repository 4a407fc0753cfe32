//! What a replay has come to.

use std::time::Duration;

use timely::progress::Antichain;

use crate::catalog::Relation;
use crate::course::Course;
use crate::latency::Latency;
use crate::minute::Minute;
use crate::probe::Reading;
use crate::tally::Tally;

/// What a replay has done and seen.
#[derive(Debug)]
pub struct Outcome {
    /// In the order of [`Relation::ALL`].
    pub relations: Vec<RelationOutcome>,
    /// How often uppers were reported.
    pub ticks: u64,
    /// How long it took from the report until the sinces had moved.
    pub tick: Latency,
    /// What readers and probes did, together.
    pub tally: Tally,
    /// What the probes found.
    pub probes: Vec<Reading>,
    /// Flights in the air in the last minute.
    pub airborne_at_end: i64,
    /// How long it all took.
    pub elapsed: Duration,
    /// The way of since and upper, if it was to be drawn.
    pub course: Option<Course>,
}

/// What has become of a collection.
#[derive(Clone, Debug)]
pub struct RelationOutcome {
    /// Which.
    pub relation: Relation,
    /// How many updates it has seen.
    pub updates: u64,
    /// How many of them were kept at most.
    pub kept_most: usize,
    /// How many the since at the end still keeps apart.
    pub kept_at_end: usize,
    /// Its since at the end.
    pub since: Antichain<Minute>,
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
}

impl Outcome {
    /// Whether every reading was right and nothing leaked.
    #[must_use]
    pub fn is_good(&self) -> bool {
        let dropped = self.tally.taken == self.tally.dropped;
        self.tally.wrong == 0 && dropped && !self.relations.iter().any(RelationOutcome::leaked)
    }
}
