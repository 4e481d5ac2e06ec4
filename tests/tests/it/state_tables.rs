//! Every state of a mux stream and of a mux connection against every event, printed as one table and compared with the
//! committed one. `RINGPLANE_BLESS=1` writes the table anew.

use std::fmt::Write;
use std::fs;
use std::path::Path;
use std::sync::Arc;

use ringplane_core::buf::{Key, SendQueue};
use ringplane_core::id::StreamId;
use ringplane_core::mux::{Config, Connection, Ending, Event, Opening, Recv, Role, SendError};
use ringplane_core::time::Instant;
use ringplane_core::wire::mux::{CancelMode, Head, Hello, Kind, Preface, RejectCode, Status, flags};
use ringplane_core::wire::{Class, Crc32c, Limits, pretty};

/// One machine, played at by hand.
struct Subject {
    machine: Connection,
    key: Option<Key>,
    now: Instant,
}

type Step = fn(&mut Subject) -> String;

const DIALERS: u32 = 1;
const ACCEPTORS: u32 = 2;
const TAG: u64 = 7;
const OPEN_HEADER: &[u8] = &[1, 0, 1, b'p', 2, 0, 1, b'r'];

fn raw(kind: Kind, flag: u8, stream: u32, header: &[u8], body: &[u8]) -> Vec<u8> {
    let head = Head::seal(kind, flag, StreamId(stream), header, body, Crc32c::PORTABLE).unwrap();
    [&head, header, body].concat()
}

fn hello() -> Vec<u8> {
    let hello = Hello { stream_window: 100_000, connection_window: 100_000, max_item: 100_000, max_streams: 4 };
    raw(Kind::Hello, 0, 0, &hello.to_bytes(), b"")
}

impl Subject {
    fn opening(role: Role) -> Self {
        Self { machine: Connection::new(role, Config::default(), Instant::ZERO), key: None, now: Instant::ZERO }
    }

    fn up(role: Role) -> Self {
        let mut subject = Self::opening(role);
        subject.feed(&Preface::OURS.to_bytes());
        subject.feed(&hello());
        subject.settle();
        subject
    }

    fn feed(&mut self, bytes: &[u8]) -> String {
        match self.machine.handle_recv(bytes, self.now) {
            Ok(()) => String::new(),
            Err(fault) => format!("fault: {fault}"),
        }
    }

    fn open(&mut self) -> String {
        let opening = Opening { path: "p".into(), request_id: "r".to_owned(), ..Opening::default() };
        let Some(key) = self.machine.open(TAG, Arc::new(opening)) else { return "not opened".to_owned() };
        self.key = Some(key);
        "opened".to_owned()
    }

    fn send(&mut self) -> String {
        let item = b"mine".as_slice().into();
        match self.key.map(|key| self.machine.send(key, item)) {
            None => String::new(),
            Some(Ok(())) => "taken".to_owned(),
            Some(Err(SendError::Blocked(_))) => "blocked".to_owned(),
            Some(Err(SendError::Closed)) => "closed".to_owned(),
            Some(Err(SendError::TooLarge { limit })) => format!("too large for {limit}"),
        }
    }

    fn with(&mut self, step: impl FnOnce(&mut Connection, Key)) -> String {
        let key = self.key.expect("a stream's step has a stream");
        step(&mut self.machine, key);
        String::new()
    }

    fn timeout(&mut self) -> String {
        let Some(deadline) = self.machine.poll_timeout() else { return "no deadline".to_owned() };
        self.now = self.now.max(deadline.at);
        match self.machine.handle_timeout(self.now) {
            Ok(()) => format!("{:?}", deadline.why),
            Err(fault) => format!("{:?}, fault: {fault}", deadline.why),
        }
    }

