//! Threads that keep taking holds, reading as of a time that they hold, and dropping.
//!
//! They read from the shards, and every other time from the arrangements, at the desk.

use std::array;
use std::iter::Cycle;
use std::time::{Duration, Instant};

use lowwater::{AcquireError, Since};
use timely::progress::Antichain;

use crate::catalog::Relation;
use crate::desk::Visitor;
use crate::embedding::{Embedding, EmbeddingError, Hold};
use crate::minute::Minute;
use crate::oracle::Oracle;
use crate::store::{Reading, Store, StoreError};
use crate::tally::Tally;
use crate::trouble::ReplayError;

/// Of the time that has passed, at most one part in so many goes to reading shards, for each
/// reader. A probe keeps a long history, which every reading has to walk through.
const READING_SHARE: u32 = 12;

/// One such thread.
pub struct Reader<'a> {
    embedding: &'a Embedding,
    oracle: &'a Oracle<'a>,
    store: &'a Store,
    visitor: Visitor,
    /// Whether it reads at the desk the next time.
    desk_is_next: bool,
    /// Since when it reads.
    begin: Instant,
    /// How long it took to read shards.
    reading: Duration,
    random: fastrand::Rng,
    /// What it takes its next holds by.
    ways: Cycle<array::IntoIter<Way, { Way::ALL.len() }>>,
    tally: Tally,
}

/// The ways to take holds, all of which readers use.
#[derive(Clone, Copy, Debug)]
enum Way {
    /// At the implied capability, by id.
    ById,
    /// At the implied capability, by handle.
    ByHandle,
    /// At a minute of the reader's choice.
    At,
    /// At the since, wherever it is.
    Earliest,
    /// At the implied capability, then a clone moved forward, and the first one dropped.
    Moved,
    /// On several collections at once, each at its implied capability.
    Many,
    /// On several collections at once, at a minute of the reader's choice.
    ManyAt,
}

impl Way {
    const ALL: [Self; 7] = [
        Self::ById,
        Self::ByHandle,
        Self::At,
        Self::Earliest,
        Self::Moved,
        Self::Many,
        Self::ManyAt,
    ];
}

impl<'a> Reader<'a> {
    /// A reader whose choices follow from `seed`. With different seeds they begin differently.
    #[must_use]
    pub fn new(
        embedding: &'a Embedding,
        oracle: &'a Oracle<'a>,
        store: &'a Store,
        visitor: Visitor,
        seed: u16,
    ) -> Self {
        let mut ways = Way::ALL;
        ways.rotate_left(usize::from(seed) % Way::ALL.len());
        Self {
            embedding,
            oracle,
            store,
            visitor,
            begin: Instant::now(),
            reading: Duration::ZERO,
            desk_is_next: seed.is_multiple_of(2),
            random: fastrand::Rng::with_seed(u64::from(seed)),
            ways: ways.into_iter().cycle(),
            tally: Tally::default(),
        }
    }

    /// Reads until the desk closes.
    ///
    /// # Errors
    /// When the engine refuses what it must not refuse, or the store does not answer.
    pub fn run(mut self) -> Result<Tally, ReplayError> {
        self.wait_for_something_to_read()?;
        while self.read_once()? {}
        Ok(self.tally)
    }

    fn wait_for_something_to_read(&self) -> Result<(), EmbeddingError> {
        for relation in Relation::ALL {
            let nothing = Antichain::from_elem(0);
            self.embedding
                .collection(relation)
                .wait_for_upper_past(nothing)
                .wait()?;
        }
        Ok(())
    }

    /// Takes holds, reads what they hold, and drops them. Says whether the desk is open.
    fn read_once(&mut self) -> Result<bool, ReplayError> {
        let way = self.ways.next().expect("the ways never end");
        let relations = self.relations(way);
        let holds = match self.take(way, &relations) {
            Ok(holds) => holds,
            Err(EmbeddingError::Acquire(AcquireError::TooEarly { .. })) => {
                // The since has passed what was chosen, and the refusal says so.
                self.tally.refused += 1;
                return Ok(true);
            }
            Err(error) => return Err(error.into()),
        };
        let as_of = self.time_within(way, &relations, &holds);
        let is_open = if self.desk_is_next || self.has_read_long() {
            self.read_at_desk(relations, as_of)
        } else {
            self.read_shards(&relations, as_of)?;
            true
        };
        self.desk_is_next = !self.desk_is_next;
        for hold in holds {
            self.tally.release(hold);
        }
        Ok(is_open)
    }

    /// Reads what the dataflow has arranged. Says whether the desk is open.
    fn read_at_desk(&mut self, relations: Vec<Relation>, as_of: Minute) -> bool {
        let Some(answer) = self.visitor.ask(relations.clone(), as_of) else {
            return false;
        };
        for (relation, rows) in relations.into_iter().zip(&answer.rows) {
            self.tally.check(relation, as_of, rows, self.oracle);
        }
        self.tally.at_since += answer.at_since;
        true
    }

