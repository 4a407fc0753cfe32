//! What the user may choose.

use std::cmp::Reverse;
use std::ffi::OsString;
use std::fmt::Display;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use clap::error::ErrorKind;
use clap::{Args, Parser, Subcommand};

use crate::data::Data;
use crate::location::{Address, Location, LocationArgs, address, may_have_password};
use crate::minute::{DAY, Minute, YEAR_DAYS};
use crate::role::{Role, RoleArgs};

/// How long nothing may be written until whoever is followed is taken for gone, unless said
/// otherwise.
const SILENCE: Duration = Duration::from_secs(60);

/// Replays the flights that left New York in 2013 through Lowwater, and checks what readers read.
///
/// History is kept exactly as long as the policies ask for it or a reader holds it, in durable
/// shards: started again on the same store, the replay goes on where it was, however it ended. The
/// summary goes to standard error; what probes read goes to standard output, one JSON line each.
/// The exit code is 0 if all was well; 1 if a reading was wrong, a hold leaked, a since is not what
/// its policy asks for, the store failed for good, or nothing was written for too long by whoever
/// was followed; 2 for bad options, missing data, a store that cannot be opened, a probe that cannot
/// be read any more, or nothing to follow; 3 if what is asked of a store cannot be read; 4 if another
/// controller has taken the store over; 130 or 143 if SIGINT (Ctrl-C) or SIGTERM has stopped it, from
/// where it goes on when it is started again.
#[derive(Clone, Debug, Parser)]
#[command(
    name = "controller",
    version,
    max_term_width = 100,
    args_conflicts_with_subcommands = true,
    subcommand_value_name = "COMMAND"
)]
struct CommandLine {
    #[command(subcommand)]
    instead: Option<Instead>,
    #[command(flatten)]
    replay: ReplayArgs,
}

#[derive(Clone, Debug, Subcommand)]
enum Instead {
    /// Print the views as of a minute, straight from a store, as one JSON line.
    ///
    /// Nothing is written, and nobody is waited for: if the minute lies before since, or is not yet
    /// written, what is printed says so, with since and upper, and the exit code is 3.
    Ask(AskArgs),
}

#[derive(Clone, Debug, Args)]
struct AskArgs {
    /// Where the shards are: a folder, or postgres://user@host/database.
    #[arg(long, value_name = "STORE", value_parser = address())]
    store: Address,

    /// Where the parts are, if the records are in a database: a folder, or s3://bucket/prefix.
    #[arg(long, value_name = "BLOBS", value_parser = address())]
    blobs: Option<Address>,

    /// As of when.
    #[arg(long, value_name = "MINUTE")]
    at: Minute,
}

#[derive(Clone, Debug, Args)]
struct ReplayArgs {
    #[command(flatten)]
    location: LocationArgs,

    #[command(flatten)]
    options: Options,
}

/// What the user wants.
#[derive(Clone, Debug)]
pub enum Request {
    /// To replay the year, or some days of it.
    Replay(Options, Location),
    /// To read the views from a store.
    Ask(Ask),
}

/// What is to be read from a store.
#[derive(Clone, Debug)]
pub struct Ask {
    /// Where the store is.
    pub location: Location,
    /// As of when.
    pub at: Minute,
}

/// What may be chosen about a replay.
#[derive(Clone, Debug, PartialEq, Eq, Args)]
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

    /// Whether the store is taken over.
    #[command(flatten)]
    pub role: RoleArgs,

    /// Tell figures to Prometheus there, at /metrics, while the replay runs; port 0 is a free one.
    #[arg(long, value_name = "ADDR")]
    pub metrics: Option<SocketAddr>,

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

