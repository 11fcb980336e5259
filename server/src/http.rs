//! The listener: connections, their limits and time-outs, and graceful shutdown.
//!
//! Owns everything between a socket and a whole request: HTTP/1.1 and HTTP/2 on one port, in clear text
//! (HTTP/2 by prior knowledge) or over TLS (by ALPN), bounded heads, bodies, connections and waiting. It knows nothing of
//! Cosmos. A request that got through is answered here, if that takes memory alone; as a future, if it writes items
//! (`writes.rs`); or by `service.rs` on a thread that may block.

use std::convert::Infallible;
use std::future::{Future, poll_fn};
use std::net::SocketAddr;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::pin;
use std::sync::Arc;
use std::task::Poll;
use std::time::{Duration, Instant};

use bytes::{Bytes, BytesMut};
use http_body_util::{BodyExt, Full};
use hyper::body::{Body, Incoming};
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use hyper_util::server::conn::auto;
use rustls::ServerConfig;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Semaphore, SemaphorePermit, watch};
use tokio::task::JoinSet;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::server::TlsStream;

use crate::chaos;
use crate::chaos::{Dice, Fault};
use crate::config::{BODY_BYTES_MAX, Config, ServeError};
use crate::connection::{Abrupt, Activity, Busy, Watched};
use crate::descriptors;
use crate::framing::Framing;
use crate::headers::Headers;
use crate::health;
use crate::metrics::Operation;
use crate::payload::Payload;
use crate::reply;
use crate::routes::Route;
use crate::service::{Reply, Request, Service, Wait};
use crate::status::{ApiError, Kind};
use crate::threads::Threads;
use crate::tls::Tls;
use crate::writes;

/// Longest request head, in bytes; hyper answers 431 beyond it, and beyond a hundred header fields.
const HEAD_BYTES_MAX: usize = 64 * 1024;
/// Most HTTP/2 requests under way on one connection.
const STREAMS_MAX: u32 = 256;
/// How much of a refused body is read and thrown away, so that the connection can be used again.
const DRAIN_BYTES_MAX: u64 = 16 * 1024 * 1024;
/// Most threads that judge writes at once.
const JUDGES_MAX: usize = 16;
/// Most connections beyond the limit that are told so at once.
const REFUSALS_MAX: usize = 64;
/// How often a flood of connections is logged.
const WARNING_INTERVAL: Duration = Duration::from_secs(10);
/// How often a connection looks at its own time-outs.
const WATCH_INTERVAL: Duration = Duration::from_millis(500);

/// A bound server: it has its port, and answers once [`run`](Server::run) is called.
#[derive(Debug)]
pub struct Server {
    listener: TcpListener,
    address: SocketAddr,
    shared: Arc<Shared>,
}

/// What every connection needs.
#[derive(Debug)]
struct Shared {
    service: Arc<Service>,
    config: Config,
    tls: Option<Arc<ServerConfig>>,
    dice: Option<Dice>,
    /// For requests that read from the disk, and for the catalog.
    threads: Threads,
    /// For judging writes, which is soon done.
    judges: Threads,
    /// Room for bodies, in KiB: as many of the largest as there may be requests, or many more small ones.
    bodies: Semaphore,
}

