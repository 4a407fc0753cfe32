//! The time of the replay.

/// Minutes since 2013-01-01 00:00, on the clocks of New York.
pub type Minute = u64;

/// Minutes in an hour.
pub const HOUR: Minute = 60;

/// Minutes in a day.
pub const DAY: Minute = 24 * HOUR;

/// Days in the year.
pub const YEAR_DAYS: Minute = 365;
