//! Records and changes survive being stored, and nothing else passes for one.

use ::bytes::Bytes;
use lowwater::{ShardId, Since, Upper};
use proptest::prelude::*;

use super::*;
use crate::id::{BatchId, Epoch, PartId, ReaderId, SchemaId};
use crate::record::testing::*;
use crate::record::{Content, DataRecord, Inline, NewBatch, SinceRecord, Stored};
use crate::record::{MetadataDraft, MetadataRecord, StoredName};
use crate::schema::{Column, ColumnKind, Schema};

fn shard() -> ShardId {
    ShardId::new(7)
}
const NONCE: Nonce = Nonce::new(0xfeed);

fn ok<D>(decision: D) -> Result<D, std::convert::Infallible> {
    Ok(decision)
}

/// The versions of a log, and the record that they lead to: every change occurs.
struct Story<R: Format> {
    log: LogId,
    bodies: Vec<Body<R>>,
    record: R,
}

impl<R: Format> Story<R> {
    fn new(shard: ShardId) -> Self {
        Story {
            log: LogId {
                shard,
                kind: R::KIND,
            },
            bodies: Vec::new(),
            record: R::initial(),
        }
    }

    fn then<O, E: std::fmt::Debug>(
        &mut self,
        command: impl FnOnce(&R) -> Result<crate::record::Decision<R::Change, O>, E>,
    ) {
        let changes = command(&self.record).unwrap().changes;
        let seqno = SeqNo::new(self.bodies.len() as u64 + 1);
        for change in &changes {
            self.record.apply(change, seqno).unwrap();
        }
        self.bodies.push(Body::Difference(changes));
        self.bodies.push(Body::Full(self.record.clone()));
    }

    fn encoded(&self) -> Vec<(SeqNo, Bytes)> {
        let numbered = (1..).map(SeqNo::new).zip(&self.bodies);
        numbered
            .map(|(seqno, body)| (seqno, encode(self.log, seqno, NONCE, body)))
            .collect()
    }
}

fn sinces<T: TestTime>() -> Story<SinceRecord<T>> {
    let (me, epoch) = (ReaderId::new(1), Epoch::new(300));
    let mut story = Story::new(shard());
    story.then(|record: &SinceRecord<T>| ok(record.open_critical(me, epoch)));
    story.then(|record| record.register_leased(LEASED, 900_000, SeqNo::new(4)));
    story.then(|record| record.compare_and_downgrade(me, epoch, epoch, &since(1_000)));
    story.then(|record| record.downgrade_leased(LEASED, &since(500), SeqNo::new(5)));
    story.then(|record| ok(record.expire(&[(LEASED, 1)])));
    story.then(|record| record.compare_and_downgrade(me, epoch, epoch, &Since::gone()));
    story.then(SinceRecord::bury);
    story
}

/// As format 1 tells it: when a part was begun, and its checksum, are not there.
fn data_1<T: TestTime>() -> Story<DataRecord<T>> {
    data_of(SeqNo::FIRST, None)
}

fn data<T: TestTime>() -> Story<DataRecord<T>> {
    data_of(SeqNo::new(300), Some(0xdead_beef))
}

