//! What each kind of process does, until its standard input is closed, or it is killed.

use std::env;
use std::fmt::Display;
use std::io::Read;
use std::sync::Arc;
use std::time::Duration;

use lowwater::{ShardId, Since, StorageError, StorageErrorKind, Upper};
use lowwater_shard::consensus::Fence;
use lowwater_shard::record::CriticalError;
use lowwater_shard::{
    AppendError, DowngradeError, Epoch, Incarnation, ReadError, Reader, ReaderId, Settings, Shards,
    SnapshotError, Step, Updates, Upkeep, Writer,
};
use timely::progress::Antichain;
use tokio::sync::watch;

use super::child::{NUMBER, PARTS, RECORDS, ROLE, SAYS};
use super::rows::{Contents, Row};
use crate::place::rows::{list, schema, updates};
use crate::place::{Address, open};

pub(crate) const SHARDS: [u128; 3] = [1, 2, 3];

/// The name of the controller's critical sinces.
pub(crate) const ME: ReaderId = ReaderId::new(1);

pub(crate) const LEASE: Duration = Duration::from_secs(2);

/// How much history the controller keeps.
const KEPT: u64 = 12;

pub(crate) fn settings() -> Settings {
    Settings {
        lease: LEASE,
        part_grace: Duration::from_secs(1),
        downgrade_interval: Duration::from_millis(20),
        upkeep: Upkeep::ByHand,
        ..Settings::default()
    }
}

pub(crate) fn as_of(time: u64) -> Antichain<u64> {
    Antichain::from_elem(time)
}

/// The last time that is complete.
pub(crate) fn last(upper: &Upper<u64>) -> Option<u64> {
    upper.frontier().first()?.checked_sub(1)
}

pub(crate) fn contents(updates: &Updates<u64>) -> Contents {
    let mut contents = Contents::default();
    contents.add(changes(updates));
    contents
}

fn changes(updates: &Updates<u64>) -> impl Iterator<Item = (i64, i64)> {
    let list = list(updates).into_iter();
    list.map(|(row, _, diff)| (row, diff))
}

/// What the started process does.
pub(crate) fn work() {
    let Ok(role) = env::var(ROLE) else {
        return;
    };
    let var = |name| env::var(name).unwrap();
    let address = Address {
        records: var(RECORDS),
        parts: var(PARTS),
    };
    let mut runtime = tokio::runtime::Builder::new_multi_thread();
    let runtime = runtime.worker_threads(2).enable_all().build().unwrap();
    runtime.block_on(async {
        let worker = Worker {
            store: open(&address.records).await,
            address,
            number: var(NUMBER).parse().unwrap(),
            stopped: stopped(),
        };
        match &*role {
            "writer" => worker.write(64 << 10).await,
            "writer of parts" => worker.write(0).await,
            "reader" => worker.read().await,
            "subscriber" => worker.subscribe().await,
            "controller" => worker.control().await,
            "keeper" => worker.keep().await,
            "sleeper" => worker.sleep().await,
            _ => panic!("{role} is not known"),
        }
    });
}

/// Becomes true when the standard input is closed.
fn stopped() -> watch::Receiver<bool> {
    let (sender, receiver) = watch::channel(false);
    std::thread::spawn(move || {
        let _ = std::io::stdin().read_to_end(&mut Vec::new());
        sender.send_replace(true);
    });
    receiver
}

fn say(what: impl Display) {
    println!("{SAYS}{what}");
}

/// What may be tried again; the rest must not be.
fn may_pass(error: &StorageError) {
    assert_eq!(error.kind(), StorageErrorKind::Retry, "{error}");
}

struct Worker {
    store: Arc<dyn lowwater_shard::consensus::Consensus>,
    address: Address,
    number: u16,
    stopped: watch::Receiver<bool>,
}

impl Worker {
    fn shards(&self, settings: Settings) -> Shards<u64> {
        let runtime = tokio::runtime::Handle::current();
        Shards::new(
            &runtime,
            Arc::clone(&self.store),
            self.address.parts(),
            settings,
        )
    }

