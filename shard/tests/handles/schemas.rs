//! Schemas of writers: registered with the first write, evolved by adding nullable columns.

use std::sync::Arc;

use arrow::array::{ArrayRef, Int64Array, RecordBatch};
use lowwater::Since;
use lowwater_shard::record::DataRecord;
use lowwater_shard::{
    AppendError, Column, ColumnKind, Log, Schema, Transactor, Updates, Writer, WriterError,
};

use crate::upkeep::move_critical;
use crate::world::*;

fn column(name: &str, nullable: bool) -> Column {
    Column {
        name: name.to_owned(),
        kind: ColumnKind::Int64,
        nullable,
    }
}

/// The rows of the other tests, and a column more.
fn wider(name: &str) -> Schema {
    Schema::new(vec![column("row", false), column(name, true)]).unwrap()
}

fn wide<T: TestTime>(of: &[(i64, Option<i64>, u64)]) -> Updates<T> {
    let rows = Int64Array::from_iter_values(of.iter().map(|(row, _, _)| *row));
    let more = Int64Array::from_iter(of.iter().map(|(_, more, _)| *more));
    let columns: Vec<ArrayRef> = vec![Arc::new(rows), Arc::new(more)];
    let rows = RecordBatch::try_new(wider("more").arrow(), columns).unwrap();
    let times = of.iter().map(|(_, _, at)| T::at(*at)).collect();
    Updates::new(rows, times, vec![1; of.len()]).unwrap()
}

fn rows<T: TestTime>(updates: &Updates<T>) -> Vec<(i64, Option<i64>)> {
    let column = |at: usize| {
        let column = updates.rows().column(at).as_any();
        column.downcast_ref::<Int64Array>().unwrap().iter()
    };
    let mut rows: Vec<_> = column(0).flatten().zip(column(1)).collect();
    rows.sort_unstable();
    rows
}

/// The data of the shard: how many schemas, and whether anything was ever written.
async fn registered<T: TestTime>(world: &World) -> (usize, bool) {
    let mut log = Log::<DataRecord<T>>::new(shard());
    let reads = Transactor::new(Arc::new(world.store.clone()), None);
    let read = reads.refresh(&mut [&mut log]).await.unwrap();
    read.into_iter().for_each(Result::unwrap);
    (log.record().schemas().len(), log.seen().is_some())
}

async fn write_wide<T: TestTime>(writer: &Writer<T>, at: u64, rows: &[(i64, Option<i64>, u64)]) {
    writer
        .compare_and_append(upper(at), upper(at + 1), wide(rows))
        .await
        .unwrap();
}

on_all_stores! {
    async fn a_writer_writes_nothing_and_the_first_append_registers_its_schema<T: TestTime>() {
        let world = World::new().await;
        let shards = world.process::<T>();
        let narrow = writer(&shards).await;
        assert_eq!(registered::<T>(&world).await, (0, false));
        write(&narrow, 0, 1).await;
        assert_eq!(registered::<T>(&world).await, (1, true));
        let wide = shards.writer(shard(), &wider("more")).await.unwrap();
        assert_eq!(registered::<T>(&world).await, (1, true));
        write_wide(&wide, 1, &[(7, Some(8), 1)]).await;
        assert_eq!(registered::<T>(&world).await, (2, true));
    }

    async fn a_schema_that_evolves_none_of_the_shard_is_refused<T: TestTime>() {
        let world = World::new().await;
        let (mine, theirs) = (world.process::<T>(), world.process::<T>());
        // Both fit a shard that nobody has written; the second does not fit what the first wrote.
        let (fits, late) = (writer(&mine).await, theirs.writer(shard(), &wider("other")).await);
        let late = late.unwrap();
        write(&fits, 0, 1).await;
        let more = mine.writer(shard(), &wider("more")).await.unwrap();
        write_wide(&more, 1, &[]).await;
        write_wide(&more, 2, &[(1, None, 2)]).await;
        let refused = theirs.writer(shard(), &wider("other")).await;
        let Err(WriterError::Schema(refused)) = refused else { panic!("{refused:?}") };
        assert_eq!(refused.latest, wider("more"));
        let none = Updates::empty(&wider("other"));
        let refused = late.compare_and_append(upper(3), upper(4), none).await;
        let Err(AppendError::Schema(refused)) = refused else { panic!("{refused:?}") };
        assert_eq!(refused.latest, wider("more"));
        // The older one is still known.
        write(&fits, 3, 4).await;
    }

    async fn old_rows_have_nulls_in_a_column_that_was_added<T: TestTime>() {
        for settings in [by_hand(), no_inline()] {
            let world = World::new().await;
            let (mine, theirs) = (world.process_with::<T>(settings), world.process::<T>());
            move_critical(&mine, Since::minimum()).await;
            let narrow = writer(&mine).await;
            write(&narrow, 0, 2).await;
            let mut subscription = theirs.reader(shard()).await.unwrap().subscribe(as_of(0));
            let first = subscription.next().await.unwrap().unwrap();
            assert_eq!(list(&first.updates), [(0, T::at(0), 1)]);
            let wide = mine.writer(shard(), &wider("more")).await.unwrap();
            write_wide(&wide, 2, &[(2, Some(20), 2), (3, None, 2)]).await;
            write(&narrow, 3, 4).await;
            let all = [(0, None), (1, None), (2, Some(20)), (3, None), (3, None)];
            let read = theirs.snapshot(shard(), &as_of(3)).await.unwrap();
            assert_eq!(rows(&read), all[..4].to_vec(), "two equal ones are added up");
            assert_eq!(read.diffs().iter().sum::<i64>(), 5);
            let told = subscription.next().await.unwrap().unwrap();
            assert_eq!(rows(&told.updates), all[1..].to_vec());
            move_critical(&mine, Since::at(T::at(3))).await;
            mine.compact(shard()).await.unwrap();
            assert_eq!(mine.inspect(shard()).await.unwrap().batches, 1);
            let read = theirs.snapshot(shard(), &as_of(3)).await.unwrap();
            assert_eq!(rows(&read), all[..4].to_vec());
        }
    }
}
