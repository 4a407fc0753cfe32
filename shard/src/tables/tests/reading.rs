//! Reading tables as of a time.

use super::*;

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

/// A shard that others have written up to 50, and that is registered at 60 by somebody who has died
/// before its own shard says so.
async fn being_registered(store: &MemoryTables<u64>) {
    let tables = open(store, Mode::ByHand).await;
    tables.alter(A, &schema()).await.unwrap();
    append(store, A, 0, 50, &[(1, 40)]).await;
    store.crash_after(1);
    assert!(tables.register(&60, &[(A, schema())]).await.is_err());
    store.crash_after(usize::MAX);
    assert_eq!(store.upper(A), Upper::at(50));
}

#[tokio::test(start_paused = true)]
async fn a_read_at_a_time_before_the_registration_closes_the_table_to_others_first() {
    let store = MemoryTables::new();
    being_registered(&store).await;
    let tables = open(&store, Mode::ByHand).await;
    assert_eq!(read(&tables, A, 55).await, [1]);
    assert_eq!(
        store.upper(A),
        Upper::at(61),
        "nothing more can come before"
    );
}

#[tokio::test(start_paused = true)]
async fn who_only_reads_waits_for_what_others_write_while_a_table_is_being_registered() {
    let store = MemoryTables::new();
    being_registered(&store).await;
    let reader = open(&store, Mode::ReadOnly).await;
    let [one, other] = [55, 60].map(|as_of| {
        let reader = reader.clone();
        tokio::spawn(async move { read(&reader, A, as_of).await })
    });
    tokio::time::sleep(Duration::from_secs(1)).await;
    assert!(!one.is_finished() && !other.is_finished());
    append(&store, A, 50, 56, &[(2, 52)]).await;
    let seen = timeout(LONG, one).await.expect("it hangs").unwrap();
    assert_eq!(seen, [1, 2]);
    assert!(!other.is_finished());
    let writer = open(&store, Mode::ByHand).await;
    assert_eq!(read(&writer, A, 60).await, [1, 2]);
    let seen = timeout(LONG, other).await.expect("it hangs").unwrap();
    assert_eq!(seen, [1, 2]);
}

#[tokio::test(start_paused = true)]
async fn a_subscription_misses_nothing_that_others_write_while_the_table_is_being_registered() {
    let store = MemoryTables::new();
    being_registered(&store).await;
    let reader = open(&store, Mode::ReadOnly).await;
    let mut subscription = reader.subscribe(A, 49);
    let first = subscription.next().await.unwrap().unwrap();
    assert_eq!(values(&first.updates), [(1, 49, 1)]);
    let following = tokio::spawn(async move { subscription.next().await.unwrap().unwrap() });
    tokio::time::sleep(Duration::from_secs(1)).await;
    assert!(!following.is_finished());
    append(&store, A, 50, 56, &[(2, 52)]).await;
    let writer = open(&store, Mode::ByHand).await;
    assert_eq!(read(&writer, A, 60).await, [1, 2]);
    let next = timeout(LONG, following).await.expect("it hangs").unwrap();
    assert_eq!(
        (values(&next.updates), next.upper),
        (vec![(2, 52, 1)], Upper::at(61))
    );
}
