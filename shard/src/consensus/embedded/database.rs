//! The SQLite file: how it is set up, and each statement.

use std::fs::File;
use std::io;
use std::path::Path;
use std::thread;
use std::time::Duration;

use lowwater::StorageErrorKind;
use rusqlite::{CachedStatement, Connection, ErrorCode, OpenFlags, OptionalExtension, Row, params};

use crate::id::{Epoch, Incarnation, LogId, SeqNo};

use super::super::{ConsensusError, Fence, Fenced, Offer, Outcome, Scan, Truncation, Version};

/// The first SQLite that does not have the WAL-reset bug, which corrupts what several processes
/// write (3.7.0 to 3.51.2).
const SQLITE_MIN: i32 = 3_051_003;

/// In the store's folder.
const FILE: &str = "records.sqlite";
/// SQLite's write-ahead log, beside it.
const LOG: &str = "records.sqlite-wal";

/// Marks the file as ours: "LwSt".
const APPLICATION: i32 = 0x4c77_5374;

/// Of the tables; the bytes in them have a format of their own.
const LAYOUT: i32 = 1;

/// How often another process may be found writing before we give up, half a millisecond apart on
/// average: about ten seconds, where it is normally gone within one.
const BUSY_TRIES_MAX: i32 = 20_000;

const TABLES: &str = "
    CREATE TABLE versions (
        log BLOB NOT NULL,
        seqno INTEGER NOT NULL CHECK (seqno > 0),
        data BLOB NOT NULL,
        PRIMARY KEY (log, seqno)
    ) STRICT, WITHOUT ROWID;
    CREATE TABLE fence (
        one INTEGER PRIMARY KEY CHECK (one = 1),
        epoch INTEGER NOT NULL,
        incarnation BLOB NOT NULL
    ) STRICT;
";

/// Of a log that reaches so far.
const TRUNCATE: &str = "DELETE FROM versions WHERE log = ?1 AND seqno < ?2";

