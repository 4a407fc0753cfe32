//! A controller's collections, from boot to drop, on memory, on SQLite and on PostgreSQL.
#![expect(clippy::unwrap_used, reason = "what a test does not expect fails it")]
#![expect(clippy::print_stderr, reason = "people are told what was skipped")]

mod place;
mod collections {
    mod asking;
    mod burying;
    mod charge;
    mod crash;
    mod creating;
    mod finalizing;
    mod metrics;
    mod owning;
    mod reading;
    mod returning;
    mod standby;
    mod stuck;
    mod tables;
    mod world;
}
