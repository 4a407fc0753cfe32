//! A controller that only reads, as a process: it outlives those in charge, which are killed and
//! started again, and leaves nothing in the store but its leases.

use std::env;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use lowwater::{Since, Upper};
use lowwater_shard::collections::{Collections, Kind};
use lowwater_shard::consensus::Consensus;
use lowwater_shard::metadata::{MetadataTransaction, StoredMetadata};
use lowwater_shard::record::SinceRecord;
use lowwater_shard::tables::{Access, Tables};
use lowwater_shard::{Log, Parts, Transactor, Updates};
use tempfile::TempDir;
use timely::progress::Antichain;
use tokio::runtime::Handle;

use super::newer::values;
use super::older::{A, LONG, TXNS, columns, new, quick, rows, run, shards, tables, until};
use super::process::Process;
use super::records::without_leases;
use super::store::{self, Store};
use super::talk::{hear, say};

const ADDRESS: &str = "LOWWATER_TEST_FOLLOWED_ADDRESS";
const PARTS: &str = "LOWWATER_TEST_FOLLOWED_PARTS";
const ROLE: &str = "LOWWATER_TEST_FOLLOWED_ROLE";

/// Short, so that it is renewed while nobody is in charge. Nobody here takes it for lapsed.
const LEASE: Duration = Duration::from_secs(1);

/// What a started process does here.
pub(crate) fn work() {
    let (Ok(address), Ok(parts), Ok(role)) = (env::var(ADDRESS), env::var(PARTS), env::var(ROLE))
    else {
        return;
    };
    let parts = Parts::folder(PathBuf::from(parts)).unwrap();
    run(async {
        let store = store::open(&address).await;
        match &*role {
            "live" => live(store, parts).await,
            "follow" => follow(store, parts).await,
            _ => panic!("there is no role {role}"),
        }
    });
}

fn process(store: &impl Store, parts: &Path, role: &str) -> Process {
    let address = store.address();
    Process::with(|command| {
        let command = command.env(ADDRESS, address).env(PARTS, parts);
        command.env(ROLE, role)
    })
}

/// Is in charge of one collection and one table, and writes both up to each time that it is told.
async fn live(store: Arc<dyn Consensus>, parts: Parts) {
    let shards = shards(Arc::clone(&store), &parts);
    let collections = Collections::<u64, u64>::start(&shards, quick()).await;
    let collections = collections.unwrap();
    let fence = collections.fence().unwrap();
    let metadata = StoredMetadata::<u64>::new(Arc::clone(&store), Some(fence));
    let mut transaction = metadata.begin().await.unwrap();
    let prepared = collections.initialize(&mut transaction, &[1].into(), &[].into());
    let prepared = prepared.unwrap();
    transaction.commit().await.unwrap();
    let _ = prepared.committed();
    let batch = vec![new(1, Kind::Compute)];
    let created = collections.create(None, batch).await.unwrap().remove(0);
    let shard = metadata.begin().await.unwrap().shard_of(1).unwrap();
    let writer = shards.writer(shard.unwrap(), &columns(&["a"])).await;
    let writer = writer.unwrap();
    let tables = tables(store, &parts, TXNS, fence).await.unwrap();
    if !tables.state().await.is_registered(A) {
        let table = [(A, columns(&["a"]))];
        tables.register(&1, &table).await.unwrap();
    }
    say(&fence.epoch.to_string());
    while let Ok(upper) = hear().await.parse::<u64>() {
        let (at, row) = (upper - 1, rows(&[i64::try_from(upper).unwrap()]));
        let updates = Updates::new(row.clone(), vec![at], vec![1]).unwrap();
        let lower = writer.fetch_upper().await.unwrap();
        let appended = writer.compare_and_append(lower, Upper::at(upper), updates);
        appended.await.unwrap();
        let mut transaction = tables.begin();
        let written = transaction.write(A, &columns(&["a"]), row, vec![1]);
        written.unwrap();
        transaction.commit_at(&at).await.unwrap();
        until("the since moves", || {
            created.durable_since() == Since::at(upper - 10)
        })
        .await;
        say("written");
    }
}

