//! A controller that embeds Lowwater and replays a year of flights.

#![forbid(unsafe_code)]
