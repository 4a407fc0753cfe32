//! Tables over shards that can be stopped after every durable step.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use arrow::array::{ArrayRef, AsArray, Int64Array};
use arrow::datatypes::Int64Type;
use arrow::record_batch::RecordBatch;
use lowwater::{ShardId, Since, Upper};
use proptest::prelude::*;
use timely::progress::Antichain;
use tokio::runtime::Handle;
use tokio::time::timeout;

use crate::consensus::Fence;
use crate::id::{Epoch, Incarnation};
use crate::schema::{Column, ColumnKind, Schema};
use crate::updates::Updates;

use super::handle::Mode;
use super::memory::MemoryTables;
use super::*;

const TXNS: ShardId = ShardId::new(100);
const A: ShardId = ShardId::new(1);
const B: ShardId = ShardId::new(2);

const NOTHING: [i64; 0] = [];

/// Nothing here takes that long, but for what hangs.
const LONG: Duration = Duration::from_secs(3_600);

fn schema() -> Schema {
    Schema::new(vec![column("value", false)]).unwrap()
}

fn column(name: &str, nullable: bool) -> Column {
    Column {
        name: name.to_owned(),
        kind: ColumnKind::Int64,
        nullable,
    }
}

fn rows(values: &[i64]) -> RecordBatch {
    let values: ArrayRef = Arc::new(Int64Array::from(values.to_vec()));
    RecordBatch::try_new(schema().arrow(), vec![values]).unwrap()
}

fn values(updates: &Updates<u64>) -> Vec<(i64, u64, i64)> {
    let Some(column) = updates.rows().columns().first() else {
        return Vec::new();
    };
    let values = column.as_primitive::<Int64Type>().values().iter();
    let rest = updates.times().iter().zip(updates.diffs());
    let all = values.zip(rest);
    let mut all: Vec<_> = all
        .map(|(value, (at, diff))| (*value, *at, *diff))
        .collect();
    all.sort_unstable();
    all
}

async fn open(store: &MemoryTables<u64>, mode: Mode) -> Tables<u64> {
    let store = Arc::new(store.clone());
    Tables::open_on(&Handle::current(), store, TXNS, mode, Arc::default())
        .await
        .unwrap()
}

/// Tables A and B, registered at 1.
async fn registered(store: &MemoryTables<u64>, mode: Mode) -> Tables<u64> {
    let tables = open(store, mode).await;
    let both = [(A, schema()), (B, schema())];
    assert_eq!(tables.register(&1, &both).await.unwrap(), Upper::at(2));
    tables
}

