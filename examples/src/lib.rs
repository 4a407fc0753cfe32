//! A controller that embeds Lowwater and replays a year of flights.
//!
//! The modules, in the order in which data flow through them.

#![forbid(unsafe_code)]

pub mod minute;
pub mod data;
pub mod timetable;
pub mod catalog;
pub mod row;
pub mod oracle;
pub mod arrangement;
pub mod views;
pub mod dataflow;
