//! Times that can be stored: each is a fixed number of unsigned coordinates.

use lowwater::Time;
use timely::order::Product;

/// A time that has a durable form.
///
/// Times are ordered coordinate by coordinate: `a ≤ b` iff no coordinate of `a` is greater than that of
/// `b`. Subscriptions rely on it, and whoever reads the stored columns with another tool does.
///
/// The number and the order of the coordinates are part of what is stored: a log that was written
/// with another number of them is refused as foreign.
pub trait ShardTime: Time {
    /// How many coordinates a time has.
    const COORDINATES: u8;

    /// Hands out the coordinates, in order.
    fn coordinates(&self, each: &mut impl FnMut(u64));

    /// Builds a time from as many coordinates, in the same order; `None` where `next` ends early
    /// or gives what no time has.
    fn from_coordinates(next: &mut impl FnMut() -> Option<u64>) -> Option<Self>;
}

impl ShardTime for u64 {
    const COORDINATES: u8 = 1;

    fn coordinates(&self, each: &mut impl FnMut(u64)) {
        each(*self);
    }

    fn from_coordinates(next: &mut impl FnMut() -> Option<u64>) -> Option<Self> {
        next()
    }
}

impl ShardTime for u32 {
    const COORDINATES: u8 = 1;

    fn coordinates(&self, each: &mut impl FnMut(u64)) {
        each(u64::from(*self));
    }

    fn from_coordinates(next: &mut impl FnMut() -> Option<u64>) -> Option<Self> {
        u32::try_from(next()?).ok()
    }
}

impl<TOuter: ShardTime, TInner: ShardTime> ShardTime for Product<TOuter, TInner> {
    const COORDINATES: u8 = TOuter::COORDINATES + TInner::COORDINATES;

    fn coordinates(&self, each: &mut impl FnMut(u64)) {
        self.outer.coordinates(each);
        self.inner.coordinates(each);
    }

    fn from_coordinates(next: &mut impl FnMut() -> Option<u64>) -> Option<Self> {
        let outer = TOuter::from_coordinates(next)?;
        let inner = TInner::from_coordinates(next)?;
        Some(Product::new(outer, inner))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn there_and_back<T: ShardTime>(time: T) {
        let mut coordinates = Vec::new();
        time.coordinates(&mut |coordinate| coordinates.push(coordinate));
        assert_eq!(coordinates.len(), usize::from(T::COORDINATES));
        let mut coordinates = coordinates.into_iter();
        assert_eq!(
            T::from_coordinates(&mut || coordinates.next()),
            Some(time.clone())
        );
        assert_eq!(T::from_coordinates(&mut || coordinates.next()), None);
    }

    #[test]
    fn a_time_is_its_coordinates() {
        there_and_back(7_u64);
        there_and_back(7_u32);
        there_and_back(Product::new(u64::MAX, 3_u64));
        there_and_back(Product::new(1_u64, Product::new(2_u32, 3_u64)));
    }

    #[test]
    fn a_coordinate_that_does_not_fit_is_no_time() {
        assert_eq!(u32::from_coordinates(&mut || Some(1 << 32)), None);
    }
}
