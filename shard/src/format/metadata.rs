//! The form of [`MetadataRecord`] and its changes.

use std::collections::{BTreeMap, BTreeSet};

use lowwater::ShardId;

use crate::id::SeqNo;
use crate::record::{MetadataChange, MetadataRecord, StoredName};

use super::{Format, FormatError, Reader, Writer};

const DISOWNED: u8 = 0;
const STRUCK: u8 = 1;
const OWNED: u8 = 2;
const LISTED: u8 = 3;
const TXNS_SHARD: u8 = 4;

impl Format for MetadataRecord {
    const COORDINATES: u8 = 0;

    fn write_record(&self, writer: &mut Writer) {
        writer.number(self.version().map_or(0, SeqNo::number));
        writer.list(self.owned(), |writer, (name, shard)| {
            writer.bytes(name);
            writer.id(shard.number());
        });
        writer.list(self.unfinalized(), |writer, shard| {
            writer.id(shard.number());
        });
        writer.list(self.txns_shard().as_slice(), |writer, shard| {
            writer.id(shard.number());
        });
    }

    fn read_record(reader: &mut Reader) -> Result<Self, FormatError> {
        let version = match reader.number()? {
            0 => None,
            number => Some(SeqNo::new(number)),
        };
        let owned = reader.list(read_owned)?;
        let unfinalized = reader.list(read_shard)?;
        let txns_shard = match reader.list(read_shard)?[..] {
            [] => None,
            [shard] => Some(shard),
            [..] => return Err(FormatError::Malformed("one shard is for transactions")),
        };
        let is_sorted = owned.is_sorted_by(|left, right| left.0 < right.0)
            && unfinalized.is_sorted_by(|left, right| left < right);
        if !is_sorted {
            return Err(FormatError::Malformed("what is listed is in order"));
        }
        let owned: BTreeMap<_, _> = owned.into_iter().collect();
        let unfinalized: BTreeSet<_> = unfinalized.into_iter().collect();
        let record = MetadataRecord::from_parts(version, owned, unfinalized, txns_shard)?;
        Ok(record)
    }

    fn write_change(change: &MetadataChange, writer: &mut Writer) {
        match change {
            MetadataChange::Disowned(names) => {
                writer.raw(&[DISOWNED]);
                writer.list(names, |writer, name| writer.bytes(name));
            }
            MetadataChange::Struck(shards) => {
                writer.raw(&[STRUCK]);
                writer.list(shards, |writer, shard| writer.id(shard.number()));
            }
            MetadataChange::Owned(owned) => {
                writer.raw(&[OWNED]);
                writer.list(owned, |writer, (name, shard)| {
                    writer.bytes(name);
                    writer.id(shard.number());
                });
            }
            MetadataChange::Listed(shards) => {
                writer.raw(&[LISTED]);
                writer.list(shards, |writer, shard| writer.id(shard.number()));
            }
            MetadataChange::TxnsShard(shard) => {
                writer.raw(&[TXNS_SHARD]);
                writer.id(shard.number());
            }
        }
    }

    fn read_change(reader: &mut Reader) -> Result<MetadataChange, FormatError> {
        Ok(match reader.byte()? {
            DISOWNED => MetadataChange::Disowned(reader.list(read_name)?),
            STRUCK => MetadataChange::Struck(reader.list(read_shard)?),
            OWNED => MetadataChange::Owned(reader.list(read_owned)?),
            LISTED => MetadataChange::Listed(reader.list(read_shard)?),
            TXNS_SHARD => MetadataChange::TxnsShard(read_shard(reader)?),
            _ => {
                return Err(FormatError::Malformed(
                    "there is no such change of metadata",
                ));
            }
        })
    }
}

fn read_owned(reader: &mut Reader) -> Result<(StoredName, ShardId), FormatError> {
    Ok((read_name(reader)?, read_shard(reader)?))
}

/// Copied: small, and kept for longer than the version that it is read from.
fn read_name(reader: &mut Reader) -> Result<StoredName, FormatError> {
    Ok(StoredName::from(&reader.bytes()?[..]))
}

fn read_shard(reader: &mut Reader) -> Result<ShardId, FormatError> {
    reader.id().map(ShardId::new)
}
