//! Two connections, the bytes between them and every law their owners rely on.

use std::mem;
use std::sync::Arc;
use std::time::Duration;

use ringplane_core::buf::{Key, SendQueue};
use ringplane_core::mux::{Config, Connection, Ending, Event, Opening, Recv, Role, SendError};
use ringplane_core::protocol::Fault;
use ringplane_core::time::Instant;
use ringplane_core::wire::mux::{CancelMode, PREFACE_LEN, RejectCode, Status, goaway};

use super::call::{Call, Done, End, MAX_ITEM};

/// What may happen to the bytes on their way.
#[derive(Copy, Clone, PartialEq, Eq, Debug)]
pub enum Trust {
    /// Nothing: no fault may happen but by silence.
    Honest,
    /// One bit may be flipped: that has to end in a fault, and until then nothing wrong may be seen.
    Damaged,
    /// Frames nobody wrote may be slipped in: only panics and bounds are checked.
    Hostile,
}

/// Both sides' settings.
#[derive(Clone, Debug)]
pub struct Setup {
    /// What may happen to bytes.
    pub trust: Trust,
    /// The dialer's, the acceptor's.
    pub configs: [Config; 2],
}

/// The pair and its model. Sides are 0 (the dialer) and 1.
#[derive(Debug)]
pub struct World {
    setup: Setup,
    sides: [Connection; 2],
    /// Written by each side and not yet delivered.
    wire: [Vec<u8>; 2],
    /// Bytes each side has written in all.
    written: [usize; 2],
    calls: Vec<Call>,
    now: Instant,
    up: [bool; 2],
    closed: [bool; 2],
    faults: [Option<Fault>; 2],
    leaving: bool,
    /// The side whose bytes were damaged.
    damaged: Option<usize>,
}

impl World {
    /// Two connections that have not yet said anything.
    pub fn new(setup: Setup) -> Self {
        let now = Instant::ZERO;
        for config in &setup.configs {
            assert_eq!(config.validate(), Ok(()));
        }
        let [dialer, acceptor] = setup.configs;
        Self {
            sides: [Connection::new(Role::Dialer, dialer, now), Connection::new(Role::Acceptor, acceptor, now)],
            setup,
            wire: [vec![], vec![]],
            written: [0; 2],
            calls: vec![],
            now,
            up: [false; 2],
            closed: [false; 2],
            faults: [None; 2],
            leaving: false,
            damaged: None,
        }
    }

    /// Calls opened so far.
    pub fn calls(&self) -> usize {
        self.calls.len()
    }

    /// Whether a fault has ended the connection.
    pub fn is_over(&self) -> bool {
        self.faults.iter().any(Option::is_some)
    }

    fn is_hostile(&self) -> bool {
        self.setup.trust == Trust::Hostile
    }

    /// `side` opens a call, if it may.
    pub fn open(&mut self, side: usize) {
        let can = self.sides[side].can_open();
        let request_id = self.calls.len().to_string();
        let opening = Opening { path: "p".into(), request_id, ..Opening::default() };
        let key = self.sides[side].open(self.calls.len() as u64, Arc::new(opening));
        assert_eq!(key.is_some(), can, "open does what can_open says");
        if let Some(key) = key {
            self.calls.push(Call::new(side, key));
        }
        self.settle(side);
    }

    fn key(&self, call: usize, side: usize) -> Option<(Key, End)> {
        let call = self.calls.get(call)?;
        let end = call.end_at(side);
        Some((call.keys[end as usize]?, end))
    }

    /// `side` sends an item of `len` bytes.
    pub fn send(&mut self, call: usize, side: usize, len: usize) {
        let Some((key, end)) = self.key(call, side) else { return };
        let len = len.min(MAX_ITEM);
        let item = self.calls[call].out[end as usize].next_item(call, end, len);
        let limit = self.setup.configs[1 - side].max_item;
        let (hostile, leaving) = (self.is_hostile(), self.leaving);
        let state = &mut self.calls[call];
        match self.sides[side].send(key, item.clone()) {
            Ok(()) => {
                // Of a hostile peer's streams the model keeps no account: frames that name them wrongly mix them up.
                if !hostile {
                    assert!(state.done[end as usize].is_none(), "a stream let go takes no item: {end:?} {state:?}");
                    state.out[end as usize].push(item);
                }
            }
            Err(SendError::Blocked(back)) => {
                assert!(back == item);
                state.out[end as usize].blocked = true;
            }
            Err(SendError::Closed) => assert!(hostile || state.may_be_closed(end, leaving), "closed without a cause"),
            Err(SendError::TooLarge { limit: told }) => {
                assert!(hostile || (told == limit && len as u64 > limit), "{len} is too large for {told}?");
            }
        }
        self.settle(side);
    }

