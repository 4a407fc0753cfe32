//! Connections that read: a bounded number, opened when needed, given up when lost.

use std::fmt;
use std::future::Future;
use std::sync::Arc;

use lowwater::StorageErrorKind;
use parking_lot::Mutex;
use tokio::runtime::Handle;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use super::super::ConsensusError;
use super::PostgresConfig;
use super::session::Session;
use super::tls::Tls;

/// Connections to one database.
pub(super) struct Pool {
    config: PostgresConfig,
    tls: Tls,
    /// Drives all connections. Whoever asks may stop to poll his.
    runtime: Handle,
    idle: Mutex<Vec<Arc<Session>>>,
    permits: Arc<Semaphore>,
}

/// A connection that nobody else uses.
pub(super) struct Lease {
    session: Arc<Session>,
    pool: Arc<Pool>,
    _permit: OwnedSemaphorePermit,
}

#[derive(Debug, thiserror::Error)]
#[error("the database has not answered in time")]
struct TimedOut;

#[derive(Debug, thiserror::Error)]
#[error("the runtime of the store has stopped")]
struct Stopped;

impl Pool {
    /// In the runtime that this is called in.
    pub(super) fn new(config: PostgresConfig, tls: Tls) -> Arc<Self> {
        Arc::new(Pool {
            permits: Arc::new(Semaphore::new(config.connections_max)),
            config,
            tls,
            runtime: Handle::current(),
            idle: Mutex::new(Vec::new()),
        })
    }

    pub(super) fn config(&self) -> &PostgresConfig {
        &self.config
    }

    pub(super) fn tls(&self) -> &Tls {
        &self.tls
    }

    /// A new connection; made, as all that drives it, in the runtime of the store.
    pub(super) async fn connect(self: &Arc<Self>) -> Result<Session, ConsensusError> {
        let pool = Arc::clone(self);
        let connecting = self.runtime.spawn(async move {
            let patience = pool.config.request_timeout;
            let connecting = Session::connect(&pool.config.server, &pool.tls, patience);
            // Also where nobody waits for it any more.
            pool.within(connecting).await
        });
        let stopped = |_| {
            Err(ConsensusError::determinate(
                StorageErrorKind::GiveUp,
                Stopped,
            ))
        };
        connecting.await.unwrap_or_else(stopped)
    }

    /// An idle connection, or a new one; waits while too many are in use. Nothing bounds how long:
    /// see [`within`](Pool::within).
    pub(super) async fn lease(self: &Arc<Self>) -> Result<Lease, ConsensusError> {
        let permit = self.permit().await;
        let idle = self.idle.lock().pop();
        match idle.filter(|session| !session.is_closed()) {
            Some(session) => Ok(self.leased(session, permit)),
            None => Ok(self.leased(Arc::new(self.connect().await?), permit)),
        }
    }

    /// A new connection: the idle ones were lost together with the one that was just lost.
    pub(super) async fn lease_new(self: &Arc<Self>) -> Result<Lease, ConsensusError> {
        let permit = self.permit().await;
        Ok(self.leased(Arc::new(self.connect().await?), permit))
    }

    async fn permit(&self) -> OwnedSemaphorePermit {
        let permit = Arc::clone(&self.permits).acquire_owned().await;
        permit.expect("nobody closes it")
    }

    fn leased(self: &Arc<Self>, session: Arc<Session>, permit: OwnedSemaphorePermit) -> Lease {
        Lease {
            session,
            pool: Arc::clone(self),
            _permit: permit,
        }
    }

    /// What comes of it within the time that a request may take.
    pub(super) async fn within<X>(
        &self,
        request: impl Future<Output = Result<X, ConsensusError>>,
    ) -> Result<X, ConsensusError> {
        let answer = tokio::time::timeout(self.config.request_timeout, request).await;
        answer.unwrap_or_else(|_| Err(timed_out()))
    }
}

#[derive(Debug, thiserror::Error)]
#[error("the connection to the database was closed")]
struct Lost;

pub(super) fn lost() -> ConsensusError {
    ConsensusError::determinate(StorageErrorKind::Retry, Lost)
}

/// For reads, and what may be repeated.
fn timed_out() -> ConsensusError {
    ConsensusError::determinate(StorageErrorKind::Retry, TimedOut)
}

/// For what may have been carried out.
pub(super) fn timed_out_in_transaction() -> ConsensusError {
    ConsensusError::indeterminate(TimedOut)
}

impl fmt::Debug for Pool {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Pool")
            .field("config", &self.config)
            .finish_non_exhaustive()
    }
}

impl Lease {
    pub(super) fn session(&self) -> Arc<Session> {
        Arc::clone(&self.session)
    }

    /// Gives the connection back. One that is dropped instead, in the middle of something, is
    /// closed.
    pub(super) fn give_back(self) {
        self.pool.idle.lock().push(self.session);
    }
}
