//! Every state of the worker's Dynamo machines against every event, printed as one table and compared with the committed
//! one. `RINGPLANE_BLESS=1` writes the table anew.

use std::fmt::Write;
use std::fs;
use std::path::Path;
use std::task::Poll;

use ringplane_core::buf::SendQueue;
use ringplane_core::dynamo::items::receiver::{Config as ReceiverConfig, Receiver};
use ringplane_core::dynamo::request::server::{Config as ServerConfig, Server};
use ringplane_core::dynamo::response::sender::{Config as SenderConfig, Sender};
use ringplane_core::time::Instant;
use ringplane_core::wire::dynamo::failure_key::Key;
use ringplane_core::wire::pretty::{Stream, dynamo_stream};
use ringplane_core::wire::{Ack, Codec, Failure, Format, Limits, Request, TwoPart, Word};

const T0: Instant = Instant::ZERO;

fn emit<'a>(frame: &impl Format<'a>) -> Vec<u8> {
    let mut bytes = vec![0; frame.emitted_len()];
    frame.emit(&mut bytes).unwrap();
    bytes
}

/// The frames of `bytes` without offsets.
fn printed(bytes: &[u8], stream: Stream) -> String {
    let mut out = String::new();
    dynamo_stream(bytes, stream, &Limits::default(), &mut out).unwrap();
    let lines: Vec<&str> = out.lines().filter_map(|line| Some(line.split_once(' ')?.1)).collect();
    lines.join(", ")
}

fn taken(queue: &SendQueue) -> Vec<u8> {
    let mut slices = [&[][..]; 16];
    let used = queue.slices(&mut slices);
    slices[..used].concat()
}

struct Home {
    sender: Sender,
    now: Instant,
    greeted: bool,
}

impl Home {
    fn new() -> Self {
        Self { sender: Sender::new(SenderConfig::default(), Codec::Json, "s", T0), now: T0, greeted: false }
    }

    fn up() -> Self {
        let mut home = Self::new();
        home.sender.handle_open(T0);
        home
    }

    fn feed(&mut self, header: &[u8], body: &[u8]) -> String {
        match self.sender.handle_recv(&emit(&TwoPart::new(header, body)), self.now) {
            Ok(()) => String::new(),
            Err(fault) => format!("fault: {fault}"),
        }
    }

    fn timeout(&mut self) -> String {
        let Some(deadline) = self.sender.poll_timeout() else { return "no deadline".to_owned() };
        self.now = self.now.max(deadline.at);
        match self.sender.handle_timeout(self.now) {
            Ok(()) => format!("{:?}", deadline.why),
            Err(fault) => format!("{:?}, fault: {fault}", deadline.why),
        }
    }

    fn settle(&mut self) -> String {
        let mut queue = SendQueue::new(1 << 20);
        self.sender.poll_transmit(&mut queue, self.now);
        let bytes = taken(&queue);
        self.sender.handle_sent(bytes.len(), self.now);
        // The printer expects a stream from its start.
        let greeting = if self.greeted { vec![] } else { bytes.clone() };
        self.greeted |= !bytes.is_empty();
        if greeting.is_empty() { frames(&bytes) } else { printed(&bytes, Stream::CallHome) }
    }
}

fn frames(bytes: &[u8]) -> String {
    let greeting = emit(&TwoPart::new(b"{\"subject\":\"s\",\"stream_type\":\"response\"}", b""));
    let prologue = emit(&TwoPart::new(b"{\"error\":null}", b""));
    let start = [greeting, if bytes.windows(7).any(|at| at == b"\"error\"") { vec![] } else { prologue }].concat();
    let all = printed(&[&start, bytes].concat(), Stream::CallHome);
    all.split_once(&printed(&start, Stream::CallHome))
        .map_or(all.clone(), |(_, rest)| rest.trim_matches([',', ' ']).to_owned())
}

fn failure() -> Failure {
    Failure::new(Key::Internal, "broken")
}

/// States by name, each made anew.
type States<T> = &'static [(&'static str, fn() -> T)];

