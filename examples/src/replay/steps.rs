//! The steps of a replay.

mod finish;

use std::time::Instant;

use crate::answering::Answering;
use crate::catalog::Relation;
use crate::course::Course;
use crate::data::Data;
use crate::dataflow::Dataflow;
use crate::demonstration::{Demonstration, demonstrations};
use crate::desk::Desk;
use crate::embedding::{Embedding, EmbeddingError};
use crate::history::past;
use crate::latency::Latency;
use crate::minute::{DAY, Minute};
use crate::options::Options;
use crate::probe::Probes;
use crate::reader::start_of;
use crate::sabotage::Sabotage;
use crate::signals::Progress;
use crate::store::{Store, StoreError};
use crate::tally::Tally;
use crate::trouble::ReplayError;
use crate::writers::Writers;

/// A replay that is under way.
pub(super) struct Replay<'a> {
    options: &'a Options,
    embedding: &'a Embedding,
    store: &'a Store,
    writers: Writers<'a>,
    dataflow: Dataflow<'a>,
    /// Where the store was at the start: up to there everything was written.
    from: Minute,
    /// How far the replay has come.
    now: Minute,
    sabotage: Sabotage,
    probes: Probes,
    demonstrations: Vec<Demonstration>,
    pub(super) tally: Tally,
    ticks: u64,
    tick: Latency,
    append: Latency,
    /// In the order of [`Relation::ALL`].
    kept_most: [usize; Relation::ALL.len()],
    held_most: u64,
    course: Option<Course>,
    answering: Answering,
    begin: Instant,
}

impl<'a> Replay<'a> {
    /// Goes on where the store is: takes the holds that are due, loads what the tables have, and
    /// brings to one minute what was left at different ones.
    pub(super) fn start(
        options: &'a Options,
        data: &'a Data,
        store: &'a Store,
        embedding: &'a Embedding,
        sabotage: Sabotage,
    ) -> Result<Self, ReplayError> {
        let begin = Instant::now();
        let (mut tally, mut probes) = (Tally::default(), Probes::new(options.probes.clone()));
        let writers = Writers::open(store, embedding)?;
        let holds = embedding.hold_all_of(&Relation::ALL)?;
        let since = |relation: Relation| start_of(&holds[relation.index()]);
        let past = past(store, embedding.places(), &writers, since)?;
        // Before the policies have a say: after a kill, the store may have more than they ask for.
        probes.take_before(past.begin(), embedding, &mut tally)?;
        embedding.follow_policies()?;
        drop(holds);

        let drawn = options.plot.is_some();
        let end = options.end().max(past.reached());
        let mut replay = Self {
            options,
            embedding,
            store,
            writers,
            dataflow: Dataflow::new(data, &past),
            from: past.begin(),
            now: past.begin(),
            sabotage,
            probes,
            demonstrations: if drawn {
                demonstrations(end)
            } else {
                Vec::new()
            },
            tally,
            ticks: 0,
            tick: Latency::default(),
            append: Latency::default(),
            kept_most: [0; Relation::ALL.len()],
            held_most: 0,
            course: drawn.then(|| Course::new(end)),
            answering: Answering::new(options.readers),
            begin,
        };
        if past.begin() < past.reached() {
            replay.tick(past.reached())?;
        }
        Ok(replay)
    }

    /// To the end of the replay; then the desk closes.
    pub(super) fn run(
        &mut self,
        desk: Desk,
        progress: &mut Progress<'_>,
    ) -> Result<(), ReplayError> {
        let end = self.options.end();
        while self.now < end {
            self.tick(end.min(self.now + self.options.step))?;
            self.answer(&desk);
            progress(self.now)?;
        }
        Ok(())
    }

