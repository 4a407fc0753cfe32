//! Following the controller that is in charge: reading as it writes, and checking what is read.

use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use crate::catalog::Relation;
use crate::data::Data;
use crate::embedding::Embedding;
use crate::minute::Minute;
use crate::options::Options;
use crate::oracle::Oracle;
use crate::reader::{Reader, Until};
use crate::role::Role;
use crate::signals::Progress;
use crate::store::{Store, StoreError};
use crate::tally::Tally;
use crate::trouble::ReplayError;

/// How often it is looked how far things are written.
const LOOK: Duration = Duration::from_millis(50);

/// What was seen while another controller was followed.
#[derive(Debug)]
pub struct Followed {
    /// Up to where everything was written at the start.
    pub from: Minute,
    /// Up to where everything was written at the end.
    pub reached: Minute,
    /// What readers did.
    pub tally: Tally,
    /// How long it took.
    pub elapsed: Duration,
}

impl Followed {
    /// Whether every reading was right and nothing leaked.
    #[must_use]
    pub fn is_good(&self) -> bool {
        self.tally.wrong == 0 && self.tally.taken == self.tally.dropped
    }
}

/// Reads what another controller writes, until it has come as far as the role says, or, for who is to
/// take its place, until it writes no more. `progress` is told the minute that was reached, and may
/// end it.
///
/// # Errors
/// When nothing is written any more and nobody is to take over, the store does not answer, or the
/// engine has stopped.
pub fn follow(
    options: &Options,
    data: &Data,
    store: &Store,
    embedding: &Embedding,
    progress: &mut Progress<'_>,
) -> Result<Followed, ReplayError> {
    let (begin, from) = (Instant::now(), embedding.reached());
    let goal = goal(options, store, embedding)?;
    let (oracle, done) = (Oracle::new(data), AtomicBool::new(false));
    let tally = thread::scope(|scope| {
        let readers: Vec<_> = (0..options.readers)
            .map(|seed| {
                let until = Until::Done(&done);
                Reader::new(embedding, &oracle, until, seed)
            })
            .map(|reader| scope.spawn(move || reader.run()))
            .collect();
        let over = || readers.iter().any(thread::ScopedJoinHandle::is_finished);
        let result = wait_until(goal, options, embedding, over, progress);
        done.store(true, Ordering::Relaxed);
        let mut tally = Tally::default();
        for reader in readers {
            match reader.join() {
                Ok(read) => tally.merge(read?),
                Err(panic) => std::panic::resume_unwind(panic),
            }
        }
        result.map(|()| tally)
    })?;
    Ok(Followed {
        from,
        reached: embedding.reached(),
        tally,
        elapsed: begin.elapsed(),
    })
}

/// Up to where everything has to be written.
fn goal(options: &Options, store: &Store, embedding: &Embedding) -> Result<Minute, StoreError> {
    match options.role() {
        Role::InCharge | Role::ReadOnly => Ok(options.end()),
        Role::Promoted { at: Some(minute) } => Ok(minute),
        Role::Promoted { at: None } => {
            let contents = store.contents(embedding.places())?;
            let mut written = Minute::MAX;
            for relation in Relation::ALL {
                let upper = contents.window(relation)?.upper;
                written = written.min(upper.frontier().first().copied().unwrap_or(Minute::MAX));
            }
            Ok(written)
        }
    }
}

/// Waits until the engine has heard that everything is written up to `goal`, or it is over.
fn wait_until(
    goal: Minute,
    options: &Options,
    embedding: &Embedding,
    over: impl Fn() -> bool,
    progress: &mut Progress<'_>,
) -> Result<(), ReplayError> {
    let (mut reached, mut heard) = (embedding.reached(), Instant::now());
    while reached < goal && !over() {
        if heard.elapsed() > options.silence() {
            return match options.role() {
                // Whoever was in charge is gone: that is what a successor is there for.
                Role::Promoted { .. } => Ok(()),
                Role::InCharge | Role::ReadOnly => Err(ReplayError::Silent {
                    seconds: options.silence().as_secs(),
                    upper: reached,
                }),
            };
        }
        thread::sleep(LOOK);
        let now = embedding.reached();
        if now > reached {
            (reached, heard) = (now, Instant::now());
        }
        progress(reached)?;
    }
    Ok(())
}