type Writes<'a> = &'a [(ShardId, &'a [i64])];

async fn transaction(tables: &Tables<u64>, writes: Writes<'_>) -> Transaction<u64> {
    let mut transaction = tables.begin();
    for (table, values) in writes {
        let diffs = vec![1; values.len()];
        let schema = schema();
        transaction
            .write(*table, &schema, rows(values), diffs)
            .unwrap();
    }
    transaction
}

async fn commit(tables: &Tables<u64>, at: u64, writes: Writes<'_>) {
    let mut transaction = transaction(tables, writes).await;
    let upper = transaction.commit_at(&at).await.unwrap();
    assert_eq!(upper, Upper::at(at + 1));
}

async fn read(tables: &Tables<u64>, table: ShardId, as_of: u64) -> Vec<i64> {
    let read = timeout(LONG, tables.snapshot(table, &as_of)).await;
    let read = read.expect("it hangs").unwrap();
    let values = values(&read);
    assert!(values.iter().all(|(_, at, diff)| *at == as_of && *diff > 0));
    let copies = |(value, _, diff)| std::iter::repeat_n(value, usize::try_from(diff).unwrap());
    values.into_iter().flat_map(copies).collect()
}

fn fence(epoch: u64) -> Fence {
    Fence {
        epoch: Epoch::new(epoch),
        incarnation: Incarnation::new(epoch.into()),
    }
}

#[tokio::test(start_paused = true)]
async fn what_commits_together_is_one_durable_step_and_is_seen_together() {
    let store = MemoryTables::new();
    let tables = registered(&store, Mode::ByHand).await;
    let steps = store.steps();
    commit(&tables, 5, &[(A, &[1, 2]), (B, &[3])]).await;
    assert_eq!(store.steps(), steps + 1);
    assert_eq!(read(&tables, A, 5).await, [1, 2]);
    assert_eq!(read(&tables, B, 5).await, [3]);
    assert_eq!(read(&tables, A, 4).await, NOTHING);
    assert_eq!(read(&tables, B, 4).await, NOTHING);
}

#[tokio::test(start_paused = true)]
async fn transactions_that_commit_as_one_are_each_at_their_time_and_one_durable_step() {
    let store = MemoryTables::new();
    let tables = registered(&store, Mode::ByHand).await;
    let before = store.steps();
    let one = transaction(&tables, &[(A, &[1]), (B, &[2])]).await;
    let other = transaction(&tables, &[(A, &[3])]).await;
    let mut all = [(5, one), (7, other)];
    assert_eq!(
        tables.commit_all(&9, &mut all).await.unwrap(),
        Upper::at(10)
    );
    assert_eq!(store.steps(), before + 1);
    for (as_of, of_a, of_b) in [(4, &[][..], &[][..]), (6, &[1], &[2]), (9, &[1, 3], &[2])] {
        assert_eq!(read(&tables, A, as_of).await, of_a);
        assert_eq!(read(&tables, B, as_of).await, of_b);
    }
    let late = tables.commit_all(&20, &mut all).await.unwrap_err();
    let TablesError::Refused(CommitRefusal::Passed(passed)) = late else {
        panic!("{late}")
    };
    assert_eq!(passed.upper, Upper::at(10));
    // With nothing to write it closes times.
    assert_eq!(
        tables.commit_all(&20, &mut []).await.unwrap(),
        Upper::at(21)
    );
}

#[tokio::test(start_paused = true)]
async fn a_commit_whose_time_has_passed_is_refused_with_the_upper_and_goes_through_there() {
    let store = MemoryTables::new();
    let tables = registered(&store, Mode::ByHand).await;
    let other = open(&store, Mode::ByHand).await;
    let mut late = transaction(&tables, &[(A, &[7])]).await;
    commit(&other, 5, &[(A, &[1])]).await;
    let refused = late.commit_at(&5).await.unwrap_err();
    let TablesError::Refused(CommitRefusal::Passed(Passed { upper })) = refused else {
        panic!("{refused}")
    };
    assert_eq!(upper, Upper::at(6));
    late.commit_at(&6).await.unwrap();
    assert_eq!(read(&other, A, 6).await, [1, 7]);
}

#[tokio::test(start_paused = true)]
async fn a_dropped_transaction_leaves_no_trace() {
    let store = MemoryTables::new();
    let tables = registered(&store, Mode::ByHand).await;
    let steps = store.steps();
    drop(transaction(&tables, &[(A, &[7])]).await);
    assert_eq!(store.steps(), steps);
    tables.advance(&5).await.unwrap();
    assert_eq!(read(&tables, A, 5).await, NOTHING);
}

#[tokio::test(start_paused = true)]
async fn a_read_at_a_time_that_is_not_yet_written_waits_for_whoever_writes() {
    let store = MemoryTables::new();
    let reader = registered(&store, Mode::ByHand).await;
    let writer = open(&store, Mode::ByHand).await;
    let waiting = tokio::spawn(async move { read(&reader, A, 9).await });
    for at in 4..9 {
        commit(&writer, at, &[(A, &[i64::try_from(at).unwrap()])]).await;
        tokio::time::sleep(Duration::from_millis(1)).await;
        assert!(!waiting.is_finished());
    }
    writer.advance(&9).await.unwrap();
    let seen = timeout(LONG, waiting).await.expect("it hangs").unwrap();
    assert_eq!(seen, [4, 5, 6, 7, 8]);
}

#[tokio::test(start_paused = true)]
async fn all_tables_advance_with_one_write_and_one_change() {
    let store = MemoryTables::new();
    let tables = open(&store, Mode::ByHand).await;
    let many: Vec<_> = (0..50).map(|n| (ShardId::new(n), schema())).collect();
    tables.register(&1, &many).await.unwrap();
    let mut uppers = tables.uppers();
    uppers.mark_unchanged();
    let (steps, reads) = (store.steps(), store.reads());
    assert_eq!(tables.advance(&20).await.unwrap(), Upper::at(21));
    assert_eq!((store.steps(), store.reads()), (steps + 1, reads));
    assert!(uppers.has_changed().unwrap());
    assert_eq!(read(&tables, ShardId::new(30), 20).await, NOTHING);
    assert_eq!(store.upper(ShardId::new(30)), Upper::at(2));
}

#[tokio::test(start_paused = true)]
async fn read_only_tables_read_what_is_not_applied_and_write_nothing() {
    let store = MemoryTables::new();
    let writer = registered(&store, Mode::ByHand).await;
    let reader = open(&store, Mode::ReadOnly).await;
    commit(&writer, 5, &[(A, &[1]), (B, &[2])]).await;
    writer.apply_through(&5).await.unwrap();
    commit(&writer, 6, &[(A, &[3])]).await;
    let steps = store.steps();
    assert_eq!(read(&reader, A, 6).await, [1, 3]);
    assert_eq!(read(&reader, A, 5).await, [1]);
    assert_eq!(read(&reader, B, 6).await, [2]);
    let refused = transaction(&reader, &[(A, &[9])]).await.commit_at(&9).await;
    assert!(matches!(refused, Err(TablesError::ReadOnly)));
    assert!(matches!(
        reader.advance(&9).await,
        Err(TablesError::ReadOnly)
    ));
    assert!(matches!(
        reader.register(&9, &[]).await,
        Err(TablesError::ReadOnly)
    ));
    assert!(matches!(
        reader.forget(&9, &[A]).await,
        Err(TablesError::ReadOnly)
    ));
    assert!(matches!(
        reader.apply_through(&9).await,
        Err(TablesError::ReadOnly)
    ));
    assert!(matches!(reader.let_go().await, Err(TablesError::ReadOnly)));
    assert_eq!(store.steps(), steps);
    assert_eq!(store.upper(A), Upper::at(6));
}

#[tokio::test(start_paused = true)]
async fn a_snapshot_applies_what_it_must_see_and_no_more() {
    let store = MemoryTables::new();
    let tables = registered(&store, Mode::ByHand).await;
    commit(&tables, 5, &[(A, &[1]), (B, &[2])]).await;
    commit(&tables, 8, &[(A, &[3])]).await;
    assert_eq!(read(&tables, A, 6).await, [1]);
    assert_eq!(store.upper(A), Upper::at(6));
    assert_eq!(store.upper(B), Upper::at(2));
}

#[tokio::test(start_paused = true)]
async fn nothing_of_a_controller_lands_after_another_has_taken_over() {
    let store = MemoryTables::new();
    let old = registered(&store.as_controller(fence(1)), Mode::ByHand).await;
    commit(&old, 5, &[(A, &[1])]).await;
    let mut late = transaction(&old, &[(A, &[9])]).await;
    let new = open(&store.as_controller(fence(2)), Mode::ByHand).await;
    let steps = store.steps();
    fn is_fenced<X, R>(outcome: Result<X, TablesError<R>>) -> bool {
        let by = Some(fence(2));
        matches!(outcome, Err(TablesError::Fenced(fenced)) if fenced.by == by)
    }
    assert!(is_fenced(late.commit_at(&6).await));
    assert!(is_fenced(old.advance(&6).await));
    assert!(is_fenced(
        old.register(&6, &[(ShardId::new(7), schema())]).await
    ));
    assert!(is_fenced(old.forget(&6, &[A]).await));
    assert!(is_fenced(old.apply_through(&5).await));
    assert!(is_fenced(old.let_go().await));
    assert!(is_fenced(old.snapshot(A, &5).await));
    assert_eq!(store.steps(), steps);
    commit(&new, 6, &[(A, &[2])]).await;
    assert_eq!(read(&new, A, 6).await, [1, 2]);
}

#[tokio::test(start_paused = true)]
async fn processes_that_commit_at_once_take_turns() {
    let store = MemoryTables::new();
    drop(registered(&store, Mode::Background(Duration::ZERO)).await);
    let mut writers = Vec::new();
    for process in 0..3 {
        let tables = open(&store, Mode::Background(Duration::ZERO)).await;
        writers.push(tokio::spawn(async move {
            let mut committed = Vec::new();
            for number in 0..20 {
                let value = 100 * process + number;
                let mut transaction = transaction(&tables, &[(A, &[value]), (B, &[value])]).await;
                let mut at = 2;
                while let Err(refused) = transaction.commit_at(&at).await {
                    let TablesError::Refused(CommitRefusal::Passed(passed)) = refused else {
                        panic!("{refused}")
                    };
                    at = *passed.upper.frontier().as_option().unwrap();
                }
                committed.push((at, value));
            }
            committed
        }));
    }
    let mut committed = Vec::new();
    for writer in writers {
        committed.extend(timeout(LONG, writer).await.expect("it hangs").unwrap());
    }
    committed.sort_unstable();
    assert!(
        committed.windows(2).all(|pair| pair[0].0 < pair[1].0),
        "one commit, one time"
    );
    let reader = open(&store, Mode::ReadOnly).await;
    for (at, _) in &committed {
        let upto = committed.iter().filter(|(earlier, _)| earlier <= at);
        let mut expected: Vec<_> = upto.map(|(_, value)| *value).collect();
        expected.sort_unstable();
        assert_eq!(read(&reader, A, *at).await, expected);
        assert_eq!(read(&reader, B, *at).await, expected);
    }
}

#[tokio::test(start_paused = true)]
async fn the_background_applies_tidies_and_lets_go_of_the_txns_shard() {
    let store = MemoryTables::new();
    let tables = registered(&store, Mode::Background(Duration::ZERO)).await;
    commit(&tables, 5, &[(A, &[1]), (B, &[2])]).await;
    tokio::time::sleep(Duration::from_secs(5)).await;
    assert_eq!(
        (store.upper(A), store.upper(B)),
        (Upper::at(6), Upper::at(6))
    );
    assert_eq!(store.since(TXNS), Since::at(5));
    tables.advance(&9).await.unwrap();
    tokio::time::sleep(Duration::from_secs(5)).await;
    assert_eq!(store.since(TXNS), Since::at(9));
    let latest = open(&store, Mode::ReadOnly).await.state().await;
    assert_eq!(latest.oldest_unapplied(), None);
    let steps = store.steps();
    tokio::time::sleep(Duration::from_secs(500)).await;
    assert_eq!(
        store.steps(),
        steps,
        "nothing is written when nothing happens"
    );
}

#[tokio::test(start_paused = true)]
async fn the_background_applies_what_other_processes_commit() {
    let store = MemoryTables::new();
    let _background = registered(&store, Mode::Background(Duration::ZERO)).await;
    let other = open(&store, Mode::ByHand).await;
    commit(&other, 5, &[(A, &[1])]).await;
    tokio::time::sleep(Duration::from_secs(5)).await;
    assert_eq!(store.upper(A), Upper::at(6));
}

#[tokio::test(start_paused = true)]
async fn register_is_idempotent_and_finishes_what_a_crash_has_left() {
    let store = MemoryTables::new();
    let tables = open(&store, Mode::ByHand).await;
    store.crash_after(2);
    assert!(tables.register(&3, &[(A, schema())]).await.is_err());
    assert_eq!(
        store.upper(A),
        Upper::minimum(),
        "its own shard is still open to others"
    );
    store.crash_after(usize::MAX);
    let tables = open(&store, Mode::ByHand).await;
    assert_eq!(tables.upper(), Upper::at(4));
    let passed = tables.register(&3, &[(A, schema())]).await.unwrap_err();
    let refusal = RegisterRefusal::Passed(Passed {
        upper: Upper::at(4),
    });
    assert!(matches!(passed, TablesError::Refused(RegisterFault::Refused(r)) if r == refusal));
    tables.register(&4, &[(A, schema())]).await.unwrap();
    assert_eq!(
        store.upper(A),
        Upper::at(4),
        "registered at 3, and stays so"
    );
    let steps = store.steps();
    tables.register(&5, &[(A, schema())]).await.unwrap();
    assert_eq!(store.steps(), steps + 1);
}

#[tokio::test(start_paused = true)]
async fn a_shard_with_another_schema_or_further_than_the_time_does_not_become_a_table() {
    let store = MemoryTables::new();
    let tables = registered(&store, Mode::ByHand).await;
    let other = Schema::new(vec![column("other", false)]).unwrap();
    let refused = tables.register(&5, &[(A, other)]).await.unwrap_err();
    assert!(matches!(
        refused,
        TablesError::Refused(RegisterFault::Schema { table: A, .. })
    ));
    let ahead = ShardId::new(9);
    store.write_directly(ahead, Upper::at(50));
    let refused = tables.register(&5, &[(ahead, schema())]).await.unwrap_err();
    let refusal = RegisterRefusal::Ahead {
        table: ahead,
        upper: Upper::at(50),
    };
    assert!(matches!(refused, TablesError::Refused(RegisterFault::Refused(r)) if r == refusal));
    assert_eq!(tables.upper(), Upper::at(2));
}

#[tokio::test(start_paused = true)]
async fn forget_applies_everything_first_and_leaves_an_ordinary_shard() {
    let store = MemoryTables::new();
    let tables = registered(&store, Mode::ByHand).await;
    commit(&tables, 5, &[(A, &[1]), (B, &[2])]).await;
    assert!(tables.needs(A).await.unwrap());
    assert_eq!(tables.forget(&7, &[A]).await.unwrap(), Upper::at(8));
    assert!(!tables.needs(A).await.unwrap());
    assert_eq!(store.upper(A), Upper::at(8));
    assert_eq!(store.upper(B), Upper::at(2));
    assert_eq!(read(&tables, A, 7).await, [1]);
    let refused = transaction(&tables, &[(A, &[9])]).await.commit_at(&8).await;
    assert!(matches!(
        refused,
        Err(TablesError::Refused(CommitRefusal::Unregistered(tables))) if tables.contains(&A)
    ));
    // Its own upper counts now.
    tables.advance(&30).await.unwrap();
    let waiting = {
        let tables = tables.clone();
        tokio::spawn(async move { read(&tables, A, 20).await })
    };
    tokio::time::sleep(Duration::from_millis(1)).await;
    assert!(!waiting.is_finished());
    store.write_directly(A, Upper::at(21));
    assert_eq!(
        timeout(LONG, waiting).await.expect("it hangs").unwrap(),
        [1]
    );
    tables.forget(&31, &[A]).await.unwrap();
    tables.register(&32, &[(A, schema())]).await.unwrap();
    commit(&tables, 33, &[(A, &[4])]).await;
    assert_eq!(read(&tables, A, 33).await, [1, 4]);
}

#[tokio::test(start_paused = true)]
async fn a_forgetting_that_a_crash_has_interrupted_is_finished_by_whoever_comes_next() {
    let store = MemoryTables::new();
    let tables = registered(&store, Mode::ByHand).await;
    store.crash_after(1);
    assert!(tables.forget(&7, &[A]).await.is_err());
    store.crash_after(usize::MAX);
    let tables = open(&store, Mode::Background(Duration::ZERO)).await;
    assert_eq!(tables.upper(), Upper::at(8), "it was forgotten");
    assert_eq!(read(&tables, A, 7).await, NOTHING);
    tokio::time::sleep(Duration::from_secs(5)).await;
    assert_eq!(store.upper(A), Upper::at(8));
    assert!(!tables.needs(A).await.unwrap());
}

#[tokio::test(start_paused = true)]
async fn a_table_that_somebody_else_writes_is_found_out_and_stops_no_other() {
    let store = MemoryTables::new();
    let tables = registered(&store, Mode::ByHand).await;
    commit(&tables, 5, &[(A, &[1]), (B, &[2])]).await;
    store.write_directly(A, Upper::at(50));
    let error = tables.apply_through(&5).await.unwrap_err();
    assert!(
        error.to_string().contains("further than all tables"),
        "{error}"
    );
    assert_eq!(store.upper(B), Upper::at(6));
}

#[tokio::test(start_paused = true)]
async fn a_table_whose_shard_was_destroyed_holds_nothing_back() {
    let store = MemoryTables::new();
    let tables = registered(&store, Mode::ByHand).await;
    commit(&tables, 5, &[(A, &[1])]).await;
    store.write_directly(A, Upper::sealed());
    tables.apply_through(&5).await.unwrap();
    tables.forget(&6, &[A]).await.unwrap();
    assert!(!tables.needs(A).await.unwrap());
}

#[tokio::test(start_paused = true)]
async fn a_table_is_written_with_the_versions_of_its_schema_and_no_others() {
    let store = MemoryTables::new();
    let tables = registered(&store, Mode::ByHand).await;
    commit(&tables, 5, &[(A, &[1])]).await;
    let grown = Schema::new(vec![column("value", false), column("more", true)]).unwrap();
    let one: ArrayRef = Arc::new(Int64Array::from(vec![2]));
    let batch = RecordBatch::try_new(grown.arrow(), vec![Arc::clone(&one), one]).unwrap();
    let mut transaction = tables.begin();
    transaction.write(A, &grown, batch, vec![1]).unwrap();
    transaction
        .write(A, &schema(), rows(&[3]), vec![1])
        .unwrap();
    let refused = transaction.commit_at(&6).await;
    let is_unknown = |refusal: &_| *refusal == CommitRefusal::UnknownSchema(A);
    assert!(matches!(refused, Err(TablesError::Refused(refusal)) if is_unknown(&refusal)));
    tables.alter(A, &grown).await.unwrap();
    transaction.commit_at(&6).await.unwrap();
    for tables in [open(&store, Mode::ReadOnly).await, tables] {
        let seen = tables.snapshot(A, &6).await.unwrap();
        assert_eq!(values(&seen).len(), 3);
        assert!(seen.check(&grown).is_ok());
    }
    let shrunk = Schema::new(vec![column("more", true)]).unwrap();
    let refused = open(&store, Mode::ByHand).await.alter(A, &shrunk).await;
    assert!(matches!(refused, Err(TablesError::Refused(_))));
}

#[tokio::test(start_paused = true)]
async fn what_can_no_longer_be_read_is_refused_with_the_since() {
    let store = MemoryTables::new();
    let tables = registered(&store, Mode::ByHand).await;
    commit(&tables, 5, &[(A, &[1])]).await;
    commit(&tables, 8, &[(A, &[2])]).await;
    store.downgrade_to(A, Since::at(7));
    let refused = tables.snapshot(A, &6).await.unwrap_err();
    let too_early = ReadRefusal::TooEarly {
        table: A,
        since: Since::at(7),
    };
    assert!(matches!(refused, TablesError::Refused(refusal) if refusal == too_early));
    // The since may be beyond what is applied: what is applied later is advanced to it.
    assert_eq!(read(&tables, A, 7).await, [1]);
    store.merge(A);
    assert_eq!(read(&tables, A, 8).await, [1, 2]);
}

#[tokio::test(start_paused = true)]
async fn a_process_goes_on_over_a_txns_shard_that_others_have_compacted() {
    let store = MemoryTables::new();
    let slow = registered(&store, Mode::ByHand).await;
    let fast = open(&store, Mode::ByHand).await;
    commit(&slow, 3, &[(A, &[0])]).await;
    for at in 5..20 {
        commit(&fast, at, &[(A, &[i64::try_from(at).unwrap()])]).await;
        fast.apply_through(&at).await.unwrap();
        let since = fast.let_go().await.unwrap();
        assert_eq!(store.since(TXNS), since);
        store.merge(TXNS);
    }
    commit(&slow, 30, &[(A, &[30]), (B, &[30])]).await;
    store.merge(TXNS);
    let expected: Vec<_> = [0].into_iter().chain(5..20).chain([30]).collect();
    assert_eq!(read(&fast, A, 30).await, expected);
    assert_eq!(read(&slow, A, 30).await, expected);
    assert_eq!(read(&open(&store, Mode::ReadOnly).await, B, 30).await, [30]);
}

#[tokio::test(start_paused = true)]
async fn a_subscription_gives_a_snapshot_and_then_each_change_once() {
    let store = MemoryTables::new();
    let tables = registered(&store, Mode::ByHand).await;
    let reader = open(&store, Mode::ReadOnly).await;
    commit(&tables, 3, &[(A, &[1])]).await;
    commit(&tables, 5, &[(A, &[2])]).await;
    let mut followed: Vec<_> = [&tables, &reader]
        .map(|tables| (tables.subscribe(A, 4), Vec::new()))
        .into();
    for at in 6..20 {
        for (subscription, seen) in &mut followed {
            let upper = subscription_upper(subscription, seen, at).await;
            assert_eq!(upper, Upper::at(at));
        }
        match at % 4 {
            0 => drop(tables.advance(&at).await.unwrap()),
            1 => commit(&tables, at, &[(B, &[7])]).await,
            _ => commit(&tables, at, &[(A, &[i64::try_from(at).unwrap()])]).await,
        }
        if at % 3 == 0 {
            tables.apply_through(&at).await.unwrap();
        }
    }
    let changes = [6, 7, 10, 11, 14, 15, 18];
    let mut expected = vec![(1, 4, 1), (2, 5, 1)];
    expected.extend(changes.map(|at| (at, u64::try_from(at).unwrap(), 1)));
    for (_, seen) in followed {
        assert_eq!(seen, expected);
    }
}

/// Follows until everything before `at` was seen.
async fn subscription_upper(
    subscription: &mut Subscription<u64>,
    seen: &mut Vec<(i64, u64, i64)>,
    at: u64,
) -> Upper<u64> {
    loop {
        let next = timeout(LONG, subscription.next()).await.expect("it hangs");
        let progress = next.unwrap().unwrap();
        seen.extend(values(&progress.updates));
        if progress.upper.is_past(&Antichain::from_elem(at - 1)) {
            return progress.upper;
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_subscription_of_a_quiet_table_reads_nothing_when_time_passes() {
    let store = MemoryTables::new();
    let tables = registered(&store, Mode::ByHand).await;
    commit(&tables, 3, &[(A, &[1])]).await;
    let mut subscription = tables.subscribe(A, 3);
    let first = subscription.next().await.unwrap().unwrap();
    assert_eq!(values(&first.updates), [(1, 3, 1)]);
    let reads = store.reads();
    for at in 4..10 {
        commit(&tables, at, &[(B, &[2])]).await;
        let passed = subscription.next().await.unwrap().unwrap();
        assert_eq!(
            (values(&passed.updates), passed.upper),
            (vec![], Upper::at(at + 1))
        );
    }
    assert_eq!(store.reads(), reads);
}

#[tokio::test(start_paused = true)]
async fn a_subscription_misses_nothing_that_a_compacted_txns_shard_no_longer_tells() {
    let store = MemoryTables::new();
    let writer = registered(&store, Mode::ByHand).await;
    let reader = open(&store, Mode::ReadOnly).await;
    let mut subscription = reader.subscribe(A, 1);
    assert_eq!(
        values(&subscription.next().await.unwrap().unwrap().updates),
        []
    );
    commit(&writer, 3, &[(A, &[1])]).await;
    writer.apply_through(&3).await.unwrap();
    writer.advance(&4).await.unwrap();
    writer.let_go().await.unwrap();
    store.merge(TXNS);
    // Its process has not seen the commit when the txns shard still told of it.
    subscription.goes_on_with(&open(&store, Mode::ReadOnly).await);
    let rest = subscription.next().await.unwrap().unwrap();
    assert_eq!(
        (values(&rest.updates), rest.upper),
        (vec![(1, 3, 1)], Upper::at(5))
    );
}

#[tokio::test(start_paused = true)]
async fn a_subscription_is_refused_where_its_table_no_longer_tells_times_apart() {
    let store = MemoryTables::new();
    let tables = registered(&store, Mode::ByHand).await;
    commit(&tables, 3, &[(A, &[1])]).await;
    let mut subscription = tables.subscribe(A, 3);
    subscription.next().await.unwrap();
    commit(&tables, 5, &[(A, &[2])]).await;
    // At 3 it can be told what came after 3; at 4 no longer.
    store.downgrade_to(A, Since::at(4));
    let refused = subscription.next().await.unwrap_err();
    let since = Since::at(4);
    let too_early = ReadRefusal::TooEarly { table: A, since };
    assert!(matches!(refused, TablesError::Refused(refusal) if refusal == too_early));
}

#[tokio::test(start_paused = true)]
async fn a_subscription_goes_on_when_the_table_is_forgotten_and_ends_with_its_shard() {
    let store = MemoryTables::new();
    let tables = registered(&store, Mode::ByHand).await;
    commit(&tables, 3, &[(A, &[1])]).await;
    let mut subscription = tables.subscribe(A, 2);
    assert_eq!(
        values(&subscription.next().await.unwrap().unwrap().updates),
        []
    );
    tables.forget(&6, &[A]).await.unwrap();
    tables.advance(&10).await.unwrap();
    let rest = subscription.next().await.unwrap().unwrap();
    assert_eq!(
        (values(&rest.updates), rest.upper),
        (vec![(1, 3, 1)], Upper::at(7))
    );
    store.write_directly(A, Upper::sealed());
    let end = timeout(LONG, subscription.next()).await.expect("it hangs");
    assert_eq!(end.unwrap().unwrap().upper, Upper::sealed());
    assert_eq!(subscription.next().await.unwrap(), None);
}

#[tokio::test(start_paused = true)]
async fn tables_that_are_dropped_leave_no_task_behind() {
    let store = MemoryTables::new();
    let tables = registered(&store, Mode::Background(Duration::ZERO)).await;
    let inner = Arc::downgrade(&tables.inner);
    tokio::time::sleep(Duration::from_secs(5)).await;
    drop(tables);
    assert!(inner.upgrade().is_none());
    tokio::time::sleep(Duration::from_secs(5)).await;
    assert_eq!(Handle::current().metrics().num_alive_tasks(), 0);
}

/// What a caller wants.
#[derive(Clone, Debug)]
enum Call {
    Register(ShardId),
    Forget(ShardId),
    Commit(Vec<(ShardId, i64)>),
    Apply,
    Advance,
    Compact,
}

/// What is committed, by the calls alone.
#[derive(Debug, Default)]
struct Naive {
    registered: BTreeMap<ShardId, bool>,
    written: Vec<(u64, ShardId, i64)>,
}

/// Carries out a call in lives that each end after so many durable steps, until one comes through.
/// A call that was cut short is found to be done if the time that it was for has passed.
async fn insist(store: &MemoryTables<u64>, naive: &mut Naive, call: &Call, steps: usize) {
    let at = {
        store.crash_after(usize::MAX);
        let tables = open(store, Mode::ByHand).await;
        tables.upper().frontier().as_option().copied().unwrap()
    };
    for life in 0.. {
        assert!(life < 40, "{call:?} comes to no end");
        store.crash_after(usize::MAX);
        let tables = open(store, Mode::ByHand).await;
        let done = tables.upper().is_complete_at(&at);
        store.crash_after(steps + life);
        let finished = match call {
            // What is left over after the step is finished by doing it again, later.
            Call::Register(table) => {
                let at = if done { at + 1 } else { at };
                let registered = tables.register(&at, &[(*table, schema())]).await;
                registered.is_ok() || done && tables.upper().is_complete_at(&at)
            }
            Call::Forget(table) => {
                let at = if done { at + 1 } else { at };
                let forgotten = tables.forget(&at, &[*table]).await;
                forgotten.is_ok() || done && tables.upper().is_complete_at(&at)
            }
            Call::Commit(writes) => {
                done || {
                    let mut transaction = tables.begin();
                    let mut taken = true;
                    let schema = schema();
                    for (table, value) in writes {
                        let written = transaction.write(*table, &schema, rows(&[*value]), vec![1]);
                        taken &= written.is_ok();
                    }
                    taken && transaction.commit_at(&at).await.is_ok()
                }
            }
            Call::Apply => tables.apply_through(&at).await.is_ok(),
            Call::Advance => done || tables.advance(&at).await.is_ok(),
            Call::Compact => {
                let downgraded = tables.let_go().await;
                downgraded.is_ok() && {
                    store.merge(TXNS);
                    store.merge(A);
                    true
                }
            }
        };
        if finished {
            break;
        }
    }
    match call {
        Call::Register(table) => drop(naive.registered.insert(*table, true)),
        Call::Forget(table) => drop(naive.registered.insert(*table, false)),
        Call::Commit(writes) => {
            let written = writes.iter().map(|(table, value)| (at, *table, *value));
            naive.written.extend(written);
        }
        Call::Apply | Call::Advance | Call::Compact => {}
    }
    store.crash_after(usize::MAX);
}

async fn check(store: &MemoryTables<u64>, naive: &Naive) {
    let reader = open(store, Mode::ReadOnly).await;
    let state = reader.state().await;
    for table in [A, B] {
        let registered = naive.registered.get(&table).copied().unwrap_or(false);
        assert_eq!(state.is_registered(table), registered);
        let upper = state.logical_upper(table).unwrap_or(store.upper(table));
        let last = upper.frontier().as_option().copied().unwrap();
        for as_of in last.saturating_sub(5)..last {
            let written = naive.written.iter();
            let written = written.filter(|(at, of, _)| *at <= as_of && *of == table);
            let mut expected: Vec<_> = written.map(|(_, _, value)| *value).collect();
            expected.sort_unstable();
            assert_eq!(
                read(&reader, table, as_of).await,
                expected,
                "{table} at {as_of}"
            );
        }
        // What is not applied is not let go of.
        let latest = state.latest_unapplied().copied().unwrap_or(0);
        for (at, _) in state.missing(table, &store.upper(table), &latest) {
            assert!(store.since(TXNS).can_read(&at));
        }
    }
}

async fn run(calls: &[Call], steps: usize) {
    let store = MemoryTables::new();
    let mut naive = Naive::default();
    for call in calls {
        let valid = match call {
            Call::Commit(writes) => {
                let known = |table| naive.registered.get(table) == Some(&true);
                writes.iter().all(|(table, _)| known(table))
            }
            Call::Register(_) | Call::Forget(_) | Call::Apply | Call::Advance | Call::Compact => {
                true
            }
        };
        if valid {
            insist(&store, &mut naive, call, steps).await;
            check(&store, &naive).await;
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_crash_after_every_durable_step_of_every_call_converges() {
    let calls = [
        Call::Register(A),
        Call::Commit(vec![(A, 1)]),
        Call::Register(B),
        Call::Commit(vec![(A, 2), (B, 3), (A, 4)]),
        Call::Apply,
        Call::Commit(vec![(A, 5), (B, 6)]),
        Call::Forget(A),
        Call::Compact,
        Call::Commit(vec![(B, 7)]),
        Call::Register(A),
        Call::Commit(vec![(A, 8), (B, 9)]),
        Call::Advance,
        Call::Apply,
        Call::Forget(B),
        Call::Compact,
        Call::Register(B),
        Call::Commit(vec![(B, 10)]),
    ];
    for steps in 0..6 {
        run(&calls, steps).await;
    }
}

fn call() -> impl Strategy<Value = Call> {
    let table = || prop_oneof![Just(A), Just(B)];
    prop_oneof![
        3 => table().prop_map(Call::Register),
        1 => table().prop_map(Call::Forget),
        6 => prop::collection::vec((table(), 0_i64..100), 0..4).prop_map(Call::Commit),
        2 => Just(Call::Apply),
        1 => Just(Call::Advance),
        1 => Just(Call::Compact),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 48, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn however_often_it_crashes_tables_are_what_a_naive_history_says(
        calls in prop::collection::vec(call(), 1..16),
        steps in 0_usize..4,
    ) {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .start_paused(true)
            .build()
            .unwrap();
        runtime.block_on(run(&calls, steps));
    }
}
