//! The two actions about receiving, on every real driver: a paused connection holds its peer back, writes on, loses nothing.

use std::cell::RefCell;
use std::io::{ErrorKind, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::rc::Rc;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::time::Duration;

use bytes::Bytes;
use ringplane_core::buf::send_queue::SendQueue;
use ringplane_core::id::ConnId;
use ringplane_core::local::env::{Env, Host};
use ringplane_core::protocol::{Action, CloseReason, Closing, Fault, Protocol};
use ringplane_core::time::{Deadline, Instant};

/// The longest any step may take.
const PATIENCE: Duration = Duration::from_secs(60);
/// Unread bytes at which the machine pauses.
const MARK: usize = 1 << 20;
/// More than a driver's receive memory, a socket's two buffers and the mark together: whoever gets rid of that much was not held
/// back.
const TOO_MUCH: usize = 160 << 20;
/// What the peer writes at a time; its bytes count up, so that the machine can tell each from the next.
const PIECE: usize = 251 * 1024;

#[derive(Copy, Clone, PartialEq, Eq)]
enum Manner {
    /// Pauses once the mark is passed, until it is told otherwise.
    Holds,
    /// Pauses and resumes with everything it receives.
    Flickers,
}

#[derive(PartialEq, Eq, Debug)]
enum Event {
    Paused,
    Closed(CloseReason, usize),
}

/// Counts what it receives.
struct Counter {
    manner: Manner,
    conn: Option<ConnId>,
    received: usize,
    paused: bool,
    /// What it received since it paused.
    late: usize,
    out: Option<Bytes>,
    ready: Option<ConnId>,
    actions: Vec<Action>,
    events: Vec<Event>,
}

impl Counter {
    fn resume(&mut self) {
        self.paused = false;
        self.actions.extend(self.conn.map(|conn| Action::Resume { conn }));
    }

    fn say(&mut self, word: &'static [u8]) {
        self.out = Some(Bytes::from_static(word));
        self.ready = self.conn;
    }

    fn close(&mut self, how: Closing) {
        self.actions.extend(self.conn.map(|conn| Action::Close { conn, how }));
    }
}

impl Protocol for Counter {
    type Event = Event;

    fn handle_open(&mut self, conn: ConnId, _: Option<SocketAddr>, _: Instant) {
        self.conn = Some(conn);
    }

    fn handle_recv(&mut self, conn: ConnId, bytes: &[u8], _: Instant) -> Result<(), Fault> {
        let start = self.received;
        assert!(bytes.iter().zip(start..).all(|(byte, at)| usize::from(*byte) == at % 251), "after {start} bytes");
        self.received += bytes.len();
        match self.manner {
            Manner::Flickers => self.actions.extend([Action::Pause { conn }, Action::Resume { conn }]),
            Manner::Holds if self.paused => self.late += bytes.len(),
            Manner::Holds if start <= MARK && self.received > MARK => {
                self.paused = true;
                self.actions.push(Action::Pause { conn });
                self.events.push(Event::Paused);
            }
            Manner::Holds => {}
        }
        Ok(())
    }

    fn handle_sent(&mut self, _: ConnId, _: usize, _: Instant) {}

    fn handle_close(&mut self, conn: ConnId, why: CloseReason, _: Instant) {
        assert_eq!(self.conn.take(), Some(conn), "one end");
        self.events.push(Event::Closed(why, self.received));
    }

    fn handle_timeout(&mut self, _: Instant) {}

    fn poll_ready(&mut self) -> Option<ConnId> {
        self.ready.take()
    }

    fn poll_transmit(&mut self, _: ConnId, queue: &mut SendQueue, _: Instant) -> bool {
        let Some(word) = self.out.take() else { return false };
        queue.push_payload(&word, 0..word.len());
        true
    }

    fn poll_action(&mut self) -> Option<Action> {
        if self.actions.is_empty() { None } else { Some(self.actions.remove(0)) }
    }

    fn poll_event(&mut self) -> Option<Event> {
        self.events.pop()
    }

    fn poll_timeout(&self) -> Option<Deadline> {
        None
    }

    fn bytes_wanted(&self, _: ConnId) -> usize {
        0
    }
}

struct CounterHost {
    machine: RefCell<Counter>,
    events: Sender<Event>,
}

impl Host for CounterHost {
    type Machine = Counter;

    fn with<R>(&self, f: impl FnOnce(&mut Counter) -> R) -> R {
        f(&mut self.machine.borrow_mut())
    }

    fn deliver(&self, event: Event) {
        // The test may have seen enough.
        let _ = self.events.send(event);
    }
}

type Command = Box<dyn FnOnce(&mut Counter) + Send>;

/// A running driver, whichever it is, and the one connection to it.
struct Stage {
    peer: TcpStream,
    written: usize,
    events: Receiver<Event>,
    command: Box<dyn Fn(Command)>,
}

impl Stage {
    fn tell(&self, command: impl FnOnce(&mut Counter) + Send + 'static) {
        (self.command)(Box::new(command));
    }

    fn next(&self) -> Event {
        self.events.recv_timeout(PATIENCE).expect("an event in time")
    }

    /// What `f` says of the machine.
    fn ask<R: Send + 'static>(&self, f: impl FnOnce(&mut Counter) -> R + Send + 'static) -> R {
        let (told, said) = channel();
        self.tell(move |machine| told.send(f(machine)).unwrap());
        said.recv_timeout(PATIENCE).expect("an answer in time")
    }

    /// Writes until the other side takes nothing more.
    fn write_until_held_back(&mut self) {
        self.peer.set_write_timeout(Some(Duration::from_millis(250))).unwrap();
        let stuck = self.write(TOO_MUCH);
        assert_eq!(stuck, Err(ErrorKind::WouldBlock), "the peer is not held back");
        self.peer.set_write_timeout(Some(PATIENCE)).unwrap();
    }

    /// Writes up to the `end`-th byte of all.
    fn write(&mut self, end: usize) -> Result<(), ErrorKind> {
        let bytes: Vec<u8> = (0..PIECE + 251).map(|at| (at % 251) as u8).collect();
        while self.written < end {
            let from = self.written % 251;
            let len = PIECE.min(end - self.written);
            match self.peer.write(&bytes[from..from + len]) {
                Ok(count) => self.written += count,
                Err(error) => return Err(error.kind()),
            }
        }
        Ok(())
    }
}

