//! Figures of a controller, for a Prometheus registry. Their names are documented in `METRICS.md`.

mod census;
mod page;

use std::fmt;
use std::sync::{Arc, Weak};
use std::time::Duration;

use lowwater::{CollectionId, Metrics, Since, Upper};
use prometheus_client::collector::Collector;
use prometheus_client::encoding::DescriptorEncoder;
use prometheus_client::registry::Registry;

use crate::time::ShardTime;

use super::finalizer::FinalizerStats;
use super::{Collections, Inner};

use census::Census;
use page::Page;

/// How far a since lies before an upper, in whatever unit; none where that cannot be said.
pub type Distance<T> = dyn Fn(&Since<T>, &Upper<T>) -> Option<f64> + Send + Sync;

/// How the figures of a controller are told.
#[derive(Clone)]
pub struct MetricsOptions<T> {
    /// How far a since lies before an upper: how much history is kept. Times need not be numbers, so
    /// the embedder says what is meant; see [`MetricsOptions::numbers`].
    pub distance: Arc<Distance<T>>,
    /// How many collections have figures of their own at most: those that keep most history. Over
    /// all of them there is a maximum, so that a hundred thousand collections are no hundred thousand
    /// series.
    pub collections_max: usize,
    /// How long a scrape waits for the owner to count holds; then their number is left out. All else
    /// is read without asking.
    pub within: Duration,
}

impl<T> MetricsOptions<T> {
    /// A hundred collections have figures of their own, and a scrape waits for one second at most.
    pub fn new(
        distance: impl Fn(&Since<T>, &Upper<T>) -> Option<f64> + Send + Sync + 'static,
    ) -> Self {
        MetricsOptions {
            distance: Arc::new(distance),
            collections_max: 100,
            within: Duration::from_secs(1),
        }
    }
}

impl MetricsOptions<u64> {
    /// The distance is the difference. It cannot be said of what is gone, or written to its end.
    pub fn numbers() -> Self {
        MetricsOptions::new(|since: &Since<u64>, upper: &Upper<u64>| {
            let (since, upper) = (since.frontier().as_option()?, upper.frontier().as_option()?);
            Some(upper.saturating_sub(*since) as f64)
        })
    }
}

impl<T> fmt::Debug for MetricsOptions<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("MetricsOptions")
            .field("collections_max", &self.collections_max)
            .field("within", &self.within)
            .finish_non_exhaustive()
    }
}

impl<I: CollectionId, T: ShardTime> Collections<I, T> {
    /// Lets a registry tell the figures of this controller, under the names that `METRICS.md` lists,
    /// behind the registry's own prefix and labels.
    ///
    /// They are read when the registry is encoded, and cost nothing in between: encoding reads what is
    /// published, and asks the owner for the holds of some collections, for which it blocks the thread
    /// for a bounded time. It takes no lock that the owner waits for. The registry keeps nothing
    /// alive: a controller that has gone has no figures.
    pub fn register_metrics(&self, registry: &mut Registry, options: MetricsOptions<T>) {
        let inner = Arc::downgrade(&self.inner);
        registry.register_collector(Box::new(Figures { inner, options }));
    }
}

/// The figures of one controller.
struct Figures<I: CollectionId, T: ShardTime> {
    inner: Weak<Inner<I, T>>,
    options: MetricsOptions<T>,
}

impl<I: CollectionId, T: ShardTime> fmt::Debug for Figures<I, T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Figures")
            .field("options", &self.options)
            .finish_non_exhaustive()
    }
}

impl<I: CollectionId, T: ShardTime> Collector for Figures<I, T> {
    fn encode(&self, encoder: DescriptorEncoder<'_>) -> fmt::Result {
        let Some(inner) = self.inner.upgrade() else {
            return Ok(());
        };
        let collections = Collections { inner };
        let mut page = Page::new(encoder);
        engine(&mut page, &collections.client().metrics())?;
        charge(&mut page, &collections)?;
        let stats = collections.finalizer_stats();
        finalization(&mut page, &stats)?;
        Census::take(&collections, &self.options).encode(&mut page, &stats)
    }
}