    /// What the machine writes and tells now.
    fn settle(&mut self) -> (String, String) {
        let mut queue = SendQueue::new(1 << 20);
        self.machine.poll_transmit(&mut queue, self.now);
        let mut slices = [&[][..]; 64];
        let used = queue.slices(&mut slices);
        let written = printed(&slices[..used].concat());
        self.machine.handle_sent(queue.len(), self.now);
        let mut told = Vec::new();
        while let Some(event) = self.machine.poll_event() {
            if let Event::Opened(key) = event {
                self.key = Some(key);
                self.machine.set_tag(key, TAG);
            }
            told.push(format!("{event:?}").replace(&format!("({TAG})"), "").replace(&format!("({TAG}, "), "("));
        }
        (written, told.join(", "))
    }
}

/// The frames of `bytes` without offsets and bodies.
fn printed(bytes: &[u8]) -> String {
    let mut out = String::new();
    if bytes.starts_with(&[0xFF, 0xFF]) {
        pretty::mux_stream(bytes, &Limits::default(), &mut out).unwrap();
    } else {
        pretty::mux_frames(bytes, &Limits::default(), &mut out).unwrap();
    }
    let name = |line: &str| {
        let text = line.split_once(' ').expect("a line starts with an offset").1;
        let cut = [" data ", " stream-window", " newest", " path"].iter().filter_map(|mark| text.find(mark)).min();
        text[..cut.unwrap_or(text.len())].to_owned()
    };
    out.lines().map(name).collect::<Vec<_>>().join(", ")
}

fn failed() -> Ending {
    Ending::failed(Class::Internal, "reason", "message")
}

/// States by name, each made anew.
type States = &'static [(&'static str, fn() -> Subject)];

/// A stream this side has opened, in each of its states.
const OPENER: States = &[
    ("Queued", || {
        let mut subject = Subject::up(Role::Dialer);
        subject.open();
        subject
    }),
    ("Live", opener_live),
    ("Zombie", || {
        let mut subject = opener_live();
        subject.with(Connection::release);
        subject.settle();
        subject
    }),
    ("Over", || {
        let mut subject = opener_live();
        subject.feed(&raw(Kind::Item, flags::LAST, DIALERS, b"", b"theirs"));
        subject.settle();
        subject
    }),
];

fn opener_live() -> Subject {
    let mut subject = Subject::up(Role::Dialer);
    subject.open();
    subject.settle();
    subject
}

/// A stream the peer has opened, in each of its states.
const ACCEPTOR: States = &[
    ("Live", acceptor_live),
    ("Live, the request is over", || {
        let mut subject = acceptor_live();
        subject.feed(&raw(Kind::Item, flags::LAST, DIALERS, b"", b"theirs"));
        subject.settle();
        subject
    }),
    ("Live, killed", || {
        let mut subject = acceptor_live();
        subject.feed(&raw(Kind::Cancel, 0, DIALERS, &[2], b""));
        subject.settle();
        subject
    }),
    ("Ending", || {
        let mut subject = acceptor_live();
        subject.send();
        subject.with(|machine, key| machine.end(key, failed()));
        subject
    }),
    ("Gone", || {
        let mut subject = acceptor_live();
        subject.with(|machine, key| machine.end(key, Ending::ok()));
        subject.settle();
        subject
    }),
];

fn acceptor_live() -> Subject {
    let mut subject = Subject::up(Role::Acceptor);
    subject.feed(&raw(Kind::Open, 0, DIALERS, OPEN_HEADER, b""));
    subject.settle();
    subject
}