    /// `side` ends its direction; with `abort` it drops what is queued.
    pub fn end(&mut self, call: usize, side: usize, ending: Ending, abort: bool) {
        let Some((key, end)) = self.key(call, side) else { return };
        let state = &mut self.calls[call];
        let direction = &mut state.out[end as usize];
        if state.done[end as usize].is_none() {
            direction.cut |= abort && direction.ended.is_none();
            direction.ended.get_or_insert_with(|| ending.clone());
            if end == End::Acceptor {
                state.done[end as usize] = Some(Done::Ended);
            }
        }
        if abort {
            self.sides[side].abort(key, ending);
        } else {
            self.sides[side].end(key, ending);
        }
        self.settle(side);
    }

    /// `side` reads once; whether there may be more at once.
    pub fn recv(&mut self, call: usize, side: usize) -> bool {
        let Some((key, end)) = self.key(call, side) else { return false };
        let received = self.sides[side].recv(key);
        let hostile = self.is_hostile();
        let state = &mut self.calls[call];
        let direction = &mut state.out[1 - end as usize];
        if hostile || state.done[end as usize].is_some() {
            self.settle(side);
            return false;
        }
        let more = match received {
            Recv::Item(item) => {
                assert!(direction.readable, "an item nobody was told of");
                direction.on_item(&item);
                true
            }
            Recv::Pending => {
                direction.readable = false;
                false
            }
            Recv::End(ending) => {
                assert!(direction.readable || direction.outcome.is_some(), "an outcome nobody was told of");
                direction.readable = false;
                direction.on_end(&ending);
                false
            }
        };
        self.settle(side);
        more
    }

    /// The opener cancels.
    pub fn cancel(&mut self, call: usize, mode: CancelMode) {
        let Some(state) = self.calls.get_mut(call).filter(|call| call.done[0].is_none()) else { return };
        let (side, Some(key)) = (state.opener, state.keys[0]) else { return };
        let hostile = self.setup.trust == Trust::Hostile;
        let written = self.sides[side].was_written(key);
        let unsent = self.sides[side].cancel(key, mode);
        assert!(hostile || unsent != written, "a call is unsent until it is written");
        if unsent {
            state.done[0] = Some(Done::Unsent);
        } else if mode == CancelMode::Kill {
            state.killed();
        } else {
            state.cancel = state.cancel.max(Some(mode));
        }
        self.settle(side);
    }

    /// The opener lets go, whatever has happened.
    pub fn release(&mut self, call: usize) {
        let Some(state) = self.calls.get_mut(call).filter(|call| call.done[0].is_none()) else { return };
        let (side, Some(key)) = (state.opener, state.keys[0]) else { return };
        if state.out[1].outcome.is_some() {
            state.done[0] = Some(Done::Ended);
        } else {
            state.done[0] = Some(Done::Released);
            state.killed();
        }
        self.sides[side].release(key);
        self.settle(side);
    }

    /// The acceptor refuses, unless it has answered.
    pub fn reject(&mut self, call: usize) {
        let Some(state) = self.calls.get_mut(call).filter(|call| call.done[1].is_none()) else { return };
        let (side, Some(key)) = (state.side_of(End::Acceptor), state.keys[1]) else { return };
        if state.out[1].is_fresh() {
            state.done[1] = Some(Done::Rejected);
            self.sides[side].reject(key, RejectCode::Overloaded, 7, "full");
            self.settle(side);
        }
    }

    /// `side` says that a call is alive; whoever may not is ignored.
    pub fn status(&mut self, call: usize, side: usize, status: Status) {
        let Some((key, end)) = self.key(call, side) else { return };
        self.calls[call].statuses += usize::from(end == End::Acceptor);
        self.sides[side].status(key, status);
        self.settle(side);
    }

    /// `side` leaves.
    pub fn go_away(&mut self, side: usize) {
        self.leaving = true;
        self.sides[side].go_away();
        self.settle(side);
    }

    /// `side` writes up to about `limit` bytes; whether it wrote any.
    pub fn transmit(&mut self, side: usize, limit: usize) -> bool {
        if self.closed[side] {
            return false;
        }
        let mut queue = SendQueue::new(limit);
        let wants = self.sides[side].wants_transmit();
        let wrote = self.sides[side].poll_transmit(&mut queue, self.now);
        assert_eq!(wrote, !queue.is_empty());
        assert!(wants || !wrote, "bytes nobody wanted to write");
        let mut slices = [&[][..]; 64];
        while !queue.is_empty() {
            let used = queue.slices(&mut slices);
            let batch = slices[..used].concat();
            slices = [&[][..]; 64];
            queue.advance(batch.len());
            self.sides[side].handle_sent(batch.len(), self.now);
            self.written[side] += batch.len();
            self.wire[side].extend(batch);
        }
        self.settle(side);
        wrote
    }

