//! One shard as this process knows it.

use std::collections::BTreeMap;
use std::sync::Arc;

use lowwater::{ShardId, StorageError, StorageErrorKind, Upper};
use parking_lot::Mutex;
use timely::progress::Antichain;
use tokio::sync::watch;

use crate::id::SeqNo;
use crate::log::{Log, LogError};
use crate::record::{DataRecord, SinceRecord};
use crate::time::ShardTime;

/// One shard as this process knows it.
///
/// A log is locked while it is read or written in the store, so that its record is decided on by one
/// at a time. Whoever locks several does so in the order of the shards' ids, and never one of the
/// sinces while he has one of the data. To be dropped in between does no harm: what a log was not
/// told of is read later.
#[derive(Debug)]
pub(crate) struct Shard<T: ShardTime> {
    pub(crate) id: ShardId,
    pub(crate) sinces: tokio::sync::Mutex<Log<SinceRecord<T>>>,
    pub(crate) data: tokio::sync::Mutex<Log<DataRecord<T>>>,
    /// How far it is written, as far as this process knows.
    upper: watch::Sender<Upper<T>>,
    /// Why its data cannot be read, where that is so.
    fault: watch::Sender<Option<LogError>>,
    stopped: watch::Receiver<bool>,
    /// Which versions of the data somebody in this process reads parts of, and how many do.
    reading: Arc<Mutex<BTreeMap<SeqNo, usize>>>,
}

/// Nobody follows the store any more, for the runtime of the shards has gone.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the runtime of the shards has ended")]
pub(crate) struct Stopped;

/// While it lives, this process does not delete parts that a version of the data refers to, nor
/// those of later ones.
#[derive(Debug)]
pub(crate) struct Reading {
    version: SeqNo,
    reading: Arc<Mutex<BTreeMap<SeqNo, usize>>>,
}

impl<T: ShardTime> Shard<T> {
    pub(super) fn new(id: ShardId, stopped: watch::Receiver<bool>) -> Self {
        Shard {
            id,
            sinces: tokio::sync::Mutex::new(Log::new(id)),
            data: tokio::sync::Mutex::new(Log::new(id)),
            upper: watch::Sender::new(Upper::minimum()),
            fault: watch::Sender::new(None),
            stopped,
            reading: Arc::default(),
        }
    }

    /// How far it is written, as far as this process knows; nothing is read.
    pub(crate) fn upper(&self) -> Upper<T> {
        self.upper.borrow().clone()
    }

    /// Says how far it is written; true iff that is news.
    pub(super) fn publish(&self, upper: &Upper<T>) -> bool {
        self.upper.send_if_modified(|known| {
            // A log that could not be read begins anew.
            let news = timely::PartialOrder::less_than(known, upper);
            if news {
                known.clone_from(upper);
            }
            news
        })
    }

    /// Says why its data cannot be read, or that they can; true iff that is news.
    pub(super) fn publish_fault(&self, fault: Option<&LogError>) -> bool {
        self.fault.send_if_modified(|known| {
            let news = known.as_ref() != fault;
            if news {
                *known = fault.cloned();
            }
            news
        })
    }

    /// Waits until it is written past `frontier`, or cannot be read; the shard must have been read once. To drop the
    /// future does no harm.
    pub(crate) async fn written_past(
        &self,
        frontier: &Antichain<T>,
    ) -> Result<Upper<T>, StorageError> {
        self.written(|upper| upper.is_past(frontier)).await
    }

    /// Waits until it is written further than this, or cannot be read.
    pub(crate) async fn written_beyond(&self, known: &Upper<T>) -> Result<Upper<T>, StorageError> {
        self.written(|upper| upper != known).await
    }

    async fn written(
        &self,
        mut so_far: impl FnMut(&Upper<T>) -> bool,
    ) -> Result<Upper<T>, StorageError> {
        let (mut upper, mut stopped) = (self.upper.subscribe(), self.stopped.clone());
        let mut fault = self.fault.subscribe();
        tokio::select! {
            biased;
            Ok(upper) = upper.wait_for(|upper| so_far(upper)) => Ok(upper.clone()),
            Ok(fault) = fault.wait_for(Option::is_some) => {
                Err(fault.clone().expect("it was waited for").into())
            }
            _ = stopped.wait_for(|stopped| *stopped) => {
                Err(StorageError::new(StorageErrorKind::GiveUp, Stopped))
            }
        }
    }

    /// Keeps the parts of the version that `log`, this shard's, has read.
    pub(crate) fn read_version(&self, log: &Log<DataRecord<T>>) -> Reading {
        let version = log.seen().unwrap_or(SeqNo::FIRST);
        *self.reading.lock().entry(version).or_insert(0) += 1;
        Reading {
            version,
            reading: Arc::clone(&self.reading),
        }
    }

    /// The oldest version that somebody in this process reads parts of, or will from now on.
    pub(crate) fn reads_from(&self, log: &Log<DataRecord<T>>) -> SeqNo {
        let seen = log.seen().unwrap_or(SeqNo::FIRST);
        self.oldest_reading()
            .map_or(seen, |oldest| oldest.min(seen))
    }

    /// The oldest version that somebody in this process reads parts of.
    pub(crate) fn oldest_reading(&self) -> Option<SeqNo> {
        self.reading.lock().keys().next().copied()
    }
}

impl Drop for Reading {
    fn drop(&mut self) {
        let mut reading = self.reading.lock();
        if let Some(count) = reading.get_mut(&self.version) {
            *count -= 1;
            if *count == 0 {
                reading.remove(&self.version);
            }
        }
    }
}
