//! Logs in SQLite: the default. Survives a crash of the process and of the machine; several
//! processes may use one folder.
//!
//! A thread of its own writes. It takes all that waits and commits it in one transaction, so that
//! a hundred writers cost one sync of the disk; a second thread reads beside it.

mod database;
mod worker;
mod writer;
mod reader;

use std::path::{Path, PathBuf};
use std::sync::Arc;

use crate::folder;
use crate::id::LogId;

use super::hints::Hints;
use super::{Answer, Changes, Consensus, Fence, Fenced, Offer, Outcome, Scan, Truncation, Version};
use database::Database;
use reader::Reader;
use writer::Writer;

pub use database::OpenError;

/// Logs in a folder. Clones are handles of the same store. The last one that goes ends the threads,
/// after they have carried out what was asked, and waits until they have closed the file; a disk
/// that does not answer is not waited for beyond a bound. Where nobody else has the store open,
/// nothing is left but the file itself, and the folder may be copied, moved or removed.
#[derive(Clone, Debug)]
pub struct EmbeddedConsensus {
    threads: Arc<Threads>,
    hints: Hints,
}

/// They end one after the other: SQLite clears up behind the last connection that is closed, and
/// leaves it to the other where two are closed at once.
#[derive(Debug)]
struct Threads {
    folder: PathBuf,
    writer: Writer,
    reader: Reader,
}

impl EmbeddedConsensus {
    /// Opens the store in this folder, and creates both where they are absent: the folder for its
    /// owner alone.
    ///
    /// # Errors
    ///
    /// If the folder holds something else, or was written by a later version; if SQLite is one of
    /// those that can corrupt it; if the world does not let us.
    pub fn open(folder: impl Into<PathBuf>) -> Result<Self, OpenError> {
        let folder = folder.into();
        folder::create(&folder, 0o700)?;
        let database = Database::open(&folder)?;
        Self::on(folder, database)
    }

    /// Opens the store in this folder if there is one, and creates nothing: neither the folder nor
    /// anything in it, where it has no store. Else as [`open`](EmbeddedConsensus::open).
    ///
    /// # Errors
    ///
    /// [`OpenError::Absent`] if there is none, or it is just being created; else as for
    /// [`open`](EmbeddedConsensus::open).
    pub fn open_existing(folder: impl Into<PathBuf>) -> Result<Self, OpenError> {
        let folder = folder.into();
        let database = Database::open_existing(&folder)?;
        Self::on(folder, database)
    }

    fn on(folder: PathBuf, database: Database) -> Result<Self, OpenError> {
        let hints = Hints::default();
        let threads = Threads {
            writer: Writer::spawn(folder.clone(), database, hints.clone())?,
            reader: Reader::spawn(&folder)?,
            folder,
        };
        database::sync_log(&threads.folder)?;
        Ok(EmbeddedConsensus {
            threads: Arc::new(threads),
            hints,
        })
    }

    /// Gives back to the file system what the records do not need any more, such as the room of
    /// versions that were truncated: SQLite keeps it for later otherwise. Takes as long as writing
    /// all that is left, and others wait meanwhile; for when a process has done its work.
    pub fn shrink(&self) -> Answer<()> {
        self.threads.writer.shrink()
    }

    /// The folder.
    pub fn folder(&self) -> &Path {
        &self.threads.folder
    }
}

impl Consensus for EmbeddedConsensus {
    fn heads(&self, logs: Vec<LogId>) -> Answer<Vec<Option<Version>>> {
        self.threads
            .reader
            .ask(move |database| database.heads(&logs))
    }

    fn commit(
        &self,
        fence: Option<Fence>,
        offers: Vec<Offer>,
    ) -> Answer<Result<Vec<Outcome>, Fenced>> {
        let logs = offers.iter().map(|offer| offer.log).collect();
        self.threads.writer.write(logs, move |database| {
            let current = database.fence()?;
            if fence.is_some() && fence != current {
                return Ok(Err(Fenced { by: current }));
            }
            database.offer(&offers).map(Ok)
        })
    }

    fn scan(&self, scans: Vec<Scan>) -> Answer<Vec<Vec<Version>>> {
        self.threads
            .reader
            .ask(move |database| database.scan(&scans))
    }

    fn truncate(&self, truncations: Vec<Truncation>) -> Answer<()> {
        self.threads
            .writer
            .write(Vec::new(), move |database| database.truncate(&truncations))
    }

    fn list(&self, after: Option<LogId>, logs_max: usize) -> Answer<Vec<LogId>> {
        self.threads
            .reader
            .ask(move |database| database.list(after, logs_max))
    }

    fn fence(&self) -> Answer<Option<Fence>> {
        self.threads.reader.ask(|database| database.fence())
    }

    fn take_over(&self, fence: Fence) -> Answer<Result<(), Fenced>> {
        let writer = &self.threads.writer;
        writer.write(Vec::new(), move |database| database.take_over(fence))
    }

    fn changes(&self) -> Changes {
        let changes = self.hints.changes();
        self.threads.writer.listener();
        changes
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use lowwater::ShardId;

    use super::*;
    use crate::id::SeqNo;

    #[tokio::test]
    async fn what_was_truncated_is_given_back_to_the_file_system() {
        let folder = tempfile::tempdir().unwrap();
        let store = EmbeddedConsensus::open(folder.path()).unwrap();
        let log = LogId::data(ShardId::new(1));
        let mut seen = None;
        for _ in 0..100 {
            let data = Bytes::from(vec![7; 10_000]);
            let offer = Offer {
                log,
                seen,
                data,
                keep_from: None,
            };
            seen = Some(offer.seqno());
            store.commit(None, vec![offer]).await.unwrap().unwrap();
        }
        let before = SeqNo::new(100);
        store
            .truncate(vec![Truncation { log, before }])
            .await
            .unwrap();
        let size = || {
            let files = std::fs::read_dir(folder.path()).unwrap();
            let sizes = files.map(|file| file.unwrap().metadata().unwrap().len());
            sizes.sum::<u64>()
        };
        assert!(size() > 1_000_000);
        store.shrink().await.unwrap();
        assert!(size() < 100_000, "{}", size());
        assert_eq!(
            store.heads(vec![log]).await.unwrap()[0]
                .as_ref()
                .unwrap()
                .seqno,
            before
        );
    }
}
