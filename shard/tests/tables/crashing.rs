//! Whatever goes wrong, tables are what a naive history says.

use crate::*;

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
