//! What the report is asked to do.

use std::ffi::OsString;
use std::fmt;
use std::path::PathBuf;

/// The options of the report.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Options {
    /// Where the rows go as JSON.
    pub json: Option<PathBuf>,
    /// Smaller samples, less than a minute in all.
    pub quick: bool,
    /// Only say which options there are.
    pub help: bool,
}

/// An option that there is not, or that lacks what it needs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum BadOption {
    /// There is no such option.
    Unknown(String),
    /// `--json` needs the name of a file.
    NoFile,
}

impl Options {
    /// One line per option.
    pub const HELP: &str = "\
measures Lowwater beside the baseline and prints a table

  --json FILE   write the rows to FILE as well
  --quick       smaller samples: less than a minute
  --help        this";

    /// Reads the arguments that follow the name of the program.
    ///
    /// # Errors
    ///
    /// When one of them is no option.
    pub fn parse(args: impl IntoIterator<Item = OsString>) -> Result<Self, BadOption> {
        let mut options = Self::default();
        let mut args = args.into_iter();
        while let Some(arg) = args.next() {
            match arg.to_str() {
                Some("--json") => {
                    options.json = Some(args.next().ok_or(BadOption::NoFile)?.into());
                }
                Some("--quick") => options.quick = true,
                Some("--help" | "-h") => options.help = true,
                _ => return Err(BadOption::Unknown(arg.to_string_lossy().into_owned())),
            }
        }
        Ok(options)
    }
}

impl fmt::Display for BadOption {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unknown(option) => write!(f, "there is no option {option}, see --help"),
            Self::NoFile => write!(f, "--json needs the name of a file"),
        }
    }
}

impl std::error::Error for BadOption {}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(args: &[&str]) -> Result<Options, BadOption> {
        Options::parse(args.iter().map(OsString::from))
    }

    #[test]
    fn options_come_in_any_order() {
        let both = Options {
            json: Some("a.json".into()),
            quick: true,
            help: false,
        };
        assert_eq!(parse(&["--json", "a.json", "--quick"]), Ok(both.clone()));
        assert_eq!(parse(&["--quick", "--json", "a.json"]), Ok(both));
        assert_eq!(parse(&[]), Ok(Options::default()));
    }

    #[test]
    fn what_is_no_option_is_named() {
        assert_eq!(parse(&["--fast"]), Err(BadOption::Unknown("--fast".into())));
        assert_eq!(parse(&["--quick", "--json"]), Err(BadOption::NoFile));
    }
}
