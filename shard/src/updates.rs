//! Updates of a shard in memory.

mod column;
mod codes;
mod sorted;
mod consolidate;
#[cfg(test)]
pub(crate) mod testing;
#[cfg(test)]
mod tests;

use std::sync::Arc;

use arrow::array::{ArrayRef, BooleanArray, new_null_array};
use arrow::compute::{concat_batches, filter_record_batch};
use arrow::datatypes::{DataType, SchemaRef};
use arrow::record_batch::{RecordBatch, RecordBatchOptions};
use lowwater::Since;

use crate::schema::{ColumnKind, Schema};
use crate::time::ShardTime;

pub(crate) use column::{Kind, Values};

/// Updates of a shard: rows, each with a time and a difference.
///
/// The columns of the rows are those of a shard's [`Schema`], with the types that [`ColumnKind`]
/// names. To clone updates copies times and differences, but not the rows.
#[derive(Clone, Debug)]
pub struct Updates<T> {
    /// Only of types that a [`ColumnKind`] has; fewer than 2^32.
    rows: RecordBatch,
    /// As many as there are rows.
    times: Vec<T>,
    /// As many as there are rows.
    diffs: Vec<i64>,
    known: Known,
}

/// What is known of the order of updates, so that nobody has to find it out again.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Known {
    Nothing,
    /// Rows are in their order; the times of equal ones may not be.
    RowsInOrder,
    /// They are what [`consolidate`](Updates::consolidate) makes of them.
    Consolidated,
}

/// What is known of their order does not count.
impl<T: PartialEq> PartialEq for Updates<T> {
    fn eq(&self, other: &Self) -> bool {
        self.rows == other.rows && self.times == other.times && self.diffs == other.diffs
    }
}

/// Why these are no updates, or not of this schema.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum UpdatesError {
    /// Each row has one time and one difference.
    #[error("there are {rows} rows, {times} times and {diffs} differences")]
    Lengths {
        /// How many rows.
        rows: usize,
        /// How many times.
        times: usize,
        /// How many differences.
        diffs: usize,
    },
    /// A column has a type that shards do not hold.
    #[error("column {column:?} has the type {kind}, which shards do not hold")]
    UnsupportedType {
        /// The column.
        column: String,
        /// Its type.
        kind: String,
    },
    /// The rows have other columns.
    #[error("the rows have the columns {found}, not {wanted}")]
    OtherSchema {
        /// What they should have.
        wanted: String,
        /// What they have.
        found: String,
    },
    /// Split them: 2^32 rows, or 2 GiB of text or bytes in one column, are more than a batch holds.
    #[error("too much for one batch: {0}")]
    TooLarge(&'static str),
}

impl<T: ShardTime> Updates<T> {
    /// Updates of these rows, each with its time and its difference.
    ///
    /// # Errors
    ///
    /// If they are not equally many, or too many, or a column has a type that shards do not hold.
    pub fn new(rows: RecordBatch, times: Vec<T>, diffs: Vec<i64>) -> Result<Self, UpdatesError> {
        if rows.num_rows() != times.len() || times.len() != diffs.len() {
            return Err(UpdatesError::Lengths {
                rows: rows.num_rows(),
                times: times.len(),
                diffs: diffs.len(),
            });
        }
        if u32::try_from(times.len()).is_err() {
            return Err(UpdatesError::TooLarge("2^32 rows"));
        }
        let unsupported = |kind: &DataType| ColumnKind::of_arrow(kind).is_none();
        let mut fields = rows.schema_ref().fields().iter();
        if let Some(field) = fields.find(|field| unsupported(field.data_type())) {
            return Err(UpdatesError::UnsupportedType {
                column: field.name().clone(),
                kind: field.data_type().to_string(),
            });
        }
        Ok(Updates {
            rows,
            times,
            diffs,
            known: Known::Nothing,
        })
    }

