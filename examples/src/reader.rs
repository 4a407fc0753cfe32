//! Threads that keep taking holds, reading as of a time that they hold, and dropping.
//!
//! They read from the shards, and every other time from the arrangements, if there is a desk.

mod way;

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

use way::Way;
pub(crate) use way::start_of;

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
}
