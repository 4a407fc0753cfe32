//! A controller that stands by: it follows another one, and may take its place.

use lowwater_shard::collections::TakenOver;

use crate::catalog::Relation;
use crate::data::Data;
use crate::embedding::Embedding;
use crate::follower::{Followed, follow};
use crate::minute::Minute;
use crate::options::Options;
use crate::outcome::Outcome;
use crate::replay::replay_on;
use crate::sabotage::Sabotage;
use crate::store::Store;
use crate::trouble::ReplayError;

/// Follows the controller in charge until the store has reached the last day.
///
/// # Errors
/// When there is nothing to follow, nothing is written any more, or the store does not answer.
pub fn read_only(
    options: &Options,
    data: &Data,
    store: &mut Store,
    progress: &mut dyn FnMut(Minute),
) -> Result<Followed, ReplayError> {
    let embedding = Embedding::follow(store)?;
    let followed = follow(options, data, store, &embedding, progress)?;
    embedding.stop()?;
    // Until the leases are given back.
    store.end_upkeep();
    Ok(followed)
}

/// Follows the controller in charge, takes its place, and goes on with the replay. `promoted` is
/// told when it is in charge, and where the store was then.
///
/// # Errors
/// When there is nothing to follow, the store does not answer, or another controller takes it over
/// in turn.
pub fn take_over(
    options: &Options,
    data: &Data,
    store: &mut Store,
    sabotage: Sabotage,
    promoted: &mut dyn FnMut(&TakenOver, Minute),
    progress: &mut dyn FnMut(Minute),
) -> Result<Outcome, ReplayError> {
    let mut embedding = Embedding::follow(store)?;
    let Followed { tally, .. } = follow(options, data, store, &embedding, progress)?;
    // Who is promoted keeps what it holds.
    let holds = embedding.hold_all_of(&Relation::ALL)?;
    let taken = embedding.promote(store);
    let taken = taken.map_err(|error| ReplayError::from(error).or_fenced(embedding.client()))?;
    promoted(&taken, embedding.reached());
    let mut outcome = replay_on(options, data, store, embedding, holds, sabotage, progress)?;
    outcome.tally.merge(tally);
    Ok(outcome)
}
