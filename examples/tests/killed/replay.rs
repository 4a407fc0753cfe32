//! A replay that is killed and started again, and what is found in its store.

use std::ffi::OsString;
use std::fs::File;
use std::os::unix::fs::FileExt;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use lowwater_controller::ask::{Answer, ask};
use lowwater_controller::catalog::{KEPT, Relation};
use lowwater_controller::findings::Findings;
use lowwater_controller::location::Location;
use lowwater_controller::minute::{DAY, Minute};
use lowwater_controller::options::Request;
use lowwater_controller::oracle::Oracle;
use lowwater_controller::store::{Reading, Store};
use serde_json::{Value, json};

use super::days::{DAYS, Days};

/// How long anything may take that is waited for.
const BOUND: Duration = Duration::from_secs(300);

/// How often it is looked how far things are written.
const LOOK: Duration = Duration::from_millis(10);

/// A replay that is killed and started again.
pub(crate) struct Replay<'a> {
    days: &'a Days,
    oracle: Oracle<'a>,
    store: Vec<OsString>,
    /// How long it runs at most before it is killed; grows while that is not long enough for
    /// anything to be written.
    run_at_most: Duration,
    upper: Minute,
    hits: usize,
    over: bool,
}

/// A controller that runs.
pub(crate) struct Controller {
    child: Child,
    said: File,
}

impl<'a> Replay<'a> {
    pub(crate) fn new(days: &'a Days, store: Vec<OsString>) -> Self {
        Self {
            days,
            oracle: Oracle::new(&days.data),
            store,
            run_at_most: Duration::from_millis(1_000),
            upper: 0,
            hits: 0,
            over: false,
        }
    }

    pub(crate) fn start(&self) -> Controller {
        self.start_with(&[])
    }

    /// Starts it with more options.
    pub(crate) fn start_with(&self, options: &[&str]) -> Controller {
        let said = tempfile::tempfile().unwrap();
        let child = Command::new(env!("CARGO_BIN_EXE_controller"))
            .args(["--days", &DAYS.to_string(), "--step", "3", "--readers", "2"])
            .arg("--data")
            .arg(self.days.folder())
            .args(&self.store)
            .args(options)
            .stdout(Stdio::null())
            .stderr(said.try_clone().unwrap())
            .spawn()
            .unwrap();
        Controller { child, said }
    }

    /// Starts it, and kills it: after a while, or when it has written some of what is left, but long
    /// before the end.
    pub(crate) fn run_and_kill(&mut self, random: &mut fastrand::Rng) {
        let mut controller = self.start();
        let longest = u64::try_from(self.run_at_most.as_millis()).unwrap();
        let longest = match random.bool() {
            true => Duration::from_millis(random.u64(1..longest)),
            false => BOUND,
        };
        let (begin, enough) = (Instant::now(), some_more(self.upper, random));
        while begin.elapsed() < longest && self.written() < enough && !controller.has_ended() {
            thread::sleep(LOOK);
        }
        if controller.has_ended() {
            controller.ends_well();
            self.over = true;
        } else {
            controller.kill();
        }
    }

    /// How many kills have hit it while it wrote: it had written more than the one before, and there
    /// was more to be written.
    pub(crate) fn hits(&self) -> usize {
        self.hits
    }

    /// Waits until some more is written than up to `written`, or it has ended. Gives up to where it
    /// is.
    pub(crate) fn wait_for_more(
        &self,
        written: Minute,
        controller: &mut Controller,
        random: &mut fastrand::Rng,
    ) -> Minute {
        let (begin, enough) = (Instant::now(), some_more(written, random));
        loop {
            let written = self.written();
            if written >= enough || controller.has_ended() {
                return written;
            }
            assert!(begin.elapsed() < BOUND, "no more is written than {written}");
            thread::sleep(LOOK);
        }
    }

    /// Up to where everything is written, as somebody sees it who only looks.
    fn written(&self) -> Minute {
        let Ok(store) = Store::open_to_ask(&self.location()) else {
            return 0;
        };
        match ask(&store, Minute::MAX).unwrap() {
            Answer::Refused(refused) => refused.upper.unwrap(),
            Answer::Found(found) => panic!("{found:?} is not yet written"),
        }
    }

    /// Whether it has come to its end before it was killed.
    pub(crate) fn is_over(&self) -> bool {
        self.over
    }

    /// What was durable when it was killed can be read, and is right.
    pub(crate) fn check_what_is_there(&mut self, random: &mut fastrand::Rng) {
        let (code, refused) = self.ask(Minute::MAX);
        if code == Some(2) {
            // It was killed before it had made its store.
            self.run_at_most *= 2;
            return;
        }
        assert_eq!(code, Some(3), "{refused}");
        let window = |of: &str| refused[of].as_u64().unwrap();
        let (since, upper) = (window("since"), window("upper"));
        assert!(upper >= self.upper, "upper went back to {upper}");
        if upper == self.upper {
            self.run_at_most *= 2;
        } else if upper < DAYS * DAY {
            self.hits += 1;
        }
        self.upper = upper;
        if since < upper {
            self.check_answer(since);
            self.check_answer(random.u64(since..upper));
        }
    }

    pub(crate) fn wait_until_something_is_written(&self) {
        let begin = Instant::now();
        while self.ask(0).0 != Some(0) {
            assert!(begin.elapsed() < BOUND, "nothing is ever written");
            thread::sleep(Duration::from_millis(50));
        }
    }

