//! Collections over shards: all that a controller does with storage, from boot to drop.

mod plan;
mod finalizer;

pub use finalizer::{Finalization, FinalizerStats, Unfinalized};
pub use plan::{Allotment, Plan, PrepareError};
