//! What a collection takes.

use crate::job::populated;
use crate::job::resident::taken_by;
use crate::report::{Goal, Row};
use crate::sample::Scale;
use crate::side::Side;
use crate::workload;

/// So many that what the first one brings with it does not show.
const COLLECTIONS: u64 = 200_000;

/// Both stay until both are measured. Ours keeps a handle of each collection; the baseline knows
/// them by id, and needs none.
pub(super) fn measure<Ours: Side, Baseline: Side>(scale: Scale) -> Row {
    let len = scale.collections(COLLECTIONS);
    let (ours, _ours) = taken_by(|| {
        let side: Ours = populated(workload::chain(len));
        let handles: Vec<Ours::Handle> = (0..len).map(|id| side.handle(id)).collect();
        (side, handles)
    });
    let (baseline, _baseline) = taken_by(|| populated::<Baseline>(workload::chain(len)));
    let each = |bytes: Option<u64>| bytes.map(|bytes| bytes as f64 / len as f64);
    Row::bytes("memory_per_collection", each(ours), each(baseline)).goal(Goal {
        text: "≤ 512 bytes with one dependency and a u64 time, handle and pin word included \
               (resident memory)",
        at_most: Some(512.0),
        ..Goal::default()
    })
}