impl Server {
    /// Checks the settings, reads the list of databases and containers from `store`, and binds the address.
    ///
    /// # Errors
    ///
    /// [`ServeError::Config`] for settings that contradict each other, [`ServeError::Store`] and
    /// [`ServeError::Metadata`] when the store cannot be read, [`ServeError::Listen`] when the address cannot be bound.
    pub async fn bind(store: etagdb::Store, config: Config) -> Result<Server, ServeError> {
        let key = config.validate()?;
        let config = Config { connections_max: descriptors::connections_max(config.connections_max), ..config };
        let (service, tls, config) = tokio::task::spawn_blocking(move || {
            let tls = config.tls.as_ref().map(Tls::prepare).transpose()?;
            Ok::<_, ServeError>((Service::open(store, key, &config)?, tls, config))
        })
        .await
        .map_err(|error| ServeError::Metadata(format!("reading it did not finish: {error}")))??;
        let listener = TcpListener::bind(config.listen).await.map_err(ServeError::Listen)?;
        let address = listener.local_addr().map_err(ServeError::Listen)?;
        let dice = config.chaos.clone().map(Dice::new);
        let threads = Threads::new(config.requests_max);
        let judges = Threads::new(JUDGES_MAX.min(config.requests_max));
        let service = Arc::new(service);
        let room = config.requests_max.saturating_mul(kib(BODY_BYTES_MAX) as usize);
        let bodies = Semaphore::new(room.min(Semaphore::MAX_PERMITS));
        Ok(Server {
            listener,
            address,
            shared: Arc::new(Shared { service, config, tls, dice, threads, judges, bodies }),
        })
    }

    /// The address that is listened on, with the port that was picked if 0 was asked for.
    pub fn local_addr(&self) -> SocketAddr {
        self.address
    }

    /// Answers requests until `shutdown` completes; then takes no new connection, answers what was accepted, and
    /// returns. Requests that are still not answered after `shutdown_timeout` are given up; what they had been
    /// acknowledged for is in the store.
    ///
    /// # Errors
    ///
    /// None at present: a failing `accept` (for example no file descriptors left) is logged and tried again.
    pub async fn run(self, shutdown: impl Future<Output = ()>) -> Result<(), ServeError> {
        let (stop, stopped) = watch::channel(false);
        let mut connections = JoinSet::new();
        let mut shutdown = pin!(shutdown);
        let (mut refused, mut warned) = (0u64, None);
        let mut told = pin!(health::log_changes(&self.shared.service.store));
        loop {
            self.shared.service.metrics.connections(connections.len(), refused);
            tokio::select! {
                () = &mut shutdown => break,
                () = &mut told => {}
                Some(ended) = connections.join_next(), if !connections.is_empty() => log_panic(ended),
                accepted = self.listener.accept() => match accepted {
                    Ok((stream, peer)) if connections.len() >= self.shared.config.connections_max => {
                        refused += 1;
                        if warned.is_none_or(|last: Instant| last.elapsed() > WARNING_INTERVAL) {
                            warned = Some(Instant::now());
                            tracing::warn!(%peer, refused, "connections refused: the limit of connections is reached");
                        }
                        // In a flood even telling everybody why is too much.
                        if connections.len() < self.shared.config.connections_max + REFUSALS_MAX {
                            connections.spawn(refuse(stream));
                        }
                    }
                    Ok((stream, _)) => {
                        connections.spawn(greet(stream, Arc::clone(&self.shared), stopped.clone()));
                    }
                    Err(error) => {
                        // Out of file descriptors, or a peer that gave up early: neither ends the server, but the
                        // first would spin here without a pause.
                        tracing::warn!(%error, "accept failed");
                        tokio::time::sleep(Duration::from_millis(20)).await;
                    }
                },
            }
        }
        drop(self.listener);
        stop.send_replace(true);
        let drained = async {
            while let Some(ended) = connections.join_next().await {
                log_panic(ended);
            }
        };
        if tokio::time::timeout(self.shared.config.shutdown_timeout, drained).await.is_err() {
            tracing::warn!("shutdown: giving up requests that are still not answered");
        }
        Ok(())
    }
}

fn log_panic(ended: Result<(), tokio::task::JoinError>) {
    if let Err(error) = ended
        && error.is_panic()
    {
        tracing::error!(%error, "a connection ended by a panic");
    }
}

/// Tells a connection beyond the limit why it is closed.
async fn refuse(stream: TcpStream) {
    let message = "The server has as many connections open as it takes.";
    tell(stream, "503 Service Unavailable", "ServiceUnavailable", message).await;
}

