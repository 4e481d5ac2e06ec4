//! The worker's end: a listener whose requests become those of the cores, and their acks.

use std::collections::{BTreeMap, BTreeSet};
use std::convert::Infallible;
use std::fmt;
use std::io;
use std::net::{SocketAddr, TcpListener};
use std::pin::pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use hyper::body::Incoming;
use hyper::header::{ALLOW, HeaderMap};
use hyper::service::service_fn;
use hyper::{Method, Response, StatusCode};
use hyper_util::rt::{TokioExecutor, TokioIo};
use hyper_util::server::conn::auto;
use ringplane_core::protocol::peer_seen;
use ringplane_core::wire::ack::{OVERLOADED, SHUTTING_DOWN, UNKNOWN_ENDPOINT};
use ringplane_core::wire::headers::{self, Headers};
use tokio::net::TcpStream;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, oneshot, watch};
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep, sleep_until, timeout};

use crate::request::http::body::{Refused, Reply, Room, read};
use crate::request::http::config::Config;

/// Pauses of the listener when descriptors or memory run out.
const PAUSES: (Duration, Duration) = (Duration::from_millis(5), Duration::from_secs(1));
/// Requests of one HTTP/2 connection at a time, and bytes it may send ahead.
const STREAMS: u32 = 128;
const AHEAD: u32 = 1 << 20;
/// The headers of a request that mean something; the rest is HTTP's own.
const KNOWN: [&str; 7] = [
    headers::REQUEST_ID,
    headers::OLD_REQUEST_ID,
    headers::SEND_TIME,
    headers::TRACEPARENT,
    headers::TRACESTATE,
    headers::REMAINING,
    headers::X_REQUEST_ID,
];

/// Why a leg does not start.
#[derive(Debug)]
#[non_exhaustive]
pub enum Error {
    /// The address cannot be listened on.
    Listen {
        /// Where.
        addr: SocketAddr,
        /// What the system said.
        source: io::Error,
    },
    /// Two endpoints of one worker have this name, which is all that a URL says of them.
    Ambiguous(String),
    /// No thread for the leg.
    Thread(io::Error),
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Listen { addr, source } => write!(f, "cannot listen on {addr} for HTTP: {source}"),
            Self::Ambiguous(name) => {
                write!(f, "two endpoints are called `{name}`, which is all that a URL says; serve them by two workers")
            }
            Self::Thread(error) => write!(f, "no thread for HTTP: {error}"),
        }
    }
}

impl std::error::Error for Error {}

/// One request.
#[derive(Debug)]
pub struct Request {
    /// Which of the endpoints given to [`Listener::serve`] it is for, from 0.
    pub endpoint: usize,
    /// Its headers as a request frame has them: JSON.
    pub headers: Vec<u8>,
    /// One two-part frame.
    pub payload: Bytes,
    /// Who asks.
    pub peer: SocketAddr,
    /// Where the ack goes.
    pub answer: Answer,
    /// Its share of [`Config::in_hand_bytes`], until it is dropped.
    pub room: OwnedSemaphorePermit,
}

/// A request's right to one ack. Dropped without one it tells the caller that this worker has no room.
#[derive(Debug)]
pub struct Answer(oneshot::Sender<String>);

impl Answer {
    /// Sends the ack; an empty text accepts.
    pub fn send(self, text: &str) {
        // Who asked may be gone.
        let _ = self.0.send(text.to_owned());
    }
}

/// A listener that nobody serves yet.
#[derive(Debug)]
pub struct Listener {
    socket: TcpListener,
    addr: SocketAddr,
    config: Config,
}

impl Listener {
    /// Binds [`Config::bind`].
    ///
    /// # Errors
    /// [`Error::Listen`].
    pub fn bind(config: Config) -> Result<Self, Error> {
        let refused = |source| Error::Listen { addr: config.bind, source };
        let socket = TcpListener::bind(config.bind).map_err(refused)?;
        socket.set_nonblocking(true).map_err(refused)?;
        let addr = socket.local_addr().map_err(refused)?;
        Ok(Self { socket, addr, config })
    }

    /// The address that was bound.
    pub const fn addr(&self) -> SocketAddr {
        self.addr
    }

    /// Where an endpoint of this name is, for who reaches this listener at `addr`.
    pub fn url(&self, addr: SocketAddr, name: &str) -> String {
        format!("http://{addr}{}/{name}", self.config.root)
    }

