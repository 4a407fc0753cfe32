//! A column's values as what can be compared fast: numbers, or pieces of bytes.

use arrow::array::{Array, ArrayRef, AsArray};
use arrow::buffer::NullBuffer;
use arrow::datatypes::{
    ArrowPrimitiveType, Float64Type, Int32Type, Int64Type, TimestampMicrosecondType, UInt64Type,
};

use crate::schema::ColumnKind;

/// A column's values, in the order that [arrow's row format](arrow::row) has: nothing first, then
/// these.
pub(crate) struct Values<'a> {
    /// Where there is nothing, if anywhere; what stands there otherwise means nothing.
    pub(crate) nulls: Option<&'a NullBuffer>,
    pub(crate) kind: Kind<'a>,
}

pub(crate) enum Kind<'a> {
    /// As numbers in the same order.
    Numbers(Vec<u64>),
    Pieces(Pieces<'a>),
}

/// Text or bytes.
#[derive(Clone, Copy)]
pub(crate) struct Pieces<'a> {
    offsets: &'a [i32],
    bytes: &'a [u8],
}

impl<'a> Pieces<'a> {
    pub(crate) fn at(&self, row: usize) -> &'a [u8] {
        let [from, to] = [self.offsets[row], self.offsets[row + 1]];
        // Arrow's offsets are never below zero.
        &self.bytes[from as usize..to as usize]
    }
}

impl<'a> Values<'a> {
    pub(crate) fn of(column: &'a ArrayRef) -> Self {
        let kind = ColumnKind::of_arrow(column.data_type());
        let kind = match kind.expect("updates have no columns of other types") {
            ColumnKind::Bool => {
                let values = column.as_boolean().values();
                Kind::Numbers(values.iter().map(u64::from).collect())
            }
            ColumnKind::Int32 => numbers::<Int32Type>(column, |value| of_signed(value.into())),
            ColumnKind::Int64 => numbers::<Int64Type>(column, of_signed),
            ColumnKind::UInt64 => numbers::<UInt64Type>(column, |value| value),
            ColumnKind::Float64 => numbers::<Float64Type>(column, of_float),
            ColumnKind::TimestampMicros => numbers::<TimestampMicrosecondType>(column, of_signed),
            ColumnKind::Text => {
                let text = column.as_string::<i32>();
                Kind::Pieces(Pieces {
                    offsets: text.value_offsets(),
                    bytes: text.value_data(),
                })
            }
            ColumnKind::Bytes => {
                let bytes = column.as_binary::<i32>();
                Kind::Pieces(Pieces {
                    offsets: bytes.value_offsets(),
                    bytes: bytes.value_data(),
                })
            }
        };
        let nulls = column.nulls().filter(|nulls| nulls.null_count() > 0);
        Values { nulls, kind }
    }
}

fn numbers<P: ArrowPrimitiveType>(
    column: &ArrayRef,
    number: impl Fn(P::Native) -> u64,
) -> Kind<'static> {
    let values = column.as_primitive::<P>().values().iter();
    Kind::Numbers(values.map(|value| number(*value)).collect())
}

fn of_signed(value: i64) -> u64 {
    value.cast_unsigned() ^ 1 << 63
}

/// The order of IEEE 754 over all values: `-0` before `0`, NaN at both ends.
fn of_float(value: f64) -> u64 {
    let bits = value.to_bits();
    if value.is_sign_negative() {
        !bits
    } else {
        bits | 1 << 63
    }
}