impl Request {
    /// Understands the arguments of the command line; the first is the name of the program.
    ///
    /// # Errors
    /// When they ask for help, or make no sense.
    pub fn parse_args(
        args: impl IntoIterator<Item = impl Into<OsString> + Clone>,
    ) -> Result<Self, Refusal> {
        let args: Vec<OsString> = args.into_iter().map(Into::into).collect();
        let line = CommandLine::try_parse_from(&args).map_err(|error| refusal(&error, &args))?;
        match line.instead {
            Some(Instead::Ask(AskArgs { store, blobs, at })) => {
                let store = Some(store);
                match Location::try_from(LocationArgs { store, blobs }).map_err(bad)? {
                    Location::Fresh | Location::Memory => {
                        Err(bad("what is in memory can be asked by nobody else"))
                    }
                    location @ (Location::Folder(_) | Location::Postgres { .. }) => {
                        Ok(Self::Ask(Ask { location, at }))
                    }
                }
            }
            None => {
                let ReplayArgs { location, options } = line.replay;
                let location = location.try_into().map_err(bad)?;
                options.check(&location)?;
                Ok(Self::Replay(options, location))
            }
        }
    }
}

impl Options {
    fn check(&self, location: &Location) -> Result<(), Refusal> {
        let end = self.end();
        let shared = match location {
            Location::Fresh | Location::Memory => false,
            Location::Folder(_) | Location::Postgres { .. } => true,
        };
        match self.role() {
            Role::InCharge if self.role.silence.is_some() => {
                return Err(bad("--silence goes with --read-only or --promote"));
            }
            Role::InCharge => {}
            Role::ReadOnly | Role::Promoted { .. } if !shared => {
                return Err(bad("who follows needs the --store of another controller"));
            }
            Role::Promoted { at: Some(minute) } if minute > end => {
                return Err(bad(format!(
                    "minute {minute} is not before the end of the replay at {end}"
                )));
            }
            Role::ReadOnly | Role::Promoted { .. } => {}
        }
        match self.probes.iter().find(|probe| **probe >= end) {
            Some(probe) => Err(bad(format!(
                "the probe at minute {probe} is not before the end of the replay at {end}"
            ))),
            None => Ok(()),
        }
    }

    /// What the controller is in charge of.
    #[must_use]
    pub fn role(&self) -> Role {
        self.role.role()
    }

    /// How long nothing may be written until whoever is followed is taken for gone.
    #[must_use]
    pub fn silence(&self) -> Duration {
        self.role.silence.map_or(SILENCE, Duration::from_secs)
    }

    /// The minute at which the replay ends.
    #[must_use]
    pub fn end(&self) -> Minute {
        self.days * DAY
    }
}

fn refusal(error: &clap::Error, args: &[OsString]) -> Refusal {
    let text = error.to_string();
    let kind = error.kind();
    if matches!(kind, ErrorKind::DisplayHelp | ErrorKind::DisplayVersion) {
        return Refusal::Help(text);
    }
    let text = without_passwords(text, args);
    if kind == ErrorKind::MissingRequiredArgument {
        Refusal::Bad(lines_in_one(&text))
    } else {
        Refusal::Bad(first_line(&text))
    }
}

/// The text, which repeats arguments, without those that a password may be in.
fn without_passwords(text: String, args: &[OsString]) -> String {
    let mut secret: Vec<String> = Vec::new();
    for arg in args.iter().skip(1) {
        let arg = arg.to_string_lossy();
        let value = match arg.strip_prefix("--").and_then(|arg| arg.split_once('=')) {
            Some((_, value)) => value,
            None => &arg,
        };
        if may_have_password(value) {
            secret.push(value.to_owned());
        }
    }
    // What is part of another one goes with it.
    secret.sort_by_key(|value| Reverse(value.len()));
    let hide = |text: String, value: &String| text.replace(value.as_str(), "…");
    secret.iter().fold(text, hide)
}

fn bad(what: impl Display) -> Refusal {
    Refusal::Bad(format!("error: {what}"))
}

