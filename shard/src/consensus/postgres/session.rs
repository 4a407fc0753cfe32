//! One connection, and each statement.

use std::collections::BTreeMap;
use std::time::Duration;

use bytes::Bytes;
use lowwater::StorageErrorKind;
use parking_lot::Mutex;
use tokio_postgres::error::SqlState;
use tokio_postgres::{Client, Connection, Row, Socket, Statement};

use crate::id::{Epoch, Incarnation, LogId, SeqNo};

use super::super::{ConsensusError, Fence, Fenced, Outcome, Scan, Truncation, Version};
use super::offers::{Commit, Offers, seqno_to_sql};
use super::tls::{Encrypted, Tls};

const TABLES: &str = "
    CREATE TABLE IF NOT EXISTS lowwater_versions (
        log bytea NOT NULL,
        seqno bigint NOT NULL CHECK (seqno > 0),
        data bytea NOT NULL,
        PRIMARY KEY (log, seqno)
    );
    CREATE TABLE IF NOT EXISTS lowwater_gate (
        one boolean PRIMARY KEY CHECK (one),
        epoch bigint,
        incarnation bytea
    );
    INSERT INTO lowwater_gate VALUES (true) ON CONFLICT DO NOTHING";

/// Whether the tables are there: they come in one transaction.
const HAS_TABLES: &str = "
    SELECT to_regclass('lowwater_versions') IS NOT NULL AND to_regclass('lowwater_gate') IS NOT NULL";

/// Who acknowledges before it is durable here loses what was acknowledged; who waits for standbys
/// as well goes on doing so.
const DURABLE: &str = "
    SELECT set_config('synchronous_commit', 'on', false)
    WHERE current_setting('synchronous_commit') IN ('off', 'local')";

/// What keeps a server from losing what it has acknowledged, and only its owner can set. Databases
/// that merely speak the protocol may not have them.
const SAFEGUARDS: [&str; 2] = ["fsync", "full_page_writes"];

const OFF: &str = "
    SELECT name FROM unnest($1::text[]) AS s (name) WHERE current_setting(name, true) = 'off'";

const BEGIN: &str = "BEGIN ISOLATION LEVEL READ COMMITTED, READ WRITE";

/// Shared by all that commit. In a statement of its own: the next one sees what was committed while
/// this one waited.
const GATE_SHARED: &str = "SELECT epoch, incarnation FROM lowwater_gate FOR SHARE";
const GATE_ALONE: &str = "SELECT epoch, incarnation FROM lowwater_gate FOR UPDATE";

/// The version that its writer has seen must be there and the next one not: nobody truncates
/// meanwhile, so it is the latest. Two that offer one place meet in the primary key. In the order
/// of the logs, so that no two transactions wait for each other.
const OFFER: &str = "
    INSERT INTO lowwater_versions (log, seqno, data)
    SELECT o.log, o.seen + 1, o.data
    FROM unnest($1::bytea[], $2::bigint[], $3::bytea[], $4::boolean[])
        AS o (log, seen, data, fenced)
    WHERE CASE WHEN o.seen = 0
            THEN NOT EXISTS (SELECT FROM lowwater_versions v WHERE v.log = o.log)
            ELSE EXISTS (
                SELECT FROM lowwater_versions v WHERE v.log = o.log AND v.seqno = o.seen)
        END
        AND (NOT o.fenced OR (
            SELECT count(*) > 0 FROM lowwater_gate
            WHERE one AND epoch = $5::bigint AND incarnation = $6::bytea))
    ORDER BY o.log
    ON CONFLICT DO NOTHING
    RETURNING log";

/// Behind the offers, while nobody else is at the gate. Only what is taken forgets what is before it:
/// an offer that comes late may be a full version, and what stands in its place a difference to one
/// before it. No two attempts offer the same bytes. What is taken is looked up, for a join with what
/// was inserted would compare each with each: see [`BY_KEY`].
const FORGET: &str = "
    DELETE FROM lowwater_versions v
    USING unnest($1::bytea[], $2::bigint[], $3::bytea[], $4::bigint[])
        AS o (log, seen, data, keep_from)
    WHERE v.log = o.log AND v.seqno < o.keep_from
        AND EXISTS (
            SELECT FROM lowwater_versions h
            WHERE h.log = o.log AND h.seqno = o.seen + 1 AND h.data = o.data)";

const HEADS: &str = "
    SELECT l.at, v.seqno, v.data
    FROM unnest($1::bytea[]) WITH ORDINALITY AS l (log, at)
    CROSS JOIN LATERAL (
        SELECT seqno, data FROM lowwater_versions
        WHERE log = l.log ORDER BY seqno DESC LIMIT 1
    ) AS v";

