//! A Dynamo worker with blocking sockets that does with each request whatever a test wants.

use std::io::{ErrorKind, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use ringplane::discovery::{self, Registration};
use ringplane_core::discovery::instance::Codec;
use ringplane_core::discovery::instance::Instance;
use ringplane_core::id::{EndpointId, InstanceId};
use ringplane_core::wire::dynamo::ack::Ack;
use ringplane_core::wire::dynamo::control::{CallHome, Control};
use ringplane_core::wire::{Format, Limits, Parse, Request, TwoPart};

use crate::facade::dynamo::emit;

/// The longest a worker waits for anything.
const PATIENCE: Duration = Duration::from_secs(20);
/// `{"error":null}`.
pub(crate) const OK: &[u8] = br#"{"error":null}"#;
/// The mark of completion.
pub(crate) const FINAL: &[u8] = br#"{"complete_final":true}"#;
/// The last word.
pub(crate) const SENTINEL: &[u8] = br#""sentinel""#;

/// A two-part frame.
pub(crate) fn frame(header: &[u8], body: &[u8]) -> Vec<u8> {
    emit(&TwoPart::new(header, body))
}

/// The head of a two-part frame, which may say anything.
pub(crate) fn head(header_len: u64, body_len: u64, checksum: u64) -> Vec<u8> {
    [header_len, body_len, checksum].map(u64::to_be_bytes).concat()
}

/// One item of an answer.
pub(crate) fn item(data: &str) -> Vec<u8> {
    frame(b"", format!("{{\"data\":{data},\"complete_final\":false}}").as_bytes())
}

/// One request, and the connection it came on.
pub(crate) struct Asked {
    /// The request's body.
    pub(crate) body: String,
    pub(crate) home: CallHome,
    pub(crate) requests: TcpStream,
    shared: Arc<Shared>,
}

impl Asked {
    /// Acks.
    pub(crate) fn ack(&self, text: &str) {
        self.say(&emit(&Ack::from_text(text.as_bytes())));
    }

    /// Writes to the request connection.
    pub(crate) fn say(&self, bytes: &[u8]) {
        let _ = (&self.requests).write_all(bytes);
    }

    /// A connection home that has said nothing.
    pub(crate) fn dial(&self) -> TcpStream {
        let socket = TcpStream::connect(&self.home.address).unwrap();
        socket.set_nodelay(true).unwrap();
        socket.set_read_timeout(Some(PATIENCE)).unwrap();
        socket.set_write_timeout(Some(PATIENCE)).unwrap();
        socket
    }

    /// The handshake of the response stream.
    pub(crate) fn handshake(&self) -> Vec<u8> {
        frame(format!("{{\"subject\":\"{}\",\"stream_type\":\"response\"}}", self.home.subject).as_bytes(), b"")
    }

    /// Acks and goes home.
    pub(crate) fn come(&self) -> TcpStream {
        self.ack("");
        let mut socket = self.dial();
        let _ = socket.write_all(&self.handshake());
        socket
    }

    /// Acks, goes home and starts the stream.
    pub(crate) fn start(&self) -> TcpStream {
        let mut socket = self.come();
        let _ = socket.write_all(&frame(OK, b""));
        socket
    }

    /// Waits until the test says that it is time.
    pub(crate) fn wait(&self) {
        let until = Instant::now() + PATIENCE;
        while !self.shared.released.load(Ordering::SeqCst) && Instant::now() < until {
            std::thread::sleep(Duration::from_millis(1));
        }
    }
}

/// Writes, whether or not anybody takes it, and listens until the other side closes.
pub(crate) fn then_listen(mut socket: TcpStream, bytes: &[u8]) {
    let _ = socket.write_all(bytes);
    let _ = socket.read_to_end(&mut Vec::new());
}

/// Writes all of `bytes`, however long nobody takes them; `stuck` hears of every quarter of a second without progress. `false`:
/// the connection is gone.
pub(crate) fn patiently(socket: &mut TcpStream, mut bytes: &[u8], stuck: impl Fn()) -> bool {
    let _ = socket.set_write_timeout(Some(Duration::from_millis(250)));
    while !bytes.is_empty() {
        match socket.write(bytes) {
            Ok(count) => bytes = &bytes[count..],
            Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::Interrupted) => stuck(),
            Err(_) => return false,
        }
    }
    let _ = socket.set_write_timeout(Some(PATIENCE));
    true
}

