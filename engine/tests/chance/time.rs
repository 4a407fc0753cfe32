//! Times by chance.

use fastrand::Rng;
use timely::order::Product;
use timely::progress::Antichain;

use crate::model::TestTime;

pub(crate) trait ChanceTime: TestTime {
    /// From a range so small that times meet again.
    fn any(rng: &mut Rng) -> Self;

    fn frontier(rng: &mut Rng) -> Antichain<Self>;

    /// At or after `frontier`, and not far.
    fn later(rng: &mut Rng, frontier: &Antichain<Self>) -> Antichain<Self>;
}

impl ChanceTime for u64 {
    fn any(rng: &mut Rng) -> Self {
        rng.u64(..40)
    }

    fn frontier(rng: &mut Rng) -> Antichain<Self> {
        Antichain::from_elem(Self::any(rng))
    }

    fn later(rng: &mut Rng, frontier: &Antichain<Self>) -> Antichain<Self> {
        if rng.u32(..60) == 0 {
            return Antichain::new();
        }
        frontier.iter().map(|time| time + rng.u64(..5)).collect()
    }
}

impl ChanceTime for Product<u64, u64> {
    fn any(rng: &mut Rng) -> Self {
        Product::new(rng.u64(..8), rng.u64(..8))
    }

    fn frontier(rng: &mut Rng) -> Antichain<Self> {
        (0..rng.usize(1..=3)).map(|_| Self::any(rng)).collect()
    }

    fn later(rng: &mut Rng, frontier: &Antichain<Self>) -> Antichain<Self> {
        if rng.u32(..60) == 0 {
            return Antichain::new();
        }
        let mut later = Antichain::new();
        for time in frontier.iter() {
            let (outer, inner) = (time.outer + rng.u64(..3), time.inner + rng.u64(..3));
            match rng.u32(..4) {
                // Two where one was: neither is before the other.
                0 if later.len() < 3 => {
                    later.insert(Product::new(outer, inner + 1 + rng.u64(..3)));
                    later.insert(Product::new(outer + 1 + rng.u64(..3), inner));
                }
                _ => {
                    later.insert(Product::new(outer, inner));
                }
            }
        }
        later
    }
}

/// As scripts have it.
pub(crate) fn show<T: TestTime>(frontier: &Antichain<T>) -> String {
    let times: Vec<_> = frontier.iter().map(TestTime::show).collect();
    if times.is_empty() {
        return String::from("[]");
    }
    times.join("+")
}
