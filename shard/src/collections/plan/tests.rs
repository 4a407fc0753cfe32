//! Preparing changes of the catalogue, and how such things went wrong elsewhere.

use super::*;
use crate::metadata::{MemoryMetadata, Transaction};

type Metadata = MemoryMetadata<u64>;

fn shard(number: u128) -> ShardId {
    ShardId::new(number)
}

fn ids<const N: usize>(ids: [u64; N]) -> BTreeSet<u64> {
    BTreeSet::from(ids)
}

fn shards<const N: usize>(numbers: [u128; N]) -> BTreeSet<ShardId> {
    numbers.into_iter().map(shard).collect()
}

/// Shards from this number on.
fn from(mut next: u128) -> impl FnMut() -> ShardId {
    move || {
        next += 1;
        shard(next - 1)
    }
}

fn own<const N: usize>(ids: [u64; N]) -> Vec<(u64, Allotment<u64>)> {
    ids.into_iter().map(|id| (id, Allotment::Own)).collect()
}

fn begin_with(metadata: &Metadata, owned: &[(u64, u128)], unfinalized: &[u128]) {
    let mut transaction = metadata.begin();
    transaction.set_txns_shard(shard(99)).unwrap();
    for (id, of) in owned {
        transaction.own(*id, shard(*of)).unwrap();
    }
    for of in unfinalized {
        transaction.add_unfinalized(shard(*of)).unwrap();
    }
    transaction.commit().unwrap();
}

/// A catalogue of somebody who is not as careful as we are: it lists what it is told to.
struct Careless {
    careful: Transaction<u64, Metadata>,
    listed: BTreeSet<ShardId>,
}

impl MetadataTransaction<u64> for Careless {
    fn shard_of(&self, collection: u64) -> Result<Option<ShardId>, MetadataError> {
        self.careful.shard_of(collection)
    }

    fn owners(&self, shard: ShardId) -> Result<Vec<u64>, MetadataError> {
        self.careful.owners(shard)
    }

    fn owned(&self) -> Result<Vec<(u64, ShardId)>, MetadataError> {
        self.careful.owned()
    }

    fn own(&mut self, collection: u64, shard: ShardId) -> Result<(), MetadataError> {
        self.careful.own(collection, shard)
    }

    fn disown(&mut self, collection: u64) -> Result<Option<ShardId>, MetadataError> {
        self.careful.disown(collection)
    }

    fn unfinalized(&self) -> Result<BTreeSet<ShardId>, MetadataError> {
        Ok(self.listed.clone())
    }

    fn add_unfinalized(&mut self, shard: ShardId) -> Result<(), MetadataError> {
        self.listed.insert(shard);
        Ok(())
    }

    fn remove_unfinalized(&mut self, shard: ShardId) -> Result<(), MetadataError> {
        self.listed.remove(&shard);
        Ok(())
    }

    fn txns_shard(&self) -> Result<Option<ShardId>, MetadataError> {
        self.careful.txns_shard()
    }

    fn set_txns_shard(&mut self, shard: ShardId) -> Result<(), MetadataError> {
        self.careful.set_txns_shard(shard)
    }
}

#[test]
fn the_first_start_allots_a_shard_to_each_and_one_for_transactions() {
    let metadata = Metadata::new();
    let mut transaction = metadata.begin();
    let plan = initialize(&mut transaction, &ids([1, 2]), &ids([]), from(10)).unwrap();
    assert_eq!(plan.allotted, [(1, shard(10)), (2, shard(11))]);
    assert_eq!(plan.txns_shard, Some(shard(12)));
    transaction.commit().unwrap();
    let mut transaction = metadata.begin();
    let again = initialize(&mut transaction, &ids([1, 2]), &ids([]), from(20)).unwrap();
    assert_eq!(again.allotted, []);
    assert_eq!(again.txns_shard, Some(shard(12)));
    assert_eq!(transaction.shard_of(1).unwrap(), Some(shard(10)));
}

#[test]
fn a_start_gives_up_what_was_dropped_and_goes_on_with_what_waited() {
    let metadata = Metadata::new();
    begin_with(&metadata, &[(1, 1), (2, 2)], &[5]);
    let mut transaction = metadata.begin();
    let plan = initialize(&mut transaction, &ids([1]), &ids([2, 3]), from(10)).unwrap();
    assert_eq!(plan.disowned, [(2, shard(2))]);
    assert_eq!(plan.given_up, shards([2]));
    assert_eq!(plan.unfinalized, shards([2, 5]));
    assert_eq!(transaction.shard_of(2).unwrap(), None);
}

