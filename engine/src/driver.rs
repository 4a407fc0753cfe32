//! The owner thread: takes what is queued, turns the state, carries out the effects.

mod ages;
mod bell;
mod board;
mod config;
mod engine;
mod journal;
mod replies;
mod stats;
mod thread;
mod worker;

pub use bell::Doorbell;
pub use config::Config;
pub use engine::{Engine, Turned};
pub use journal::EVENTS_MAX;
pub use stats::Stats;
pub use thread::EngineThread;

pub(crate) use bell::Bell;
pub(crate) use journal::Noted;
