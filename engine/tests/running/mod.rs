//! An engine on a thread of its own, and what the tests do with it.
#![allow(dead_code, reason = "no test uses all of it")]

use std::time::Duration;

use lowwater::{
    Client, Collection, Config, Description, Engine, EngineThread, MemoryStorage, ReadPolicy, Upper,
};

/// Nothing here takes longer, unless it hangs.
pub(crate) const BOUND: Duration = Duration::from_secs(20);

pub(crate) struct Running {
    pub(crate) client: Client<u64, u64>,
    pub(crate) storage: MemoryStorage<u64>,
    pub(crate) thread: EngineThread,
}

pub(crate) fn start() -> Running {
    let storage = MemoryStorage::new();
    let config = Config {
        downgrade_interval: Duration::ZERO,
        ..Config::default()
    };
    let (engine, client) = Engine::new(config, storage.clone()).unwrap();
    Running {
        client,
        storage,
        thread: engine.spawn().unwrap(),
    }
}

impl Running {
    pub(crate) fn create(&self, id: u64, dependencies: &[u64]) -> Collection<u64, u64> {
        let new =
            Description::new(id, ReadPolicy::step_back()).depends_on(dependencies.iter().copied());
        self.client.create(vec![new]).wait().unwrap().remove(0)
    }

    pub(crate) fn upper(&self, id: u64, upper: u64) {
        self.client
            .report_uppers(vec![(id, Upper::at(upper))])
            .wait()
            .unwrap();
    }

    pub(crate) fn stop(self) {
        self.client.stop().wait().unwrap();
        self.thread.join().unwrap();
    }
}