    async fn writers(&self, shards: &Shards<u64>) -> Vec<Writer<u64>> {
        let mut writers = Vec::new();
        for shard in SHARDS {
            writers.push(shards.writer(ShardId::new(shard), &schema()).await.unwrap());
        }
        writers
    }

    fn goes_on(&self) -> bool {
        !*self.stopped.borrow()
    }

    /// A little while, not the same for all.
    async fn pause(&self) {
        tokio::time::sleep(Duration::from_millis(fastrand::u64(2..15))).await;
    }

    async fn write(&self, inline_bytes_max: usize) {
        let shards = self.shards(Settings {
            inline_bytes_max,
            ..settings()
        });
        let writers = self.writers(&shards).await;
        let mut chains = 0..;
        let mut first = || Row {
            writer: self.number,
            chain: chains.next().unwrap(),
            number: 0,
        };
        let mut next: Vec<Row> = SHARDS.iter().map(|_| first()).collect();
        while self.goes_on() {
            let at = fastrand::usize(0..SHARDS.len());
            let (writer, row) = (&writers[at], next[at]);
            next[at] = match append(writer, row).await {
                true => row.next(),
                false => first(),
            };
            self.pause().await;
        }
    }

    async fn read(&self) {
        let shards = self.shards(settings());
        while self.goes_on() {
            let reader = self.reader(&shards).await;
            for _ in 0..fastrand::u8(1..20) {
                if !read(&reader).await {
                    break;
                }
                self.pause().await;
            }
            leave(reader).await;
        }
    }

    async fn reader(&self, shards: &Shards<u64>) -> Reader<u64> {
        let shard = fastrand::choice(SHARDS).expect("there are some");
        loop {
            match shards.reader(ShardId::new(shard)).await {
                Ok(reader) => {
                    say(format_args!("reader {shard} {}", reader.id()));
                    return reader;
                }
                Err(error) => may_pass(&error),
            }
        }
    }

    async fn subscribe(&self) {
        let shards = self.shards(settings());
        let mut stopped = self.stopped.clone();
        while self.goes_on() {
            let reader = self.reader(&shards).await;
            let (id, shard) = (reader.id(), reader.shard().number());
            let from = now(&reader);
            let mut subscription = reader.subscribe(as_of(from));
            let mut known = Contents::default();
            for _ in 0..fastrand::u8(1..40) {
                let step = tokio::select! {
                    step = subscription.next() => step,
                    _ = stopped.wait_for(|stopped| *stopped) => break,
                };
                match step {
                    Ok(Some(Step { updates, .. })) => {
                        known.add(changes(&updates));
                        known.check().unwrap();
                        say(format_args!("step {shard}"));
                    }
                    Ok(None) => panic!("nobody seals it"),
                    Err(ReadError::LeaseLost(_)) => {
                        say("lost");
                        break;
                    }
                    Err(ReadError::Storage(error)) => may_pass(&error),
                    Err(ReadError::Snapshot(SnapshotError::Storage(error))) => may_pass(&error),
                    Err(error @ ReadError::Snapshot(_)) => panic!("{error}"),
                }
            }
            drop(subscription);
            say(format_args!("left {shard} {id}"));
        }
    }

    async fn control(&self) {
        let shards = self.shards(settings());
        while self.goes_on() {
            let current = self.store.fence().await.unwrap();
            let epoch = Epoch::new(current.map_or(1, |fence| fence.epoch.number() + 1));
            let fence = Fence {
                epoch,
                incarnation: Incarnation::random(),
            };
            if self.store.take_over(fence).await.unwrap().is_ok() {
                for _ in 0..fastrand::u8(1..10) {
                    for shard in SHARDS {
                        move_since(&shards, shard, epoch).await;
                    }
                    self.pause().await;
                }
            }
        }
    }

    async fn keep(&self) {
        let shards = self.shards(Settings {
            upkeep: Upkeep::InBackground { tasks_max: 2 },
            ..settings()
        });
        // Only what is used is looked after.
        let writers = self.writers(&shards).await;
        while self.goes_on() {
            let shard = writers[fastrand::usize(0..writers.len())].shard();
            let done = match fastrand::bool() {
                true => shards.compact(shard).await,
                false => shards.sweep(shard).await,
            };
            if let Err(error) = done {
                may_pass(&error);
            }
            self.pause().await;
        }
    }

