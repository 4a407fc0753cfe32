//! Figures of Lowwater beside a baseline that does the same job the usual way.
//!
//! [`baseline`] is the yardstick; [`workload`] says what both sides are given to do, and
//! [`side`] lets the same code drive the one and the other; [`floor`] is what the bare machine
//! needs for the heart of it. A [`job`] is what is timed. [`report`] times all of them in one process
//! run and prints the table; the benches of `benches/` time the same jobs with criterion.

#![forbid(unsafe_code)]

pub mod workload;
pub mod flights;
pub mod baseline;
pub mod side;
pub mod floor;
pub mod sample;
pub mod job;
pub mod report;
