//! Keeps track of how far each collection of a data system may be compacted.
#![forbid(unsafe_code)]

mod frontier;
mod id;
mod policy;
mod command;
mod client;
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

pub use client::{Client, Collection};
pub use command::{
    AcquireError, CloneError, Command, CreateError, Description, DowngradeError, DropError,
    LookupError, Refusal, ReportError, SetPoliciesError, Start, StopReason, Target, Until,
    WaitError,
};
pub use driver::{Config, Doorbell, EVENTS_MAX, Engine, EngineThread, Stats, Turned};
pub use effect::{Answer, Effect, Event, Granted, Readers};
pub use events::{Events, Heard};
pub use explanation::{Cause, Explanation};
pub use frontier::{Frontiers, Since, Time, Upper};
pub use hold::{MergeError, MergeRefusal, ReadHold};
pub use id::{CollectionId, Key, ShardId, Ticket};
pub use input::{Cell, HoldChange, Input};
pub use pending::Pending;
pub use policy::{Lag, PolicyError, ReadPolicy, Step};
pub use state::State;
pub use storage::{
    DowngradeOutcome, DowngradeSinces, MemoryStorage, OpenOutcome, OpenShards, OpenedShard,
    SinceWish, Storage, StorageError, StorageErrorKind, StorageReport, StorageReports,
};
pub use subscription::Subscription;