const STREAM_EVENTS: &[(&str, Step)] = &[
    ("send()", Subject::send),
    ("end(ok)", |s| s.with(|machine, key| machine.end(key, Ending::ok()))),
    ("abort(failed)", |s| s.with(|machine, key| machine.abort(key, failed()))),
    ("recv()", |s| match s.machine.recv(s.key.expect("a stream's step has a stream")) {
        Recv::Item(_) => "item".to_owned(),
        Recv::Pending => "pending".to_owned(),
        Recv::End(ending) => format!("end {}", ending.class.map_or("ok", Class::name)),
    }),
    ("cancel(stop)", |s| cancel(s, CancelMode::Stop)),
    ("cancel(kill)", |s| cancel(s, CancelMode::Kill)),
    ("status(running)", |s| s.with(|machine, key| machine.status(key, Status::Running))),
    ("reject()", |s| s.with(|machine, key| machine.reject(key, RejectCode::Overloaded, 9, "full"))),
    ("release()", |s| s.with(Connection::release)),
    ("open frame", |s| s.feed(&raw(Kind::Open, 0, DIALERS, OPEN_HEADER, b""))),
    ("item frame", |s| s.feed(&raw(Kind::Item, 0, DIALERS, b"", b"x"))),
    ("item frame, last", |s| s.feed(&raw(Kind::Item, flags::LAST, DIALERS, b"", b"x"))),
    ("item frame, announced", |s| s.feed(&raw(Kind::Item, flags::MORE, DIALERS, &3_000_000_u64.to_be_bytes(), b""))),
    ("item frame, cont", |s| s.feed(&raw(Kind::Item, flags::CONT, DIALERS, b"", b"x"))),
    ("end frame, ok", |s| s.feed(&raw(Kind::End, 0, DIALERS, &[0; 5], b""))),
    ("end frame, failed", |s| s.feed(&raw(Kind::End, 0, DIALERS, &[15, 0, 0, 0, 0], b""))),
    ("cancel frame, stop", |s| s.feed(&raw(Kind::Cancel, 0, DIALERS, &[1], b""))),
    ("cancel frame, kill", |s| s.feed(&raw(Kind::Cancel, 0, DIALERS, &[2], b""))),
    ("credit frame", |s| s.feed(&raw(Kind::Credit, 0, DIALERS, &[0, 0, 0, 9], b""))),
    ("status frame", |s| s.feed(&raw(Kind::Status, 0, DIALERS, &Status::Queued(3).to_bytes(), b""))),
    ("reject frame", |s| s.feed(&raw(Kind::Reject, 0, DIALERS, &[1, 0, 0, 0, 9, 0, 0], b""))),
];

fn cancel(subject: &mut Subject, mode: CancelMode) -> String {
    let key = subject.key.expect("a stream's step has a stream");
    if subject.machine.cancel(key, mode) { "unsent".to_owned() } else { String::new() }
}

const CONNECTION: States = &[
    ("Opening, dialed", || Subject::opening(Role::Dialer)),
    ("Opening, accepted", || Subject::opening(Role::Acceptor)),
    ("Opening, accepted, preface read", || {
        let mut subject = Subject::opening(Role::Acceptor);
        subject.feed(&Preface::OURS.to_bytes());
        subject.settle();
        subject
    }),
    ("Up", || Subject::up(Role::Dialer)),
    ("Up, pinged", || {
        let mut subject = Subject::up(Role::Dialer);
        subject.timeout();
        subject.settle();
        subject
    }),
    ("Draining, with a stream", || {
        let mut subject = opener_live();
        subject.machine.go_away();
        subject.settle();
        subject
    }),
    ("Draining, told by the peer", || {
        let mut subject = opener_live();
        subject.feed(&raw(Kind::GoAway, 0, 0, &[0, 0, 0, 0, 1, 0, 0], b""));
        subject.settle();
        subject
    }),
    ("Closing", || {
        let mut subject = opener_live();
        subject.feed(&raw(Kind::Hello, 0, 0, &[0; Hello::LEN], b""));
        subject.settle();
        subject
    }),
];