/// Only reads: says what is in the collection and in the table up to each time that it is told.
async fn follow(store: Arc<dyn Consensus>, parts: Parts) {
    let shards = shards(Arc::clone(&store), &parts);
    let follower = Collections::<u64, u64>::follow(&shards, quick(), LEASE).unwrap();
    let metadata = StoredMetadata::<u64>::new(Arc::clone(&store), None);
    follower.observe(&metadata.begin().await.unwrap()).unwrap();
    let batch = vec![new(1, Kind::Compute)];
    let _ = follower.create(None, batch).await.unwrap();
    let held = follower.acquire(&[1]).await.unwrap().remove(0);
    let runtime = Handle::current();
    let tables = Tables::open(&runtime, store, parts, TXNS, Access::ReadOnly).await;
    let tables = tables.unwrap();
    say(&format!("{:?}", held.hold.since()));
    while let Ok(upper) = hear().await.parse::<u64>() {
        let at = upper - 1;
        let read = follower.snapshot(1, &Antichain::from_elem(at));
        let read = values(&read.await.unwrap());
        let table = values(&tables.snapshot(A, &at).await.unwrap());
        // What is held stays readable, whoever comes and goes.
        let held_at = held.hold.since().frontier();
        let held = values(&follower.snapshot(1, held_at).await.unwrap());
        say(&format!("{read:?} {table:?} {held:?}"));
    }
    assert_eq!(follower.client().stopped(), None);
    assert_eq!(held.hold.check(), Ok(()));
    drop(held);
    follower.stop().await.unwrap();
    say("ended");
}

/// How often leases were renewed so far, all of them together.
async fn renewals(store: &Arc<dyn Consensus>) -> u64 {
    let metadata = StoredMetadata::<u64>::new(Arc::clone(store), None);
    let transaction = metadata.begin().await.unwrap();
    let shard = transaction.shard_of(1).unwrap().unwrap();
    let mut log = Log::<SinceRecord<u64>>::new(shard);
    let reader = Transactor::new(Arc::clone(store), None);
    let read = reader.refresh(&mut [&mut log]).await.unwrap();
    read.into_iter().for_each(Result::unwrap);
    let leased = log.record().leased().values();
    leased.map(|reader| reader.renewals).sum()
}

/// Waits until leases are renewed.
async fn leases_are_renewed(store: &Arc<dyn Consensus>) {
    let (before, began) = (renewals(store).await, std::time::Instant::now());
    while renewals(store).await <= before {
        assert!(began.elapsed() < LONG, "leases are renewed");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

/// The one in charge is killed and started again, with a higher epoch each time.
pub(crate) fn whoever_only_reads_outlives_those_in_charge(store: &impl Store) {
    let parts = TempDir::new().unwrap();
    let tell = |process: &mut Process, upper: u64| {
        process.tell(&upper.to_string());
        process.hear()
    };
    let mut live = process(store, parts.path(), "live");
    assert_eq!(live.hear(), "1");
    assert_eq!(tell(&mut live, 30), "written");
    let all = || run(async { without_leases(&store.open().await).await });

    // Whatever it reads, and however often it renews its leases, beside one that writes nothing.
    let before = all();
    let mut follower = process(store, parts.path(), "follow");
    assert_eq!(follower.hear(), format!("{:?}", Since::at(20_u64)));
    assert_eq!(tell(&mut follower, 30), "[30] [30] []");
    assert_eq!(all(), before);

    let mut contents: Vec<u64> = vec![30];
    for (epoch, upper) in [(2, 60), (3, 90)] {
        // While nobody is in charge.
        live.kill();
        let before = all();
        let last = *contents.last().unwrap();
        let was = format!("{contents:?} {contents:?} []");
        assert_eq!(tell(&mut follower, last), was);
        run(async { leases_are_renewed(&store.open().await).await });
        assert_eq!(all(), before);

        live = process(store, parts.path(), "live");
        assert_eq!(live.hear(), epoch.to_string());
        // It waits for what is not written yet.
        follower.tell(&upper.to_string());
        assert_eq!(tell(&mut live, upper), "written");
        contents.push(upper);
        assert_eq!(follower.hear(), format!("{contents:?} {contents:?} []"));
    }
    live.kill();
    let before = all();
    follower.tell("end");
    assert_eq!(follower.hear(), "ended");
    follower.ends_well();
    assert_eq!(all(), before);
}
