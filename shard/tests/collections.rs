//! A controller's collections, from boot to drop, on memory and on SQLite.
#![expect(clippy::unwrap_used, reason = "what a test does not expect fails it")]

mod collections {
    mod charge;
    mod crash;
    mod creating;
    mod finalizing;
    mod standby;
    mod tables;
    mod world;
}
