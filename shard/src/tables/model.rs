//! The rules put together as a process does, in a world that can stop it after every durable step.

use std::collections::{BTreeMap, BTreeSet};

use bytes::Bytes;
use lowwater::{ShardId, Since, Upper};
use proptest::prelude::*;
use timely::PartialOrder;

use super::row::TxnsRow;
use super::state::*;

/// What is durable: the txns shard, and the tables' own shards.
#[derive(Clone, Debug, Default)]
struct World {
    txns: Vec<(TxnsRow<u64>, i64)>,
    upper: Option<Upper<u64>>,
    since: u64,
    shards: BTreeMap<ShardId, Own>,
    /// How many more durable steps there are before the crash.
    steps_left: usize,
}

/// A table's own shard.
#[derive(Clone, Debug)]
struct Own {
    upper: Upper<u64>,
    writes: Vec<(u64, Bytes)>,
}

impl Default for Own {
    fn default() -> Self {
        Own {
            upper: Upper::minimum(),
            writes: Vec::new(),
        }
    }
}

#[derive(Debug, PartialEq)]
struct Crashed;

/// A call was refused because its time has passed: it was carried out before.
#[derive(Debug, PartialEq)]
enum Stop {
    Crashed,
    Passed,
}

impl From<Crashed> for Stop {
    fn from(_: Crashed) -> Self {
        Stop::Crashed
    }
}

impl World {
    fn forever() -> Self {
        World {
            steps_left: usize::MAX,
            ..World::default()
        }
    }

    fn upper(&self) -> Upper<u64> {
        self.upper.clone().unwrap_or_else(Upper::minimum)
    }

    fn step(&mut self) -> Result<(), Crashed> {
        self.steps_left = self.steps_left.checked_sub(1).ok_or(Crashed)?;
        Ok(())
    }

    /// The compare-and-append on the txns shard.
    fn take(&mut self, state: &mut TxnsState<u64>, step: Step<u64>) -> Result<bool, Crashed> {
        if self.upper() != step.lower {
            *state = self.read();
            return Ok(false);
        }
        self.step()?;
        self.txns.extend(step.rows.clone());
        self.upper = Some(step.upper.clone());
        state.follow(step.rows, step.upper).unwrap();
        Ok(true)
    }

    /// What a process that begins reads.
    fn read(&self) -> TxnsState<u64> {
        let mut state = TxnsState::new();
        state.follow(self.txns.clone(), self.upper()).unwrap();
        state
    }

    fn apply(&mut self, state: &mut TxnsState<u64>, through: u64) -> Result<(), Crashed> {
        for table in state.unapplied_through(&through) {
            self.apply_one(state, table, through)?;
        }
        Ok(())
    }

    fn apply_one(
        &mut self,
        state: &mut TxnsState<u64>,
        table: ShardId,
        through: u64,
    ) -> Result<(), Crashed> {
        let physical = self.shards.entry(table).or_default().upper.clone();
        if let Some(application) = state.application(table, &physical, &through).unwrap() {
            self.step()?;
            let own = self.shards.entry(table).or_default();
            assert_eq!(own.upper, application.lower);
            own.writes.extend(application.writes);
            own.upper = application.upper;
        }
        let physical = self.shards.entry(table).or_default().upper.clone();
        state.applied(table, &physical);
        Ok(())
    }

    fn register(&mut self, at: u64, table: ShardId) -> Result<(), Stop> {
        let mut state = self.read();
        self.apply(&mut state, u64::MAX)?;
        let physical = self.shards.entry(table).or_default().upper.clone();
        match state.register(&at, &BTreeMap::from([(table, physical)])) {
            Ok(step) => assert!(self.take(&mut state, step)?),
            Err(RegisterRefusal::Passed(_)) => return Err(Stop::Passed),
            Err(refusal) => panic!("{refusal}"),
        }
        Ok(self.apply_one(&mut state, table, at)?)
    }