    /// No updates of this schema.
    pub fn empty(schema: &Schema) -> Self {
        Updates {
            rows: RecordBatch::new_empty(schema.arrow()),
            times: Vec::new(),
            diffs: Vec::new(),
            known: Known::Consolidated,
        }
    }

    /// True if they are known to be consolidated.
    pub(crate) fn is_consolidated(&self) -> bool {
        self.known == Known::Consolidated
    }

    /// The same, of which the caller knows that they are consolidated.
    pub(crate) fn known_as_consolidated(self) -> Self {
        let known = Known::Consolidated;
        Updates { known, ..self }
    }

    /// How many updates.
    pub fn len(&self) -> usize {
        self.times.len()
    }

    /// True iff there are none.
    pub fn is_empty(&self) -> bool {
        self.times.is_empty()
    }

    /// The rows, without times and differences.
    pub fn rows(&self) -> &RecordBatch {
        &self.rows
    }

    /// The time of each row.
    pub fn times(&self) -> &[T] {
        &self.times
    }

    /// How many times each row is added; taken away, if below zero.
    pub fn diffs(&self) -> &[i64] {
        &self.diffs
    }

    /// Rows, times and differences.
    pub fn into_parts(self) -> (RecordBatch, Vec<T>, Vec<i64>) {
        (self.rows, self.times, self.diffs)
    }

    /// Advances all times to `to`: what can be told apart from there on stays as it was. To advance
    /// to `[]` changes nothing, for nothing can be told from there.
    pub fn advance(&mut self, to: &Since<T>) {
        let frontier = to.frontier().borrow();
        for time in &mut self.times {
            time.advance_by(frontier);
        }
        self.known = self.known.min(Known::RowsInOrder);
    }

    /// The updates whose times are kept.
    #[must_use]
    pub fn filter(&self, keep: impl Fn(&T) -> bool) -> Self {
        let kept: Vec<bool> = self.times.iter().map(keep).collect();
        if kept.iter().all(|kept| *kept) {
            return self.clone();
        }
        let times = self.times.iter().zip(&kept).filter(|(_, kept)| **kept);
        let diffs = self.diffs.iter().zip(&kept).filter(|(_, kept)| **kept);
        Updates {
            times: times.map(|(time, _)| time.clone()).collect(),
            diffs: diffs.map(|(diff, _)| *diff).collect(),
            rows: pick(&self.rows, kept),
            known: self.known,
        }
    }

    /// All of these, one behind the other, as updates of `schema`: columns that it has behind those
    /// of an older one hold nothing.
    ///
    /// # Errors
    ///
    /// If the schema of one of them does not evolve into `schema`; if it is too much for one batch.
    pub fn concat(
        all: impl IntoIterator<Item = Updates<T>>,
        schema: &Schema,
    ) -> Result<Self, UpdatesError> {
        let arrow = schema.arrow();
        let (mut rows, mut times, mut diffs) = (Vec::new(), Vec::new(), Vec::new());
        let mut known = Known::Consolidated;
        for updates in all {
            if times.is_empty() {
                // Columns that hold nothing do not change the order.
                known = updates.known;
            } else if !updates.is_empty() {
                known = Known::Nothing;
            }
            rows.push(evolve(updates.rows, &arrow)?);
            if times.is_empty() {
                (times, diffs) = (updates.times, updates.diffs);
            } else {
                times.extend(updates.times);
                diffs.extend(updates.diffs);
            }
        }
        let all = Updates::new(join(&arrow, &rows)?, times, diffs)?;
        Ok(Updates { known, ..all })
    }

    /// Checks that the rows are exactly of this schema.
    ///
    /// # Errors
    ///
    /// [`UpdatesError::OtherSchema`].
    pub fn check(&self, schema: &Schema) -> Result<(), UpdatesError> {
        check(&self.rows, &schema.arrow())
    }
}

fn check(rows: &RecordBatch, schema: &SchemaRef) -> Result<(), UpdatesError> {
    if *rows.schema_ref() == *schema || is_same(rows.schema_ref(), schema) {
        Ok(())
    } else {
        Err(other_schema(rows, schema))
    }
}

