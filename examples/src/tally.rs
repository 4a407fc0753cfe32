//! What a thread that takes holds has done and seen.

use std::collections::BTreeSet;
use std::mem::discriminant;

use crate::catalog::Relation;
use crate::embedding::Hold;
use crate::latency::Latency;
use crate::minute::Minute;
use crate::oracle::Oracle;
use crate::row::{Row, Rows};

/// How many wrong readings are described.
const EXAMPLES_MAX: usize = 3;

/// Counts of holds and readings.
#[derive(Clone, Debug, Default)]
pub struct Tally {
    /// Holds that were taken, clones included.
    pub taken: u64,
    /// Holds that were dropped.
    pub dropped: u64,
    /// Holds that were refused, because what they asked for was gone by then.
    pub refused: u64,
    /// Collections that were read and compared.
    pub readings: u64,
    /// Those of them that came from shards, and not from the arrangements.
    pub from_shards: u64,
    /// Those of them at the very since of the collection.
    pub at_since: u64,
    /// How often it was looked whether each flight is in both tables as it should be.
    pub across: u64,
    /// Holds that were lost, for nothing was heard of this process for too long.
    pub lapsed: u64,
    /// Those of them that were not what the tables say.
    pub wrong: u64,
    /// Some of the wrong ones.
    pub examples: Vec<WrongReading>,
    /// How long it took to take a hold, or several, at the implied capability.
    pub acquire: Latency,
    /// How long it took where the engine had to be asked: elsewhere than there.
    pub acquire_asked: Latency,
    /// How long it took to drop a hold.
    pub release: Latency,
}

/// A reading that was not what the tables say.
#[derive(Clone, Debug)]
pub struct WrongReading {
    /// What was read.
    pub relation: Relation,
    /// As of when.
    pub as_of: Minute,
    /// What was wrong.
    pub what: Wrong,
}

/// What is wrong about a reading.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Wrong {
    /// It had other rows.
    Rows {
        /// How many it had.
        rows: usize,
        /// How many it should have had.
        rows_expected: usize,
    },
    /// It was refused, though what was asked for was held.
    Refused,
    /// Flights were in one of the tables as they are before a change, and in another one as they
    /// are after it.
    HalfChanged {
        /// How many.
        flights: usize,
    },
}

impl Tally {
    /// Takes a hold, or as many as `take` takes, without asking the engine.
    ///
    /// # Errors
    /// Those of `take`.
    pub fn take<H: Holds, E>(&mut self, take: impl FnOnce() -> Result<H, E>) -> Result<H, E> {
        let holds = self.acquire.of(take)?;
        self.taken += holds.count();
        Ok(holds)
    }

    /// As [`Tally::take`], where the engine is asked.
    ///
    /// # Errors
    /// Those of `take`.
    pub fn ask<H: Holds, E>(&mut self, take: impl FnOnce() -> Result<H, E>) -> Result<H, E> {
        let holds = self.acquire_asked.of(take)?;
        self.taken += holds.count();
        Ok(holds)
    }

    /// Drops a hold.
    pub fn release(&mut self, hold: Hold) {
        self.release.of(|| drop(hold));
        self.dropped += 1;
    }

    /// Compares what was read with what the tables say.
    pub fn check(&mut self, relation: Relation, as_of: Minute, rows: &Rows, oracle: &Oracle<'_>) {
        self.readings += 1;
        let expected = oracle.rows(relation, as_of);
        if *rows != expected {
            let (rows, rows_expected) = (rows.len(), expected.len());
            self.went_wrong(WrongReading {
                relation,
                as_of,
                what: Wrong::Rows {
                    rows,
                    rows_expected,
                },
            });
        }
    }

    /// A reading was refused though the time was held.
    pub fn refuse(&mut self, relation: Relation, as_of: Minute) {
        self.readings += 1;
        self.went_wrong(WrongReading {
            relation,
            as_of,
            what: Wrong::Refused,
        });
    }

    /// Looks whether each flight is changed in both tables, or in none: it is in `departures` if it
    /// has left by `flights`, and only then.
    pub fn check_across(&mut self, as_of: Minute, flights: &Rows, departures: &Rows) {
        self.across += 1;
        let has_left = |(row, _): &(Row, i64)| match row {
            Row::Flight(id, flight) if flight.status.has_left() => Some(*id),
            Row::Departure(id, _) => Some(*id),
            Row::Flight(..)
            | Row::Airline(..)
            | Row::Offset(_)
            | Row::Weather(..)
            | Row::Airborne(..)
            | Row::Delay(..) => None,
        };
        let by_flights: BTreeSet<_> = flights.iter().filter_map(has_left).collect();
        let by_departures: BTreeSet<_> = departures.iter().filter_map(has_left).collect();
        let flights = by_flights.symmetric_difference(&by_departures).count();
        if flights > 0 {
            self.went_wrong(WrongReading {
                relation: Relation::Departures,
                as_of,
                what: Wrong::HalfChanged { flights },
            });
        }
    }

    /// Looks at both tables of flights, if both are among what was read as of the same time.
    pub fn check_tables(&mut self, as_of: Minute, relations: &[Relation], rows: &[Rows]) {
        let of = |wanted| {
            let at = relations.iter().position(|relation| *relation == wanted)?;
            rows.get(at)
        };
        if let (Some(flights), Some(departures)) = (of(Relation::Flights), of(Relation::Departures))
        {
            self.check_across(as_of, flights, departures);
        }
    }

    fn went_wrong(&mut self, wrong: WrongReading) {
        self.wrong += 1;
        let has = |kind| {
            self.examples
                .iter()
                .any(|one| discriminant(&one.what) == kind)
        };
        if self.examples.len() < EXAMPLES_MAX {
            self.examples.push(wrong);
        } else if !has(discriminant(&wrong.what)) {
            // One of each kind says more than several of one.
            self.examples[EXAMPLES_MAX - 1] = wrong;
        }
    }

    /// Takes in what another thread has counted.
    pub fn merge(&mut self, other: Self) {
        self.taken += other.taken;
        self.dropped += other.dropped;
        self.refused += other.refused;
        self.readings += other.readings;
        self.from_shards += other.from_shards;
        self.across += other.across;
        self.lapsed += other.lapsed;
        self.at_since += other.at_since;
        self.wrong += other.wrong;
        let wrong = self.wrong;
        other
            .examples
            .into_iter()
            .for_each(|one| self.went_wrong(one));
        self.wrong = wrong;
        self.acquire.merge(&other.acquire);
        self.acquire_asked.merge(&other.acquire_asked);
        self.release.merge(&other.release);
    }
}

/// One hold, or several that were taken at once.
pub trait Holds {
    /// How many they are.
    fn count(&self) -> u64;
}

impl Holds for Hold {
    fn count(&self) -> u64 {
        1
    }
}

impl Holds for Vec<Hold> {
    fn count(&self) -> u64 {
        self.len() as u64
    }
}
