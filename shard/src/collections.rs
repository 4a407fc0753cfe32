//! Collections over shards: all that a controller does with storage, from boot to drop.

mod plan;

pub use plan::{Allotment, Plan, PrepareError};
