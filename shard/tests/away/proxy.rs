//! A way to a server that can be held, cut, or lose the answers.

use std::net::{SocketAddr, TcpListener as StdListener};
use std::thread::{self, JoinHandle};

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;

/// What happens to connections, those that are there and those that come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Way {
    Open,
    /// They are taken, and nothing passes; later it does.
    Held,
    /// What is asked passes, what is answered waits.
    AnswersHeld,
    /// They are ended.
    Cut,
}

#[derive(Clone, Copy, Debug)]
struct State {
    way: Way,
    /// How often it was cut: connections of before are ended, also where it is open again.
    cuts: u64,
}

#[derive(Clone, Copy)]
enum Direction {
    There,
    Back,
}

impl Way {
    fn passes(self, direction: Direction) -> bool {
        match (self, direction) {
            (Way::Open, _) | (Way::AnswersHeld, Direction::There) => true,
            (Way::AnswersHeld, Direction::Back) | (Way::Held | Way::Cut, _) => false,
        }
    }
}

/// Stands between clients and a server until it is dropped.
pub(crate) struct Proxy {
    address: SocketAddr,
    way: Option<watch::Sender<State>>,
    thread: Option<JoinHandle<()>>,
}

impl Proxy {
    /// A way to the server at this address, which is open.
    pub(crate) fn to(server: &str) -> Self {
        let listener = StdListener::bind("127.0.0.1:0").unwrap();
        listener.set_nonblocking(true).unwrap();
        let address = listener.local_addr().unwrap();
        let open = State {
            way: Way::Open,
            cuts: 0,
        };
        let (way, ways) = watch::channel(open);
        let server = server.to_owned();
        let thread = thread::spawn(move || {
            crate::place::postgres::run(serve(listener, server, ways));
        });
        Proxy {
            address,
            way: Some(way),
            thread: Some(thread),
        }
    }

    pub(crate) fn address(&self) -> SocketAddr {
        self.address
    }

    pub(crate) fn set(&self, way: Way) {
        if let Some(sender) = &self.way {
            sender.send_modify(|state| {
                state.way = way;
                state.cuts += u64::from(way == Way::Cut);
            });
        }
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.way = None;
        let ended = self.thread.take().map(JoinHandle::join);
        assert!(ended.is_none_or(|ended| ended.is_ok()) || thread::panicking());
    }
}

async fn serve(listener: StdListener, server: String, mut ways: watch::Receiver<State>) {
    let listener = TcpListener::from_std(listener).unwrap();
    loop {
        let taken = tokio::select! {
            taken = listener.accept() => taken.unwrap().0,
            gone = ways.changed() => match gone {
                Ok(()) => continue,
                Err(_) => return,
            },
        };
        if ways.borrow().way != Way::Cut {
            tokio::spawn(pass(taken, server.clone(), ways.clone()));
        }
    }
}

/// Until one of them leaves, or the way is cut.
async fn pass(client: TcpStream, server: String, mut ways: watch::Receiver<State>) {
    let cuts = ways.borrow().cuts;
    let Ok(server) = TcpStream::connect(&server).await else {
        return;
    };
    let (from_client, to_client) = client.into_split();
    let (from_server, to_server) = server.into_split();
    tokio::select! {
        () = pump(from_client, to_server, Direction::There, ways.clone()) => {}
        () = pump(from_server, to_client, Direction::Back, ways.clone()) => {}
        _ = ways.wait_for(|state| state.cuts > cuts) => {}
    }
}

async fn pump(
    mut from: OwnedReadHalf,
    mut to: OwnedWriteHalf,
    direction: Direction,
    mut ways: watch::Receiver<State>,
) {
    let mut buffer = vec![0; 64 << 10];
    loop {
        let Ok(read @ 1..) = from.read(&mut buffer).await else {
            return;
        };
        if ways
            .wait_for(|state| state.way.passes(direction))
            .await
            .is_err()
        {
            return;
        }
        if to.write_all(&buffer[..read]).await.is_err() {
            return;
        }
    }
}
