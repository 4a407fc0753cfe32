//! Following a table.

use super::*;

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
async fn a_subscription_misses_nothing_that_others_wrote_before_the_shard_became_a_table() {
    let store = MemoryTables::new();
    let tables = open(&store, Mode::ByHand).await;
    tables.register(&1, &[(B, schema())]).await.unwrap();
    tables.alter(A, &schema()).await.unwrap();
    append(&store, A, 0, 4, &[(1, 2)]).await;
    let mut subscription = tables.subscribe(A, 3);
    let first = subscription.next().await.unwrap().unwrap();
    assert_eq!(values(&first.updates), [(1, 3, 1)]);
    append(&store, A, 4, 5, &[(2, 4)]).await;
    append(&store, A, 5, 6, &[(3, 5)]).await;
    tables.register(&8, &[(A, schema())]).await.unwrap();
    let rest = subscription.next().await.unwrap().unwrap();
    assert_eq!(
        (values(&rest.updates), rest.upper),
        (vec![(2, 4, 1), (3, 5, 1)], Upper::at(9))
    );
}

#[tokio::test(start_paused = true)]
async fn a_subscription_misses_nothing_of_a_table_that_is_forgotten_and_registered_again() {
    let store = MemoryTables::new();
    let tables = registered(&store, Mode::ByHand).await;
    let mut subscription = tables.subscribe(A, 3);
    tables.advance(&3).await.unwrap();
    let first = subscription.next().await.unwrap().unwrap();
    assert_eq!(values(&first.updates), []);
    commit(&tables, 5, &[(A, &[1])]).await;
    tables.forget(&6, &[A]).await.unwrap();
    tables.register(&8, &[(A, schema())]).await.unwrap();
    let rest = subscription.next().await.unwrap().unwrap();
    assert_eq!(
        (values(&rest.updates), rest.upper),
        (vec![(1, 5, 1)], Upper::at(9))
    );
}

#[tokio::test(start_paused = true)]
async fn a_subscription_of_a_forgotten_table_goes_on_although_no_time_is_closed_any_more() {
    let store = MemoryTables::new();
    let tables = registered(&store, Mode::ByHand).await;
    let reader = open(&store, Mode::ReadOnly).await;
    for tables in [&tables, &reader] {
        let mut subscription = tables.subscribe(B, 1);
        subscription.next().await.unwrap();
    }
    tables.forget(&6, &[A]).await.unwrap();
    let mut followed = [&tables, &reader].map(|tables| tables.subscribe(A, 6));
    for subscription in &mut followed {
        let first = timeout(LONG, subscription.next()).await.expect("it hangs");
        assert_eq!(first.unwrap().unwrap().upper, Upper::at(7));
    }
    store.write_directly(A, Upper::at(30));
    for (subscription, tables) in followed.iter_mut().zip([&tables, &reader]) {
        let next = timeout(LONG, subscription.next()).await.expect("it hangs");
        assert_eq!(next.unwrap().unwrap().upper, Upper::at(30));
        assert_eq!(read(tables, A, 20).await, NOTHING);
    }
    store.write_directly(A, Upper::sealed());
    for (subscription, tables) in followed.iter_mut().zip([&tables, &reader]) {
        let end = timeout(LONG, subscription.next()).await.expect("it hangs");
        assert_eq!(end.unwrap().unwrap().upper, Upper::sealed());
        assert_eq!(read(tables, A, u64::MAX).await, NOTHING);
    }
}

#[tokio::test(start_paused = true)]
async fn subscriptions_of_a_controller_that_was_overtaken_end_with_who_is_in_charge() {
    let store = MemoryTables::new();
    let old = registered(&store.as_controller(fence(1)), Mode::ByHand).await;
    let [mut waiting, mut later] = [A, B].map(|table| old.subscribe(table, 1));
    waiting.next().await.unwrap();
    later.next().await.unwrap();
    let waiting = tokio::spawn(async move { waiting.next().await });
    let _new = open(&store.as_controller(fence(2)), Mode::ByHand).await;
    tokio::time::sleep(Duration::from_secs(1)).await;
    assert!(!waiting.is_finished(), "it has not heard of it");
    assert!(old.advance(&6).await.is_err());
    let waited = timeout(LONG, waiting).await.expect("it hangs").unwrap();
    for ended in [waited, later.next().await] {
        let TablesError::Storage(error) = ended.unwrap_err() else {
            panic!("it does not say who is in charge");
        };
        let by = fence(2).epoch;
        assert_eq!(error.kind(), StorageErrorKind::Fenced { by });
    }
}
