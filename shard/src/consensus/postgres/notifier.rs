//! What other processes change, and telling them what this one changes: hints, on a connection of
//! their own, never in a transaction that writes.

use std::convert::Infallible;
use std::future::poll_fn;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use lowwater::ShardId;
use tokio::sync::mpsc;
use tokio_postgres::{AsyncMessage, Notification};

use crate::clock::{bounded, in_future};
use crate::id::{LogId, LogKind, Nonce};

use super::super::hints::{Hint, Hints};
use super::super::{Changes, ConsensusError};
use super::pool::Pool;
use super::session::{Driver, Session, failed};

/// The channel that all processes of a database share; hints at logs that a process does not have
/// do no harm.
const CHANNEL: &str = "lowwater";

/// How long hints are gathered: the database takes one notification after the other.
const GATHER: Duration = Duration::from_millis(5);

/// A notification of PostgreSQL has at most 8,000 bytes; more logs than this become "any".
const LOGS_MAX: usize = 200;

/// How long to wait before the connection is tried again.
const RECONNECT: Duration = Duration::from_millis(500);

/// Tells other processes which logs have changed.
#[derive(Clone, Debug)]
pub(super) struct Notifier {
    changed: mpsc::UnboundedSender<Vec<LogId>>,
}

impl Notifier {
    /// Begins to listen and to tell. Ends when nobody can tell any more.
    pub(super) fn spawn(pool: Arc<Pool>, hints: Hints) -> Self {
        let (changed, receiver) = mpsc::unbounded_channel();
        let task = Task {
            pool,
            hints,
            untold: Hints::default(),
            me: format!("{:x}", Nonce::random().number()),
        };
        tokio::spawn(task.run(receiver));
        Notifier { changed }
    }

    pub(super) fn logs_changed(&self, logs: Vec<LogId>) {
        // Where the runtime has gone, there is nobody to tell it.
        drop(self.changed.send(logs));
    }
}

struct Task {
    pool: Arc<Pool>,
    /// What this process hears.
    hints: Hints,
    /// What other processes are to hear.
    untold: Hints,
    /// Comes first in what is told: the database tells it back to who told it.
    me: String,
}

impl Task {
    async fn run(self, mut changed: mpsc::UnboundedReceiver<Vec<LogId>>) {
        let untold = self.untold.clone();
        let mut gathered = untold.changes();
        let gather = async {
            while let Some(logs) = changed.recv().await {
                untold.logs_changed(logs);
            }
        };
        let notify = async {
            loop {
                let Err(error) = self.notify(&mut gathered).await;
                tracing::debug!(%error, "the connection that notifies is tried again");
                // What was missed meanwhile is found by looking.
                self.hints.anything_changed();
                tokio::time::sleep(RECONNECT).await;
            }
        };
        tokio::select! {
            () = gather => {}
            () = notify => {}
        }
    }

    /// Listens and tells until the connection is lost.
    async fn notify(&self, gathered: &mut Changes) -> Result<Infallible, ConsensusError> {
        let pool = &self.pool;
        let connect = Session::connect_undriven(&pool.config().server, pool.tls());
        let (session, driver) = pool.within(connect).await?;
        let mut driver = pin!(self.drive(driver));
        let listen = async {
            let listening = session.client().batch_execute("LISTEN lowwater").await;
            listening.map_err(failed)
        };
        tokio::select! {
            lost = &mut driver => return lost,
            listening = pool.within(listen) => listening?,
        }
        // Before it listened, something may have changed.
        self.hints.anything_changed();
        tokio::select! {
            lost = driver => lost,
            failed = self.tell(&session, gathered) => failed,
            never = self.poll() => never,
        }
    }

    /// Passes on what others notify.
    async fn drive(&self, mut driver: Driver) -> Result<Infallible, ConsensusError> {
        loop {
            let message = poll_fn(|context| driver.poll_message(context)).await;
            match message {
                Some(Ok(AsyncMessage::Notification(notification))) => self.hear(&notification),
                Some(Ok(_)) => {}
                Some(Err(error)) => return Err(failed(error)),
                None => return Err(super::pool::lost()),
            }
        }
    }

    fn hear(&self, notification: &Notification) {
        let mut words = notification.payload().split_whitespace();
        if words.next() == Some(&self.me) {
            return;
        }
        let logs: Option<Vec<LogId>> = words.map(parse).collect();
        match logs {
            Some(logs) => self.hints.logs_changed(logs),
            None => self.hints.anything_changed(),
        }
    }

    /// Tells others what was gathered, one notification at a time.
    async fn tell(
        &self,
        session: &Session,
        gathered: &mut Changes,
    ) -> Result<Infallible, ConsensusError> {
        let client = session.client();
        let prepare = async {
            let prepared = client.prepare("SELECT pg_notify($1, $2)").await;
            prepared.map_err(failed)
        };
        let notify = self.pool.within(prepare).await?;
        loop {
            let mut hint = gathered.next().await;
            tokio::time::sleep(GATHER).await;
            if let Some(more) = gathered.take() {
                hint.merge(more);
            }
            let told = format!("{} {}", self.me, payload(&hint));
            let notify = async {
                let told = client.query(&notify, &[&CHANNEL, &told]).await;
                told.map_err(failed)
            };
            self.pool.within(notify).await?;
        }
    }

    /// However the notifications fare, listeners are told to look now and then.
    async fn poll(&self) -> Result<Infallible, ConsensusError> {
        let interval = self.pool.config().poll_interval;
        let mut ticks = tokio::time::interval_at(in_future(interval), bounded(interval));
        loop {
            ticks.tick().await;
            self.hints.anything_changed();
        }
    }
}

/// Logs, each as the number of its shard and its kind; "any" for too many.
fn payload(hint: &Hint) -> String {
    match hint {
        Hint::Logs(logs) if logs.len() <= LOGS_MAX => {
            let logs = logs.iter();
            let names = logs.map(|log| format!("{:x}.{}", log.shard.number(), log.kind.code()));
            names.collect::<Vec<_>>().join(" ")
        }
        Hint::Logs(_) | Hint::Any => "any".to_owned(),
    }
}

fn parse(name: &str) -> Option<LogId> {
    let (shard, kind) = name.split_once('.')?;
    Some(LogId {
        shard: ShardId::new(u128::from_str_radix(shard, 16).ok()?),
        kind: LogKind::from_code(kind.parse().ok()?)?,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_told_is_heard() {
        let log = |number| LogId::data(ShardId::new(u128::MAX - number));
        let few: Vec<LogId> = (0..LOGS_MAX as u128).map(log).collect();
        let payload_of = |logs: &[LogId]| payload(&Hint::Logs(logs.iter().copied().collect()));
        let told = payload_of(&few);
        assert!(told.len() < 7_900);
        let mut heard: Vec<LogId> = told
            .split_whitespace()
            .map(|name| parse(name).unwrap())
            .collect();
        heard.reverse();
        assert_eq!(heard, few);
        let many: Vec<LogId> = (0..=LOGS_MAX as u128).map(log).collect();
        assert_eq!(payload_of(&many), "any");
        assert_eq!(parse("any"), None);
        assert_eq!(parse("1.9"), None);
    }
}