fn data_of<T: TestTime>(begun: SeqNo, checksum: Option<u32>) -> Story<DataRecord<T>> {
    let column = |name: &str, kind, nullable| Column {
        name: name.to_owned(),
        kind,
        nullable,
    };
    let columns = vec![
        column("origin", ColumnKind::Text, false),
        column("délai", ColumnKind::Float64, true),
    ];
    let schema = Schema::new(columns).unwrap();
    let inline = Content::Inline(Inline {
        schema: SchemaId::new(0),
        updates: 3,
        bytes: Bytes::from_static(b"some rows"),
    });
    let stored = Content::Stored(Stored {
        part: PartId::new(9),
        begun,
        schema: SchemaId::new(0),
        updates: 1_000_000,
        bytes: 70_000,
        checksum,
    });
    let batch = |from, to: Upper<T>, content: &Content| {
        NewBatch::new(upper(from), to, &[T::at(from)], vec![content.clone()]).unwrap()
    };
    let mut story = Story::new(shard());
    let (first, last) = (BatchId::new(0), BatchId::new(1));
    let gone = Since::gone();
    story.then(|record: &DataRecord<T>| record.register_schema(&schema));
    story.then(|record| record.compare_and_append(batch(0, upper(200), &inline)));
    story.then(|record| record.compare_and_append(batch(200, upper(300), &stored)));
    story.then(|record| record.compact(first, last, since(150), vec![inline.clone()]));
    story.then(|record| record.compare_and_append(batch(300, Upper::sealed(), &stored)));
    if checksum.is_some() {
        story.then(|record| ok(record.raise_floor(SeqNo::new(2))));
    }
    story.then(|record| record.empty(1, &gone));
    story.then(|record| ok(record.swept(&[PartId::new(9)])));
    story.then(|record| record.empty(1, &gone));
    story.then(|record| ok(record.swept(&[PartId::new(9)])));
    story.then(DataRecord::bury);
    story
}

fn metadata() -> Story<MetadataRecord> {
    let name = |number: u64| StoredName::from(number.to_be_bytes());
    let mut story = Story::new(LogId::metadata().shard);
    let mut change = |edit: &dyn Fn(&mut MetadataDraft)| {
        story.then(|record: &MetadataRecord| {
            let mut draft = record.draft();
            edit(&mut draft);
            let (seen, changes) = draft.finish();
            record.commit(seen, &changes)
        });
    };
    change(&|draft| {
        draft.own(name(1), ShardId::new(1)).unwrap();
        draft.own(name(300), ShardId::new(1)).unwrap();
        draft.set_txns_shard(ShardId::new(9)).unwrap();
    });
    change(&|draft| {
        draft.disown(&name(1));
        draft.disown(&name(300));
        draft.list(ShardId::new(1)).unwrap();
    });
    change(&|draft| draft.strike(ShardId::new(1)));
    story
}

fn comes_back<R: Format>(story: &Story<R>) {
    for ((seqno, bytes), body) in story.encoded().iter().zip(&story.bodies) {
        let read = decode::<R>(story.log, *seqno, bytes);
        assert_eq!(read, Ok((NONCE, body.clone())));
        assert_eq!(nonce::<R>(story.log, *seqno, bytes), Ok(NONCE));
    }
}

for_both_times! {
    fn every_change_and_record_comes_back_as_it_was_stored<T: TestTime>() {
        comes_back(&sinces::<T>());
        comes_back(&data::<T>());
    }

    fn every_version_cut_short_is_refused<T: TestTime>() {
        let story = data::<T>();
        for (seqno, bytes) in story.encoded() {
            for length in 0..bytes.len() {
                let cut = bytes.slice(..length);
                assert!(decode::<DataRecord<T>>(story.log, seqno, &cut).is_err());
            }
        }
    }

    fn every_flipped_bit_is_found_out<T: TestTime>() {
        let story = sinces::<T>();
        for (seqno, bytes) in story.encoded() {
            for bit in 0..bytes.len() * 8 {
                let mut damaged = bytes.to_vec();
                damaged[bit / 8] ^= 1 << (bit % 8);
                let read = decode::<SinceRecord<T>>(story.log, seqno, &damaged.into());
                assert!(read.is_err(), "bit {bit} of version {seqno}");
            }
        }
    }
}

#[test]
fn a_version_in_the_wrong_place_is_found_out() {
    let story = sinces::<u64>();
    let (seqno, bytes) = story.encoded().remove(0);
    let elsewhere = LogId::since(ShardId::new(8));
    let read = |log, seqno| decode::<SinceRecord<u64>>(log, seqno, &bytes).unwrap_err();
    assert_eq!(read(elsewhere, seqno), FormatError::Checksum);
    assert_eq!(read(story.log, seqno.next()), FormatError::Checksum);
}

