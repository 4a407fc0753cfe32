//! A controller that embeds Lowwater and replays a year of flights.
//!
//! ```text
//! cargo run --release --bin controller -- --probe 10000 --plot year.svg
//! ```
//!
//! One thread owns the dataflow: it changes the tables minute by minute, commits what is theirs in
//! transactions, appends what comes out of the views to durable shards, reports to the engine how far
//! everything is written, compacts every arrangement to the since that the engine answers, and
//! reads for others. Readers take holds from the engine, read from the shards or have something
//! read as of a time that they hold, compare it with what the tables say, and drop their holds. At
//! the end every since must be what its policy asks for, in the shards too. Another process may
//! follow, and take over.
//!
//! The modules, in the order in which data flow through them.

#![forbid(unsafe_code)]

pub mod minute;
pub mod signals;
pub mod role;
pub mod location;
pub mod options;
pub mod data;
pub mod timetable;
pub mod catalog;
pub mod row;
pub mod columns;
pub mod oracle;
pub mod past;
pub mod outlet;
pub mod arrangement;
pub mod views;
pub mod ingestion;
pub mod dataflow;
pub mod metrics;
pub mod store;
pub mod embedding;
pub mod writers;
pub mod history;
pub mod trouble;
pub mod latency;
pub mod tally;
pub mod desk;
pub mod reader;
pub mod sabotage;
pub mod findings;
pub mod probe;
pub mod demonstration;
pub mod course;
pub mod outcome;
pub mod answering;
pub mod replay;
pub mod follower;
pub mod standby;
pub mod ask;
pub mod report;
pub mod plot;
pub mod warnings;
pub mod program;
