//! Parts of writers that are slow, while others sweep.

use std::time::Duration;

use lowwater::Upper;
use lowwater_shard::record::{AppendError, Content, DataRecord, NewBatch, Stored};
use lowwater_shard::{CommandError, Log, SchemaId, Transactor};
use proptest::prelude::*;

use crate::world::*;

#[derive(Clone, Debug)]
enum Deed {
    /// A writer begins: its part is stored, and nothing refers to it.
    Begin,
    /// One of those that have begun refers to its part.
    Refer(usize),
    /// One of them dies.
    Die(usize),
    Sweep,
    SweepElsewhere,
    Compact,
    Pass(u64),
}

fn deed() -> impl Strategy<Value = Deed> {
    prop_oneof![
        3 => Just(Deed::Begin),
        3 => any::<usize>().prop_map(Deed::Refer),
        1 => any::<usize>().prop_map(Deed::Die),
        2 => Just(Deed::Sweep),
        2 => Just(Deed::SweepElsewhere),
        1 => Just(Deed::Compact),
        3 => (1..900_u64).prop_map(Deed::Pass),
    ]
}

async fn play(deeds: Vec<Deed>) {
    let world = World::new().await;
    let (mine, theirs) = (
        world.process::<u64>(),
        world.process_with::<u64>(no_inline()),
    );
    let owner = writer(&theirs).await;
    write(&owner, 0, 1).await;
    let transactor = Transactor::new(std::sync::Arc::new(world.store.clone()), None);
    let mut log = Log::<DataRecord<u64>>::new(shard());
    let mut begun: Vec<Stored> = Vec::new();
    for deed in deeds {
        match deed {
            Deed::Begin => {
                transactor.refresh(&mut [&mut log]).await.unwrap();
                let (seen, schema_id) = (log.seen().unwrap(), SchemaId::new(0));
                let rows = updates(&[(1, u64::MAX, 1)]);
                let part = world
                    .parts
                    .write(shard(), seen, schema_id, &schema(), &rows)
                    .await;
                begun.push(part.unwrap());
            }
            Deed::Refer(which) if !begun.is_empty() => {
                let part = begun.swap_remove(which % begun.len());
                let append = |record: &DataRecord<u64>| {
                    let lower = record.upper().clone();
                    let upper = Upper::at(lower.frontier().elements()[0] + 1);
                    let contents = vec![Content::Stored(part.clone())];
                    record.compare_and_append(NewBatch::new(lower, upper, [], contents).unwrap())
                };
                match transactor.carry_out(&mut log, append).await {
                    Ok(_) | Err(CommandError::Refused(AppendError::PartExpired(_))) => {}
                    Err(error) => panic!("{error}"),
                }
            }
            Deed::Die(which) if !begun.is_empty() => {
                begun.swap_remove(which % begun.len());
            }
            Deed::Refer(_) | Deed::Die(_) => {}
            Deed::Sweep => drop(mine.sweep(shard()).await.unwrap()),
            Deed::SweepElsewhere => drop(theirs.sweep(shard()).await.unwrap()),
            Deed::Compact => drop(theirs.compact(shard()).await.unwrap()),
            Deed::Pass(seconds) => skip(Duration::from_secs(seconds)).await,
        }
        transactor.refresh(&mut [&mut log]).await.unwrap();
        let stored = world.parts.list(shard()).await.unwrap();
        for part in log.record().parts() {
            assert!(
                stored.iter().any(|there| there.name == part),
                "{part} is gone"
            );
        }
    }
    // In the end only what is referred to is left.
    for _ in 0..4 {
        skip(Duration::from_secs(601)).await;
        mine.sweep(shard()).await.unwrap();
    }
    transactor.refresh(&mut [&mut log]).await.unwrap();
    let stored = world.parts.list(shard()).await.unwrap();
    assert_eq!(stored.len(), log.record().parts().count());
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    #[test]
    fn what_is_referred_to_is_there_however_slow_its_writer_was(
        deeds in prop::collection::vec(deed(), 1..60),
    ) {
        run(play(deeds));
    }
}
