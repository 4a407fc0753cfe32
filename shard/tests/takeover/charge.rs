//! Taking over itself: who wins, who is refused, and who is in the way.

use std::env;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use lowwater::{ShardId, StorageErrorKind};
use lowwater_shard::collections::{Collections, TakeOverError, take_over};
use lowwater_shard::consensus::{Consensus, Offer};
use lowwater_shard::{Epoch, LogId, Parts, SeqNo};
use rusqlite::Connection;

use super::fenced::{SaysWho, come_to, refused};
use super::older::{new, quick, run, shards};
use super::process::{Process, bounded};
use super::stopping::{Place, Stopping};
use super::store::{self, Embedded, Store};
use super::talk::{hear, say};

const ADDRESS: &str = "LOWWATER_TEST_CHARGE_ADDRESS";
const ROLE: &str = "LOWWATER_TEST_CHARGE_ROLE";

/// How often each of those that race takes over.
const ROUNDS: u64 = 10;
/// The epoch that is given to several.
const GIVEN: Epoch = Epoch::new(1_000);

/// What a started process does here.
pub(crate) fn work() {
    let (Ok(address), Ok(role)) = (env::var(ADDRESS), env::var(ROLE)) else {
        return;
    };
    run(async {
        let store = store::open(&address).await;
        match &*role {
            "race" => race(&*store).await,
            "Before" => start(store, Place::Before).await,
            "After" => start(store, Place::After).await,
            "write" => write(&*store).await,
            _ => panic!("there is no role {role}"),
        }
    });
}

fn process(store: &impl Store, role: &str) -> Process {
    let address = store.address();
    Process::with(|command| command.env(ADDRESS, address).env(ROLE, role))
}

async fn race(store: &dyn Consensus) {
    say("begin");
    hear().await;
    for _ in 0..ROUNDS {
        let taken = take_over(store, None).await.unwrap();
        say(&taken.fence.epoch.to_string());
    }
    hear().await;
    match take_over(store, Some(GIVEN)).await {
        Ok(_) => say("given"),
        Err(error) => {
            assert_eq!(error.fenced_by(), Some(GIVEN));
            say("refused");
        }
    }
}

pub(crate) fn those_who_race_have_epochs_of_their_own(store: &impl Store) {
    let mut racers = [process(store, "race"), process(store, "race")];
    for racer in &racers {
        assert_eq!(racer.hear(), "begin");
    }
    racers.iter_mut().for_each(|racer| racer.tell("go on"));
    let mut epochs = Vec::new();
    for racer in &racers {
        for _ in 0..ROUNDS {
            epochs.push(racer.hear().parse::<u64>().unwrap());
        }
    }
    racers.iter_mut().for_each(|racer| racer.tell("go on"));
    let mut given = racers.each_ref().map(Process::hear);
    racers.iter_mut().for_each(Process::ends_well);
    epochs.sort_unstable();
    assert!(epochs.into_iter().eq(1..=2 * ROUNDS));
    given.sort_unstable();
    assert_eq!(given, ["given", "refused"]);
}

/// Starts a controller with an epoch that is given, and is stopped at that.
async fn start(store: Arc<dyn Consensus>, place: Place) {
    let store = Stopping::new(store);
    store.stop_after(0, place);
    let shards = shards(Arc::new(store.clone()), &Parts::memory());
    let given = lowwater_shard::collections::Start {
        epoch: Some(GIVEN),
        ..quick()
    };
    let started = Collections::<u64, u64>::start(&shards, given).await;
    let by = store.overtaken_by().unwrap();
    match place {
        Place::Before => assert_eq!(come_to(started), Err(by)),
        Place::After => {
            let collections = started.unwrap();
            let metadata = lowwater_shard::metadata::StoredMetadata::<u64>::new(
                Arc::new(store),
                collections.fence(),
            );
            let mut transaction = metadata.begin().await.unwrap();
            let existing = [1].into();
            let prepared = collections.initialize(&mut transaction, &existing, &[].into());
            // It may have heard of it already.
            match prepared {
                Ok(_aborted) => refused("initialize", transaction.commit().await, by),
                Err(error) => refused::<(), _>("initialize", Err(error), by),
            }
        }
    }
}

pub(crate) fn whoever_is_stopped_as_it_takes_over_is_overtaken(store: &impl Store, place: Place) {
    let mut older = process(store, &format!("{place:?}"));
    assert!(older.is_stopped_before_it_is_over());
    let next = Epoch::new(GIVEN.number() + 1);
    let taken = run(async { take_over(&*store.open().await, Some(next)).await.unwrap() });
    assert_eq!(taken.previous.is_some(), place == Place::After);
    older.wake();
    older.tell(&next.to_string());
    older.ends_well();
    let fence = run(async { store.open().await.fence().await.unwrap() });
    assert_eq!(fence, Some(taken.fence));
}