/// Answers in clear text whatever was asked, and closes the connection.
async fn tell(mut stream: TcpStream, status: &str, code: &str, message: &str) {
    let body = format!(r#"{{"code":"{code}","message":"{message}"}}"#);
    let text = format!(
        "HTTP/1.1 {status}\r\ncontent-type: application/json\r\ncontent-length: {}\r\nconnection: close\r\n\r\n{body}",
        body.len()
    );
    let telling = async {
        stream.write_all(text.as_bytes()).await?;
        stream.shutdown().await?;
        // A socket that is closed with bytes unread takes back what was written.
        let mut unread = [0; 4096];
        while stream.read(&mut unread).await? > 0 {}
        Ok::<(), std::io::Error>(())
    };
    // The peer may not read it; nothing depends on that.
    let _ = tokio::time::timeout(Duration::from_secs(1), telling).await;
}

/// Takes a new connection: through the TLS handshake first, if there is one.
async fn greet(stream: TcpStream, shared: Arc<Shared>, mut stopped: watch::Receiver<bool>) {
    // Answers are small and complete: waiting to fill a segment would only add latency.
    let _ = stream.set_nodelay(true);
    let Some(tls) = &shared.tls else {
        return serve(stream, Arc::clone(&shared), stopped).await;
    };
    let shaken = tokio::select! {
        shaken = tokio::time::timeout(shared.config.header_timeout, shake_hands(stream, Arc::clone(tls))) => shaken,
        _ = stopped.wait_for(|stopped| *stopped) => return,
    };
    match shaken {
        Ok(Ok(Some(stream))) => serve(stream, Arc::clone(&shared), stopped).await,
        Ok(Ok(None)) => {}
        Ok(Err(error)) => tracing::debug!(%error, "TLS handshake failed"),
        Err(_) => tracing::debug!("TLS handshake given up"),
    }
}

/// The handshake; `None` for a client that spoke no TLS and was told so.
async fn shake_hands(stream: TcpStream, tls: Arc<ServerConfig>) -> std::io::Result<Option<TlsStream<TcpStream>>> {
    let mut first = [0];
    stream.peek(&mut first).await?;
    // A handshake begins with 22; a letter begins a method.
    if first[0].is_ascii_uppercase() {
        tell(stream, "400 Bad Request", "BadRequest", "This port speaks TLS: the address begins with https://.").await;
        return Ok(None);
    }
    TlsAcceptor::from(tls).accept(stream).await.map(Some)
}

async fn serve<S>(stream: S, shared: Arc<Shared>, mut stopped: watch::Receiver<bool>)
where
    S: AsyncRead + AsyncWrite + Abrupt + Unpin + Send + 'static,
{
    let activity = Arc::new(Activity::new());
    let io = TokioIo::new(Watched::new(stream, Framing::new(HEAD_BYTES_MAX), Arc::clone(&activity)));
    let mut builder = auto::Builder::new(TokioExecutor::new());
    builder
        .http1()
        .timer(TokioTimer::new())
        // hyper runs this clock between requests too, so here it can only guard idleness; `Activity` times the head.
        .header_read_timeout(shared.config.idle_timeout.max(shared.config.header_timeout))
        .max_buf_size(HEAD_BYTES_MAX);
    builder
        .http2()
        .timer(TokioTimer::new())
        .max_concurrent_streams(STREAMS_MAX)
        .max_header_list_size(HEAD_BYTES_MAX as u32);

    let service = {
        let (shared, activity) = (Arc::clone(&shared), Arc::clone(&activity));
        let stopped = stopped.clone();
        service_fn(move |request| {
            let (shared, busy, stopped) = (Arc::clone(&shared), Activity::begin(&activity), stopped.clone());
            async move { Ok::<_, Infallible>(answer(&shared, busy, request, stopped).await) }
        })
    };
    let mut connection = pin!(builder.serve_connection(io, service));
    let mut watch = tokio::time::interval(WATCH_INTERVAL);
    let mut stopping = *stopped.borrow();
    if stopping {
        connection.as_mut().graceful_shutdown();
    }
    loop {
        tokio::select! {
            // The others are looked at as well, unless this ends.
            biased;
            ended = connection.as_mut() => {
                if let Err(error) = ended {
                    tracing::debug!(%error, "connection ended");
                }
                return;
            }
            _ = stopped.changed(), if !stopping => {
                stopping = true;
                connection.as_mut().graceful_shutdown();
            }
            () = activity.is_cut() => return,
            _ = watch.tick() => {
                if activity.expired(shared.config.header_timeout, shared.config.idle_timeout) {
                    return;
                }
            }
        }
    }
}

/// Answers one request, counts it, and logs it. The log has no header and no body: there are keys in the one and other
/// people's data in the other.
async fn answer(
    shared: &Arc<Shared>,
    mut busy: Busy,
    request: hyper::Request<Incoming>,
    stopped: watch::Receiver<bool>,
) -> hyper::Response<Full<Payload>> {
    let logged = tracing::enabled!(tracing::Level::DEBUG).then(|| (request.method().clone(), request.uri().clone()));
    let mut operation = Operation::Unknown;
    let response = examine(shared, &busy, request, stopped, &mut operation).await;
    let (status, took) = (response.status(), busy.answered());
    shared.service.metrics.answered(operation, status, took);
    if let Some((method, uri)) = logged {
        let activity = response.headers().get("x-ms-activity-id").and_then(|id| id.to_str().ok());
        let (operation, status, micros) = (operation.name(), status.as_u16(), took.as_micros() as u64);
        tracing::debug!(%method, path = uri.path(), operation, status, micros, activity, "answered");
    }
    response
}

/// Takes a request apart, has it carried out if it may be, and puts the answer together.
async fn examine(
    shared: &Arc<Shared>,
    busy: &Busy,
    request: hyper::Request<Incoming>,
    stopped: watch::Receiver<bool>,
    operation: &mut Operation,
) -> hyper::Response<Full<Payload>> {
    let (parts, mut body) = request.into_parts();
    if let Some(fault) = busy.fault() {
        // Read, so that the answer arrives; whether it was a body at all is in doubt, and with it what comes behind.
        Box::pin(drain(&mut body, shared.config.body_timeout)).await;
        return respond(shared.service.refuse(&parts, ApiError::bad_request(fault.message())), true);
    }
    // Who asks is settled before a body is stored: a stranger cannot make the server hold 2 MiB.
    let admitted = catch_unwind(AssertUnwindSafe(|| shared.service.admit(&parts)))
        .unwrap_or_else(|_| Err(ApiError::new(Kind::InternalServerError, "the request could not be examined")));
    if let Ok(route) = &admitted {
        *operation = Operation::of(route, &parts.method, Headers(&parts.headers));
    }
    let admitted = match (admitted, &shared.dice) {
        (Ok(route), Some(dice)) => match Box::pin(inject(dice, &route, &parts, busy)).await {
            Ok(fault) => Ok((route, fault)),
            Err(error) => Err(error),
        },
        (admitted, _) => admitted.map(|route| (route, None)),
    };
    let (route, fault) = match admitted {
        Ok(admitted) => admitted,
        Err(error) => {
            let close = !Box::pin(drain(&mut body, shared.config.body_timeout)).await;
            return respond(shared.service.refuse(&parts, error), close);
        }
    };
    // The body first: a client that is slow to send it must not take the place of one that has.
    let (body, room) = match take(shared, &mut body).await {
        Ok(taken) => taken,
        Err(unread) => {
            let (error, close) = match unread {
                Unread::TooLarge => {
                    let drained = Box::pin(drain(&mut body, shared.config.body_timeout)).await;
                    (ApiError::new(Kind::RequestEntityTooLarge, "Request size is too large"), !drained)
                }
                Unread::Late => {
                    (ApiError::new(Kind::RequestTimeout, "the request's body did not arrive in time"), true)
                }
                Unread::Broken(error) => {
                    (ApiError::new(Kind::BadRequest, format!("the request's body could not be read: {error}")), true)
                }
            };
            return respond(shared.service.refuse(&parts, error), close);
        }
    };
    let request = Request { route, parts, body };
    let reply = match in_memory(shared, &request) {
        Some(reply) => {
            reply::recycle(request.parts.headers);
            reply
        }
        None => Box::pin(carry_out(shared, request, stopped)).await,
    };
    drop(room);
    match fault {
        Some(Fault::Drop) => busy.cut().await,
        Some(fault) => respond(reply.header(chaos::HEADER, &fault.to_string()), false),
        None => respond(reply, false),
    }
}

/// Does what the dice say before a request is carried out, and returns what is left to do afterwards.
async fn inject(
    dice: &Dice,
    route: &Route,
    parts: &http::request::Parts,
    busy: &Busy,
) -> Result<Option<Fault>, ApiError> {
    let Some(fault) = dice.fault(route, Headers(&parts.headers))? else { return Ok(None) };
    tracing::debug!(%fault, "fault injected");
    match fault {
        Fault::Refuse(..) => fault.refusal().map_or(Ok(None), Err),
        Fault::Delay(time) => {
            tokio::time::sleep(time).await;
            Ok(Some(fault))
        }
        Fault::Reset => busy.cut().await,
        Fault::Drop => Ok(Some(fault)),
    }
}

/// Answers a request for something in memory: most are reads of that kind, and going to another thread costs more than
/// answering them. After a panic the request takes the long way, which answers for it.
fn in_memory(shared: &Shared, request: &Request) -> Option<Reply> {
    catch_unwind(AssertUnwindSafe(|| shared.service.execute_in_memory(request))).ok().flatten()
}

/// Carries a request out, and waits if its answer is to wait.
async fn carry_out(shared: &Arc<Shared>, request: Request, stopped: watch::Receiver<bool>) -> Reply {
    let request = Arc::new(request);
    if writes::is_one(&request) {
        let reply = write(shared, &request).await;
        // A thread that judges may have it still, if its work was not waited for.
        if let Some(request) = Arc::into_inner(request) {
            reply::recycle(request.parts.headers);
        }
        return reply;
    }
    let reply = execute(shared, &request).await;
    if reply.wait.is_some() { held_back(shared, request, reply, stopped).await } else { reply }
}

/// Answers a write of items, and a panic in it.
async fn write(shared: &Arc<Shared>, request: &Arc<Request>) -> Reply {
    let mut written = pin!(writes::answer(&shared.service, &shared.judges, request));
    let unwinding = poll_fn(|context| match catch_unwind(AssertUnwindSafe(|| written.as_mut().poll(context))) {
        Ok(poll) => poll.map(Some),
        Err(_) => Poll::Ready(None),
    });
    unwinding.await.unwrap_or_else(|| {
        tracing::error!("a write ended by a panic");
        ApiError::new(Kind::InternalServerError, "the request ended by an error of the server's own").into()
    })
}

/// Runs the request where blocking is allowed.
async fn execute(shared: &Arc<Shared>, request: &Arc<Request>) -> Reply {
    let (service, request) = (Arc::clone(&shared.service), Arc::clone(request));
    shared.threads.run(move || service.execute(&request)).await.unwrap_or_else(Reply::from)
}

/// Holds back the answer that nothing is new until something is, the time is over, or the server stops.
async fn held_back(
    shared: &Arc<Shared>,
    mut request: Arc<Request>,
    mut reply: Reply,
    mut stopped: watch::Receiver<bool>,
) -> Reply {
    let mut until = None;
    while let Some(Wait { ready, time }) = reply.wait.take() {
        let until = *until.get_or_insert_with(|| tokio::time::Instant::now() + time);
        let is_ready = tokio::select! {
            woken = tokio::time::timeout_at(until, ready) => matches!(woken, Ok(Ok(()))),
            _ = stopped.wait_for(|stopped| *stopped) => false,
        };
        if !is_ready {
            break;
        }
        // What the client has seen by now, as it would say itself: "from now on" must not begin anew.
        match (Arc::get_mut(&mut request), reply.headers.get(http::header::ETAG)) {
            (Some(request), Some(position)) => {
                request.parts.headers.insert(http::header::IF_NONE_MATCH, position.clone());
            }
            _ => break,
        }
        reply = execute(shared, &request).await;
    }
    reply
}

/// Why a body was not taken.
enum Unread {
    TooLarge,
    Late,
    Broken(hyper::Error),
}

/// Takes a request's body, and with it the room that it is given in memory until it is dropped.
async fn take<'a>(shared: &'a Shared, body: &mut Incoming) -> Result<(Bytes, Option<SemaphorePermit<'a>>), Unread> {
    if body.is_end_stream() {
        return Ok((Bytes::new(), None));
    }
    let hint = body.size_hint();
    if hint.lower() > BODY_BYTES_MAX as u64 {
        return Err(Unread::TooLarge);
    }
    // A body of unknown length is given room for the largest.
    let bytes = hint.upper().map_or(BODY_BYTES_MAX, |upper| usize::try_from(upper).unwrap_or(BODY_BYTES_MAX));
    let room = shared.bodies.acquire_many(kib(bytes.min(BODY_BYTES_MAX))).await.map_err(|_| Unread::Late)?;
    match tokio::time::timeout(shared.config.body_timeout, collect(body)).await {
        Ok(collected) => collected.map(|body| (body, Some(room))),
        Err(_) => Err(Unread::Late),
    }
}

