//! The worker's end: a listener whose requests become those of the cores, and their acks.

use std::collections::BTreeMap;
use std::convert::Infallible;
use std::io;
use std::net::{SocketAddr, TcpListener};
use std::pin::pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use hyper::body::Incoming;
use hyper::header::{ALLOW, HeaderMap};
use hyper::service::service_fn;
use hyper::{Method, Response, StatusCode};
use hyper_util::rt::{TokioExecutor, TokioIo};
use hyper_util::server::conn::auto;
use ringplane_core::protocol::peer_seen;
use ringplane_core::wire::dynamo::ack::{OVERLOADED, SHUTTING_DOWN, UNKNOWN_ENDPOINT};
use ringplane_core::wire::dynamo::headers::{self, Headers};
use tokio::net::TcpStream;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, oneshot};
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep, sleep_until, timeout};

use crate::request::error::Error;
use crate::request::http::body::{Refused, Text, read};
use crate::request::http::config::Config;
use crate::request::http::trace::{field, text};
use crate::request::intake::{Ack, Answer, Left, Request, Running, twice};
use crate::request::room::Room;

/// Pauses of the listener when descriptors or memory run out.
const PAUSES: (Duration, Duration) = (Duration::from_millis(5), Duration::from_secs(1));
/// Requests of one HTTP/2 connection at a time, and bytes it may send ahead.
const STREAMS: u32 = 128;
const AHEAD: u32 = 1 << 20;
/// The headers of a request that mean something, beside those of its trace; the rest is HTTP's own.
const KNOWN: [&str; 7] = [
    headers::REQUEST_ID,
    headers::OLD_REQUEST_ID,
    headers::SEND_TIME,
    headers::REMAINING,
    headers::PRIORITY,
    headers::TENANT,
    headers::ATTEMPTS,
];
/// Those of its trace.
const TRACE: [&str; 3] = [headers::TRACEPARENT, headers::TRACESTATE, headers::X_REQUEST_ID];

/// Where the ack of one request goes.
#[derive(Debug)]
pub struct Reply(oneshot::Sender<String>);

