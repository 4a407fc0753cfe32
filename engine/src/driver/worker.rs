//! The I/O thread: what the state wants from storage, one request after the other.

use std::io;
use std::sync::Arc;
use std::sync::mpsc;
use std::thread;

use crate::frontier::Time;
use crate::id::{CollectionId, ShardId};
use crate::link::Line;
use crate::message::Message;
use crate::storage::{DowngradeSinces, OpenShards, SinceWish, Storage, StorageReports};

/// Where requests to storage go. They never wait, and are all answered: by storage, or, where it
/// has panicked, by being dropped.
pub(super) struct Worker<T> {
    requests: mpsc::Sender<Request<T>>,
    reports: StorageReports<T>,
}

enum Request<T> {
    Open(OpenShards<T>),
    Downgrade(DowngradeSinces<T>),
    LetGo(Vec<ShardId>),
}

impl<T: Time> Worker<T> {
    /// Begins the thread. It ends when the engine has gone and all requests are carried out.
    pub(super) fn spawn<I: CollectionId>(
        name: &str,
        line: Arc<Line<I, T>>,
        mut storage: impl Storage<T>,
    ) -> io::Result<Self> {
        let (requests, receiver) = mpsc::channel();
        let reports = StorageReports::new(move |report| {
            // Refused: the engine is gone, and storage has nobody to report to.
            let _ = line.queue.send(Message::Storage(report));
        });
        thread::Builder::new()
            .name(format!("{name}-io"))
            .spawn(move || {
                for request in receiver {
                    match request {
                        Request::Open(request) => storage.open(request),
                        Request::Downgrade(request) => storage.downgrade(request),
                        Request::LetGo(shards) => storage.let_go(shards),
                    }
                }
            })?;
        Ok(Worker { requests, reports })
    }

    pub(super) fn open(&self, batch: u64, shards: Vec<ShardId>) {
        self.send(Request::Open(OpenShards::new(
            batch,
            shards,
            self.reports.clone(),
        )));
    }

    pub(super) fn downgrade(&self, wishes: Vec<SinceWish<T>>) {
        self.send(Request::Downgrade(DowngradeSinces::new(
            wishes,
            self.reports.clone(),
        )));
    }

    pub(super) fn let_go(&self, shards: Vec<ShardId>) {
        self.send(Request::LetGo(shards));
    }

    fn send(&self, request: Request<T>) {
        // Where the thread has panicked, the request is dropped here and counts as failed.
        drop(self.requests.send(request));
    }
}
