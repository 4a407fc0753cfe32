//! Logs that are written and read, from anywhere.

use lowwater::Since;

use super::*;
use crate::id::{Epoch, ReaderId};
use crate::record::SinceRecord;

type Sinces = Log<SinceRecord<u64>>;

const EPOCH: Epoch = Epoch::new(1);

/// A log that its writer has in memory, and the versions that it wrote.
struct Written {
    log: Sinces,
    versions: Vec<Version>,
}

impl Written {
    fn new() -> Self {
        Written {
            log: Log::new(ShardId::new(1)),
            versions: Vec::new(),
        }
    }

    fn write(&mut self, change: Vec<<SinceRecord<u64> as Record>::Change>) -> Option<SeqNo> {
        let proposal = self.log.propose(change);
        let keep_from = proposal.offer.keep_from;
        self.versions.push(Version {
            seqno: proposal.offer.seqno(),
            data: proposal.offer.data.clone(),
        });
        self.log.accept(proposal);
        keep_from
    }

    fn open(&mut self, reader: u128) {
        let record = self.log.record();
        let decided = record.open_critical(ReaderId::new(reader), EPOCH);
        self.write(decided.changes);
    }

    /// Gives what it truncates.
    fn downgrade(&mut self, to: u64) -> Option<SeqNo> {
        let since = Since::at(to);
        let me = ReaderId::new(1);
        let record = self.log.record();
        let decided = record.compare_and_downgrade(me, EPOCH, EPOCH, &since);
        self.write(decided.unwrap().changes)
    }

    fn bytes(&self) -> usize {
        self.versions.iter().map(|version| version.data.len()).sum()
    }
}

#[test]
fn whoever_reads_a_log_from_anywhere_comes_to_the_record_of_its_writer() {
    let mut written = Written::new();
    (1..=20).for_each(|reader| written.open(reader));
    (1..=100).for_each(|to| _ = written.downgrade(to));
    for read_before in 0..=written.versions.len() {
        let mut reader = Sinces::new(ShardId::new(1));
        let (first, rest) = written.versions.split_at(read_before);
        reader.follow(first).unwrap();
        reader.follow(rest).unwrap();
        assert_eq!(reader.record(), written.log.record());
        assert_eq!(reader.seen(), written.log.seen());
        assert_eq!(reader.full, written.log.full);
        assert_eq!(reader.difference_bytes, written.log.difference_bytes);
    }
}

#[test]
fn what_a_downgrade_writes_does_not_grow_with_the_record() {
    let bytes_per_downgrade = |readers| {
        let mut written = Written::new();
        (1..=readers).for_each(|reader| written.open(reader));
        let before = written.bytes();
        (1..=10_000).for_each(|to| _ = written.downgrade(to));
        (written.bytes() - before) / 10_000
    };
    let (few, many) = (bytes_per_downgrade(1), bytes_per_downgrade(1_000));
    assert!(
        many <= 2 * few,
        "{few} bytes with one reader, {many} with a thousand"
    );
}

/// However far the full versions are apart.
#[test]
fn what_was_truncated_is_not_needed() {
    for readers in [1, 5, 300] {
        let mut written = Written::new();
        (1..=readers).for_each(|reader| written.open(reader));
        let (mut truncated, mut versions_max) = (0, 0);
        for to in 1..=600 {
            if let Some(keep_from) = written.downgrade(to) {
                let kept = |version: &Version| version.seqno >= keep_from;
                written.versions.retain(kept);
                truncated += 1;
                versions_max = versions_max.max(written.versions.len());
            }
            let mut reader = Sinces::new(ShardId::new(1));
            reader.follow(&written.versions).unwrap();
            assert_eq!(reader.record(), written.log.record());
        }
        assert!(
            (2..=80).contains(&truncated),
            "{truncated} times, {readers} readers"
        );
        assert!(
            versions_max < 300,
            "{versions_max} versions stay, {readers} readers"
        );
    }
}

#[test]
fn a_version_that_is_missing_is_found_out_and_nothing_is_kept() {
    let mut written = Written::new();
    (1..=20).for_each(|reader| written.open(reader));
    (1..=10).for_each(|to| _ = written.downgrade(to));
    let missing = written.versions.len() - 2;
    assert!(
        SeqNo::new(missing as u64) > written.log.full,
        "differences are at the end"
    );
    written.versions.remove(missing);
    let mut reader = Sinces::new(ShardId::new(1));
    let error = reader.follow(&written.versions).unwrap_err();
    assert_eq!(error.fault, LogFault::Missing);
    assert_eq!(error.seqno, SeqNo::new(missing as u64 + 1));
    assert_eq!(reader.seen(), None);
    assert_eq!(*reader.record(), SinceRecord::initial());
}