impl Ack for Reply {
    fn send(self, text: &str) {
        // The caller may be gone.
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

    /// Serves endpoints of these names; `take` gets every request, and must not block. Leaving is bounded by
    /// [`Config::farewell`].
    ///
    /// # Errors
    /// [`Error::Ambiguous`] for one name of two endpoints, [`Error::Thread`].
    pub async fn serve(
        self,
        names: &[String],
        take: impl Fn(Request<Reply>) + Send + Sync + 'static,
    ) -> Result<Running, Error> {
        let Self { socket, config, .. } = self;
        if let Some(name) = twice(names.iter().map(String::as_str)) {
            let why = "a URL says no more than that; serve them by two workers";
            return Err(Error::Ambiguous { name: name.to_owned(), why });
        }
        let paths = names.iter().enumerate().map(|(at, name)| (format!("{}/{name}", config.root), at)).collect();
        let shared = Arc::new(Shared {
            paths,
            take: Box::new(take),
            calls: Arc::new(Semaphore::new(config.in_hand)),
            room: Room::new(config.in_hand_bytes.max(config.most())),
            config: Arc::new(config),
        });
        Running::start("ringplane-http", async move |left| {
            let socket = tokio::net::TcpListener::from_std(socket).map_err(Error::Thread)?;
            Ok(listen(socket, shared, left))
        })
        .await
    }
}

/// What all connections share.
struct Shared {
    /// Which endpoint a path is.
    paths: BTreeMap<String, usize>,
    take: Box<dyn Fn(Request<Reply>) + Send + Sync>,
    calls: Arc<Semaphore>,
    room: Room,
    config: Arc<Config>,
}

async fn listen(socket: tokio::net::TcpListener, shared: Arc<Shared>, mut left: Left) {
    let seats = Arc::new(Semaphore::new(shared.config.max_connections));
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
                let (shared, left) = (Arc::clone(&shared), left.clone());
                connections.spawn(async move {
                    converse(stream, peer, shared, left).await;
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
    // The sender is gone when nobody waits for the end.
    if *left.borrow() {
        let farewell = timeout(shared.config.farewell, async { while connections.join_next().await.is_some() {} });
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
async fn converse(stream: TcpStream, peer: SocketAddr, shared: Arc<Shared>, mut left: Left) {
    // An ack is one small write.
    let _ = stream.set_nodelay(true);
    let peer = peer_seen(peer, stream.local_addr().ok());
    let pulse = Arc::new(Pulse(Mutex::new((0, Instant::now()))));
    let quiet = shared.config.quiet;
    let service = service_fn(|request| {
        let (shared, beat) = (Arc::clone(&shared), pulse.begin());
        async move {
            let (head, mut body) = hyper::Request::into_parts(request);
            let head = hyper::Request::from_parts(head, ());
            let answer = answer(&head, &mut body, peer, &shared).await;
            let read = answer.status() == StatusCode::ACCEPTED;
            Ok::<_, Infallible>(
                answer.map(|reply| if read { reply } else { reply.draining(body, &shared.config, beat) }),
            )
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

async fn answer(head: &hyper::Request<()>, body: &mut Incoming, peer: SocketAddr, shared: &Shared) -> Response<Text> {
    let Some(endpoint) = shared.paths.get(head.uri().path()).copied() else {
        return response(StatusCode::NOT_FOUND, UNKNOWN_ENDPOINT.trim_end());
    };
    if head.method() != Method::POST {
        let mut refused = response(StatusCode::METHOD_NOT_ALLOWED, "requests are POSTs");
        refused.headers_mut().insert(ALLOW, hyper::header::HeaderValue::from_static("POST"));
        return refused;
    }
    let Ok(_in_hand) = Arc::clone(&shared.calls).try_acquire_owned() else { return acked(OVERLOADED) };
    let (payload, share) = match read(body, &shared.config, &shared.room).await {
        Ok(whole) => whole,
        Err(Refused::NoRoom) => return acked(OVERLOADED),
        Err(Refused::TooLarge) => {
            let text = format!("Server unavailable: message too large (max: {} bytes)", shared.config.most());
            return response(StatusCode::PAYLOAD_TOO_LARGE, &text);
        }
        Err(Refused::Broken) => return response(StatusCode::BAD_REQUEST, "Server unavailable: truncated payload"),
    };
    let (tell, told) = oneshot::channel();
    let headers = frame_headers(head.headers());
    let answer = Answer::new(Reply(tell));
    (shared.take)(Request { endpoint, headers, payload, peer: Some(peer), answer, share });
    match timeout(shared.config.answer, told).await {
        Ok(Ok(text)) => acked(&text),
        Ok(Err(_)) | Err(_) => acked(OVERLOADED),
    }
}

/// The response that carries an ack's text.
fn acked(text: &str) -> Response<Text> {
    let status = match text {
        "" => StatusCode::ACCEPTED,
        SHUTTING_DOWN => StatusCode::SERVICE_UNAVAILABLE,
        _ if text.starts_with("Server overloaded:") => StatusCode::SERVICE_UNAVAILABLE,
        _ if text.starts_with(UNKNOWN_ENDPOINT) => StatusCode::NOT_FOUND,
        _ => StatusCode::BAD_REQUEST,
    };
    response(status, text)
}

fn response(status: StatusCode, text: &str) -> Response<Text> {
    let mut response = Response::new(Text::new(text));
    *response.status_mut() = status;
    response
}

/// The headers of a request as a request frame has them: nothing if they are too long for one.
fn frame_headers(map: &HeaderMap) -> Vec<u8> {
    let mut headers = Headers::new();
    let known = KNOWN.into_iter().filter_map(|name| Some((name, map.get(name).and_then(text)?.into())));
    for (name, value) in known.chain(TRACE.into_iter().filter_map(|name| Some((name, field(map, name)?)))) {
        headers.push(name, value);
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

    #[tokio::test]
    async fn two_endpoints_of_one_name_are_refused() {
        let listener = Listener::bind(Config::default()).unwrap();
        assert!(listener.url(listener.addr(), "e").ends_with("/v1/rpc/e"));
        let refused = listener.serve(&["e".to_owned(), "e".to_owned()], |_| ()).await;
        assert!(matches!(refused, Err(Error::Ambiguous { name, .. }) if name == "e"));
    }

    #[test]
    fn only_headers_of_the_protocol_go_on() {
        let mut map = HeaderMap::new();
        map.insert("host", hyper::header::HeaderValue::from_static("x"));
        map.insert("request-id", hyper::header::HeaderValue::from_static("an \"id\""));
        assert_eq!(frame_headers(&map), br#"{"request-id":"an \"id\""}"#);
        let mut map = HeaderMap::new();
        for (name, value) in [
            ("x-ringplane-attempts", "2"),
            ("x-ringplane-tenant", "t\u{FC}"),
            ("x-ringplane-priority", "-7"),
            ("tracestate", "a=1 , b=2"),
            ("tracestate", "c=3"),
            ("traceparent", "one"),
            ("traceparent", "another"),
        ] {
            map.append(name, hyper::header::HeaderValue::from_bytes(value.as_bytes()).unwrap());
        }
        let expected = "{\"x-ringplane-priority\":\"-7\",\"x-ringplane-tenant\":\"t\u{FC}\",\
                        \"x-ringplane-attempts\":\"2\",\"tracestate\":\"a=1 , b=2,c=3\"}";
        assert_eq!(String::from_utf8(frame_headers(&map)).unwrap(), expected);
        map.insert("tracestate", "x".repeat(70_000).parse().unwrap());
        assert_eq!(frame_headers(&map), b"");
    }
}
