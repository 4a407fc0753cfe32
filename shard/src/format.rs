//! How versions of logs are stored: the one description of the format.
//!
//! A log consists of versions, numbered from 1. Each is either a *difference*, the changes that a
//! transition made, or *full*, the record that it led to; the first is full. Whoever reads a log
//! begins at the latest full version and applies the differences behind it.
//!
//! ```text
//! version   = magic, format, log, coordinates, nonce, body, checksum
//! magic     = "LWlg"
//! format    = 1 byte, 2
//! log       = 1 byte, 1: sinces, 2: data, 3: metadata
//! coordinates = 1 byte, how many a time has
//! nonce     = 16 bytes, drawn anew for each attempt to write
//! body      = 0, count, that many changes       (a difference)
//!           | 1, record                         (full)
//! checksum  = CRC-32 (IEEE) of the log's name (17 bytes), the version's number (8 bytes) and all
//!             that comes before the checksum, so that a version in the wrong place is found out
//!
//! number    = LEB128, at most 64 bits: counts, lengths and all that is not said to be otherwise
//! bytes     = length, that many bytes           text = bytes, UTF-8
//! time      = its coordinates                   frontier = count, that many times
//! id        = 16 bytes                          list of x = count, that many x
//! flag      = 1 byte, 0 or 1
//!
//! sinces:   record = since, list of (id, critical), list of (id, leased), buried: flag
//!           critical = epoch, since             leased = since, lease_ms, renewals, reads_from
//!           change = 0, id, critical | 1, id, leased | 2, list of id | 3 (buried)
//!
//! data:     record = upper, list of schema, list of batch, next batch, list of garbage,
//!                    floor: version, emptying: flag, buried: flag
//!           schema = list of column             column = name: text, kind: 1 byte, nullable: flag
//!           batch = number, lower, upper, since, list of content
//!           content = 0, schema: number, updates, bytes        (inline)
//!                   | 1, id, begun: version, schema: number, updates, length, known: flag,
//!                     where it is known a checksum: 4 bytes    (stored)
//!           garbage = id, begun: version, version
//!           change = 0, schema | 1, upper, list of content
//!                  | 2, first batch, last batch, since, list of content
//!                  | 3, list of id | 4, count | 5 (buried) | 6, floor: version
//!
//! metadata: record = version, list of owned, list of id, list of id   (waiting; transactions)
//!           owned = name: bytes, id             change = 0, list of name | 1, list of id
//!                                                      | 2, list of owned | 3, list of id | 4, id
//! ```
//!
//! Format 1 had no floor, no begun and no checksum of what is stored: it is read as if those were
//! 0, 1 and not known; of metadata it knew nothing. It is no longer written.
//!
//! Numbers of several bytes are little-endian, except in the name of a log and in the number of a
//! version, which only the checksum covers. What is stored stays readable: another format gets
//! another number, and its reader goes beside the one that is here.

mod bytes;
mod since;
mod data;
mod metadata;

use ::bytes::Bytes;

use crate::id::{LogId, LogKind, Nonce, SeqNo};
use crate::record::{Misfit, Record};

pub use self::bytes::{Reader, Writer};

const MAGIC: [u8; 4] = *b"LWlg";
const FORMAT: u8 = 2;
/// The first one, which is still read.
const FORMAT_1: u8 = 1;
const DIFFERENCE: u8 = 0;
const FULL: u8 = 1;
const CHECKSUM_BYTES: usize = 4;

/// A record that can be stored.
pub trait Format: Record {
    /// How many coordinates its times have.
    const COORDINATES: u8;

    #[doc(hidden)]
    fn write_record(&self, writer: &mut Writer);

    #[doc(hidden)]
    fn read_record(reader: &mut Reader) -> Result<Self, FormatError>;

    #[doc(hidden)]
    fn write_change(change: &Self::Change, writer: &mut Writer);

    #[doc(hidden)]
    fn read_change(reader: &mut Reader) -> Result<Self::Change, FormatError>;
}

/// What a version of a log says.
#[derive(Clone, Debug, PartialEq)]
pub enum Body<R: Record> {
    /// What a transition changed.
    Difference(Vec<R::Change>),
    /// The record that it led to.
    Full(R),
}