#[test]
fn foreign_bytes_later_formats_and_other_times_are_told_apart() {
    let story = sinces::<u64>();
    let (seqno, bytes) = story.encoded().remove(0);
    let read = |bytes: Bytes| decode::<SinceRecord<u64>>(story.log, seqno, &bytes).unwrap_err();
    assert_eq!(
        read(Bytes::from_static(b"SQLite format 3")),
        FormatError::Foreign
    );
    assert_eq!(read(Bytes::new()), FormatError::Foreign);
    let mut later = bytes.to_vec();
    later[4] = 3;
    assert_eq!(read(later.into()), FormatError::UnknownFormat(3));
    let other = decode::<SinceRecord<Pair>>(story.log, seqno, &bytes).unwrap_err();
    assert_eq!(other, FormatError::OtherTime(1));
}

#[test]
fn a_sound_version_that_no_record_can_be_is_refused() {
    let log = LogId::since(shard());
    let mut writer = Writer::new();
    writer.raw(&MAGIC);
    writer.raw(&[FORMAT, 1, 1]);
    writer.id(0);
    writer.raw(&[FULL]);
    // The since is `{5}`, and a tombstone at the same time.
    writer.raw(&[1, 5, 0, 0, 1]);
    let sum = checksum(log, SeqNo::FIRST, writer.written());
    writer.raw(&sum.to_le_bytes());
    let read = decode::<SinceRecord<u64>>(log, SeqNo::FIRST, &writer.finish());
    assert!(matches!(read, Err(FormatError::Misfit(_))), "{read:?}");
}

/// Seals damaged bytes again, so that the checksum does not stand in front of what reads the body.
fn resealed(log: LogId, seqno: SeqNo, mut bytes: Vec<u8>) -> Bytes {
    let at = bytes.len() - CHECKSUM_BYTES;
    let sum = checksum(log, seqno, &bytes[..at]);
    bytes[at..].copy_from_slice(&sum.to_le_bytes());
    bytes.into()
}

fn survives<R: Format>(story: &Story<R>, which: usize, edits: &[(usize, u8)]) {
    let mut encoded = story.encoded();
    let (seqno, bytes) = encoded.swap_remove(which % encoded.len());
    let mut bytes = bytes.to_vec();
    for &(at, byte) in edits {
        // Behind magic and format, where the reader would stop at once.
        let at = 5 + at % (bytes.len() - 5);
        bytes[at] = byte;
    }
    let Ok((_, body)) = decode::<R>(story.log, seqno, &resealed(story.log, seqno, bytes)) else {
        return;
    };
    // What passes for a version must not break those that rely on it either.
    let mut records = vec![R::initial(), story.record.clone()];
    records.extend(story.bodies.iter().filter_map(|body| match body {
        Body::Full(record) => Some(record.clone()),
        Body::Difference(_) => None,
    }));
    match body {
        Body::Full(mut record) => {
            for body in &story.bodies {
                if let Body::Difference(changes) = body {
                    let _ = changes
                        .iter()
                        .try_for_each(|change| record.apply(change, seqno));
                }
            }
        }
        Body::Difference(changes) => {
            for mut record in records {
                let _ = changes
                    .iter()
                    .try_for_each(|change| record.apply(change, seqno));
            }
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(4096))]

    #[test]
    fn no_damage_makes_a_reader_panic(
        which in any::<usize>(),
        edits in prop::collection::vec((any::<usize>(), any::<u8>()), 1..6),
    ) {
        survives(&sinces::<u64>(), which, &edits);
        survives(&sinces::<Pair>(), which, &edits);
        survives(&data::<u64>(), which, &edits);
        survives(&data::<Pair>(), which, &edits);
        survives(&metadata(), which, &edits);
    }

    #[test]
    fn no_bytes_make_a_reader_panic(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
        let log = LogId::data(shard());
        let mut sealed = MAGIC.to_vec();
        sealed.extend([FORMAT, 2, 1]);
        sealed.extend([0; 16]);
        sealed.extend(bytes);
        sealed.extend([0; CHECKSUM_BYTES]);
        let sealed = resealed(log, SeqNo::FIRST, sealed);
        let _ = decode::<DataRecord<u64>>(log, SeqNo::FIRST, &sealed);
    }
}