/// The first sentence, which names what is missing in the lines that follow.
fn lines_in_one(text: &str) -> String {
    let lines = text.lines().map(str::trim);
    let lines: Vec<_> = lines.take_while(|line| !line.is_empty()).collect();
    lines.join(" ")
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
        match request(args)? {
            Request::Replay(options, _) => Ok(options),
            Request::Ask(ask) => panic!("{ask:?} is no replay"),
        }
    }

    fn request(args: &[&str]) -> Result<Request, Refusal> {
        Request::parse_args(std::iter::once(&"controller").chain(args))
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
            (&["--blobs", "parts"], "--blobs"),
            (&["--store", "postgres://me@here/this"], "--blobs"),
            (&["--read-only"], "--store"),
            (&["--promote", "--store", "memory"], "--store"),
            (
                &["--read-only", "--promote", "--store", "folder"],
                "--promote",
            ),
            (
                &["--read-only", "--probe", "7", "--store", "folder"],
                "--probe",
            ),
            (&["--promote-at", "7", "--store", "folder"], "--promote"),
            (
                &[
                    "--promote",
                    "--promote-at",
                    "1441",
                    "--days",
                    "1",
                    "--store",
                    "folder",
                ],
                "1441",
            ),
            (
                &["--read-only", "--silence", "0", "--store", "f"],
                "--silence",
            ),
            (&["--silence", "7", "--store", "folder"], "--silence"),
            (&["ask", "--at", "7"], "--store"),
            (&["ask", "--store", "memory", "--at", "7"], "memory"),
            (&["ask", "--store", "folder"], "--at"),
            (&["ask", "--store", "folder", "--at", "-7"], "-7"),
            (&["--days", "7", "ask", "--store", "f", "--at", "7"], "ask"),
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
    fn nothing_that_is_mistyped_shows_a_password() {
        let address = "postgres://me:secret@here/this";
        for args in [
            &["ask", address, "--at", "7"][..],
            &[address],
            &["--", address],
            &["--metrics", address],
            &["--metrics=postgres://me:secret@here/this"],
            &["--days", address],
            &["--days=me:secret@here"],
            &["--stores=postgres://me:secret@here/this"],
            &["--stores", address],
            &["ask", "--at", address, "--store", "folder"],
            &["--store", "host=here", "password=secret"],
            &["--store", "folder", "--promote-at", "PASSWORD = secret"],
            &["--store", "postgres:/me:secret@here/this"],
            &["--store", "host=here password=secret"],
            &["--store", "postgres://me:secret@here:port", "--blobs", "b"],
            &["--store", address, "--blobs", "s3:/me:secret@bucket"],
            &["--store", address, "--store", address],
            &["ask", "--store", "me:secret@here", "--at", "7"],
            &["--data", "here", address],
        ] {
            let Err(Refusal::Bad(line)) = parsed(args) else {
                panic!("{args:?} was taken")
            };
            assert!(!line.contains("secret"), "{args:?}: {line}");
            assert!(line.starts_with("error: "), "{args:?}: {line}");
        }
    }

    #[test]
    fn the_last_minute_can_be_probed_and_twice() {
        let options = parsed(&["--days", "1", "--probe", "1439", "--probe", "1439"]).unwrap();
        assert_eq!(options.probes, [1439, 1439]);
    }

    #[test]
    fn who_follows_says_until_when() {
        let role = |args: &[&str]| {
            let all = [args, &["--store", "folder"]].concat();
            parsed(&all).unwrap().role()
        };
        assert_eq!(role(&[]), Role::InCharge);
        assert_eq!(role(&["--read-only"]), Role::ReadOnly);
        assert_eq!(role(&["--promote"]), Role::Promoted { at: None });
        let at = Role::Promoted { at: Some(7) };
        assert_eq!(role(&["--promote", "--promote-at", "7"]), at);
    }

    #[test]
    fn a_store_can_be_asked_instead() {
        let Ok(Request::Ask(ask)) = request(&["ask", "--store", "folder", "--at", "7"]) else {
            panic!("it was not understood")
        };
        assert_eq!(ask.at, 7);
        assert!(matches!(ask.location, Location::Folder(folder) if folder.ends_with("folder")));
    }

    #[test]
    fn help_is_not_a_mistake() {
        assert!(
            matches!(parsed(&["--help"]), Err(Refusal::Help(text)) if text.contains("--probe"))
        );
        assert!(matches!(parsed(&["--version"]), Err(Refusal::Help(_))));
    }
}