/// Why bytes are no version of a log.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum FormatError {
    /// They were not written by Lowwater.
    #[error("these are not bytes of a log")]
    Foreign,
    /// They were written by a later Lowwater.
    #[error("format {0} is not known")]
    UnknownFormat(u8),
    /// They belong to another kind of log.
    #[error("this version belongs to another kind of log")]
    OtherKind,
    /// Their times are of another type.
    #[error("the times have {0} coordinates")]
    OtherTime(u8),
    /// They were damaged, or belong to another place.
    #[error("the checksum is wrong")]
    Checksum,
    /// They are not what the format says, though nothing has damaged them.
    #[error("the bytes are malformed: {0}")]
    Malformed(&'static str),
    /// They say what no record can be.
    #[error(transparent)]
    Misfit(#[from] Misfit),
}

/// Writes the version `seqno` of `log`.
pub fn encode<R: Format>(log: LogId, seqno: SeqNo, nonce: Nonce, body: &Body<R>) -> Bytes {
    debug_assert_eq!(log.kind, R::KIND);
    let mut writer = Writer::new();
    writer.raw(&MAGIC);
    writer.raw(&[FORMAT, R::KIND.code(), R::COORDINATES]);
    writer.id(nonce.number());
    match body {
        Body::Difference(changes) => {
            writer.raw(&[DIFFERENCE]);
            writer.list(changes, |writer, change| R::write_change(change, writer));
        }
        Body::Full(record) => {
            writer.raw(&[FULL]);
            record.write_record(&mut writer);
        }
    }
    let checksum = checksum(log, seqno, writer.written());
    writer.raw(&checksum.to_le_bytes());
    writer.finish()
}

/// Reads the version `seqno` of `log`.
///
/// # Errors
///
/// If it is not one. No bytes make this panic.
pub fn decode<R: Format>(
    log: LogId,
    seqno: SeqNo,
    bytes: &Bytes,
) -> Result<(Nonce, Body<R>), FormatError> {
    let (nonce, mut reader) = open(log, seqno, bytes, R::COORDINATES)?;
    let body = match reader.byte()? {
        DIFFERENCE => Body::Difference(reader.list(R::read_change)?),
        FULL => Body::Full(R::read_record(&mut reader)?),
        _ => return Err(FormatError::Malformed("a body is a difference or full")),
    };
    reader.end()?;
    Ok((nonce, body))
}

/// Reads the nonce of the version `seqno` of `log`: whose attempt it was.
///
/// # Errors
///
/// If it is no version of that log.
pub fn nonce<R: Format>(log: LogId, seqno: SeqNo, bytes: &Bytes) -> Result<Nonce, FormatError> {
    open(log, seqno, bytes, R::COORDINATES).map(|(nonce, _)| nonce)
}

/// Checks everything but the body; gives the nonce and what reads the body.
fn open(
    log: LogId,
    seqno: SeqNo,
    bytes: &Bytes,
    coordinates: u8,
) -> Result<(Nonce, Reader), FormatError> {
    let mut reader = Reader::new(bytes.clone(), FORMAT);
    if reader.raw(MAGIC.len()).ok().as_deref() != Some(&MAGIC) {
        return Err(FormatError::Foreign);
    }
    let format = reader.byte()?;
    if ![FORMAT_1, FORMAT].contains(&format) {
        return Err(FormatError::UnknownFormat(format));
    }
    reader.format = format;
    reader.drop_last(CHECKSUM_BYTES)?;
    let (sealed, stored) = bytes.split_at(bytes.len() - CHECKSUM_BYTES);
    if checksum(log, seqno, sealed).to_le_bytes() != stored {
        return Err(FormatError::Checksum);
    }
    if LogKind::from_code(reader.byte()?) != Some(log.kind) {
        return Err(FormatError::OtherKind);
    }
    let found = reader.byte()?;
    if found != coordinates {
        return Err(FormatError::OtherTime(found));
    }
    let nonce = Nonce::new(reader.id()?);
    Ok((nonce, reader))
}

fn checksum(log: LogId, seqno: SeqNo, bytes: &[u8]) -> u32 {
    let mut checksum = crc32fast::Hasher::new();
    checksum.update(&log.to_bytes());
    checksum.update(&seqno.number().to_be_bytes());
    checksum.update(bytes);
    checksum.finalize()
}

#[cfg(test)]
mod tests;
