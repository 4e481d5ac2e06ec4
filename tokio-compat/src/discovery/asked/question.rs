//! One worker, asked again and again on one connection.

use std::fmt;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;

use bytes::Bytes;
use ringplane_core::buf::send_queue::SendQueue;
use ringplane_core::buf::slab::Key;
use ringplane_core::discovery::instance::{Instance, Transport};
use ringplane_core::discovery::record;
use ringplane_core::mux::config::Config;
use ringplane_core::mux::connection::Connection;
use ringplane_core::mux::event::{Ending, Event, Opening, Recv, Role};
use ringplane_core::protocol::Fault;
use ringplane_core::time::Instant;
use tokio::net::TcpStream;

use crate::discovery::asked::timing::{INTERVAL, PATIENCE};

/// Records that one worker may name. One with more is taken for something else.
const MOST: usize = 4096;

/// Why a worker is asked no more on this connection.
#[derive(Debug)]
pub(super) enum End {
    /// It does not answer in time.
    Late,
    /// It cannot be dialed, or the connection broke.
    Io(io::Error),
    /// It closed the connection, at once if it speaks no mux.
    Closed,
    /// It speaks another protocol, or none.
    Fault(Fault),
    /// It does not know the question.
    Refused(Box<str>),
    /// Its answer is none.
    Odd(String),
    /// It leaves.
    Leaving,
}

impl fmt::Display for End {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Late => f.write_str("no connection in time"),
            Self::Io(error) => error.fmt(f),
            Self::Closed => f.write_str("it closed the connection, as those do that speak no mux"),
            Self::Fault(fault) => fault.fmt(f),
            Self::Refused(message) => write!(f, "it does not say what it serves: {message}"),
            Self::Odd(what) => write!(f, "its answer cannot be read: {what}"),
            Self::Leaving => f.write_str("it is leaving"),
        }
    }
}

/// Asks until the connection ends; `told` hears every answer.
pub(super) async fn ask(addr: SocketAddr, told: impl FnMut(Vec<Instance>)) -> End {
    let dialed = tokio::time::timeout(PATIENCE, TcpStream::connect(addr)).await;
    let socket = match dialed {
        Ok(Ok(socket)) => socket,
        Ok(Err(error)) => return End::Io(error),
        Err(_elapsed) => return End::Late,
    };
    let _ = socket.set_nodelay(true);
    match Asking::new(addr, socket, told).run().await {
        Err(end) => end,
    }
}

struct Asking<F> {
    addr: SocketAddr,
    socket: TcpStream,
    told: F,
    mux: Connection,
    out: SendQueue,
    begun: std::time::Instant,
    /// The question that waits for its answer, and what has come of it.
    question: Option<Key>,
    answer: Vec<Instance>,
    /// When to ask next.
    next: tokio::time::Instant,
}

impl<F: FnMut(Vec<Instance>)> Asking<F> {
    fn new(addr: SocketAddr, socket: TcpStream, told: F) -> Self {
        let config = Config {
            stream_window: 256 << 10,
            connection_window: 256 << 10,
            max_item: 64 << 10,
            reserve_pool: 256 << 10,
            max_streams: 1,
            ..Config::default()
        };
        let mux = Connection::new(Role::Dialer, config, Instant::ZERO);
        let (out, begun, next) = (SendQueue::new(16 << 10), std::time::Instant::now(), tokio::time::Instant::now());
        Self { addr, socket, told, mux, out, begun, question: None, answer: Vec::new(), next }
    }

    fn now(&self) -> Instant {
        Instant::ZERO + self.begun.elapsed()
    }

    async fn run(mut self) -> Result<std::convert::Infallible, End> {
        let mut buffer = vec![0; 16 << 10];
        loop {
            self.take_events()?;
            self.put_question();
            self.write().await?;
            if self.mux.poll_close(self.now()).is_some() {
                return Err(End::Closed);
            }
            let due = self.mux.poll_timeout().map(|due| (self.begun + due.at.since(Instant::ZERO)).into());
            let due = due.into_iter().chain(self.question.is_none().then_some(self.next)).min();
            tokio::select! {
                ready = self.socket.readable() => {
                    ready.map_err(End::Io)?;
                    match self.socket.try_read(&mut buffer) {
                        Ok(0) => return Err(End::Closed),
                        Ok(len) => {
                            let now = self.now();
                            self.mux.handle_recv(buffer.get(..len).unwrap_or_default(), now).map_err(End::Fault)?;
                        }
                        Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                        Err(error) => return Err(End::Io(error)),
                    }
                }
                () = tokio::time::sleep_until(due.unwrap_or(self.next)) => {
                    let now = self.now();
                    self.mux.handle_timeout(now).map_err(End::Fault)?;
                }
            }
        }
    }

    /// Asks if it is time to.
    fn put_question(&mut self) {
        if self.question.is_some() || tokio::time::Instant::now() < self.next {
            return;
        }
        let opening = Opening {
            path: record::QUESTION.into(),
            request_id: "ringplane-discovery".to_owned(),
            ..Opening::default()
        };
        let Some(key) = self.mux.open(0, Arc::new(opening)) else { return };
        self.mux.end(key, Ending::ok());
        self.question = Some(key);
    }

    fn take_events(&mut self) -> Result<(), End> {
        while let Some(event) = self.mux.poll_event() {
            match event {
                Event::Readable(_) => self.take_items()?,
                Event::Rejected { message, .. } => return Err(End::Refused(message)),
                Event::GoingAway => return Err(End::Leaving),
                _ => {}
            }
        }
        Ok(())
    }

    fn take_items(&mut self) -> Result<(), End> {
        while let Some(key) = self.question {
            match self.mux.recv(key) {
                Recv::Pending => break,
                Recv::Item(record) => self.take_record(&record)?,
                Recv::End(Ending { class: None, .. }) => {
                    self.mux.release(key);
                    (self.question, self.next) = (None, tokio::time::Instant::now() + INTERVAL);
                    (self.told)(std::mem::take(&mut self.answer));
                }
                Recv::End(Ending { message, .. }) => return Err(End::Refused(message)),
            }
        }
        Ok(())
    }

    fn take_record(&mut self, record: &Bytes) -> Result<(), End> {
        let instance = record::read_any(record).map_err(|error| End::Odd(error.to_string()))?;
        if self.answer.len() >= MOST {
            return Err(End::Odd(format!("more than {MOST} records")));
        }
        // It answers here: whatever address it knows itself by, and however else requests may reach it.
        self.answer.push(Instance { addr: self.addr, transport: Transport::Tcp, ..instance });
        Ok(())
    }

    /// Writes what is due: a few hundred bytes at the most.
    async fn write(&mut self) -> Result<(), End> {
        let now = self.now();
        self.mux.poll_transmit(&mut self.out, now);
        while !self.out.is_empty() {
            let written = tokio::time::timeout(PATIENCE, self.socket.writable()).await;
            written.map_err(|_elapsed| End::Late)?.map_err(End::Io)?;
            let mut slices = [&[][..]; 1];
            self.out.slices(&mut slices);
            match self.socket.try_write(slices[0]) {
                Ok(len) => {
                    self.out.advance(len);
                    let now = self.now();
                    self.mux.handle_sent(len, now);
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                Err(error) => return Err(End::Io(error)),
            }
        }
        Ok(())
    }
}
