//! Replays a year of flights.

fn main() {}