struct Shared {
    script: Box<dyn Fn(&Asked) + Send + Sync>,
    over: AtomicBool,
    released: AtomicBool,
    accepted: AtomicUsize,
    asked: Mutex<Vec<String>>,
}

/// The worker; its listener ends when it is dropped, its connections when the caller closes them.
pub(crate) struct RawWorker {
    pub(crate) addr: SocketAddr,
    shared: Arc<Shared>,
    accepting: Option<JoinHandle<()>>,
    registration: Option<Registration>,
}

impl RawWorker {
    /// A worker that answers each request, on a thread of the request's own, with `script`.
    pub(crate) fn new(script: impl Fn(&Asked) + Send + Sync + 'static) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let addr = listener.local_addr().unwrap();
        let shared = Arc::new(Shared {
            script: Box::new(script),
            over: AtomicBool::new(false),
            released: AtomicBool::new(false),
            accepted: AtomicUsize::new(0),
            asked: Mutex::default(),
        });
        let accepting = std::thread::spawn({
            let shared = shared.clone();
            move || shared.accept(&listener)
        });
        Self { addr, shared, accepting: Some(accepting), registration: None }
    }

    /// Has the callers at `place` find it.
    pub(crate) async fn advertise(&mut self, endpoint: &str, place: &str) {
        let mut instance = Instance::new(InstanceId(7), EndpointId::parse(endpoint).unwrap(), self.addr);
        instance.codec = Codec::Json;
        self.registration = Some(discovery::open(place).unwrap().endpoints().register(instance).await.unwrap());
    }

    /// Lets those go on that [wait](Asked::wait).
    pub(crate) fn release(&self) {
        self.shared.released.store(true, Ordering::SeqCst);
    }

    /// Request connections so far.
    pub(crate) fn accepted(&self) -> usize {
        self.shared.accepted.load(Ordering::SeqCst)
    }

    /// How often a request with this body has come.
    pub(crate) fn asked(&self, body: &str) -> usize {
        self.shared.asked.lock().unwrap().iter().filter(|asked| *asked == body).count()
    }
}

impl Drop for RawWorker {
    fn drop(&mut self) {
        self.shared.over.store(true, Ordering::SeqCst);
        self.release();
        // Wakes the accepting thread.
        let _ = TcpStream::connect(self.addr);
        if let Some(accepting) = self.accepting.take() {
            let _ = accepting.join();
        }
    }
}

impl Shared {
    fn accept(self: &Arc<Self>, listener: &TcpListener) {
        for socket in listener.incoming() {
            if self.over.load(Ordering::SeqCst) {
                return;
            }
            self.accepted.fetch_add(1, Ordering::SeqCst);
            let shared = self.clone();
            std::thread::spawn(move || shared.read(socket.unwrap()));
        }
    }

    /// Reads requests until the caller closes.
    fn read(self: &Arc<Self>, mut socket: TcpStream) {
        socket.set_nodelay(true).unwrap();
        let (mut bytes, mut piece) = (Vec::new(), vec![0; 64 << 10]);
        while let Ok(len @ 1..) = socket.read(&mut piece) {
            bytes.extend_from_slice(&piece[..len]);
            while let Ok(Parse::Complete { value, used }) = Request::parse(&bytes, &Limits::default()) {
                let Ok(Parse::Complete { value: part, .. }) = TwoPart::parse(value.payload, &Limits::default()) else {
                    panic!("a caller of ours writes whole payloads");
                };
                let home = Control::read(part.header).unwrap().response_stream().unwrap();
                let body = String::from_utf8_lossy(part.body).into_owned();
                self.asked.lock().unwrap().push(body.clone());
                let asked = Asked { body, home, requests: socket.try_clone().unwrap(), shared: self.clone() };
                std::thread::spawn(move || (asked.shared.clone().script)(&asked));
                bytes.drain(..used);
            }
        }
        let _ = socket.shutdown(Shutdown::Both);
    }
}
