//! What is measured, row by row.

mod holds;
mod ticking;
mod ticks;
mod held_times;
mod chain;
mod creation;
mod durable;
mod appends;
mod round_trip;
mod memory;
mod queue;

use super::Report;
use crate::sample::Scale;
use crate::side::{Ours, Side, Usual};

/// Measures everything, and tells `progress` the name of what comes next.
pub fn measure(scale: Scale, progress: impl FnMut(&str)) -> Report {
    sides::<Ours, Usual>(scale, progress)
}

/// Any two sides: the rows do not know which is which.
fn sides<Ours: Side, Baseline: Side>(scale: Scale, mut progress: impl FnMut(&str)) -> Report {
    // First, while nothing that was freed lies around for the one or the other to use again.
    progress("memory");
    let memory = memory::measure::<Ours, Baseline>(scale);
    let mut report = Report::default();
    // Rows that the design has no goal for come after those that it has.
    let mut further = Vec::new();
    progress("holds");
    let holds = holds::measure::<Ours, Baseline>(scale);
    progress("holds while ticking");
    let ticking = ticking::measure::<Ours, Baseline>(scale);
    report.push(holds.by_handle);
    report.push(ticking.p999);
    report.push(holds.by_id);
    report.push(holds.two_threads_one_collection);
    report.push(holds.two_threads_two_collections);
    further.extend([holds.one_collection, holds.cloned, holds.unsettled]);
    further.extend(ticking.further);
    ticking.notes.into_iter().for_each(|note| report.note(note));
    for tick in ticks::TICKS {
        progress(tick.name);
        report.push(ticks::measure::<Ours, Baseline>(scale, tick));
    }
    progress("held times");
    let held_times = held_times::measure::<Ours, Baseline>(scale);
    report.push(held_times.earliest);
    further.push(held_times.any);
    progress("chain");
    let chain = chain::measure::<Ours, Baseline>(scale);
    report.push(chain.against_tracker);
    further.push(chain.against_baseline);
    progress("creation");
    let creation = creation::measure::<Ours, Baseline>(scale);
    report.push(creation.row);
    report.note(creation.note);
    progress("round trip");
    let round_trip = round_trip::measure::<Ours, Baseline>(scale);
    report.push(round_trip.p50);
    report.note(round_trip.note);
    report.push(memory);
    progress("durable shards");
    let durable = durable::measure(scale);
    durable.rows.into_iter().for_each(|row| report.push(row));
    further.extend(durable.further);
    durable.notes.into_iter().for_each(|note| report.note(note));
    progress("queue");
    further.extend(queue::measure(scale));
    further.into_iter().for_each(|row| report.push(row));
    report
}

#[cfg(test)]
mod tests {
    use super::*;

    const WITH_GOAL: [&str; 21] = [
        "hold_by_handle",
        "hold_while_ticking_p999",
        "hold_by_id",
        "hold_two_threads_one_collection",
        "hold_two_threads_two_collections",
        "tick_1k",
        "tick_10k",
        "tick_100k",
        "tick_1m",
        "held_times_100k",
        "chain_100k",
        "create_100k",
        "round_trip_p50",
        "memory_per_collection",
        "downgrade_1k_sqlite",
        "downgrade_10k_sqlite",
        "open_10k_sqlite",
        "append_100k_folder",
        "append_100k_memory",
        "snapshot_100k_folder",
        "snapshot_100k_memory",
    ];

    /// These too, where there is a server.
    const WITH_SERVER: [&str; 2] = ["downgrade_1k_postgres", "downgrade_10k_postgres"];

    #[test]
    fn the_report_has_every_row_of_the_design_in_its_order_and_then_further_ones() {
        let report = measure(Scale::Smoke, |_| {});
        let names: Vec<&str> = report.rows.iter().map(|row| row.name.as_str()).collect();
        let always = |name: &&&str| !WITH_SERVER.contains(*name);
        let without_server: Vec<&str> = names.iter().filter(always).copied().collect();
        assert_eq!(without_server[..WITH_GOAL.len()], WITH_GOAL);
        assert!(names.contains(&"append_small_sqlite"));
        for row in &report.rows {
            let name = row.name.as_str();
            let has_goal = WITH_GOAL.contains(&name) || WITH_SERVER.contains(&name);
            assert_eq!(row.goal.is_some(), has_goal, "{name}");
            assert_eq!(row.met.is_some(), row.goal.is_some(), "{name}");
            let has_baseline = name != "open_10k_sqlite";
            assert_eq!(row.baseline.is_some(), has_baseline, "{name}");
            assert!(row.ours.is_some(), "{name}");
        }
    }
}
