//! What a process did to files, as strace wrote it down.

use std::collections::HashMap;
use std::env;
use std::fs;
use std::path::PathBuf;
use std::process::{Command, Stdio};

use tempfile::NamedTempFile;

/// The calls that can change a file. What is not known to a machine is left out by the `?`.
const CALLS: &str = "trace=?open,openat,?openat2,?creat,write,pwrite64,writev,pwritev,?pwritev2,\
    fsync,fdatasync,?sync,?syncfs,?sync_file_range,ftruncate,truncate,fallocate,?rename,renameat,\
    ?renameat2,?link,linkat,?unlink,unlinkat,?mkdir,mkdirat,?rmdir,?symlink,symlinkat,mmap,\
    ?copy_file_range,sendfile,?splice,?io_uring_enter,lseek";

/// More than is ever written in one call.
const BYTES_MAX: &str = "4000000";

/// Whether processes can be traced here. Says what is missing if not; in CI they must be.
pub(crate) fn is_there() -> bool {
    let tried = Command::new("strace")
        .args(["-f", "--seccomp-bpf", "-o", "/dev/null", "true"])
        .stdin(Stdio::null())
        .output();
    let trouble = match tried {
        Ok(output) if output.status.success() => return true,
        Ok(output) => String::from_utf8_lossy(&output.stderr).into_owned(),
        Err(error) => error.to_string(),
    };
    let missing = format!(
        "strace cannot trace here ({}): power losses are not tested. Install it (on Debian \
         `apt-get install strace`); in a container it may need `--cap-add SYS_PTRACE`",
        trouble.trim()
    );
    assert!(env::var("CI").is_err(), "{missing}");
    eprintln!("{missing}");
    false
}

/// Runs a process to its end and reads what it did.
pub(crate) fn run(process: &Command) -> Trace {
    let log = NamedTempFile::new().unwrap();
    let mut strace = Command::new("strace");
    strace.args(["-f", "--seccomp-bpf", "-y", "-xx", "-s", BYTES_MAX]);
    strace
        .args(["-e", CALLS, "-e", "signal=none", "-o"])
        .arg(log.path());
    strace.arg("--").arg(process.get_program());
    strace.args(process.get_args());
    for (name, value) in process.get_envs() {
        strace.env(
            name,
            value.expect("nothing is taken out of the environment"),
        );
    }
    let output = strace.output().unwrap();
    assert!(output.status.success(), "{output:?}");
    Trace::parse(&fs::read_to_string(log.path()).unwrap())
}

/// Calls, and in which order each began and ended.
pub(crate) struct Trace {
    pub(crate) calls: Vec<Call>,
    pub(crate) moments: Vec<Moment>,
}

/// What happened, with the place of the call.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Moment {
    Began(usize),
    Ended(usize),
}

/// A call of the system; those that were refused are left out.
pub(crate) struct Call {
    pub(crate) name: String,
    arguments: Vec<String>,
    result: String,
}

impl Trace {
    fn parse(log: &str) -> Self {
        let mut trace = Trace {
            calls: Vec::new(),
            moments: Vec::new(),
        };
        let mut unfinished = HashMap::new();
        for line in log.lines() {
            let (thread, line) = line.split_once(' ').unwrap();
            let line = line.trim_start();
            if line.starts_with("+++") || line.starts_with("---") {
                continue;
            }
            if let Some((_, rest)) = line.split_once(" resumed>") {
                let call = unfinished.remove(thread).unwrap();
                trace.end(call, rest);
            } else {
                let (name, rest) = line.split_once('(').unwrap();
                let call = trace.begin(name);
                match rest.strip_suffix(" <unfinished ...>") {
                    Some(rest) => {
                        trace.calls[call].add_arguments(rest);
                        unfinished.insert(thread, call);
                    }
                    None => trace.end(call, rest),
                }
            }
        }
        trace
    }

    fn begin(&mut self, name: &str) -> usize {
        let call = self.calls.len();
        self.moments.push(Moment::Began(call));
        self.calls.push(Call {
            name: name.to_owned(),
            arguments: Vec::new(),
            result: String::new(),
        });
        call
    }

    /// Reads `rest of the arguments) = result`.
    fn end(&mut self, call: usize, rest: &str) {
        let (arguments, result) = rest.rsplit_once(" = ").unwrap();
        let (arguments, _) = arguments.rsplit_once(')').unwrap();
        self.calls[call].add_arguments(arguments);
        result.clone_into(&mut self.calls[call].result);
        self.moments.push(Moment::Ended(call));
    }
}

impl Call {
    fn add_arguments(&mut self, text: &str) {
        let arguments = text.split(", ").filter(|argument| !argument.is_empty());
        self.arguments.extend(arguments.map(str::to_owned));
    }

    pub(crate) fn succeeded(&self) -> bool {
        !self.result.starts_with(['-', '?'])
    }

    /// The number that it returned: of a file, of bytes.
    pub(crate) fn result(&self) -> u64 {
        number(&self.result)
    }

    pub(crate) fn has_flag(&self, at: usize, flag: &str) -> bool {
        self.arguments[at].split('|').any(|each| each == flag)
    }

    pub(crate) fn number(&self, at: usize) -> u64 {
        number(&self.arguments[at])
    }

    /// The bytes that are written.
    pub(crate) fn bytes(&self, at: usize) -> Vec<u8> {
        let text = &self.arguments[at];
        let quoted = text
            .strip_prefix('"')
            .and_then(|text| text.strip_suffix('"'));
        unescape(quoted.expect("no more is written at once than is traced"))
    }

    /// A path that is an argument.
    pub(crate) fn path(&self, at: usize) -> PathBuf {
        PathBuf::from(String::from_utf8(self.bytes(at)).unwrap())
    }

    /// The path of a file that is open.
    pub(crate) fn path_of_file(&self, at: usize) -> Option<PathBuf> {
        path_of_file(self.arguments.get(at)?)
    }

    /// Every path that it names.
    pub(crate) fn paths(&self) -> impl Iterator<Item = PathBuf> {
        let named = |argument: &String| match argument.strip_prefix('"') {
            Some(text) if text.len() < 4_000 => {
                String::from_utf8(unescape(text.trim_end_matches('"')))
                    .ok()
                    .map(PathBuf::from)
            }
            Some(_) => None,
            None => path_of_file(argument),
        };
        self.arguments.iter().filter_map(named)
    }
}

/// The number at the beginning, as in `3<path>`.
fn number(text: &str) -> u64 {
    let digits = text.split(|c: char| !c.is_ascii_digit()).next().unwrap();
    digits
        .parse()
        .unwrap_or_else(|_| panic!("{text:?} does not begin with a number"))
}

fn path_of_file(argument: &str) -> Option<PathBuf> {
    let (_, path) = argument.split_once('<')?;
    let (path, _) = path.split_once('>')?;
    Some(PathBuf::from(String::from_utf8(unescape(path)).ok()?))
}

/// Reads `\x41\x42`.
fn unescape(text: &str) -> Vec<u8> {
    let digit = |c: u8| match c {
        b'0'..=b'9' => c - b'0',
        b'a'..=b'f' => c - b'a' + 10,
        _ => panic!("{text:.20?} is not escaped"),
    };
    let (bytes, rest) = text.as_bytes().as_chunks::<4>();
    assert!(rest.is_empty(), "{text:.20?} is not escaped");
    bytes
        .iter()
        .map(|byte| digit(byte[2]) << 4 | digit(byte[3]))
        .collect()
}