const HOMES: States<Home> = &[
    ("Waiting, dialing", Home::new),
    ("Waiting", || {
        let mut home = Home::up();
        home.settle();
        home
    }),
    ("Streaming", || {
        let mut home = Home::up();
        home.sender.start();
        home.settle();
        home
    }),
    ("Streaming, an item queued", || {
        let mut home = Home::up();
        home.sender.start();
        home.settle();
        home.sender.send(b"1".as_slice().into()).unwrap();
        home
    }),
    ("Ended", || {
        let mut home = Home::up();
        home.sender.start();
        home.sender.finish(None, T0);
        home.settle();
        home
    }),
    ("Closing", || {
        let mut home = Home::up();
        home.settle();
        home.sender.close(T0);
        home
    }),
];

type HomeStep = fn(&mut Home) -> String;

const HOME_EVENTS: &[(&str, HomeStep)] = &[
    ("the dial succeeds", |home| {
        home.sender.handle_open(home.now);
        String::new()
    }),
    ("start", |home| {
        home.sender.start();
        String::new()
    }),
    ("send", |home| match home.sender.send(b"2".as_slice().into()) {
        Ok(()) => "taken".to_owned(),
        Err(error) => format!("{error:?}"),
    }),
    ("finish", |home| {
        home.sender.finish(None, home.now);
        String::new()
    }),
    ("finish, failed", |home| {
        home.sender.finish(Some(failure()), home.now);
        String::new()
    }),
    ("fail", |home| {
        home.sender.fail(failure(), home.now);
        String::new()
    }),
    ("abort", |home| {
        home.sender.abort(failure(), home.now);
        String::new()
    }),
    ("cut", |home| {
        home.sender.cut(home.now);
        String::new()
    }),
    ("stop", |home| home.feed(Word::Stop.header(), b"")),
    ("kill", |home| home.feed(Word::Kill.header(), b"")),
    ("sentinel", |home| home.feed(Word::Sentinel.header(), b"")),
    ("a data frame", |home| home.feed(b"", b"x")),
    ("FIN", |home| {
        home.sender.handle_eof(home.now);
        String::new()
    }),
    ("timeout", Home::timeout),
];

struct Requests {
    server: Server,
    now: Instant,
}

impl Requests {
    fn feed(&mut self, mut bytes: &[u8]) -> String {
        let mut frames = 0;
        loop {
            match self.server.next(&mut bytes, self.now) {
                Ok(Some(_)) => self.server.answer(&Ack::Accepted, self.now),
                Ok(None) => return format!("{frames} frames"),
                Err(fault) => return format!("{frames} frames, fault: {fault}"),
            }
            frames += 1;
        }
    }

    /// How much of `whole` has come.
    fn begun(&self, whole: &[u8]) -> usize {
        Some(self.server.held()).filter(|held| *held < whole.len()).unwrap_or(0)
    }

    fn timeout(&mut self) -> String {
        let Some(deadline) = self.server.poll_timeout() else { return "no deadline".to_owned() };
        self.now = self.now.max(deadline.at);
        match self.server.handle_timeout(self.now) {
            Ok(()) => format!("{:?}", deadline.why),
            Err(fault) => format!("{:?}, fault: {fault}", deadline.why),
        }
    }
}

fn request(payload: &[u8]) -> Vec<u8> {
    emit(&Request { path: b"p", headers: b"", payload })
}

fn requests() -> Requests {
    let config = ServerConfig { max_message: 64, max_acks: 8, max_waiting: 100, ..ServerConfig::default() };
    Requests { server: Server::new(config, T0), now: T0 }
}

const SERVERS: States<Requests> = &[
    ("Open", requests),
    ("Open, half a frame", || {
        let mut half = requests();
        half.feed(&request(b"payload")[..4]);
        half
    }),
    ("Open, acks unread", || {
        let mut unread = requests();
        unread.feed(&request(b""));
        let mut queue = SendQueue::new(1 << 20);
        unread.server.poll_transmit(&mut queue);
        unread
    }),
    ("Open, the peer held back", || {
        let mut held = requests();
        held.feed(&request(b"").repeat(8));
        held.server.poll_transmit(&mut SendQueue::new(1 << 20));
        held.server.poll_flow();
        held
    }),
    ("Closing", || {
        let mut closing = requests();
        closing.server.leave(T0);
        closing
    }),
];