const SCAN: &str = "
    SELECT s.at, v.seqno, v.data
    FROM unnest($1::bytea[], $2::bigint[]) WITH ORDINALITY AS s (log, first, at)
    JOIN lowwater_versions v ON v.log = s.log AND v.seqno >= s.first
    ORDER BY s.at, v.seqno";

const TRUNCATE: &str = "
    DELETE FROM lowwater_versions v
    USING unnest($1::bytea[], $2::bigint[]) AS t (log, before)
    WHERE v.log = t.log AND v.seqno < t.before AND EXISTS (
        SELECT FROM lowwater_versions h WHERE h.log = t.log AND h.seqno >= t.before)";

/// Whatever we ask goes by the primary key, log by log. The database does not know how many logs
/// that are, and would rather read the whole table than look so many up, or compile what is done in
/// a millisecond.
const BY_KEY: &str = "
    SELECT set_config(name, 'off', false) FROM pg_settings
    WHERE name IN ('enable_seqscan', 'enable_hashjoin', 'enable_mergejoin', 'jit')";

/// Whoever vanishes in the middle of a transaction, or is stopped there, without a word from his
/// machine, leaves the gate closed until the server notices; by itself it would take hours. A server
/// that is less patient stays so.
const VANISHED: &str = "
    SELECT set_config(name, $1, false) FROM pg_settings
    WHERE name = 'idle_in_transaction_session_timeout'
        AND setting::bigint NOT BETWEEN 1 AND $1::text::bigint";

/// So long the gate is left to somebody who is silent, at most: less than a request may take, so that
/// whoever takes over gets through with the first one. What is to be done in a transaction is sent at
/// once, so nobody else is silent there.
const SILENCE_MAX: Duration = Duration::from_secs(10);

/// Whoever waits for a lock, as for the gate, hears in time that he did not get it, and then nothing
/// was done: else his request would wait on in the server after it was given up here, one after the
/// other, and its outcome would not be known. A server that is less patient stays so. There is no
/// such bound for whole statements: it would end a commit's waiting for standbys, as if they had
/// acknowledged it.
const LOCKS: &str = "
    SELECT set_config(name, $1, false) FROM pg_settings
    WHERE name = 'lock_timeout' AND setting::bigint NOT BETWEEN 1 AND $1::text::bigint";

/// One step of the index for each log, however many versions it has.
const LIST: &str = "
    WITH RECURSIVE logs (log, count) AS (
        (SELECT log, 1::bigint FROM lowwater_versions WHERE log > $1 ORDER BY log LIMIT 1)
        UNION ALL
        SELECT v.log, logs.count + 1 FROM logs CROSS JOIN LATERAL (
            SELECT log FROM lowwater_versions WHERE log > logs.log ORDER BY log LIMIT 1
        ) AS v WHERE logs.count < $2
    )
    SELECT log FROM logs WHERE count <= $2 ORDER BY log";

/// The longest time that the server knows.
const MS_MAX: u128 = 1 << 30;

/// A connection with its statements.
pub(super) struct Session {
    client: Client,
    statements: Mutex<BTreeMap<&'static str, Statement>>,
}

/// What drives a connection.
pub(super) type Driver = Connection<Socket, Encrypted>;

impl Session {
    /// Connects, in a task of its own. A request is waited for so long: should this process vanish in
    /// the middle of a transaction, the server waits no longer for it, and for a lock a little less.
    pub(super) async fn connect(
        server: &tokio_postgres::Config,
        tls: &Tls,
        patience: Duration,
    ) -> Result<Self, ConsensusError> {
        let (session, driver) = Session::connect_undriven(server, tls).await?;
        tokio::spawn(async move {
            if let Err(error) = driver.await {
                tracing::debug!(%error, "a connection has ended");
            }
        });
        for settings in [DURABLE, BY_KEY] {
            let set = session.client.batch_execute(settings).await;
            set.map_err(failed)?;
        }
        let bounds = [
            (VANISHED, patience.min(SILENCE_MAX)),
            (LOCKS, patience - patience / 8),
        ];
        for (setting, bound) in bounds {
            let bound = bound.as_millis().clamp(1, MS_MAX).to_string();
            let set = session.client.query(setting, &[&bound]).await;
            set.map_err(failed)?;
        }
        Ok(session)
    }

