//! Figures of a controller, as a scrape tells them.

use std::collections::BTreeSet;
use std::time::Duration;

use lowwater_shard::collections::{Collections, MetricsOptions};
use prometheus_client::encoding::text::encode;
use prometheus_client::registry::Registry;

use super::world::*;

fn registry(collections: &Collections<u64, u64>, options: MetricsOptions<u64>) -> Registry {
    let mut registry = Registry::default();
    collections.register_metrics(&mut registry, options);
    registry
}

fn scrape(registry: &Registry) -> String {
    let mut text = String::new();
    encode(&mut text, registry).unwrap();
    text
}

/// The value of a series, as it stands in the text.
fn value(text: &str, series: &str) -> Option<f64> {
    let of_series = |line: &str| line.strip_prefix(series)?.strip_prefix(' ')?.parse().ok();
    text.lines().find_map(of_series)
}

/// Names and kinds, as `# TYPE` lines say them; counters with the end that their samples have.
fn encoded_names(text: &str) -> BTreeSet<String> {
    let types = text.lines().filter_map(|line| line.strip_prefix("# TYPE "));
    let name = |line: &str| match line.split_once(' ').unwrap() {
        (name, "counter") => format!("{name}_total counter"),
        (name, kind) => format!("{name} {kind}"),
    };
    types.map(name).collect()
}

fn documented_names() -> BTreeSet<String> {
    let rows = include_str!("../../METRICS.md").lines();
    let rows = rows.filter_map(|line| line.strip_prefix("| `lowwater_"));
    let name = |row: &str| {
        let (name, rest) = row.split_once("` | ").unwrap();
        let (kind, _) = rest.split_once(" | ").unwrap();
        format!("lowwater_{name} {kind}")
    };
    rows.map(name).collect()
}

#[test]
fn the_names_that_are_documented_are_those_that_are_told() {
    run(on_each(|store| async move {
        let controller = Controller::start(&store, &ids([]), &ids([])).await;
        controller.create(&[1]).await;
        let registry = registry(&controller.collections, MetricsOptions::numbers());
        assert_eq!(encoded_names(&scrape(&registry)), documented_names());
    }));
}

#[test]
fn a_scrape_tells_lags_holds_wishes_and_what_becomes_of_shards() {
    run(on_each(|store| async move {
        let controller = Controller::start(&store, &ids([]), &ids([])).await;
        controller.create(&[1, 2, 3]).await;
        let collections = &controller.collections;
        let registry = registry(collections, MetricsOptions::numbers());
        let (shard, given_up) = (controller.shard(1), controller.shard(3));
        controller.write(shard, 100).await;
        let handle = collections.client().collection(1).unwrap();
        handle.wait_for_since_past([89]).await.unwrap();
        let mut held = collections.acquire(&[1, 1, 3]).await.unwrap();
        controller.write(shard, 200).await;
        handle.wait_for_upper_past([199]).await.unwrap();
        held[1].hold.downgrade(lowwater::Since::at(150)).unwrap();
        let _ = controller.prepare(&[], &[3]).await;
        collections.drop_collections(vec![3]).await.unwrap();
        controller.until(|stats| !stats.blocked.is_empty()).await;
        comes_true("the since is durable", async || {
            collections.client().metrics().downgrades.behind == 0
        })
        .await;
        collections.client().sync().await.unwrap();

        let text = scrape(&registry);
        let told = |series: &str| value(&text, series);
        let lag = "lowwater_collection_since_lag";
        let planned = format!("{lag}{{collection=\"1\",since=\"planned\"}}");
        assert_eq!(told(&planned), Some(110.0), "{text}");
        let durable = format!("{lag}{{collection=\"1\",since=\"durable\"}}");
        assert_eq!(told(&durable), Some(110.0), "{text}");
        let max = "lowwater_since_lag_max{since=\"planned\"}";
        assert_eq!(told(max), Some(110.0), "{text}");
        let holds = |id: u64| told(&format!("lowwater_collection_holds{{collection=\"{id}\"}}"));
        assert_eq!((holds(1), holds(2)), (Some(2.0), Some(0.0)), "{text}");
        let shards = |state: &str| told(&format!("lowwater_shards{{state=\"{state}\"}}"));
        assert_eq!(shards("open"), Some(2.0), "{text}");
        assert_eq!(shards("blocked"), Some(1.0), "{text}");
        assert_eq!(told("lowwater_finalizations_outstanding"), Some(1.0));
        assert_eq!(told("lowwater_in_charge"), Some(1.0));
        assert_eq!(told("lowwater_queue_depth"), Some(0.0));
        assert!(told("lowwater_downgrades_written_total").unwrap() >= 1.0);
        let turns = told("lowwater_turns_total").unwrap();
        assert!(turns >= 1.0);
        let all = told("lowwater_turn_seconds_bucket{le=\"+Inf\"}").unwrap();
        assert_eq!(told("lowwater_turn_seconds_count"), Some(all));

        drop(held);
        controller.until(|stats| stats.succeeded == 1).await;
        assert!(controller.sinces(given_up).await.is_buried());
        let text = scrape(&registry);
        let told = |series: &str| value(&text, series);
        assert_eq!(told("lowwater_finalizations_succeeded_total"), Some(1.0));
        let stats = collections.finalizer_stats();
        let (started, failed) = (stats.started as f64, stats.failed as f64);
        assert!(failed >= 1.0);
        assert_eq!(told("lowwater_finalizations_started_total"), Some(started));
        assert_eq!(told("lowwater_finalizations_failed_total"), Some(failed));
        assert_eq!(told("lowwater_shards{state=\"blocked\"}"), Some(0.0));
    }));
}

