//! Making shards tables, and tables shards.

use super::*;

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
    let refusal = RegisterFaults::Passed(Passed {
        upper: Upper::at(4),
    });
    assert!(matches!(passed, TablesError::Refused(r) if r == refusal));
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
async fn each_shard_that_does_not_become_a_table_is_told_with_its_reason_and_nothing_is_written() {
    let store = MemoryTables::new();
    let tables = registered(&store, Mode::ByHand).await;
    let other = Schema::new(vec![column("other", false)]).unwrap();
    let [ahead, further, unseen] = [9, 10, 11].map(ShardId::new);
    store.write_directly(ahead, Upper::at(50));
    store.write_directly(further, Upper::at(60));
    let mut all = vec![(unseen, schema()), (A, other.clone()), (B, other)];
    let refused = tables.register(&5, &all).await.unwrap_err();
    let TablesError::Refused(RegisterFaults::Tables(faults)) = refused else {
        panic!("{refused}");
    };
    let another_schema = |fault: &RegisterFault<u64>| matches!(fault, RegisterFault::Schema(_));
    assert_eq!(faults.keys().collect::<Vec<_>>(), [&A, &B]);
    assert!(faults.values().all(another_schema), "{faults:?}");
    all.extend([(ahead, schema()), (further, schema())]);
    let steps = store.steps();
    let refused = tables.register(&5, &all).await.unwrap_err();
    assert!(
        refused.to_string().contains(&format!("{further}: ")),
        "{refused}"
    );
    let TablesError::Refused(RegisterFaults::Tables(faults)) = refused else {
        panic!("{refused}");
    };
    assert_eq!(
        faults.keys().collect::<Vec<_>>(),
        [&A, &B, &ahead, &further]
    );
    let upper = Upper::at(60);
    assert_eq!(faults[&further], RegisterFault::Ahead { upper });
    assert!(another_schema(&faults[&A]));
    let late = [(unseen, schema())];
    let passed = tables.register(&1, &late).await.unwrap_err();
    let upper = Upper::at(2);
    let refusal = RegisterFaults::Passed(Passed { upper });
    assert!(matches!(passed, TablesError::Refused(r) if r == refusal));
    assert_eq!(store.steps(), steps);
    assert_eq!(tables.upper(), Upper::at(2));
}

#[tokio::test(start_paused = true)]
async fn versions_of_a_schema_are_registered_in_their_order_and_the_first_that_does_not_fit_is_told()
 {
    let store = MemoryTables::new();
    let tables = open(&store, Mode::ByHand).await;
    let second = Schema::new(vec![column("value", false), column("more", true)]).unwrap();
    let wrong = [(A, second.clone()), (A, schema())];
    let refused = tables.register(&1, &wrong).await.unwrap_err();
    assert!(matches!(
        refused,
        TablesError::Refused(RegisterFaults::Tables(faults)) if faults.contains_key(&A)
    ));
    assert_eq!(store.steps(), 0);
    let both = [(A, schema()), (A, second.clone()), (A, schema())];
    tables.register(&1, &both).await.unwrap();
    assert_eq!(store.schemas(A), [schema(), second]);
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
