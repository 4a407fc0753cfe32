//! Which logs have changed: hints, coalesced, never more than a reason to look.

use std::collections::BTreeSet;
use std::sync::{Arc, Weak};

use parking_lot::Mutex;
use tokio::sync::Notify;

use crate::id::LogId;

/// More logs than this are not told apart while nobody listens.
const LOGS_MAX: usize = 1 << 16;

/// Where to look.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Hint {
    /// These logs have changed.
    Logs(BTreeSet<LogId>),
    /// Any log may have changed.
    Any,
}

/// What has changed in a store since it was asked last.
///
/// Hints are coalesced, so a listener that is slow has not more to do and costs bounded memory.
/// None is lost: where a store cannot know, it hints that any log may have changed.
#[derive(Debug)]
pub struct Changes {
    listener: Arc<Listener>,
}

/// Gives hints to all that listen.
#[derive(Clone, Debug, Default)]
pub(crate) struct Hints {
    listeners: Arc<Mutex<Vec<Weak<Listener>>>>,
}

#[derive(Debug)]
struct Listener {
    unheard: Mutex<Hint>,
    changed: Notify,
}

impl Hints {
    pub(crate) fn changes(&self) -> Changes {
        let listener = Arc::new(Listener {
            unheard: Mutex::new(Hint::Logs(BTreeSet::new())),
            changed: Notify::new(),
        });
        let mut listeners = self.listeners.lock();
        listeners.retain(|listener| listener.strong_count() > 0);
        listeners.push(Arc::downgrade(&listener));
        Changes { listener }
    }

    /// True iff somebody listens.
    pub(crate) fn are_heard(&self) -> bool {
        let listeners = self.listeners.lock();
        listeners.iter().any(|listener| listener.strong_count() > 0)
    }

    pub(crate) fn logs_changed(&self, logs: impl IntoIterator<Item = LogId> + Clone) {
        self.tell(|unheard| unheard.add(logs.clone()));
    }

    pub(crate) fn anything_changed(&self) {
        self.tell(|unheard| *unheard = Hint::Any);
    }

    fn tell(&self, change: impl Fn(&mut Hint)) {
        for listener in self.listeners.lock().iter().filter_map(Weak::upgrade) {
            change(&mut listener.unheard.lock());
            listener.changed.notify_one();
        }
    }
}

impl Hint {
    fn add(&mut self, logs: impl IntoIterator<Item = LogId>) {
        if let Hint::Logs(known) = self {
            known.extend(logs);
            if known.len() > LOGS_MAX {
                *self = Hint::Any;
            }
        }
    }

    pub(crate) fn merge(&mut self, other: Hint) {
        match other {
            Hint::Logs(logs) => self.add(logs),
            Hint::Any => *self = Hint::Any,
        }
    }

    fn is_empty(&self) -> bool {
        match self {
            Hint::Logs(logs) => logs.is_empty(),
            Hint::Any => false,
        }
    }

    /// True iff this log may have changed.
    pub fn names(&self, log: LogId) -> bool {
        match self {
            Hint::Logs(logs) => logs.contains(&log),
            Hint::Any => true,
        }
    }
}

impl Changes {
    /// Waits until something has changed. To drop the future loses nothing.
    pub async fn next(&mut self) -> Hint {
        loop {
            if let Some(hint) = self.take() {
                return hint;
            }
            // A change after the look leaves a permit, so it is not slept through.
            self.listener.changed.notified().await;
        }
    }

    /// What has changed so far, if anything.
    pub fn take(&mut self) -> Option<Hint> {
        let mut unheard = self.listener.unheard.lock();
        let nothing = Hint::Logs(BTreeSet::new());
        (!unheard.is_empty()).then(|| std::mem::replace(&mut *unheard, nothing))
    }
}

#[cfg(test)]
mod tests {
    use lowwater::ShardId;

    use super::*;

    fn log(number: u128) -> LogId {
        LogId::data(ShardId::new(number))
    }

    #[test]
    fn hints_are_coalesced_and_heard_once() {
        let hints = Hints::default();
        let mut changes = hints.changes();
        assert_eq!(changes.take(), None);
        hints.logs_changed([log(1), log(2)]);
        hints.logs_changed([log(2), log(3)]);
        let heard = Hint::Logs([log(1), log(2), log(3)].into());
        assert_eq!(changes.take(), Some(heard));
        assert_eq!(changes.take(), None);
        hints.logs_changed([log(1)]);
        hints.anything_changed();
        hints.logs_changed([log(1)]);
        assert_eq!(changes.take(), Some(Hint::Any));
    }

    #[test]
    fn a_listener_that_sleeps_costs_bounded_memory() {
        let hints = Hints::default();
        let mut changes = hints.changes();
        hints.logs_changed((0..=LOGS_MAX as u128).map(log));
        assert_eq!(changes.take(), Some(Hint::Any));
    }

    #[test]
    fn those_that_have_left_are_told_nothing() {
        let hints = Hints::default();
        drop(hints.changes());
        assert!(!hints.are_heard());
        let _stays = hints.changes();
        assert!(hints.are_heard());
        assert_eq!(hints.listeners.lock().len(), 1);
    }
}
