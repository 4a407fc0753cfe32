//! Parts behave the same wherever they are: in memory, in a folder, in S3.
//!
//! For S3 set `LOWWATER_TEST_S3` to a place like `s3://bucket`, and what `Parts::at` takes from the
//! environment; `. .ci/s3` starts a server and sets all of it.

#![expect(clippy::unwrap_used, reason = "what a test does not expect fails it")]
#![expect(clippy::print_stderr, reason = "people are told what was skipped")]

mod parts {
    pub(crate) mod folder;
    pub(crate) mod rows;
    pub(crate) mod suite;
}

use lowwater_shard::Parts;
use parts::suite;

/// A folder, gone when this is dropped, and parts in it.
fn in_a_folder() -> (tempfile::TempDir, Parts) {
    let folder = tempfile::tempdir().unwrap();
    let parts = Parts::folder(folder.path().join("parts")).unwrap();
    (folder, parts)
}

/// Each rule of the suite as a test for each place.
macro_rules! everywhere {
    ($($rule:ident)*) => {
        mod memory {
            $(#[tokio::test] async fn $rule() { crate::suite::$rule(crate::Parts::memory()).await })*
        }
        mod in_folder {
            $(#[tokio::test] async fn $rule() {
                let (_folder, parts) = crate::in_a_folder();
                crate::suite::$rule(parts).await;
            })*
        }
        mod s3 {
            $(#[tokio::test] async fn $rule() {
                if let Some(parts) = crate::in_s3() {
                    crate::suite::$rule(parts).await;
                }
            })*
        }
    };
}

everywhere! {
    what_is_written_is_read_again
    a_part_that_is_not_there_is_missing
    what_was_deleted_is_missing_and_to_delete_twice_does_no_harm
    parts_are_listed_with_when_they_were_begun
    a_shard_is_cleared_without_touching_others
    metadata_tell_the_bounds_of_rows
    a_part_that_is_not_what_the_record_says_is_given_up
    clones_are_of_the_same_place
    updates_of_another_schema_are_refused
    reading_stalls_nobody
}

/// S3, below a prefix that nobody else uses.
fn in_s3() -> Option<Parts> {
    let Ok(place) = std::env::var("LOWWATER_TEST_S3") else {
        assert!(
            std::env::var_os("CI").is_none(),
            "CI needs an S3 server: `. .ci/s3` starts one"
        );
        eprintln!("skipped: no S3 server; `. .ci/s3` starts one and sets LOWWATER_TEST_S3");
        return None;
    };
    let prefix = lowwater_shard::PartId::random();
    Some(Parts::at(&format!("{}/{prefix}", place.trim_end_matches('/'))).unwrap())
}
