//! A live worker as a Dynamo caller sees it: requests over one connection, answers over others that the worker dials.

use std::collections::BTreeMap;
use std::io::{ErrorKind, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::time::Duration;

use ringplane::{DriverChoice, Failure, Request, Responder, Worker};
use ringplane_core::discovery::instance::Instance;
use ringplane_core::id::EndpointId;
use ringplane_core::wire::dynamo::ack::Ack;
use ringplane_core::wire::dynamo::control::{
    CallHome, ConnectionInfo, Control, Handshake, Prologue, RequestType, ResponseType, StreamType,
};
use ringplane_core::wire::{Annotated, Class, Codec, Envelope, Format, Limits, Parse, Request as Frame, TwoPart, Word};

use crate::facade::support::{both, end_worker, on, place, serve, until_worker};

/// What the callers here call.
pub(crate) const NAME: &str = "test.dynamo.count";

/// `3` is answered with three items, `fail` with one and a failure, `wait` with one and nothing more.
async fn count(mut request: Request, out: Responder) -> Result<(), Failure> {
    let body = request.body().await?;
    match std::str::from_utf8(&body).unwrap_or_default() {
        "\"fail\"" => {
            out.send("0").await?;
            Err(Failure::invalid("asked to fail"))
        }
        "\"wait\"" => {
            out.send("0").await?;
            out.cancelled().await;
            Ok(())
        }
        number => {
            for i in 0..number.parse::<u32>().map_err(Failure::invalid)? {
                out.send(i.to_string()).await?;
            }
            Ok(())
        }
    }
}

/// A frame's bytes.
pub(crate) fn emit<'a>(frame: &impl Format<'a>) -> Vec<u8> {
    let mut bytes = vec![0; frame.emitted_len()];
    frame.emit(&mut bytes).unwrap();
    bytes
}

/// A Dynamo caller with blocking sockets.
pub(crate) struct Caller {
    pub(crate) home: TcpListener,
    pub(crate) requests: TcpStream,
    pub(crate) path: String,
}

impl Caller {
    pub(crate) fn new(worker: &Worker, endpoint: &str) -> Self {
        let requests = TcpStream::connect(worker.addr()).unwrap();
        requests.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
        let path = Instance::new(worker.instance_id(), EndpointId::parse(endpoint).unwrap(), worker.addr()).path;
        Self { home: TcpListener::bind("127.0.0.1:0").unwrap(), requests, path }
    }

    /// Where a stream of the call `id` comes home.
    pub(crate) fn info(&self, subject: &str, stream_type: StreamType) -> ConnectionInfo {
        let address = self.home.local_addr().unwrap().to_string();
        let (subject, context) = (subject.to_owned(), "id".to_owned());
        ConnectionInfo::new(&CallHome { address, subject, context, stream_type }).unwrap()
    }

    /// A request whose answer comes home under `subject`.
    pub(crate) fn frame(&self, subject: &str, body: &str) -> Vec<u8> {
        self.request(&self.control(subject), body.as_bytes())
    }

    pub(crate) fn control(&self, subject: &str) -> Control {
        Control {
            id: "id".to_owned(),
            request_type: RequestType::SingleIn,
            response_type: ResponseType::ManyOut,
            payload_codec: Codec::Json,
            connection_info: self.info(subject, StreamType::Response),
            metadata: BTreeMap::new(),
            frontend_send_ts_ns: None,
            request_stream_connection_info: None,
        }
    }

    pub(crate) fn request(&self, control: &Control, body: &[u8]) -> Vec<u8> {
        let header = control.write().unwrap();
        let payload = emit(&TwoPart::with_checksum(&header, body));
        emit(&Frame { path: self.path.as_bytes(), headers: b"", payload: &payload })
    }

    /// The text of the next ack.
    pub(crate) fn ack(&mut self) -> String {
        let mut length = [0; 4];
        self.requests.read_exact(&mut length).unwrap();
        let mut text = vec![0; u32::from_be_bytes(length) as usize];
        self.requests.read_exact(&mut text).unwrap();
        assert_eq!(Ack::from_text(&text).text(), text);
        String::from_utf8(text).unwrap()
    }

    /// The next response that comes home, by subject.
    pub(crate) fn accept(&self) -> (String, Home) {
        let (handshake, home) = self.accept_any();
        assert_eq!(handshake.stream_type, StreamType::Response);
        (handshake.subject, home)
    }

    /// The next connection that comes home.
    pub(crate) fn accept_any(&self) -> (Handshake, Home) {
        let (socket, peer): (TcpStream, SocketAddr) = self.home.accept().unwrap();
        assert!(peer.ip().is_loopback());
        socket.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
        let mut home = Home { socket, bytes: Vec::new() };
        let handshake = Handshake::read(&home.frame().unwrap().0).unwrap();
        (handshake, home)
    }
}

/// A connection that brings an answer home.
pub(crate) struct Home {
    pub(crate) socket: TcpStream,
    bytes: Vec<u8>,
}