type ServerStep = fn(&mut Requests) -> String;

const SERVER_EVENTS: &[(&str, ServerStep)] = &[
    ("a frame, or its rest", |at| {
        let whole = request(b"payload");
        let from = at.begun(&whole);
        at.feed(&whole[from..])
    }),
    ("four frames", |at| {
        let whole = request(b"payload");
        let from = at.begun(&whole);
        let bytes = whole.repeat(4);
        at.feed(&bytes[from..])
    }),
    ("a frame too large", |at| {
        let whole = request(&[0; 60]);
        let from = at.begun(&whole);
        at.feed(&whole[from..])
    }),
    ("all acks are written, one by one", |at| {
        loop {
            at.server.handle_sent(4, at.now);
            at.feed(&[]);
            if !at.server.poll_transmit(&mut SendQueue::new(1 << 20)) {
                return String::new();
            }
        }
    }),
    ("FIN, or leave", |at| {
        at.server.leave(at.now);
        String::new()
    }),
    ("timeout", Requests::timeout),
];

struct Items {
    receiver: Receiver,
    now: Instant,
}

impl Items {
    fn dialing() -> Self {
        let config = ReceiverConfig { max_item: 64, max_unread: 200, ..ReceiverConfig::default() };
        Self { receiver: Receiver::new(config, "s", T0), now: T0 }
    }

    fn up() -> Self {
        let mut items = Self::dialing();
        items.receiver.handle_open(T0);
        items.written();
        items
    }

    fn after(header: &[u8], body: &[u8]) -> Self {
        let mut items = Self::up();
        items.feed(&emit(&TwoPart::new(header, body)));
        while items.receiver.poll_event().is_some() {}
        items
    }

    fn feed(&mut self, bytes: &[u8]) -> String {
        match self.receiver.handle_recv(bytes, self.now) {
            Ok(()) => String::new(),
            Err(fault) => format!("fault: {fault}"),
        }
    }

    fn say(&mut self, header: &[u8], body: &[u8]) -> String {
        self.feed(&emit(&TwoPart::new(header, body)))
    }

    fn read(&mut self) -> String {
        match self.receiver.recv() {
            Poll::Ready(Some(item)) => format!("{item:?}"),
            Poll::Ready(None) => "the end".to_owned(),
            Poll::Pending => "pending".to_owned(),
        }
    }

    fn timeout(&mut self) -> String {
        let Some(deadline) = self.receiver.poll_timeout() else { return "no deadline".to_owned() };
        self.now = self.now.max(deadline.at);
        match self.receiver.handle_timeout(self.now) {
            Ok(()) => format!("{:?}", deadline.why),
            Err(fault) => format!("{:?}, fault: {fault}", deadline.why),
        }
    }

    fn written(&mut self) -> String {
        let mut queue = SendQueue::new(1 << 20);
        self.receiver.poll_transmit(&mut queue);
        printed(&taken(&queue), Stream::CallHome)
    }
}

const ITEMS: States<Items> = &[
    ("Reading, dialing", Items::dialing),
    ("Reading", Items::up),
    ("Reading, an item unread", || Items::after(b"", b"1")),
    ("Ended by the sentinel, an item unread", || {
        let mut items = Items::after(b"", b"1");
        items.say(Word::Sentinel.header(), b"");
        while items.receiver.poll_event().is_some() {}
        items
    }),
    ("Ended by a stop", || Items::after(Word::Stop.header(), b"")),
    ("Closing", || Items::after(b"", b"")),
];

type ItemsStep = fn(&mut Items) -> String;