    /// Connects; the caller drives the connection.
    pub(super) async fn connect_undriven(
        server: &tokio_postgres::Config,
        tls: &Tls,
    ) -> Result<(Self, Driver), ConsensusError> {
        let connected = server.connect(tls.clone()).await;
        let (client, driver) = connected.map_err(unconnected)?;
        let statements = Mutex::default();
        Ok((Session { client, statements }, driver))
    }

    pub(super) fn is_closed(&self) -> bool {
        self.client.is_closed()
    }

    pub(super) fn client(&self) -> &Client {
        &self.client
    }

    pub(super) async fn create_tables(&self) -> Result<(), ConsensusError> {
        let mut tries = 0;
        loop {
            match self.client.batch_execute(TABLES).await {
                // Another process was faster, and the database does not like that.
                Err(error) if tries < 10 && is_race(&error) => tries += 1,
                created => return created.map_err(failed),
            }
        }
    }

    pub(super) async fn has_tables(&self) -> Result<bool, ConsensusError> {
        let row = self.client.query_one(HAS_TABLES, &[]).await;
        row.and_then(|row| row.try_get(0)).map_err(failed)
    }

    /// Warns if the server can lose with the power what it has acknowledged.
    pub(super) async fn warn_of_losses(&self) -> Result<(), ConsensusError> {
        for setting in self.off(&SAFEGUARDS).await? {
            tracing::warn!(
                setting,
                "the database server runs with {setting} = off: a power loss there can lose or \
                 corrupt what was acknowledged"
            );
        }
        Ok(())
    }

    /// Those of these settings that are off.
    async fn off(&self, settings: &[&str]) -> Result<Vec<String>, ConsensusError> {
        let off = self.client.query(OFF, &[&settings]).await.map_err(failed)?;
        off.iter()
            .map(|row| row.try_get(0).map_err(failed))
            .collect()
    }

    /// Prepares a statement, once for each connection.
    async fn prepare(&self, statement: &'static str) -> Result<Statement, ConsensusError> {
        if let Some(prepared) = self.statements.lock().get(statement) {
            return Ok(prepared.clone());
        }
        let prepared = self.client.prepare(statement).await.map_err(failed)?;
        self.statements.lock().insert(statement, prepared.clone());
        Ok(prepared)
    }

    pub(super) async fn heads(
        &self,
        logs: &[LogId],
    ) -> Result<Vec<Option<Version>>, ConsensusError> {
        let names = names(logs.iter().copied());
        let statement = self.prepare(HEADS).await?;
        let rows = self
            .client
            .query(&statement, &[&names])
            .await
            .map_err(failed)?;
        let mut heads = vec![None; logs.len()];
        for row in rows {
            heads[place(&row)?] = Some(version(&row)?);
        }
        Ok(heads)
    }

    pub(super) async fn scan(&self, scans: &[Scan]) -> Result<Vec<Vec<Version>>, ConsensusError> {
        let names = names(scans.iter().map(|scan| scan.log));
        let from: Vec<i64> = scans.iter().map(|scan| seqno_to_sql(scan.from)).collect();
        let statement = self.prepare(SCAN).await?;
        let rows = self
            .client
            .query(&statement, &[&names, &from])
            .await
            .map_err(failed)?;
        let mut found = vec![Vec::new(); scans.len()];
        for row in rows {
            found[place(&row)?].push(version(&row)?);
        }
        Ok(found)
    }

    pub(super) async fn list(
        &self,
        after: Option<LogId>,
        logs_max: usize,
    ) -> Result<Vec<LogId>, ConsensusError> {
        let after = after.map_or(Vec::new(), |log| log.to_bytes().to_vec());
        let logs_max = i64::try_from(logs_max).unwrap_or(i64::MAX);
        let statement = self.prepare(LIST).await?;
        let rows = self
            .client
            .query(&statement, &[&after, &logs_max])
            .await
            .map_err(failed)?;
        let mut logs = Vec::with_capacity(rows.len());
        for row in rows {
            logs.extend(LogId::from_bytes(row.try_get(0).map_err(failed)?));
        }
        Ok(logs)
    }

    pub(super) async fn fence(&self) -> Result<Option<Fence>, ConsensusError> {
        let gate = "SELECT epoch, incarnation FROM lowwater_gate";
        let row = self.client.query_one(gate, &[]).await.map_err(failed)?;
        fence(&row)
    }