    /// Has a lease, and does nothing.
    async fn sleep(&self) {
        let shards = self.shards(settings());
        let shard = SHARDS[0];
        let reader = shards.reader(ShardId::new(shard)).await.unwrap();
        say(format_args!("reader {shard} {}", reader.id()));
        let mut stopped = self.stopped.clone();
        let _ = stopped.wait_for(|stopped| *stopped).await;
    }
}

/// Writes a row behind all that is there; false if nobody knows whether it was written.
async fn append(writer: &Writer<u64>, row: Row) -> bool {
    let shard = writer.shard().number();
    say(format_args!("asked {shard} {}", row.pack()));
    loop {
        let upper = writer.upper();
        let time = last(&upper).map_or(0, |last| last + 1);
        let rows: Vec<_> = row.changes().map(|(row, diff)| (row, time, diff)).collect();
        let next = Upper::at(time + 1);
        match writer.compare_and_append(upper, next, updates(&rows)).await {
            Ok(_) => {
                say(format_args!("wrote {shard} {} {time}", row.pack()));
                return true;
            }
            // Somebody else was faster.
            Err(AppendError::UpperMismatch(_)) => {}
            Err(AppendError::Storage(error)) => {
                may_pass(&error);
                return false;
            }
            Err(error) => panic!("{error}"),
        }
    }
}

/// The latest time that a reader can read without waiting, as far as it knows.
fn now(reader: &Reader<u64>) -> u64 {
    let since = reader.since().frontier().first().copied().unwrap();
    last(&reader.upper()).unwrap_or(0).max(since)
}

/// A snapshot, and the since behind it; false if the reader is of no use any more.
async fn read(reader: &Reader<u64>) -> bool {
    let (shard, at) = (reader.shard().number(), now(reader));
    let moved = async {
        let snapshot = reader.snapshot(&as_of(at)).await?;
        contents(&snapshot).check().unwrap();
        say(format_args!("read {shard}"));
        reader.downgrade(&Since::at(at)).await
    };
    match moved.await {
        Ok(_) => true,
        Err(ReadError::LeaseLost(_)) => {
            say("lost");
            false
        }
        Err(ReadError::Storage(error)) => {
            may_pass(&error);
            true
        }
        Err(ReadError::Snapshot(SnapshotError::Storage(error))) => {
            may_pass(&error);
            true
        }
        // With a lease it must be there.
        Err(error @ ReadError::Snapshot(_)) => panic!("{error}"),
    }
}

async fn leave(reader: Reader<u64>) {
    let (shard, id) = (reader.shard().number(), reader.id());
    match reader.leave().await {
        Ok(()) => say(format_args!("left {shard} {id}")),
        Err(error) => may_pass(&error),
    }
}

/// Keeps a little history, as the controller of this epoch.
async fn move_since(shards: &Shards<u64>, shard: u128, epoch: Epoch) {
    let id = ShardId::new(shard);
    let mut critical = match shards.critical(id, ME, epoch).await {
        Ok(critical) => critical,
        Err(error) => return may_pass(&error),
    };
    let upper = shards
        .upper(id)
        .await
        .map(|upper| last(&upper).unwrap_or(0));
    let Ok(upper) = upper.inspect_err(may_pass) else {
        return;
    };
    let to = upper.saturating_sub(KEPT);
    let expected = critical.epoch();
    let moved = critical
        .compare_and_downgrade(expected, epoch, &Since::at(to))
        .await;
    match moved {
        Ok(_) => {
            let since = critical.since().frontier().first().copied().unwrap();
            say(format_args!("since {shard} {since}"));
        }
        // Another controller has come meanwhile.
        Err(DowngradeError::Refused(
            CriticalError::EpochMismatch { .. } | CriticalError::EpochGoesBack { .. },
        )) => {}
        Err(DowngradeError::Storage(error)) => may_pass(&error),
        Err(error) => panic!("{error}"),
    }
}
