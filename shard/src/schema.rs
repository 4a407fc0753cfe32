//! The columns of a shard's rows, and how they may change.

use std::fmt;
use std::sync::Arc;

use arrow::datatypes::{DataType, Field, Schema as ArrowSchema, SchemaRef, TimeUnit};

/// Names of columns that begin like this are ours: times and differences are stored beside rows.
const RESERVED: &str = "__";

/// The columns of a shard's rows, in order.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Schema {
    columns: Vec<Column>,
}

/// A column.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Column {
    /// Its name, unlike those of the other columns.
    pub name: String,
    /// What it holds.
    pub kind: ColumnKind,
    /// Whether it may hold nothing.
    pub nullable: bool,
}

/// What a column holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum ColumnKind {
    /// True or false. Arrow's `Boolean`.
    Bool,
    /// A signed integer of 32 bits. Arrow's `Int32`.
    Int32,
    /// A signed integer of 64 bits. Arrow's `Int64`.
    Int64,
    /// An unsigned integer of 64 bits. Arrow's `UInt64`.
    UInt64,
    /// An IEEE number of 64 bits, compared bit by bit: 0 is not -0, and a NaN is itself. Arrow's
    /// `Float64`.
    Float64,
    /// UTF-8 text. Arrow's `Utf8`.
    Text,
    /// Any bytes. Arrow's `Binary`.
    Bytes,
    /// Microseconds since 1970-01-01 00:00 UTC. Arrow's `Timestamp` in microseconds, of `UTC`.
    TimestampMicros,
}

/// Why a schema was refused.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SchemaError {
    /// Two columns of one schema have this name.
    #[error("column {0:?} occurs twice")]
    RepeatedColumn(String),
    /// Names that begin with two underscores belong to the columns for times and differences.
    #[error("column {0:?} has a reserved name: names do not begin with two underscores")]
    ReservedColumn(String),
    /// A column of an arrow schema has a type that shards do not hold.
    #[error("column {column:?} has the type {kind}, which shards do not hold")]
    UnsupportedType {
        /// The column.
        column: String,
        /// Its type.
        kind: String,
    },
    /// A column of the latest schema is gone, or is another one now.
    #[error("column {0:?} is not as it was: columns may only be added behind the others")]
    ChangedColumn(String),
    /// A column was added that old rows have no value for.
    #[error("new column {0:?} must be nullable: old rows have no value for it")]
    NewColumnNotNullable(String),
}

impl Schema {
    /// A schema of these columns.
    ///
    /// # Errors
    ///
    /// [`SchemaError::RepeatedColumn`], [`SchemaError::ReservedColumn`].
    pub fn new(columns: Vec<Column>) -> Result<Self, SchemaError> {
        let reserved = |column: &&Column| column.name.starts_with(RESERVED);
        if let Some(column) = columns.iter().find(reserved) {
            return Err(SchemaError::ReservedColumn(column.name.clone()));
        }
        let mut names: Vec<&str> = columns.iter().map(|column| &*column.name).collect();
        names.sort_unstable();
        if let Some(pair) = names.windows(2).find(|pair| pair[0] == pair[1]) {
            return Err(SchemaError::RepeatedColumn(pair[0].to_owned()));
        }
        Ok(Schema { columns })
    }

    /// The columns, in order.
    pub fn columns(&self) -> &[Column] {
        &self.columns
    }

    /// The same for arrow, as rows in memory have it: [`ColumnKind`] says which type each kind is.
    pub fn arrow(&self) -> SchemaRef {
        let fields = self.columns.iter().map(Column::arrow);
        Arc::new(ArrowSchema::new(fields.collect::<Vec<_>>()))
    }

    /// Checks that rows of this schema can be read as rows of `next`: all that may happen is that
    /// nullable columns are added behind the others.
    ///
    /// # Errors
    ///
    /// The first column that is in the way.
    pub fn may_evolve_into(&self, next: &Schema) -> Result<(), SchemaError> {
        for (at, column) in self.columns.iter().enumerate() {
            if next.columns.get(at) != Some(column) {
                return Err(SchemaError::ChangedColumn(column.name.clone()));
            }
        }
        let added = &next.columns[self.columns.len()..];
        match added.iter().find(|column| !column.nullable) {
            Some(column) => Err(SchemaError::NewColumnNotNullable(column.name.clone())),
            None => Ok(()),
        }
    }
}

impl ColumnKind {
    /// All kinds, in the order of their codes in the stored form, which is for ever.
    pub(crate) const ALL: [ColumnKind; 8] = [
        ColumnKind::Bool,
        ColumnKind::Int32,
        ColumnKind::Int64,
        ColumnKind::UInt64,
        ColumnKind::Float64,
        ColumnKind::Text,
        ColumnKind::Bytes,
        ColumnKind::TimestampMicros,
    ];

    pub(crate) fn code(self) -> u8 {
        self as u8
    }