#[test]
fn what_exists_and_was_dropped_is_refused() {
    let metadata = Metadata::new();
    let mut transaction = metadata.begin();
    let refused = initialize(&mut transaction, &ids([1, 2]), &ids([2]), from(10)).unwrap_err();
    assert!(matches!(refused, PrepareError::Contradiction(2)));
}

/// The catalogue may be of another place than the metadata: what nobody speaks of is kept.
#[test]
fn a_shard_of_a_collection_that_nobody_speaks_of_is_kept_and_told() {
    let metadata = Metadata::new();
    begin_with(&metadata, &[(1, 1), (7, 7)], &[]);
    let mut transaction = metadata.begin();
    let plan = initialize(&mut transaction, &ids([1]), &ids([]), from(10)).unwrap();
    assert_eq!(plan.strangers, [(7, shard(7))]);
    assert_eq!(plan.given_up, shards([]));
    assert_eq!(transaction.shard_of(7).unwrap(), Some(shard(7)));
}

/// A shard was shared by two collections, and dropping one tombstoned it for both; later a restart
/// lost the link, and a live view was destroyed.
#[test]
fn a_shard_that_two_own_is_given_up_with_the_last_also_after_a_restart() {
    let metadata = Metadata::new();
    begin_with(&metadata, &[(1, 1)], &[]);
    let share = vec![(2, Allotment::Shared(1))];
    let mut transaction = metadata.begin();
    let plan = prepare(&mut transaction, share, &ids([]), &shards([]), from(10)).unwrap();
    assert_eq!(plan.allotted, [(2, shard(1))]);
    transaction.commit().unwrap();
    // Restarted: all that is known is what is committed.
    let mut transaction = metadata.begin();
    let plan = initialize(&mut transaction, &ids([2]), &ids([1]), from(20)).unwrap();
    assert_eq!(plan.disowned, [(1, shard(1))]);
    assert_eq!(plan.kept, [(shard(1), 2)]);
    assert_eq!(plan.given_up, shards([]));
    transaction.commit().unwrap();
    let mut transaction = metadata.begin();
    let plan = prepare(&mut transaction, vec![], &ids([2]), &shards([]), from(30)).unwrap();
    assert_eq!(plan.given_up, shards([1]));
}

#[test]
fn a_shard_that_is_handed_on_in_one_transaction_is_not_given_up() {
    let metadata = Metadata::new();
    begin_with(&metadata, &[(1, 1)], &[]);
    let share = vec![(2, Allotment::Shared(1)), (3, Allotment::Shared(2))];
    let mut transaction = metadata.begin();
    let plan = prepare(&mut transaction, share, &ids([1]), &shards([]), from(10)).unwrap();
    assert_eq!(plan.allotted, [(2, shard(1)), (3, shard(1))]);
    assert_eq!(plan.given_up, shards([]));
    assert_eq!(plan.kept, [(shard(1), 2)]);
    let nobody = vec![(5, Allotment::Shared(4))];
    let refused = prepare(&mut transaction, nobody, &ids([]), &shards([]), from(10));
    let refused = refused.unwrap_err();
    let names = |error| {
        matches!(
            error,
            PrepareError::NothingToShare {
                collection: 5,
                with: 4
            }
        )
    };
    assert!(names(refused));
}

/// A list of shards to release named one that a live collection owned.
#[test]
fn a_shard_that_is_owned_and_waits_to_be_finalized_is_rescued_and_told() {
    let metadata = Metadata::new();
    begin_with(&metadata, &[(1, 1), (2, 2)], &[]);
    let mut careless = Careless {
        careful: metadata.begin(),
        listed: shards([1, 2, 5, 99]),
    };
    let plan = initialize(&mut careless, &ids([1]), &ids([2]), from(10)).unwrap();
    let rescued = [
        (shard(1), vec![1]),
        (shard(2), vec![2]),
        (shard(99), vec![]),
    ];
    assert_eq!(plan.rescued, rescued);
    // That of the one that was dropped is given up for that reason, and for no other.
    assert_eq!(plan.given_up, shards([2]));
    assert_eq!(careless.listed, shards([2, 5]));
    let mut careless = Careless {
        careful: metadata.begin(),
        listed: shards([1, 5]),
    };
    let finalized = shards([1, 5]);
    let plan = prepare(&mut careless, vec![], &ids([]), &finalized, from(10)).unwrap();
    assert_eq!(plan.rescued, [(shard(1), vec![1])]);
    assert_eq!(plan.finalized, shards([5]));
}

