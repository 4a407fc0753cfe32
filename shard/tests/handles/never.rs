//! Durations that mean "never", or "all the time".

use std::time::Duration;

use lowwater::Since;
use lowwater_shard::{Settings, Upkeep};

use crate::world::*;

#[test]
fn what_is_never_to_be_done_hinders_nothing_else() {
    run(async {
        let world = World::new().await;
        let never = Duration::MAX;
        let mine = world.process_with::<u64>(Settings {
            lease: never,
            part_grace: never,
            downgrade_interval: never,
            upkeep: Upkeep::InBackground { tasks_max: 1 },
            ..Settings::default()
        });
        let writer = writer(&mine).await;
        let leaving = mine.reader(shard()).await.unwrap();
        let reader = mine.reader(shard()).await.unwrap();
        for at in 0..100 {
            write(&writer, at, at + 1).await;
        }
        reader.downgrade_soon(&Since::at(50));
        drop(leaving);
        tokio::time::sleep(Duration::from_secs(60)).await;
        let inspection = mine.inspect(shard()).await.unwrap();
        assert!(inspection.batches < 20, "{}", inspection.batches);
        assert_eq!(inspection.leased.keys().collect::<Vec<_>>(), [&reader.id()]);
        assert_eq!(inspection.since, Since::at(0));
        reader.downgrade(&Since::at(60)).await.unwrap();
        assert_eq!(mine.inspect(shard()).await.unwrap().since, Since::at(60));
    });
}

#[test]
fn what_is_done_all_the_time_leaves_time_for_other_things() {
    run(async {
        let world = World::new().await;
        let mine = world.process_with::<u64>(Settings {
            lease: Duration::ZERO,
            part_grace: Duration::ZERO,
            downgrade_interval: Duration::ZERO,
            upkeep: Upkeep::InBackground { tasks_max: 0 },
            ..Settings::default()
        });
        let writer = writer(&mine).await;
        let reader = mine.reader(shard()).await.unwrap();
        for at in 0..100 {
            write(&writer, at, at + 1).await;
            reader.downgrade_soon(&Since::at(at));
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
        let inspection = mine.inspect(shard()).await.unwrap();
        assert!(inspection.batches < 20, "{}", inspection.batches);
        assert_eq!(inspection.since, Since::at(99));
    });
}
