//! Writing each kind of column.

use arrow::array::{Array, ArrayRef, AsArray};
use arrow::buffer::{BooleanBuffer, NullBuffer};
use arrow::datatypes::{
    ArrowPrimitiveType, DataType, Float64Type, Int32Type, Int64Type, TimestampMicrosecondType,
    UInt64Type,
};

use crate::format::Writer;
use crate::time::ShardTime;
use crate::updates::Updates;

use super::FORM;

/// False if they take more than `bytes_max`; what was written is of no use then.
pub(super) fn updates<T: ShardTime>(
    writer: &mut Writer,
    updates: &Updates<T>,
    bytes_max: usize,
) -> bool {
    // A row takes a byte for each coordinate and one for the difference at least.
    if updates.len() > bytes_max {
        return false;
    }
    let fits = |writer: &Writer| writer.written().len() <= bytes_max;
    writer.raw(&[FORM]);
    writer.count(updates.len());
    let fields = updates.rows().schema_ref().fields().iter();
    for (field, values) in fields.zip(updates.rows().columns()) {
        column(writer, values, field.is_nullable());
        if !fits(writer) {
            return false;
        }
    }
    times(writer, updates.times());
    for diff in updates.diffs() {
        writer.zigzag(*diff);
    }
    fits(writer)
}

fn column(writer: &mut Writer, values: &ArrayRef, nullable: bool) {
    let nulls = values.nulls().filter(|nulls| nulls.null_count() > 0);
    if nullable {
        writer.flag(nulls.is_some());
        if let Some(nulls) = nulls {
            bits(writer, nulls.iter());
        }
    }
    match values.data_type() {
        DataType::Boolean => {
            let values: &BooleanBuffer = values.as_boolean().values();
            bits(
                writer,
                there(nulls, values.len()).map(|at| values.value(at)),
            );
        }
        DataType::Int32 => each::<Int32Type>(values, |value| writer.zigzag(value.into())),
        DataType::Int64 => each::<Int64Type>(values, |value| writer.zigzag(value)),
        DataType::UInt64 => each::<UInt64Type>(values, |value| writer.number(value)),
        DataType::Float64 => each::<Float64Type>(values, |value| writer.raw(&value.to_le_bytes())),
        DataType::Timestamp(..) => {
            let mut before = 0;
            each::<TimestampMicrosecondType>(values, |value| {
                writer.zigzag(value.wrapping_sub(before));
                before = value;
            });
        }
        DataType::Utf8 => {
            let values = values.as_string::<i32>();
            let there: Vec<&[u8]> = there(nulls, values.len())
                .map(|at| values.value(at).as_bytes())
                .collect();
            pieces(writer, &there);
        }
        DataType::Binary => {
            let values = values.as_binary::<i32>();
            let there: Vec<&[u8]> = there(nulls, values.len())
                .map(|at| values.value(at))
                .collect();
            pieces(writer, &there);
        }
        other => unreachable!("updates have no columns of {other}"),
    }
}

fn times<T: ShardTime>(writer: &mut Writer, times: &[T]) {
    let width = usize::from(T::COORDINATES);
    let mut coordinates = Vec::with_capacity(times.len() * width);
    for time in times {
        time.coordinates(&mut |coordinate| coordinates.push(coordinate));
    }
    for which in 0..width {
        let mut before = 0;
        for &coordinate in coordinates.iter().skip(which).step_by(width) {
            writer.zigzag(coordinate.wrapping_sub(before).cast_signed());
            before = coordinate;
        }
    }
}

/// Where there are values.
fn there(nulls: Option<&NullBuffer>, rows: usize) -> impl Iterator<Item = usize> {
    (0..rows).filter(move |&at| nulls.is_none_or(|nulls| nulls.is_valid(at)))
}

fn each<P: ArrowPrimitiveType>(values: &ArrayRef, each: impl FnMut(P::Native)) {
    let values = values.as_primitive::<P>();
    values.iter().flatten().for_each(each);
}

fn bits(writer: &mut Writer, bits: impl Iterator<Item = bool>) {
    let (mut byte, mut count) = (0, 0);
    for bit in bits {
        byte |= u8::from(bit) << count;
        count += 1;
        if count == 8 {
            writer.raw(&[byte]);
            (byte, count) = (0, 0);
        }
    }
    if count > 0 {
        writer.raw(&[byte]);
    }
}

fn pieces(writer: &mut Writer, pieces: &[&[u8]]) {
    for piece in pieces {
        writer.count(piece.len());
    }
    for piece in pieces {
        writer.raw(piece);
    }
}
