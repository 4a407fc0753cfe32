//! Committing transactions, and closing times.

use super::*;

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
