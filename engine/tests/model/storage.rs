//! Storage that answers what it is told, when it is told, in any order.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use lowwater::{
    Epoch, OpenedShard, ShardId, Since, SinceWish, StorageError, StorageErrorKind, StorageReport,
    Upper,
};
use timely::PartialOrder;
use timely::progress::Antichain;

use super::text::TestTime;

#[derive(Debug, Default)]
pub(crate) struct Shards<T> {
    /// By number.
    pub(crate) shards: BTreeMap<u64, Shard<T>>,
    /// Not answered yet, the oldest first.
    pub(crate) requests: VecDeque<Request<T>>,
}

#[derive(Clone, Debug)]
pub(crate) struct Shard<T> {
    pub(crate) since: Antichain<T>,
    pub(crate) upper: Antichain<T>,
}

#[derive(Debug)]
pub(crate) enum Request<T> {
    Open {
        batch: u64,
        /// Where the shards were when they were asked for: they may be written until the answer.
        found: Vec<(u64, Shard<T>)>,
    },
    Downgrade(Vec<SinceWish<T>>),
}

/// How a request is answered.
#[derive(Debug, Default)]
pub(crate) struct Answering {
    /// Nothing is written, and the answer is an error.
    pub(crate) fails: bool,
    /// All is written, and the answer is an error.
    pub(crate) lost: bool,
    /// Nothing is written, for the controller of this epoch is in charge.
    pub(crate) fenced: Option<u64>,
    /// Only these shards fail, or lose their answer; all if there are none.
    pub(crate) only: BTreeSet<u64>,
}

impl<T: TestTime> Shards<T> {
    pub(crate) fn new() -> Self {
        Shards {
            shards: BTreeMap::new(),
            requests: VecDeque::new(),
        }
    }

    pub(crate) fn shard(&mut self, number: u64) -> &mut Shard<T> {
        self.shards.entry(number).or_insert_with(|| Shard {
            since: Antichain::from_elem(T::minimum()),
            upper: Antichain::from_elem(T::minimum()),
        })
    }

    pub(crate) fn asked_to_open(&mut self, batch: u64, shards: &[ShardId]) {
        let found = shards.iter().map(|shard| {
            let number = number_of(*shard);
            (number, self.shard(number).clone())
        });
        let found = found.collect();
        self.requests.push_back(Request::Open { batch, found });
    }

    pub(crate) fn is_opening(&self, number: u64) -> bool {
        self.requests.iter().any(|request| match request {
            Request::Open { found, .. } => found.iter().any(|(shard, _)| *shard == number),
            Request::Downgrade(_) => false,
        })
    }

    /// Answers one request.
    pub(crate) fn answer(&mut self, at: usize, how: &Answering) -> StorageReport<T> {
        let request = self.requests.remove(at).expect("there is such a request");
        match request {
            Request::Open { batch, found } => StorageReport::Opened {
                batch,
                outcomes: found
                    .into_iter()
                    .map(|(number, found)| {
                        (ShardId::new(number.into()), opened(found, how, number))
                    })
                    .collect(),
            },
            Request::Downgrade(wishes) => StorageReport::Downgraded(
                wishes
                    .into_iter()
                    .map(|wish| {
                        let outcome = self.downgrade(&wish, how);
                        (wish, outcome)
                    })
                    .collect(),
            ),
        }
    }

    fn downgrade(
        &mut self,
        wish: &SinceWish<T>,
        how: &Answering,
    ) -> Result<Since<T>, StorageError> {
        let number = number_of(wish.shard);
        let shard = self.shard(number);
        if (how.fails || how.fenced.is_some()) && how.concerns(number) {
            return Err(how.trouble());
        }
        if PartialOrder::less_equal(&shard.since, wish.since.frontier()) {
            shard.since.clone_from(wish.since.frontier());
        }
        if how.lost && how.concerns(number) {
            return Err(how.trouble());
        }
        Ok(Since::new(shard.since.clone()))
    }
}

impl Answering {
    fn concerns(&self, number: u64) -> bool {
        self.only.is_empty() || self.only.contains(&number)
    }

    /// Opening comes to nothing for this shard.
    pub(crate) fn refuses(&self, number: u64) -> bool {
        (self.fails || self.lost || self.fenced.is_some()) && self.concerns(number)
    }

    fn trouble(&self) -> StorageError {
        let kind = match self.fenced.map(Epoch::new) {
            Some(by) => StorageErrorKind::Fenced { by },
            None => StorageErrorKind::Retry,
        };
        StorageError::new(kind, "told to fail")
    }
}

fn opened<T: TestTime>(
    found: Shard<T>,
    how: &Answering,
    number: u64,
) -> Result<OpenedShard<T>, StorageError> {
    if how.refuses(number) {
        return Err(how.trouble());
    }
    Ok(OpenedShard {
        since: Since::new(found.since),
        upper: Upper::new(found.upper),
    })
}

pub(crate) fn number_of(shard: ShardId) -> u64 {
    u64::try_from(shard.number()).expect("tests use small numbers")
}
