//! A controller with tables that dies at any write: the next one comes to the same end.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Instant;

use lowwater::ShardId;
use lowwater_shard::LogId;
use lowwater_shard::collections::Kind;
use lowwater_shard::consensus::{Consensus, MemoryConsensus};

use super::super::crash::{Mortal, catalogue};
use super::super::world::*;
use super::*;

/// How tables are dropped.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Dropped {
    /// Forgotten at a time, and dropped.
    AtATime,
    /// Dropped like other collections.
    Plainly,
}

/// Where all tables are written up to.
async fn upper(controller: &Controller) -> Option<u64> {
    let tables = controller.collections.tables()?;
    let upper = tables.fetch_upper().await.ok()?;
    upper.frontier().as_option().copied()
}

async fn committed(controller: &Controller, at: u64, writes: &[(u64, i64)]) -> Option<()> {
    if upper(controller).await? > at {
        return Some(());
    }
    let mut transaction = controller.collections.begin().ok()?;
    for (id, value) in writes {
        transaction.write(*id, batch([*value]), vec![1]).unwrap();
    }
    transaction.commit_at(&at).await.ok().map(drop)
}

/// From boot to drop, as far as the process lives; what the table was that was dropped, if it saw it.
async fn live(mortal: &Arc<Mortal>, dropped: Dropped) -> Option<Option<Vec<i64>>> {
    let store: World = Arc::clone(mortal) as World;
    let controller = Controller::try_start(&store).await?;
    let collections = &controller.collections;
    let (existing, _) = catalogue(&controller).await;
    controller
        .try_change(|collections, transaction| {
            collections.initialize(transaction, &existing, &BTreeSet::new())
        })
        .await?;
    collections.open_tables(BTreeSet::new()).await.ok()?;
    if existing.is_empty() {
        controller.try_prepare(&[1, 2], &[]).await?;
    }
    let (existing, _) = catalogue(&controller).await;
    let tables = existing.iter().map(|id| new(*id, Kind::Table)).collect();
    let at = upper(&controller).await?;
    collections.create(Some(at), tables).await.ok()?;
    let mut seen = None;
    if existing.contains(&1) {
        committed(&controller, 100, &[(1, 1), (2, 2)]).await?;
        committed(&controller, 110, &[(1, 3)]).await?;
        let last = upper(&controller).await? - 1;
        let as_of = timely::progress::Antichain::from_elem(last);
        let read = collections.snapshot(1, &as_of).await.ok()?;
        seen = Some(values(&read));
        controller.try_prepare(&[], &[1]).await?;
        match dropped {
            Dropped::AtATime => {
                let at = upper(&controller).await?;
                collections.drop_tables(&at, vec![1]).await.ok()?;
            }
            Dropped::Plainly => collections.drop_collections(vec![1]).await.ok()?,
        }
    }
    let began = Instant::now();
    while collections.finalizer_stats().outstanding > 0 {
        assert!(
            began.elapsed() < WITHIN,
            "{:?}",
            collections.finalizer_stats()
        );
        if mortal.is_dead() {
            return None;
        }
        let at = upper(&controller).await?;
        collections.advance(&at).await.ok()?;
        tokio::time::sleep(std::time::Duration::from_millis(1)).await;
    }
    controller.try_prepare(&[], &[]).await?;
    Some(seen)
}

async fn converges(dropped: Dropped) {
    let mut deaths = 0;
    loop {
        let store = MemoryConsensus::new();
        let dies = live(&Mortal::new(&store, deaths), dropped).await.is_none();
        let immortal = Mortal::new(&store, i64::MAX);
        let seen = live(&immortal, dropped).await;
        let seen = seen.expect("nothing is in its way");
        assert!(
            seen.is_none_or(|seen| seen == [1, 3]),
            "after {deaths} writes"
        );
        let shared: World = Arc::new(store.clone());
        let witness = Controller::try_start(&shared).await.unwrap();
        let (existing, waiting) = catalogue(&witness).await;
        assert_eq!(existing, ids([2]), "after {deaths} writes");
        assert_eq!(waiting, BTreeSet::new(), "after {deaths} writes");
        let _ = witness.initialize(&existing, &ids([])).await;
        let at = upper(&witness).await.unwrap();
        let stays = vec![new(2, Kind::Table)];
        let _ = witness.collections.create(Some(at), stays).await.unwrap();
        assert_eq!(
            read(&witness, 2, at - 1).await,
            [2],
            "after {deaths} writes"
        );
        let tables = witness.collections.tables().unwrap();
        let state = tables.state().await;
        let registered: Vec<ShardId> = state.registered().map(|(id, _)| id).collect();
        assert_eq!(registered, [witness.shard(2)], "after {deaths} writes");
        let txns = tables.txns_shard();
        let (mut buried, mut alive) = (0, 0);
        for log in store.list(None, 100).await.unwrap() {
            if log == LogId::since(log.shard) && log.shard != txns {
                match witness.sinces(log.shard).await.is_buried() {
                    true => buried += 1,
                    false => alive += 1,
                }
            }
        }
        assert_eq!((buried, alive), (1, 1), "after {deaths} writes");
        if !dies {
            break;
        }
        deaths += 1;
    }
    assert!(deaths >= 15, "it has to die more often than {deaths} times");
}

#[test]
fn whenever_a_controller_dies_that_drops_tables_at_a_time_the_next_one_comes_to_the_same_end() {
    run(converges(Dropped::AtATime));
}

#[test]
fn whenever_a_controller_dies_that_drops_tables_like_others_the_next_one_comes_to_the_same_end() {
    run(converges(Dropped::Plainly));
}
