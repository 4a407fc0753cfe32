//! The rules, each by its name.

use std::collections::{BTreeMap, BTreeSet};

use super::*;

const A: ShardId = ShardId::new(1);
const B: ShardId = ShardId::new(2);

fn upper(time: u64) -> Upper<u64> {
    Upper::at(time)
}

fn take(state: &mut TxnsState<u64>, step: Step<u64>) {
    assert_eq!(*state.upper(), step.lower);
    state.follow(step.rows, step.upper).unwrap();
}

fn payload(text: &'static str) -> Bytes {
    Bytes::from_static(text.as_bytes())
}

fn writes(writes: &[(ShardId, &'static str)]) -> BTreeMap<ShardId, Vec<Bytes>> {
    let mut by_table: BTreeMap<_, Vec<_>> = BTreeMap::new();
    for &(table, text) in writes {
        by_table.entry(table).or_default().push(payload(text));
    }
    by_table
}

/// Tables A and B, registered at 1.
fn registered() -> TxnsState<u64> {
    let mut state = TxnsState::new();
    let fresh = BTreeMap::from([(A, Upper::minimum()), (B, Upper::minimum())]);
    let step = state.register(&1, &fresh).unwrap();
    take(&mut state, step);
    state
}

fn commit(state: &mut TxnsState<u64>, at: u64, what: &[(ShardId, &'static str)]) {
    let step = state.commit(&at, &writes(what)).unwrap();
    take(state, step);
}

#[test]
fn a_commit_to_many_tables_is_one_append_and_advances_all_of_them() {
    let mut state = registered();
    let step = state.commit(&5, &writes(&[(A, "a"), (B, "b")])).unwrap();
    assert_eq!((&step.lower, &step.upper), (&upper(2), &upper(6)));
    assert_eq!(step.rows.len(), 2);
    take(&mut state, step);
    assert_eq!(state.logical_upper(A), Some(upper(6)));
    assert_eq!(state.logical_upper(B), Some(upper(6)));
}

#[test]
fn commits_at_several_times_are_one_append_each_at_its_own_time_and_all_or_none() {
    let mut state = registered();
    let (one, other) = (writes(&[(A, "a"), (B, "b")]), writes(&[(A, "c")]));
    let all = [(&4, &one), (&6, &other), (&4, &other)];
    let step = state.commit_all(&8, all).unwrap();
    assert_eq!((&step.lower, &step.upper), (&upper(2), &upper(9)));
    take(&mut state, step);
    let missing = |table, as_of| state.missing(table, &upper(2), &as_of);
    let both = [(4, payload("a")), (4, payload("c"))];
    assert_eq!(missing(A, 5), both);
    assert_eq!(missing(A, 6)[2..], [(6, payload("c"))]);
    assert_eq!(missing(B, 3), []);
    assert_eq!(missing(B, 8), [(4, payload("b"))]);
    assert_eq!(state.oldest_unapplied(), Some(&4));

    // Where `through` is not the latest, the latest time is closed too.
    let step = state.commit_all(&9, [(&12, &other)]).unwrap();
    assert_eq!(step.upper, upper(13));
    let passed = CommitRefusal::Passed(Passed { upper: upper(9) });
    let late = state.commit_all(&12, [(&12, &other), (&8, &one)]);
    assert_eq!(late, Err(passed));
    let stranger = ShardId::new(9);
    let strange = writes(&[(stranger, "x")]);
    let refused = state.commit_all(&12, [(&11, &one), (&12, &strange)]);
    let unregistered = CommitRefusal::Unregistered(BTreeSet::from([stranger]));
    assert_eq!(refused, Err(unregistered));
}

#[test]
fn a_time_that_has_passed_is_refused_with_the_upper() {
    let mut state = registered();
    commit(&mut state, 5, &[(A, "a")]);
    let passed = Passed { upper: upper(6) };
    let both = BTreeMap::from([(A, upper(0))]);
    let refused = state.commit(&5, &writes(&[(A, "b")]));
    assert_eq!(refused, Err(CommitRefusal::Passed(passed.clone())));
    assert_eq!(state.advance(&4), Err(passed.clone()));
    let refused = state.register(&5, &both);
    assert_eq!(refused, Err(RegisterRefusal::Passed(passed.clone())));
    let refused = state.forget(&5, &BTreeSet::from([A]));
    assert_eq!(refused, Err(ForgetRefusal::Passed(passed)));
}

#[test]
fn a_write_to_what_is_no_table_refuses_the_whole_transaction_and_names_it() {
    let state = registered();
    let stranger = ShardId::new(9);
    let refused = state.commit(&5, &writes(&[(A, "a"), (stranger, "x")]));
    let unregistered = BTreeSet::from([stranger]);
    assert_eq!(refused, Err(CommitRefusal::Unregistered(unregistered)));
}

#[test]
fn to_register_again_changes_no_table_but_advances() {
    let mut state = registered();
    let step = state
        .register(&7, &BTreeMap::from([(A, upper(2))]))
        .unwrap();
    assert_eq!(step.rows, []);
    take(&mut state, step);
    assert_eq!(state.registered().collect::<Vec<_>>(), [(A, &1), (B, &1)]);
    assert_eq!(*state.upper(), upper(8));
}

#[test]
fn a_shard_that_is_further_than_its_registration_is_refused() {
    let state = TxnsState::<u64>::new();
    let ahead = BTreeMap::from([(A, upper(9)), (B, upper(12))]);
    let all = [(ShardId::new(3), upper(8))]
        .into_iter()
        .chain(ahead.clone());
    let refused = state.register(&7, &all.collect());
    assert_eq!(refused, Err(RegisterRefusal::Ahead(ahead.clone())));
    assert!(state.register(&11, &ahead).is_ok());
}

#[test]
fn to_forget_what_is_no_table_only_advances() {
    let mut state = registered();
    let step = state
        .forget(&7, &BTreeSet::from([ShardId::new(9)]))
        .unwrap();
    assert_eq!(step.rows, []);
    take(&mut state, step);
    assert_eq!(*state.upper(), upper(8));
}

#[test]
fn to_forget_is_refused_until_everything_is_applied() {
    let mut state = registered();
    commit(&mut state, 3, &[(A, "a")]);
    let forget = |state: &TxnsState<u64>| state.forget(&9, &BTreeSet::from([A]));
    assert_eq!(
        forget(&state),
        Err(ForgetRefusal::Unapplied(BTreeSet::from([A])))
    );
    state.applied(A, &upper(3));
    assert!(forget(&state).is_err(), "the write at 3 is not before 3");
    state.applied(A, &upper(4));
    let step = forget(&state).unwrap();
    take(&mut state, step);
    assert!(!state.is_registered(A));
    assert!(state.is_registered(B));
}

#[test]
fn a_forgotten_table_is_needed_until_its_shard_is_past_that() {
    let mut state = registered();
    let step = state.forget(&9, &BTreeSet::from([A])).unwrap();
    take(&mut state, step);
    assert!(state.needs(A));
    assert_eq!(state.logical_upper(A), Some(upper(10)));
    let application = state.application(A, &upper(2), &9).unwrap().unwrap();
    assert_eq!(
        (&application.lower, &application.upper),
        (&upper(2), &upper(10))
    );
    assert_eq!(state.oldest_unapplied(), Some(&9));
    state.applied(A, &upper(10));
    assert!(!state.needs(A));
    assert_eq!(state.known().count(), 2, "the row is still there");
    assert_eq!(state.logical_upper(A), None, "its own shard says it");
    let step = state.advance(&12).unwrap();
    take(&mut state, step);
    assert_eq!(state.known().collect::<Vec<_>>(), [B]);
    assert_eq!(state.oldest_unapplied(), None);
}

#[test]
fn a_forgotten_table_is_registered_again_only_when_its_shard_is_past_that() {
    let mut state = registered();
    let step = state.forget(&9, &BTreeSet::from([A])).unwrap();
    take(&mut state, step);
    let again = |state: &TxnsState<u64>| state.register(&20, &BTreeMap::from([(A, upper(10))]));
    let still = RegisterRefusal::StillForgotten(BTreeSet::from([A]));
    assert_eq!(again(&state), Err(still));
    state.applied(A, &upper(10));
    let step = again(&state).unwrap();
    take(&mut state, step);
    assert!(state.is_registered(A));
    assert_eq!(state.logical_upper(A), Some(upper(21)));
}

/// So much that it takes many steps to take it away, all of it applied: at 4, to B.
fn much_was_applied(state: &mut TxnsState<u64>) {
    let much = vec![Bytes::from(vec![0; 1 << 20]); 512];
    let step = state.commit(&4, &BTreeMap::from([(B, much)])).unwrap();
    take(state, step);
    state.applied(B, &upper(5));
}

#[test]
fn a_table_is_forgotten_and_registered_again_however_much_there_is_to_take_away() {
    let mut state = registered();
    much_was_applied(&mut state);
    let mut rows = Vec::new();
    for at in [5, 7, 9] {
        let forget = state.forget(&at, &BTreeSet::from([A])).unwrap();
        rows.extend(forget.rows.clone());
        take(&mut state, forget);
        state.applied(A, &upper(at + 1));
        let again = BTreeMap::from([(A, upper(at + 1))]);
        let register = state.register(&(at + 1), &again).unwrap();
        rows.extend(register.rows.clone());
        take(&mut state, register);
        assert_eq!(state.registered_at(A), Some(&(at + 1)));
    }
    let step = state.advance(&11).unwrap();
    assert!(!step.rows.is_empty(), "there is still much to take away");
    let about_a = rows.iter().filter(|(row, _)| row.table() == A);
    assert_eq!(about_a.map(|(_, diff)| diff).sum::<i64>(), 0);
}

#[test]
fn a_row_of_a_forgetting_that_was_left_behind_goes_when_the_table_is_forgotten_once_more() {
    let forgotten = TxnsRow::Forgotten { table: A, at: 5 };
    let registered = TxnsRow::Registered { table: A, at: 6 };
    let left_behind = [(forgotten.clone(), 1), (registered.clone(), 1)];
    let mut state = TxnsState::new();
    state.follow(left_behind, upper(7)).unwrap();
    let again = TxnsRow::Forgotten { table: A, at: 7 };
    let expected = [(registered, -1), (forgotten, -1), (again, 1)];
    let mut known_to_be_applied = state.clone();
    let step = state.forget(&7, &BTreeSet::from([A])).unwrap();
    assert_eq!(step.rows, expected);
    take(&mut state, step);
    // As well where it is known that its row can go.
    known_to_be_applied.applied(A, &upper(7));
    for step in [
        known_to_be_applied
            .forget(&7, &BTreeSet::from([A]))
            .unwrap(),
        known_to_be_applied.leave(
            known_to_be_applied.advance(&7).unwrap(),
            &BTreeSet::from([A]),
        ),
    ] {
        let mut rows = step.rows.clone();
        rows.sort_by_key(|(row, diff)| (*diff, *row.at()));
        let [registered, forgotten, again] = expected.clone();
        assert_eq!(rows, [forgotten, registered, again]);
        take(&mut known_to_be_applied.clone(), step);
    }
}

#[test]
fn a_large_commit_takes_away_only_what_fits_beside_it() {
    let mut state = registered();
    let half = |table| BTreeMap::from([(table, vec![Bytes::from(vec![0; 512 << 20])])]);
    let small = writes(&[(A, "small")]);
    let step = state
        .commit_all(&5, [(&4, &half(B)), (&5, &small)])
        .unwrap();
    take(&mut state, step);
    state.applied(B, &upper(6));
    state.applied(A, &upper(6));
    let payloads = |step: &Step<u64>| step.rows.iter().map(|(row, _)| row.bytes() - 32).sum();
    let (one, other) = (half(A), half(B));
    let step = state.commit_all(&7, [(&6, &one), (&7, &other)]).unwrap();
    let bytes: usize = payloads(&step);
    assert!(bytes <= 1 << 30, "{bytes}");
    let all = [(&6, &one), (&7, &small)];
    let step = state.commit_all(&7, all).unwrap();
    let bytes: usize = payloads(&step);
    assert!(bytes <= 1 << 30, "{bytes}");
    assert_eq!(step.rows.len(), 3, "what is small is taken away");
    let step = state.advance(&7).unwrap();
    let bytes: usize = payloads(&step);
    assert_eq!(bytes, 512 << 20, "what is large, once there is room");
}

#[test]
fn all_that_is_due_is_applied_in_one_append_oldest_first() {
    let mut state = registered();
    commit(&mut state, 3, &[(A, "a"), (A, "b")]);
    commit(&mut state, 5, &[(B, "c")]);
    commit(&mut state, 7, &[(A, "d")]);
    commit(&mut state, 9, &[(A, "e")]);
    let application = state.application(A, &upper(2), &8).unwrap().unwrap();
    assert_eq!(
        (&application.lower, &application.upper),
        (&upper(2), &upper(8))
    );
    let due = [(3, payload("a")), (3, payload("b")), (7, payload("d"))];
    assert_eq!(application.writes, due);
}

#[test]
fn of_very_much_the_oldest_is_applied_first_and_the_rest_in_further_appends() {
    let mut state = registered();
    let mebibyte = Bytes::from(vec![0; 1 << 20]);
    for at in [3, 5, 7] {
        let much = BTreeMap::from([(A, vec![mebibyte.clone(); 200])]);
        let step = state.commit(&at, &much).unwrap();
        take(&mut state, step);
    }
    let step = state.forget(&8, &BTreeSet::from([B])).unwrap();
    take(&mut state, step);
    let mut physical = Upper::minimum();
    let mut applied = Vec::new();
    while let Some(application) = state.application(A, &physical, &9).unwrap() {
        assert_eq!(application.lower, physical);
        applied.push((application.upper.clone(), application.writes.len()));
        physical = application.upper;
    }
    assert_eq!(applied, [(upper(6), 400), (upper(8), 200)]);
}

#[test]
fn what_is_committed_at_one_time_is_applied_in_one_append_however_much_it_is() {
    let mut state = registered();
    let mebibyte = Bytes::from(vec![0; 1 << 20]);
    let much = BTreeMap::from([(A, vec![mebibyte; 512])]);
    let step = state.commit(&3, &much).unwrap();
    take(&mut state, step);
    commit(&mut state, 4, &[(A, "a")]);
    let application = state.application(A, &upper(2), &9).unwrap().unwrap();
    assert_eq!(
        (application.upper, application.writes.len()),
        (upper(4), 512)
    );
}

#[test]
fn what_was_applied_is_not_applied_again() {
    let mut state = registered();
    commit(&mut state, 3, &[(A, "a")]);
    commit(&mut state, 7, &[(A, "d")]);
    let application = state.application(A, &upper(4), &8).unwrap().unwrap();
    assert_eq!(application.writes, [(7, payload("d"))]);
    assert_eq!(state.application(A, &upper(8), &8), Ok(None));
}

#[test]
fn a_registered_table_is_closed_to_others_up_to_its_registration() {
    let state = registered();
    let application = state
        .application(A, &Upper::minimum(), &1)
        .unwrap()
        .unwrap();
    assert_eq!(application.upper, upper(2));
    assert_eq!(application.writes, []);
    assert_eq!(state.application(A, &upper(2), &1), Ok(None));
}

#[test]
fn a_table_that_somebody_else_has_written_is_found_out() {
    let mut state = registered();
    commit(&mut state, 3, &[(A, "a")]);
    let foreign = Foreign {
        table: A,
        upper: upper(5),
    };
    assert_eq!(state.application(A, &upper(5), &3), Err(foreign));
    state.applied(A, &upper(5));
    assert_eq!(state.oldest_unapplied(), Some(&3), "it was not applied");
    assert!(state.application(A, &upper(4), &3).is_ok());
}

#[test]
fn who_reads_adds_what_is_not_in_the_tables_own_shard() {
    let mut state = registered();
    commit(&mut state, 3, &[(A, "a")]);
    commit(&mut state, 7, &[(A, "d")]);
    commit(&mut state, 9, &[(A, "e")]);
    assert_eq!(state.missing(A, &upper(4), &8), [(7, payload("d"))]);
    assert_eq!(state.missing(A, &upper(10), &20), []);
    assert_eq!(state.missing(B, &upper(2), &20), []);
}

#[test]
fn the_since_never_passes_a_commit_that_is_not_applied() {
    let mut state = registered();
    assert_eq!(state.since_limit(), Since::at(1));
    commit(&mut state, 3, &[(A, "a")]);
    commit(&mut state, 7, &[(B, "b")]);
    assert_eq!(state.since_limit(), Since::at(3));
    state.applied(A, &upper(4));
    assert_eq!(state.since_limit(), Since::at(7));
    state.applied(B, &upper(8));
    assert_eq!(state.since_limit(), Since::at(7));
    let step = state.advance(&20).unwrap();
    take(&mut state, step);
    assert_eq!(state.since_limit(), Since::at(20));
}

#[test]
fn every_step_takes_away_what_was_applied_and_nothing_else() {
    let mut state = registered();
    commit(&mut state, 3, &[(A, "a"), (B, "b")]);
    commit(&mut state, 7, &[(A, "d")]);
    state.applied(A, &upper(4));
    let step = state.advance(&9).unwrap();
    let row = TxnsRow::Written {
        table: A,
        at: 3,
        number: 0,
        payload: payload("a"),
    };
    assert_eq!(step.rows, [(row, -1)]);
    take(&mut state, step);
    assert_eq!(state.advance(&10).unwrap().rows, []);
    assert_eq!(state.unapplied_through(&7), BTreeSet::from([A, B]));
    assert_eq!(state.unapplied_through(&6), BTreeSet::from([B]));
}

#[test]
fn a_commit_at_the_last_time_seals_all_tables() {
    let mut state = registered();
    commit(&mut state, u64::MAX, &[(A, "a")]);
    assert!(state.upper().is_sealed());
    assert_eq!(state.since_limit(), Since::at(u64::MAX));
    let application = state.application(A, &upper(2), &u64::MAX).unwrap().unwrap();
    assert!(application.upper.is_sealed());
    let passed = state.advance(&u64::MAX).unwrap_err();
    assert!(passed.upper.is_sealed());
}

#[test]
fn a_shard_that_was_closed_leaves_nothing_to_wait_for() {
    let mut state = registered();
    commit(&mut state, 3, &[(A, "a")]);
    assert_eq!(state.application(A, &Upper::sealed(), &3), Ok(None));
    state.applied(A, &Upper::sealed());
    assert_eq!(state.oldest_unapplied(), None);
}

#[test]
fn rows_that_do_not_hold_together_are_found_out() {
    let registered_at = |at| TxnsRow::Registered { table: A, at };
    let written = |number| TxnsRow::Written {
        table: A,
        at: 3,
        number,
        payload: Bytes::new(),
    };
    for rows in [
        vec![(registered_at(1), 2)],
        vec![(registered_at(1), 1), (registered_at(2), 1)],
        vec![(registered_at(1), -1)],
        vec![(registered_at(1), 1), (written(0), -1)],
        vec![(registered_at(1), 1), (written(0), 1), (written(1), -1)],
    ] {
        let followed = TxnsState::new().follow(rows.clone(), upper(9));
        assert!(followed.is_err(), "{rows:?}");
    }
}

#[test]
fn the_state_does_not_depend_on_how_its_rows_are_cut_or_compacted() {
    let mut whole = registered();
    let mut rows = Vec::new();
    let mut kept = |state: &mut TxnsState<u64>, step: Step<u64>| {
        rows.extend(step.rows.clone());
        take(state, step);
    };
    let step = whole.commit(&3, &writes(&[(A, "a"), (B, "b")])).unwrap();
    kept(&mut whole, step);
    whole.applied(A, &upper(4));
    let step = whole.forget(&5, &BTreeSet::from([A])).unwrap();
    kept(&mut whole, step);
    whole.applied(A, &upper(6));
    let step = whole
        .register(&7, &BTreeMap::from([(A, upper(6))]))
        .unwrap();
    kept(&mut whole, step);
    let mut at_once = registered();
    at_once.follow(rows, upper(8)).unwrap();
    assert_eq!(at_once, whole);
}
