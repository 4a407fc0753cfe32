//! A PostgreSQL server of the test's own, that can be killed.
#![allow(dead_code, reason = "each test uses what it needs of it")]

use std::ffi::OsString;
use std::fs::{self, File};
use std::net::TcpListener;
use std::os::unix::fs::{MetadataExt, chown};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use tempfile::TempDir;

/// How long the server may take to begin to answer.
const BOUND: Duration = Duration::from_secs(60);

/// A server whose files are gone with it.
pub(crate) struct Server {
    binaries: PathBuf,
    folder: TempDir,
    port: u16,
    user: Option<User>,
    running: Child,
}

/// Whom the server runs as: it refuses to run as root.
#[derive(Clone, Copy)]
struct User {
    uid: u32,
    gid: u32,
}

impl Server {
    /// Starts a server; `None` where PostgreSQL is not installed, which in CI it must be.
    pub(crate) fn start() -> Option<Self> {
        let Some(binaries) = binaries() else {
            let missing = "PostgreSQL's own programs, initdb and postgres, are not installed";
            assert!(std::env::var_os("CI").is_none(), "{missing}");
            eprintln!("skipped: {missing}");
            return None;
        };
        let folder = tempfile::tempdir().unwrap();
        let is_root = fs::metadata("/proc/self").unwrap().uid() == 0;
        let user = is_root.then(|| User::named("postgres"));
        if let Some(User { uid, gid }) = user {
            chown(folder.path(), Some(uid), Some(gid)).unwrap();
        }
        let data = folder.path().join("data");
        let made = command(&binaries, "initdb", folder.path(), user)
            .args([
                "-A",
                "trust",
                "-U",
                "postgres",
                "--no-instructions",
                "--no-sync",
                "-D",
            ])
            .arg(&data)
            .stdout(Stdio::null())
            .status();
        assert!(made.unwrap().success());
        let port = free_port();
        let running = run(&binaries, folder.path(), port, user);
        let mut server = Self {
            binaries,
            folder,
            port,
            user,
            running,
        };
        server.wait_until_it_answers();
        Some(server)
    }

    /// What the controller is told: records in this server, parts in a folder.
    pub(crate) fn options(&self, folder: &TempDir) -> Vec<OsString> {
        self.options_with(folder.path().join("blobs").into())
    }

    /// What the controller is told: records in this server, parts there.
    pub(crate) fn options_with(&self, blobs: OsString) -> Vec<OsString> {
        let address = self.address("postgres", "postgres");
        vec!["--store".into(), address.into(), "--blobs".into(), blobs]
    }

    /// Where a database of it is, for somebody.
    pub(crate) fn address(&self, user: &str, database: &str) -> String {
        format!("postgres://{user}@127.0.0.1:{}/{database}", self.port)
    }

    /// Has it carry out a statement, past the store. Gives what it answers.
    pub(crate) fn sql(&self, statement: &str) -> String {
        let answered = Command::new(self.binaries.join("psql"))
            .args(["-qtAX", "-v", "ON_ERROR_STOP=1", "-c", statement])
            .arg(self.address("postgres", "postgres"))
            .output()
            .unwrap();
        let said = String::from_utf8(answered.stderr).unwrap();
        assert!(answered.status.success(), "{statement}: {said}");
        String::from_utf8(answered.stdout)
            .unwrap()
            .trim()
            .to_owned()
    }

    /// Kills the server as if the machine had: without a word.
    pub(crate) fn kill(&mut self) {
        self.running.kill().unwrap();
        self.running.wait().unwrap();
    }

    /// Starts the server once more, on what it had written.
    pub(crate) fn start_again(&mut self) {
        self.running = run(&self.binaries, self.folder.path(), self.port, self.user);
        self.wait_until_it_answers();
    }

    fn wait_until_it_answers(&mut self) {
        let begin = Instant::now();
        loop {
            let port = self.port.to_string();
            let asked = Command::new(self.binaries.join("pg_isready"))
                .args(["-q", "-h", "127.0.0.1", "-p", &port])
                .status();
            if asked.unwrap().success() {
                return;
            }
            assert!(begin.elapsed() < BOUND, "the server does not answer");
            if self.running.try_wait().unwrap().is_some() {
                // What the killed one has left behind is not yet gone.
                self.running = run(&self.binaries, self.folder.path(), self.port, self.user);
            }
            thread::sleep(Duration::from_millis(50));
        }
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        drop(self.running.kill());
        drop(self.running.wait());
    }
}

impl User {
    fn named(name: &str) -> Self {
        let users = fs::read_to_string("/etc/passwd").unwrap();
        let user = users
            .lines()
            .find(|line| line.starts_with(&format!("{name}:")));
        let mut ids = user
            .unwrap()
            .split(':')
            .skip(2)
            .map(|id| id.parse().unwrap());
        let (uid, gid) = (ids.next().unwrap(), ids.next().unwrap());
        Self { uid, gid }
    }
}

/// Where PostgreSQL's own programs are: of several versions, the latest.
fn binaries() -> Option<PathBuf> {
    let versions = fs::read_dir("/usr/lib/postgresql").ok()?;
    let versions = versions.filter_map(|version| version.ok()?.file_name().into_string().ok());
    let latest = versions
        .filter_map(|version| version.parse::<u32>().ok())
        .max()?;
    let binaries = PathBuf::from(format!("/usr/lib/postgresql/{latest}/bin"));
    let all = ["initdb", "postgres", "pg_isready", "psql"];
    all.iter()
        .all(|name| binaries.join(name).is_file())
        .then_some(binaries)
}

/// A port that nobody listens on.
fn free_port() -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    listener.local_addr().unwrap().port()
}

fn command(binaries: &Path, name: &str, folder: &Path, user: Option<User>) -> Command {
    let mut command = Command::new(binaries.join(name));
    command.current_dir(folder);
    if let Some(User { uid, gid }) = user {
        command.uid(uid).gid(gid);
    }
    command
}

fn run(binaries: &Path, folder: &Path, port: u16, user: Option<User>) -> Child {
    let log = File::options()
        .create(true)
        .append(true)
        .open(folder.join("log"));
    let log = log.unwrap();
    command(binaries, "postgres", folder, user)
        .args(["-h", "127.0.0.1", "-p", &port.to_string(), "-k"])
        .arg(folder)
        .arg("-D")
        .arg(folder.join("data"))
        .stdout(log.try_clone().unwrap())
        .stderr(log)
        .spawn()
        .unwrap()
}
