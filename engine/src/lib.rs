//! Keeps track of how far each collection of a data system may be compacted, and lets go of what
//! nobody can read any more.
//!
//! A controller embeds an [`Engine`], which owns all state on one thread, and talks to it through
//! [`Client`]s. What it tracks are *collections*: how far each is written (its [`Upper`]) and from
//! when on it can be read (its [`Since`]). Between the two lies the history that readers may ask
//! for. A collection's since is held back by
//!
//! - its own [`ReadPolicy`], through the *implied capability*, which follows the upper,
//! - [`ReadHold`]s, which any thread takes and drops in nanoseconds, and
//! - the collections that depend on it.
//!
//! ```
//! use lowwater::{Config, Description, Engine, MemoryStorage, ReadPolicy, Since, Upper};
//!
//! let (engine, client) = Engine::<u64, u64>::new(Config::default(), MemoryStorage::new())?;
//! let owner = engine.spawn()?;
//! let new = Description::new(7, ReadPolicy::step_back());
//! let flights = client.create(vec![new]).wait()?.remove(0);
//!
//! client.report_uppers(vec![(7, Upper::at(10))]).wait()?;
//! let hold = flights.acquire()?;
//! client.report_uppers(vec![(7, Upper::at(20))]).wait()?;
//! assert_eq!(flights.since(), Since::at(9));
//! drop(hold);
//! flights.wait_for_since_past([18]).wait()?;
//!
//! client.stop().wait()?;
//! owner.join()?;
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! # What is promised
//!
//! - While a hold lives, its collection can be read from [`ReadHold::since`] on. Where storage
//!   itself holds by a lease, as a controller does that only reads, a lease that lapses revokes
//!   holds: [`ReadHold::check`] tells.
//! - Taking a hold at the implied capability, by handle or by id, and dropping it, takes no lock,
//!   allocates nothing, and does not depend on how long a turn of the engine is.
//! - A refused command changes nothing. An answer comes after its outcome is visible to everybody.
//! - Nothing waits for ever: when the engine stops or panics, every pending answer comes to an
//!   error that says so.
//! - Planned and durable since are two figures ([`Frontiers`]). Only the durable one permits
//!   deletion.
//!
//! # What is not
//!
//! - The engine moves no data. It says how far a collection may be compacted; whoever has the data
//!   does it.
//! - There is no fairness between callers beyond the order of the queue.
//! - A hold ends with its engine: durable readers hold by other means.
//!
//! # Inside
//!
//! Data flows one way: [`Client`] → [`Command`] ← [`State`] → [`Effect`] ← the driver → [`Storage`].
//! The [state machine](state) is pure, and can be driven without a thread, clock or storage.
#![forbid(unsafe_code)]

mod frontier;
mod id;
mod policy;
mod command;
mod client;
mod collection;
mod hold;
mod pending;
mod subscription;
mod events;
mod link;
mod message;
mod input;
pub mod state;
mod effect;
mod explanation;
mod driver;
mod storage;

pub use client::Client;
pub use collection::Collection;
pub use command::{
    AcquireError, CloneError, Command, CreateError, Description, DowngradeError, DropError,
    HoldLost, LookupError, Refusal, ReportError, SetPoliciesError, Start, StopError, StopReason,
    Target, Until, WaitError,
};
pub use driver::{
    Config, Doorbell, EVENTS_MAX, Engine, EngineThread, Metrics, Parameters, Stats, TURN_CLASSES,
    Turned,
};
pub use effect::{Answer, Effect, Event, Granted, Readers};
pub use events::{Events, Heard};
pub use explanation::{Cause, Explanation};
pub use frontier::{Frontiers, Since, Time, Upper};
pub use hold::{MergeError, MergeRefusal, ReadHold};
pub use id::{CollectionId, Epoch, Key, ShardId, Ticket};
pub use input::{Cell, HoldChange, Input};
pub use pending::Pending;
pub use policy::{Lag, PolicyError, ReadPolicy, Step};
pub use state::{Downgrades, State};
pub use storage::{
    DowngradeOutcome, DowngradeSinces, MemoryStorage, OpenOutcome, OpenShards, OpenedShard,
    SinceWish, Storage, StorageError, StorageErrorKind, StorageReport, StorageReports,
};
pub use subscription::Subscription;

/// The README's example, compiled and run.
#[cfg(doctest)]
#[doc = include_str!("../../README.md")]
mod readme {}
