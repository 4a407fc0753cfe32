//! A collection's updates, indexed and compacted, that can be read as of a time.

use differential_dataflow::consolidation::consolidate;
use differential_dataflow::hashable::Hashable;
use differential_dataflow::lattice::Lattice;
use differential_dataflow::operators::arrange::{Arranged, TraceAgent};
use differential_dataflow::trace::cursor::cursor_list;
use differential_dataflow::trace::implementations::ValSpine;
use differential_dataflow::trace::implementations::spine_fueled::SpineBatch;
use differential_dataflow::trace::{Cursor, TraceReader};
use differential_dataflow::{ExchangeData, VecCollection};
use timely::dataflow::ProbeHandle;
use timely::dataflow::operators::Probe;
use timely::progress::Antichain;
use timely::progress::frontier::AntichainRef;

use crate::minute::Minute;
use crate::outlet::Outlet;
use crate::past::Update;
use crate::row::{Row, Rows};

/// The differences of all collections.
pub type Diff = i64;

/// A trace of pairs by key.
pub type Trace<K, V> = TraceAgent<ValSpine<K, V, Minute, Diff>>;

/// What can be done with the trace of a collection, whatever its rows are.
pub trait Arrangement {
    /// The rows at the time `as_of`.
    ///
    /// They are right if the trace is complete at `as_of` and is not compacted past it; the trace
    /// itself does not check, so that a mistake shows in the answer.
    fn read(&mut self, as_of: Minute) -> Rows;

    /// Gives up what only times that are not beyond `since` could tell apart.
    fn compact(&mut self, since: &Antichain<Minute>);

    /// How far it may have been compacted.
    fn since(&mut self) -> Antichain<Minute>;

    /// How far it is complete.
    fn upper(&mut self) -> Antichain<Minute>;

    /// How many updates it keeps. Some of them may wait for a merge to cancel or forget them.
    fn kept(&self) -> usize;

    /// How many updates are left when all that since permits to forget is forgotten.
    fn needed(&mut self) -> usize;

    /// Takes the updates before the minute `upper` that are still to be written.
    fn take_unwritten(&mut self, upper: Minute) -> Vec<Update>;
}

/// A trace, and how a pair of it becomes a [`Row`].
pub struct Index<K: ExchangeData, V: ExchangeData> {
    trace: Trace<K, V>,
    row: fn(&K, &V) -> Row,
    outlet: Outlet,
}

impl<K: ExchangeData + Hashable, V: ExchangeData> Index<K, V> {
    /// Arranges `collection` under `name`, and has `probe` see how far it has come. What lies before
    /// the minute `written` is not to be written again.
    pub fn build<'scope>(
        collection: VecCollection<'scope, Minute, (K, V), Diff>,
        name: &str,
        written: Minute,
        probe: &ProbeHandle<Minute>,
        row: fn(&K, &V) -> Row,
    ) -> (Self, Arranged<'scope, Trace<K, V>>) {
        let (outlet, collection) = Outlet::attach(collection, written, row);
        let mut arranged = collection.arrange_by_key_named(name);
        arranged.stream = arranged.stream.probe_with(probe);
        (
            Self {
                trace: arranged.trace.clone(),
                row,
                outlet,
            },
            arranged,
        )
    }
}

impl<K: ExchangeData, V: ExchangeData> Index<K, V> {
    /// Shows every pair of key and value with its updates, in ascending order.
    fn walk(&mut self, mut visit: impl FnMut(&K, &V, &mut Vec<(Minute, Diff)>)) {
        let all = self.trace.batches_through(AntichainRef::new(&[]));
        let (mut cursor, batches) = cursor_list(all.expect("every trace can be cut at its end"));
        let mut updates = Vec::new();
        while let Some(key) = cursor.get_key(&batches) {
            while let Some(value) = cursor.get_val(&batches) {
                updates.clear();
                cursor.map_times(&batches, |time, diff| updates.push((*time, *diff)));
                visit(key, value, &mut updates);
                cursor.step_val(&batches);
            }
            cursor.step_key(&batches);
        }
    }
}

impl<K: ExchangeData, V: ExchangeData> Arrangement for Index<K, V> {
    fn read(&mut self, as_of: Minute) -> Rows {
        let (row, mut rows) = (self.row, Vec::new());
        self.walk(|key, value, updates| {
            let count = updates
                .iter()
                .filter(|(time, _)| *time <= as_of)
                .map(|(_, d)| d)
                .sum();
            if count != 0 {
                rows.push((row(key, value), count));
            }
        });
        rows
    }

    fn compact(&mut self, since: &Antichain<Minute>) {
        self.trace.set_logical_compaction(since.borrow());
        // Nobody reads a prefix of the trace through us, so its batches may be merged up to now.
        let upper = self.upper();
        self.trace.set_physical_compaction(upper.borrow());
    }

    fn since(&mut self) -> Antichain<Minute> {
        self.trace.get_logical_compaction().to_owned()
    }

    fn upper(&mut self) -> Antichain<Minute> {
        let mut upper = Antichain::new();
        self.trace.read_upper(&mut upper);
        upper
    }

    fn kept(&self) -> usize {
        let mut kept = 0;
        self.trace
            .map_spans(|span| kept += span.inner.as_ref().map_or(0, SpineBatch::len));
        kept
    }

    fn needed(&mut self) -> usize {
        let (since, mut needed) = (self.since(), 0);
        self.walk(|_, _, updates| {
            for (time, _) in updates.iter_mut() {
                time.advance_by(since.borrow());
            }
            consolidate(updates);
            needed += updates.len();
        });
        needed
    }

    fn take_unwritten(&mut self, upper: Minute) -> Vec<Update> {
        self.outlet.take_before(upper)
    }
}
