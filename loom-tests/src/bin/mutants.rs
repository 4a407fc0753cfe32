//! Breaks the queue in one place at a time, and demands that the model named for it fails.
//!
//! ```text
//! cargo run --release -p lowwater-loom-tests --bin mutants [NAME...]
//! ```
//!
//! Works on a copy of the sources in `target/mutants`. Exit code 1 if a mutant survives, does not
//! build, or does not apply, or if a model fails without one.
#![forbid(unsafe_code)]
#![expect(clippy::print_stdout, reason = "a table for a person and for CI")]

use std::collections::BTreeSet;
use std::error::Error;
use std::fmt;
use std::fs::File;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode, Stdio};
use std::thread;
use std::time::{Duration, Instant};
use std::{env, fs};

/// A model that has not ended by then is not caught, it is stuck.
const MODEL_TIME_MAX: Duration = Duration::from_secs(120);

type Outcome<T> = Result<T, Box<dyn Error>>;

/// One way to break the code: a file of `mutants/`.
struct Mutant {
    name: String,
    /// The file to break, from the workspace's root.
    file: String,
    /// The test binary and the model in it that must fail.
    test: String,
    model: String,
    find: String,
    replace: String,
}

impl Mutant {
    fn parse(name: &str, text: &str) -> Outcome<Self> {
        let (head, body) = text.split_once("--- find\n").ok_or("no `--- find`")?;
        let (find, replace) = body.split_once("--- replace\n").ok_or("no `--- replace`")?;
        let field = |key: &str| {
            let line = head
                .lines()
                .find_map(|line| line.strip_prefix(key)?.strip_prefix(": "));
            line.map(str::to_owned)
                .ok_or_else(|| format!("no `{key}: `"))
        };
        field("why")?;
        Ok(Self {
            name: name.to_owned(),
            file: field("file")?,
            test: field("test")?,
            model: field("model")?,
            find: find.trim_end_matches('\n').to_owned(),
            replace: replace.trim_end_matches('\n').to_owned(),
        })
    }

    fn apply(&self, source: &str) -> Outcome<String> {
        match source.matches(&self.find).count() {
            1 => Ok(source.replacen(&self.find, &self.replace, 1)),
            times => Err(format!("{}: found {times} times in {}", self.name, self.file).into()),
        }
    }
}

/// A copy of the crates under test, in which one file at a time is broken.
struct Copy {
    root: PathBuf,
    target: PathBuf,
}

impl Copy {
    fn make(original: &Path) -> Outcome<Self> {
        let root = original.join("target/mutants/workspace");
        for folder in ["queue", "loom-tests"] {
            let _absent_at_first = fs::remove_dir_all(root.join(folder));
            copy_folder(&original.join(folder), &root.join(folder))?;
        }
        let manifest = fs::read_to_string(original.join("Cargo.toml"))?;
        let members = manifest
            .lines()
            .map(|line| match line.starts_with("members = ") {
                true => "members = [\"queue\", \"loom-tests\"]\n".to_owned(),
                false => format!("{line}\n"),
            });
        fs::write(root.join("Cargo.toml"), members.collect::<String>())?;
        fs::copy(original.join("Cargo.lock"), root.join("Cargo.lock"))?;
        Ok(Self {
            root,
            target: original.join("target/mutants/target"),
        })
    }

    /// Runs `then` while the mutant's file is broken.
    fn broken<R>(&self, mutant: &Mutant, then: impl FnOnce() -> Outcome<R>) -> Outcome<R> {
        let file = self.root.join(&mutant.file);
        let source = fs::read_to_string(&file)?;
        fs::write(&file, mutant.apply(&source)?)?;
        let result = then();
        fs::write(&file, source)?;
        result
    }

    fn log(&self, mutant: &Mutant) -> PathBuf {
        self.root.join(format!("{}.log", mutant.name))
    }

    fn cargo_test(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
        command
            .current_dir(&self.root)
            .args(["test", "--quiet", "--release", "-p", "lowwater-loom-tests"])
            .args(arguments)
            .env("RUSTFLAGS", "--cfg loom")
            .env("CARGO_TARGET_DIR", &self.target)
            // Each mutant is built anew: what matters is how soon.
            .env("CARGO_PROFILE_RELEASE_LTO", "off")
            .env("CARGO_PROFILE_RELEASE_DEBUG", "0")
            .env("CARGO_PROFILE_RELEASE_OPT_LEVEL", "1")
            .env("CARGO_PROFILE_RELEASE_CODEGEN_UNITS", "16")
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null());
        command
    }
}

fn copy_folder(from: &Path, to: &Path) -> Outcome<()> {
    fs::create_dir_all(to)?;
    for entry in fs::read_dir(from)? {
        let entry = entry?;
        let target = to.join(entry.file_name());
        if entry.file_type()?.is_dir() {
            copy_folder(&entry.path(), &target)?;
        } else {
            fs::copy(entry.path(), target)?;
        }
    }
    Ok(())
}

