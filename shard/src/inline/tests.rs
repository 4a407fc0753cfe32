//! What is written is read again, and nothing else makes a reader panic.

use proptest::prelude::*;

use super::*;
use crate::record::testing::Pair;
use crate::updates::testing::{any_schema, any_updates};

fn comes_back<T: ShardTime>(updates: &Updates<T>, schema: &Schema) {
    let bytes = encode(updates, schema).unwrap();
    assert_eq!(decode(&bytes, schema).as_ref(), Ok(updates));
    let fits = |bytes_max| encode_within(updates, schema, bytes_max).unwrap();
    assert_eq!(fits(bytes.len()), Some(bytes.clone()));
    assert_eq!(fits(bytes.len() - 1), None);
}

proptest! {
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
    fn what_is_cut_short_is_refused((schema, updates) in any_updates::<u64>()) {
        let bytes = encode(&updates, &schema).unwrap();
        for length in 0..bytes.len() {
            prop_assert!(decode::<u64>(&bytes.slice(..length), &schema).is_err());
        }
    }

    #[test]
    fn no_damage_makes_a_reader_panic(
        (schema, updates) in any_updates::<Pair>(),
        edits in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..4),
    ) {
        let mut bytes = encode(&updates, &schema).unwrap().to_vec();
        for (at, byte) in edits {
            let at = at.index(bytes.len());
            bytes[at] = byte;
        }
        let _ = decode::<Pair>(&bytes.into(), &schema);
    }

    #[test]
    fn no_bytes_make_a_reader_panic(
        schema in any_schema(),
        mut bytes in prop::collection::vec(any::<u8>(), 1..100),
    ) {
        bytes[0] = FORM;
        let _ = decode::<u64>(&bytes.into(), &schema);
    }
}

/// As the first release wrote them.
#[test]
fn form_1_is_read_for_ever() {
    let (schema, updates) = crate::updates::testing::each_kind();
    let golden = include_str!("golden_1.txt").trim();
    let written = encode(&updates, &schema).unwrap();
    let hex: String = written.iter().map(|byte| format!("{byte:02x}")).collect();
    assert_eq!(hex, golden);
    assert_eq!(decode(&written, &schema), Ok(updates));
}

#[test]
fn a_form_that_is_not_known_is_refused() {
    let (schema, updates) = crate::updates::testing::each_kind();
    let mut bytes = encode(&updates, &schema).unwrap().to_vec();
    bytes[0] = FORM + 1;
    assert!(decode::<u64>(&bytes.into(), &schema).is_err());
}
