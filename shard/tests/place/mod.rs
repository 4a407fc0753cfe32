//! Where records and parts of a test are, as other processes find them.
#![allow(dead_code, reason = "each test uses what it needs of it")]

pub(crate) mod postgres;
pub(crate) mod rows;

use std::path::PathBuf;
use std::sync::{Arc, Mutex};

use lowwater_shard::consensus::Consensus;
use lowwater_shard::consensus::embedded::EmbeddedConsensus;
use lowwater_shard::consensus::postgres::{PostgresConfig, PostgresConsensus};
use lowwater_shard::{PartId, Parts};
use tempfile::TempDir;

use postgres::Postgres;

/// A store and a place for parts.
#[derive(Clone, Debug)]
pub(crate) struct Address {
    pub(crate) records: String,
    pub(crate) parts: String,
}

impl Address {
    pub(crate) async fn store(&self) -> Arc<dyn Consensus> {
        open(&self.records).await
    }

    pub(crate) fn parts(&self) -> Parts {
        Parts::at(&self.parts).unwrap()
    }
}

/// Opens a store by its address.
pub(crate) async fn open(address: &str) -> Arc<dyn Consensus> {
    if address.starts_with("postgres") {
        let config = PostgresConfig::new(address).unwrap();
        return Arc::new(PostgresConsensus::open(config).await.unwrap());
    }
    Arc::new(EmbeddedConsensus::open(PathBuf::from(address)).unwrap())
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Records {
    Sqlite,
    Postgres,
}

/// Where stores and parts are, gone when this is dropped: not inside of a runtime.
pub(crate) struct Place {
    records: Records,
    folder: TempDir,
    s3: Option<String>,
    schemas: Mutex<Vec<Postgres>>,
}

impl Place {
    fn new(records: Records, s3: Option<String>) -> Self {
        Place {
            records,
            folder: TempDir::new().unwrap(),
            s3,
            schemas: Mutex::default(),
        }
    }

    /// SQLite, and parts in a folder.
    #[expect(clippy::unnecessary_wraps, reason = "the others may be missing")]
    pub(crate) fn sqlite() -> Option<Self> {
        Some(Place::new(Records::Sqlite, None))
    }

    /// PostgreSQL, and parts in a folder; none, with a word about it, where there is no server.
    pub(crate) fn postgres() -> Option<Self> {
        let _there = Postgres::server()?;
        Some(Place::new(Records::Postgres, None))
    }

    /// PostgreSQL, and parts in S3; none, with a word about it, where one is missing.
    pub(crate) fn postgres_and_s3() -> Option<Self> {
        let _there = Postgres::server()?;
        Some(Place::new(Records::Postgres, Some(s3()?)))
    }

    /// A store that is empty, and a place without parts.
    pub(crate) fn fresh(&self) -> Address {
        let name = PartId::random().to_string();
        let records = match self.records {
            Records::Sqlite => self.path(&name, "records"),
            Records::Postgres => self.schema(),
        };
        let parts = match &self.s3 {
            Some(s3) => format!("{}/{name}", s3.trim_end_matches('/')),
            None => self.path(&name, "parts"),
        };
        Address { records, parts }
    }

    fn path(&self, name: &str, of: &str) -> String {
        let path = self.folder.path().join(name).join(of);
        path.to_str().unwrap().to_owned()
    }

    fn schema(&self) -> String {
        // In a thread: it waits in a runtime of its own.
        let schema = std::thread::scope(|scope| scope.spawn(Postgres::new).join().unwrap());
        let schema = schema.expect("there was a server");
        let address = schema.address();
        self.schemas.lock().unwrap().push(schema);
        address
    }
}

#[expect(clippy::print_stderr, reason = "people are told what was skipped")]
fn s3() -> Option<String> {
    let place = std::env::var("LOWWATER_TEST_S3").ok();
    if place.is_none() {
        let missing = "no S3 server: `. .ci/s3` starts one and sets LOWWATER_TEST_S3";
        assert!(std::env::var_os("CI").is_none(), "{missing}");
        eprintln!("skipped, {missing}");
    }
    place
}
