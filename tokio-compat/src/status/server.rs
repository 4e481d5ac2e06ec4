//! A listener and its connections: how many there may be, and how long each of their steps may take.

use std::convert::Infallible;
use std::io;
use std::net::{SocketAddr, TcpListener};
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use bytes::Bytes;
use http_body_util::Full;
use hyper::body::{Body, Incoming};
use hyper::header::{CONNECTION, HeaderValue};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{Response, StatusCode};
use hyper_util::rt::{TokioIo, TokioTimer};
use ringplane_core::stats::counters;
use tokio::net::TcpStream;
use tokio::runtime::Handle;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, watch};
use tokio::task::{JoinHandle, JoinSet};
use tokio::time::{Instant, sleep, sleep_until, timeout};

use crate::status::exchange::{Answer, Ask};

/// Pauses of the listener when descriptors or memory run out.
const PAUSES: (Duration, Duration) = (Duration::from_millis(5), Duration::from_secs(1));
/// The longest head of a request, in bytes; and how many headers it may have.
const HEAD: usize = 16 << 10;
const HEADERS: usize = 64;
/// The largest body that is read past, in bytes. None is needed.
const BODY: u64 = 1 << 10;

/// The bounds of a server.
#[derive(Copy, Clone, PartialEq, Eq, Debug)]
pub struct Config {
    /// Connections at once; a further one is closed at once.
    pub max_connections: usize,
    /// From the beginning of a connection, or the end of an answer, to the end of the next request's head.
    pub header_timeout: Duration,
    /// How long an answer may be in the making; then it is a 503.
    pub answer_timeout: Duration,
    /// The life of a connection; a request under way then is still answered, within `farewell`.
    pub connection_life: Duration,
    /// How long connections have for their last answers when the server, or their life, ends.
    pub farewell: Duration,
}

counters! {
    /// What the server has counted.
    pub struct Stats {
        /// Connections accepted.
        pub connections,
        /// Connections closed at once, because there were too many.
        pub refused,
        /// Requests answered.
        pub requests,
        /// Answers that were not ready in time.
        pub timed_out,
    }
}

#[derive(Default)]
struct Tally([AtomicU64; 4]);

impl Tally {
    fn count(&self, at: usize) {
        if let Some(counter) = self.0.get(at) {
            counter.fetch_add(1, Ordering::Relaxed);
        }
    }
}

const CONNECTIONS: usize = 0;
const REFUSED: usize = 1;
const REQUESTS: usize = 2;
const TIMED_OUT: usize = 3;

/// An answer in the making.
pub type Answering = Pin<Box<dyn Future<Output = Answer> + Send>>;

/// A listener that nobody serves yet.
#[derive(Debug)]
pub struct Listener {
    socket: TcpListener,
    addr: SocketAddr,
}

impl Listener {
    /// Binds the address.
    ///
    /// # Errors
    /// What the system says.
    pub fn bind(addr: SocketAddr) -> io::Result<Self> {
        let socket = TcpListener::bind(addr)?;
        socket.set_nonblocking(true)?;
        let addr = socket.local_addr()?;
        Ok(Self { socket, addr })
    }

    /// The address that was bound.
    pub const fn addr(&self) -> SocketAddr {
        self.addr
    }

    /// Answers requests on `runtime`, with what `answer` makes of each.
    pub fn serve(
        self,
        config: Config,
        runtime: &Handle,
        answer: impl Fn(Ask) -> Answering + Send + Sync + 'static,
    ) -> Server {
        let (stop, left) = watch::channel(false);
        let tally = Arc::<Tally>::default();
        let shared = Arc::new(Shared { answer: Box::new(answer), config, tally: tally.clone() });
        let task = runtime.spawn(async move {
            match tokio::net::TcpListener::from_std(self.socket) {
                Ok(socket) => listen(socket, shared, left).await,
                Err(error) => tracing::warn!(%error, "the status server cannot listen"),
            }
        });
        Server { stop, task: Some(task), tally }
    }
}

