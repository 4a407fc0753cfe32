//! The stores that the suite runs on.

use std::sync::Arc;

use lowwater_shard::consensus::{Consensus, MemoryConsensus};
use tempfile::TempDir;

pub(crate) use crate::place::open;
pub(crate) use crate::place::postgres::{Postgres, run};

/// A store that is empty at first.
pub(crate) trait Store: Sync {
    /// Another handle, as another process would have it.
    async fn open(&self) -> Arc<dyn Consensus>;

    /// Where another process finds it.
    fn address(&self) -> String;
}

pub(crate) struct Memory(MemoryConsensus);

impl Memory {
    pub(crate) fn new() -> Self {
        Memory(MemoryConsensus::new())
    }
}

impl Store for Memory {
    async fn open(&self) -> Arc<dyn Consensus> {
        Arc::new(self.0.clone())
    }

    fn address(&self) -> String {
        unreachable!("no other process finds it")
    }
}

pub(crate) struct Embedded(TempDir);

impl Embedded {
    pub(crate) fn new() -> Self {
        Embedded(TempDir::new().unwrap())
    }
}

impl Store for Embedded {
    async fn open(&self) -> Arc<dyn Consensus> {
        open(&self.address()).await
    }

    fn address(&self) -> String {
        self.0.path().join("store").to_str().unwrap().to_owned()
    }
}

impl Store for Postgres {
    async fn open(&self) -> Arc<dyn Consensus> {
        open(&Postgres::address(self)).await
    }

    fn address(&self) -> String {
        Postgres::address(self)
    }
}
