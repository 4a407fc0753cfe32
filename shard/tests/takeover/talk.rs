//! What the older controller and its test say to each other, a line each.

use std::io;

const MARK: &str = "older controller: ";

/// The older one says something.
pub(crate) fn say(what: &str) {
    println!("{MARK}{what}");
}

/// What it says in a line, which the test harness may have begun.
pub(crate) fn said(line: &str) -> Option<&str> {
    line.split(MARK).nth(1)
}

/// The older one waits for what the test says.
pub(crate) async fn hear() -> String {
    let heard = tokio::task::spawn_blocking(|| {
        let mut line = String::new();
        io::stdin().read_line(&mut line).unwrap();
        line
    });
    heard.await.unwrap().trim().to_owned()
}