/// A running server. Dropped, it ends at once.
pub struct Server {
    stop: watch::Sender<bool>,
    task: Option<JoinHandle<()>>,
    tally: Arc<Tally>,
}

impl std::fmt::Debug for Server {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Server").field("stats", &self.stats()).finish_non_exhaustive()
    }
}

impl Server {
    /// Listens no more, and lets requests under way be answered, within [`Config::farewell`].
    pub async fn shutdown(mut self) {
        self.stop.send_replace(true);
        if let Some(task) = self.task.take() {
            let _ = task.await;
        }
    }

    /// What it has counted.
    pub fn stats(&self) -> Stats {
        let read = |at: usize| self.tally.0.get(at).map_or(0, |counter| counter.load(Ordering::Relaxed));
        Stats {
            connections: read(CONNECTIONS),
            refused: read(REFUSED),
            requests: read(REQUESTS),
            timed_out: read(TIMED_OUT),
        }
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        if let Some(task) = self.task.take() {
            task.abort();
        }
    }
}

/// What all connections share.
struct Shared {
    answer: Box<dyn Fn(Ask) -> Answering + Send + Sync>,
    config: Config,
    tally: Arc<Tally>,
}

async fn listen(socket: tokio::net::TcpListener, shared: Arc<Shared>, mut left: watch::Receiver<bool>) {
    let seats = Arc::new(Semaphore::new(shared.config.max_connections));
    let mut connections = JoinSet::new();
    let mut pause = PAUSES.0;
    loop {
        let accepted = tokio::select! {
            accepted = socket.accept() => accepted,
            Some(_) = connections.join_next() => continue,
            _ = left.changed() => break,
        };
        match accepted {
            Ok((stream, _)) => {
                pause = PAUSES.0;
                match Arc::clone(&seats).try_acquire_owned() {
                    Ok(seat) => {
                        shared.tally.count(CONNECTIONS);
                        connections.spawn(converse(stream, seat, Arc::clone(&shared), left.clone()));
                    }
                    Err(_) => shared.tally.count(REFUSED),
                }
            }
            Err(error) => {
                tracing::debug!(%error, ?pause, "nothing can be accepted");
                sleep(pause).await;
                pause = (pause * 2).min(PAUSES.1);
            }
        }
    }
    drop(socket);
    let last = async { while connections.join_next().await.is_some() {} };
    let _ = timeout(shared.config.farewell, last).await;
}

/// Serves one connection, for no longer than its life.
async fn converse(
    stream: TcpStream,
    _seat: OwnedSemaphorePermit,
    shared: Arc<Shared>,
    mut left: watch::Receiver<bool>,
) {
    let _ = stream.set_nodelay(true);
    let Config { header_timeout, connection_life, farewell, .. } = shared.config;
    let service = service_fn(|request: hyper::Request<Incoming>| {
        let shared = Arc::clone(&shared);
        async move { Ok::<_, Infallible>(respond(request, &shared).await) }
    });
    let mut builder = http1::Builder::new();
    builder.timer(TokioTimer::new()).header_read_timeout(header_timeout).max_buf_size(HEAD).max_headers(HEADERS);
    let mut connection = pin!(builder.serve_connection(TokioIo::new(stream), service));
    let mut end = pin!(sleep_until(Instant::now() + connection_life));
    let mut leaving = *left.borrow();
    if leaving {
        connection.as_mut().graceful_shutdown();
    }
    loop {
        tokio::select! {
            ended = connection.as_mut() => {
                if let Err(error) = ended {
                    tracing::trace!(%error, "a connection of the status server ended");
                }
                return;
            }
            () = end.as_mut() => {
                if leaving {
                    return;
                }
            }
            _ = left.changed(), if !leaving => {}
        }
        leaving = true;
        connection.as_mut().graceful_shutdown();
        end.as_mut().reset(Instant::now() + farewell);
    }
}

