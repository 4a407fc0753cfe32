//! Any schema and any updates of it, for tests.

use std::sync::Arc;

use arrow::array::{
    ArrayRef, BinaryArray, BooleanArray, Float64Array, Int32Array, Int64Array, StringArray,
    TimestampMicrosecondArray, UInt64Array,
};
use proptest::prelude::*;

use crate::schema::{Column, ColumnKind, Schema};
use crate::time::ShardTime;

use super::{Updates, batch};

pub(crate) fn any_schema() -> impl Strategy<Value = Schema> {
    let column = (prop::sample::select(&ColumnKind::ALL), any::<bool>());
    prop::collection::vec(column, 0..6).prop_map(|columns| {
        let columns = columns.into_iter().enumerate();
        let columns = columns.map(|(at, (kind, nullable))| Column {
            name: format!("é{at}"),
            kind,
            nullable,
        });
        Schema::new(columns.collect()).unwrap()
    })
}

/// Updates of any schema; values come both close together and from anywhere.
pub(crate) fn any_updates<T: ShardTime>() -> impl Strategy<Value = (Schema, Updates<T>)> {
    (any_schema(), 0..30_usize).prop_flat_map(|(schema, rows)| {
        let columns: Vec<_> = schema
            .columns()
            .iter()
            .map(|each| any_column(each, rows))
            .collect();
        let coordinates = rows * usize::from(T::COORDINATES);
        let coordinates = prop::collection::vec(number(), coordinates);
        let diffs = prop::collection::vec(prop_oneof![-1..2_i64, any::<i64>()], rows);
        (columns, coordinates, diffs).prop_map(move |(columns, coordinates, diffs)| {
            let mut coordinates = coordinates.into_iter();
            let time = |_| T::from_coordinates(&mut || coordinates.next()).unwrap();
            let times = (0..rows).map(time).collect();
            let rows = batch(schema.arrow(), columns, rows);
            (schema.clone(), Updates::new(rows, times, diffs).unwrap())
        })
    })
}

fn number() -> impl Strategy<Value = u64> {
    prop_oneof![0..5_u64, any::<u64>()]
}

fn any_column(column: &Column, rows: usize) -> BoxedStrategy<ArrayRef> {
    let nullable = column.nullable;
    match column.kind {
        ColumnKind::Bool => values(any::<bool>(), nullable, rows, |values| {
            Arc::new(BooleanArray::from(values))
        }),
        ColumnKind::Int32 => values(any::<i32>(), nullable, rows, |values| {
            Arc::new(Int32Array::from(values))
        }),
        ColumnKind::Int64 => values(any::<i64>(), nullable, rows, |values| {
            Arc::new(Int64Array::from(values))
        }),
        ColumnKind::UInt64 => values(number(), nullable, rows, |values| {
            Arc::new(UInt64Array::from(values))
        }),
        // Among them no NaN, which is equal to nothing.
        ColumnKind::Float64 => values(any::<f64>(), nullable, rows, |values| {
            Arc::new(Float64Array::from(values))
        }),
        ColumnKind::Text => values(".{0,4}", nullable, rows, |values| {
            Arc::new(StringArray::from(values))
        }),
        ColumnKind::Bytes => {
            let bytes = prop::collection::vec(any::<u8>(), 0..5);
            values(bytes, nullable, rows, |values| {
                Arc::new(BinaryArray::from_iter(values))
            })
        }
        ColumnKind::TimestampMicros => values(any::<i64>(), nullable, rows, |values| {
            Arc::new(TimestampMicrosecondArray::from(values).with_timezone("UTC"))
        }),
    }
}

fn values<V: Clone + std::fmt::Debug + 'static>(
    value: impl Strategy<Value = V> + 'static,
    nullable: bool,
    rows: usize,
    array: impl Fn(Vec<Option<V>>) -> ArrayRef + 'static,
) -> BoxedStrategy<ArrayRef> {
    let value = match nullable {
        true => prop::option::weighted(0.7, value).boxed(),
        false => value.prop_map(Some).boxed(),
    };
    prop::collection::vec(value, rows).prop_map(array).boxed()
}

/// Two rows of a column of each kind, in each of them nullable and not.
pub(crate) fn each_kind() -> (Schema, Updates<u64>) {
    let columns = ColumnKind::ALL.into_iter().flat_map(|kind| {
        [false, true].map(|nullable| Column {
            name: format!("{kind:?}_{nullable}").to_lowercase(),
            kind,
            nullable,
        })
    });
    let schema = Schema::new(columns.collect()).unwrap();
    let of = |kind, nullable: bool| -> ArrayRef {
        let last = !nullable;
        match kind {
            ColumnKind::Bool => {
                Arc::new(BooleanArray::from(vec![Some(true), last.then_some(false)]))
            }
            ColumnKind::Int32 => {
                Arc::new(Int32Array::from(vec![Some(-7), last.then_some(i32::MAX)]))
            }
            ColumnKind::Int64 => {
                Arc::new(Int64Array::from(vec![Some(300), last.then_some(i64::MIN)]))
            }
            ColumnKind::UInt64 => {
                Arc::new(UInt64Array::from(vec![Some(5), last.then_some(u64::MAX)]))
            }
            ColumnKind::Float64 => {
                Arc::new(Float64Array::from(vec![Some(1.5), last.then_some(-0.25)]))
            }
            ColumnKind::Text => Arc::new(StringArray::from(vec![Some("é"), last.then_some("")])),
            ColumnKind::Bytes => Arc::new(BinaryArray::from_iter([
                Some(b"\xff\0"),
                last.then_some(b"ab"),
            ])),
            ColumnKind::TimestampMicros => {
                let micros = vec![Some(1_700_000_000_000_000), last.then_some(-1)];
                Arc::new(TimestampMicrosecondArray::from(micros).with_timezone("UTC"))
            }
        }
    };
    let columns = schema
        .columns()
        .iter()
        .map(|column| of(column.kind, column.nullable));
    let rows = batch(schema.arrow(), columns.collect(), 2);
    let updates = Updates::new(rows, vec![1_000, 1_001], vec![1, -2]).unwrap();
    (schema, updates)
}