    /// Reads snapshots of the shards; what is held must not be refused.
    fn read_shards(&mut self, relations: &[Relation], as_of: Minute) -> Result<(), StoreError> {
        let begin = Instant::now();
        for relation in relations.iter().copied() {
            let since = self.embedding.collection(relation).since();
            self.tally.at_since += u64::from(since == Since::at(as_of));
            match self.store.read(relation, as_of)? {
                Reading::Rows(rows) => self.tally.check(relation, as_of, &rows, self.oracle),
                Reading::Refused(_) => self.tally.refuse(relation, as_of),
            }
            self.tally.from_shards += 1;
        }
        self.reading += begin.elapsed();
        Ok(())
    }

    /// Whether it has taken more than its share of the time to read shards.
    fn has_read_long(&self) -> bool {
        self.reading * READING_SHARE > self.begin.elapsed()
    }

    fn relations(&mut self, way: Way) -> Vec<Relation> {
        let mut relations = Relation::ALL.to_vec();
        self.random.shuffle(&mut relations);
        match way {
            Way::Many | Way::ManyAt => relations.truncate(self.random.usize(2..=3)),
            Way::ById | Way::ByHandle | Way::At | Way::Earliest | Way::Moved => {
                relations.truncate(1);
            }
        }
        relations
    }

    fn take(&mut self, way: Way, relations: &[Relation]) -> Result<Vec<Hold>, EmbeddingError> {
        let client = self.embedding.client();
        let collection = self.embedding.collection(relations[0]);
        let ids: Vec<u64> = relations.iter().map(|relation| relation.id()).collect();
        let hold = match way {
            Way::ById => self.tally.take(|| client.acquire(ids[0]))?,
            Way::ByHandle => self.tally.take(|| collection.acquire())?,
            Way::At => {
                let at = Since::at(self.readable_minute(relations));
                self.tally.ask(|| collection.acquire_at(at).wait())?
            }
            Way::Earliest => self.tally.ask(|| collection.acquire_earliest().wait())?,
            Way::Moved => {
                let hold = self.tally.take(|| collection.acquire())?;
                self.moved(hold, relations)?
            }
            Way::Many => return Ok(self.tally.take(|| client.acquire_many(&ids))?),
            Way::ManyAt => {
                let at = Since::at(self.readable_minute(relations));
                return Ok(self.tally.ask(|| client.acquire_many_at(&ids, at).wait())?);
            }
        };
        Ok(vec![hold])
    }

    /// A clone of `hold`, moved forward; the first one is dropped.
    fn moved(&mut self, hold: Hold, relations: &[Relation]) -> Result<Hold, EmbeddingError> {
        let mut clone = self.tally.take(|| hold.try_clone())?;
        let to = self
            .random
            .u64(start_of(&clone)..=self.last_complete(relations));
        clone.downgrade(Since::at(to))?;
        self.tally.release(hold);
        Ok(clone)
    }

    /// A minute at which, at this moment, all of `relations` can be read.
    fn readable_minute(&mut self, relations: &[Relation]) -> Minute {
        let sinces = relations
            .iter()
            .map(|relation| self.embedding.collection(*relation).since());
        let since = sinces
            .filter_map(|since| earliest(&since))
            .max()
            .unwrap_or(0);
        self.random
            .u64(since..=self.last_complete(relations).max(since))
    }

    /// A time at which the holds allow to read; more often than not the earliest one.
    fn time_within(&mut self, way: Way, relations: &[Relation], holds: &[Hold]) -> Minute {
        let from = holds.iter().map(start_of).max().unwrap_or(0);
        let to = self.last_complete(relations).max(from);
        match way {
            Way::Earliest => from,
            Way::ById | Way::ByHandle | Way::At | Way::Moved | Way::Many | Way::ManyAt => {
                if self.random.bool() {
                    from
                } else {
                    self.random.u64(from..=to)
                }
            }
        }
    }

    /// The last minute at which all of `relations` are complete.
    fn last_complete(&self, relations: &[Relation]) -> Minute {
        // What is sealed is complete for ever; the flights never are, and are never behind.
        relations
            .iter()
            .chain(&[Relation::Flights])
            .filter_map(|r| {
                self.embedding
                    .collection(*r)
                    .upper()
                    .frontier()
                    .first()
                    .copied()
            })
            .min()
            .map_or(0, |upper| upper.saturating_sub(1))
    }
}

/// The earliest minute that a hold keeps readable.
pub(crate) fn start_of(hold: &Hold) -> Minute {
    earliest(hold.since()).expect("a hold that is live holds a time")
}

fn earliest(since: &Since<Minute>) -> Option<Minute> {
    since.frontier().first().copied()
}
