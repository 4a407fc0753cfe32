//! The program: arguments in, an exit code out.

use std::ffi::OsString;
use std::fs::File;
use std::io::{self, IsTerminal, Write};
use std::thread;
use std::time::{Duration, Instant};

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use lowwater::StopReason;
use lowwater_shard::collections::TakenOver;

use crate::ask::{Answer, ask};
use crate::data::Data;
use crate::embedding::{APPEAR_WITHIN, EmbeddingError};
use crate::location::Location;
use crate::metrics::Endpoint;
use crate::minute::DAY;
use crate::options::{Ask, Options, Refusal, Request};
use crate::outcome::Outcome;
use crate::plot;
use crate::replay::replay;
use crate::report::{FollowedReport, Report};
use crate::role::Role;
use crate::sabotage::Sabotage;
use crate::signals::{Asked, Signals};
use crate::standby::{read_only, take_over};
use crate::store::Store;
use crate::trouble::ReplayError;

/// How often it is looked whether a store has appeared.
const LOOK_AGAIN: Duration = Duration::from_millis(50);

/// All was well.
pub const GOOD: u8 = 0;

/// A reading was wrong, a hold leaked, or the replay did not come to its end.
pub const BAD: u8 = 1;

/// There was nothing to replay: bad options, no data, no store, or a probe that cannot be read.
pub const REFUSED: u8 = 2;

/// What a store was asked for lies before its since, or is not yet written.
pub const UNREADABLE: u8 = 3;

/// Another controller has taken the store over.
pub const FENCED: u8 = 4;

/// Runs the controller and gives its exit code. `out` gets what was asked for and what the probes
/// read, and `err` all else that is meant for people. When a signal is heard, it stops in good order.
pub fn run(
    args: impl IntoIterator<Item = impl Into<OsString> + Clone>,
    sabotage: Sabotage,
    signals: &Signals,
    out: &mut dyn Write,
    err: &mut dyn Write,
) -> u8 {
    match try_run(args, sabotage, signals, out, err) {
        Ok(code) => code,
        Err(Failure::Help(text)) => {
            // Whoever closes the pipe while we help needs no more help.
            drop(write!(out, "{text}"));
            drop(out.flush());
            GOOD
        }
        Err(Failure::Asked(asked)) => {
            drop(writeln!(err, "{asked}"));
            asked.by.exit_code()
        }
        Err(Failure::Refused(line)) => {
            drop(writeln!(err, "{line}"));
            REFUSED
        }
        Err(Failure::Fenced(reason)) => {
            drop(writeln!(err, "{reason}"));
            FENCED
        }
        Err(Failure::Broken(error)) => {
            drop(writeln!(err, "error: {error}"));
            BAD
        }
    }
}

enum Failure {
    Help(String),
    Refused(String),
    Fenced(StopReason),
    Asked(Asked),
    Broken(Box<dyn std::error::Error>),
}

impl<E: std::error::Error + 'static> From<E> for Failure {
    fn from(error: E) -> Self {
        Self::Broken(error.into())
    }
}

fn refused(error: &dyn std::error::Error) -> Failure {
    Failure::Refused(format!("error: {error}"))
}

fn try_run(
    args: impl IntoIterator<Item = impl Into<OsString> + Clone>,
    sabotage: Sabotage,
    signals: &Signals,
    out: &mut dyn Write,
    err: &mut dyn Write,
) -> Result<u8, Failure> {
    let request = Request::parse_args(args).map_err(|refusal| match refusal {
        Refusal::Help(text) => Failure::Help(text),
        Refusal::Bad(line) => Failure::Refused(line),
    })?;
    match request {
        Request::Replay(options, location) => {
            try_replay(&options, &location, sabotage, signals, out, err)
        }
        Request::Ask(ask) => try_ask(&ask, out),
    }
}

fn try_ask(Ask { location, at }: &Ask, out: &mut dyn Write) -> Result<u8, Failure> {
    let store = Store::open_to_ask(location).map_err(|error| refused(&error))?;
    let answer = ask(&store, *at)?;
    serde_json::to_writer(&mut *out, &answer)?;
    writeln!(out)?;
    out.flush()?;
    Ok(match answer {
        Answer::Found(_) => GOOD,
        Answer::Refused(_) => UNREADABLE,
    })
}