    /// Offers all in one transaction and, as far as the database is concerned, in one round trip.
    /// Of the commits that have a fence, all have the same.
    pub(super) async fn commit(
        &self,
        commits: &[Commit],
    ) -> Result<Vec<Result<Vec<Outcome>, Fenced>>, ConsensusError> {
        let offers = Offers::new(commits);
        let gate = match offers.forget() {
            true => GATE_ALONE,
            false => GATE_SHARED,
        };
        let prepared = tokio::join!(
            self.prepare(gate),
            self.prepare(OFFER),
            self.prepare(FORGET),
        );
        let (gate, offer, forget) = (prepared.0?, prepared.1?, prepared.2?);
        let parameters = offers.parameters();
        let forgotten = offers.parameters_to_forget();
        // They are sent in this order when they are first polled; none waits for the one before.
        let (begun, gate, taken, forgotten, committed) = tokio::join!(
            biased;
            self.client.batch_execute(BEGIN),
            self.client.query_one(&gate, &[]),
            self.client.query(&offer, &parameters),
            async {
                match offers.forget() {
                    true => self.client.execute(&forget, &forgotten).await,
                    false => Ok(0),
                }
            },
            self.client.batch_execute("COMMIT"),
        );
        // What the database refuses takes the transaction back, whatever became of the commit.
        begun.map_err(in_transaction)?;
        let gate = gate.map_err(in_transaction)?;
        let taken = taken.map_err(in_transaction)?;
        forgotten.map_err(in_transaction)?;
        committed.map_err(ConsensusError::indeterminate)?;
        let mut logs = Vec::with_capacity(taken.len());
        for row in &taken {
            logs.push(
                row.try_get::<_, &[u8]>(0)
                    .map_err(ConsensusError::indeterminate)?,
            );
        }
        logs.sort_unstable();
        let current = fence(&gate)?;
        let outcomes = commits.iter().map(|commit| commit.outcomes(current, &logs));
        Ok(outcomes.collect())
    }

    pub(super) async fn truncate(&self, truncations: &[Truncation]) -> Result<(), ConsensusError> {
        let names = names(truncations.iter().map(|truncation| truncation.log));
        let before = truncations
            .iter()
            .map(|truncation| seqno_to_sql(truncation.before));
        let before: Vec<i64> = before.collect();
        let statement = self.prepare(TRUNCATE).await?;
        self.alone(async |client, _| client.query(&statement, &[&names, &before]).await)
            .await
            .map(drop)
    }

    pub(super) async fn take_over(
        &self,
        next: Fence,
    ) -> Result<Result<(), Fenced>, ConsensusError> {
        let replace = "UPDATE lowwater_gate SET epoch = $1, incarnation = $2";
        let replace = self.prepare(replace).await?;
        let epoch = next.epoch.number().cast_signed();
        let incarnation = next.incarnation.number().to_be_bytes().to_vec();
        let taken = self.alone(async |client, current| {
            let taken = next.may_replace(current);
            if taken.is_ok() {
                client.query(&replace, &[&epoch, &incarnation]).await?;
            }
            Ok(taken)
        });
        taken.await
    }

    /// Carries out `work` in a transaction while nobody commits; it may be repeated, so its outcome
    /// need not be known.
    async fn alone<X>(
        &self,
        work: impl AsyncFnOnce(&Client, Option<Fence>) -> Result<X, tokio_postgres::Error>,
    ) -> Result<X, ConsensusError> {
        self.client.batch_execute(BEGIN).await.map_err(failed)?;
        let done = async {
            let gate = self
                .client
                .query_one(GATE_ALONE, &[])
                .await
                .map_err(failed)?;
            work(&self.client, fence(&gate)?).await.map_err(failed)
        };
        match done.await {
            Ok(done) => {
                let committed = self.client.batch_execute("COMMIT").await;
                committed.map_err(ConsensusError::indeterminate)?;
                Ok(done)
            }
            Err(error) => {
                // Where this fails, the connection is lost, and the transaction with it.
                let _ = self.client.batch_execute("ROLLBACK").await;
                Err(error)
            }
        }
    }
}

fn names(logs: impl Iterator<Item = LogId>) -> Vec<Vec<u8>> {
    logs.map(|log| log.to_bytes().to_vec()).collect()
}

/// Which of the questions a row answers: the database counts from 1.
fn place(row: &Row) -> Result<usize, ConsensusError> {
    let at: i64 = row.try_get(0).map_err(failed)?;
    Ok(usize::try_from(at - 1).expect("the database counts what we have asked"))
}

fn version(row: &Row) -> Result<Version, ConsensusError> {
    let seqno: i64 = row.try_get(1).map_err(failed)?;
    let data: &[u8] = row.try_get(2).map_err(failed)?;
    Ok(Version {
        seqno: SeqNo::new(seqno.cast_unsigned()),
        data: Bytes::copy_from_slice(data),
    })
}