    /// Serves endpoints of these names on a thread of its own; `take` gets every request, and must not block.
    ///
    /// # Errors
    /// [`Error`]; nothing runs then.
    pub fn serve(self, names: &[String], take: impl Fn(Request) + Send + Sync + 'static) -> Result<WorkerLeg, Error> {
        let mut seen = BTreeSet::new();
        if let Some(name) = names.iter().find(|name| !seen.insert(name.as_str())) {
            return Err(Error::Ambiguous(name.clone()));
        }
        let paths = names.iter().enumerate().map(|(at, name)| (format!("{}/{name}", self.config.root), at)).collect();
        let (leave, left) = watch::channel(false);
        let (ended, gone) = oneshot::channel();
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().map_err(Error::Thread)?;
        let socket = {
            let _inside = runtime.enter();
            tokio::net::TcpListener::from_std(self.socket).map_err(Error::Thread)?
        };
        let desk = Arc::new(Desk {
            paths,
            take: Box::new(take),
            calls: Arc::new(Semaphore::new(self.config.in_hand)),
            room: Room::new(self.config.in_hand_bytes),
            config: Arc::new(self.config),
        });
        let run = move || {
            runtime.block_on(listen(socket, desk, left));
            let _ = ended.send(());
        };
        std::thread::Builder::new().name("ringplane-http".to_owned()).spawn(run).map_err(Error::Thread)?;
        Ok(WorkerLeg { leave, gone })
    }
}

/// The listener of a worker's endpoints, served. Dropping it ends it at once.
#[derive(Debug)]
pub struct WorkerLeg {
    leave: watch::Sender<bool>,
    gone: oneshot::Receiver<()>,
}

impl WorkerLeg {
    /// Takes no more requests, answers those in hand, and ends; bounded by [`Config::farewell`].
    pub async fn leave(self) {
        self.leave.send_replace(true);
        let _ = self.gone.await;
    }
}

/// What every connection hands its requests to.
struct Desk {
    /// Which endpoint a path is.
    paths: BTreeMap<String, usize>,
    take: Box<dyn Fn(Request) + Send + Sync>,
    calls: Arc<Semaphore>,
    room: Room,
    config: Arc<Config>,
}

async fn listen(socket: tokio::net::TcpListener, desk: Arc<Desk>, mut left: watch::Receiver<bool>) {
    let seats = Arc::new(Semaphore::new(desk.config.max_connections));
    let mut connections = JoinSet::new();
    let mut pause = PAUSES.0;
    loop {
        let accepted = tokio::select! {
            accepted = accept(&socket, &seats) => accepted,
            Some(_) = connections.join_next() => continue,
            _ = left.changed() => break,
        };
        match accepted {
            Ok((stream, peer, seat)) => {
                pause = PAUSES.0;
                let (desk, left) = (Arc::clone(&desk), left.clone());
                connections.spawn(async move {
                    converse(stream, peer, desk, left).await;
                    drop(seat);
                });
            }
            Err(error) => {
                tracing::debug!(%error, ?pause, "nothing can be accepted");
                sleep(pause).await;
                pause = (pause * 2).min(PAUSES.1);
            }
        }
    }
    drop(socket);
    // The sender is gone when nobody holds the leg any more.
    if *left.borrow() {
        let farewell = timeout(desk.config.farewell, async { while connections.join_next().await.is_some() {} });
        if farewell.await.is_err() {
            tracing::warn!("requests by HTTP were left without an ack");
        }
    }
}

async fn accept(
    socket: &tokio::net::TcpListener,
    seats: &Arc<Semaphore>,
) -> io::Result<(TcpStream, SocketAddr, OwnedSemaphorePermit)> {
    let seat = Arc::clone(seats).acquire_owned().await.map_err(io::Error::other)?;
    let (stream, peer) = socket.accept().await?;
    Ok((stream, peer, seat))
}

/// Whether a connection has requests under way, and since when it has none.
struct Pulse(Mutex<(usize, Instant)>);

impl Pulse {
    fn begin(self: &Arc<Self>) -> Beat {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).0 += 1;
        Beat(Arc::clone(self))
    }

    /// Completes when it has had none for so long.
    async fn quiet(&self, bound: Duration) {
        loop {
            let (running, since) = *self.0.lock().unwrap_or_else(PoisonError::into_inner);
            let until = if running > 0 { Instant::now() } else { since } + bound;
            if until <= Instant::now() {
                return;
            }
            sleep_until(until).await;
        }
    }
}

/// A request under way.
struct Beat(Arc<Pulse>);

impl Drop for Beat {
    fn drop(&mut self) {
        let mut pulse = self.0.0.lock().unwrap_or_else(PoisonError::into_inner);
        *pulse = (pulse.0 - 1, Instant::now());
    }
}

