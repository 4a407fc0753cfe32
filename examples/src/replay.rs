//! The replay: write, report, compact, answer, minute by minute.

mod steps;

use std::thread;

use crate::data::Data;
use crate::desk;
use crate::embedding::{Embedding, Hold};
use crate::options::Options;
use crate::oracle::Oracle;
use crate::outcome::Outcome;
use crate::reader::{Reader, Until};
use crate::sabotage::Sabotage;
use crate::signals::Progress;
use crate::store::Store;
use crate::tally::Tally;
use crate::trouble::ReplayError;

use steps::Replay;

/// Takes charge of the store, and replays the first days of the year from where it is. `progress` is
/// told the minute that was reached, and may end it.
///
/// # Errors
/// When the engine or the store does not do what it is asked to, or another controller takes over.
pub fn replay(
    options: &Options,
    data: &Data,
    store: &mut Store,
    sabotage: Sabotage,
    progress: &mut Progress<'_>,
) -> Result<Outcome, ReplayError> {
    let embedding = Embedding::start(store)?;
    replay_on(
        options,
        data,
        store,
        embedding,
        Vec::new(),
        sabotage,
        progress,
    )
}

/// The same, with an engine that is in charge already, and holds that were taken before. They are
/// dropped when the replay has begun.
///
/// # Errors
/// When the engine or the store does not do what it is asked to, or another controller takes over.
pub fn replay_on(
    options: &Options,
    data: &Data,
    store: &mut Store,
    embedding: Embedding,
    holds: Vec<Hold>,
    sabotage: Sabotage,
    progress: &mut Progress<'_>,
) -> Result<Outcome, ReplayError> {
    let (client, places) = (embedding.client().clone(), embedding.places().clone());
    let played = play(options, data, store, &embedding, holds, sabotage, progress);
    // However it has ended: leases that it may still have from before are given back.
    let stopped = embedding.stop();
    let outcome = played.and_then(|outcome| {
        stopped?;
        Ok(outcome)
    });
    let outcome = outcome.map_err(|error| error.or_fenced(&client))?;
    // The last that knows the engine.
    drop(client);
    outcome.settle(store, &places)
}

/// Replays with an engine that is running, and goes on.
fn play(
    options: &Options,
    data: &Data,
    store: &Store,
    embedding: &Embedding,
    holds: Vec<Hold>,
    sabotage: Sabotage,
    progress: &mut Progress<'_>,
) -> Result<Outcome, ReplayError> {
    let oracle = Oracle::new(data);
    let (desk, entrance) = desk::open();

    let mut replay = Replay::start(options, data, store, embedding, sabotage)?;
    drop(holds);
    let tallies = thread::scope(|scope| {
        let readers: Vec<_> = (0..options.readers)
            .map(|seed| {
                let until = Until::Closed(entrance.visitor());
                Reader::new(embedding, &oracle, until, seed)
            })
            .map(|reader| scope.spawn(move || reader.run()))
            .collect();
        drop(entrance);

        let result = replay.run(desk, progress);
        if result.is_err() {
            // Readers may be waiting for an upper that will not come. If the engine has stopped of
            // itself, they know already.
            let _ = embedding.client().stop().wait();
        }
        let tallies = readers.into_iter().map(|reader| match reader.join() {
            Ok(tally) => tally,
            Err(panic) => std::panic::resume_unwind(panic),
        });
        let tallies: Result<Vec<Tally>, _> = tallies.collect();
        result.and(tallies)
    })?;
    tallies
        .into_iter()
        .for_each(|tally| replay.tally.merge(tally));

    replay.finish(&oracle)
}