const ITEMS_EVENTS: &[(&str, ItemsStep)] = &[
    ("the dial succeeds", |items| {
        items.receiver.handle_open(items.now);
        String::new()
    }),
    ("an item", |items| items.say(b"", b"2")),
    ("more items than may be unread", |items| items.feed(&emit(&TwoPart::new(b"", b"2")).repeat(4))),
    ("an item too large", |items| items.say(b"", &[0; 65])),
    ("an empty frame", |items| items.say(b"", b"")),
    ("sentinel", |items| items.say(Word::Sentinel.header(), b"")),
    ("stop", |items| items.say(Word::Stop.header(), b"")),
    ("kill", |items| items.say(Word::Kill.header(), b"")),
    ("a word with a body", |items| items.say(Word::Sentinel.header(), b"x")),
    ("no word", |items| items.say(b"\"pause\"", b"")),
    ("FIN", |items| {
        items.receiver.handle_eof(items.now);
        String::new()
    }),
    ("read", Items::read),
    ("leave", |items| {
        items.receiver.leave(items.now);
        String::new()
    }),
    ("timeout", Items::timeout),
];

fn table() -> String {
    let mut out = String::from("# What each state of the worker's Dynamo machines makes of each event.\n");
    out.push_str("# event: what it returns | what is written | what is told | how to close | the state afterwards\n");
    let join = |parts: [String; 4]| {
        let names = ["", "writes ", "tells ", "close "];
        let parts = parts.iter().zip(names).filter(|(text, _)| !text.is_empty());
        let parts: Vec<String> = parts.map(|(text, name)| format!("{name}{text}")).collect();
        if parts.is_empty() { "-".to_owned() } else { parts.join(" | ") }
    };
    for (state, make) in HOMES {
        writeln!(out, "\n## call-home connection: {state}").unwrap();
        for (event, step) in HOME_EVENTS {
            let mut home = make();
            let returned = step(&mut home);
            let written = home.settle();
            let told: Vec<String> =
                std::iter::from_fn(|| home.sender.poll_event()).map(|told| format!("{told:?}")).collect();
            let close = home.sender.poll_close(home.now).map(|how| format!("{how:?}")).unwrap_or_default();
            let line = join([returned, written, told.join(", "), close]);
            writeln!(out, "{event}: {line} | {:?}", home.sender.state()).unwrap();
        }
    }
    for (state, make) in ITEMS {
        writeln!(out, "\n## request stream: {state}").unwrap();
        for (event, step) in ITEMS_EVENTS {
            let mut items = make();
            let returned = step(&mut items);
            let written = items.written();
            let told = std::iter::from_fn(|| items.receiver.poll_event()).map(|told| format!("{told:?}"));
            let mut told: Vec<String> = told.collect();
            told.extend(items.receiver.poll_flow().map(|flow| format!("{flow:?}")));
            let close = items.receiver.poll_close(items.now).map(|how| format!("{how:?}")).unwrap_or_default();
            let line = join([returned, written, told.join(", "), close]);
            writeln!(out, "{event}: {line} | {:?}", items.receiver.state()).unwrap();
        }
    }
    for (state, make) in SERVERS {
        writeln!(out, "\n## request connection: {state}").unwrap();
        for (event, step) in SERVER_EVENTS {
            let mut at = make();
            let returned = step(&mut at);
            let mut queue = SendQueue::new(1 << 20);
            at.server.poll_transmit(&mut queue);
            let written = printed(&taken(&queue), Stream::Acks);
            let told = at.server.poll_flow().map(|flow| format!("{flow:?}")).unwrap_or_default();
            let close = at.server.poll_close(at.now).map(|how| format!("{how:?}")).unwrap_or_default();
            let line = join([returned, written, told, close]);
            writeln!(out, "{event}: {line} | {:?}", at.server.state()).unwrap();
        }
    }
    out
}

#[test]
fn every_state_of_the_dynamo_machines_answers_every_event_as_committed() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("snapshots/dynamo_states.txt");
    let now = table();
    if std::env::var_os("RINGPLANE_BLESS").is_some_and(|value| value == "1") {
        fs::write(&path, &now).unwrap();
    }
    let committed = fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    for (line, (now, committed)) in (1..).zip(now.lines().zip(committed.lines())) {
        assert_eq!(now, committed, "line {line} of {}", path.display());
    }
    assert_eq!(now.lines().count(), committed.lines().count(), "{}", path.display());
}