#[test]
fn wishes_that_wait_and_shards_that_are_left_are_told_one_by_one() {
    run(on_each(|store| async move {
        let mut start = quick();
        // The first wish is written at once, and all others wait.
        start.engine.downgrade_interval = Duration::from_secs(3_600);
        start.finalization = off();
        let controller = Controller::start_with(&store, start).await;
        let _ = controller.initialize(&ids([]), &ids([])).await;
        controller.create(&[1, 2, 3, 4]).await;
        let collections = &controller.collections;
        let registry = registry(collections, MetricsOptions::numbers());
        let handle = collections.client().collection(1).unwrap();
        for upper in [100, 200, 300] {
            controller.write(controller.shard(1), upper).await;
            handle.wait_for_since_past([upper - 11]).await.unwrap();
            comes_true("the first is written", async || {
                collections.client().metrics().downgrades.written == 1
            })
            .await;
        }
        // One is given up, one is held, one by a transaction of which nobody knows.
        let held = collections.acquire(&[2, 2]).await.unwrap();
        collections.drop_collections(vec![2]).await.unwrap();
        let _ = controller.prepare(&[], &[3]).await;
        collections.drop_collections(vec![3]).await.unwrap();
        comes_true("3 is gone, and its shard released", async || {
            collections.client().metrics().downgrades.written == 2
        })
        .await;
        let mut transaction = controller.metadata.begin().await.unwrap();
        let pending = collections.prepare(&mut transaction, vec![], &ids([4]));
        collections.client().sync().await.unwrap();

        let text = scrape(&registry);
        let told =
            |series: &str| value(&text, series).unwrap_or_else(|| panic!("{series}: {text}"));
        for (series, expected) in [
            (
                "collection_since_lag{collection=\"1\",since=\"planned\"}",
                10.0,
            ),
            (
                "collection_since_lag{collection=\"1\",since=\"durable\"}",
                210.0,
            ),
            ("since_lag_max{since=\"planned\"}", 10.0),
            ("since_lag_max{since=\"durable\"}", 210.0),
            ("downgrades_wished_total", 4.0),
            ("downgrades_written_total", 2.0),
            ("downgrades_coalesced_total", 1.0),
            ("downgrades_failed_total", 0.0),
            ("downgrades_retried_total", 0.0),
            ("downgrades_waiting", 1.0),
            ("downgrades_in_flight", 0.0),
            ("shards_behind", 1.0),
            ("collections", 3.0),
            ("awaited_shards", 1.0),
            ("finalizations_outstanding", 1.0),
            ("finalizations_pending_commit", 1.0),
            ("finalizations_started_total", 0.0),
            ("finalizations_succeeded_total", 0.0),
            ("finalizations_failed_total", 0.0),
            ("shards{state=\"open\"}", 2.0),
            ("shards{state=\"creating\"}", 0.0),
            ("shards{state=\"held\"}", 1.0),
            ("shards{state=\"unfinalized\"}", 1.0),
            ("shards{state=\"blocked\"}", 0.0),
        ] {
            assert_eq!(told(&format!("lowwater_{series}")), expected, "{series}");
        }
        drop((held, pending));
    }));
}

#[test]
fn series_do_not_grow_with_the_collections() {
    run(on_each(|store| async move {
        let controller = Controller::start(&store, &ids([]), &ids([])).await;
        controller.create(&[1, 2, 3, 4, 5]).await;
        let collections = &controller.collections;
        let _held = collections.acquire(&[1, 2, 3, 4, 5]).await.unwrap();
        for (id, upper) in [(1, 10), (2, 50), (3, 20), (4, 40), (5, 30)] {
            controller.write(controller.shard(id), upper).await;
            let handle = collections.client().collection(id).unwrap();
            handle.wait_for_upper_past([upper - 1]).await.unwrap();
        }
        let options = |collections_max| MetricsOptions {
            collections_max,
            ..MetricsOptions::numbers()
        };
        let text = scrape(&registry(collections, options(2)));
        let of_two = |text: &str| {
            let series = text.lines();
            let ids = series.filter_map(|line| line.strip_prefix("lowwater_collection_holds{"));
            ids.map(|line| line.split('"').nth(1).unwrap().to_owned())
                .collect::<Vec<_>>()
        };
        assert_eq!(of_two(&text), ["2", "4"], "those that keep most");
        assert_eq!(
            value(&text, "lowwater_since_lag_max{since=\"planned\"}"),
            Some(50.0)
        );
        let text = scrape(&registry(collections, options(0)));
        assert!(!text.contains("lowwater_collection_"), "{text}");
        // Times that are no numbers: who cannot say how far apart they are, has no lag.
        let text = scrape(&registry(collections, MetricsOptions::new(|_, _| None)));
        assert!(!text.contains("_lag"), "{text}");
        assert_eq!(of_two(&text).len(), 5);
    }));
}

#[test]
fn a_scrape_outlives_the_engine_and_the_controller() {
    run(on_each(|store| async move {
        let controller = Controller::start(&store, &ids([]), &ids([])).await;
        controller.create(&[1]).await;
        let registry = registry(&controller.collections, MetricsOptions::numbers());
        controller.collections.stop().await.unwrap();
        let text = scrape(&registry);
        assert_eq!(value(&text, "lowwater_in_charge"), Some(0.0), "{text}");
        assert!(!text.contains("lowwater_collection_holds"), "{text}");
        drop(controller);
        comes_true("nothing is told of what has gone", async || {
            scrape(&registry) == "# EOF\n"
        })
        .await;
    }));
}