fn fence(gate: &Row) -> Result<Option<Fence>, ConsensusError> {
    let epoch: Option<i64> = gate.try_get(0).map_err(failed)?;
    let incarnation: Option<&[u8]> = gate.try_get(1).map_err(failed)?;
    let incarnation = incarnation.and_then(|bytes| <[u8; 16]>::try_from(bytes).ok());
    Ok(epoch.zip(incarnation).map(|(epoch, incarnation)| Fence {
        epoch: Epoch::new(epoch.cast_unsigned()),
        incarnation: Incarnation::new(u128::from_be_bytes(incarnation)),
    }))
}

/// Trouble with what was only read, or may be repeated.
pub(super) fn failed(error: tokio_postgres::Error) -> ConsensusError {
    ConsensusError::determinate(remedy(&error), error)
}

/// Trouble while a transaction was under way whose commit was already sent.
fn in_transaction(error: tokio_postgres::Error) -> ConsensusError {
    if error.as_db_error().is_some() {
        failed(error)
    } else {
        ConsensusError::indeterminate(error)
    }
}

fn unconnected(error: tokio_postgres::Error) -> ConsensusError {
    // Wrong password, no such database: to ask again does not help. Where nobody answers, it may.
    failed(error)
}

fn remedy(error: &tokio_postgres::Error) -> StorageErrorKind {
    error.code().map_or(StorageErrorKind::Retry, remedy_of)
}

fn remedy_of(code: &SqlState) -> StorageErrorKind {
    // The classes of what is wrong with who we are, what there is, or what we may. Whoever speaks the
    // protocol may send codes of any length.
    match code.code().get(..2) {
        Some("28" | "3D" | "3F" | "42" | "0A") => StorageErrorKind::GiveUp,
        Some(_) | None => StorageErrorKind::Retry,
    }
}

fn is_race(error: &tokio_postgres::Error) -> bool {
    let races = [
        SqlState::UNIQUE_VIOLATION,
        SqlState::DUPLICATE_TABLE,
        SqlState::DUPLICATE_OBJECT,
    ];
    error.code().is_some_and(|code| races.contains(code))
}

#[cfg(test)]
mod tests {
    use std::future::Future;
    use std::str::FromStr;

    use super::*;

    /// On a connection with these options. Where there is no server the conformance suite says so.
    fn on_session<F: Future<Output = ()>>(options: &str, test: impl FnOnce(Session) -> F) {
        let Ok(server) = std::env::var("LOWWATER_TEST_POSTGRES") else {
            return;
        };
        let mut server = tokio_postgres::Config::from_str(&server).unwrap();
        server.options(options);
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .unwrap();
        runtime.block_on(async {
            let tls = Tls::new(&server).unwrap();
            let patience = Duration::from_secs(30);
            test(Session::connect(&server, &tls, patience).await.unwrap()).await;
        });
    }

    #[test]
    fn commits_wait_for_the_disk_whatever_the_server_is_set_to() {
        for (set, used) in [
            ("off", "on"),
            ("local", "on"),
            ("remote_apply", "remote_apply"),
        ] {
            on_session(&format!("-c synchronous_commit={set}"), async |session| {
                let row = session.client.query_one("SHOW synchronous_commit", &[]);
                let found: String = row.await.unwrap().get(0);
                assert_eq!(found, used);
            });
        }
    }

    #[test]
    fn no_code_of_a_database_is_too_short() {
        for (code, kind) in [
            ("3D000", StorageErrorKind::GiveUp),
            ("42", StorageErrorKind::GiveUp),
            ("57P01", StorageErrorKind::Retry),
            ("4", StorageErrorKind::Retry),
            ("", StorageErrorKind::Retry),
            ("4é", StorageErrorKind::Retry),
        ] {
            assert_eq!(remedy_of(&SqlState::from_code(code)), kind, "{code:?}");
        }
    }

    #[test]
    fn locks_are_waited_for_less_than_a_request_may_take_and_no_longer_than_the_server_wants() {
        for (set, used) in [("0", "26250ms"), ("1h", "26250ms"), ("5s", "5s")] {
            on_session(&format!("-c lock_timeout={set}"), async |session| {
                let row = session.client.query_one("SHOW lock_timeout", &[]);
                let found: String = row.await.unwrap().get(0);
                assert_eq!(found, used);
            });
        }
    }

    #[test]
    fn settings_that_are_off_are_found() {
        on_session("-c enable_seqscan=off", async |session| {
            let settings = ["enable_seqscan", "enable_indexscan", "nobody_has_this"];
            assert_eq!(session.off(&settings).await.unwrap(), ["enable_seqscan"]);
            session.warn_of_losses().await.unwrap();
        });
    }
}
