//! The answer to a request, on its way.

use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use crate::command::StopReason;
use crate::id::Ticket;
use crate::link::Hotline;

/// The answer to a request, on its way: a future of any runtime, or [`wait`](Pending::wait) for it.
///
/// Dropping it gives up the waiting, not what was asked: a command that was sent is obeyed. A hold
/// that nobody waits for any more is released. When the engine stops, whatever is still pending
/// comes to its error.
#[must_use = "the request is made, but may be refused: wait for the answer"]
pub struct Pending<R, E> {
    answer: Coming<R, E>,
    link: Arc<dyn Hotline>,
    /// To be told when nobody waits any more.
    ticket: Option<Ticket>,
}

enum Coming<R, E> {
    Here(Result<R, E>),
    Sent(oneshot::Receiver<Result<R, E>>),
    Polled(oneshot::AsyncReceiver<Result<R, E>>),
    Taken,
}

impl<R, E: From<StopReason>> Pending<R, E> {
    /// What needs no asking.
    pub(crate) fn ready(link: Arc<dyn Hotline>, answer: Result<R, E>) -> Self {
        Pending {
            answer: Coming::Here(answer),
            link,
            ticket: None,
        }
    }

    /// What was asked; `ticket` if the engine keeps the request until it comes true.
    pub(crate) fn sent(
        link: Arc<dyn Hotline>,
        answer: oneshot::Receiver<Result<R, E>>,
        ticket: Option<Ticket>,
    ) -> Self {
        Pending {
            answer: Coming::Sent(answer),
            link,
            ticket,
        }
    }

    /// Blocks this thread until the answer is there. Never call it on the owner thread: it would
    /// wait for itself.
    ///
    /// # Errors
    ///
    /// The answer's own, and that the engine has stopped.
    ///
    /// # Panics
    ///
    /// If the answer was taken before, by polling to the end.
    pub fn wait(mut self) -> Result<R, E> {
        let received = match std::mem::replace(&mut self.answer, Coming::Taken) {
            Coming::Here(answer) => Ok(answer),
            Coming::Sent(receiver) => receiver.recv(),
            Coming::Polled(mut receiver) => {
                block_on(&mut receiver, None).expect("it was waited for without a bound")
            }
            Coming::Taken => panic!("the answer was taken before"),
        };
        self.ticket = None;
        received.unwrap_or_else(|_| Err(self.link.stop_reason().into()))
    }

    /// Blocks this thread until the answer is there, but not longer than `timeout`.
    ///
    /// # Errors
    ///
    /// The request itself, to wait for again, if time is up first.
    ///
    /// # Panics
    ///
    /// If the answer was taken before, by polling to the end.
    pub fn wait_timeout(mut self, timeout: Duration) -> Result<Result<R, E>, Self> {
        let deadline = Instant::now() + timeout;
        let received = match &mut self.answer {
            Coming::Sent(receiver) => match receiver.recv_deadline(deadline) {
                Ok(answer) => Ok(answer),
                Err(oneshot::RecvTimeoutError::Timeout) => return Err(self),
                Err(oneshot::RecvTimeoutError::Disconnected) => Err(oneshot::RecvError),
            },
            Coming::Polled(receiver) => match block_on(receiver, Some(deadline)) {
                Some(received) => received,
                None => return Err(self),
            },
            Coming::Here(_) | Coming::Taken => return Ok(self.wait()),
        };
        self.ticket = None;
        Ok(received.unwrap_or_else(|_| Err(self.link.stop_reason().into())))
    }
}

impl<R, E> Unpin for Pending<R, E> {}

impl<R, E: From<StopReason>> Future for Pending<R, E> {
    type Output = Result<R, E>;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        let mut receiver = match std::mem::replace(&mut self.answer, Coming::Taken) {
            Coming::Here(answer) => return Poll::Ready(answer),
            Coming::Sent(receiver) => receiver.into_future(),
            Coming::Polled(receiver) => receiver,
            Coming::Taken => panic!("polled after the answer was taken"),
        };
        match Pin::new(&mut receiver).poll(context) {
            Poll::Ready(received) => {
                self.ticket = None;
                Poll::Ready(received.unwrap_or_else(|_| Err(self.link.stop_reason().into())))
            }
            Poll::Pending => {
                self.answer = Coming::Polled(receiver);
                Poll::Pending
            }
        }
    }
}

impl<R, E> Drop for Pending<R, E> {
    fn drop(&mut self) {
        if let Some(ticket) = self.ticket.take() {
            self.link.cancel(ticket);
        }
    }
}

impl<R, E> fmt::Debug for Pending<R, E> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Pending").finish_non_exhaustive()
    }
}

/// Waits for a future on this thread, parked in between. None: it is not ready by `deadline`.
fn block_on<F: Future + Unpin>(future: &mut F, deadline: Option<Instant>) -> Option<F::Output> {
    struct Unpark(std::thread::Thread);
    impl std::task::Wake for Unpark {
        fn wake(self: Arc<Self>) {
            self.0.unpark();
        }
    }
    let waker = Arc::new(Unpark(std::thread::current())).into();
    let mut context = Context::from_waker(&waker);
    loop {
        if let Poll::Ready(output) = Pin::new(&mut *future).poll(&mut context) {
            return Some(output);
        }
        match deadline.map(|deadline| deadline.saturating_duration_since(Instant::now())) {
            None => std::thread::park(),
            Some(Duration::ZERO) => return None,
            Some(left) => std::thread::park_timeout(left),
        }
    }
}
