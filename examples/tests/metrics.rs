//! What a running controller tells Prometheus.

#![allow(clippy::unwrap_used, reason = "in a test it is how one fails")]

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

/// Nothing here takes longer, unless it hangs.
const WITHIN: Duration = Duration::from_secs(60);

struct Running {
    child: Child,
    address: SocketAddr,
    _temporary: tempfile::TempDir,
}

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn controller(args: &[&str]) -> (Child, tempfile::TempDir) {
    let temporary = tempfile::tempdir().unwrap();
    let child = Command::new(env!("CARGO_BIN_EXE_controller"))
        .args(args)
        .env("TMPDIR", temporary.path())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    (child, temporary)
}

/// A controller that is in the middle of the year.
fn running() -> Running {
    let (mut child, temporary) = controller(&["--metrics", "127.0.0.1:0"]);
    let mut lines = BufReader::new(child.stderr.take().unwrap()).lines();
    let told = lines.find_map(|line| {
        let line = line.unwrap();
        let address = line.strip_prefix("Metrics are told at http://")?;
        Some(address.strip_suffix("/metrics").unwrap().parse().unwrap())
    });
    // Read on, or the controller would have nobody to tell its progress.
    std::thread::spawn(move || lines.for_each(drop));
    Running {
        child,
        address: told.expect("it says where"),
        _temporary: temporary,
    }
}

fn connect(address: SocketAddr) -> TcpStream {
    let stream = TcpStream::connect_timeout(&address, WITHIN).unwrap();
    stream.set_read_timeout(Some(WITHIN)).unwrap();
    stream.set_write_timeout(Some(WITHIN)).unwrap();
    stream
}

fn ask(address: SocketAddr, request: &str) -> String {
    let mut stream = connect(address);
    write!(stream, "{request} HTTP/1.1\r\nHost: here\r\n\r\n").unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    answer
}

fn figure(text: &str, name: &str) -> Option<f64> {
    let line = text.lines().find_map(|line| line.strip_prefix(name));
    line?.strip_prefix(' ')?.parse().ok()
}

#[test]
fn a_running_controller_is_scraped_and_goes_on() {
    let mut running = running();
    let address = running.address;
    let began = Instant::now();
    let scrape = || {
        let answer = ask(address, "GET /metrics");
        assert!(answer.starts_with("HTTP/1.1 200 OK\r\n"), "{answer}");
        assert!(
            answer.contains("content-type: application/openmetrics-text"),
            "{answer}"
        );
        assert!(answer.ends_with("# EOF\n"), "{answer}");
        answer
    };
    let until = |name: &str, least: f64| loop {
        let answer = scrape();
        match figure(&answer, name) {
            Some(value) if value >= least => return value,
            found => assert!(began.elapsed() < WITHIN, "{name} {found:?}: {answer}"),
        }
    };
    until("lowwater_collections", 6.0);
    until("lowwater_downgrades_written_total", 1.0);
    until("lowwater_since_lag_max{since=\"planned\"}", 1.0);
    let inputs = until("lowwater_inputs_total", 1.0);
    // Visitors that say nothing, and one that does not listen, stop nobody.
    let silent: Vec<TcpStream> = (0..7).map(|_| connect(address)).collect();
    until("lowwater_inputs_total", inputs + 100.0);
    drop(silent);
    let mut deaf = connect(address);
    write!(deaf, "GET /metrics HTTP/1.1\r\nHost: here\r\n\r\n").unwrap();
    until("lowwater_inputs_total", inputs + 200.0);
    for (request, status) in [
        ("GET /", "404 Not Found"),
        ("POST /metrics", "405 Method Not Allowed"),
    ] {
        let answer = ask(address, request);
        assert!(
            answer.starts_with(&format!("HTTP/1.1 {status}\r\n")),
            "{answer}"
        );
    }
    assert_eq!(running.child.try_wait().unwrap(), None, "it still runs");
}

#[test]
fn an_address_that_is_taken_is_refused_in_a_line() {
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap().to_string();
    let (mut child, _temporary) = controller(&["--days", "1", "--metrics", &address]);
    let mut said = String::new();
    let mut stderr = child.stderr.take().unwrap();
    stderr.read_to_string(&mut said).unwrap();
    assert_eq!(child.wait().unwrap().code(), Some(2), "{said}");
    assert!(said.contains(&address), "{said}");
}
