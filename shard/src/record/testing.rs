//! What the tests of records share: a machine that obeys commands, and times of both orders.

use lowwater::{Since, Upper};
use timely::order::Product;

use crate::id::{Epoch, ReaderId, SeqNo};
use crate::time::ShardTime;

use super::{Decision, Downgraded, Record, SinceRecord};

pub(crate) type Pair = Product<u64, u64>;

pub(crate) const LEASED: ReaderId = ReaderId::new(77);

/// A time that tests can make from a number, in the order of the numbers.
pub(crate) trait TestTime: ShardTime {
    fn at(number: u64) -> Self;
}

impl TestTime for u64 {
    fn at(number: u64) -> Self {
        number
    }
}

impl TestTime for Pair {
    fn at(number: u64) -> Self {
        Product::new(number, number)
    }
}

pub(crate) fn since<T: TestTime>(number: u64) -> Since<T> {
    Since::at(T::at(number))
}

pub(crate) fn upper<T: TestTime>(number: u64) -> Upper<T> {
    Upper::at(T::at(number))
}

pub(crate) fn sides(times: &[(u64, u64)]) -> Since<Pair> {
    let times = times
        .iter()
        .map(|&(outer, inner)| Product::new(outer, inner));
    Since::new(times.collect())
}

/// Makes each generic function a test for a total and for a partial order.
macro_rules! for_both_times {
    ($(fn $name:ident<T: TestTime>() $body:block)*) => {
        $(fn $name<T: TestTime>() $body)*

        mod total {
            $(#[test] fn $name() { super::$name::<u64>(); })*
        }

        mod partial {
            $(#[test] fn $name() { super::$name::<crate::record::testing::Pair>(); })*
        }
    };
}

pub(crate) use for_both_times;

/// A record and its version; carries out what commands decide.
pub(crate) struct Machine<R> {
    pub(crate) record: R,
    pub(crate) seqno: SeqNo,
}

impl<R: Record> Machine<R> {
    pub(crate) fn new() -> Self {
        Machine {
            record: R::initial(),
            seqno: SeqNo::FIRST,
        }
    }

    pub(crate) fn obey<O>(&mut self, command: impl FnOnce(&R) -> Decision<R::Change, O>) -> O {
        let Decision { changes, outcome } = command(&self.record);
        for change in &changes {
            self.record.apply(change, self.seqno).unwrap();
        }
        self.seqno = self.seqno.next();
        outcome
    }

    pub(crate) fn accept<O, E: std::fmt::Debug>(
        &mut self,
        command: impl FnOnce(&R) -> Result<Decision<R::Change, O>, E>,
    ) -> O {
        self.obey(|record| command(record).unwrap())
    }

    pub(crate) fn untouched_by<O>(&self, command: impl FnOnce(&R) -> Decision<R::Change, O>) {
        assert_eq!(command(&self.record).changes, []);
    }
}

impl<T: TestTime> Machine<SinceRecord<T>> {
    pub(crate) fn downgrade(
        &mut self,
        reader: ReaderId,
        epoch: Epoch,
        to: &Since<T>,
    ) -> Downgraded<T> {
        self.accept(|record| record.compare_and_downgrade(reader, epoch, epoch, to))
    }

    pub(crate) fn register(&mut self, reader: ReaderId) -> Since<T> {
        self.accept(|record| record.register_leased(reader, 1000, SeqNo::FIRST))
    }

    pub(crate) fn downgrade_leased(&mut self, reader: ReaderId, to: &Since<T>) -> Downgraded<T> {
        self.accept(|record| record.downgrade_leased(reader, to, SeqNo::FIRST))
    }
}

/// The sinces of a shard that has gone.
pub(crate) fn buried<T: TestTime>() -> Machine<SinceRecord<T>> {
    let mut shard = Machine::<SinceRecord<T>>::new();
    let (reader, epoch) = (ReaderId::new(1), Epoch::new(1));
    shard.obey(|record| record.open_critical(reader, epoch));
    shard.downgrade(reader, epoch, &Since::gone());
    shard.obey(|record| record.bury().unwrap());
    shard
}
