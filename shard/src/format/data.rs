//! The form of [`DataRecord`] and its changes.

use lowwater::{Since, Upper};

use crate::id::{BatchId, PartId, SchemaId, SeqNo};
use crate::record::{Batch, Content, DataChange, DataParts, DataRecord, Garbage, Inline, Stored};
use crate::schema::{Column, ColumnKind, Schema};
use crate::time::ShardTime;

use super::{FORMAT_1, Format, FormatError, Reader, Writer};

const SCHEMA_ADDED: u8 = 0;
const APPENDED: u8 = 1;
const COMPACTED: u8 = 2;
const SWEPT: u8 = 3;
const EMPTIED: u8 = 4;
const BURIED: u8 = 5;
const FLOOR_RAISED: u8 = 6;

const INLINE: u8 = 0;
const STORED: u8 = 1;

impl<T: ShardTime> Format for DataRecord<T> {
    const COORDINATES: u8 = T::COORDINATES;

    fn write_record(&self, writer: &mut Writer) {
        writer.frontier(self.upper().frontier());
        writer.list(self.schemas(), write_schema);
        writer.list(self.batches(), write_batch);
        writer.number(self.next_batch().number());
        writer.list(self.garbage(), |writer, garbage| {
            writer.id(garbage.part.number());
            writer.number(garbage.begun.number());
            writer.number(garbage.since_version.number());
        });
        writer.number(self.floor().number());
        writer.flag(self.is_emptying());
        writer.flag(self.is_buried());
    }

    fn read_record(reader: &mut Reader) -> Result<Self, FormatError> {
        let parts = DataParts {
            upper: Upper::new(reader.frontier()?),
            schemas: reader.list(read_schema)?,
            batches: reader.list(read_batch)?,
            next_batch: BatchId::new(reader.number()?),
            garbage: reader.list(read_garbage)?,
            floor: match reader.format {
                FORMAT_1 => SeqNo::NONE,
                _ => SeqNo::new(reader.number()?),
            },
            emptying: reader.flag()?,
            buried: reader.flag()?,
        };
        Ok(DataRecord::from_parts(parts)?)
    }

    fn write_change(change: &DataChange<T>, writer: &mut Writer) {
        match change {
            DataChange::SchemaAdded(schema) => {
                writer.raw(&[SCHEMA_ADDED]);
                write_schema(writer, schema);
            }
            DataChange::Appended { upper, contents } => {
                writer.raw(&[APPENDED]);
                writer.frontier(upper.frontier());
                writer.list(contents, write_content);
            }
            DataChange::Compacted {
                first,
                last,
                since,
                contents,
            } => {
                writer.raw(&[COMPACTED]);
                writer.number(first.number());
                writer.number(last.number());
                writer.frontier(since.frontier());
                writer.list(contents, write_content);
            }
            DataChange::Swept(parts) => {
                writer.raw(&[SWEPT]);
                writer.list(parts, |writer, part| writer.id(part.number()));
            }
            DataChange::Emptied(batches) => {
                writer.raw(&[EMPTIED]);
                writer.count(*batches);
            }
            DataChange::Buried => writer.raw(&[BURIED]),
            DataChange::FloorRaised(to) => {
                writer.raw(&[FLOOR_RAISED]);
                writer.number(to.number());
            }
        }
    }

    fn read_change(reader: &mut Reader) -> Result<DataChange<T>, FormatError> {
        Ok(match reader.byte()? {
            SCHEMA_ADDED => DataChange::SchemaAdded(read_schema(reader)?),
            APPENDED => DataChange::Appended {
                upper: Upper::new(reader.frontier()?),
                contents: reader.list(read_content)?,
            },
            COMPACTED => DataChange::Compacted {
                first: BatchId::new(reader.number()?),
                last: BatchId::new(reader.number()?),
                since: Since::new(reader.frontier()?),
                contents: reader.list(read_content)?,
            },
            SWEPT => DataChange::Swept(reader.list(read_part)?),
            EMPTIED => DataChange::Emptied(reader.count()?),
            BURIED => DataChange::Buried,
            FLOOR_RAISED if reader.format != FORMAT_1 => {
                DataChange::FloorRaised(SeqNo::new(reader.number()?))
            }
            _ => return Err(FormatError::Malformed("there is no such change of data")),
        })
    }
}

