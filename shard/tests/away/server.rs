//! A PostgreSQL server of a test's own, to be stopped, killed and started again.

use std::env;
use std::fs;
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Instant;

use tempfile::TempDir;

use super::controller::BOUND;

pub(crate) struct Server {
    programs: PathBuf,
    folder: TempDir,
    port: u16,
    /// More settings.
    settings: &'static str,
}

/// How a server comes to an end.
#[derive(Clone, Copy, Debug)]
pub(crate) enum End {
    /// It ends what is under way.
    Fast,
    /// It drops everything, and recovers when it starts.
    Immediate,
    /// `kill -9`.
    Killed,
}

impl Server {
    /// Starts one; none, with a word about it, where its programs are missing.
    pub(crate) fn start() -> Option<Self> {
        let server = Server::create("")?;
        server.go_on();
        Some(server)
    }

    /// Starts one that talks to nobody unless it is encrypted, as `localhost`. Whom to trust stands
    /// in [`trusted`](Server::trusted).
    pub(crate) fn start_encrypted() -> Option<Self> {
        let server = Server::create("-c ssl=on -c ssl_cert_file=server.pem -c ssl_key_file=key")?;
        server.certify();
        let rule = "hostssl all all 127.0.0.1/32 trust\n";
        fs::write(server.folder.path().join("data/pg_hba.conf"), rule).unwrap();
        server.go_on();
        Some(server)
    }

    /// The certificate of who has signed the server's.
    pub(crate) fn trusted(&self) -> PathBuf {
        self.folder.path().join("authority.pem")
    }

    /// Makes an authority, and has it sign a certificate of the server.
    fn certify(&self) {
        let openssl = |arguments: &str| {
            let mut openssl = Command::new("openssl");
            let openssl = openssl.args(arguments.split(' '));
            let openssl = openssl
                .current_dir(self.folder.path())
                .stderr(Stdio::null());
            assert!(openssl.status().unwrap().success(), "{arguments}");
        };
        let key = "-newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes";
        openssl(&format!(
            "req -x509 {key} -keyout authority.key -out authority.pem -days 2 -subj /CN=authority"
        ));
        openssl(&format!(
            "req {key} -keyout data/key -out request -subj /CN=localhost"
        ));
        let names = "subjectAltName=DNS:localhost\nbasicConstraints=CA:FALSE\n";
        fs::write(self.folder.path().join("names"), names).unwrap();
        openssl(
            "x509 -req -in request -CA authority.pem -CAkey authority.key -CAcreateserial -days 2 \
             -extfile names -out data/server.pem",
        );
        let keys = ["data/key", "data/server.pem"].map(|file| self.folder.path().join(file));
        let mut mode = Command::new("chmod");
        assert!(mode.arg("600").args(&keys).status().unwrap().success());
        if is_root() {
            let mut owner = Command::new("chown");
            assert!(
                owner
                    .arg("postgres")
                    .args(&keys)
                    .status()
                    .unwrap()
                    .success()
            );
        }
    }

    #[expect(clippy::print_stderr, reason = "people are told what was skipped")]
    fn create(settings: &'static str) -> Option<Self> {
        let Some(programs) = programs() else {
            assert!(env::var("CI").is_err(), "there must be a PostgreSQL server");
            eprintln!("skipped: there are no programs of a PostgreSQL server");
            return None;
        };
        let folder = TempDir::new().unwrap();
        let free = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = free.local_addr().unwrap().port();
        drop(free);
        let server = Server {
            programs,
            folder,
            port,
            settings,
        };
        if is_root() {
            let mut owned = Command::new("chown");
            let owned = owned.arg("postgres").arg(server.folder.path()).status();
            assert!(owned.unwrap().success());
        }
        let data = server.data();
        let made = server
            .program("initdb")
            .args([
                "-A",
                "trust",
                "-U",
                "postgres",
                "--no-instructions",
                "-D",
                &data,
            ])
            .status();
        assert!(made.unwrap().success());
        Some(server)
    }

    pub(crate) fn port(&self) -> u16 {
        self.port
    }

    pub(crate) fn address(&self) -> String {
        format!("postgres://postgres@127.0.0.1:{}/postgres", self.port)
    }

    pub(crate) fn stop(&self, end: End) {
        match end {
            End::Fast => self.pg_ctl(&["-m", "fast", "stop"]),
            End::Immediate => self.pg_ctl(&["-m", "immediate", "stop"]),
            End::Killed => {
                let pid = fs::read_to_string(self.folder.path().join("data/postmaster.pid"));
                let pid = pid.unwrap().lines().next().unwrap().to_owned();
                let killed = Command::new("kill").args(["-9", &pid]).status();
                assert!(killed.unwrap().success());
            }
        }
    }

    /// Starts it again. The processes of one that was killed take a moment to go.
    pub(crate) fn go_on(&self) {
        let options = format!(
            "-p {} -h 127.0.0.1 -k {} {}",
            self.port,
            self.path(),
            self.settings
        );
        let began = Instant::now();
        while !self.try_pg_ctl(&["-o", &options, "start"]) {
            assert!(began.elapsed() < BOUND, "the server does not start again");
        }
    }

    fn pg_ctl(&self, what: &[&str]) {
        assert!(self.try_pg_ctl(what), "{what:?}");
    }

    fn try_pg_ctl(&self, what: &[&str]) -> bool {
        let log = format!("{}/log", self.path());
        let done = self
            .program("pg_ctl")
            .args(["-w", "-D", &self.data(), "-l", &log])
            .args(what)
            .status();
        done.unwrap().success()
    }

    fn path(&self) -> String {
        self.folder.path().to_str().unwrap().to_owned()
    }

    fn data(&self) -> String {
        format!("{}/data", self.path())
    }

    /// The server refuses to run as root.
    fn program(&self, name: &str) -> Command {
        let program = self.programs.join(name);
        let mut command = match is_root() {
            true => {
                let mut command = Command::new("runuser");
                command.args(["-u", "postgres", "--"]).arg(program);
                command
            }
            false => Command::new(program),
        };
        command
            .current_dir(self.folder.path())
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null());
        command
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.try_pg_ctl(&["-m", "immediate", "stop"]);
    }
}

fn is_root() -> bool {
    use std::os::unix::fs::MetadataExt;
    fs::metadata("/proc/self").unwrap().uid() == 0
}

/// Where Debian puts them.
fn programs() -> Option<PathBuf> {
    let versions = fs::read_dir("/usr/lib/postgresql").ok()?;
    let programs = versions.map(|version| version.unwrap().path().join("bin"));
    programs
        .filter(|bin| Path::exists(&bin.join("initdb")))
        .max()
}
