//! What is written is read again, whatever the schema; and nothing else makes a reader panic.

use bytes::Bytes;
use lowwater::ShardId;
use proptest::prelude::*;

use super::file::PartFile;
use super::*;
use crate::record::testing::Pair;
use crate::updates::testing::{any_updates, each_kind};

fn file() -> PartFile {
    PartFile {
        shard: ShardId::new(7),
        name: PartName {
            begun: SeqNo::new(3),
            part: PartId::new(9),
        },
    }
}

/// What the record says about a part of these bytes.
fn stored<T: ShardTime>(updates: &Updates<T>, bytes: &Bytes) -> Stored {
    Stored {
        part: file().name.part,
        begun: file().name.begun,
        schema: SchemaId::new(0),
        updates: updates.len() as u64,
        bytes: bytes.len() as u64,
        checksum: Some(crc32fast::hash(bytes)),
    }
}

fn comes_back<T: ShardTime>(updates: &Updates<T>, schema: &Schema) {
    let bytes = file().encode(updates).unwrap();
    let stored = stored(updates, &bytes);
    let read = file().decode(bytes, &stored, schema);
    assert_eq!(read.as_ref(), Ok(updates));
}

/// Whatever the bytes have become, reading them gives updates or a fault.
fn survives<T: ShardTime>(stored: &Stored, bytes: Bytes, schema: &Schema) {
    let checked = file().decode::<T>(bytes.clone(), stored, schema);
    assert!(checked.is_err(), "damage is found out");
    // As if the record did not know the checksum and the length.
    let unchecked = Stored {
        checksum: None,
        bytes: bytes.len() as u64,
        ..stored.clone()
    };
    let _ = file().decode::<T>(bytes.clone(), &unchecked, schema);
    if let Some(footer) = footer(&bytes) {
        let _ = stats::read::<T>(file(), footer, &unchecked, schema);
    }
}

fn footer(bytes: &[u8]) -> Option<&[u8]> {
    let (rest, trailer) = bytes.split_last_chunk::<8>()?;
    let length = u32::from_le_bytes(*trailer.first_chunk()?) as usize;
    rest.get(rest.len().checked_sub(length)?..)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    #[test]
    fn what_is_written_is_read_again((schema, updates) in any_updates::<u64>()) {
        comes_back(&updates, &schema);
    }

    #[test]
    fn what_is_written_is_read_again_at_times_of_several_coordinates(
        (schema, updates) in any_updates::<Pair>(),
    ) {
        comes_back(&updates, &schema);
    }

    #[test]
    fn no_damage_makes_a_reader_panic(
        (schema, updates) in any_updates::<Pair>(),
        edits in prop::collection::vec((any::<prop::sample::Index>(), 1..=255_u8), 1..4),
    ) {
        let bytes = file().encode(&updates).unwrap();
        let mut damaged = bytes.to_vec();
        for (at, change) in edits {
            let at = at.index(bytes.len());
            damaged[at] ^= change;
        }
        prop_assume!(damaged != bytes);
        survives::<Pair>(&stored(&updates, &bytes), damaged.into(), &schema);
    }
}

#[test]
fn flipped_bits_and_cuts_everywhere_are_faults_and_no_panics() {
    let (schema, updates) = each_kind();
    let bytes = file().encode(&updates).unwrap();
    let stored = stored(&updates, &bytes);
    // Every third byte: each panic that is caught takes its time to be told.
    for at in (0..bytes.len()).step_by(3) {
        let mut damaged = bytes.to_vec();
        damaged[at] ^= 1 << (at % 8);
        survives::<u64>(&stored, damaged.into(), &schema);
    }
    for length in (0..bytes.len()).step_by(16) {
        survives::<u64>(&stored, bytes.slice(..length), &schema);
    }
}

#[test]
fn a_part_of_a_later_format_is_said_to_be_one() {
    let (schema, updates) = each_kind();
    let mut bytes = file().encode(&updates).unwrap().to_vec();
    let key = b"lowwater.format";
    let at = bytes.windows(key.len()).position(|window| window == key);
    // Behind the key: the kind of the next field, its length, and then the format.
    let at = at.unwrap() + key.len() + 2;
    assert_eq!(bytes[at], b'1');
    bytes[at] = b'2';
    let bytes = Bytes::from(bytes);
    let stored = stored(&updates, &bytes);
    let read = file().decode::<u64>(bytes.clone(), &stored, &schema);
    assert_eq!(read, Err(PartFault::UnknownFormat));
    let told = stats::read::<u64>(file(), footer(&bytes).unwrap(), &stored, &schema);
    assert_eq!(told, Err(PartFault::UnknownFormat));
}

/// Of several pages.
fn much_of_each_kind() -> (Schema, Updates<u64>) {
    let (schema, mut updates) = each_kind();
    for _ in 0..15 {
        updates = Updates::concat([updates.clone(), updates], &schema).unwrap();
    }
    (schema, updates)
}

#[test]
fn what_is_much_is_read_again_and_damage_to_it_is_a_fault() {
    let (schema, updates) = much_of_each_kind();
    comes_back(&updates, &schema);
    let bytes = file().encode(&updates).unwrap();
    let stored = stored(&updates, &bytes);
    for at in (0..bytes.len()).step_by(bytes.len() / 40) {
        let mut damaged = bytes.to_vec();
        damaged[at] ^= 0xff;
        survives::<u64>(&stored, damaged.into(), &schema);
    }
}

#[test]
fn a_part_says_that_it_is_consolidated_and_is_believed_if_its_checksum_is_known() {
    let (schema, updates) = each_kind();
    let updates = Updates::concat([updates.clone(), updates], &schema).unwrap();
    let read = |updates: &Updates<u64>, is_checked: bool| {
        let bytes = file().encode(updates).unwrap();
        let mut stored = stored(updates, &bytes);
        if !is_checked {
            stored.checksum = None;
        }
        let read = file().decode::<u64>(bytes, &stored, &schema);
        read.unwrap().is_consolidated()
    };
    assert!(!read(&updates, true));
    let consolidated = updates.consolidate();
    assert!(read(&consolidated, true));
    assert!(!read(&consolidated, false));
}

#[tokio::test]
async fn a_part_that_is_there_is_never_changed() {
    let parts = Parts::memory();
    let PartFile { shard, name } = file();
    let (one, two) = (Bytes::from_static(b"one"), Bytes::from_static(b"two"));
    parts.put(shard, name, one.clone()).await.unwrap();
    // An attempt of ours whose answer was lost, and then somebody else's.
    parts.put(shard, name, one.clone()).await.unwrap();
    let refused = parts.put(shard, name, two).await.unwrap_err();
    let PartError::Unreadable { fault, .. } = refused else {
        panic!("{refused}")
    };
    assert_eq!(fault, PartFault::Foreign);
    assert_eq!(parts.get(shard, name).await.unwrap(), one);
}
