//! All of a shard from a since on.

use lowwater::Since;
use lowwater_shard::{Epoch, ReaderId, SnapshotError};

use crate::world::*;

for_both_times! {
    async fn a_history_is_the_contents_at_the_since_and_all_that_came_after<T: TestTime>() {
        for settings in [by_hand(), no_inline()] {
            let world = World::new().await;
            let shards = world.process_with::<T>(settings);
            let writer = writer(&shards).await;
            let (me, epoch) = (ReaderId::new(1), Epoch::new(1));
            let mut critical = shards.critical(shard(), me, epoch).await.unwrap();
            let none = shards.history(shard(), &Since::minimum()).await.unwrap();
            assert!(none.is_empty());
            write(&writer, 0, 2).await;
            write(&writer, 2, 5).await;
            critical.compare_and_downgrade(epoch, epoch, &Since::at(T::at(2))).await.unwrap();
            shards.compact(shard()).await.unwrap();
            write(&writer, 5, 6).await;
            let reader = world.process::<T>();
            let history = reader.history(shard(), &Since::at(T::at(3))).await.unwrap();
            let at = |row, at| (row, T::at(at), 1);
            let all = [at(0, 3), at(1, 3), at(2, 3), at(3, 3), at(4, 4), at(5, 5)];
            assert_eq!(list(&history), all);
            let forgotten = reader.history(shard(), &Since::at(T::at(1))).await;
            let Err(SnapshotError::TooEarly { since, upper: end }) = forgotten else {
                panic!("{forgotten:?}")
            };
            assert_eq!((since, end), (Since::at(T::at(2)), upper(6)));
        }
    }
}