/// What was finalized was forgotten when the transaction that said so did not commit.
#[test]
fn what_was_finalized_is_handed_back_until_committed_metadata_no_longer_list_it() {
    let metadata = Metadata::new();
    begin_with(&metadata, &[], &[5, 6]);
    let finalized = shards([5]);
    for _ in 0..3 {
        let mut aborted = metadata.begin();
        let plan = prepare(&mut aborted, vec![], &ids([]), &finalized, from(10)).unwrap();
        assert_eq!(plan.finalized, shards([5]));
        assert_eq!(plan.unfinalized, shards([6]));
    }
    let mut committed = metadata.begin();
    let _ = prepare(&mut committed, vec![], &ids([]), &finalized, from(10)).unwrap();
    committed.commit().unwrap();
    let mut transaction = metadata.begin();
    let plan = prepare(&mut transaction, vec![], &ids([]), &finalized, from(10)).unwrap();
    assert_eq!(plan.finalized, shards([]));
}

#[test]
fn an_id_that_comes_again_gets_a_shard_that_nobody_has_had() {
    let metadata = Metadata::new();
    begin_with(&metadata, &[(1, 1)], &[]);
    let mut transaction = metadata.begin();
    let plan = prepare(&mut transaction, own([1]), &ids([1]), &shards([]), from(10)).unwrap();
    assert_eq!(plan.disowned, [(1, shard(1))]);
    assert_eq!(plan.allotted, [(1, shard(10))]);
    assert_eq!(plan.given_up, shards([1]));
}

#[test]
fn to_prepare_twice_in_one_transaction_changes_nothing_more() {
    let metadata = Metadata::new();
    begin_with(&metadata, &[(1, 1)], &[]);
    let mut transaction = metadata.begin();
    let first = prepare(&mut transaction, own([2]), &ids([1]), &shards([]), from(10)).unwrap();
    let again = prepare(&mut transaction, own([2]), &ids([1]), &shards([]), from(20)).unwrap();
    assert_eq!(first.given_up, shards([1]));
    assert_eq!((again.allotted, again.disowned), (vec![], vec![]));
    assert_eq!(again.unfinalized, shards([1]));
    assert_eq!(transaction.shard_of(2).unwrap(), Some(shard(10)));
}

#[test]
fn a_shard_that_waits_to_be_finalized_is_shared_with_nobody() {
    let metadata = Metadata::new();
    begin_with(&metadata, &[(1, 1)], &[]);
    let mut transaction = metadata.begin();
    let _ = prepare(&mut transaction, vec![], &ids([1]), &shards([]), from(10)).unwrap();
    let share = vec![(2, Allotment::Shared(1))];
    let refused = prepare(&mut transaction, share, &ids([]), &shards([]), from(10)).unwrap_err();
    assert!(matches!(refused, PrepareError::NothingToShare { .. }));
}

/// Its token was dropped, or the answer to its commit was lost: who looks again finds it committed.
#[test]
fn what_has_committed_is_planned_again_with_who_owns_what() {
    let metadata = Metadata::new();
    begin_with(&metadata, &[(1, 1), (4, 4)], &[]);
    let change = |metadata: &Metadata, next| {
        let added = vec![
            (2, Allotment::Own),
            (3, Allotment::Shared(1)),
            (4, Allotment::Own),
        ];
        let mut transaction = metadata.begin();
        let plan = prepare(
            &mut transaction,
            added,
            &ids([1, 4, 5]),
            &shards([]),
            from(next),
        );
        transaction.commit().unwrap();
        plan.unwrap()
    };
    let first = change(&metadata, 10);
    assert_eq!(first.disowned, [(1, shard(1)), (4, shard(4))]);
    let owners = [(2, shard(10)), (3, shard(1)), (4, shard(11))];
    assert_eq!(first.owners, owners);
    assert_eq!(
        (first.allotted, first.ownerless),
        (owners.to_vec(), ids([1, 5]))
    );
    let added = vec![(2, Allotment::Own), (3, Allotment::Shared(1))];
    let mut again = metadata.begin();
    let again = prepare(&mut again, added, &ids([1, 5]), &shards([]), from(20)).unwrap();
    assert_eq!((again.allotted, again.disowned), (vec![], vec![]));
    assert_eq!(again.owners, owners[..2]);
    assert_eq!(again.ownerless, ids([1, 5]));
    assert_eq!(again.unfinalized, shards([4]));
}
