//! Some days of the year as data of their own: quicker to read than the year.

use std::fs;
use std::path::Path;

use lowwater_controller::catalog::Relation;
use lowwater_controller::data::Data;
use lowwater_controller::minute::DAY;
use lowwater_controller::oracle::Oracle;
use ruzstd::decoding::StreamingDecoder;
use ruzstd::encoding::{CompressionLevel, compress_to_vec};
use tempfile::TempDir;

/// How many days are replayed.
pub(crate) const DAYS: u64 = 4;

/// Some days of the year.
pub(crate) struct Days {
    folder: TempDir,
    pub(crate) data: Data,
}

impl Days {
    /// Cuts them out of the data of the year: with a day more, for flights are announced before.
    pub(crate) fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let last_minute = (DAYS + 1) * DAY;
        cut(
            folder.path(),
            "flights.csv.zst",
            "sched_dep_minute",
            last_minute,
        );
        cut(folder.path(), "weather.csv.zst", "day", DAYS + 1);
        cut(folder.path(), "airlines.csv.zst", "", 0);
        let data = Data::load(folder.path()).unwrap();
        Self { folder, data }
    }

    /// Where they are.
    pub(crate) fn folder(&self) -> &Path {
        self.folder.path()
    }

    /// What is read of them is what is read of the year.
    pub(crate) fn are_those_of_the_year(&self) -> bool {
        let year = Data::load(&Data::default_folder()).unwrap();
        let (year, days) = (Oracle::new(&year), Oracle::new(&self.data));
        let minutes = [0, 1, 777, DAYS * DAY / 2, DAYS * DAY - 1];
        minutes.into_iter().all(|minute| {
            Relation::ALL
                .into_iter()
                .all(|relation| year.rows(relation, minute) == days.rows(relation, minute))
        })
    }
}

/// Copies the lines of a table that come in order, up to the first one with more than `most` in
/// `column`; of the weather, which comes by airport, all of January that have no more.
fn cut(into: &Path, name: &str, column: &str, most: u64) {
    let compressed = fs::File::open(Data::default_folder().join(name)).unwrap();
    let mut from = csv::Reader::from_reader(StreamingDecoder::new(compressed).unwrap());
    let mut to = csv::Writer::from_writer(Vec::new());
    let header = from.headers().unwrap().clone();
    to.write_record(&header).unwrap();
    let place = |name: &str| header.iter().position(|of_one| of_one == name);
    let (column, month) = (place(column), place("month").filter(|_| column == "day"));
    for line in from.records() {
        let line = line.unwrap();
        let number = |place: usize| line[place].parse::<u64>().unwrap();
        if month.is_some_and(|month| number(month) > 1) {
            continue;
        }
        match column {
            Some(column) if number(column) > most && month.is_none() => break,
            Some(column) if number(column) > most => {}
            Some(_) | None => to.write_record(&line).unwrap(),
        }
    }
    let bytes = to.into_inner().unwrap();
    let compressed = compress_to_vec(&bytes[..], CompressionLevel::Uncompressed);
    fs::write(into.join(name), compressed).unwrap();
}
