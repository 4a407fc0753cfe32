//! Replays the flights that left New York in 2013 through Lowwater.

use std::io;
use std::process::ExitCode;

use lowwater_controller::program;
use lowwater_controller::sabotage::Sabotage;
use lowwater_controller::signals::Signals;
use lowwater_controller::warnings;

fn main() -> ExitCode {
    warnings::show();
    let (mut out, mut err) = (io::stdout().lock(), io::stderr());
    ExitCode::from(program::run(
        std::env::args_os(),
        Sabotage::None,
        &Signals::heard(),
        &mut out,
        &mut err,
    ))
}
