//! A schema of its own in the database that the environment names.

use std::env;
use std::future::Future;

use lowwater_shard::Nonce;
use tokio_postgres::error::SqlState;

const SERVER: &str = "LOWWATER_TEST_POSTGRES";

/// A schema of its own, gone when this is dropped: not inside of a runtime.
pub(crate) struct Postgres {
    server: String,
    schema: String,
}

impl Postgres {
    /// The address of the server. None, with a word about it, where there is none; in CI there must
    /// be one.
    #[expect(clippy::print_stderr, reason = "people are told what was skipped")]
    pub(crate) fn server() -> Option<String> {
        let server = env::var(SERVER).ok();
        if server.is_none() {
            let missing = format!(
                "{SERVER} is not set: nothing is tested on PostgreSQL. Start a server (on Debian \
                 `apt-get install postgresql`, then `initdb` and `pg_ctl start` as another user \
                 than root), and name it: {SERVER}=postgres://postgres@127.0.0.1:5432/postgres"
            );
            assert!(env::var("CI").is_err(), "{missing}");
            eprintln!("{missing}");
        }
        server
    }

    /// A new schema on that server.
    pub(crate) fn new() -> Option<Self> {
        Some(Postgres::on(Postgres::server()?))
    }

    /// A new schema on this server.
    pub(crate) fn on(server: String) -> Self {
        let schema = format!("lowwater_test_{}", Nonce::random());
        let postgres = Postgres { server, schema };
        postgres.execute(&format!("CREATE SCHEMA {}", postgres.schema));
        postgres
    }

    pub(crate) fn schema(&self) -> &str {
        &self.schema
    }

    /// Where a store in it is found.
    pub(crate) fn address(&self) -> String {
        self.address_by(&self.server)
    }

    /// The same by way of another server.
    pub(crate) fn address_by(&self, server: &str) -> String {
        let separator = if server.contains('?') { '&' } else { '?' };
        format!(
            "{server}{separator}application_name={}&options=-c%20search_path%3D{}",
            self.schema, self.schema
        )
    }

    /// A connection past the store.
    pub(crate) async fn connect(&self) -> tokio_postgres::Client {
        let connected = tokio_postgres::connect(&self.server, tokio_postgres::NoTls).await;
        let (client, connection) = connected.expect("the server that was named answers");
        tokio::spawn(connection);
        client
    }

    fn execute(&self, statement: &str) {
        run(async { insist(&self.connect().await, statement).await });
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

/// Executes a statement, also where a store that nobody waits for any more still writes: whoever drops
/// a schema meanwhile takes its tables in another order, and may be the one to give way.
pub(crate) async fn insist(client: &tokio_postgres::Client, statement: &str) {
    for _ in 0..10 {
        match client.batch_execute(statement).await {
            Err(error) if error.code() == Some(&SqlState::T_R_DEADLOCK_DETECTED) => {}
            executed => return executed.unwrap(),
        }
    }
    panic!("{statement}: one deadlock after another");
}

/// Runs a future on a runtime of its own. Keep the handles inside: they go with it.
pub(crate) fn run<X>(future: impl Future<Output = X>) -> X {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap();
    runtime.block_on(future)
}
