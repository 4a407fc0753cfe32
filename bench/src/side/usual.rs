//! The baseline as a side.

use std::time::Duration;

use hdrhistogram::Histogram;

use super::{Finder, Handle, HoldOf, Served, Side, Ticking};
use crate::baseline::Baseline;
use crate::baseline::background::{Background, Running};
use crate::baseline::collections::{Description, Policy};
use crate::baseline::hold::Hold;
use crate::workload::{LAG, Node};

const EXISTS: &str = "the bench asks for collections that it has created";
const RUNS: &str = "the background runs until it is stopped";
const ANSWERED: &str = "the background has just been turned";

/// The usual way.
pub struct Usual {
    baseline: Baseline,
    background: Background,
}

/// The usual way knows a collection by its id only.
#[derive(Clone)]
pub struct UsualHandle {
    baseline: Baseline,
    id: u64,
}

impl Side for Usual {
    type Handle = UsualHandle;
    type Finder = Baseline;
    type Tick = Vec<(u64, u64)>;
    type Served = UsualServed;
    type Ticking = Running;

    fn new() -> Self {
        let (baseline, background) = Baseline::new();
        Self {
            baseline,
            background,
        }
    }

    fn create(&mut self, nodes: Vec<Node>) {
        let describe = |Node { id, dependencies }| Description {
            id,
            policy: Policy::Lag(LAG),
            dependencies,
        };
        self.baseline
            .create(nodes.into_iter().map(describe).collect())
            .expect("the bench creates each collection once, in order");
    }

    fn handle(&self, id: u64) -> UsualHandle {
        UsualHandle {
            baseline: self.baseline.clone(),
            id,
        }
    }

    fn finder(&self) -> Baseline {
        self.baseline.clone()
    }

    fn prepare_tick(&mut self, len: u64, upper: u64) -> Self::Tick {
        (0..len).map(|id| (id, upper)).collect()
    }

    fn tick(&mut self, tick: Self::Tick) {
        let mut answer = self.baseline.report_uppers(tick);
        self.background.turn();
        answer.try_recv().expect(ANSWERED);
    }

    fn hold_back(&mut self, ids: &[u64], time: u64) {
        let policies = ids
            .iter()
            .map(|&id| (id, Policy::ValidFrom(time)))
            .collect();
        let mut answer = self.baseline.set_policies(policies);
        self.background.turn();
        answer.try_recv().expect(ANSWERED);
    }

    fn acquire_at(&mut self, id: u64, time: u64) -> Hold {
        self.baseline.acquire_at(id, time).expect(EXISTS)
    }

    fn downgrade(&mut self, hold: &mut HoldOf<Self>, to: u64) {
        assert!(hold.downgrade(to), "the bench moves holds forward");
        self.background.turn();
    }

    fn since(&self, id: u64) -> u64 {
        *self
            .baseline
            .since(id)
            .first()
            .expect("no collection of a bench is gone")
    }

    fn spawn(self) -> UsualServed {
        UsualServed {
            _running: self.background.spawn(),
            baseline: self.baseline,
        }
    }

    fn spawn_ticking(self, len: u64, every: Duration) -> Running {
        self.background
            .spawn_ticking(Some((every, (0..len).map(|id| (id, 0)).collect())))
    }
}

impl Handle for UsualHandle {
    type Hold = Hold;

    #[inline]
    fn acquire(&self) -> Hold {
        self.baseline.acquire(self.id).expect(EXISTS)
    }

    #[inline]
    fn clone_hold(hold: &Hold) -> Hold {
        hold.clone()
    }
}

impl Finder for Baseline {
    type Hold = Hold;

    #[inline]
    fn acquire(&self, id: u64) -> Hold {
        Baseline::acquire(self, id).expect(EXISTS)
    }
}

/// The usual way, with its background at work.
pub struct UsualServed {
    baseline: Baseline,
    _running: Running,
}

impl Served for UsualServed {
    fn round_trip(&self, id: u64, upper: u64) {
        let answer = self.baseline.report_uppers(vec![(id, upper)]);
        answer.blocking_recv().expect(RUNS);
    }

    fn settle(&self) {
        self.baseline.settle().blocking_recv().expect(RUNS);
    }
}

impl Ticking for Running {
    fn stop(self) -> Histogram<u64> {
        Running::stop(self)
    }
}