fn try_replay(
    options: &Options,
    location: &Location,
    sabotage: Sabotage,
    signals: &Signals,
    out: &mut dyn Write,
    err: &mut dyn Write,
) -> Result<u8, Failure> {
    signals.listen()?;
    let data = Data::load(&options.data).map_err(|error| refused(&error))?;
    let plot = open_plot(options)?;
    let bar = progress_bar(options.days);
    let mut progress = |minute| {
        bar.set_position(minute / DAY);
        signals.check()
    };
    let outcome = match options.role() {
        Role::InCharge => {
            let mut store = Store::open(location).map_err(|error| refused(&error))?;
            if let (Location::Fresh, Some(folder)) = (location, store.folder()) {
                writeln!(err, "The store is in {}", folder.display())?;
            }
            let _endpoint = tell_figures(options, &store, err)?;
            let outcome = replay(options, &data, &mut store, sabotage, &mut progress);
            bar.finish_and_clear();
            settled(outcome.map_err(failed)?, store)
        }
        Role::ReadOnly => {
            let mut store = appears(signals, || Store::open_to_ask(location))?;
            let _endpoint = tell_figures(options, &store, err)?;
            let followed = read_only(options, &data, &mut store, &mut progress);
            bar.finish_and_clear();
            let followed = &followed.map_err(failed)?;
            write!(err, "{}", FollowedReport { followed })?;
            return Ok(if followed.is_good() { GOOD } else { BAD });
        }
        Role::Promoted { .. } => {
            let mut store = appears(signals, || Store::open_to_take_over(location))?;
            let _endpoint = tell_figures(options, &store, err)?;
            let mut promoted = |taken: &TakenOver, minute| {
                let epoch = taken.fence.epoch;
                let line = format!("Took the store over at minute {minute}, with epoch {epoch}");
                bar.suspend(|| drop(writeln!(err, "{line}")));
            };
            let outcome = take_over(
                options,
                &data,
                &mut store,
                sabotage,
                &mut promoted,
                &mut progress,
            );
            bar.finish_and_clear();
            settled(outcome.map_err(failed)?, store)
        }
    };

    write_probes(out, &outcome)?;
    if let (Some(mut file), Some(course)) = (plot, &outcome.course) {
        let relations = &outcome.relations;
        write!(file, "{}", plot::Plot { course, relations })?;
        file.flush()?;
    }
    let outcome = &outcome;
    write!(err, "{}", Report { options, outcome })?;
    Ok(if outcome.is_good() { GOOD } else { BAD })
}

/// With what the store takes when nobody has it open any more.
fn settled(mut outcome: Outcome, store: Store) -> Outcome {
    outcome.space.on_disk_at_end = store.close();
    outcome
}

fn failed(error: ReplayError) -> Failure {
    match error {
        ReplayError::Unreadable { .. }
        | ReplayError::Embedding(EmbeddingError::NothingToFollow) => refused(&error),
        ReplayError::Fenced(reason) => Failure::Fenced(reason),
        ReplayError::Asked(asked) => Failure::Asked(asked),
        ReplayError::Embedding(_) | ReplayError::Store(_) | ReplayError::Silent { .. } => {
            error.into()
        }
    }
}

/// A store that another controller makes, if it is not there: it is waited for.
fn appears(
    signals: &Signals,
    open: impl Fn() -> Result<Store, StoreOpenError>,
) -> Result<Store, Failure> {
    let begin = Instant::now();
    loop {
        match open() {
            Err(error) if error.is_absence() && begin.elapsed() < APPEAR_WITHIN => {
                signals.check().map_err(Failure::Asked)?;
                thread::sleep(LOOK_AGAIN);
            }
            opened => return opened.map_err(|error| refused(&error)),
        }
    }
}

/// Before there is anything to tell, so that nobody replays for a scraper that finds nobody.
fn tell_figures(
    options: &Options,
    store: &Store,
    err: &mut dyn Write,
) -> Result<Option<Endpoint>, Failure> {
    let Some(address) = options.metrics else {
        return Ok(None);
    };
    let endpoint = Endpoint::open(address, store.runtime(), store.figures().clone());
    let endpoint = endpoint.map_err(|error| {
        Failure::Refused(format!("error: cannot tell metrics at {address}: {error}"))
    })?;
    let address = endpoint.address();
    writeln!(err, "Metrics are told at http://{address}/metrics")?;
    Ok(Some(endpoint))
}

/// Opened before the replay begins, so that nobody waits for a picture that cannot be written.
fn open_plot(options: &Options) -> Result<Option<io::BufWriter<File>>, Failure> {
    let Some(path) = &options.plot else {
        return Ok(None);
    };
    let file = File::create(path).map_err(|error| {
        Failure::Refused(format!(
            "error: cannot write the picture to {}: {error}",
            path.display()
        ))
    })?;
    Ok(Some(io::BufWriter::new(file)))
}

fn write_probes(out: &mut dyn Write, outcome: &Outcome) -> io::Result<()> {
    for reading in &outcome.probes {
        serde_json::to_writer(&mut *out, reading)?;
        writeln!(out)?;
    }
    out.flush()
}

/// Seen only by somebody who looks: where standard error is no terminal, nothing is drawn.
fn progress_bar(days: u64) -> ProgressBar {
    let target = if io::stderr().is_terminal() {
        ProgressDrawTarget::stderr()
    } else {
        ProgressDrawTarget::hidden()
    };
    let style = ProgressStyle::with_template("{bar:40} day {pos} of {len}, {eta} to go")
        .expect("the template is well-formed");
    ProgressBar::with_draw_target(Some(days), target).with_style(style)
}
