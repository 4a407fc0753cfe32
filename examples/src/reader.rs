//! Threads that keep taking holds, reading as of a time that they hold, and dropping.
//!
//! They read from the shards, and every other time from the arrangements, if there is a desk.

use std::array;
use std::iter::Cycle;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use lowwater::{AcquireError, CloneError, DowngradeError, HoldLost, Since};
use timely::progress::Antichain;

use crate::catalog::Relation;
use crate::desk::{Answer, Visitor};
use crate::embedding::{Embedding, EmbeddingError, Hold};
use crate::minute::Minute;
use crate::oracle::Oracle;
use crate::store::Reading;
use crate::tally::Tally;
use crate::trouble::ReplayError;

/// Of the time that has passed, at most one part in so many goes to reading shards, for each
/// reader. A probe keeps a long history, which every reading has to walk through.
const READING_SHARE: u32 = 12;

/// How long a reader waits that has no desk to go to and has had its share.
const PAUSE: Duration = Duration::from_millis(5);

/// How long it may take until a hold hears that the lease has lapsed that it rested on.
const REVOKED_WITHIN: Duration = Duration::from_secs(60);

/// How often it is looked whether anybody still wants to know, while there is nothing to read.
const LOOK: Duration = Duration::from_millis(100);

/// One such thread.
pub struct Reader<'a> {
    embedding: &'a Embedding,
    oracle: &'a Oracle<'a>,
    until: Until<'a>,
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

/// How long a reader goes on.
pub enum Until<'a> {
    /// Until the desk closes, where it reads every other time.
    Closed(Visitor),
    /// Until this is so.
    Done(&'a AtomicBool),
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
    /// On the tables of flights at once, each at its implied capability.
    Tables,
}

impl Way {
    const ALL: [Self; 8] = [
        Self::ById,
        Self::ByHandle,
        Self::At,
        Self::Earliest,
        Self::Moved,
        Self::Many,
        Self::ManyAt,
        Self::Tables,
    ];
}

impl<'a> Reader<'a> {
    /// A reader whose choices follow from `seed`. With different seeds they begin differently.
    #[must_use]
    pub fn new(
        embedding: &'a Embedding,
        oracle: &'a Oracle<'a>,
        until: Until<'a>,
        seed: u16,
    ) -> Self {
        let mut ways = Way::ALL;
        ways.rotate_left(usize::from(seed) % Way::ALL.len());
        Self {
            embedding,
            oracle,
            until,
            begin: Instant::now(),
            reading: Duration::ZERO,
            desk_is_next: seed.is_multiple_of(2),
            random: fastrand::Rng::with_seed(u64::from(seed)),
            ways: ways.into_iter().cycle(),
            tally: Tally::default(),
        }
    }

    /// Reads as long as it is wanted.
    ///
    /// # Errors
    /// When the engine refuses what it must not refuse, or the store does not answer.
    pub fn run(mut self) -> Result<Tally, ReplayError> {
        let mut goes_on = self.wait_for_something_to_read()?;
        while goes_on {
            goes_on = self.read_once()?;
        }
        Ok(self.tally)
    }

    /// Says whether there is any: nobody may want to know any more.
    fn wait_for_something_to_read(&self) -> Result<bool, EmbeddingError> {
        for relation in Relation::ALL {
            let nothing = Antichain::from_elem(0);
            let collection = self.embedding.collection(relation);
            let mut coming = collection.wait_for_upper_past(nothing);
            loop {
                match coming.wait_timeout(LOOK) {
                    Ok(come) => break drop(come?),
                    Err(_) if self.is_done() => return Ok(false),
                    Err(pending) => coming = pending,
                }
            }
        }
        Ok(true)
    }

    fn is_done(&self) -> bool {
        match self.until {
            Until::Closed(_) => false,
            Until::Done(done) => done.load(Ordering::Relaxed),
        }
    }