    fn forget(&mut self, at: u64, table: ShardId) -> Result<(), Stop> {
        let mut state = self.read();
        self.apply(&mut state, at)?;
        match state.forget(&at, &BTreeSet::from([table])) {
            Ok(step) => assert!(self.take(&mut state, step)?),
            Err(ForgetRefusal::Passed(_)) => return Err(Stop::Passed),
            Err(refusal) => panic!("{refusal}"),
        }
        Ok(self.apply(&mut state, at)?)
    }

    fn commit(&mut self, at: u64, writes: &BTreeMap<ShardId, Vec<Bytes>>) -> Result<(), Stop> {
        let mut state = self.read();
        match state.commit(&at, writes) {
            Ok(step) => assert!(self.take(&mut state, step)?),
            Err(CommitRefusal::Passed(_)) => return Err(Stop::Passed),
            Err(refusal) => panic!("{refusal}"),
        }
        self.apply(&mut state, at)?;
        self.compact(&state)?;
        Ok(())
    }

    /// Moves the since of the txns shard as far as it may, and forgets what is not told apart there.
    fn compact(&mut self, state: &TxnsState<u64>) -> Result<(), Crashed> {
        self.step()?;
        let limit = state.since_limit();
        assert!(PartialOrder::less_equal(&Since::at(self.since), &limit));
        self.since = *limit.frontier().as_option().unwrap();
        let mut rows = BTreeMap::new();
        for (row, diff) in self.txns.drain(..) {
            *rows.entry(row).or_insert(0) += diff;
        }
        self.txns
            .extend(rows.into_iter().filter(|(_, diff)| *diff != 0));
        Ok(())
    }

    /// What a reader of a table sees, without applying anything.
    fn snapshot(&self, table: ShardId, as_of: u64) -> Vec<(u64, Bytes)> {
        let state = self.read();
        let own = self.shards.get(&table).cloned().unwrap_or_default();
        let upper = state.logical_upper(table).unwrap_or(own.upper.clone());
        assert!(
            upper.is_complete_at(&as_of),
            "{table} at {as_of}, up to {upper}"
        );
        let mut seen = own.writes;
        seen.retain(|(at, _)| *at <= as_of);
        seen.extend(state.missing(table, &own.upper, &as_of));
        seen.sort();
        seen
    }
}

/// What a caller wants, in order.
#[derive(Clone, Debug)]
enum Call {
    Register(u64, ShardId),
    Forget(u64, ShardId),
    Commit(u64, BTreeMap<ShardId, Vec<Bytes>>),
}

fn payload(text: &'static str) -> Bytes {
    Bytes::from_static(text.as_bytes())
}

const A: ShardId = ShardId::new(1);
const B: ShardId = ShardId::new(2);

