//! Keeps track of how far each collection of a data system may be compacted.
#![forbid(unsafe_code)]

pub mod command;
pub mod effect;
pub mod explanation;
pub mod frontier;
pub mod id;
pub mod input;
pub mod policy;
pub mod state;
pub mod storage;

pub use command::*;
pub use frontier::{Frontiers, Since, Time, Upper};
pub use id::*;
pub use policy::{PolicyError, ReadPolicy};
pub use state::State;