fn host(manner: Manner, events: Sender<Event>) -> Rc<CounterHost> {
    let machine = Counter {
        manner,
        conn: None,
        received: 0,
        paused: false,
        late: 0,
        out: None,
        ready: None,
        actions: Vec::new(),
        events: Vec::new(),
    };
    Rc::new(CounterHost { machine: RefCell::new(machine), events })
}

/// Plays `script` on a driver; all have the same shape. Stopped at its end, the driver must leave nothing behind.
macro_rules! play_on {
    ($driver:path, $manner:expr, $script:expr) => {{
        use $driver as driver;
        let manner = $manner;
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let addr: SocketAddr = listener.local_addr().unwrap();
        // The peers here take their time over a close.
        let common = driver::Common { linger: PATIENCE, ..driver::Common::default() };
        let given = driver::Given::listener(listener);
        let (told, events) = channel();
        let running =
            driver::start("pausing", common, driver::Config::default(), given, move |_: &Env| host(manner, told))
                .unwrap();
        let handle = running.handle();
        let command = Box::new(move |command: Command| {
            let job = move |host: &Rc<CounterHost>, env: &Env| {
                host.with(command);
                env.touch();
            };
            handle.submit(job).expect("the mailbox has room");
        });
        let peer = TcpStream::connect(addr).unwrap();
        peer.set_read_timeout(Some(PATIENCE)).unwrap();
        $script(&mut Stage { peer, written: 0, events, command });
        let report = running.stop();
        assert!(report.is_clean(), "{report:?}");
    }};
}