fn script() -> Vec<Call> {
    let commit = |at, writes: &[(ShardId, &'static str)]| {
        let mut all: BTreeMap<_, Vec<_>> = BTreeMap::new();
        for &(table, text) in writes {
            all.entry(table).or_default().push(payload(text));
        }
        Call::Commit(at, all)
    };
    vec![
        Call::Register(1, A),
        Call::Register(2, B),
        commit(4, &[(A, "a"), (B, "b")]),
        commit(5, &[(B, "c"), (B, "d")]),
        Call::Forget(7, A),
        commit(9, &[(B, "e")]),
        Call::Register(12, A),
        commit(13, &[(A, "f"), (B, "g")]),
        Call::Forget(15, B),
    ]
}

/// Carries out a call however often it crashes, each time after as many steps; a call whose time
/// has passed was carried out before, but for what a process does when it begins.
fn insist(world: &mut World, call: &Call, steps: usize) {
    for crashes in 0.. {
        assert!(crashes < 50, "{call:?} never comes to an end");
        // Each life gets a little further, so that it ends.
        world.steps_left = steps + crashes;
        let outcome = match call {
            Call::Register(at, table) => world.register(*at, *table),
            Call::Forget(at, table) => world.forget(*at, *table),
            Call::Commit(at, writes) => world.commit(*at, writes),
        };
        match outcome {
            Ok(()) | Err(Stop::Passed) => return,
            Err(Stop::Crashed) => {}
        }
    }
}

/// What every table is, by the calls alone.
fn oracle(calls: &[Call], table: ShardId, as_of: u64) -> Vec<(u64, Bytes)> {
    let mut seen = Vec::new();
    for call in calls {
        if let Call::Commit(at, writes) = call
            && *at <= as_of
        {
            let written = writes.get(&table).into_iter().flatten();
            seen.extend(written.map(|payload| (*at, payload.clone())));
        }
    }
    seen.sort();
    seen
}

/// The last time at which the table can be read: it is one, or nobody writes to it.
fn is_readable(world: &World, table: ShardId, as_of: u64) -> bool {
    let own = world.shards.get(&table).cloned().unwrap_or_default();
    let upper = world.read().logical_upper(table).unwrap_or(own.upper);
    upper.is_complete_at(&as_of)
}

fn check(world: &World, calls: &[Call]) {
    for table in [A, B] {
        for as_of in 0..20 {
            if is_readable(world, table, as_of) {
                let expected = oracle(calls, table, as_of);
                assert_eq!(world.snapshot(table, as_of), expected, "{table} at {as_of}");
            }
        }
    }
}

#[test]
fn a_crash_after_every_durable_step_repeats_safely_and_converges() {
    let calls = script();
    let mut undisturbed = World::forever();
    for call in &calls {
        insist(&mut undisturbed, call, 1_000);
    }
    for steps in 0..8 {
        let mut world = World::forever();
        for (at, call) in calls.iter().enumerate() {
            insist(&mut world, call, steps);
            check(&world, &calls[..=at]);
        }
        // Whatever was left undone is done by whoever comes next.
        let mut state = world.read();
        world.steps_left = 1_000;
        world.apply(&mut state, u64::MAX).unwrap();
        let step = state.advance(&20).unwrap();
        assert!(world.take(&mut state, step).unwrap());
        assert_eq!(state.oldest_unapplied(), None);
        assert!(!state.needs(B), "a forgotten table leaves nothing behind");
        assert_eq!(world.shards[&A].writes, undisturbed.shards[&A].writes);
        assert_eq!(world.shards[&B].writes, undisturbed.shards[&B].writes);
        assert_eq!(world.shards[&B].upper, undisturbed.shards[&B].upper);
        check(&world, &calls);
    }
}

#[test]
fn a_single_crash_at_every_durable_step_of_every_call_leaves_all_or_nothing() {
    let calls = script();
    for (at, call) in calls.iter().enumerate() {
        for steps in 0.. {
            let mut world = World::forever();
            for before in &calls[..at] {
                insist(&mut world, before, 1_000);
            }
            world.steps_left = steps;
            let outcome = match call {
                Call::Register(at, table) => world.register(*at, *table),
                Call::Forget(at, table) => world.forget(*at, *table),
                Call::Commit(at, writes) => world.commit(*at, writes),
            };
            let landed = world.upper() != world_upper(&calls[..at]);
            check(&world, if landed { &calls[..=at] } else { &calls[..at] });
            if outcome.is_ok() {
                assert!(steps > 1, "there are steps to crash at");
                break;
            }
        }
    }
}

fn world_upper(calls: &[Call]) -> Upper<u64> {
    let time = |call: &Call| match call {
        Call::Register(at, _) | Call::Forget(at, _) | Call::Commit(at, _) => *at,
    };
    calls
        .last()
        .map_or_else(Upper::minimum, |call| Upper::at(time(call) + 1))
}

/// What one of several processes does next, with a state that may be old.
#[derive(Clone, Debug)]
enum Act {
    Read,
    Commit(u64, Vec<(ShardId, u8)>),
    Register(u64, ShardId),
    Forget(u64, ShardId),
    ApplySome(ShardId, u64),
    Advance(u64),
    Compact,
}

fn acts() -> impl Strategy<Value = Vec<(usize, Act)>> {
    let table = || (1_u128..4).prop_map(ShardId::new);
    let act = prop_oneof![
        2 => Just(Act::Read),
        6 => (0_u64..4, prop::collection::vec((table(), any::<u8>()), 0..3))
            .prop_map(|(skip, writes)| Act::Commit(skip, writes)),
        3 => (0_u64..4, table()).prop_map(|(skip, table)| Act::Register(skip, table)),
        2 => (0_u64..4, table()).prop_map(|(skip, table)| Act::Forget(skip, table)),
        4 => (table(), 0_u64..60).prop_map(|(table, through)| Act::ApplySome(table, through)),
        1 => (0_u64..4).prop_map(Act::Advance),
        1 => Just(Act::Compact),
    ];
    prop::collection::vec((0_usize..3, act), 0..60)
}

/// The next time that is open in the state, and some more.
fn next(state: &TxnsState<u64>, skip: u64) -> u64 {
    state.upper().frontier().as_option().copied().unwrap_or(0) + skip
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn processes_with_old_states_never_disagree_with_a_naive_history(acts in acts()) {
        let mut world = World::forever();
        let mut processes = vec![TxnsState::<u64>::new(); 3];
        let mut history: Vec<(u64, ShardId, Bytes)> = Vec::new();
        for (process, act) in acts {
            let state = &mut processes[process];
            match act {
                Act::Read => *state = world.read(),
                Act::Commit(skip, writes) => {
                    let at = next(state, skip);
                    let mut all: BTreeMap<_, Vec<_>> = BTreeMap::new();
                    for (table, byte) in writes {
                        all.entry(table).or_default().push(Bytes::from(vec![byte]));
                    }
                    if let Ok(step) = state.commit(&at, &all)
                        && world.take(state, step).unwrap()
                    {
                        for (table, payloads) in all {
                            let rows = payloads.into_iter().map(|payload| (at, table, payload));
                            history.extend(rows);
                        }
                    }
                }
                Act::Register(skip, table) => {
                    let at = next(state, skip);
                    let physical = world.shards.entry(table).or_default().upper.clone();
                    let tables = BTreeMap::from([(table, physical)]);
                    if let Ok(step) = state.register(&at, &tables) {
                        world.take(state, step).unwrap();
                    }
                }
                Act::Forget(skip, table) => {
                    let at = next(state, skip);
                    if let Ok(step) = state.forget(&at, &BTreeSet::from([table])) {
                        world.take(state, step).unwrap();
                    }
                }
                Act::ApplySome(table, through) => {
                    let physical = world.shards.entry(table).or_default().upper.clone();
                    // An old state may see that the shard is further than it knows tables to be.
                    if state.application(table, &physical, &through).is_ok() {
                        world.apply_one(state, table, through).unwrap();
                    }
                }
                Act::Advance(skip) => {
                    let at = next(state, skip);
                    if let Ok(step) = state.advance(&at) {
                        world.take(state, step).unwrap();
                    }
                }
                Act::Compact => {
                    let state = world.read();
                    if state.upper().frontier().as_option() > Some(&0) {
                        world.compact(&state).unwrap();
                    }
                }
            }
            let latest = world.read();
            for table in (1..4).map(ShardId::new) {
                let own = world.shards.get(&table).cloned().unwrap_or_default();
                let upper = latest.logical_upper(table).unwrap_or(own.upper);
                let Some(as_of) = upper.frontier().as_option().and_then(|t| t.checked_sub(1)) else {
                    continue;
                };
                for as_of in as_of.saturating_sub(6)..=as_of {
                    let rows = history.iter().filter(|row| row.1 == table && row.0 <= as_of);
                    let mut expected: Vec<_> =
                        rows.map(|(at, _, payload)| (*at, payload.clone())).collect();
                    expected.sort();
                    prop_assert_eq!(world.snapshot(table, as_of), expected);
                }
            }
        }
    }
}