    /// Up to `len` bytes of `from` arrive; whether any did.
    pub fn deliver(&mut self, from: usize, len: usize) -> bool {
        let len = len.min(self.wire[from].len());
        let bytes: Vec<u8> = self.wire[from].drain(..len).collect();
        let to = 1 - from;
        if bytes.is_empty() || self.closed[to] {
            return false;
        }
        let outcome = self.sides[to].handle_recv(&bytes, self.now);
        self.note(to, outcome);
        self.settle(to);
        true
    }

    /// Everything is written and delivered until both sides are quiet.
    pub fn exchange(&mut self) -> bool {
        for round in 0..20_000 {
            let mut moved = false;
            for side in [0, 1] {
                moved |= self.transmit(side, 64 << 10);
                moved |= self.deliver(side, usize::MAX);
            }
            if !moved {
                return round > 0;
            }
        }
        panic!("the pair never comes to rest");
    }

    /// Time passes, up to the next deadline of `side` if `until_deadline`, and both sides are told.
    pub fn advance(&mut self, side: usize, until_deadline: bool) {
        let deadline = self.sides[side].poll_timeout();
        self.now = match deadline {
            Some(deadline) if until_deadline => self.now.max(deadline.at),
            _ => self.now + Duration::from_millis(1),
        };
        for side in [0, 1] {
            if self.closed[side] {
                continue;
            }
            let outcome = self.sides[side].handle_timeout(self.now);
            self.note(side, outcome);
            self.settle(side);
            let next = self.sides[side].poll_timeout();
            let awake = self.closed[side] || self.faults[side].is_some();
            assert!(awake || next.is_some_and(|next| next.at > self.now), "{next:?} is not after {:?}", self.now);
        }
    }

    /// Flips a bit of what `from` has under way, once.
    pub fn damage(&mut self, from: usize, at: usize, bit: u32) {
        let len = self.wire[from].len();
        if self.damaged.is_some() || len == 0 || self.setup.trust == Trust::Honest {
            return;
        }
        let at = at % len;
        // The version bytes of a preface have no checksum, and a higher newest version is as good.
        if self.written[from] - len + at >= PREFACE_LEN {
            self.wire[from][at] ^= 1 << (bit % 8);
            self.damaged = Some(from);
        }
    }

    /// Slips `frame` in behind what `from` has written.
    pub fn inject(&mut self, from: usize, frame: &[u8]) {
        if self.is_hostile() {
            self.wire[from].extend_from_slice(frame);
        }
    }

    /// Brings everything to its end and checks what must then hold.
    pub fn finish(mut self) {
        if self.setup.trust == Trust::Honest && !self.is_over() {
            self.finish_calls();
        } else {
            self.exchange();
        }
        if let Some(from) = self.damaged.filter(|_| !self.is_hostile()) {
            assert!(self.is_over() || self.closed[1 - from], "a flipped bit went unnoticed");
        }
        if self.is_over() {
            [0, 1].into_iter().for_each(|side| self.finish_closing(side));
        }
    }

    /// Both owners read everything and end everything; then nothing may be left.
    fn finish_calls(&mut self) {
        for _ in 0..10_000 {
            let mut moved = self.exchange();
            for call in 0..self.calls.len() {
                moved |= self.finish_call(call);
            }
            if !moved {
                break;
            }
        }
        // A side that has left in peace while the other's open frame was on its way never looks at it: the other learns
        // from the end of the connection, which is its owner's business.
        for (index, call) in self.calls.iter().enumerate() {
            let left_alone = self.closed[1 - call.opener];
            assert!(call.is_done() || left_alone, "call {index} is stuck: {call:?}\n{:?}", self.sides);
        }
        for (_, side) in self.sides.iter().enumerate().filter(|(index, _)| !self.closed[1 - index]) {
            assert_eq!((side.streams(), side.held(), side.reserved()), (0, 0, 0), "left behind: {side:?}");
        }
    }

    fn finish_call(&mut self, call: usize) -> bool {
        let mut moved = false;
        for end in [End::Opener, End::Acceptor] {
            let side = self.calls[call].side_of(end);
            if self.key(call, side).is_none() || self.calls[call].done[end as usize].is_some() {
                continue;
            }
            let incoming = &self.calls[call].out[1 - end as usize];
            if incoming.readable {
                while self.recv(call, side) {}
                moved = true;
            }
            let state = &self.calls[call];
            let read_all = state.out[1 - end as usize].outcome.is_some();
            match end {
                End::Opener if read_all => self.release(call),
                End::Acceptor if read_all || state.kill_seen => self.end(call, side, Ending::ok(), false),
                End::Opener if state.out[0].ended.is_none() => self.end(call, side, Ending::ok(), false),
                _ => continue,
            }
            moved = true;
        }
        moved
    }

