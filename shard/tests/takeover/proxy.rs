//! What lies between a process and its PostgreSQL server, and may be cut.

use std::io::{self, Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::sync::Arc;
use std::thread;

use parking_lot::{Condvar, Mutex};

/// Where the way is cut.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Cut {
    /// A transaction is with the server, but for its `COMMIT`.
    BeforeCommit,
    /// The `COMMIT` is with the server, and its answer is on the way.
    AfterCommit,
}

/// The way to a server. Cut, nothing gets through on any connection until it is mended.
pub(crate) struct Proxy {
    port: u16,
    way: Arc<Way>,
}

#[derive(Default)]
struct Way {
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Default)]
struct State {
    /// How many commits get through, and where it is cut then.
    next: Option<(usize, Cut)>,
    is_cut: bool,
}

impl Proxy {
    pub(crate) fn to(server: String) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        let way = Arc::<Way>::default();
        let shared = Arc::clone(&way);
        // Ends with the test.
        thread::spawn(move || {
            for client in listener.incoming() {
                let (client, server) = (client.unwrap(), TcpStream::connect(&server).unwrap());
                connect(client, server, &shared);
            }
        });
        Proxy { port, way }
    }

    pub(crate) fn port(&self) -> u16 {
        self.port
    }

    /// Cuts the way at the commit behind so many.
    pub(crate) fn cut_after(&self, commits: usize, cut: Cut) {
        self.way.state.lock().next = Some((commits, cut));
    }

    pub(crate) fn is_cut(&self) -> bool {
        self.way.state.lock().is_cut
    }

    pub(crate) fn mend(&self) {
        self.way.state.lock().is_cut = false;
        self.way.changed.notify_all();
    }
}

impl Way {
    /// Waits while it is cut.
    fn pass(&self) {
        let mut state = self.state.lock();
        while state.is_cut {
            self.changed.wait(&mut state);
        }
    }

    /// A commit comes along: cuts the way, if it is the one. Says where.
    fn commit(&self) -> Option<Cut> {
        let mut state = self.state.lock();
        match &mut state.next {
            Some((0, cut)) => {
                let cut = *cut;
                state.next = None;
                state.is_cut = cut == Cut::BeforeCommit;
                Some(cut)
            }
            Some((commits, _)) => {
                *commits -= 1;
                None
            }
            None => None,
        }
    }

    fn cut(&self) {
        self.state.lock().is_cut = true;
    }
}

/// Lets through what the two say to each other.
fn connect(client: TcpStream, server: TcpStream, way: &Arc<Way>) {
    client.set_nodelay(true).unwrap();
    server.set_nodelay(true).unwrap();
    let (from_server, to_client) = (server.try_clone().unwrap(), client.try_clone().unwrap());
    let answers = Arc::clone(way);
    thread::spawn(move || {
        // However it ends, both hear of it.
        let _ = pass_answers(&from_server, &to_client, &answers);
        answers.pass();
        let _ = to_client.shutdown(Shutdown::Both);
    });
    let way = Arc::clone(way);
    thread::spawn(move || {
        let _ = pass_requests(&client, &server, &way);
        let _ = server.shutdown(Shutdown::Both);
    });
}

fn pass_answers(mut server: &TcpStream, mut client: &TcpStream, way: &Way) -> io::Result<()> {
    let mut buffer = [0; 4096];
    loop {
        let count = server.read(&mut buffer)?;
        if count == 0 {
            return Ok(());
        }
        way.pass();
        client.write_all(&buffer[..count])?;
    }
}

/// Message by message: the first one has no type, and each has its length in front.
fn pass_requests(mut client: &TcpStream, mut server: &TcpStream, way: &Way) -> io::Result<()> {
    let mut has_type = false;
    loop {
        let mut message = vec![0; if has_type { 5 } else { 4 }];
        client.read_exact(&mut message)?;
        let (at, length) = message.split_last_chunk::<4>().unwrap();
        let (kind, length) = (at.first().copied(), u32::from_be_bytes(*length));
        let from = message.len();
        message.resize(from + usize::try_from(length).unwrap() - 4, 0);
        client.read_exact(&mut message[from..])?;
        has_type = true;
        let is_commit = kind == Some(b'Q') && &message[from..] == b"COMMIT\0";
        let cut = if is_commit { way.commit() } else { None };
        if cut != Some(Cut::AfterCommit) {
            way.pass();
        }
        server.write_all(&message)?;
        if cut == Some(Cut::AfterCommit) {
            way.cut();
        }
    }
}
