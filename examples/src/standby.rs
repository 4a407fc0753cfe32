//! A controller that stands by: it follows another one, and may take its place.

use lowwater_shard::collections::TakenOver;

use crate::catalog::Relation;
use crate::data::Data;
use crate::embedding::{Embedding, Hold};
use crate::follower::{Followed, follow};
use crate::minute::Minute;
use crate::options::Options;
use crate::outcome::Outcome;
use crate::replay::replay_on;
use crate::sabotage::Sabotage;
use crate::signals::Progress;
use crate::store::Store;
use crate::trouble::ReplayError;

/// Follows the controller in charge until the store has reached the last day.
///
/// # Errors
/// When there is nothing to follow, nothing is written any more, or the store does not answer. The
/// leases are given back all the same.
pub fn read_only(
    options: &Options,
    data: &Data,
    store: &mut Store,
    progress: &mut Progress<'_>,
) -> Result<Followed, ReplayError> {
    let embedding = Embedding::follow(store, progress)?;
    let followed = follow(options, data, store, &embedding, progress);
    // However it has ended, the leases are given back.
    let stopped = embedding.stop();
    store.end_upkeep();
    let followed = followed?;
    stopped?;
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
    progress: &mut Progress<'_>,
) -> Result<Outcome, ReplayError> {
    let mut embedding = Embedding::follow(store, progress)?;
    let ready = follow_and_promote(options, data, store, &mut embedding, progress);
    let Promoted {
        followed,
        holds,
        taken,
    } = match ready {
        Ok(promoted) => promoted,
        Err(error) => {
            let error = error.or_fenced(embedding.client());
            // The leases are given back; why it is not in charge matters more than how it stops.
            let _ = embedding.stop();
            return Err(error);
        }
    };
    promoted(&taken, embedding.reached());
    let mut outcome = replay_on(options, data, store, embedding, holds, sabotage, progress)?;
    outcome.tally.merge(followed.tally);
    Ok(outcome)
}

/// What a controller has that was put in charge.
struct Promoted {
    followed: Followed,
    holds: Vec<Hold>,
    taken: TakenOver,
}

fn follow_and_promote(
    options: &Options,
    data: &Data,
    store: &Store,
    embedding: &mut Embedding,
    progress: &mut Progress<'_>,
) -> Result<Promoted, ReplayError> {
    let followed = follow(options, data, store, embedding, progress)?;
    // Who is promoted keeps what it holds.
    let holds = embedding.hold_all_of(&Relation::ALL)?;
    let taken = embedding.promote(store)?;
    Ok(Promoted {
        followed,
        holds,
        taken,
    })
}