/// The room for a body of so many bytes, in KiB.
fn kib(bytes: usize) -> u32 {
    u32::try_from(bytes / 1024 + 1).unwrap_or(u32::MAX)
}

/// Reads a whole body of at most [`BODY_BYTES_MAX`] bytes.
async fn collect(body: &mut Incoming) -> Result<Bytes, Unread> {
    let mut first = Bytes::new();
    let mut rest = BytesMut::new();
    while let Some(frame) = body.frame().await {
        let Ok(data) = frame.map_err(Unread::Broken)?.into_data() else { continue };
        if first.len() + rest.len() + data.len() > BODY_BYTES_MAX {
            return Err(Unread::TooLarge);
        }
        // Nearly every body arrives in one piece, which then needs no copy.
        if first.is_empty() && rest.is_empty() {
            first = data;
        } else {
            if rest.is_empty() {
                rest.extend_from_slice(&std::mem::take(&mut first));
            }
            rest.extend_from_slice(&data);
        }
    }
    Ok(if rest.is_empty() { first } else { rest.freeze() })
}

/// Reads and forgets what is left of a body. Says whether its end was reached, so that the connection can go on.
async fn drain(body: &mut Incoming, timeout: Duration) -> bool {
    if body.size_hint().lower() > DRAIN_BYTES_MAX {
        return false;
    }
    let reading = async {
        let mut read = 0;
        while let Some(frame) = body.frame().await {
            let Ok(frame) = frame else { return false };
            read += frame.data_ref().map_or(0, |data| data.len() as u64);
            if read > DRAIN_BYTES_MAX {
                return false;
            }
        }
        true
    };
    tokio::time::timeout(timeout, reading).await.unwrap_or(false)
}

fn respond(reply: Reply, close: bool) -> hyper::Response<Full<Payload>> {
    let mut response = hyper::Response::new(Full::new(Payload::new(reply.body, reply.rest)));
    *response.status_mut() = reply.status;
    *response.headers_mut() = reply.headers;
    if close {
        // hyper drops this field from an HTTP/2 answer, where a stream ends alone.
        response.headers_mut().insert(http::header::CONNECTION, http::HeaderValue::from_static("close"));
    }
    response
}
