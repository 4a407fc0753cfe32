//! A column's values as what can be compared fast: numbers, or pieces of bytes.

use arrow::array::{Array, ArrayRef, AsArray};
use arrow::buffer::{BooleanBuffer, NullBuffer};
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
    Numbers(Numbers<'a>),
    Pieces(Pieces<'a>),
}

/// Numbers as they stand in a column.
#[derive(Clone, Copy)]
pub(crate) enum Numbers<'a> {
    Bits(&'a BooleanBuffer),
    Int32(&'a [i32]),
    Int64(&'a [i64]),
    UInt64(&'a [u64]),
    /// In the order of [`of_float`].
    Float64(&'a [f64]),
}

/// Text or bytes.
#[derive(Clone, Copy)]
pub(crate) struct Pieces<'a> {
    offsets: &'a [i32],
    bytes: &'a [u8],
}

impl<'a> Values<'a> {
    pub(crate) fn of(column: &'a ArrayRef) -> Self {
        let kind = ColumnKind::of_arrow(column.data_type());
        let kind = match kind.expect("updates have no columns of other types") {
            ColumnKind::Bool => Kind::Numbers(Numbers::Bits(column.as_boolean().values())),
            ColumnKind::Int32 => Kind::Numbers(Numbers::Int32(plain::<Int32Type>(column))),
            ColumnKind::Int64 => Kind::Numbers(Numbers::Int64(plain::<Int64Type>(column))),
            ColumnKind::UInt64 => Kind::Numbers(Numbers::UInt64(plain::<UInt64Type>(column))),
            ColumnKind::Float64 => Kind::Numbers(Numbers::Float64(plain::<Float64Type>(column))),
            ColumnKind::TimestampMicros => {
                Kind::Numbers(Numbers::Int64(plain::<TimestampMicrosecondType>(column)))
            }
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

fn plain<P: ArrowPrimitiveType>(column: &ArrayRef) -> &[P::Native] {
    column.as_primitive::<P>().values()
}

impl Numbers<'_> {
    /// As numbers of one type in the same order.
    pub(crate) fn to_vec(self) -> Vec<u64> {
        match self {
            Numbers::Bits(bits) => bits.iter().map(u64::from).collect(),
            Numbers::Int32(numbers) => numbers.iter().map(|&it| of_signed(it.into())).collect(),
            Numbers::Int64(numbers) => numbers.iter().map(|&it| of_signed(it)).collect(),
            Numbers::UInt64(numbers) => numbers.to_vec(),
            Numbers::Float64(numbers) => numbers.iter().map(|&it| of_float(it)).collect(),
        }
    }
}

impl<'a> Pieces<'a> {
    pub(crate) fn at(&self, row: usize) -> &'a [u8] {
        let [from, to] = [self.offsets[row], self.offsets[row + 1]];
        // Arrow's offsets are never below zero.
        &self.bytes[from as usize..to as usize]
    }
}

fn of_signed(value: i64) -> u64 {
    value.cast_unsigned() ^ 1 << 63
}

/// The order of IEEE 754 over all values: `-0` before `0`, NaN at both ends.
pub(crate) fn of_float(value: f64) -> u64 {
    let bits = value.to_bits();
    if value.is_sign_negative() {
        !bits
    } else {
        bits | 1 << 63
    }
}
