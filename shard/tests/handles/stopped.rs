//! What is asked of shards whose runtime has ended.

use std::sync::Arc;

use lowwater::{ShardId, StorageErrorKind};
use lowwater_shard::{Append, AppendError, Settings, Shards};

use crate::world::*;

#[test]
fn each_append_has_its_own_outcome_when_the_runtime_of_the_shards_has_ended() {
    let theirs = tokio::runtime::Builder::new_multi_thread();
    let theirs = { theirs }.worker_threads(1).enable_all().build().unwrap();
    run(async {
        let world = World::new().await;
        let settings = Settings {
            inline_bytes_max: 100,
            ..by_hand()
        };
        let store = Arc::new(world.store.clone());
        let shards = Shards::<u64>::new(theirs.handle(), store, world.parts.clone(), settings);
        let mut writers = Vec::new();
        for id in 0..4 {
            let id = ShardId::new(id);
            writers.push(shards.writer(id, &schema()).await.unwrap());
        }
        theirs.shutdown_background();
        // A part is stored by a task of that runtime; what is small is written by who asks.
        let large: Vec<_> = (0..1_000).map(|row| (row * row, 0, 1)).collect();
        let large = || updates(&large);
        let rows = [large(), updates(&[(1, 0, 1)]), large(), updates(&[])];
        let appends = writers.iter().zip(rows).map(|(writer, updates)| Append {
            writer,
            lower: upper(0),
            upper: upper(1),
            updates,
        });
        let outcomes = shards.append_all(appends.collect()).await;
        let outcomes: Vec<_> = outcomes
            .into_iter()
            .map(|outcome| match outcome {
                Ok(reached) => Ok(reached),
                Err(AppendError::Storage(error)) => Err(error.kind()),
                Err(error) => panic!("{error}"),
            })
            .collect();
        let (done, lost) = (Ok(upper(1)), Err(StorageErrorKind::GiveUp));
        assert_eq!(outcomes, [lost.clone(), done.clone(), lost, done]);
        let looks = world.process::<u64>();
        for (id, reached) in [0, 1, 0, 1].into_iter().enumerate() {
            let id = ShardId::new(id as u128);
            assert_eq!(looks.upper(id).await.unwrap(), upper(reached), "{id}");
        }
        let alone = writers[0]
            .compare_and_append(upper(0), upper(1), large())
            .await;
        assert!(matches!(alone, Err(AppendError::Storage(_))), "{alone:?}");
    });
}