fn engine(page: &mut Page<'_>, metrics: &Metrics) -> fmt::Result {
    page.counter(
        "lowwater_turns",
        "Turns that had something to do",
        metrics.turns,
    )?;
    page.counter(
        "lowwater_inputs",
        "Entries taken from the queue",
        metrics.inputs,
    )?;
    page.turns("lowwater_turn_seconds", "How long turns took", metrics)?;
    let idle = metrics.last_turn;
    page.seconds(
        "lowwater_last_turn_seconds",
        "How long ago the last turn began",
        idle,
    )?;
    let depth = metrics.queue_depth as u64;
    page.gauge("lowwater_queue_depth", "Entries in the queue", depth)?;
    let (age, age_max) = (metrics.queue_age, metrics.queue_age_max);
    let help = "How long the oldest entry had waited at most when the last turn began";
    page.seconds("lowwater_queue_age_seconds", help, age)?;
    let help = "The greatest age of the queue so far";
    page.seconds("lowwater_queue_age_max_seconds", help, age_max)?;
    let help = "Collections alive, dropped ones that are still held included";
    page.gauge("lowwater_collections", help, metrics.collections)?;
    let help = "Requests that wait for a collection to come far enough";
    page.gauge("lowwater_waiting", help, metrics.waiting)?;
    page.counter(
        "lowwater_events",
        "What happened without anybody having asked",
        metrics.events,
    )?;
    let downgrades = metrics.downgrades;
    for (name, help, count) in [
        (
            "lowwater_downgrades_wished",
            "Planned sinces that moved",
            downgrades.wished,
        ),
        (
            "lowwater_downgrades_written",
            "Wishes made durable",
            downgrades.written,
        ),
        (
            "lowwater_downgrades_coalesced",
            "Wishes that a later one replaced",
            downgrades.coalesced,
        ),
        (
            "lowwater_downgrades_failed",
            "Wishes asked for in vain",
            downgrades.failed,
        ),
        (
            "lowwater_downgrades_retried",
            "Wishes asked for again",
            downgrades.retried,
        ),
    ] {
        page.counter(name, help, count)?;
    }
    for (name, help, count) in [
        (
            "lowwater_downgrades_waiting",
            "Wishes that wait to be asked for",
            downgrades.waiting,
        ),
        (
            "lowwater_downgrades_in_flight",
            "Wishes asked for, not answered",
            downgrades.in_flight,
        ),
        (
            "lowwater_shards_behind",
            "Shards whose durable since is behind",
            downgrades.behind,
        ),
    ] {
        page.gauge(name, help, count)?;
    }
    Ok(())
}

fn charge<I: CollectionId, T: ShardTime>(
    page: &mut Page<'_>,
    collections: &Collections<I, T>,
) -> fmt::Result {
    let taken = collections.taken_over();
    let is_stopped = collections.client().stopped().is_some();
    let help = "Whether it is in charge of the store: 0 while it only reads, or has stopped";
    let is_in_charge = taken.is_some() && !is_stopped;
    page.gauge("lowwater_in_charge", help, is_in_charge.into())?;
    let epoch = taken.map_or(0, |taken| taken.fence.epoch.number());
    page.gauge(
        "lowwater_epoch",
        "The epoch that it took last; 0 while it only reads",
        epoch,
    )?;
    let help = "Shards whose lease has lapsed at some time, while it only read";
    page.gauge(
        "lowwater_lapsed_shards",
        help,
        collections.lapsed().len() as u64,
    )?;
    let awaited = collections.inner.ledger.lock().kept_shards() as u64;
    let help = "Shards that stay where they are for owners that are not here";
    page.gauge("lowwater_awaited_shards", help, awaited)
}

fn finalization(page: &mut Page<'_>, stats: &FinalizerStats) -> fmt::Result {
    let help = "Shards that are to be finalized";
    let outstanding = stats.outstanding as u64;
    page.gauge("lowwater_finalizations_outstanding", help, outstanding)?;
    let help = "Shards given up by transactions that are not known to have committed";
    let pending = stats.pending_commit as u64;
    page.gauge("lowwater_finalizations_pending_commit", help, pending)?;
    for (name, help, count) in [
        (
            "lowwater_finalizations_started",
            "Tries that were begun",
            stats.started,
        ),
        (
            "lowwater_finalizations_succeeded",
            "Shards that are tombstones",
            stats.succeeded,
        ),
        (
            "lowwater_finalizations_failed",
            "Tries that came to nothing",
            stats.failed,
        ),
    ] {
        page.counter(name, help, count)?;
    }
    Ok(())
}
