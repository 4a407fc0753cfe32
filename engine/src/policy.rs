//! Read policies: from how far a collection is written to how far it may be forgotten.

use std::fmt;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;

use timely::order::TotalOrder;
use timely::progress::Antichain;

use crate::frontier::{Since, Time, Upper};

/// From when on the owner of a collection wants it to be readable.
///
/// A policy only moves a collection's implied capability forward. What asks for less than, or for
/// something incomparable with, the implied capability moves nothing, is kept, and takes effect
/// when it catches up.
///
/// ```
/// use lowwater::{ReadPolicy, Since, Upper};
///
/// let policy = ReadPolicy::lag_writes_by(60, 10)?;
/// assert_eq!(policy.since_for(&Upper::at(1_005_u64), &Since::at(0)), Since::at(940));
/// # Ok::<(), lowwater::PolicyError>(())
/// ```
#[derive(Clone, Debug)]
pub enum ReadPolicy<T> {
    /// Nobody has said yet what is wanted: stay where the collection started.
    NoPolicy {
        /// Where it starts.
        initial_since: Since<T>,
    },
    /// Readable from this frontier on, whatever the upper is. `ValidFrom` of the empty frontier
    /// gives the collection up, as dropping it does.
    ValidFrom(Since<T>),
    /// Follow the upper at a distance.
    ///
    /// A sealed collection keeps the since that it has: the function is not asked what lags behind
    /// the end of time. It runs on the owner thread: it must be quick and depend on nothing but
    /// its argument. A panic in it is caught and moves nothing.
    LagWriteFrontier(Lag<T>),
    /// The earliest that any of these policies asks for (their meet). Never empty.
    Multiple(Vec<ReadPolicy<T>>),
}

/// A function from an upper to the since that is wanted.
#[derive(Clone)]
pub struct Lag<T>(Arc<LagFn<T>>);

type LagFn<T> = dyn Fn(&Antichain<T>) -> Antichain<T> + Send + Sync;

impl<T> fmt::Debug for Lag<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Lag(..)")
    }
}

/// Why a policy was refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PolicyError {
    /// `Multiple` of nothing has no meet.
    EmptyMultiple,
    /// Times cannot be rounded down to multiples of 0.
    ZeroGranularity,
    /// The policy's function panicked.
    Panicked,
}

impl fmt::Display for PolicyError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            PolicyError::EmptyMultiple => "a policy of several needs at least one",
            PolicyError::ZeroGranularity => "a granularity of 0 rounds to nothing",
            PolicyError::Panicked => "the policy's function panicked",
        })
    }
}

impl std::error::Error for PolicyError {}

impl<T: Time> ReadPolicy<T> {
    /// Follows the upper by a function of the whole frontier. For partially ordered times this is
    /// the way to lag; see also [`ReadPolicy::lag_each`].
    pub fn lag(since: impl Fn(&Antichain<T>) -> Antichain<T> + Send + Sync + 'static) -> Self {
        ReadPolicy::LagWriteFrontier(Lag(Arc::new(since)))
    }

    /// Follows the upper by a function of each of its times; the since is the least of the results.
    ///
    /// ```
    /// use lowwater::{ReadPolicy, Since, Upper};
    /// use timely::order::Product;
    ///
    /// // Keep ten of the outer coordinate, and all of the inner one.
    /// let policy = ReadPolicy::lag_each(|t: &Product<u64, u64>| {
    ///     Product::new(t.outer.saturating_sub(10), 0)
    /// });
    /// let since = policy.since_for(&Upper::at(Product::new(25, 3)), &Since::minimum());
    /// assert_eq!(since, Since::at(Product::new(15, 0)));
    /// ```
    pub fn lag_each(since: impl Fn(&T) -> T + Send + Sync + 'static) -> Self {
        ReadPolicy::lag(move |upper| match upper.elements() {
            [time] => Antichain::from_elem(since(time)),
            times => times.iter().map(&since).collect(),
        })
    }

    /// The since that this policy asks for: of a collection written up to `upper` whose implied
    /// capability is now at `implied`.
    ///
    /// # Panics
    ///
    /// If the policy's own function does.
    pub fn since_for(&self, upper: &Upper<T>, implied: &Since<T>) -> Since<T> {
        match self {
            ReadPolicy::NoPolicy { initial_since } => initial_since.clone(),
            ReadPolicy::ValidFrom(since) => since.clone(),
            ReadPolicy::LagWriteFrontier(_) if upper.is_sealed() => implied.clone(),
            ReadPolicy::LagWriteFrontier(Lag(since)) => Since::new(since(upper.frontier())),
            ReadPolicy::Multiple(policies) => policies
                .iter()
                .map(|policy| policy.since_for(upper, implied))
                .reduce(|least, since| least.meet(&since))
                .unwrap_or_else(|| implied.clone()),
        }
    }

    /// As [`ReadPolicy::since_for`], with a panic of the policy's function as a value.
    ///
    /// # Errors
    ///
    /// [`PolicyError::Panicked`] if the policy's function does.
    pub(crate) fn try_since_for(
        &self,
        upper: &Upper<T>,
        implied: &Since<T>,
    ) -> Result<Since<T>, PolicyError> {
        // The function is shared and takes only references: whatever it leaves half done is its
        // own. Our state is not touched in between.
        catch_unwind(AssertUnwindSafe(|| self.since_for(upper, implied)))
            .map_err(|_| PolicyError::Panicked)
    }

