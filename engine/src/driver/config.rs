//! What may be chosen about an engine.

use std::time::Duration;

/// What may be chosen about an engine.
#[derive(Clone, Debug)]
pub struct Config {
    /// How many entries of the queue a turn takes at most. What is left is taken in the next one,
    /// and effects are seen in between. At least 1.
    pub turn_inputs_max: usize,
    /// How long the owner thread looks for something to do before it sleeps. 0 spares the CPU;
    /// some tens of microseconds spare the wake-up where commands follow each other.
    pub spin: Duration,
    /// The least time between two writes of a shard's since. What is wished in between is kept, and
    /// the last of it written when the time is over. The empty since is never delayed.
    pub downgrade_interval: Duration,
    /// How long [`Client::stop`](crate::Client::stop) waits for storage to make durable what is
    /// left.
    pub stop_within: Duration,
    /// What the owner thread is called; the I/O thread is called so with `-io` behind it.
    pub thread_name: String,
}

impl Default for Config {
    /// 4,096 inputs a turn, no spinning, 1 s between writes of a shard, 5 s to stop.
    fn default() -> Self {
        Config {
            turn_inputs_max: 4_096,
            spin: Duration::ZERO,
            downgrade_interval: Duration::from_secs(1),
            stop_within: Duration::from_secs(5),
            thread_name: String::from("lowwater"),
        }
    }
}

/// What may be changed about an engine while it runs. What is not said stays as it is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[must_use = "nothing is changed yet"]
pub struct Parameters {
    turn_inputs_max: Option<usize>,
    spin: Option<Duration>,
    downgrade_interval: Option<Duration>,
    stop_within: Option<Duration>,
}

impl Parameters {
    /// Everything as it is.
    pub fn new() -> Self {
        Parameters::default()
    }

    /// See [`Config::turn_inputs_max`].
    pub fn turn_inputs_max(mut self, inputs: usize) -> Self {
        self.turn_inputs_max = Some(inputs);
        self
    }

    /// See [`Config::spin`].
    pub fn spin(mut self, spin: Duration) -> Self {
        self.spin = Some(spin);
        self
    }

    /// See [`Config::downgrade_interval`]. Holds for what waits already, too.
    pub fn downgrade_interval(mut self, interval: Duration) -> Self {
        self.downgrade_interval = Some(interval);
        self
    }

    /// See [`Config::stop_within`].
    pub fn stop_within(mut self, within: Duration) -> Self {
        self.stop_within = Some(within);
        self
    }

    /// Changes what was said.
    pub(super) fn change(self, config: &mut Config) {
        let Parameters {
            turn_inputs_max,
            spin,
            downgrade_interval,
            stop_within,
        } = self;
        set(&mut config.turn_inputs_max, turn_inputs_max);
        set(&mut config.spin, spin);
        set(&mut config.downgrade_interval, downgrade_interval);
        set(&mut config.stop_within, stop_within);
    }
}

fn set<X>(parameter: &mut X, to: Option<X>) {
    if let Some(to) = to {
        *parameter = to;
    }
}
