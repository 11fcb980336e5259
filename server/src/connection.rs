//! What is known about one connection's use: when its last request ended, when a head began to arrive, and which request
//! is to be refused for its framing.
//!
//! Owns the two clocks that hyper does not have: silence, and a head that comes drop by drop. It understands no byte:
//! `framing.rs` does.

use std::io;
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, OnceLock};
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use tokio::sync::Notify;
use tokio_rustls::server::TlsStream;

use crate::framing::{Fault, Framing, Refused};

/// No head is arriving.
const NONE: u64 = u64::MAX;

/// The clocks of one connection, shared by its socket and its requests.
///
/// `Relaxed` everywhere: each value is a time-out's input on its own, and a stale one delays a close by one look.
#[derive(Debug)]
pub(crate) struct Activity {
    opened: Instant,
    in_flight: AtomicUsize,
    /// Milliseconds after `opened` at which the connection last fell silent.
    idle_since: AtomicU64,
    /// Milliseconds after `opened` at which bytes arrived with no request under way, or [`NONE`].
    head_since: AtomicU64,
    requests: AtomicUsize,
    /// Which request is refused, known before hyper has read its head.
    refused: OnceLock<Refused>,
    cut: AtomicBool,
    cutting: Notify,
}

/// A request under way; dropping it ends it.
#[derive(Debug)]
pub(crate) struct Busy {
    activity: Arc<Activity>,
    begun: Instant,
    /// Set when it is answered.
    took: Option<Duration>,
    /// Which request of its connection it is, counted from 1.
    number: usize,
}

impl Activity {
    pub(crate) fn new() -> Activity {
        Activity {
            opened: Instant::now(),
            in_flight: AtomicUsize::new(0),
            idle_since: AtomicU64::new(0),
            head_since: AtomicU64::new(NONE),
            requests: AtomicUsize::new(0),
            refused: OnceLock::new(),
            cut: AtomicBool::new(false),
            cutting: Notify::new(),
        }
    }

    /// Completes when a request has asked for the connection to be cut.
    pub(crate) async fn is_cut(&self) {
        self.cutting.notified().await;
    }

    fn since_opened(&self, moment: Instant) -> u64 {
        u64::try_from(moment.saturating_duration_since(self.opened).as_millis()).unwrap_or(NONE - 1)
    }

    pub(crate) fn begin(activity: &Arc<Activity>) -> Busy {
        activity.in_flight.fetch_add(1, Ordering::Relaxed);
        let number = activity.requests.fetch_add(1, Ordering::Relaxed) + 1;
        Busy { activity: Arc::clone(activity), number, begun: Instant::now(), took: None }
    }

    fn bytes_arrived(&self) {
        // Only the first head is timed.
        if self.requests.load(Ordering::Relaxed) == 0 && self.head_since.load(Ordering::Relaxed) == NONE {
            self.head_since.store(self.since_opened(Instant::now()), Ordering::Relaxed);
        }
    }

    /// Tells whether the connection has used up its patience.
    ///
    /// The head's clock guards the first request only. HTTP/2 peers send frames of their own accord between requests,
    /// which look like the start of a head; from the first request on, silence alone is judged, and bytes that lead to
    /// no request do not end it.
    pub(crate) fn expired(&self, head: Duration, idle: Duration) -> bool {
        if self.in_flight.load(Ordering::Relaxed) > 0 {
            return false;
        }
        let now = self.since_opened(Instant::now());
        let passed = |since: u64, limit: Duration| u128::from(now.saturating_sub(since)) > limit.as_millis();
        let head_since = self.head_since.load(Ordering::Relaxed);
        let first_head = self.requests.load(Ordering::Relaxed) == 0;
        (first_head && head_since != NONE && passed(head_since, head))
            || passed(self.idle_since.load(Ordering::Relaxed), idle)
    }
}

impl Busy {
    /// Notes that it is answered, and says how long that took.
    pub(crate) fn answered(&mut self) -> Duration {
        *self.took.insert(self.begun.elapsed())
    }

    /// What is wrong with the request's framing. Nothing after such a request is one.
    pub(crate) fn fault(&self) -> Option<Fault> {
        let refused = self.activity.refused.get()?;
        (self.number >= refused.request).then_some(refused.fault)
    }

    /// Has the connection reset, with all that is under way on it. Never returns: there is nobody left to answer.
    pub(crate) async fn cut<T>(&self) -> T {
        self.activity.cut.store(true, Ordering::Relaxed);
        self.activity.cutting.notify_one();
        std::future::pending().await
    }
}

impl Drop for Busy {
    fn drop(&mut self) {
        let ended = self.begun + self.took.unwrap_or_else(|| self.begun.elapsed());
        let ended = self.activity.since_opened(ended);
        self.activity.idle_since.store(ended, Ordering::Relaxed);
        self.activity.in_flight.fetch_sub(1, Ordering::Relaxed);
    }
}

/// A stream that can be ended by a reset, instead of a close in good order.
pub(crate) trait Abrupt {
    /// Makes the close that is coming a reset.
    fn reset_on_close(&self);
}

impl Abrupt for TcpStream {
    fn reset_on_close(&self) {
        // If it cannot be, the peer sees an orderly close before its answer, which is nearly the same to it.
        let _ = self.set_zero_linger();
    }
}

impl<S: Abrupt> Abrupt for TlsStream<S> {
    fn reset_on_close(&self) {
        self.get_ref().0.reset_on_close();
    }
}

/// A stream that tells [`Activity`] when bytes arrive and what is wrong with them, and that is reset when its connection
/// is cut.
#[derive(Debug)]
pub(crate) struct Watched<S: Abrupt> {
    stream: S,
    framing: Framing,
    activity: Arc<Activity>,
}

impl<S: Abrupt> Drop for Watched<S> {
    fn drop(&mut self) {
        if self.activity.cut.load(Ordering::Relaxed) {
            self.stream.reset_on_close();
        }
    }
}

impl<S: Abrupt> Watched<S> {
    pub(crate) fn new(stream: S, framing: Framing, activity: Arc<Activity>) -> Watched<S> {
        Watched { stream, framing, activity }
    }
}

impl<S: AsyncRead + Abrupt + Unpin> AsyncRead for Watched<S> {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let before = buf.filled().len();
        let polled = Pin::new(&mut self.stream).poll_read(cx, buf);
        if let Some(arrived) = buf.filled().get(before..).filter(|arrived| !arrived.is_empty()) {
            self.activity.bytes_arrived();
            if let Some(refused) = self.framing.look(arrived) {
                // It is said once.
                let _ = self.activity.refused.set(refused);
            }
        }
        polled
    }
}

impl<S: AsyncWrite + Abrupt + Unpin> AsyncWrite for Watched<S> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(cx, buf)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write_vectored(cx, bufs)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }
}
