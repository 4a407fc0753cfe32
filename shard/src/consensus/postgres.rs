//! Logs in a database that speaks the PostgreSQL protocol: for those who outgrow one machine.
//!
//! Transactions are READ COMMITTED, with the primary key as arbiter. One row, the *gate*, carries
//! the fence: who commits locks it shared, who takes over or truncates locks it alone. So nothing
//! of an older controller lands after a take-over, and no version goes away while somebody decides
//! by it what the next one is.
//!
//! A task of its own commits all that waits in one transaction, in one round trip; others read on
//! connections from a pool. Changes are notified on one more connection, a few at a time, never
//! inside a transaction that writes.

mod tls;
mod offers;
mod session;
mod pool;
mod committer;
mod notifier;

use std::fmt;
use std::future::Future;
use std::str::FromStr;
use std::sync::Arc;
use std::time::Duration;

use lowwater::StorageErrorKind;

use crate::id::LogId;

use super::hints::Hints;
use super::{
    Answer, Changes, Consensus, ConsensusError, Fence, Fenced, Offer, Outcome, Scan, Truncation,
    Version,
};
use committer::Committer;
use notifier::Notifier;
use pool::Pool;
use session::Session;
use tls::Tls;

/// Listeners are not told to look more often than this.
const POLL_MIN: Duration = Duration::from_millis(1);

/// No request is given less time: with none at all, all of them would fail.
const REQUEST_TIMEOUT_MIN: Duration = Duration::from_millis(100);

/// Where the database is, and how to use it. Its `Debug` shows nothing of the password.
#[derive(Clone)]
pub struct PostgresConfig {
    server: tokio_postgres::Config,
    connections_max: usize,
    request_timeout: Duration,
    poll_interval: Duration,
}

/// What is wrong with the address of a database. Says no more, for the address has a password in
/// it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("this is no address of a PostgreSQL database, such as postgres://user:password@host/name")]
pub struct AddressError;

/// Why a store was not opened that should have been there.
#[derive(Clone, Debug, thiserror::Error)]
pub enum OpenExistingError {
    /// The database has none, or not yet.
    #[error("there is no store in the database")]
    Absent,
    /// The database cannot be reached, or refuses.
    #[error(transparent)]
    Trouble(#[from] ConsensusError),
}

impl PostgresConfig {
    /// The database at this address: `postgres://user:password@host:port/name?option=value`, or
    /// the form with `key=value` pairs.
    ///
    /// With `sslmode=require` the connection is encrypted and the server's certificate is verified
    /// against the certificates of the system, or those that `SSL_CERT_FILE` names; with `prefer`,
    /// the default, likewise if the server offers it; with `disable`, nothing is encrypted.
    ///
    /// # Errors
    ///
    /// If it is not one.
    pub fn new(address: &str) -> Result<Self, AddressError> {
        let mut server = tokio_postgres::Config::from_str(address).map_err(|_| AddressError)?;
        if server.get_connect_timeout().is_none() {
            server.connect_timeout(Duration::from_secs(10));
        }
        if server.get_application_name().is_none() {
            server.application_name("lowwater");
        }
        Ok(PostgresConfig {
            server,
            connections_max: 4,
            request_timeout: Duration::from_secs(30),
            poll_interval: Duration::from_secs(5),
        })
    }

    /// How many connections read at most, 4 unless told otherwise. Two more write and listen.
    #[must_use]
    pub fn connections_max(mut self, connections_max: usize) -> Self {
        self.connections_max = connections_max.max(1);
        self
    }

    /// How long a request may take before its connection is given up, 30 seconds unless told
    /// otherwise, and never less than 100 milliseconds: also to connect, and to open the store. The
    /// outcome of what was to be written is unknown then. The server is told to wait no longer for a
    /// process that has vanished in the middle of a transaction, and a little less for locks: a
    /// request that did not get one was not carried out, for sure.
    #[must_use]
    pub fn request_timeout(mut self, request_timeout: Duration) -> Self {
        self.request_timeout = request_timeout.max(REQUEST_TIMEOUT_MIN);
        self
    }

    /// How often listeners are told to look, whether there was a notification or not: those of the
    /// database may be lost. Every 5 seconds unless told otherwise; never more often than every
    /// millisecond.
    #[must_use]
    pub fn poll_interval(mut self, poll_interval: Duration) -> Self {
        self.poll_interval = poll_interval.max(POLL_MIN);
        self
    }
}

impl fmt::Debug for PostgresConfig {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PostgresConfig")
            .field("hosts", &self.server.get_hosts())
            .field("ports", &self.server.get_ports())
            .field("database", &self.server.get_dbname())
            .field("user", &self.server.get_user())
            .field("connections_max", &self.connections_max)
            .field("request_timeout", &self.request_timeout)
            .field("poll_interval", &self.poll_interval)
            .finish_non_exhaustive()
    }
}

/// Logs in a database. Clones are handles of the same store; when the last one goes, what was asked
/// is still carried out.
#[derive(Clone, Debug)]
pub struct PostgresConsensus {
    committer: Committer,
    pool: Arc<Pool>,
    hints: Hints,
}