/// Serves one connection, of HTTP/1.1 or of HTTP/2 as its first bytes say.
async fn converse(stream: TcpStream, peer: SocketAddr, desk: Arc<Desk>, mut left: watch::Receiver<bool>) {
    // An ack is one small write.
    let _ = stream.set_nodelay(true);
    let peer = peer_seen(peer, stream.local_addr().ok());
    let pulse = Arc::new(Pulse(Mutex::new((0, Instant::now()))));
    let quiet = desk.config.quiet;
    let service = service_fn(|request| {
        let (desk, beat) = (Arc::clone(&desk), pulse.begin());
        async move {
            let (head, mut body) = hyper::Request::into_parts(request);
            let head = hyper::Request::from_parts(head, ());
            let answer = answer(&head, &mut body, peer, &desk).await;
            let read = answer.status() == StatusCode::ACCEPTED;
            Ok::<_, Infallible>(answer.map(|reply| if read { reply } else { reply.draining(body, &desk.config, beat) }))
        }
    });
    let mut builder = auto::Builder::new(TokioExecutor::new());
    builder.http1().header_read_timeout(None).max_buf_size(64 << 10);
    builder.http2().max_concurrent_streams(STREAMS).initial_stream_window_size(AHEAD);
    builder.http2().initial_connection_window_size(4 * AHEAD).max_header_list_size(64 << 10);
    let mut connection = pin!(builder.serve_connection(TokioIo::new(stream), service));
    let mut leaving = *left.borrow();
    if leaving {
        connection.as_mut().graceful_shutdown();
    }
    loop {
        tokio::select! {
            ended = connection.as_mut() => {
                if let Err(error) = ended {
                    tracing::debug!(%peer, %error, "an HTTP connection ended");
                }
                return;
            }
            () = pulse.quiet(quiet) => return tracing::debug!(%peer, "an HTTP connection says nothing"),
            _ = left.changed(), if !leaving => {
                leaving = true;
                connection.as_mut().graceful_shutdown();
            }
        }
    }
}

async fn answer(head: &hyper::Request<()>, body: &mut Incoming, peer: SocketAddr, desk: &Desk) -> Response<Reply> {
    let Some(endpoint) = desk.paths.get(head.uri().path()).copied() else {
        return response(StatusCode::NOT_FOUND, UNKNOWN_ENDPOINT.trim_end());
    };
    if head.method() != Method::POST {
        let mut refused = response(StatusCode::METHOD_NOT_ALLOWED, "requests are POSTs");
        refused.headers_mut().insert(ALLOW, hyper::header::HeaderValue::from_static("POST"));
        return refused;
    }
    let Ok(_in_hand) = Arc::clone(&desk.calls).try_acquire_owned() else { return acked(OVERLOADED) };
    let (payload, room) = match read(body, &desk.config, &desk.room).await {
        Ok(whole) => whole,
        Err(Refused::NoRoom) => return acked(OVERLOADED),
        Err(Refused::TooLarge) => {
            let text = format!("Server unavailable: message too large (max: {} bytes)", desk.config.max_body);
            return response(StatusCode::PAYLOAD_TOO_LARGE, &text);
        }
        Err(Refused::Broken) => return response(StatusCode::BAD_REQUEST, "Server unavailable: truncated payload"),
    };
    let (tell, told) = oneshot::channel();
    let headers = frame_headers(head.headers());
    (desk.take)(Request { endpoint, headers, payload, peer, answer: Answer(tell), room });
    match timeout(desk.config.answer, told).await {
        Ok(Ok(text)) => acked(&text),
        Ok(Err(_)) | Err(_) => acked(OVERLOADED),
    }
}

/// The response that carries an ack's text.
fn acked(text: &str) -> Response<Reply> {
    let status = match text {
        "" => StatusCode::ACCEPTED,
        SHUTTING_DOWN => StatusCode::SERVICE_UNAVAILABLE,
        _ if text.starts_with("Server overloaded:") => StatusCode::SERVICE_UNAVAILABLE,
        _ if text.starts_with(UNKNOWN_ENDPOINT) => StatusCode::NOT_FOUND,
        _ => StatusCode::BAD_REQUEST,
    };
    response(status, text)
}

fn response(status: StatusCode, text: &str) -> Response<Reply> {
    let mut response = Response::new(Reply::new(text));
    *response.status_mut() = status;
    response
}

/// The headers of a request as a request frame has them: nothing if they are too long for one.
fn frame_headers(map: &HeaderMap) -> Vec<u8> {
    let mut headers = Headers::new();
    for name in KNOWN {
        if let Some(value) = map.get(name).and_then(|value| value.to_str().ok()) {
            headers.push(name, value);
        }
    }
    headers.write().unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_acks_text_has_a_status() {
        for (text, status) in [
            ("", 202),
            (OVERLOADED, 503),
            (SHUTTING_DOWN, 503),
            ("Server unavailable: unknown endpoint x", 404),
            ("Server unavailable: truncated payload", 400),
        ] {
            assert_eq!(acked(text).status().as_u16(), status, "{text}");
        }
    }

    #[test]
    fn two_endpoints_of_one_name_are_refused() {
        let listener = Listener::bind(Config::default()).unwrap();
        assert!(listener.url(listener.addr(), "e").ends_with("/v1/rpc/e"));
        let refused = listener.serve(&["e".to_owned(), "e".to_owned()], |_| ());
        assert!(matches!(refused, Err(Error::Ambiguous(name)) if name == "e"));
    }

    #[test]
    fn only_headers_of_the_protocol_go_on() {
        let mut map = HeaderMap::new();
        map.insert("host", hyper::header::HeaderValue::from_static("x"));
        map.insert("request-id", hyper::header::HeaderValue::from_static("an \"id\""));
        assert_eq!(frame_headers(&map), br#"{"request-id":"an \"id\""}"#);
        map.insert("tracestate", "x".repeat(70_000).parse().unwrap());
        assert_eq!(frame_headers(&map), b"");
    }
}
