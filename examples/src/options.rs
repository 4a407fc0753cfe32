//! What the user may choose.

use std::ffi::OsString;
use std::path::PathBuf;

use clap::Parser;
use clap::error::ErrorKind;

use crate::data::Data;
use crate::minute::{DAY, Minute, YEAR_DAYS};

/// Replays the flights that left New York in 2013 through Lowwater, and checks what readers read.
///
/// History is kept exactly as long as the policies ask for it or a reader holds it. The summary
/// goes to standard error; what probes read goes to standard output, one JSON line each. The exit
/// code is 1 if any reading was wrong or any hold leaked, and 2 for bad options or missing data.
#[derive(Clone, Debug, PartialEq, Eq, Parser)]
#[command(name = "controller", version, max_term_width = 100)]
pub struct Options {
    /// How many days of the year to replay.
    #[arg(
        long, value_name = "N", default_value_t = YEAR_DAYS,
        value_parser = clap::value_parser!(u64).range(1..=YEAR_DAYS)
    )]
    pub days: u64,

    /// How many threads take holds and read.
    #[arg(
        long, value_name = "N", default_value_t = 4,
        value_parser = clap::value_parser!(u16).range(0..=256)
    )]
    pub readers: u16,

    /// By how much the uppers advance at once.
    #[arg(
        long, value_name = "MINUTES", default_value_t = 15,
        value_parser = clap::value_parser!(u64).range(1..=DAY)
    )]
    pub step: Minute,

    /// Hold this minute on all three views until the end, and print what was true then; repeatable.
    #[arg(long = "probe", value_name = "MINUTE")]
    pub probes: Vec<Minute>,

    /// Draw since and upper of every collection over time.
    #[arg(long, value_name = "FILE.svg")]
    pub plot: Option<PathBuf>,

    /// Where flights, weather and airlines are.
    #[arg(long, value_name = "FOLDER", default_value_os_t = Data::default_folder())]
    pub data: PathBuf,
}

/// Why there is nothing to replay.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Refusal {
    /// The user wants to read this, not to run anything.
    Help(String),
    /// What is wrong with the options, in one line.
    Bad(String),
}

impl Options {
    /// Understands the arguments of the command line; the first is the name of the program.
    ///
    /// # Errors
    /// When they ask for help, or make no sense.
    pub fn parse_args(
        args: impl IntoIterator<Item = impl Into<OsString> + Clone>,
    ) -> Result<Self, Refusal> {
        let options = Self::try_parse_from(args).map_err(|error| {
            let text = error.to_string();
            if matches!(
                error.kind(),
                ErrorKind::DisplayHelp | ErrorKind::DisplayVersion
            ) {
                Refusal::Help(text)
            } else {
                Refusal::Bad(first_line(&text))
            }
        })?;
        let end = options.end();
        match options.probes.iter().find(|probe| **probe >= end) {
            Some(probe) => Err(Refusal::Bad(format!(
                "error: the probe at minute {probe} is not before the end of the replay at {end}"
            ))),
            None => Ok(options),
        }
    }

    /// The minute at which the replay ends.
    #[must_use]
    pub fn end(&self) -> Minute {
        self.days * DAY
    }
}

fn first_line(text: &str) -> String {
    text.lines()
        .next()
        .unwrap_or("error: bad options")
        .to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parsed(args: &[&str]) -> Result<Options, Refusal> {
        Options::parse_args(std::iter::once(&"controller").chain(args))
    }

    #[test]
    fn without_options_it_is_the_whole_year() {
        let options = parsed(&[]).unwrap();
        assert_eq!((options.days, options.step, options.readers), (365, 15, 4));
        assert_eq!(options.end(), 525_600);
    }

    #[test]
    fn what_makes_no_sense_is_refused_in_one_line() {
        for (args, said) in [
            (&["--days", "0"][..], "--days"),
            (&["--days", "366"], "--days"),
            (&["--days", "many"], "--days"),
            (&["--days"], "--days"),
            (&["--days", "1", "--days", "2"], "--days"),
            (&["--step", "0"], "--step"),
            (&["--step", "1441"], "--step"),
            (&["--readers", "-1"], "-1"),
            (&["--readers", "100000"], "--readers"),
            (&["--probe", "525600"], "525600"),
            (
                &["--days", "1", "--probe", "1439", "--probe", "1440"],
                "1440",
            ),
            (&["--speed", "9"], "--speed"),
            (&["fast"], "fast"),
        ] {
            let Err(Refusal::Bad(line)) = parsed(args) else {
                panic!("{args:?} was taken")
            };
            assert!(
                line.contains(said) && !line.contains('\n'),
                "{args:?}: {line}"
            );
        }
    }

    #[test]
    fn the_last_minute_can_be_probed_and_twice() {
        let options = parsed(&["--days", "1", "--probe", "1439", "--probe", "1439"]).unwrap();
        assert_eq!(options.probes, [1439, 1439]);
    }

    #[test]
    fn help_is_not_a_mistake() {
        assert!(
            matches!(parsed(&["--help"]), Err(Refusal::Help(text)) if text.contains("--probe"))
        );
        assert!(matches!(parsed(&["--version"]), Err(Refusal::Help(_))));
    }
}