/// Why a store cannot be opened.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum OpenError {
    /// The folder has no store, or not yet; only who wants one that is there is told so.
    #[error("there is no store in the folder")]
    Absent,
    /// The SQLite that this program was built with can corrupt the store.
    #[error("SQLite {0} can corrupt a store that several processes write; 3.51.3 is needed")]
    UnsafeSqlite(&'static str),
    /// There is a database in the folder that is not a store of ours.
    #[error("the folder holds another application's database")]
    Foreign,
    /// The store was written by a later version of Lowwater.
    #[error("the store has layout {0}, which is not known")]
    UnknownLayout(i32),
    /// SQLite cannot keep a write-ahead log here: several processes could not share the store, and
    /// what is read could be lost.
    #[error("the folder cannot hold a write-ahead log; SQLite goes on with {0:?}")]
    NoLog(String),
    /// The folder cannot be used, or a thread cannot be started.
    #[error("the folder cannot be used: {0}")]
    Io(#[from] std::io::Error),
    /// SQLite refuses.
    #[error("the database cannot be opened: {0}")]
    Sqlite(#[from] rusqlite::Error),
}

/// Makes what can be read durable. SQLite shows a commit only when it is synced, with one exception:
/// the first to open the store finds in the log what a process had written that was killed before
/// it could sync.
pub(super) fn sync_log(folder: &Path) -> io::Result<()> {
    match File::open(folder.join(LOG)) {
        Ok(log) => log.sync_all()?,
        Err(error) if error.kind() == io::ErrorKind::NotFound => {}
        Err(error) => return Err(error),
    }
    File::open(folder)?.sync_all()
}

/// A connection to the store's file.
#[derive(Debug)]
pub(super) struct Database(Connection);

impl Database {
    /// Opens the store in the folder, and creates it there if there is none.
    pub(super) fn open(folder: &Path) -> Result<Self, OpenError> {
        let mut database = Self::connect(folder, OpenFlags::default())?;
        database.make_durable()?;
        if database.layout()?.is_none() {
            database.write(Database::create_tables)?;
        }
        database.check_layout()?;
        Ok(database)
    }

    /// Opens the store in the folder. Where there is none, nothing is changed.
    pub(super) fn open_existing(folder: &Path) -> Result<Self, OpenError> {
        if !folder.join(FILE).try_exists()? {
            return Err(OpenError::Absent);
        }
        let flags = OpenFlags::default().difference(OpenFlags::SQLITE_OPEN_CREATE);
        let database = Self::connect(folder, flags)?;
        if database.layout()?.is_none() {
            return Err(OpenError::Absent);
        }
        database.make_durable()?;
        database.check_layout()?;
        Ok(database)
    }

    /// A connection to a file that is not somebody else's. Changes nothing in it.
    fn connect(folder: &Path, flags: OpenFlags) -> Result<Self, OpenError> {
        if rusqlite::version_number() < SQLITE_MIN {
            return Err(OpenError::UnsafeSqlite(rusqlite::version()));
        }
        let mut connection = Connection::open_with_flags(folder.join(FILE), flags)?;
        connection.busy_handler(Some(wait_for_others))?;
        connection.set_prepared_statement_cache_capacity(32);
        let database = Database(connection);
        match database.is_foreign()? {
            true => Err(OpenError::Foreign),
            false => Ok(database),
        }
    }

    fn make_durable(&self) -> Result<(), OpenError> {
        self.use_log()?;
        // Without it a commit that was acknowledged is lost with the power.
        Ok(self.0.pragma_update(None, "synchronous", "FULL")?)
    }

    fn check_layout(&self) -> Result<(), OpenError> {
        match self.layout()? {
            Some(LAYOUT) => Ok(()),
            Some(other) => Err(OpenError::UnknownLayout(other)),
            None => Err(OpenError::Foreign),
        }
    }

    /// The layout of our tables, if there are any.
    fn layout(&self) -> rusqlite::Result<Option<i32>> {
        let pragma = |name| {
            self.0
                .pragma_query_value(None, name, |row| row.get::<_, i32>(0))
        };
        Ok((pragma("application_id")? == APPLICATION).then_some(pragma("user_version")?))
    }

    fn is_foreign(&self) -> rusqlite::Result<bool> {
        // Another process of ours may create the tables between two looks: with them it marks them.
        Ok(self.layout()?.is_none() && self.has_tables()? && self.layout()?.is_none())
    }

    fn has_tables(&self) -> rusqlite::Result<bool> {
        let tables = "SELECT EXISTS (SELECT * FROM sqlite_schema)";
        self.0.query_row(tables, [], |row| row.get(0))
    }

    /// Switches to write-ahead logging, for which SQLite does not ask the busy handler.
    fn use_log(&self) -> Result<(), OpenError> {
        let mut tries = 0;
        loop {
            let switched = self
                .0
                .pragma_update_and_check(None, "journal_mode", "WAL", |row| {
                    row.get::<_, String>(0)
                });
            match switched {
                // SQLite says what it uses, and that may be another.
                Ok(mode) if mode == "wal" => return Ok(()),
                Ok(mode) => return Err(OpenError::NoLog(mode)),
                Err(error) if is_busy(&error) && wait_for_others(tries) => tries += 1,
                Err(error) => return Err(error.into()),
            }
        }
    }

    fn create_tables(&mut self) -> rusqlite::Result<()> {
        // Another process may have been faster.
        if self.layout()?.is_none() {
            self.0.execute_batch(TABLES)?;
            self.0.pragma_update(None, "application_id", APPLICATION)?;
            self.0.pragma_update(None, "user_version", LAYOUT)?;
        }
        Ok(())
    }

    /// Carries out `work` in one transaction, and commits.
    fn write<X>(
        &mut self,
        work: impl FnOnce(&mut Self) -> rusqlite::Result<X>,
    ) -> rusqlite::Result<X> {
        self.begin()?;
        match work(self) {
            Ok(done) => self.end().map(|()| done),
            Err(error) => {
                self.roll_back();
                Err(error)
            }
        }
    }

    /// Begins a transaction that writes: waits for those of other processes.
    pub(super) fn begin(&mut self) -> rusqlite::Result<()> {
        self.0
            .prepare_cached("BEGIN IMMEDIATE")?
            .execute([])
            .map(drop)
    }

    /// Commits. Where this fails, the outcome is not known before the file is opened again.
    pub(super) fn end(&mut self) -> rusqlite::Result<()> {
        self.0.prepare_cached("COMMIT")?.execute([]).map(drop)
    }

    /// Takes the transaction back, as far as SQLite has not done so itself.
    pub(super) fn roll_back(&mut self) {
        if !self.0.is_autocommit()
            && let Err(error) = self.0.execute_batch("ROLLBACK")
        {
            tracing::warn!(%error, "a transaction could not be rolled back");
        }
    }

    /// Gives back to the file system what the file and its log do not need. What other processes
    /// are just reading stays where it is.
    pub(super) fn shrink(&mut self) -> rusqlite::Result<()> {
        self.0.execute_batch("VACUUM")?;
        let truncate = "PRAGMA wal_checkpoint(TRUNCATE)";
        self.0.query_row(truncate, [], |_| Ok(()))
    }

    /// Changes with every commit of another connection.
    pub(super) fn others_version(&self) -> rusqlite::Result<i64> {
        self.0
            .prepare_cached("PRAGMA data_version")?
            .query_row([], |row| row.get(0))
    }

    pub(super) fn offer(&mut self, offers: &[Offer]) -> rusqlite::Result<Vec<Outcome>> {
        let mut insert = self.0.prepare_cached(
            "INSERT INTO versions SELECT ?1, ?2, ?3
             WHERE (SELECT max(seqno) FROM versions WHERE log = ?1) IS ?4",
        )?;
        let mut delete = self.0.prepare_cached(TRUNCATE)?;
        let offer = |offer: &Offer| {
            let log = offer.log.to_bytes();
            let seen = offer.seen.map(seqno_to_sql);
            let seqno = seqno_to_sql(offer.seqno());
            let inserted = insert.execute(params![log, seqno, &offer.data[..], seen])?;
            if inserted == 0 {
                return Ok(Outcome::Stale);
            }
            if let Some(before) = offer.keep_from {
                delete.execute(params![log, seqno_to_sql(before.min(offer.seqno()))])?;
            }
            Ok(Outcome::Taken)
        };
        offers.iter().map(offer).collect()
    }

    pub(super) fn truncate(&mut self, truncations: &[Truncation]) -> rusqlite::Result<()> {
        let mut delete = self.0.prepare_cached(TRUNCATE)?;
        let mut reached = self.0.prepare_cached(
            "SELECT EXISTS (SELECT * FROM versions WHERE log = ?1 AND seqno >= ?2)",
        )?;
        for Truncation { log, before } in truncations {
            let before = params![log.to_bytes(), seqno_to_sql(*before)];
            if reached.query_row(before, |row| row.get(0))? {
                delete.execute(before)?;
            }
        }
        Ok(())
    }

    pub(super) fn take_over(&mut self, fence: Fence) -> rusqlite::Result<Result<(), Fenced>> {
        if let Err(fenced) = fence.may_replace(self.fence()?) {
            return Ok(Err(fenced));
        }
        let mut replace = self
            .0
            .prepare_cached("REPLACE INTO fence VALUES (1, ?1, ?2)")?;
        replace.execute(params![
            fence.epoch.number().cast_signed(),
            fence.incarnation.number().to_be_bytes()
        ])?;
        Ok(Ok(()))
    }

    pub(super) fn fence(&self) -> rusqlite::Result<Option<Fence>> {
        let mut select = self
            .0
            .prepare_cached("SELECT epoch, incarnation FROM fence")?;
        let fence = select.query_row([], |row| {
            Ok(Fence {
                epoch: Epoch::new(row.get::<_, i64>(0)?.cast_unsigned()),
                incarnation: Incarnation::new(u128::from_be_bytes(row.get(1)?)),
            })
        });
        fence.optional()
    }

    pub(super) fn heads(&self, logs: &[LogId]) -> rusqlite::Result<Vec<Option<Version>>> {
        let mut select = self.0.prepare_cached(
            "SELECT seqno, data FROM versions WHERE log = ?1 ORDER BY seqno DESC LIMIT 1",
        )?;
        let heads = logs.iter().map(|log| {
            let head = select.query_row([log.to_bytes()], read_version);
            head.optional()
        });
        heads.collect()
    }

    pub(super) fn scan(&self, scans: &[Scan]) -> rusqlite::Result<Vec<Vec<Version>>> {
        let mut select = self.0.prepare_cached(
            "SELECT seqno, data FROM versions WHERE log = ?1 AND seqno >= ?2 ORDER BY seqno",
        )?;
        scans
            .iter()
            .map(|scan| scan_one(&mut select, scan))
            .collect()
    }

    pub(super) fn list(
        &self,
        after: Option<LogId>,
        logs_max: usize,
    ) -> rusqlite::Result<Vec<LogId>> {
        // One step of the index for each log, however many versions it has.
        let mut next = self
            .0
            .prepare_cached("SELECT log FROM versions WHERE log > ?1 ORDER BY log LIMIT 1")?;
        let mut after = after.map_or(Vec::new(), |log| log.to_bytes().to_vec());
        let mut logs = Vec::new();
        while logs.len() < logs_max {
            let found = next.query_row([&after], |row| row.get::<_, Vec<u8>>(0));
            let Some(found) = found.optional()? else {
                break;
            };
            logs.extend(LogId::from_bytes(&found));
            after = found;
        }
        Ok(logs)
    }
}

fn scan_one(select: &mut CachedStatement<'_>, scan: &Scan) -> rusqlite::Result<Vec<Version>> {
    let from = params![scan.log.to_bytes(), seqno_to_sql(scan.from)];
    select.query_map(from, read_version)?.collect()
}

fn read_version(row: &Row<'_>) -> rusqlite::Result<Version> {
    Ok(Version {
        seqno: SeqNo::new(row.get::<_, i64>(0)?.cast_unsigned()),
        data: row.get::<_, Vec<u8>>(1)?.into(),
    })
}

/// No log has 2^63 versions; a number beyond is that of no version.
fn seqno_to_sql(seqno: SeqNo) -> i64 {
    i64::try_from(seqno.number()).unwrap_or(i64::MAX)
}

/// Trouble with a statement before the commit: the transaction is taken back.
pub(super) fn failed(error: rusqlite::Error) -> ConsensusError {
    ConsensusError::determinate(remedy(&error), error)
}

fn remedy(error: &rusqlite::Error) -> StorageErrorKind {
    match error.sqlite_error_code() {
        Some(ErrorCode::DatabaseCorrupt | ErrorCode::NotADatabase) => StorageErrorKind::GiveUp,
        Some(ErrorCode::CannotOpen | ErrorCode::ReadOnly | ErrorCode::PermissionDenied) => {
            StorageErrorKind::Reopen
        }
        // Busy, a full disk, trouble that passes.
        Some(_) => StorageErrorKind::Retry,
        // What is in the table is not what we write there.
        None => StorageErrorKind::GiveUp,
    }
}

fn is_busy(error: &rusqlite::Error) -> bool {
    let code = error.sqlite_error_code();
    matches!(
        code,
        Some(ErrorCode::DatabaseBusy | ErrorCode::DatabaseLocked)
    )
}

/// Waits a little while another process writes. SQLite's own waiting grows with the tries, so that
/// those that wait long wait ever longer: some starved for seconds.
fn wait_for_others(tries: i32) -> bool {
    thread::sleep(Duration::from_micros(fastrand::u64(100..1_000)));
    tries < BUSY_TRIES_MAX
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use lowwater::ShardId;
    use rusqlite::ffi;

    use super::*;

    #[test]
    fn the_sqlite_that_is_built_in_is_a_safe_one() {
        assert!(rusqlite::version_number() >= SQLITE_MIN);
    }

    #[test]
    fn a_store_without_a_write_ahead_log_is_refused() {
        let database = Database(Connection::open_in_memory().unwrap());
        let refused = database.use_log().unwrap_err();
        assert!(
            matches!(&refused, OpenError::NoLog(mode) if mode == "memory"),
            "{refused}"
        );
    }

    #[test]
    fn trouble_before_the_commit_is_determinate_and_says_what_to_do() {
        for (code, kind) in [
            (ffi::SQLITE_BUSY, StorageErrorKind::Retry),
            (ffi::SQLITE_LOCKED, StorageErrorKind::Retry),
            (ffi::SQLITE_FULL, StorageErrorKind::Retry),
            (ffi::SQLITE_IOERR, StorageErrorKind::Retry),
            (ffi::SQLITE_CANTOPEN, StorageErrorKind::Reopen),
            (ffi::SQLITE_READONLY, StorageErrorKind::Reopen),
            (ffi::SQLITE_PERM, StorageErrorKind::Reopen),
            (ffi::SQLITE_CORRUPT, StorageErrorKind::GiveUp),
            (ffi::SQLITE_NOTADB, StorageErrorKind::GiveUp),
        ] {
            let error = failed(rusqlite::Error::SqliteFailure(ffi::Error::new(code), None));
            assert_eq!(
                (error.kind(), error.is_determinate()),
                (kind, true),
                "{error}"
            );
        }
    }

    #[test]
    fn a_full_disk_takes_the_transaction_back_and_may_pass() {
        let folder = tempfile::tempdir().unwrap();
        let mut database = Database::open(folder.path()).unwrap();
        let pages = |name| {
            let pages = database.0.pragma_query_value(None, name, |row| row.get(0));
            pages.unwrap()
        };
        let (there, no_limit): (i64, i64) = (pages("page_count"), pages("max_page_count"));
        let limit = |database: &Database, pages: i64| {
            let set = "PRAGMA max_page_count";
            let set = format!("{set} = {pages}");
            database.0.query_row(&set, [], |_| Ok(())).unwrap();
        };
        let offer = Offer {
            log: LogId::data(ShardId::new(1)),
            seen: None,
            data: Bytes::from(vec![7; 100_000]),
            keep_from: None,
        };
        limit(&database, there);
        let full = database.write(|database| database.offer(std::slice::from_ref(&offer)));
        let full = failed(full.unwrap_err());
        assert_eq!(
            (full.kind(), full.is_determinate()),
            (StorageErrorKind::Retry, true)
        );
        limit(&database, no_limit);
        let taken = database.write(|database| database.offer(std::slice::from_ref(&offer)));
        assert_eq!(taken.unwrap(), [Outcome::Taken]);
    }
}
