//! Loom models of the protocols in `lowwater-queue`, and the mutants that they must catch.
//!
//! A model is a few threads and an assertion; loom runs it through every interleaving, and every
//! value that a weak memory model lets a load see, up to a bound on preemptions. Each file of
//! `tests/` is about one protocol. What proves that the models can fail is in `mutants/`.
//!
//! ```text
//! RUSTFLAGS="--cfg loom" cargo test --release -p lowwater-loom-tests
//! cargo run --release -p lowwater-loom-tests --bin mutants
//! ```
//!
//! Building the models takes longer than running them; `CARGO_PROFILE_RELEASE_LTO=off` helps.
//!
//! Loom's own limits bound what is proven. It executes one interleaving after another: a load may
//! see an old value, but nothing sees a value from the future, and an atomic update sees the
//! newest. An ordering that only forbids a later access to overtake an earlier one is caught by
//! what else it publishes; the models say where they do so.
#![forbid(unsafe_code)]
#![cfg(loom)]

mod bell;
mod cells;
mod engine;
mod outcomes;
mod witness;

pub use bell::Bell;
pub use cells::{Numbers, Shared, owner};
pub use engine::{Context, Engine, Message, Model};
pub use outcomes::{Outcomes, check};
pub use witness::{Dropped, Witness};
