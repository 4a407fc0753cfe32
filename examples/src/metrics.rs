//! The figures of the controller, for Prometheus to fetch.

use std::io;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use http_body_util::Full;
use hyper::body::{Bytes, Incoming};
use hyper::header::{ALLOW, CONTENT_TYPE, HeaderValue};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{Method, Request, Response, StatusCode};
use hyper_util::rt::TokioIo;
use lowwater_shard::collections::{Collections, MetricsOptions};
use prometheus_client::encoding::text::encode;
use prometheus_client::registry::Registry;
use tokio::net::{TcpListener, TcpStream};
use tokio::runtime::Handle;
use tokio::sync::Semaphore;
use tokio::task::{AbortHandle, spawn_blocking};
use tokio::time::{sleep, timeout};

use crate::minute::Minute;

/// How many connections are served at a time; others wait to be taken up.
const VISITORS_MAX: usize = 8;

/// No visitor stays longer, whatever he sends or reads, or does not.
const VISIT_MAX: Duration = Duration::from_secs(10);

/// How long no connection is taken up after that has failed, as it does when there are no file
/// descriptors left.
const AFTER_FAILURE: Duration = Duration::from_millis(100);

/// The text that [`encode`] writes.
const OPEN_METRICS: HeaderValue =
    HeaderValue::from_static("application/openmetrics-text; version=1.0.0; charset=utf-8");

/// What is told: the figures of the collections that were registered. Clones are handles of the same.
#[derive(Clone, Debug, Default)]
pub struct Figures(Arc<Mutex<Registry>>);

impl Figures {
    /// From now on the figures of these collections are told, in minutes of history.
    pub fn register(&self, collections: &Collections<u64, Minute>) {
        let mut registry = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        collections.register_metrics(&mut registry, MetricsOptions::numbers());
    }

    /// What they are now. Blocks for a moment: the engine is asked for holds.
    fn text(&self) -> String {
        let registry = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let mut text = String::new();
        encode(&mut text, &registry).expect("strings take everything");
        text
    }
}

/// Answers `GET /metrics`, until it is dropped. Whoever asks, and however slowly, the replay goes on:
/// visitors are few at a time, stay for a bounded time, and are served on a thread of the store's.
#[derive(Debug)]
pub struct Endpoint {
    address: SocketAddr,
    task: AbortHandle,
}

impl Endpoint {
    /// Listens on `address`; on a port of the system's choice if that is 0.
    ///
    /// # Errors
    /// When one cannot listen there.
    pub fn open(address: SocketAddr, runtime: &Handle, figures: Figures) -> io::Result<Self> {
        let listener = runtime.block_on(TcpListener::bind(address))?;
        Ok(Self {
            address: listener.local_addr()?,
            task: runtime.spawn(serve(listener, figures)).abort_handle(),
        })
    }

    /// Where it listens.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.address
    }
}

impl Drop for Endpoint {
    fn drop(&mut self) {
        self.task.abort();
    }
}

async fn serve(listener: TcpListener, figures: Figures) {
    let room = Arc::new(Semaphore::new(VISITORS_MAX));
    loop {
        let place = Arc::clone(&room).acquire_owned().await;
        let place = place.expect("nobody closes it");
        match listener.accept().await {
            Ok((stream, _)) => {
                let visit = visit(stream, figures.clone());
                drop(tokio::spawn(async move {
                    // Whoever takes too long, or goes, gets no answer; nobody else is concerned.
                    let _ = timeout(VISIT_MAX, visit).await;
                    drop(place);
                }));
            }
            Err(_) => sleep(AFTER_FAILURE).await,
        }
    }
}

async fn visit(stream: TcpStream, figures: Figures) -> hyper::Result<()> {
    let answer = service_fn(move |request| answer(request, figures.clone()));
    http1::Builder::new()
        .keep_alive(false)
        .serve_connection(TokioIo::new(stream), answer)
        .await
}

type Answer = Response<Full<Bytes>>;

async fn answer(
    request: Request<Incoming>,
    figures: Figures,
) -> Result<Answer, tokio::task::JoinError> {
    if request.uri().path() != "/metrics" {
        return Ok(refusal(StatusCode::NOT_FOUND));
    }
    if request.method() != Method::GET && request.method() != Method::HEAD {
        let mut refusal = refusal(StatusCode::METHOD_NOT_ALLOWED);
        let allowed = HeaderValue::from_static("GET, HEAD");
        refusal.headers_mut().insert(ALLOW, allowed);
        return Ok(refusal);
    }
    let text = spawn_blocking(move || figures.text()).await?;
    let mut told = Response::new(Full::from(text));
    told.headers_mut().insert(CONTENT_TYPE, OPEN_METRICS);
    Ok(told)
}

fn refusal(status: StatusCode) -> Answer {
    let mut refusal = Response::new(Full::default());
    *refusal.status_mut() = status;
    refusal
}
