use std::sync::OnceLock;

use differential_dataflow::consolidation::consolidate_updates;

use super::*;
use crate::catalog::since_asked_for;
use crate::data::tests::year;
use crate::minute::DAY;
use crate::oracle::Oracle;

fn compact_all(dataflow: &mut Dataflow<'_>, upper: Minute) {
    for relation in Relation::ALL {
        let since = Antichain::from_elem(since_asked_for(upper));
        dataflow.compact(relation, &since);
    }
}

/// Replays `days`, each collection compacted to a day before its upper.
fn replayed(days: Minute) -> Dataflow<'static> {
    let mut dataflow = Dataflow::new(year(), &Past::none());
    for upper in (60..=days * DAY).step_by(60) {
        dataflow.advance(upper);
        compact_all(&mut dataflow, upper);
    }
    dataflow
}

#[test]
fn every_collection_reads_right_from_since_to_upper() {
    let (mut dataflow, oracle) = (replayed(8), Oracle::new(year()));
    for relation in Relation::ALL {
        for as_of in [7 * DAY, 7 * DAY + 1, 7 * DAY + 777, 8 * DAY - 1] {
            let rows = dataflow.read(relation, as_of);
            assert_eq!(
                rows,
                oracle.rows(relation, as_of),
                "{relation:?} as of {as_of}"
            );
        }
    }
}

#[test]
fn what_lies_before_since_is_really_forgotten() {
    let (mut dataflow, oracle) = (replayed(8), Oracle::new(year()));
    for relation in [
        Relation::Flights,
        Relation::Airborne,
        Relation::DepartureDelay,
    ] {
        let forgotten = dataflow.read(relation, 4 * DAY);
        assert_ne!(forgotten, oracle.rows(relation, 4 * DAY), "{relation:?}");
    }
}

#[test]
fn the_history_that_is_kept_does_not_grow_with_time() {
    let kept = |days| replayed(days).kept(Relation::Flights);
    assert!(kept(40) < 2 * kept(10));
}

#[test]
fn uppers_are_what_was_written() {
    let mut dataflow = replayed(1);
    for relation in Relation::ALL {
        let upper = dataflow.upper(relation);
        assert_eq!(upper, Antichain::from_elem(DAY), "{relation:?}");
    }
}

/// All that an uninterrupted replay of three days writes, in the order of [`Relation::ALL`].
fn written() -> &'static [Vec<Update>] {
    static WRITTEN: OnceLock<Vec<Vec<Update>>> = OnceLock::new();
    WRITTEN.get_or_init(write_all)
}

fn write_all() -> Vec<Vec<Update>> {
    let mut dataflow = Dataflow::new(year(), &Past::none());
    let mut written = vec![Vec::new(); Relation::ALL.len()];
    for upper in (15..=3 * DAY).step_by(15) {
        dataflow.advance(upper);
        for relation in Relation::ALL {
            written[relation.index()].extend(dataflow.take_unwritten(relation, upper));
        }
    }
    written
}

/// What is left of `updates` when everything is compacted to `since` and written up to `upper`.
fn compacted(updates: &[Update], since: Minute, upper: Minute) -> Vec<Update> {
    let before = updates.iter().filter(|(_, at, _)| *at < upper);
    let advanced = before.map(|(row, at, diff)| (row.clone(), since.max(*at), *diff));
    let mut compacted = advanced.collect();
    consolidate_updates(&mut compacted);
    compacted
}

/// A replay that is stopped when the collections are compacted to `since` and written up to
/// `uppers`, and then started again, must come to the same as one that never stopped.
#[track_caller]
fn check_restart(since: Minute, end: impl Fn(Relation) -> Minute) {
    let (written, oracle) = (written(), Oracle::new(year()));
    let mut past = Past::none();
    for relation in Relation::ALL {
        let of_one = compacted(&written[relation.index()], since, end(relation));
        let kept = if relation.is_view() {
            Vec::new()
        } else {
            of_one
        };
        past.put(relation, Antichain::from_elem(end(relation)), kept);
    }

    let mut dataflow = Dataflow::new(year(), &past);
    let mut upper = past.begin();
    let mut again = vec![Vec::new(); Relation::ALL.len()];
    while upper < 3 * DAY {
        upper = (upper + 15).min(3 * DAY);
        dataflow.advance(upper);
        for relation in Relation::ALL {
            again[relation.index()].extend(dataflow.take_unwritten(relation, upper));
        }
    }

    for relation in Relation::ALL {
        let expected = written[relation.index()].iter();
        let mut expected: Vec<_> = expected
            .filter(|(_, at, _)| *at >= end(relation))
            .cloned()
            .collect();
        let again = &mut again[relation.index()];
        expected.sort_unstable();
        again.sort_unstable();
        assert!(*again == expected, "{relation:?} is written differently");
        for as_of in [since.max(1), since + 100, upper - 1] {
            let rows = dataflow.read(relation, as_of);
            let expected = oracle.rows(relation, as_of);
            assert!(rows == expected, "{relation:?} as of {as_of}");
        }
    }
}

#[test]
fn a_restart_goes_on_as_if_nothing_had_happened() {
    check_restart(DAY + 7, |_| 2 * DAY + 7);
}

#[test]
fn a_restart_before_anything_was_written_begins_at_the_beginning() {
    check_restart(0, |_| 0);
    // The tables are registered, and nothing else has come of it.
    check_restart(0, |relation| Minute::from(relation.is_table()));
}

#[test]
fn a_restart_before_anything_was_forgotten_has_all_of_it() {
    check_restart(0, |_| 2);
    check_restart(0, |_| 900);
}

#[test]
fn what_is_behind_catches_up_and_what_is_ahead_is_not_written_twice() {
    let behind = |which: &'static [Relation]| {
        move |relation: Relation| 2 * DAY + if which.contains(&relation) { 0 } else { 500 }
    };
    check_restart(DAY, behind(&Relation::TABLES));
    check_restart(DAY, behind(&[Relation::Weather]));
    check_restart(DAY, behind(&[Relation::WeatherRemap]));
    check_restart(DAY, behind(&[Relation::Airborne]));
    check_restart(DAY, behind(&Relation::VIEWS));
    check_restart(0, |relation| if relation.is_table() { 600 } else { 0 });
}

#[test]
fn the_export_follows_the_remap_collection_and_not_the_clock() {
    // A run before took the rows in half an hour late.
    let late = |(row, at, diff): &Update| (row.clone(), if *at == 0 { 0 } else { at + 30 }, *diff);
    let written = written();
    let remap: Vec<_> = written[Relation::WeatherRemap.index()]
        .iter()
        .map(late)
        .filter(|(_, at, _)| *at < 600)
        .collect();
    let mut past = Past::none();
    past.put(Relation::WeatherRemap, Antichain::from_elem(600), remap);

    let mut dataflow = Dataflow::new(year(), &past);
    dataflow.advance(600);
    let mut again = dataflow.take_unwritten(Relation::Weather, 600);
    let mut expected: Vec<_> = written[Relation::Weather.index()]
        .iter()
        .map(late)
        .filter(|(_, at, _)| *at < 600)
        .collect();
    again.sort_unstable();
    expected.sort_unstable();
    assert_eq!(again, expected);
}