    /// A side that is closing says how to close its socket, by its own deadline at the latest.
    fn finish_closing(&mut self, side: usize) {
        if self.faults[side].is_none() {
            return;
        }
        for _ in 0..4 {
            self.transmit(side, usize::MAX);
            if self.closed[side] {
                return;
            }
            let deadline = self.sides[side].poll_timeout().expect("a closing connection has a deadline");
            self.now = self.now.max(deadline.at);
            self.settle(side);
        }
        panic!("side {side} never closes");
    }

    fn note(&mut self, side: usize, outcome: Result<(), Fault>) {
        let Err(fault) = outcome else { return };
        let by_silence = matches!(fault, Fault::Silent | Fault::Stalled | Fault::Told(goaway::SILENT));
        let expected = match self.setup.trust {
            Trust::Honest => by_silence,
            Trust::Damaged => by_silence || self.damaged.is_some(),
            Trust::Hostile => true,
        };
        assert!(expected, "side {side}: {fault}");
        self.faults[side].get_or_insert(fault);
    }

    fn settle(&mut self, side: usize) {
        while let Some(event) = self.sides[side].poll_event() {
            if self.is_hostile() {
                self.on_hostile_event(side, &event);
            } else {
                self.on_event(side, event);
            }
        }
        self.closed[side] |= self.sides[side].poll_close(self.now).is_some();
        let (machine, config) = (&self.sides[side], &self.setup.configs[side]);
        assert!(machine.held() <= config.connection_window.into(), "{} held", machine.held());
        assert!(machine.reserved() <= config.reserve_pool, "{} reserved", machine.reserved());
    }

    /// Streams nobody of the model opened are left alone; the model's are bound to their calls.
    fn on_hostile_event(&mut self, side: usize, event: &Event) {
        let Event::Opened(key) = event else { return };
        let index = self.sides[side].opening(*key).and_then(|open| open.request_id.parse::<usize>().ok());
        if let Some((index, call)) = index.and_then(|index| Some((index, self.calls.get_mut(index)?))) {
            call.keys[1].get_or_insert(*key);
            self.sides[side].set_tag(*key, index as u64);
        }
    }

    fn on_event(&mut self, side: usize, event: Event) {
        let tag = match &event {
            Event::Up => {
                assert!(!mem::replace(&mut self.up[side], true), "up twice");
                return;
            }
            Event::GoingAway => {
                assert!(self.leaving, "nobody leaves");
                return;
            }
            Event::Opened(key) => return self.on_opened(side, *key),
            Event::Readable(tag) | Event::Writable(tag) | Event::Status(tag, _) | Event::Cancelled(tag, _) => *tag,
            Event::Rejected { tag, .. } | Event::Stalled(tag, _) => *tag,
            Event::Load(_) => panic!("models report no load"),
            Event::Starved(_) => panic!("there is memory for what models send"),
        };
        let call = &mut self.calls[usize::try_from(tag).expect("tags are indices")];
        let end = call.end_at(side);
        assert_eq!(call.done[end as usize], None, "{event:?} after the owner let go");
        match event {
            Event::Readable(_) => {
                assert!(!mem::replace(&mut call.out[1 - end as usize].readable, true), "readable twice");
            }
            Event::Writable(_) => {
                assert!(mem::take(&mut call.out[end as usize].blocked), "writable without being blocked");
            }
            Event::Status(..) => {
                assert!(end == End::Opener && call.statuses > 0, "a status nobody gave");
                call.statuses -= 1;
            }
            Event::Cancelled(_, mode) => {
                assert!(end == End::Acceptor && Some(mode) <= call.cancel, "a cancel nobody asked for");
                call.kill_seen |= mode == CancelMode::Kill;
            }
            Event::Rejected { .. } => {
                assert_eq!(end, End::Opener);
                assert!(self.leaving || call.done[1] == Some(Done::Rejected), "rejected by nobody");
                call.done[0] = Some(Done::Rejected);
            }
            Event::Stalled(..) => unreachable!("no stream of the model stands still for so long"),
            Event::Up | Event::GoingAway | Event::Opened(_) | Event::Starved(_) | Event::Load(_) => {
                unreachable!("handled above")
            }
        }
    }

    fn on_opened(&mut self, side: usize, key: Key) {
        let open = self.sides[side].opening(key).expect("an opened stream has its opening");
        let index: usize = open.request_id.parse().expect("request ids are indices");
        let call = &mut self.calls[index];
        assert_eq!(call.end_at(side), End::Acceptor);
        assert!(call.keys[1].replace(key).is_none(), "opened twice");
        self.sides[side].set_tag(key, index as u64);
    }
}