/// A version as it was written down.
fn stored_version(line: &str) -> Bytes {
    let byte = |at| u8::from_str_radix(&line[at..at + 2], 16).unwrap();
    (0..line.len()).step_by(2).map(byte).collect()
}

fn is_read_from<'a, R: Format>(story: &Story<R>, golden: &mut impl Iterator<Item = &'a str>) {
    for (number, body) in (1..).zip(&story.bodies) {
        let stored = stored_version(golden.next().unwrap_or_default());
        let read = decode(story.log, SeqNo::new(number), &stored);
        assert_eq!(read, Ok((NONCE, body.clone())));
    }
}

/// Versions as the first release wrote them. These bytes are never changed: what is stored stays
/// readable. A new format gets bytes of its own beside them.
#[test]
fn format_1_is_read_for_ever() {
    let mut golden = include_str!("golden_1.txt").lines();
    is_read_from(&sinces::<u64>(), &mut golden);
    is_read_from(&data_1::<Pair>(), &mut golden);
    assert_eq!(golden.next(), None);
}

/// What is written today is what these bytes say; they are never changed either.
#[test]
fn format_2_is_written_and_read_for_ever() {
    let mut golden = include_str!("golden_2.txt").lines();
    is_read_from(&sinces::<u64>(), &mut golden);
    is_read_from(&data::<Pair>(), &mut golden);
    assert_eq!(golden.next(), None);
    let written = [sinces::<u64>().encoded(), data::<Pair>().encoded()].concat();
    let golden = include_str!("golden_2.txt").lines().map(stored_version);
    assert!(golden.eq(written.into_iter().map(|(_, bytes)| bytes)));
}

#[test]
fn metadata_are_written_and_read_for_ever() {
    let story = metadata();
    let mut golden = include_str!("golden_metadata_2.txt").lines();
    is_read_from(&story, &mut golden);
    assert_eq!(golden.next(), None);
    let golden = include_str!("golden_metadata_2.txt").lines();
    let written = story.encoded().into_iter().map(|(_, bytes)| bytes);
    assert!(golden.map(stored_version).eq(written));
}

#[test]
fn metadata_come_back_and_damage_of_them_is_found_out() {
    let story = metadata();
    comes_back(&story);
    for (seqno, bytes) in story.encoded() {
        for bit in 0..bytes.len() * 8 {
            let mut damaged = bytes.to_vec();
            damaged[bit / 8] ^= 1 << (bit % 8);
            let read = decode::<MetadataRecord>(story.log, seqno, &damaged.into());
            assert!(read.is_err(), "bit {bit} of version {seqno}");
        }
    }
}

#[test]
fn a_log_of_format_1_goes_on_in_the_format_of_today() {
    let (sinces, story) = (sinces::<u64>().bodies.len(), data_1::<Pair>());
    let seqno = SeqNo::new(6);
    let line = include_str!("golden_1.txt").lines().nth(sinces + 5);
    let mut versions = vec![crate::consensus::Version {
        seqno,
        data: stored_version(line.unwrap()),
    }];
    let mut writer = crate::Log::<DataRecord<Pair>>::new(story.log.shard);
    writer.follow(&versions).unwrap();
    assert_eq!(Body::Full(writer.record().clone()), story.bodies[5]);
    for floor in [SeqNo::new(5), seqno] {
        let proposal = writer.propose(writer.record().raise_floor(floor).changes);
        versions.push(crate::consensus::Version {
            seqno: proposal.offer.seqno(),
            data: proposal.offer.data.clone(),
        });
        writer.accept(proposal);
    }
    let mut reader = crate::Log::<DataRecord<Pair>>::new(story.log.shard);
    reader.follow(&versions).unwrap();
    assert_eq!(reader.record(), writer.record());
    assert_eq!(reader.record().floor(), seqno);
}
