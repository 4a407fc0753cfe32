//! All collections and shards of a controller, counted at a scrape.

use std::cmp::Reverse;
use std::collections::BTreeMap;
use std::fmt;

use lowwater::{CollectionId, Frontiers, ShardId};

use crate::time::ShardTime;

use super::super::finalizer::FinalizerStats;
use super::super::ledger::ShardCensus;
use super::page::Page;
use super::{Collections, MetricsOptions};

/// All collections and shards of a controller.
pub(super) struct Census<I> {
    /// The greatest lags there are.
    planned_max: Option<f64>,
    durable_max: Option<f64>,
    /// Collections with figures of their own.
    shown: Vec<Lag<I>>,
    holds: BTreeMap<I, u64>,
    shards: ShardCensus,
}

/// How much history of a collection is kept.
struct Lag<I> {
    id: I,
    planned: Option<f64>,
    durable: Option<f64>,
}

impl<I> Lag<I> {
    /// The one that counts: more is worse. What cannot be said comes last.
    fn rank(&self) -> Reverse<u64> {
        let lag = self.planned.or(self.durable).unwrap_or(-1.0);
        // The bits of numbers that are not negative are in order.
        Reverse(if lag >= 0.0 { lag.to_bits() + 1 } else { 0 })
    }
}

impl<I: CollectionId> Census<I> {
    pub(super) fn take<T: ShardTime>(
        collections: &Collections<I, T>,
        options: &MetricsOptions<T>,
    ) -> Self {
        let inner = &collections.inner;
        let lag = |id: I| {
            let frontiers = inner.client.collection(id)?.frontiers();
            Some(lag(id, &frontiers, options))
        };
        let ids = collections.active();
        let mut lags: Vec<Lag<I>> = ids.into_iter().filter_map(lag).collect();
        let planned_max = greatest(lags.iter().map(|lag| lag.planned));
        let durable_max = greatest(lags.iter().map(|lag| lag.durable));
        lags.sort_by_key(|lag| (lag.rank(), lag.id));
        lags.truncate(options.collections_max);
        lags.sort_by_key(|lag| lag.id);
        let shown: Vec<I> = lags.iter().map(|lag| lag.id).collect();
        let asked = (!shown.is_empty()).then(|| inner.client.holds(shown.clone()));
        let counted = asked.and_then(|asked| asked.wait_timeout(options.within).ok()?.ok());
        let holds = shown.into_iter().zip(counted.into_iter().flatten());
        let incarnations = inner.ledger.lock().incarnations();
        Census {
            planned_max,
            durable_max,
            shown: lags,
            holds: holds.filter_map(|(id, holds)| Some((id, holds?))).collect(),
            shards: ShardCensus::of(incarnations, |id, key| inner.has(id, key)),
        }
    }

    pub(super) fn encode(&self, page: &mut Page<'_>, stats: &FinalizerStats) -> fmt::Result {
        let help = "The most history that a collection keeps: from its since up to its upper";
        let maxima = [("planned", self.planned_max), ("durable", self.durable_max)];
        let maxima = maxima.map(|(since, lag)| Some(([("since", since)], lag?)));
        page.family("lowwater_since_lag_max", help, maxima.into_iter().flatten())?;
        let help = "History that a collection keeps, of those that keep most";
        let lags = self.shown.iter().flat_map(|shown| {
            let id = shown.id.to_string();
            let both = [("planned", shown.planned), ("durable", shown.durable)];
            both.map(|(since, lag)| {
                let labels = [("collection", id.clone()), ("since", since.to_owned())];
                Some((labels, lag?))
            })
        });
        page.family("lowwater_collection_since_lag", help, lags.flatten())?;
        let help = "Holds on a collection, of those that keep most history";
        let holds = self.holds.iter();
        let holds = holds.map(|(id, holds)| ([("collection", id.to_string())], *holds as f64));
        page.family("lowwater_collection_holds", help, holds)?;
        let is_blocked = |shard: &ShardId| stats.blocked.contains_key(shard);
        let blocked = stats.blocked.len();
        let held = self.shards.held.iter();
        let states = [
            ("open", self.shards.open),
            ("creating", self.shards.creating),
            ("held", held.filter(|shard| !is_blocked(shard)).count()),
            ("unfinalized", stats.outstanding.saturating_sub(blocked)),
            ("blocked", blocked),
        ];
        let states = states.map(|(state, count)| ([("state", state)], count as f64));
        page.family("lowwater_shards", "Shards by what becomes of them", states)
    }
}

fn lag<I, T: ShardTime>(id: I, frontiers: &Frontiers<T>, options: &MetricsOptions<T>) -> Lag<I> {
    let distance = |since| (options.distance)(since, &frontiers.upper);
    let known = |lag: &f64| lag.is_finite();
    Lag {
        id,
        planned: distance(&frontiers.since).filter(known),
        durable: distance(&frontiers.durable_since).filter(known),
    }
}

fn greatest(lags: impl Iterator<Item = Option<f64>>) -> Option<f64> {
    lags.flatten().reduce(f64::max)
}
