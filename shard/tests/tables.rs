//! Tables on the stores.
#![expect(clippy::unwrap_used, reason = "what a test does not expect fails it")]

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use arrow::array::{ArrayRef, AsArray, Int64Array};
use arrow::datatypes::Int64Type;
use arrow::record_batch::RecordBatch;
use lowwater::{ShardId, Upper};
use lowwater_shard::consensus::embedded::EmbeddedConsensus;
use lowwater_shard::consensus::postgres::{PostgresConfig, PostgresConsensus};
use lowwater_shard::consensus::unreliable::{Fault, UnreliableConsensus};
use lowwater_shard::consensus::{Consensus, Fence, MemoryConsensus};
use lowwater_shard::record::{Content, DataRecord};
use lowwater_shard::tables::{Access, Apply, CommitRefusal, Tables, TablesError};
use lowwater_shard::{Column, ColumnKind, Epoch, Incarnation, Log, Nonce, Parts, ReaderId, Schema};
use proptest::prelude::*;
use tokio::runtime::Handle;
use tokio::time::timeout;

const READER: ReaderId = ReaderId::new(1);
const TXNS: ShardId = ShardId::new(100);
const A: ShardId = ShardId::new(1);
const B: ShardId = ShardId::new(2);

/// Nothing here takes that long, but for what hangs.
const LONG: Duration = Duration::from_secs(60);

type Store = Arc<dyn Consensus>;

fn schema() -> Schema {
    let value = Column {
        name: "value".to_owned(),
        kind: ColumnKind::Int64,
        nullable: false,
    };
    Schema::new(vec![value]).unwrap()
}

fn fence(epoch: u64) -> Fence {
    Fence {
        epoch: Epoch::new(epoch),
        incarnation: Incarnation::new(epoch.into()),
    }
}

fn control(epoch: u64, in_background: bool) -> Access {
    Access::Control {
        reader: READER,
        fence: fence(epoch),
        apply: match in_background {
            true => Apply::InBackground {
                every: Duration::ZERO,
            },
            false => Apply::ByHand,
        },
    }
}

async fn open(store: &Store, access: Access) -> Tables<u64> {
    let (runtime, store) = (Handle::current(), Arc::clone(store));
    let opened = Tables::open(&runtime, store, Parts::memory(), TXNS, access).await;
    opened.unwrap()
}

/// The tables of a controller that has taken over with this epoch.
async fn take_over(store: &Store, epoch: u64, in_background: bool) -> Tables<u64> {
    store.take_over(fence(epoch)).await.unwrap().unwrap();
    open(store, control(epoch, in_background)).await
}