    /// Where a collection with this policy asks to start.
    pub(crate) fn initial_since(&self) -> Since<T> {
        match self {
            ReadPolicy::NoPolicy { initial_since } => initial_since.clone(),
            ReadPolicy::ValidFrom(_)
            | ReadPolicy::LagWriteFrontier(_)
            | ReadPolicy::Multiple(_) => Since::minimum(),
        }
    }

    /// Refuses what cannot be evaluated.
    pub(crate) fn check(&self) -> Result<(), PolicyError> {
        match self {
            ReadPolicy::Multiple(policies) if policies.is_empty() => {
                Err(PolicyError::EmptyMultiple)
            }
            ReadPolicy::Multiple(policies) => policies.iter().try_for_each(ReadPolicy::check),
            ReadPolicy::NoPolicy { .. }
            | ReadPolicy::ValidFrom(_)
            | ReadPolicy::LagWriteFrontier(_) => Ok(()),
        }
    }
}

impl<T: Step> ReadPolicy<T> {
    /// Keeps the last complete time readable: `upper - 1`, not below the minimum.
    pub fn step_back() -> Self {
        ReadPolicy::lag_each(|upper: &T| upper.back_by(&T::ONE))
    }

    /// Keeps `lag` of history: `upper - lag`, not below the minimum, rounded down to a multiple of
    /// `min(lag, granularity)`. A coarser granularity moves the since less often.
    ///
    /// A lag of 0 keeps nothing behind the upper, and rounds nothing.
    ///
    /// # Errors
    ///
    /// [`PolicyError::ZeroGranularity`] if `granularity` is 0.
    pub fn lag_writes_by(lag: T, granularity: T) -> Result<Self, PolicyError> {
        if granularity == T::ZERO {
            return Err(PolicyError::ZeroGranularity);
        }
        let unit = std::cmp::min(lag.clone(), granularity);
        Ok(ReadPolicy::lag_each(move |upper: &T| {
            upper.back_by(&lag).round_down(&unit)
        }))
    }
}

/// Totally ordered times that one can count back: all unsigned integers, and what an embedder
/// implements it for.
pub trait Step: Time + TotalOrder {
    /// No distance.
    const ZERO: Self;
    /// The least distance.
    const ONE: Self;

    /// `self - distance`, or the minimum where that would be below it.
    #[must_use]
    fn back_by(&self, distance: &Self) -> Self;

    /// The greatest multiple of `unit` that is `≤ self`; `self` where `unit` is 0.
    #[must_use]
    fn round_down(&self, unit: &Self) -> Self;
}

macro_rules! step_for_unsigned {
    ($($time:ty),*) => {$(
        impl Step for $time {
            const ZERO: Self = 0;
            const ONE: Self = 1;

            fn back_by(&self, distance: &Self) -> Self {
                self.saturating_sub(*distance)
            }

            fn round_down(&self, unit: &Self) -> Self {
                self.checked_rem(*unit).map_or(*self, |rest| self - rest)
            }
        }
    )*};
}

step_for_unsigned!(u8, u16, u32, u64, u128, usize);

#[cfg(test)]
mod tests {
    use super::*;

    fn lag(lag: u64, granularity: u64, upper: u64) -> u64 {
        let policy = ReadPolicy::lag_writes_by(lag, granularity).unwrap();
        policy
            .since_for(&Upper::at(upper), &Since::at(0))
            .frontier()
            .elements()[0]
    }

    #[test]
    fn a_lag_stops_at_the_minimum_and_rounds_down() {
        assert_eq!(lag(10, 1, 25), 15);
        assert_eq!(lag(10, 1, 7), 0);
        assert_eq!(lag(10, 4, 25), 12);
        // A unit greater than the lag would keep more than twice the lag: the lag is the unit.
        assert_eq!(lag(10, 1_000, 25), 10);
        assert_eq!(lag(0, 5, 23), 23);
        assert_eq!(lag(1, 1, u64::MAX), u64::MAX - 1);
    }

    #[test]
    fn a_granularity_of_zero_is_refused() {
        let refused = ReadPolicy::lag_writes_by(10_u64, 0).unwrap_err();
        assert_eq!(refused, PolicyError::ZeroGranularity);
    }

    #[test]
    fn step_back_keeps_the_last_complete_time() {
        let policy = ReadPolicy::<u64>::step_back();
        assert_eq!(policy.since_for(&Upper::at(8), &Since::at(0)), Since::at(7));
        assert_eq!(policy.since_for(&Upper::at(0), &Since::at(0)), Since::at(0));
    }

    #[test]
    fn a_sealed_collection_keeps_its_since_under_a_lag_and_moves_under_valid_from() {
        let lag = ReadPolicy::lag_writes_by(10_u64, 1).unwrap();
        let implied = Since::at(37);
        assert_eq!(lag.since_for(&Upper::sealed(), &implied), implied);
        let valid_from = ReadPolicy::ValidFrom(Since::at(90));
        assert_eq!(
            valid_from.since_for(&Upper::sealed(), &implied),
            Since::at(90)
        );
    }

    #[test]
    fn several_policies_give_their_meet_and_none_is_refused() {
        let both = ReadPolicy::Multiple(vec![
            ReadPolicy::ValidFrom(Since::at(12_u64)),
            ReadPolicy::step_back(),
        ]);
        assert_eq!(both.since_for(&Upper::at(8), &Since::at(0)), Since::at(7));
        assert_eq!(both.since_for(&Upper::at(80), &Since::at(0)), Since::at(12));
        let nested = ReadPolicy::Multiple(vec![both, ReadPolicy::Multiple(vec![])]);
        assert_eq!(nested.check(), Err(PolicyError::EmptyMultiple));
    }
}
