//! Whatever crashes where, tables are what a naive history says.

use super::*;

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