async fn respond(request: hyper::Request<Incoming>, shared: &Shared) -> Response<Full<Bytes>> {
    let (head, body) = request.into_parts();
    // What is not read is not left behind for the next request.
    let last = !body.is_end_stream();
    let too_large = body.size_hint().lower() > BODY;
    drop(body);
    let answer = if too_large {
        Answer::text(413, "no request needs a body")
    } else {
        match timeout(shared.config.answer_timeout, (shared.answer)(Ask::of(head))).await {
            Ok(answer) => answer,
            Err(_) => {
                shared.tally.count(TIMED_OUT);
                Answer::text(503, "this could not be found out in time")
            }
        }
    };
    shared.tally.count(REQUESTS);
    let mut response = Response::new(Full::new(answer.body.clone()));
    *response.status_mut() = StatusCode::from_u16(answer.status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    answer.fill(response.headers_mut());
    if last {
        response.headers_mut().insert(CONNECTION, HeaderValue::from_static("close"));
    }
    response
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};

    use super::*;

    const CONFIG: Config = Config {
        max_connections: 2,
        header_timeout: Duration::from_millis(50),
        answer_timeout: Duration::from_millis(50),
        connection_life: Duration::from_secs(60),
        farewell: Duration::from_secs(5),
    };

    fn serve(config: Config) -> (Server, SocketAddr) {
        let listener = Listener::bind("127.0.0.1:0".parse().unwrap()).unwrap();
        let addr = listener.addr();
        let answer = |ask: Ask| -> Answering {
            Box::pin(async move {
                match ask.path.as_str() {
                    "/never" => std::future::pending().await,
                    path => Answer::text(200, path).with("x-two", "lines\n"),
                }
            })
        };
        (listener.serve(config, &Handle::current(), answer), addr)
    }

    /// Everything that comes back for these bytes, until the connection ends.
    async fn talk(addr: SocketAddr, bytes: &[u8]) -> String {
        let mut stream = TcpStream::connect(addr).await.unwrap();
        stream.write_all(bytes).await.unwrap();
        let mut told = Vec::new();
        // A refused connection may be reset under what was written.
        let _ = stream.read_to_end(&mut told).await;
        String::from_utf8(told).unwrap()
    }

    #[tokio::test]
    async fn an_answer_has_its_headers_and_slow_ones_and_bodies_have_bounds() {
        let (server, addr) = serve(CONFIG);
        let told = talk(addr, b"GET /a HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n").await;
        assert!(told.starts_with("HTTP/1.1 200 OK\r\n") && told.ends_with("\r\n\r\n/a\n"), "{told}");
        assert!(told.contains("nosniff") && !told.contains("x-two"), "{told}");
        let told = talk(addr, b"GET /never HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n").await;
        assert!(told.starts_with("HTTP/1.1 503 "), "{told}");
        let told = talk(addr, b"POST /a HTTP/1.1\r\nhost: x\r\ncontent-length: 100000\r\n\r\nx").await;
        assert!(told.starts_with("HTTP/1.1 413 ") && told.contains("connection: close"), "{told}");
        // A head that does not come to its end, and one that is too long.
        assert!(!talk(addr, b"GET / HTTP/1.1\r\nhost: ").await.contains(" 200 "));
        let long = format!("GET / HTTP/1.1\r\nhost: x\r\nlong: {}\r\n\r\n", "x".repeat(2 * HEAD));
        assert!(!talk(addr, long.as_bytes()).await.contains(" 200 "));
        let stats = server.stats();
        assert_eq!((stats.connections, stats.refused, stats.timed_out), (5, 0, 1));
        server.shutdown().await;
        assert!(TcpStream::connect(addr).await.is_err());
    }

    #[tokio::test]
    async fn a_connection_too_many_is_closed_and_those_that_are_there_are_served_on() {
        let (server, addr) = serve(Config { header_timeout: Duration::from_secs(60), ..CONFIG });
        let mut first = TcpStream::connect(addr).await.unwrap();
        let _second = TcpStream::connect(addr).await.unwrap();
        assert_eq!(talk(addr, b"").await, "");
        first.write_all(b"GET /b HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n").await.unwrap();
        let mut told = String::new();
        first.read_to_string(&mut told).await.unwrap();
        assert!(told.ends_with("/b\n"), "{told}");
        assert_eq!(server.stats().refused, 1);
    }
}
