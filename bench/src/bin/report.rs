//! Measures Lowwater beside the baseline, in one process run.

#![forbid(unsafe_code)]

use std::io::{self, Write};
use std::process::ExitCode;

use lowwater_bench::report::{self, Options};
use lowwater_bench::sample::Scale;

fn main() -> ExitCode {
    match Options::parse(std::env::args_os().skip(1)) {
        Err(bad) => {
            complain(&bad);
            ExitCode::from(2)
        }
        Ok(options) => match run(&options) {
            Err(trouble) => {
                complain(&trouble);
                ExitCode::FAILURE
            }
            Ok(()) => ExitCode::SUCCESS,
        },
    }
}

fn run(options: &Options) -> io::Result<()> {
    if options.help {
        return writeln!(io::stdout(), "{}", Options::HELP);
    }
    let scale = if options.quick {
        Scale::Quick
    } else {
        Scale::Full
    };
    let report = report::measure(scale, |name| {
        // Progress is for whoever watches; nobody minds if nobody does.
        writeln!(io::stderr(), "measuring {name}").ok();
    });
    write!(io::stdout(), "{report}")?;
    if let Some(file) = &options.json {
        report.write_json(file).map_err(|error| {
            io::Error::new(
                error.kind(),
                format!("cannot write {}: {error}", file.display()),
            )
        })?;
    }
    Ok(())
}

fn complain(about: &dyn std::fmt::Display) {
    writeln!(io::stderr(), "report: {about}").ok();
}
