//! Updates are put together, advanced and added up as a map of rows would be.

use std::collections::BTreeMap;

use arrow::array::{Array, AsArray, Int64Array, StringArray, UInt32Array};
use arrow::datatypes::Int64Type;
use proptest::prelude::*;

use super::*;
use crate::record::testing::*;
use crate::schema::Column;

fn column(name: &str, kind: ColumnKind, nullable: bool) -> Column {
    Column {
        name: name.to_owned(),
        kind,
        nullable,
    }
}

fn schema(columns: &[Column]) -> Schema {
    Schema::new(columns.to_vec()).unwrap()
}

fn old() -> Schema {
    schema(&[
        column("name", ColumnKind::Text, true),
        column("number", ColumnKind::Int64, false),
    ])
}

type Row<'a, T> = (Option<&'a str>, i64, T, i64);

fn updates<T: ShardTime>(rows: &[Row<'_, T>]) -> Updates<T> {
    let names: StringArray = rows.iter().map(|row| row.0).collect();
    let numbers: Int64Array = rows.iter().map(|row| Some(row.1)).collect();
    let columns: Vec<ArrayRef> = vec![Arc::new(names), Arc::new(numbers)];
    let batch = RecordBatch::try_new(old().arrow(), columns).unwrap();
    let times = rows.iter().map(|row| row.2.clone()).collect();
    Updates::new(batch, times, rows.iter().map(|row| row.3).collect()).unwrap()
}

fn rows<T: ShardTime>(updates: &Updates<T>) -> Vec<(Option<String>, i64, T, i64)> {
    let names = updates.rows().column(0).as_string::<i32>();
    let numbers = updates.rows().column(1).as_primitive::<Int64Type>();
    (0..updates.len())
        .map(|at| {
            let name = names.is_valid(at).then(|| names.value(at).to_owned());
            let (time, diff) = (updates.times()[at].clone(), updates.diffs()[at]);
            (name, numbers.value(at), time, diff)
        })
        .collect()
}

for_both_times! {
    fn equal_rows_at_equal_times_are_added_up<T: TestTime>() {
        let all = updates(&[
            (Some("b"), 1, T::at(2), 1),
            (None, 7, T::at(1), 3),
            (Some("b"), 1, T::at(2), 1),
            (Some("a"), 1, T::at(2), 1),
            (Some("a"), 1, T::at(2), -1),
            (Some("b"), 1, T::at(1), 1),
        ]);
        let expected = updates(&[
            (None, 7, T::at(1), 3),
            (Some("b"), 1, T::at(1), 1),
            (Some("b"), 1, T::at(2), 2),
        ]);
        assert_eq!(all.consolidate(), expected);
    }

    fn times_are_advanced_and_filtered<T: TestTime>() {
        let mut all = updates(&[
            (Some("a"), 1, T::at(1), 1),
            (Some("a"), 2, T::at(5), 1),
        ]);
        let early = all.filter(|time| time.less_equal(&T::at(3)));
        assert_eq!(early, updates(&[(Some("a"), 1, T::at(1), 1)]));
        all.advance(&since(3));
        assert_eq!(all.times(), [T::at(3), T::at(5)]);
        all.advance(&Since::gone());
        assert_eq!(all.times(), [T::at(3), T::at(5)]);
    }
}

#[test]
fn times_are_advanced_to_what_can_be_told_apart_from_a_frontier() {
    let time = |outer, inner| Pair::new(outer, inner);
    let mut all = updates(&[(None, 0, time(0, 0), 1), (None, 0, time(2, 0), 1)]);
    all.advance(&sides(&[(1, 5), (5, 1)]));
    assert_eq!(all.times(), [time(1, 1), time(2, 1)]);
}

#[test]
fn updates_of_older_schemas_have_nothing_in_the_new_columns() {
    let mut columns = old().columns().to_vec();
    columns.push(column("later", ColumnKind::Bytes, true));
    let new = schema(&columns);
    let one = updates(&[(Some("a"), 1, 1_u64, 1)]);
    let two = Updates::concat([one.clone(), Updates::empty(&new), one.clone()], &new).unwrap();
    assert_eq!((two.len(), two.times()), (2, &[1, 1][..]));
    assert_eq!(two.rows().column(2).null_count(), 2);
    two.check(&new).unwrap();
    assert_eq!(Updates::concat([one.clone()], &old()), Ok(one.clone()));
    assert_eq!(Updates::<u64>::concat([], &new), Ok(Updates::empty(&new)));
    let back = Updates::concat([two], &old());
    assert!(matches!(back, Err(UpdatesError::OtherSchema { .. })));
    let required = schema(&[
        column("name", ColumnKind::Text, true),
        column("number", ColumnKind::Int64, false),
        column("required", ColumnKind::Int64, false),
    ]);
    let refused = Updates::concat([one], &required);
    assert!(matches!(refused, Err(UpdatesError::OtherSchema { .. })));
}

#[test]
fn rows_without_columns_are_counted() {
    let none = schema(&[]);
    let rows = batch(none.arrow(), vec![], 3);
    let all = Updates::new(rows, vec![1_u64, 2, 1], vec![1, 1, 1]).unwrap();
    let twice = Updates::concat([all.clone(), all.clone()], &none).unwrap();
    let consolidated = twice.consolidate();
    assert_eq!(consolidated.times(), [1, 2]);
    assert_eq!(consolidated.diffs(), [4, 2]);
    assert_eq!(consolidated.rows().num_rows(), 2);
    assert_eq!(all.filter(|time| *time == 2).rows().num_rows(), 1);
}

#[test]
fn what_is_no_updates_is_refused() {
    let one = updates(&[(Some("a"), 1, 1_u64, 1)]);
    let (rows, times, _) = one.clone().into_parts();
    let refused = Updates::new(rows, times, vec![]).unwrap_err();
    let lengths = UpdatesError::Lengths {
        rows: 1,
        times: 1,
        diffs: 0,
    };
    assert_eq!(refused, lengths);
    let field = arrow::datatypes::Field::new("a", DataType::Int8, false);
    let other = Arc::new(arrow::datatypes::Schema::new(vec![field]));
    let refused = Updates::<u64>::new(RecordBatch::new_empty(other), vec![], vec![]);
    assert!(matches!(refused, Err(UpdatesError::UnsupportedType { .. })));
    let nullable = schema(&[
        column("name", ColumnKind::Text, false),
        column("number", ColumnKind::Int64, false),
    ]);
    assert!(matches!(
        one.check(&nullable),
        Err(UpdatesError::OtherSchema { .. })
    ));
}

#[test]
fn sums_beyond_64_bits_do_not_panic() {
    let all = updates(&[(None, 0, 0_u64, i64::MAX), (None, 0, 0, 1), (None, 0, 0, 1)]);
    assert_eq!(all.consolidate().diffs(), [i64::MIN + 1]);
}

fn some_rows() -> impl Strategy<Value = Vec<(Option<String>, i64, u64, i64)>> {
    let name = prop::option::of(prop::sample::select(vec!["", "a", "ab", "b"]));
    let row = (name, -2..2_i64, 0..3_u64, -2..3_i64);
    let row =
        row.prop_map(|(name, number, time, diff)| (name.map(str::to_owned), number, time, diff));
    prop::collection::vec(row, 0..40)
}

proptest! {
    #[test]
    fn consolidation_is_what_a_map_says(all in some_rows(), split in 0..40_usize) {
        let borrow = |rows: &[(Option<String>, i64, u64, i64)]| {
            let rows: Vec<_> = rows.iter().map(|row| (row.0.as_deref(), row.1, row.2, row.3)).collect();
            updates(&rows)
        };
        let mut map = BTreeMap::new();
        for (name, number, time, diff) in &all {
            *map.entry((name.clone(), *number, *time)).or_insert(0) += diff;
        }
        let expected: Vec<_> = map
            .into_iter()
            .filter(|(_, diff)| *diff != 0)
            .map(|((name, number, time), diff)| (name, number, time, diff))
            .collect();
        let consolidated = borrow(&all).consolidate();
        prop_assert_eq!(rows(&consolidated), expected);
        prop_assert_eq!(&consolidated.clone().consolidate(), &consolidated);
        let (left, right) = all.split_at(split.min(all.len()));
        let pieces = [borrow(left).consolidate(), borrow(right).consolidate()];
        prop_assert_eq!(Updates::concat(pieces, &old()).unwrap().consolidate(), consolidated);
    }
}

/// What a map says that has the bytes of arrow's row format as its keys.
fn consolidated_by_row_format<T: ShardTime>(all: &Updates<T>) -> Updates<T> {
    use arrow::row::{RowConverter, SortField};
    let fields = all.rows().schema_ref().fields().iter();
    let fields: Vec<_> = fields
        .map(|field| SortField::new(field.data_type().clone()))
        .collect();
    let bytes: Vec<Vec<u8>> = if fields.is_empty() {
        vec![Vec::new(); all.len()]
    } else {
        let converter = RowConverter::new(fields).unwrap();
        let rows = converter.convert_columns(all.rows().columns()).unwrap();
        rows.iter().map(|row| row.as_ref().to_vec()).collect()
    };
    let mut sums: BTreeMap<(Vec<u8>, T), (u32, i64)> = BTreeMap::new();
    for (at, bytes) in bytes.into_iter().enumerate() {
        let key = (bytes, all.times()[at].clone());
        let (_, sum) = sums.entry(key).or_insert((at as u32, 0));
        *sum = sum.wrapping_add(all.diffs()[at]);
    }
    sums.retain(|_, (_, sum)| *sum != 0);
    let places: Vec<u32> = sums.values().map(|(at, _)| *at).collect();
    let taken = arrow::compute::take_record_batch(all.rows(), &UInt32Array::from(places));
    let times = sums.keys().map(|(_, time)| time.clone()).collect();
    let diffs = sums.values().map(|(_, sum)| *sum).collect();
    Updates::new(taken.unwrap(), times, diffs).unwrap()
}

/// Some of the updates, several times, in any order.
fn picked<T: ShardTime>(all: &Updates<T>, picks: &[prop::sample::Index]) -> Updates<T> {
    let picks = picks.iter().filter(|_| !all.is_empty());
    let places: Vec<u32> = picks.map(|pick| pick.index(all.len()) as u32).collect();
    let of = |at: &u32| *at as usize;
    let times = places.iter().map(|at| all.times()[of(at)].clone());
    let diffs = places.iter().map(|at| all.diffs()[of(at)]);
    let (times, diffs) = (times.collect(), diffs.collect());
    let rows = arrow::compute::take_record_batch(all.rows(), &UInt32Array::from(places));
    Updates::new(rows.unwrap(), times, diffs).unwrap()
}

fn picks() -> impl Strategy<Value = Vec<prop::sample::Index>> {
    prop::collection::vec(any::<prop::sample::Index>(), 0..40)
}

proptest! {
    #[test]
    fn rows_of_all_kinds_are_consolidated_as_in_their_row_format(
        (_, all) in testing::any_updates::<u64>(),
        picks in picks(),
    ) {
        let all = picked(&all, &picks);
        let expected = consolidated_by_row_format(&all);
        prop_assert_eq!(all.consolidate(), expected.clone());
        prop_assert_eq!(expected.clone().consolidate(), expected);
    }

    #[test]
    fn rows_of_all_kinds_at_times_of_several_coordinates_likewise(
        (_, all) in testing::any_updates::<Pair>(),
        picks in picks(),
    ) {
        let all = picked(&all, &picks);
        prop_assert_eq!(all.clone().consolidate(), consolidated_by_row_format(&all));
    }

    #[test]
    fn sorted_rows_that_become_equal_when_their_times_are_advanced_are_added_up(
        (_, all) in testing::any_updates::<u64>(),
        picks in picks(),
    ) {
        let mut sorted = picked(&all, &picks).consolidate();
        sorted.advance(&Since::at(3));
        prop_assert_eq!(sorted.clone().consolidate(), consolidated_by_row_format(&sorted));
    }

    #[test]
    fn what_is_known_of_their_order_stays_true_whatever_is_done_to_them(
        all in some_rows(),
        steps in prop::collection::vec(0..6_u8, 0..8),
    ) {
        // Rows that often are equal, at times that are advanced into another order.
        let all: Vec<_> = all
            .iter()
            .map(|row| (row.0.as_deref(), row.1, Pair::new(row.2, 2 - row.2), row.3))
            .collect();
        let mut all = updates(&all);
        for step in steps {
            all = match step {
                0 | 1 => all.consolidate(),
                2 => all.filter(|time| time.outer != 1),
                3 => {
                    all.advance(&sides(&[(1, 2), (2, 0)]));
                    all
                }
                4 => Updates::concat([Updates::empty(&old()), all, Updates::empty(&old())], &old()).unwrap(),
                _ => Updates::concat([all.clone(), all], &old()).unwrap(),
            };
            prop_assert_eq!(all.clone().consolidate(), consolidated_by_row_format(&all));
        }
    }
}

#[test]
fn rows_that_differ_in_one_byte_of_a_text_are_told_apart_however_long_it_is() {
    for length in [1, 3, 4, 7, 8, 9, 16, 17, 32, 33, 100] {
        for place in 0..length {
            let texts = ["a", "b"].map(|other| {
                let mut text = "m".repeat(length);
                text.replace_range(place..=place, other);
                text
            });
            let row = |text: usize, time| (Some(texts[text].as_str()), 0, time, 1);
            let mut all = updates(&[row(0, 0_u64), row(0, 1), row(1, 0), row(1, 1)]).consolidate();
            assert_eq!(all.len(), 4);
            all.advance(&Since::at(1));
            let expected = updates(&[
                (Some(texts[0].as_str()), 0, 1_u64, 2),
                (Some(texts[1].as_str()), 0, 1, 2),
            ]);
            assert_eq!(all.consolidate(), expected);
        }
    }
}

#[test]
fn floats_are_told_apart_and_ordered_by_their_bits() {
    let ordered = [
        -f64::NAN,
        f64::NEG_INFINITY,
        f64::MIN,
        -f64::MIN_POSITIVE,
        -0.0,
        0.0,
        f64::MIN_POSITIVE,
        f64::INFINITY,
        f64::NAN,
    ];
    let float = schema(&[column("float", ColumnKind::Float64, false)]);
    let values = ordered.iter().rev().chain(&ordered).copied();
    let values = arrow::array::Float64Array::from_iter_values(values);
    let rows = RecordBatch::try_new(float.arrow(), vec![Arc::new(values)]).unwrap();
    let all = Updates::new(rows, vec![0_u64; 18], vec![1; 18]).unwrap();
    let all = all.consolidate();
    let bits = |values: &[f64]| {
        values
            .iter()
            .map(|value| value.to_bits())
            .collect::<Vec<_>>()
    };
    let column = all.rows().column(0);
    let values = column.as_primitive::<arrow::datatypes::Float64Type>();
    assert_eq!(bits(values.values()), bits(&ordered));
    assert_eq!(all.diffs(), [2; 9]);
}

/// Longer than what a number has room for, and more of them than get numbers of their own.
#[test]
fn texts_that_begin_alike_are_told_apart_by_their_ends() {
    let names: Vec<String> = (0..40)
        .map(|at| format!("{}{at}", "of one beginning ".repeat(at % 3)))
        .collect();
    let rows: Vec<Row<'_, u64>> = names
        .iter()
        .chain(&names)
        .map(|name| (Some(name.as_str()), 0, 0, 1))
        .collect();
    let all = updates(&rows);
    assert_eq!(all.clone().consolidate(), consolidated_by_row_format(&all));
}