impl PostgresConsensus {
    /// Opens the store in this database, and creates its tables where they are absent: in the first
    /// schema of the search path. Goes on in tasks of the runtime that this is called in.
    ///
    /// # Durability
    ///
    /// What is written waits for the server's log to be synced, also where the server's
    /// `synchronous_commit` says otherwise. A server that does not sync at all (`fsync = off`), or
    /// does not protect pages from being torn (`full_page_writes = off`), is warned of in the log of
    /// this process: only its owner can say whether that is meant.
    ///
    /// # Errors
    ///
    /// If the database cannot be reached or refuses.
    pub async fn open(config: PostgresConfig) -> Result<Self, ConsensusError> {
        let tls = Tls::new(&config.server)?;
        let pool = Pool::new(config, tls);
        let open = async {
            let session = pool.connect().await?;
            session.create_tables().await?;
            session.warn_of_losses().await?;
            Ok(session)
        };
        let session = pool.within(open).await?;
        Ok(Self::on(pool, session))
    }

    /// Opens the store in this database if there is one, and creates nothing: who reads there needs
    /// no right to create tables, and leaves nothing behind in a database that has no store. Else as
    /// [`open`](PostgresConsensus::open).
    ///
    /// # Errors
    ///
    /// [`OpenExistingError::Absent`] if the search path leads to no store; if the database cannot be
    /// reached or refuses.
    pub async fn open_existing(config: PostgresConfig) -> Result<Self, OpenExistingError> {
        let tls = Tls::new(&config.server)?;
        let pool = Pool::new(config, tls);
        let open = async {
            let session = pool.connect().await?;
            if !session.has_tables().await? {
                return Ok(None);
            }
            session.warn_of_losses().await?;
            Ok(Some(session))
        };
        let session = pool.within(open).await?;
        let session = session.ok_or(OpenExistingError::Absent)?;
        Ok(Self::on(pool, session))
    }

    fn on(pool: Arc<Pool>, session: Session) -> Self {
        let hints = Hints::default();
        let notifier = Notifier::spawn(Arc::clone(&pool), hints.clone());
        PostgresConsensus {
            committer: Committer::spawn(Arc::clone(&pool), session, hints.clone(), notifier),
            pool,
            hints,
        }
    }

    /// Asks on a connection of the pool, and where that fails in a way that may pass, as when it was
    /// lost, once more on a new one: what is asked like this may be asked twice. Either try, with
    /// waiting for a connection and making one, takes no longer than a request may.
    fn ask<X, F>(&self, ask: impl Fn(Arc<Session>) -> F + Send + Sync + 'static) -> Answer<X>
    where
        X: Send + 'static,
        F: Future<Output = Result<X, ConsensusError>> + Send,
    {
        let pool = Arc::clone(&self.pool);
        Box::pin(async move {
            let first = async {
                let lease = pool.lease().await?;
                let answer = ask(lease.session()).await?;
                lease.give_back();
                Ok(answer)
            };
            let answer = pool.within(first).await;
            if !may_pass(&answer) {
                return answer;
            }
            let again = async {
                let lease = pool.lease_new().await?;
                let answer = ask(lease.session()).await?;
                lease.give_back();
                Ok(answer)
            };
            pool.within(again).await
        })
    }
}

fn may_pass<X>(answer: &Result<X, ConsensusError>) -> bool {
    let error = answer.as_ref().err();
    error.is_some_and(|error| error.kind() == StorageErrorKind::Retry)
}

impl Consensus for PostgresConsensus {
    fn heads(&self, logs: Vec<LogId>) -> Answer<Vec<Option<Version>>> {
        let logs: Arc<[_]> = logs.into();
        self.ask(move |session| {
            let logs = Arc::clone(&logs);
            async move { session.heads(&logs).await }
        })
    }

    fn commit(
        &self,
        fence: Option<Fence>,
        offers: Vec<Offer>,
    ) -> Answer<Result<Vec<Outcome>, Fenced>> {
        self.committer.commit(fence, offers)
    }

    fn scan(&self, scans: Vec<Scan>) -> Answer<Vec<Vec<Version>>> {
        let scans: Arc<[_]> = scans.into();
        self.ask(move |session| {
            let scans = Arc::clone(&scans);
            async move { session.scan(&scans).await }
        })
    }

    fn truncate(&self, truncations: Vec<Truncation>) -> Answer<()> {
        let truncations: Arc<[_]> = truncations.into();
        self.ask(move |session| {
            let truncations = Arc::clone(&truncations);
            async move { session.truncate(&truncations).await }
        })
    }

    fn list(&self, after: Option<LogId>, logs_max: usize) -> Answer<Vec<LogId>> {
        self.ask(move |session| async move { session.list(after, logs_max).await })
    }

    fn fence(&self) -> Answer<Option<Fence>> {
        self.ask(move |session| async move { session.fence().await })
    }

    fn take_over(&self, fence: Fence) -> Answer<Result<(), Fenced>> {
        self.ask(move |session| async move { session.take_over(fence).await })
    }

    fn changes(&self) -> Changes {
        self.hints.changes()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_request_is_given_too_little_time_to_be_answered() {
        let config = PostgresConfig::new("postgres://nowhere").unwrap();
        let config = config.request_timeout(Duration::ZERO);
        assert_eq!(config.request_timeout, REQUEST_TIMEOUT_MIN);
        let longer = REQUEST_TIMEOUT_MIN * 2;
        assert_eq!(config.request_timeout(longer).request_timeout, longer);
    }
}
