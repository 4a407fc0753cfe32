//! A world around the state machine, driven by lines of text: readers with pins, storage, clients
//! with holds, and beside them the plain truth, recomputed from scratch after every turn.
//!
//! `scripts.rs` drives it by files, `oracle.rs` by chance; what fails by chance is therefore a
//! script that can be kept. The language is described in [`World::line`].

mod answers;
mod checks;
mod clients;
mod commands;
mod expect;
mod policy;
mod readers;
mod requests;
mod storage;
mod tell;
mod text;
mod truth;
mod world;

pub(crate) use text::TestTime;
pub(crate) use world::World;