    /// Takes holds, reads what they hold, and drops them. Says whether to go on.
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
            Err(
                EmbeddingError::Clone(CloneError::Revoked)
                | EmbeddingError::Downgrade(DowngradeError::Revoked { .. }),
            ) => {
                self.tally.lapsed += 1;
                return Ok(true);
            }
            Err(error) => return Err(error.into()),
        };
        let as_of = self.time_within(way, &relations, &holds);
        let (at_desk, has_read_long) = (self.desk_is_next, self.has_read_long());
        let goes_on = match &self.until {
            Until::Closed(visitor) if at_desk || has_read_long => {
                let answer = visitor.ask(relations.clone(), as_of);
                self.read_at_desk(&relations, as_of, answer)
            }
            Until::Closed(_) | Until::Done(_) => {
                self.read_shards(&relations, as_of, &holds)?;
                !self.is_done()
            }
        };
        self.desk_is_next = !at_desk;
        for hold in holds {
            self.tally.release(hold);
        }
        while matches!(self.until, Until::Done(_)) && self.has_read_long() && !self.is_done() {
            thread::sleep(PAUSE);
        }
        Ok(goes_on)
    }

    /// Looks at what the dataflow has arranged. Says whether the desk is open.
    fn read_at_desk(
        &mut self,
        relations: &[Relation],
        as_of: Minute,
        answer: Option<Answer>,
    ) -> bool {
        let Some(answer) = answer else {
            return false;
        };
        for (relation, rows) in relations.iter().zip(&answer.rows) {
            self.tally.check(*relation, as_of, rows, self.oracle);
        }
        self.tally.check_tables(as_of, relations, &answer.rows);
        self.tally.at_since += answer.at_since;
        true
    }

    /// Reads snapshots of the shards; what is held must not be refused.
    fn read_shards(
        &mut self,
        relations: &[Relation],
        as_of: Minute,
        holds: &[Hold],
    ) -> Result<(), ReplayError> {
        let begin = Instant::now();
        let mut read = Vec::new();
        for (relation, hold) in relations.iter().copied().zip(holds) {
            let since = self.embedding.collection(relation).since();
            self.tally.at_since += u64::from(since == Since::at(as_of));
            match self.embedding.read(relation, as_of)? {
                Reading::Rows(rows) => {
                    self.tally.check(relation, as_of, &rows, self.oracle);
                    read.push(rows);
                }
                Reading::Refused(_) if self.is_revoked(hold) => self.tally.lapsed += 1,
                Reading::Refused(_) => self.tally.refuse(relation, as_of),
            }
            self.tally.from_shards += 1;
        }
        if read.len() == relations.len() {
            self.tally.check_tables(as_of, relations, &read);
        }
        self.reading += begin.elapsed();
        Ok(())
    }

    /// Whether what was held is lost, for this process was not heard of for too long. That is so in
    /// the store before anybody hears of it here.
    fn is_revoked(&self, hold: &Hold) -> bool {
        let rests_on_lease = matches!(self.until, Until::Done(_));
        let give_up_at = Instant::now() + REVOKED_WITHIN;
        while rests_on_lease && Instant::now() < give_up_at {
            if let Err(HoldLost::Revoked { .. }) = hold.check() {
                return true;
            }
            thread::sleep(PAUSE);
        }
        false
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
            Way::Tables => relations = vec![Relation::Flights, Relation::Departures],
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
            Way::Many | Way::Tables => {
                return Ok(self.tally.take(|| client.acquire_many(&ids))?);
            }
            Way::ManyAt => {
                let at = Since::at(self.readable_minute(relations));
                return Ok(self.tally.ask(|| client.acquire_many_at(&ids, at).wait())?);
            }
        };
        Ok(vec![hold])
    }

    /// A clone of `hold`, moved forward; the first one is dropped.
    fn moved(&mut self, hold: Hold, relations: &[Relation]) -> Result<Hold, EmbeddingError> {
        let cloned = self.tally.take(|| hold.try_clone());
        let from = start_of(&hold);
        self.tally.release(hold);
        let mut clone = cloned?;
        let to = self.random.u64(from..=self.last_complete(relations));
        if let Err(error) = clone.downgrade(Since::at(to)) {
            self.tally.release(clone);
            return Err(error.into());
        }
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
            Way::ById
            | Way::ByHandle
            | Way::At
            | Way::Moved
            | Way::Many
            | Way::ManyAt
            | Way::Tables => {
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
        relations
            .iter()
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