    /// The type of arrow that holds it.
    pub fn arrow(self) -> DataType {
        match self {
            ColumnKind::Bool => DataType::Boolean,
            ColumnKind::Int32 => DataType::Int32,
            ColumnKind::Int64 => DataType::Int64,
            ColumnKind::UInt64 => DataType::UInt64,
            ColumnKind::Float64 => DataType::Float64,
            ColumnKind::Text => DataType::Utf8,
            ColumnKind::Bytes => DataType::Binary,
            ColumnKind::TimestampMicros => {
                DataType::Timestamp(TimeUnit::Microsecond, Some("UTC".into()))
            }
        }
    }

    /// The kind that this type of arrow holds, if there is one.
    pub fn of_arrow(kind: &DataType) -> Option<Self> {
        Self::ALL.into_iter().find(|known| known.arrow() == *kind)
    }

    pub(crate) fn from_code(code: u8) -> Option<Self> {
        Self::ALL.get(usize::from(code)).copied()
    }
}

impl Column {
    fn arrow(&self) -> Field {
        Field::new(&self.name, self.kind.arrow(), self.nullable)
    }
}

impl TryFrom<&ArrowSchema> for Schema {
    type Error = SchemaError;

    fn try_from(schema: &ArrowSchema) -> Result<Self, SchemaError> {
        let column = |field: &Arc<Field>| {
            let unsupported = || SchemaError::UnsupportedType {
                column: field.name().clone(),
                kind: field.data_type().to_string(),
            };
            Ok(Column {
                name: field.name().clone(),
                kind: ColumnKind::of_arrow(field.data_type()).ok_or_else(unsupported)?,
                nullable: field.is_nullable(),
            })
        };
        Schema::new(
            schema
                .fields()
                .iter()
                .map(column)
                .collect::<Result<_, _>>()?,
        )
    }
}

/// Written as its columns: `(origin text, delay int64 null)`.
impl fmt::Display for Schema {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("(")?;
        for (at, column) in self.columns.iter().enumerate() {
            let separator = if at == 0 { "" } else { ", " };
            let null = if column.nullable { " null" } else { "" };
            let kind = format!("{:?}", column.kind).to_lowercase();
            write!(f, "{separator}{} {kind}{null}", column.name)?;
        }
        f.write_str(")")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn column(name: &str, nullable: bool) -> Column {
        Column {
            name: name.to_owned(),
            kind: ColumnKind::Int64,
            nullable,
        }
    }

    #[test]
    fn a_schema_evolves_by_nullable_columns_behind_the_others_and_in_no_other_way() {
        let old = Schema::new(vec![column("a", false), column("b", true)]).unwrap();
        let grown = |more| {
            let mut columns = old.columns().to_vec();
            columns.push(more);
            Schema::new(columns).unwrap()
        };
        assert_eq!(old.may_evolve_into(&old), Ok(()));
        assert_eq!(old.may_evolve_into(&grown(column("c", true))), Ok(()));
        assert_eq!(
            old.may_evolve_into(&grown(column("c", false))),
            Err(SchemaError::NewColumnNotNullable("c".to_owned()))
        );
        let shrunk = Schema::new(vec![column("a", false)]).unwrap();
        assert_eq!(
            old.may_evolve_into(&shrunk),
            Err(SchemaError::ChangedColumn("b".to_owned()))
        );
        let swapped = Schema::new(vec![column("b", true), column("a", false)]).unwrap();
        assert_eq!(
            old.may_evolve_into(&swapped),
            Err(SchemaError::ChangedColumn("a".to_owned()))
        );
    }

    #[test]
    fn a_name_belongs_to_one_column() {
        assert_eq!(
            Schema::new(vec![column("a", false), column("a", true)]),
            Err(SchemaError::RepeatedColumn("a".to_owned()))
        );
    }

    #[test]
    fn a_name_that_begins_like_the_columns_of_times_is_refused() {
        assert_eq!(
            Schema::new(vec![column("__time", false)]),
            Err(SchemaError::ReservedColumn("__time".to_owned()))
        );
        assert!(Schema::new(vec![column("_time", false)]).is_ok());
    }

    #[test]
    fn a_schema_is_its_arrow_schema() {
        let columns = ColumnKind::ALL.into_iter().map(|kind| Column {
            name: format!("{kind:?}"),
            kind,
            nullable: kind.code() % 2 == 0,
        });
        let schema = Schema::new(columns.collect()).unwrap();
        assert_eq!(Schema::try_from(&*schema.arrow()), Ok(schema));
        let other = ArrowSchema::new(vec![Field::new("a", DataType::LargeUtf8, false)]);
        assert_eq!(
            Schema::try_from(&other),
            Err(SchemaError::UnsupportedType {
                column: "a".to_owned(),
                kind: "LargeUtf8".to_owned(),
            })
        );
    }

    #[test]
    fn the_code_of_a_kind_is_its_place_among_all() {
        for (at, kind) in ColumnKind::ALL.into_iter().enumerate() {
            assert_eq!(usize::from(kind.code()), at);
            assert_eq!(ColumnKind::from_code(kind.code()), Some(kind));
        }
        assert_eq!(ColumnKind::from_code(8), None);
    }
}