/// Apart from metadata, which shards do not keep.
pub(crate) fn is_same(left: &SchemaRef, right: &SchemaRef) -> bool {
    left.fields().len() == right.fields().len()
        && left
            .fields()
            .iter()
            .zip(right.fields())
            .all(|(left, right)| {
                left.name() == right.name()
                    && left.data_type() == right.data_type()
                    && left.is_nullable() == right.is_nullable()
            })
}

fn other_schema(rows: &RecordBatch, schema: &SchemaRef) -> UpdatesError {
    let columns = |schema: &SchemaRef| {
        let column = |field: &Arc<arrow::datatypes::Field>| {
            let null = if field.is_nullable() { " null" } else { "" };
            format!("{} {}{null}", field.name(), field.data_type())
        };
        let columns: Vec<String> = schema.fields().iter().map(column).collect();
        format!("({})", columns.join(", "))
    };
    UpdatesError::OtherSchema {
        wanted: columns(schema),
        found: columns(rows.schema_ref()),
    }
}

/// Rows of an older schema as rows of this one.
fn evolve(rows: RecordBatch, schema: &SchemaRef) -> Result<RecordBatch, UpdatesError> {
    if rows.schema_ref() == schema {
        return Ok(rows);
    }
    let old = rows.num_columns();
    let (known, added) = match schema.fields().split_at_checked(old) {
        Some((known, added)) => (known, added),
        None => return Err(other_schema(&rows, schema)),
    };
    let known: SchemaRef = Arc::new(arrow::datatypes::Schema::new(known.to_vec()));
    if !is_same(rows.schema_ref(), &known) || added.iter().any(|field| !field.is_nullable()) {
        return Err(other_schema(&rows, schema));
    }
    let count = rows.num_rows();
    let nothing = added
        .iter()
        .map(|field| new_null_array(field.data_type(), count));
    let columns = rows.columns().iter().cloned().chain(nothing).collect();
    Ok(batch(Arc::clone(schema), columns, count))
}

fn pick(rows: &RecordBatch, kept: Vec<bool>) -> RecordBatch {
    let picked = filter_record_batch(rows, &BooleanArray::from(kept));
    picked.expect("there is one answer for each row")
}

/// Batches of this schema as one.
fn join(schema: &SchemaRef, batches: &[RecordBatch]) -> Result<RecordBatch, UpdatesError> {
    if let [only] = batches {
        return Ok(only.clone());
    }
    check_volume(batches)?;
    let joined = concat_batches(schema, batches);
    Ok(joined.expect("they are of this schema, and not too large"))
}

/// Rows of columns that are known to be of the schema.
pub(crate) fn batch(schema: SchemaRef, columns: Vec<ArrayRef>, rows: usize) -> RecordBatch {
    let options = RecordBatchOptions::new().with_row_count(Some(rows));
    RecordBatch::try_new_with_options(schema, columns, &options)
        .expect("the columns are of the schema")
}

/// What a column refers to with offsets of 32 bits must not go beyond them.
fn check_volume(batches: &[RecordBatch]) -> Result<(), UpdatesError> {
    let columns = batches.first().map_or(0, RecordBatch::num_columns);
    for column in 0..columns {
        let bytes = batches.iter().map(|batch| volume(batch.column(column)));
        if i32::try_from(bytes.sum::<usize>()).is_err() {
            return Err(UpdatesError::TooLarge("2 GiB in one column"));
        }
    }
    Ok(())
}

fn volume(column: &ArrayRef) -> usize {
    use arrow::array::AsArray;
    let span = |offsets: &[i32]| match offsets {
        [first, .., last] => usize::try_from(last - first).unwrap_or(usize::MAX),
        _ => 0,
    };
    if let Some(text) = column.as_string_opt::<i32>() {
        span(text.value_offsets())
    } else if let Some(bytes) = column.as_binary_opt::<i32>() {
        span(bytes.value_offsets())
    } else {
        0
    }
}