fn on_every_driver(manner: Manner, script: fn(&mut Stage)) {
    println!("tokio");
    play_on!(ringplane_tokio::tcp, manner, script);
    println!("io_uring");
    play_on!(ringplane_io_uring, manner, script);
    println!("monoio");
    play_on!(ringplane_io_uring::monoio, manner, script);
    println!("tokio-uring");
    play_on!(ringplane_io_uring::tokio_uring, manner, script);
}

/// A stage whose connection pauses, and whose peer is stuck.
fn stuck(stage: &mut Stage) {
    stage.write_until_held_back();
    assert_eq!(stage.next(), Event::Paused);
}

#[test]
fn a_paused_connection_holds_its_peer_back_and_gets_everything_afterwards() {
    on_every_driver(Manner::Holds, |stage| {
        stuck(stage);
        let (received, late) = stage.ask(|machine| (machine.received, machine.late));
        println!("{} written, {received} received, {late} of it late", stage.written);
        assert!(late <= 64 << 20, "{late} bytes after the pause");
        stage.tell(Counter::resume);
        let end = stage.written + (8 << 20);
        assert_eq!(stage.write(end), Ok(()));
        stage.peer.shutdown(Shutdown::Write).unwrap();
        assert_eq!(stage.next(), Event::Closed(CloseReason::Eof, end));
    });
}

#[test]
fn the_end_of_a_paused_connection_is_told_behind_its_last_byte() {
    on_every_driver(Manner::Holds, |stage| {
        stuck(stage);
        stage.peer.shutdown(Shutdown::Write).unwrap();
        stage.tell(Counter::resume);
        assert_eq!(stage.next(), Event::Closed(CloseReason::Eof, stage.written));
    });
}

#[test]
fn a_paused_connection_still_writes_and_is_still_closed() {
    on_every_driver(Manner::Holds, |stage| {
        stuck(stage);
        stage.tell(|machine| machine.say(b"stop"));
        let mut word = [0; 4];
        stage.peer.read_exact(&mut word).unwrap();
        assert_eq!(&word, b"stop");
        stage.tell(|machine| {
            machine.say(b"kill");
            machine.close(Closing::Flush);
        });
        let mut rest = Vec::new();
        stage.peer.read_to_end(&mut rest).unwrap();
        assert_eq!(rest, b"kill");
        assert!(matches!(stage.next(), Event::Closed(CloseReason::Local, _)));
        // What it still has to say is dropped, not held back.
        let end = stage.written + (4 << 20);
        assert_eq!(stage.write(end), Ok(()));
    });
}

#[test]
fn a_paused_connection_is_aborted_like_any_other() {
    on_every_driver(Manner::Holds, |stage| {
        stuck(stage);
        stage.tell(|machine| machine.close(Closing::Abort));
        assert!(matches!(stage.next(), Event::Closed(CloseReason::Local, _)));
        // On some runtimes a FIN goes ahead of the reset.
        let end = stage.peer.read(&mut [0]).map_err(|error| error.kind());
        assert!(matches!(end, Ok(0) | Err(ErrorKind::ConnectionReset)), "{end:?}");
    });
}

#[test]
fn a_driver_stops_cleanly_while_a_connection_pauses() {
    on_every_driver(Manner::Holds, stuck);
}

#[test]
fn a_connection_that_pauses_and_resumes_all_the_time_loses_nothing() {
    on_every_driver(Manner::Flickers, |stage| {
        assert_eq!(stage.write(8 << 20), Ok(()));
        stage.peer.shutdown(Shutdown::Write).unwrap();
        assert_eq!(stage.next(), Event::Closed(CloseReason::Eof, 8 << 20));
    });
}
