//! A controller that embeds Lowwater and replays a year of flights.
//!
//! The modules, in the order in which data flow through them.

#![forbid(unsafe_code)]

pub mod minute;
pub mod options;
pub mod data;
pub mod timetable;
pub mod catalog;
pub mod row;
pub mod oracle;
pub mod arrangement;
pub mod views;
pub mod dataflow;
pub mod embedding;
pub mod latency;
pub mod tally;
pub mod desk;
pub mod reader;
pub mod probe;
pub mod demonstration;
pub mod course;
pub mod replay;
pub mod report;
pub mod plot;
pub mod program;
