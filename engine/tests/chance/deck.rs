//! What a command does, and how often.

use fastrand::Rng;

#[derive(Clone, Copy)]
pub(super) enum Act {
    Create,
    Drop,
    Policy,
    Upper,
    Pin,
    Acquire,
    Clone,
    Move,
    Merge,
    Release,
    Wait,
    Cancel,
    Ask,
    After,
    Flush,
    Interval,
    Fenced,
    Messages,
    Deliver,
    Freed,
    Storage,
    Answer,
    Written,
    ShardMoved,
    Lapsed,
    Keep,
    Free,
}

const ALL: [(Act, usize); 27] = [
    (Act::Create, 12),
    (Act::Drop, 5),
    (Act::Policy, 6),
    (Act::Upper, 24),
    (Act::Pin, 12),
    (Act::Acquire, 8),
    (Act::Clone, 4),
    (Act::Move, 6),
    (Act::Merge, 3),
    (Act::Release, 12),
    (Act::Wait, 4),
    (Act::Cancel, 1),
    (Act::Ask, 3),
    (Act::After, 7),
    (Act::Flush, 1),
    (Act::Interval, 1),
    (Act::Fenced, 1),
    (Act::Messages, 1),
    (Act::Deliver, 6),
    (Act::Freed, 4),
    (Act::Storage, 1),
    (Act::Answer, 9),
    (Act::Written, 4),
    (Act::ShardMoved, 1),
    (Act::Lapsed, 2),
    (Act::Keep, 2),
    (Act::Free, 2),
];

/// Each act as often as it may be drawn; each seed has its own liking.
pub(super) fn shuffled(rng: &mut Rng) -> Vec<Act> {
    let mut deck = Vec::new();
    for (act, weight) in ALL {
        let weight = (weight * rng.usize(1..=6)).div_ceil(3);
        deck.extend(std::iter::repeat_n(act, weight));
    }
    deck
}
