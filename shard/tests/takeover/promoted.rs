//! A controller that only reads is promoted while the older one is stopped, or cut off.

use lowwater::Since;
use lowwater_shard::Parts;
use lowwater_shard::collections::{Collections, Kind};
use lowwater_shard::metadata::StoredMetadata;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;
use tempfile::TempDir;

use super::calls::Call;
use super::newer::goes_on;
use super::older::{new, quick, run, shards, until};
use super::process::{Errand, Process};
use super::proxy::Cut;
use super::records::{Everything, check_parts};
use super::stopping::Place;
use super::store::{Postgres, Store};
use super::wire;

const LEASE: Duration = Duration::from_secs(900);

/// The older one is stopped at the first write of a call.
pub(crate) fn promoted_meanwhile(call: Call, store: &impl Store, place: Place) {
    let parts = TempDir::new().unwrap();
    let mut older = Process::start(&Errand {
        address: &store.address(),
        direct: &store.address(),
        parts: parts.path(),
        call,
        writes: 0,
        place: format!("{place:?}"),
    });
    assert_eq!(older.hear(), "begin");
    let told = format!("{call:?} {place:?}");
    promoted(call, store, parts.path(), &told, &mut older, |older| {
        assert!(older.is_stopped_before_it_is_over());
        Box::new(|older| older.wake())
    });
}

/// The older one is cut off at the first commit of a call.
pub(crate) fn promoted_while_cut_off(call: Call, store: &Postgres, cut: Cut) {
    let parts = TempDir::new().unwrap();
    let (mut older, proxy) = wire::start(store, parts.path(), call);
    let told = format!("{call:?} {cut:?}");
    proxy.cut_after(0, cut);
    promoted(call, store, parts.path(), &told, &mut older, |older| {
        assert!(!wire::is_over_before_it_is_cut_off(older, &proxy));
        Box::new(|older| {
            proxy.mend();
            assert_eq!(older.hear(), "over");
        })
    });
}

/// What wakes the older one.
type Wake<'a> = Box<dyn FnOnce(&Process) + 'a>;

/// `comes_to_rest` waits until the older one does nothing any more, and says how it is woken.
fn promoted<'a>(
    call: Call,
    store: &impl Store,
    parts: &Path,
    told: &str,
    older: &mut Process,
    comes_to_rest: impl FnOnce(&mut Process) -> Wake<'a>,
) {
    run(async {
        let opened = store.open().await;
        let files = Parts::folder(parts).unwrap();
        let follower = shards(Arc::clone(&opened), &files);
        let follower = Collections::<u64, u64>::follow(&follower, quick(), LEASE).unwrap();
        let metadata = StoredMetadata::<u64>::new(Arc::clone(&opened), None);
        follower.observe(&metadata.begin().await.unwrap()).unwrap();
        let batch = vec![new(1, Kind::Compute)];
        let followed = follower.create(None, batch).await.unwrap().remove(0);
        let held = follower.acquire(&[1]).await.unwrap().remove(0);

        older.tell("go on");
        let wake = comes_to_rest(older);
        let taken = follower.promote(None).await.unwrap();
        if call == Call::Downgrade {
            // What is held stays, and what is not held is moved by who is in charge now.
            assert_eq!(held.hold.since(), &Since::at(90));
            drop(held);
            until("the since moves", || {
                followed.durable_since() == Since::at(190)
            })
            .await;
        }
        let before = Everything::in_store(&*opened).await;
        wake(older);
        older.tell(&taken.fence.epoch.to_string());
        older.ends_well();
        let none: Vec<String> = Vec::new();
        let changed = before.changed(&Everything::in_store(&*opened).await);
        assert_eq!(changed, none, "{told}");
        check_parts(store, parts).await;
        assert_eq!(follower.client().stopped(), None);
        follower.stop().await.unwrap();
    });
    run(goes_on(store, parts));
}
