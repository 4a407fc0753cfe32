//! The maintained views, as differential dataflow computes them.

use differential_dataflow::VecCollection;
use differential_dataflow::operators::CountTotal;
use differential_dataflow::operators::arrange::Arranged;

use crate::arrangement::{Diff, Trace};
use crate::data::airline::{Airport, Carrier};
use crate::data::flight::{FlightId, FlightRow, Status};
use crate::data::weather::WeatherRow;
use crate::minute::Minute;
use crate::row::Delay;

/// A collection of pairs.
pub type Pairs<'scope, K, V> = VecCollection<'scope, Minute, (K, V), Diff>;

/// An arrangement that a view is made from.
pub type Input<'scope, K, V> = Arranged<'scope, Trace<K, V>>;

/// Flights in the air, by origin.
pub fn airborne<'scope>(
    flights: &Input<'scope, FlightId, FlightRow>,
) -> Pairs<'scope, Airport, Diff> {
    flights
        .clone()
        .flat_map_ref(|_, flight| (flight.status == Status::Airborne).then_some(flight.origin))
        .count_total_core()
}

/// Flights that have left, among those present, and the sum of their delays, by airline's name.
pub fn departure_delay<'scope>(
    flights: &Input<'scope, FlightId, FlightRow>,
    departures: &Input<'scope, FlightId, i16>,
    airlines: &Input<'scope, Carrier, String>,
) -> Pairs<'scope, String, Delay> {
    departures
        .clone()
        .join_core(flights.clone(), |_, dep_delay, flight| {
            Some((flight.carrier, *dep_delay))
        })
        // Count and sum travel in the difference, so that nothing but sums per airline is kept.
        .explode(|(carrier, dep_delay)| Some((carrier, (1, Diff::from(dep_delay)))))
        .arrange_by_self()
        .join_core(airlines.clone(), |_, (), name| Some(name.clone()))
        .count_total_core()
        .map(|(name, (flights, dep_delay))| (name, Delay { flights, dep_delay }))
}

/// Flights in the air, by origin, where the latest weather is wet.
///
/// It is made from two views over one clock, and through `airborne` from `flights`: a diamond.
///
/// Both sides are arranged once more, for this join alone. A join walks through all that its
/// arrangements keep of a key, and there are but three keys: were they the ones that readers hold
/// back, every step would pay for a hold as long as it lasts.
pub fn airborne_in_rain<'scope>(
    airborne: &Input<'scope, Airport, Diff>,
    weather: &Input<'scope, Airport, WeatherRow>,
) -> Pairs<'scope, Airport, Diff> {
    let wet = weather
        .clone()
        .flat_map_ref(|origin, row| row.is_wet().then_some(*origin));
    airborne
        .clone()
        .as_collection(|origin, count| (*origin, *count))
        .semijoin(wet)
}
