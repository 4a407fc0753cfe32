//! A process that this test has started.

use std::env;
use std::io::{BufRead, BufReader};
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::{Arc, Mutex};
use std::thread::{self, JoinHandle};

use crate::place::Address;

pub(crate) const ROLE: &str = "LOWWATER_TEST_ROLE";
pub(crate) const NUMBER: &str = "LOWWATER_TEST_NUMBER";
pub(crate) const RECORDS: &str = "LOWWATER_TEST_RECORDS";
pub(crate) const PARTS: &str = "LOWWATER_TEST_PARTS";

/// What comes before what a process says: others print too.
pub(crate) const SAYS: &str = "says: ";

pub(crate) struct Process {
    pub(crate) role: &'static str,
    child: Child,
    /// Closed, it tells the process to come to an end.
    input: Option<ChildStdin>,
    said: Arc<Mutex<Vec<String>>>,
    listener: Option<JoinHandle<()>>,
}

impl Process {
    pub(crate) fn start(role: &'static str, number: u16, address: &Address) -> Self {
        let mut child = Command::new(env::current_exe().unwrap())
            .args(["worker", "--exact", "--nocapture"])
            .env(ROLE, role)
            .env(NUMBER, number.to_string())
            .env(RECORDS, &address.records)
            .env(PARTS, &address.parts)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let said = Arc::default();
        let lines = BufReader::new(child.stdout.take().unwrap()).lines();
        let heard: Arc<Mutex<Vec<String>>> = Arc::clone(&said);
        let listener = thread::spawn(move || {
            for line in lines.map_while(Result::ok) {
                if let Some((_, said)) = line.split_once(SAYS) {
                    heard.lock().unwrap().push(said.to_owned());
                }
            }
        });
        Process {
            role,
            input: child.stdin.take(),
            child,
            said,
            listener: Some(listener),
        }
    }

    /// True iff it runs; fails if it has come to an end by itself.
    pub(crate) fn check(&mut self) {
        if let Some(status) = self.child.try_wait().unwrap() {
            panic!("a {} has ended by itself: {status}", self.role);
        }
    }

    /// What it has said so far.
    pub(crate) fn said(&self) -> Vec<String> {
        self.said.lock().unwrap().clone()
    }

    /// `kill -9`; all that it has said.
    pub(crate) fn kill(mut self) -> Vec<String> {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
        self.all()
    }

    /// Tells it to come to an end.
    pub(crate) fn stop(&mut self) {
        drop(self.input.take());
    }

    /// Waits until it has come to an end; all that it has said.
    pub(crate) fn ended(mut self) -> Vec<String> {
        self.stop();
        let status = self.child.wait().unwrap();
        assert!(status.success(), "a {} has failed: {status}", self.role);
        self.all()
    }

    fn all(&mut self) -> Vec<String> {
        let listener = self.listener.take().expect("it is asked once");
        listener.join().unwrap();
        self.said()
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        // Where the test has failed; it may have ended.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