/// Whether the command succeeded; `None` if it took too long.
fn succeeds_in_time(command: &mut Command) -> Outcome<Option<bool>> {
    let began = Instant::now();
    let mut child = command.spawn()?;
    while began.elapsed() < MODEL_TIME_MAX {
        if let Some(status) = child.try_wait()? {
            return Ok(Some(status.success()));
        }
        thread::sleep(Duration::from_millis(20));
    }
    child.kill()?;
    child.wait()?;
    Ok(None)
}

/// What became of a mutant.
enum Verdict {
    /// Its model failed, as it should; for a person to judge whether for the right reason.
    Caught {
        complaint: String,
    },
    Survived,
    Stuck,
    DoesNotBuild,
}

impl fmt::Display for Verdict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Caught { .. } => "caught",
            Self::Survived => "SURVIVED",
            Self::Stuck => "STUCK",
            Self::DoesNotBuild => "DOES NOT BUILD",
        })
    }
}

fn verdict(copy: &Copy, mutant: &Mutant) -> Outcome<Verdict> {
    copy.broken(mutant, || {
        let test = ["--test", &mutant.test];
        if !copy
            .cargo_test(&[&test[..], &["--no-run"]].concat())
            .status()?
            .success()
        {
            return Ok(Verdict::DoesNotBuild);
        }
        let only = ["--", "--exact", &mutant.model];
        let log = copy.log(mutant);
        let mut model = copy.cargo_test(&[&test[..], &only].concat());
        match succeeds_in_time(model.stdout(File::create(&log)?))? {
            Some(true) => Ok(Verdict::Survived),
            Some(false) => Ok(Verdict::Caught {
                complaint: complaint(&fs::read(&log)?),
            }),
            None => Ok(Verdict::Stuck),
        }
    })
}

/// What the first thread to panic said.
fn complaint(log: &[u8]) -> String {
    let log = String::from_utf8_lossy(log);
    let mut lines = log.lines().skip_while(|line| !line.contains("panicked at"));
    lines
        .nth(1)
        .unwrap_or("(it died without a word)")
        .trim()
        .to_owned()
}

/// Every model that a mutant names is there, and passes as long as nothing is broken.
fn sound_models_pass(copy: &Copy, mutants: &[Mutant]) -> Outcome<()> {
    let tests: BTreeSet<&str> = mutants.iter().map(|mutant| mutant.test.as_str()).collect();
    for test in tests {
        let mut listing = copy.cargo_test(&["--test", test, "--", "--list"]);
        let listed = String::from_utf8(listing.stdout(Stdio::piped()).output()?.stdout)?;
        for mutant in mutants.iter().filter(|mutant| mutant.test == test) {
            if !listed
                .lines()
                .any(|line| line == format!("{}: test", mutant.model))
            {
                return Err(format!("{}: no model {} in {test}", mutant.name, mutant.model).into());
            }
        }
        if succeeds_in_time(&mut copy.cargo_test(&["--test", test]))? != Some(true) {
            return Err(format!("the models of {test} fail though nothing is broken").into());
        }
    }
    Ok(())
}

fn mutants(folder: &Path, wanted: &[String]) -> Outcome<Vec<Mutant>> {
    let mut mutants = Vec::new();
    for entry in fs::read_dir(folder)? {
        let path = entry?.path();
        let name = path
            .file_stem()
            .unwrap_or_default()
            .to_string_lossy()
            .into_owned();
        let is_wanted = wanted.is_empty() || wanted.contains(&name);
        if is_wanted
            && path
                .extension()
                .is_some_and(|extension| extension == "mutant")
        {
            let parsed = Mutant::parse(&name, &fs::read_to_string(&path)?);
            mutants.push(parsed.map_err(|error| format!("{name}: {error}"))?);
        }
    }
    mutants.sort_by(|one, other| one.name.cmp(&other.name));
    if mutants.is_empty() {
        Err("no such mutant".into())
    } else {
        Ok(mutants)
    }
}

fn run() -> Outcome<bool> {
    let package = Path::new(env!("CARGO_MANIFEST_DIR"));
    let workspace = package.parent().ok_or("the package lies in a workspace")?;
    let wanted: Vec<String> = env::args().skip(1).collect();
    let mutants = mutants(&package.join("mutants"), &wanted)?;
    let copy = Copy::make(workspace)?;
    sound_models_pass(&copy, &mutants)?;
    let mut all_caught = true;
    for mutant in &mutants {
        let began = Instant::now();
        let verdict = verdict(&copy, mutant)?;
        let Mutant {
            name, test, model, ..
        } = mutant;
        let seconds = began.elapsed().as_secs_f64();
        println!("{verdict:<14} {name:<42} {seconds:>4.1} s  {test}::{model}");
        match verdict {
            Verdict::Caught { complaint } => println!("{:<14} {complaint}", ""),
            Verdict::Survived | Verdict::Stuck | Verdict::DoesNotBuild => all_caught = false,
        }
    }
    Ok(all_caught)
}

fn main() -> ExitCode {
    match run() {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            println!("{error}");
            ExitCode::FAILURE
        }
    }
}