impl Home {
    /// Header and body of the next frame; `None` at the end.
    pub(crate) fn frame(&mut self) -> Option<(Vec<u8>, Vec<u8>)> {
        loop {
            if let Parse::Complete { value, used } = TwoPart::parse(&self.bytes, &Limits::default()).unwrap() {
                let frame = (value.header.to_vec(), value.body.to_vec());
                self.bytes.drain(..used);
                return Some(frame);
            }
            let mut piece = [0; 4096];
            match self.socket.read(&mut piece) {
                Ok(0) => {
                    assert!(self.bytes.is_empty(), "the stream ends inside a frame");
                    return None;
                }
                Ok(count) => self.bytes.extend_from_slice(&piece[..count]),
                // By a signal, for which other tests of this process have handlers.
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) => panic!("{error}"),
            }
        }
    }

    pub(crate) fn prologue(&mut self) -> Prologue {
        Prologue::read(&self.frame().unwrap().0).unwrap()
    }

    /// The next item; `None` for the final frame.
    pub(crate) fn item(&mut self) -> Option<Vec<u8>> {
        let (header, body) = self.frame().unwrap();
        assert!(header.is_empty());
        let envelope = Envelope::read(Codec::Json, &body).unwrap();
        assert_eq!(envelope.complete_final, envelope.data.is_none());
        envelope.data.map(<[u8]>::to_vec)
    }

    /// Reads the sentinel and closes.
    pub(crate) fn sentinel(&mut self) {
        assert_eq!(Word::read(&self.frame().unwrap().0), Ok(Word::Sentinel));
        self.socket.shutdown(Shutdown::Write).unwrap();
        assert_eq!(self.frame(), None);
    }

    pub(crate) fn say(&mut self, word: Word) {
        self.socket.write_all(&emit(&TwoPart::new(word.header(), b""))).unwrap();
    }
}

async fn start(driver: DriverChoice) -> Worker {
    serve(Worker::builder().endpoint(NAME, count), &place(), on(driver)).await
}

#[test]
fn pipelined_requests_are_acked_in_order_and_each_answer_comes_home_to_its_subject() {
    both(async |driver| {
        let worker = start(driver).await;
        let mut caller = Caller::new(&worker, NAME);
        let unknown = emit(&Frame { path: b"nobody", headers: b"", payload: b"" });
        let all = [caller.frame("a", "2"), unknown, caller.frame("b", "0"), caller.frame("c", "\"fail\"")].concat();
        caller.requests.write_all(&all[..50]).unwrap();
        caller.requests.write_all(&all[50..]).unwrap();
        assert_eq!(caller.ack(), "");
        assert_eq!(caller.ack(), "Server unavailable: unknown endpoint nobody");
        assert_eq!((caller.ack(), caller.ack()), (String::new(), String::new()));
        for _ in 0..3 {
            let (subject, mut home) = caller.accept();
            assert_eq!(home.prologue(), Prologue::default());
            match subject.as_str() {
                "a" => assert_eq!([home.item(), home.item()], [Some(b"0".to_vec()), Some(b"1".to_vec())]),
                "b" => {}
                _ => {
                    assert_eq!(home.item(), Some(b"0".to_vec()));
                    let item = home.item().unwrap();
                    let failure = Annotated::read(Codec::Json, &item).unwrap().failure().unwrap();
                    assert_eq!((failure.class(), failure.diagnostic()), (Class::InvalidRequest, Some("asked to fail")));
                }
            }
            assert_eq!(home.item(), None);
            home.sentinel();
        }
        drop(caller);
        end_worker(worker).await;
    });
}

#[test]
fn callers_that_close_a_direction_are_served_to_the_end() {
    both(async |driver| {
        let worker = start(driver).await;
        let mut caller = Caller::new(&worker, NAME);
        caller.requests.write_all(&caller.frame("a", "3")).unwrap();
        caller.requests.shutdown(Shutdown::Write).unwrap();
        assert_eq!(caller.ack(), "");
        let (_, mut home) = caller.accept();
        home.socket.shutdown(Shutdown::Write).unwrap();
        assert_eq!(home.prologue(), Prologue::default());
        assert_eq!(std::iter::from_fn(|| home.item()).count(), 3);
        assert_eq!(Word::read(&home.frame().unwrap().0), Ok(Word::Sentinel));
        assert_eq!(home.frame(), None);
        drop(caller);
        end_worker(worker).await;
    });
}

#[test]
fn stop_and_kill_end_the_handler_without_final_and_sentinel() {
    both(async |driver| {
        let worker = start(driver).await;
        let mut caller = Caller::new(&worker, NAME);
        for (calls, word) in [(1, Word::Stop), (2, Word::Kill)] {
            caller.requests.write_all(&caller.frame("a", "\"wait\"")).unwrap();
            assert_eq!(caller.ack(), "");
            let (_, mut home) = caller.accept();
            assert_eq!((home.prologue(), home.item()), (Prologue::default(), Some(b"0".to_vec())));
            home.say(word);
            assert_eq!(home.frame(), None);
            let ended = |snapshot: &ringplane::Snapshot| snapshot.worker.jobs == 0 && snapshot.served.admitted == calls;
            until_worker("the handler is gone", &worker, ended).await;
        }
        drop(caller);
        end_worker(worker).await;
    });
}

#[test]
fn nobody_listening_at_home_costs_the_call_and_nothing_else() {
    both(async |driver| {
        let worker = start(driver).await;
        let mut caller = Caller::new(&worker, NAME);
        let frame = caller.frame("a", "1");
        caller.home = TcpListener::bind("127.0.0.1:0").unwrap();
        caller.requests.write_all(&frame).unwrap();
        assert_eq!(caller.ack(), "");
        until_worker("the dial has failed", &worker, |snapshot| snapshot.served.dial_failures == 1).await;
        caller.requests.write_all(&caller.frame("b", "1")).unwrap();
        assert_eq!(caller.ack(), "");
        let (subject, mut home) = caller.accept();
        assert_eq!((subject.as_str(), home.prologue(), home.item()), ("b", Prologue::default(), Some(b"0".to_vec())));
        drop(home);
        drop(caller);
        end_worker(worker).await;
    });
}