    pub(crate) fn run_to_the_end(&self) {
        self.start().ends_well();
    }

    /// The window is exactly what the policies ask for, and all of it is right: the views as they
    /// are asked for, and every collection in its shard.
    pub(crate) fn check_the_end(&self, random: &mut fastrand::Rng) {
        let (since, upper) = (DAYS * DAY - KEPT, DAYS * DAY);
        for (minute, reason) in [(since - 1, "before since"), (upper, "not yet written")] {
            let refused =
                json!({"minute": minute, "refused": reason, "since": since, "upper": upper});
            assert_eq!(self.ask(minute), (Some(3), refused));
        }
        let chosen = random.u64(since..upper);
        for minute in [since, chosen, upper - 1] {
            self.check_answer(minute);
        }
        let store = self.open();
        let places = store.places().unwrap().unwrap();
        let contents = store.contents(&places).unwrap();
        for relation in Relation::ALL {
            for minute in [
                since,
                since + 1,
                random.u64(since..upper),
                chosen,
                upper - 1,
            ] {
                let expected = Reading::Rows(self.oracle.rows(relation, minute));
                let read = contents.read(relation, minute).unwrap();
                assert!(read == expected, "{relation:?} as of {minute}");
            }
        }
    }

    /// Whether some process still has leases on the shards of the store, beside the controller.
    pub(crate) fn has_leases(&self) -> bool {
        let store = Store::open_to_ask(&self.location()).unwrap();
        let Some(places) = store.places().unwrap() else {
            return false;
        };
        let inspected = places.all().map(|shard| {
            let inspected = store.shards().inspect(shard);
            store.runtime().block_on(inspected).unwrap()
        });
        inspected.into_iter().any(|shard| !shard.leased.is_empty())
    }

    fn open(&self) -> Store {
        Store::open_to_ask(&self.location()).unwrap()
    }

    fn location(&self) -> Location {
        let args = ["controller", "ask", "--at", "0"].map(OsString::from);
        let args = args.into_iter().chain(self.store.clone());
        let Ok(Request::Ask(ask)) = Request::parse_args(args) else {
            panic!("the store has no name")
        };
        ask.location
    }

    fn check_answer(&self, minute: Minute) {
        let (code, answer) = self.ask(minute);
        let mut findings = Findings::default();
        for view in Relation::VIEWS {
            findings.put(view, self.oracle.rows(view, minute));
        }
        let expected = serde_json::to_value(&findings).unwrap();
        assert_eq!(code, Some(0), "{answer}");
        for (name, expected) in expected.as_object().unwrap() {
            assert_eq!(answer[name], *expected, "{name} as of {minute}");
        }
    }

    fn ask(&self, minute: Minute) -> (Option<i32>, Value) {
        let output = Command::new(env!("CARGO_BIN_EXE_controller"))
            .args(["ask", "--at", &minute.to_string()])
            .args(&self.store)
            .output()
            .unwrap();
        let answer = serde_json::from_slice(&output.stdout).unwrap_or(Value::Null);
        (output.status.code(), answer)
    }
}

/// A minute after `written`, and well before the end, so that more can follow.
fn some_more(written: Minute, random: &mut fastrand::Rng) -> Minute {
    let left = (DAYS * DAY).saturating_sub(written);
    written + random.u64(1..=left / 4 + 1)
}

impl Controller {
    /// Lets it run for a while.
    pub(crate) fn wait_for(&mut self, duration: Duration) {
        let begin = Instant::now();
        while begin.elapsed() < duration && !self.has_ended() {
            thread::sleep(Duration::from_millis(1));
        }
    }

    pub(crate) fn has_ended(&mut self) -> bool {
        self.child.try_wait().unwrap().is_some()
    }

    /// Sends it a signal: `STOP`, `CONT`.
    pub(crate) fn signal(&self, name: &str) {
        let id = self.child.id().to_string();
        let sent = Command::new("kill").args(["-s", name, &id]).status();
        assert!(sent.unwrap().success());
    }

    /// What it has said to people so far.
    pub(crate) fn said(&self) -> String {
        // The place in the file is the child's too.
        let mut bytes = vec![0; usize::try_from(self.said.metadata().unwrap().len()).unwrap()];
        self.said.read_exact_at(&mut bytes, 0).unwrap();
        String::from_utf8(bytes).unwrap()
    }

    pub(crate) fn kill(mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }

    pub(crate) fn ends_well(self) {
        let (code, said) = self.end();
        assert_eq!(code, Some(0), "{said}");
    }

    /// Waits for its end; gives its exit code, and what it has said to people, but for what the
    /// library has warned of meanwhile.
    pub(crate) fn end(mut self) -> (Option<i32>, String) {
        let (status, said) = (self.status(), self.said());
        let lines = said.split_inclusive('\n');
        let lines = lines.filter(|line| !line.starts_with("warning: "));
        (status.code(), lines.collect())
    }

    fn status(&mut self) -> ExitStatus {
        let begin = Instant::now();
        loop {
            if let Some(status) = self.child.try_wait().unwrap() {
                return status;
            }
            if begin.elapsed() > BOUND {
                self.child.kill().unwrap();
                panic!("the controller does not come to its end");
            }
            thread::sleep(Duration::from_millis(5));
        }
    }
}