fn write_schema(writer: &mut Writer, schema: &Schema) {
    writer.list(schema.columns(), |writer, column| {
        writer.bytes(column.name.as_bytes());
        writer.raw(&[column.kind.code()]);
        writer.flag(column.nullable);
    });
}

fn read_schema(reader: &mut Reader) -> Result<Schema, FormatError> {
    let columns = reader.list(|reader| {
        Ok(Column {
            name: reader.text()?,
            kind: ColumnKind::from_code(reader.byte()?)
                .ok_or(FormatError::Malformed("there is no such kind of column"))?,
            nullable: reader.flag()?,
        })
    })?;
    Schema::new(columns).map_err(|_| FormatError::Malformed("these columns are no schema"))
}

fn write_batch<T: ShardTime>(writer: &mut Writer, batch: &Batch<T>) {
    writer.number(batch.id.number());
    writer.frontier(batch.lower.frontier());
    writer.frontier(batch.upper.frontier());
    writer.frontier(batch.since.frontier());
    writer.list(&batch.contents, write_content);
}

fn read_batch<T: ShardTime>(reader: &mut Reader) -> Result<Batch<T>, FormatError> {
    Ok(Batch {
        id: BatchId::new(reader.number()?),
        lower: Upper::new(reader.frontier()?),
        upper: Upper::new(reader.frontier()?),
        since: Since::new(reader.frontier()?),
        contents: reader.list(read_content)?,
    })
}

fn write_content(writer: &mut Writer, content: &Content) {
    match content {
        Content::Inline(inline) => {
            writer.raw(&[INLINE]);
            writer.number(inline.schema.number().into());
            writer.number(inline.updates);
            writer.bytes(&inline.bytes);
        }
        Content::Stored(stored) => {
            writer.raw(&[STORED]);
            writer.id(stored.part.number());
            writer.number(stored.begun.number());
            writer.number(stored.schema.number().into());
            writer.number(stored.updates);
            writer.number(stored.bytes);
            writer.flag(stored.checksum.is_some());
            if let Some(checksum) = stored.checksum {
                writer.raw(&checksum.to_le_bytes());
            }
        }
    }
}

fn read_content(reader: &mut Reader) -> Result<Content, FormatError> {
    Ok(match reader.byte()? {
        INLINE => Content::Inline(Inline {
            schema: read_schema_id(reader)?,
            updates: reader.number()?,
            bytes: reader.bytes()?,
        }),
        STORED => Content::Stored(Stored {
            part: read_part(reader)?,
            begun: read_begun(reader)?,
            schema: read_schema_id(reader)?,
            updates: reader.number()?,
            bytes: reader.number()?,
            checksum: read_checksum(reader)?,
        }),
        _ => return Err(FormatError::Malformed("updates are inline or stored")),
    })
}

fn read_schema_id(reader: &mut Reader) -> Result<SchemaId, FormatError> {
    let number = u32::try_from(reader.number()?);
    let number = number.map_err(|_| FormatError::Malformed("a schema's number has 32 bits"))?;
    Ok(SchemaId::new(number))
}

fn read_part(reader: &mut Reader) -> Result<PartId, FormatError> {
    reader.id().map(PartId::new)
}

fn read_begun(reader: &mut Reader) -> Result<SeqNo, FormatError> {
    match reader.format {
        FORMAT_1 => Ok(SeqNo::FIRST),
        _ => reader.number().map(SeqNo::new),
    }
}

fn read_checksum(reader: &mut Reader) -> Result<Option<u32>, FormatError> {
    if reader.format == FORMAT_1 || !reader.flag()? {
        return Ok(None);
    }
    reader.little_endian().map(Some)
}

fn read_garbage(reader: &mut Reader) -> Result<Garbage, FormatError> {
    Ok(Garbage {
        part: read_part(reader)?,
        begun: read_begun(reader)?,
        since_version: SeqNo::new(reader.number()?),
    })
}