type Writes<'a> = &'a [(ShardId, &'a [i64])];
type Commit = Result<Upper<u64>, TablesError<CommitRefusal<u64>>>;

async fn commit(tables: &Tables<u64>, at: u64, writes: Writes<'_>) -> Commit {
    let mut transaction = tables.begin();
    let schema = schema();
    for (table, values) in writes {
        let diffs = vec![1; values.len()];
        let values: ArrayRef = Arc::new(Int64Array::from(values.to_vec()));
        let rows = RecordBatch::try_new(schema.arrow(), vec![values]).unwrap();
        transaction.write(*table, &schema, rows, diffs).unwrap();
    }
    transaction.commit_at(&at).await
}

async fn read(tables: &Tables<u64>, table: ShardId, as_of: u64) -> Vec<i64> {
    let read = timeout(LONG, tables.snapshot(table, &as_of)).await;
    let read = read.expect("it hangs").unwrap();
    let Some(column) = read.rows().columns().first() else {
        return Vec::new();
    };
    let values = column.as_primitive::<Int64Type>().values().iter();
    let copies = values.zip(read.diffs());
    let copies =
        copies.map(|(value, diff)| std::iter::repeat_n(*value, usize::try_from(*diff).unwrap()));
    let mut values: Vec<i64> = copies.flatten().collect();
    values.sort_unstable();
    values
}

fn both() -> [(ShardId, Schema); 2] {
    [(A, schema()), (B, schema())]
}

fn memory() -> Store {
    Arc::new(MemoryConsensus::new())
}

async fn survives_a_restart(reopen: impl AsyncFn() -> Store) {
    let store = reopen().await;
    let tables = take_over(&store, 1, false).await;
    tables.register(&1, &both()).await.unwrap();
    commit(&tables, 5, &[(A, &[1, 2]), (B, &[3])])
        .await
        .unwrap();
    commit(&tables, 7, &[(B, &[4])]).await.unwrap();
    drop((tables, store));
    let store = reopen().await;
    let reader = open(&store, Access::ReadOnly).await;
    assert_eq!(
        reader.upper(),
        Upper::at(8),
        "tables' uppers start at the txns upper"
    );
    assert_eq!(read(&reader, A, 7).await, [1, 2]);
    let tables = take_over(&store, 2, true).await;
    assert_eq!(read(&tables, B, 7).await, [3, 4]);
    assert_eq!(read(&tables, B, 6).await, [3]);
    tables.forget(&9, &[A]).await.unwrap();
    drop((tables, reader, store));
    let store = reopen().await;
    let tables = take_over(&store, 3, true).await;
    assert!(!tables.needs(A).await.unwrap());
    assert!(tables.needs(B).await.unwrap());
    assert_eq!(read(&tables, A, 9).await, [1, 2]);
}

#[tokio::test(start_paused = true)]
async fn what_was_committed_survives_a_restart_in_memory() {
    let store = memory();
    survives_a_restart(async || Arc::clone(&store)).await;
}

#[tokio::test]
async fn what_was_committed_survives_a_restart_in_files() {
    let folder = tempfile::tempdir().unwrap();
    let reopen = async || {
        let store: Store = Arc::new(EmbeddedConsensus::open(folder.path()).unwrap());
        store
    };
    survives_a_restart(reopen).await;
}

#[tokio::test]
async fn what_was_committed_survives_a_restart_on_postgres() {
    // Where there is none, the conformance tests say so, and in CI they fail.
    let Ok(server) = std::env::var("LOWWATER_TEST_POSTGRES") else {
        return;
    };
    let connected = tokio_postgres::connect(&server, tokio_postgres::NoTls).await;
    let (client, connection) = connected.expect("the server that was named answers");
    tokio::spawn(connection);
    let schema = format!("lowwater_test_{}", Nonce::random());
    let execute = async |statement: String| client.batch_execute(&statement).await.unwrap();
    execute(format!("CREATE SCHEMA {schema}")).await;
    let separator = if server.contains('?') { '&' } else { '?' };
    let address = format!("{server}{separator}options=-c%20search_path%3D{schema}");
    let reopen = async || {
        let config = PostgresConfig::new(&address).unwrap();
        let store: Store = Arc::new(PostgresConsensus::open(config).await.unwrap());
        store
    };
    survives_a_restart(reopen).await;
    execute(format!("DROP SCHEMA {schema} CASCADE")).await;
}

#[tokio::test]
async fn two_that_commit_to_one_store_at_once_take_turns_and_a_reader_never_sees_half() {
    let folder = tempfile::tempdir().unwrap();
    let reopen = || -> Store { Arc::new(EmbeddedConsensus::open(folder.path()).unwrap()) };
    let first = reopen();
    let tables = take_over(&first, 1, true).await;
    tables.register(&1, &both()).await.unwrap();
    let mut writers = Vec::new();
    for (process, tables) in [(0, tables), (1, open(&reopen(), control(1, true)).await)] {
        writers.push(tokio::spawn(async move {
            let mut at = 2;
            for number in 0..15 {
                let value = 100 * process + number;
                while let Err(refused) = commit(&tables, at, &[(A, &[value]), (B, &[value])]).await
                {
                    let TablesError::Refused(CommitRefusal::Passed(passed)) = refused else {
                        panic!("{refused}")
                    };
                    at = *passed.upper.frontier().as_option().unwrap();
                }
            }
        }));
    }
    let reader = open(&reopen(), Access::ReadOnly).await;
    for as_of in 2..32 {
        let (a, b) = (read(&reader, A, as_of).await, read(&reader, B, as_of).await);
        assert_eq!(a, b, "at {as_of}");
        assert_eq!(a.len() as u64, as_of - 1, "one commit at each time");
    }
    for writer in writers {
        timeout(LONG, writer).await.expect("it hangs").unwrap();
    }
}

#[tokio::test(start_paused = true)]
async fn a_commit_of_a_fenced_controller_does_not_land_whatever_it_was_in_the_middle_of() {
    let store = memory();
    let old = take_over(&store, 1, false).await;
    old.register(&1, &both()).await.unwrap();
    commit(&old, 3, &[(A, &[1])]).await.unwrap();
    let new = take_over(&store, 2, false).await;
    let is_fenced = |by| by == Some(fence(2));
    let refused = commit(&old, 5, &[(A, &[9])]).await;
    assert!(matches!(refused, Err(TablesError::Fenced(fenced)) if is_fenced(fenced.by)));
    let refused = old.apply_through(&3).await;
    assert!(matches!(refused, Err(TablesError::Fenced(fenced)) if is_fenced(fenced.by)));
    let refused = old.forget(&5, &[B]).await;
    assert!(matches!(refused, Err(TablesError::Fenced(fenced)) if is_fenced(fenced.by)));
    let refused = old.register(&5, &[(ShardId::new(9), schema())]).await;
    assert!(matches!(refused, Err(TablesError::Fenced(fenced)) if is_fenced(fenced.by)));
    let access = control(1, false);
    let (runtime, same) = (Handle::current(), Arc::clone(&store));
    let refused = Tables::<u64>::open(&runtime, same, Parts::memory(), TXNS, access).await;
    assert!(refused.is_err());
    commit(&new, 5, &[(A, &[2])]).await.unwrap();
    assert_eq!(read(&new, A, 5).await, [1, 2]);
}

#[tokio::test(start_paused = true)]
async fn a_reader_writes_nothing() {
    let store = memory();
    let tables = take_over(&store, 1, false).await;
    tables.register(&1, &both()).await.unwrap();
    commit(&tables, 3, &[(A, &[1])]).await.unwrap();
    let heads = || async {
        let logs = store.list(None, 100).await.unwrap();
        store.heads(logs).await.unwrap()
    };
    let before = heads().await;
    let reader = open(&store, Access::ReadOnly).await;
    assert_eq!(read(&reader, A, 3).await, [1]);
    let mut subscription = reader.subscribe(A, 2);
    assert!(
        subscription
            .next()
            .await
            .unwrap()
            .unwrap()
            .updates
            .is_empty()
    );
    assert_eq!(subscription.next().await.unwrap().unwrap().updates.len(), 1);
    drop(reader);
    assert_eq!(heads().await, before);
}

#[tokio::test(start_paused = true)]
async fn a_lost_answer_is_found_out_and_nothing_is_committed_twice() {
    for fault in [Fault::LostBefore, Fault::LostAfter, Fault::Late] {
        let unreliable = UnreliableConsensus::new(memory());
        let store: Store = Arc::new(unreliable.clone());
        let tables = take_over(&store, 1, false).await;
        unreliable.next_commits([fault]);
        tables.register(&1, &both()).await.unwrap();
        unreliable.next_commits([fault]);
        commit(&tables, 3, &[(A, &[1]), (B, &[2])]).await.unwrap();
        unreliable.next_commits([fault]);
        tables.apply_through(&3).await.unwrap();
        unreliable.next_commits([fault]);
        tables.advance(&4).await.unwrap();
        unreliable.next_commits([fault]);
        tables.let_go().await.unwrap();
        unreliable.next_commits([fault, Fault::None, fault]);
        tables.forget(&5, &[A]).await.unwrap();
        assert_eq!(read(&tables, A, 5).await, [1], "{fault:?}");
        assert_eq!(read(&tables, B, 5).await, [2], "{fault:?}");
    }
}

#[tokio::test]
async fn a_large_transaction_is_stored_in_parts_and_outlives_a_crash_before_it_is_applied() {
    let folder = tempfile::tempdir().unwrap();
    let store: Store = Arc::new(EmbeddedConsensus::open(folder.path().join("records")).unwrap());
    let parts = Parts::folder(folder.path().join("parts")).unwrap();
    store.take_over(fence(1)).await.unwrap().unwrap();
    let open = |access| {
        let (runtime, store) = (Handle::current(), Arc::clone(&store));
        let parts = parts.clone();
        async move {
            Tables::<u64>::open(&runtime, store, parts, TXNS, access)
                .await
                .unwrap()
        }
    };
    let tables = open(control(1, false)).await;
    tables.register(&1, &both()).await.unwrap();
    let many: Vec<i64> = (0..30_000).map(|n| n * 1_000_003).collect();
    commit(&tables, 3, &[(A, &many), (B, &[1])]).await.unwrap();
    assert_eq!(parts.list(TXNS).await.unwrap().len(), 1);
    drop(tables);
    let reader = open(Access::ReadOnly).await;
    assert_eq!(read(&reader, A, 3).await, many);
    assert_eq!(parts.list(A).await.unwrap(), []);
    let tables = open(control(1, false)).await;
    tables.apply_through(&3).await.unwrap();
    assert_eq!(parts.list(A).await.unwrap().len(), 1);
    for at in 4..40 {
        commit(&tables, at, &[(B, &[2])]).await.unwrap();
        tables.apply_through(&at).await.unwrap();
    }
    tables.let_go().await.unwrap();
    let mut log = Log::<DataRecord<u64>>::new(TXNS);
    let versions = store.scan(vec![log.scan()]).await.unwrap().remove(0);
    log.follow(&versions).unwrap();
    let contents = log
        .record()
        .batches()
        .iter()
        .flat_map(|batch| &batch.contents);
    let stored = contents.filter(|content| matches!(content, Content::Stored(_)));
    assert_eq!(
        stored.count(),
        0,
        "what was applied is nowhere in the txns shard"
    );
    assert_eq!(read(&tables, A, 39).await, many);
    assert_eq!(read(&reader, B, 39).await.len(), 37);
}

#[tokio::test(start_paused = true)]
async fn the_txns_shard_does_not_grow_with_what_was_applied() {
    let store = memory();
    let tables = take_over(&store, 1, false).await;
    let follower = open(&store, Access::ReadOnly).await;
    tables.register(&1, &both()).await.unwrap();
    for at in 2..300 {
        commit(&tables, at, &[(A, &[7; 20]), (B, &[8; 20])])
            .await
            .unwrap();
        tables.apply_through(&at).await.unwrap();
        if at % 5 == 0 {
            tables.let_go().await.unwrap();
        }
    }
    let mut log = Log::<DataRecord<u64>>::new(TXNS);
    let versions = store.scan(vec![log.scan()]).await.unwrap().remove(0);
    log.follow(&versions).unwrap();
    let batches = log.record().batches();
    assert!(batches.len() < 50, "{}", batches.len());
    let updates = batches.iter().flat_map(|batch| &batch.contents);
    let updates: u64 = updates.map(Content::updates).sum();
    assert!(updates < 300, "{updates} of some 1,200");
    assert_eq!(read(&follower, A, 299).await.len(), 298 * 20);
    assert_eq!(follower.state().await.registered().count(), 2);
    let late = open(&store, Access::ReadOnly).await;
    assert_eq!(read(&late, B, 299).await.len(), 298 * 20);
}

/// What a caller wants.
#[derive(Clone, Debug)]
enum Call {
    Register(ShardId),
    Forget(ShardId),
    Commit(Vec<(ShardId, i64)>),
    Apply,
    Downgrade,
}

/// How a process fails: what goes wrong first, and how much goes well before nothing does any more.
#[derive(Clone, Debug)]
struct Fate {
    faults: Vec<Fault>,
    commits: usize,
}

/// Carries out a call by incarnations that each meet the fate, a little later each time; says for
/// which time that was.
async fn insist(store: &Store, epoch: &mut u64, call: &Call, fate: &Fate) -> u64 {
    let reader = open(store, Access::ReadOnly).await;
    let at = *reader.upper().frontier().as_option().unwrap();
    for life in 0.. {
        assert!(life < 40, "{call:?} comes to no end");
        *epoch += 1;
        let unreliable = UnreliableConsensus::new(Arc::clone(store));
        let mortal: Store = Arc::new(unreliable.clone());
        let tables = take_over(&mortal, *epoch, false).await;
        unreliable.next_commits(fate.faults.iter().copied());
        unreliable.next_commits(std::iter::repeat_n(Fault::None, fate.commits + life));
        unreliable.next_commits(std::iter::repeat_n(Fault::Refused, 1_000));
        // Whatever can be done again is done at the first time that is open.
        let now = *tables.upper().frontier().as_option().unwrap();
        let finished = match call {
            Call::Register(table) => tables.register(&now, &[(*table, schema())]).await.is_ok(),
            Call::Forget(table) => tables.forget(&now, &[*table]).await.is_ok(),
            Call::Commit(writes) => {
                let mut all: BTreeMap<ShardId, Vec<i64>> = BTreeMap::new();
                for (table, value) in writes {
                    all.entry(*table).or_default().push(*value);
                }
                let all: Vec<_> = all.iter().map(|(id, values)| (*id, &**values)).collect();
                // A commit whose time has passed was carried out: nobody else commits.
                now > at || commit(&tables, at, &all).await.is_ok()
            }
            Call::Apply => tables.apply_through(&at).await.is_ok(),
            Call::Downgrade => tables.let_go().await.is_ok(),
        };
        if finished {
            break;
        }
    }
    at
}

async fn run(calls: &[Call], fate: &Fate) {
    let (store, mut epoch) = (memory(), 0);
    let mut registered: BTreeMap<ShardId, bool> = BTreeMap::new();
    let mut written: Vec<(u64, ShardId, i64)> = Vec::new();
    drop(take_over(&store, 0, false).await);
    for call in calls {
        if let Call::Commit(writes) = call {
            let known = |table| registered.get(table) == Some(&true);
            if !writes.iter().all(|(table, _)| known(table)) {
                continue;
            }
        }
        let at = insist(&store, &mut epoch, call, fate).await;
        match call {
            Call::Register(table) => drop(registered.insert(*table, true)),
            Call::Forget(table) => drop(registered.insert(*table, false)),
            Call::Commit(writes) => {
                written.extend(writes.iter().map(|(table, value)| (at, *table, *value)));
            }
            Call::Apply | Call::Downgrade => {}
        }
        let reader = open(&store, Access::ReadOnly).await;
        let state = reader.state().await;
        for table in [A, B] {
            let is_registered = registered.get(&table) == Some(&true);
            assert_eq!(state.is_registered(table), is_registered);
            let Some(last) = last_of(&reader, is_registered) else {
                continue;
            };
            for as_of in last.saturating_sub(4)..=last {
                let rows = written.iter();
                let rows = rows.filter(|(at, of, _)| *of == table && *at <= as_of);
                let mut expected: Vec<_> = rows.map(|(_, _, value)| *value).collect();
                expected.sort_unstable();
                assert_eq!(
                    read(&reader, table, as_of).await,
                    expected,
                    "{table} at {as_of}"
                );
            }
        }
    }
}

/// The last time at which a table can be read.
fn last_of(tables: &Tables<u64>, is_registered: bool) -> Option<u64> {
    let upper = tables.upper();
    let last = upper.frontier().as_option()?.checked_sub(1);
    last.filter(|_| is_registered)
}

#[tokio::test(start_paused = true)]
async fn a_crash_after_every_commit_to_the_store_converges() {
    let calls = [
        Call::Register(A),
        Call::Commit(vec![(A, 1)]),
        Call::Register(B),
        Call::Commit(vec![(A, 2), (B, 3), (A, 4)]),
        Call::Apply,
        Call::Downgrade,
        Call::Commit(vec![(A, 5), (B, 6)]),
        Call::Forget(A),
        Call::Commit(vec![(B, 7)]),
        Call::Register(A),
        Call::Commit(vec![(A, 8), (B, 9)]),
        Call::Forget(B),
        Call::Downgrade,
        Call::Register(B),
        Call::Commit(vec![(B, 10)]),
    ];
    for commits in 0..6 {
        let faults = Vec::new();
        run(&calls, &Fate { faults, commits }).await;
    }
}

fn call() -> impl Strategy<Value = Call> {
    let table = || prop_oneof![Just(A), Just(B)];
    prop_oneof![
        3 => table().prop_map(Call::Register),
        1 => table().prop_map(Call::Forget),
        6 => prop::collection::vec((table(), 0_i64..100), 0..4).prop_map(Call::Commit),
        2 => Just(Call::Apply),
        1 => Just(Call::Downgrade),
    ]
}

fn fate() -> impl Strategy<Value = Fate> {
    let fault = prop_oneof![
        Just(Fault::None),
        Just(Fault::LostBefore),
        Just(Fault::LostAfter),
        Just(Fault::Late),
    ];
    let faults = prop::collection::vec(fault, 0..4);
    (faults, 0_usize..4).prop_map(|(faults, commits)| Fate { faults, commits })
}

proptest! {
    #![proptest_config(ProptestConfig {
        cases: 32,
        failure_persistence: None,
        ..ProptestConfig::default()
    })]

    #[test]
    fn whatever_goes_wrong_tables_are_what_a_naive_history_says(
        calls in prop::collection::vec(call(), 1..12),
        fate in fate(),
    ) {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .start_paused(true)
            .build()
            .unwrap();
        runtime.block_on(run(&calls, &fate));
    }
}
