//! The owner thread: takes what is queued, turns the state, carries out the effects.

mod ages;
mod bell;
mod board;
mod engine;
mod journal;
mod replies;
mod stats;
mod worker;

pub use bell::Doorbell;
pub use engine::{Config, Engine, EngineThread, Turned};
pub use journal::EVENTS_MAX;
pub use stats::Stats;

pub(crate) use bell::Bell;
pub(crate) use journal::Noted;
