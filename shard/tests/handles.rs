//! Handles of shards: each `Shards` on one store stands for a process.
#![expect(clippy::unwrap_used, reason = "what a test does not expect fails it")]

mod place;
#[path = "handles/appends.rs"]
mod appends;
#[path = "handles/cancelled.rs"]
mod cancelled;
#[path = "handles/counting.rs"]
mod counting;
#[path = "handles/damaged.rs"]
mod damaged;
#[path = "handles/disk.rs"]
mod disk;
#[path = "handles/history.rs"]
mod history;
#[path = "handles/leases.rs"]
mod leases;
#[path = "handles/never.rs"]
mod never;
#[path = "handles/overtaken.rs"]
mod overtaken;
#[path = "handles/pausing.rs"]
mod pausing;
#[path = "handles/renewing.rs"]
mod renewing;
#[path = "handles/schemas.rs"]
mod schemas;
#[path = "handles/sides.rs"]
mod sides;
#[path = "handles/snapshots.rs"]
mod snapshots;
#[path = "handles/stopped.rs"]
mod stopped;
#[path = "collections/stuck.rs"]
mod stuck;
#[path = "handles/subscriptions.rs"]
mod subscriptions;
#[path = "handles/sweeping.rs"]
mod sweeping;
#[path = "handles/upkeep.rs"]
mod upkeep;
#[path = "handles/world.rs"]
mod world;
