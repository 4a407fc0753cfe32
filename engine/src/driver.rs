//! The owner thread: takes what is queued, turns the state, carries out the effects.

mod ages;
mod bell;
mod board;
mod config;
mod engine;
mod journal;
mod metrics;
mod replies;
mod stats;
mod thread;
mod worker;

pub use bell::Doorbell;
pub use config::{Config, Parameters};
pub use engine::{Engine, Turned};
pub use journal::EVENTS_MAX;
pub use metrics::{Metrics, TURN_CLASSES};
pub use stats::Stats;
pub use thread::EngineThread;

pub(crate) use bell::Bell;
pub(crate) use journal::Noted;
pub(crate) use metrics::Gauges;
