//! The stores that the suite runs on.

use std::env;
use std::future::Future;
use std::path::PathBuf;
use std::sync::Arc;

use lowwater_shard::Nonce;
use lowwater_shard::consensus::embedded::EmbeddedConsensus;
use lowwater_shard::consensus::postgres::{PostgresConfig, PostgresConsensus};
use lowwater_shard::consensus::{Consensus, MemoryConsensus};
use tempfile::TempDir;

/// A store that is empty at first.
pub(crate) trait Store: Sync {
    /// Another handle, as another process would have it.
    async fn open(&self) -> Arc<dyn Consensus>;

    /// Where another process finds it.
    fn address(&self) -> String;
}

/// Opens a store by its address.
pub(crate) async fn open(address: &str) -> Arc<dyn Consensus> {
    if address.starts_with("postgres") {
        let config = PostgresConfig::new(address).unwrap();
        return Arc::new(PostgresConsensus::open(config).await.unwrap());
    }
    Arc::new(EmbeddedConsensus::open(PathBuf::from(address)).unwrap())
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

/// A schema of its own in the database that the environment names.
pub(crate) struct Postgres {
    server: String,
    schema: String,
}

const SERVER: &str = "LOWWATER_TEST_POSTGRES";

impl Postgres {
    /// None, with a word about it, where there is no server; in CI there must be one.
    pub(crate) fn new() -> Option<Self> {
        let Ok(server) = env::var(SERVER) else {
            let missing = format!(
                "{SERVER} is not set: nothing is tested on PostgreSQL. Start a server (on Debian \
                 `apt-get install postgresql`, then `initdb` and `pg_ctl start` as another user \
                 than root), and name it: {SERVER}=postgres://postgres@127.0.0.1:5432/postgres"
            );
            assert!(env::var("CI").is_err(), "{missing}");
            eprintln!("{missing}");
            return None;
        };
        let schema = format!("lowwater_test_{}", Nonce::random());
        let store = Postgres { server, schema };
        store.execute(&format!("CREATE SCHEMA {}", store.schema));
        Some(store)
    }

    pub(crate) fn schema(&self) -> &str {
        &self.schema
    }

    /// A connection past the store.
    pub(crate) async fn connect(&self) -> tokio_postgres::Client {
        let connected = tokio_postgres::connect(&self.server, tokio_postgres::NoTls).await;
        let (client, connection) = connected.expect("the server that was named answers");
        tokio::spawn(connection);
        client
    }

    fn execute(&self, statement: &str) {
        run(async { self.connect().await.batch_execute(statement).await.unwrap() });
    }

    /// Ends all connections to the store but our own.
    pub(crate) fn end_connections(&self) {
        self.execute(&format!(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity
             WHERE application_name = '{}' AND pid <> pg_backend_pid()",
            self.schema
        ));
    }
}

impl Drop for Postgres {
    fn drop(&mut self) {
        self.execute(&format!("DROP SCHEMA {} CASCADE", self.schema));
    }
}

impl Store for Postgres {
    async fn open(&self) -> Arc<dyn Consensus> {
        open(&self.address()).await
    }

    fn address(&self) -> String {
        let separator = if self.server.contains('?') { '&' } else { '?' };
        format!(
            "{}{separator}application_name={}&options=-c%20search_path%3D{}",
            self.server, self.schema, self.schema
        )
    }
}

/// Runs a future on a runtime of its own. Keep the handles inside: they go with it.
pub(crate) fn run<X>(future: impl Future<Output = X>) -> X {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap();
    runtime.block_on(future)
}
