//! Mistakes made on purpose, to see that they are noticed.

/// A mistake made on purpose, to see that it is noticed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Sabotage {
    /// None: the replay as it should be.
    None,
    /// The arrangements are compacted one step further than the engine allows.
    CompactTooFar,
    /// A hold is forgotten instead of dropped.
    LeakHold,
    /// The engine is stopped halfway.
    StopEngine,
    /// What a step writes to `departures` is left out, halfway, of what commits together.
    TearTables,
}