const CONNECTION_EVENTS: &[(&str, Step)] = &[
    ("open()", Subject::open),
    ("go_away()", |s| {
        s.machine.go_away();
        String::new()
    }),
    ("deadline", Subject::timeout),
    ("preface", |s| s.feed(&Preface::OURS.to_bytes())),
    ("preface of versions 3 to 2", |s| s.feed(&Preface { newest: 3, oldest: 2 }.to_bytes())),
    ("hello frame", |s| s.feed(&hello())),
    ("ping frame", |s| s.feed(&raw(Kind::Ping, 0, 0, &[0; 8], b""))),
    ("pong frame, token 1", |s| s.feed(&raw(Kind::Pong, 0, 0, &1_u64.to_be_bytes(), b""))),
    ("credit frame", |s| s.feed(&raw(Kind::Credit, 0, 0, &[0, 0, 0, 9], b""))),
    ("open frame of the other side's id", |s| s.feed(&raw(Kind::Open, 0, ACCEPTORS, OPEN_HEADER, b""))),
    ("item frame on 0", |s| s.feed(&raw(Kind::Item, 0, 0, b"", b"x"))),
    ("goaway frame, drain, last 0", |s| s.feed(&raw(Kind::GoAway, 0, 0, &[0; 7], b""))),
    ("goaway frame, checksum", |s| s.feed(&raw(Kind::GoAway, 0, 0, &[2, 0, 0, 0, 0, 0, 0], b""))),
    ("unknown kind, optional", |s| s.feed(&unknown(flags::OPTIONAL))),
    ("unknown kind", |s| s.feed(&unknown(0))),
    ("wrong checksum", |s| s.feed(&[1; 20])),
];

fn unknown(flag: u8) -> Vec<u8> {
    let mut head = Head::seal(Kind::Ping, flag, StreamId(0), b"", b"", Crc32c::PORTABLE).unwrap();
    head[0] = 99;
    let crc = Crc32c::PORTABLE.of(&head[..16]).to_be_bytes();
    head[16..].copy_from_slice(&crc);
    head.to_vec()
}

/// One section of the table: an event a line, with what comes of it.
fn section(out: &mut String, title: &str, make: fn() -> Subject, events: &[(&str, Step)]) {
    writeln!(out, "\n## {title}").unwrap();
    for (name, step) in events {
        let mut subject = make();
        let returned = step(&mut subject);
        let (written, told) = subject.settle();
        let close = subject.machine.poll_close(subject.now).map(|how| format!("{how:?}")).unwrap_or_default();
        let mut line = format!("{name:<34}");
        let parts = [("", returned), ("writes ", written), ("tells ", told), ("closes ", close)];
        let parts: Vec<_> =
            parts.iter().filter(|(_, text)| !text.is_empty()).map(|(what, text)| format!("{what}{text}")).collect();
        write!(line, " {}", if parts.is_empty() { "-".to_owned() } else { parts.join(" | ") }).unwrap();
        let machine = &subject.machine;
        writeln!(out, "{line} | {:?}, {} streams, {} held", machine.state(), machine.streams(), machine.held())
            .unwrap();
    }
}

fn table() -> String {
    let mut out = String::from("# What each state of the mux machines makes of each event.\n");
    out.push_str(
        "# event: what it returns | what is written | what is told | how to close | the connection afterwards\n",
    );
    let parts = [
        ("connection", CONNECTION, CONNECTION_EVENTS),
        ("stream of ours", OPENER, STREAM_EVENTS),
        ("stream of theirs", ACCEPTOR, STREAM_EVENTS),
    ];
    for (what, states, events) in parts {
        for (state, make) in states {
            section(&mut out, &format!("{what}: {state}"), *make, events);
        }
    }
    out
}

#[test]
fn every_state_answers_every_event_as_committed() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("snapshots/mux_states.txt");
    let now = table();
    if std::env::var_os("RINGPLANE_BLESS").is_some_and(|value| value == "1") {
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(&path, &now).unwrap();
    }
    let committed = fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    for (line, (now, committed)) in (1..).zip(now.lines().zip(committed.lines())) {
        assert_eq!(now, committed, "line {line} of {}", path.display());
    }
    assert_eq!(now.lines().count(), committed.lines().count(), "{}", path.display());
}