    /// One step: everything is written up to `upper`, reported, and compacted.
    fn tick(&mut self, upper: Minute) -> Result<(), ReplayError> {
        self.take_holds(upper)?;
        self.dataflow.advance(upper);
        self.write(upper)?;
        self.report()?;
        for relation in Relation::ALL {
            let Self {
                dataflow,
                embedding,
                sabotage,
                ..
            } = self;
            compact(dataflow, embedding, relation, *sabotage, self.options.step);
        }
        let days = (self.now / DAY, upper / DAY);
        self.now = upper;
        self.observe();
        if days.0 < days.1 {
            self.held_most = self
                .held_most
                .max(self.store.held(self.embedding.places())?);
        }
        Ok(())
    }

    /// Appends to all shards in one transaction what has come out of the dataflow.
    fn write(&mut self, upper: Minute) -> Result<(), StoreError> {
        let Self {
            dataflow,
            writers,
            append,
            ..
        } = self;
        let mut updates = Relation::ALL.map(|relation| dataflow.take_unwritten(relation, upper));
        if self.sabotage == Sabotage::TearTables && upper * 2 >= self.options.end() {
            updates[Relation::Departures.index()].clear();
        }
        append.of(|| writers.append(upper, &updates))
    }

    /// Takes, and drops, the holds that are due before `upper` is reported.
    fn take_holds(&mut self, upper: Minute) -> Result<(), ReplayError> {
        self.probes
            .take_before(upper, self.embedding, &mut self.tally)?;
        for demonstration in &mut self.demonstrations {
            let mark = demonstration.turn(upper, self.embedding, &mut self.tally)?;
            if let (Some(mark), Some(course)) = (mark, &mut self.course) {
                course.mark(mark);
            }
        }
        if upper * 2 >= self.options.end() {
            self.sabotage_halfway()?;
        }
        Ok(())
    }

    fn sabotage_halfway(&mut self) -> Result<(), ReplayError> {
        match self.sabotage {
            Sabotage::None | Sabotage::CompactTooFar | Sabotage::TearTables => {}
            Sabotage::LeakHold => {
                self.sabotage = Sabotage::None;
                let flights = self.embedding.collection(Relation::Flights);
                let hold = self.tally.take(|| flights.acquire());
                std::mem::forget(hold.map_err(EmbeddingError::from)?);
            }
            Sabotage::StopEngine => {
                self.sabotage = Sabotage::None;
                self.embedding
                    .client()
                    .stop()
                    .wait()
                    .map_err(EmbeddingError::from)?;
            }
        }
        Ok(())
    }

    fn report(&mut self) -> Result<(), EmbeddingError> {
        let Self {
            embedding,
            writers,
            tick,
            ..
        } = self;
        self.ticks += 1;
        let tables = writers.upper(Relation::Flights).first().copied();
        let tables = tables.unwrap_or(Minute::MAX);
        tick.of(|| embedding.report(tables, |relation| writers.upper(relation).clone()))
    }

    fn observe(&mut self) {
        for relation in Relation::ALL {
            let most = &mut self.kept_most[relation.index()];
            *most = self.dataflow.kept(relation).max(*most);
        }
        if let Some(course) = &mut self.course {
            course.observe(self.now, self.embedding);
        }
    }

    /// Answers readers.
    fn answer(&mut self, desk: &Desk) {
        let Self {
            answering,
            dataflow,
            embedding,
            sabotage,
            ..
        } = self;
        let step = self.options.step;
        answering.answer(self.now - self.from, desk, |question| {
            // Since may have moved meanwhile: what is read is all that is left, and no more.
            for relation in question.relations() {
                compact(dataflow, embedding, *relation, *sabotage, step);
            }
            question.answer(dataflow);
        });
    }
}

/// Lets the arrangement of `relation` forget what the engine says may be forgotten by now, and no
/// more.
fn compact(
    dataflow: &mut Dataflow<'_>,
    embedding: &Embedding,
    relation: Relation,
    sabotage: Sabotage,
    step: Minute,
) {
    let mut since = embedding.collection(relation).since().into_frontier();
    if sabotage == Sabotage::CompactTooFar {
        since = since.iter().map(|time| time + step).collect();
    }
    dataflow.compact(relation, &since);
}