/// A controller of which nobody hears any more hears of nobody: it notices all the same.
pub(crate) fn whoever_writes_nothing_hears_of_it_too(store: &impl Store) {
    run(async {
        let older = shards(store.open().await, &Parts::memory());
        let older = Collections::<u64, u64>::start(&older, quick())
            .await
            .unwrap();
        let metadata =
            lowwater_shard::metadata::StoredMetadata::<u64>::new(store.open().await, older.fence());
        let mut transaction = metadata.begin().await.unwrap();
        let existing = [1].into();
        let prepared = older.initialize(&mut transaction, &existing, &[].into());
        let prepared = prepared.unwrap();
        transaction.commit().await.unwrap();
        let _ = prepared.committed();
        let batch = vec![new(1, lowwater_shard::collections::Kind::Compute)];
        let _ = older.create(None, batch).await.unwrap();
        let _held = older.acquire(&[1]).await.unwrap();
        let taken = take_over(&*store.open().await, None).await.unwrap();
        let by = taken.fence.epoch;
        super::older::until("it hears of it", || older.client().stopped().is_some()).await;
        refused("acquire", older.acquire(&[1]).await, by);
        assert_eq!(older.finalizer_stats().fenced_by, Some(by));
    });
}

const LOGS: u128 = 500;

/// Writes large transactions, as fast as it can, until somebody else is in charge.
async fn write(store: &dyn Consensus) {
    let fence = take_over(store, None).await.unwrap().fence;
    say("begin");
    let data = Bytes::from(vec![7; 4_000]);
    let mut seen = None;
    loop {
        let offers = (0..LOGS).map(|shard| Offer {
            log: LogId::data(ShardId::new(shard)),
            seen,
            data: data.clone(),
            keep_from: seen,
        });
        match store.commit(Some(fence), offers.collect()).await.unwrap() {
            Ok(_) => seen = Some(seen.map_or(SeqNo::FIRST, SeqNo::next)),
            Err(fenced) => return say(&fenced.by.unwrap().epoch.to_string()),
        }
    }
}

/// Stops a process while it has SQLite's lock.
fn stopped_in_a_transaction(store: &Embedded) -> Process {
    let older = process(store, "write");
    assert_eq!(older.hear(), "begin");
    let other = Connection::open(format!("{}/records.sqlite", store.address())).unwrap();
    other.busy_timeout(Duration::ZERO).unwrap();
    bounded("it is stopped in a transaction", || {
        older.stop();
        match other.execute_batch("BEGIN IMMEDIATE; ROLLBACK") {
            Ok(()) => {
                older.wake();
                None
            }
            Err(error) => {
                let busy = Some(rusqlite::ErrorCode::DatabaseBusy);
                assert_eq!(error.sqlite_error_code(), busy);
                Some(())
            }
        }
    });
    older
}

/// What is in the logs is of whole transactions, and stays.
fn numbers(store: &Embedded) -> Vec<Option<SeqNo>> {
    run(async {
        let logs = (0..LOGS).map(|shard| LogId::data(ShardId::new(shard)));
        let heads = store.open().await.heads(logs.collect()).await.unwrap();
        let heads: Vec<_> = heads.into_iter().map(|head| Some(head?.seqno)).collect();
        assert!(heads.iter().all(|head| *head == heads[0]), "{heads:?}");
        heads
    })
}

pub(crate) fn who_is_killed_in_a_transaction_is_in_nobodys_way() {
    let store = Embedded::new();
    let mut older = stopped_in_a_transaction(&store);
    run(async {
        let opened = store.open().await;
        let refused = take_over(&*opened, None).await.unwrap_err();
        let TakeOverError::Store(trouble) = refused else {
            panic!("{refused}")
        };
        assert_eq!(trouble.kind(), StorageErrorKind::Retry);
        assert!(trouble.is_determinate());
        older.kill();
        let taken = take_over(&*opened, None).await.unwrap();
        assert_eq!(taken.fence.epoch, Epoch::new(2));
    });
    numbers(&store);
}

pub(crate) fn who_is_woken_in_a_transaction_ends_it_and_is_overtaken() {
    let store = Embedded::new();
    let mut older = stopped_in_a_transaction(&store);
    let taken = run(async {
        let opened = store.open().await;
        let taking = tokio::spawn(async move { take_over(&*opened, None).await });
        older.wake();
        taking.await.unwrap().unwrap()
    });
    let before = numbers(&store);
    assert_eq!(older.hear(), taken.fence.epoch.to_string());
    older.ends_well();
    assert_eq!(numbers(&store), before);
}
