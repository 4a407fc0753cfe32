//! The older controller as a process: listened to, stopped, woken and waited for, each within a
//! bound.

use std::env;
use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::{self, Receiver};
use std::thread;
use std::time::{Duration, Instant};

use super::calls::Call;
use super::older::{self, LONG};
use super::talk;

/// What is started.
pub(crate) struct Errand<'a> {
    pub(crate) address: &'a str,
    /// Where others find the store.
    pub(crate) direct: &'a str,
    pub(crate) parts: &'a Path,
    pub(crate) call: Call,
    pub(crate) writes: usize,
    pub(crate) place: String,
}

/// The older controller. Killed when it is dropped.
pub(crate) struct Process {
    child: Child,
    said: Receiver<String>,
}

impl Process {
    pub(crate) fn start(errand: &Errand<'_>) -> Self {
        Process::with(|command| {
            command
                .env(older::ADDRESS, errand.address)
                .env(older::DIRECT, errand.direct)
                .env(older::PARTS, errand.parts)
                .env(older::CALL, format!("{:?}", errand.call))
                .env(older::WRITES, errand.writes.to_string())
                .env(older::PLACE, &errand.place)
        })
    }

    /// One that is told what to do by its environment.
    pub(crate) fn with(tell: impl FnOnce(&mut Command) -> &mut Command) -> Self {
        let mut command = Command::new(env::current_exe().unwrap());
        command.args(["older_controller", "--exact", "--nocapture"]);
        let mut child = tell(&mut command)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let lines = BufReader::new(child.stdout.take().unwrap()).lines();
        let (sender, said) = mpsc::channel();
        thread::spawn(move || {
            for line in lines.map_while(Result::ok) {
                match talk::said(&line) {
                    Some(said) => drop(sender.send(said.to_owned())),
                    None => eprintln!("older controller's harness: {line}"),
                }
            }
        });
        Process { child, said }
    }

    /// What it says next; fails if it says nothing.
    pub(crate) fn hear(&self) -> String {
        self.said.recv_timeout(LONG).expect("it says something")
    }

    /// What it has said, if anything.
    pub(crate) fn heard(&self) -> Option<String> {
        self.said.try_recv().ok()
    }

    pub(crate) fn tell(&mut self, what: &str) {
        let mut stdin = self.child.stdin.as_ref().unwrap();
        writeln!(stdin, "{what}").unwrap();
    }

    /// Stops it where it wants to be; false if it is over before.
    pub(crate) fn is_stopped_before_it_is_over(&mut self) -> bool {
        match &*self.hear() {
            "stop me" => self.stop(),
            "over" => {
                self.ends_well();
                return false;
            }
            said => panic!("it says {said}"),
        }
        true
    }

    /// Stops it, and waits until it is.
    pub(crate) fn stop(&self) {
        self.signal("STOP");
        bounded("it is stopped", || self.is_stopped().then_some(()));
    }

    pub(crate) fn wake(&self) {
        self.signal("CONT");
    }

    pub(crate) fn kill(&mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }

    pub(crate) fn ends_well(&mut self) {
        let ended = bounded("it ends", || self.child.try_wait().unwrap());
        assert!(ended.success(), "{ended}");
    }

    fn signal(&self, signal: &str) {
        let kill = format!("kill -{signal} {}", self.child.id());
        let sent = Command::new("sh").args(["-c", &kill]).status().unwrap();
        assert!(sent.success());
    }

    fn is_stopped(&self) -> bool {
        let stat = fs::read_to_string(format!("/proc/{}/stat", self.child.id())).unwrap();
        // Behind its name, which is in parentheses.
        let (_, state) = stat.rsplit_once(") ").unwrap();
        assert!(!state.starts_with('Z'), "it has ended");
        state.starts_with('T')
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        // It may have ended.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Waits until there is something; fails when it stays away.
pub(crate) fn bounded<X>(what: &str, mut look: impl FnMut() -> Option<X>) -> X {
    let began = Instant::now();
    loop {
        if let Some(found) = look() {
            return found;
        }
        assert!(began.elapsed() < LONG, "{what}");
        thread::sleep(Duration::from_millis(1));
    }
}
