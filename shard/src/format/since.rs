//! The form of [`SinceRecord`] and its changes.

use std::collections::BTreeMap;

use lowwater::Since;

use crate::id::{Epoch, ReaderId, SeqNo};
use crate::record::{Critical, Leased, SinceChange, SinceRecord};
use crate::time::ShardTime;

use super::{Format, FormatError, Reader, Writer};

const CRITICAL: u8 = 0;
const LEASED: u8 = 1;
const LEFT: u8 = 2;
const BURIED: u8 = 3;

impl<T: ShardTime> Format for SinceRecord<T> {
    const COORDINATES: u8 = T::COORDINATES;

    fn write_record(&self, writer: &mut Writer) {
        writer.frontier(self.since().frontier());
        writer.list(self.critical(), |writer, (reader, critical)| {
            writer.id(reader.number());
            write_critical(writer, critical);
        });
        writer.list(self.leased(), |writer, (reader, leased)| {
            writer.id(reader.number());
            write_leased(writer, leased);
        });
        writer.flag(self.is_buried());
    }

    fn read_record(reader: &mut Reader) -> Result<Self, FormatError> {
        let since = Since::new(reader.frontier()?);
        let critical = read_readers(reader, read_critical)?;
        let leased = read_readers(reader, read_leased)?;
        let buried = reader.flag()?;
        Ok(SinceRecord::from_parts(since, critical, leased, buried)?)
    }

    fn write_change(change: &SinceChange<T>, writer: &mut Writer) {
        match change {
            SinceChange::Critical(reader, critical) => {
                writer.raw(&[CRITICAL]);
                writer.id(reader.number());
                write_critical(writer, critical);
            }
            SinceChange::Leased(reader, leased) => {
                writer.raw(&[LEASED]);
                writer.id(reader.number());
                write_leased(writer, leased);
            }
            SinceChange::Left(readers) => {
                writer.raw(&[LEFT]);
                writer.list(readers, |writer, reader| writer.id(reader.number()));
            }
            SinceChange::Buried => writer.raw(&[BURIED]),
        }
    }

    fn read_change(reader: &mut Reader) -> Result<SinceChange<T>, FormatError> {
        Ok(match reader.byte()? {
            CRITICAL => SinceChange::Critical(read_id(reader)?, read_critical(reader)?),
            LEASED => SinceChange::Leased(read_id(reader)?, read_leased(reader)?),
            LEFT => SinceChange::Left(reader.list(read_id)?),
            BURIED => SinceChange::Buried,
            _ => return Err(FormatError::Malformed("there is no such change of sinces")),
        })
    }
}

fn write_critical<T: ShardTime>(writer: &mut Writer, critical: &Critical<T>) {
    writer.number(critical.epoch.number());
    writer.frontier(critical.since.frontier());
}

fn read_critical<T: ShardTime>(reader: &mut Reader) -> Result<Critical<T>, FormatError> {
    Ok(Critical {
        epoch: Epoch::new(reader.number()?),
        since: Since::new(reader.frontier()?),
    })
}

fn write_leased<T: ShardTime>(writer: &mut Writer, leased: &Leased<T>) {
    writer.frontier(leased.since.frontier());
    writer.number(leased.lease_ms);
    writer.number(leased.renewals);
    writer.number(leased.reads_from.number());
}

fn read_leased<T: ShardTime>(reader: &mut Reader) -> Result<Leased<T>, FormatError> {
    Ok(Leased {
        since: Since::new(reader.frontier()?),
        lease_ms: reader.number()?,
        renewals: reader.number()?,
        reads_from: SeqNo::new(reader.number()?),
    })
}

fn read_id(reader: &mut Reader) -> Result<ReaderId, FormatError> {
    reader.id().map(ReaderId::new)
}

fn read_readers<X>(
    reader: &mut Reader,
    mut each: impl FnMut(&mut Reader) -> Result<X, FormatError>,
) -> Result<BTreeMap<ReaderId, X>, FormatError> {
    let readers = reader.list(|reader| Ok((read_id(reader)?, each(reader)?)))?;
    if readers.is_sorted_by(|left, right| left.0 < right.0) {
        Ok(readers.into_iter().collect())
    } else {
        Err(FormatError::Malformed("readers are in order, each once"))
    }
}
