//! The connections of a caller or a worker: which of them has something to write, which is to be closed, whose timer runs.

use alloc::collections::VecDeque;

use crate::buf::gate::Flow;
use crate::buf::room::fits;
use crate::buf::send_queue::SendQueue;
use crate::buf::slab::{Key, Slab};
use crate::buf::wheel::{TimerId, Wheel};
use crate::id::ConnId;
use crate::protocol::{Action, Closing};
use crate::time::{Deadline, Instant};

/// The machine of one connection, whatever it speaks: what the bookkeeping of all connections asks it. The owner of the links
/// has a type of its own for it, with a variant for each thing that its connections can speak.
pub(crate) trait Line {
    /// Whether [`Line::poll_transmit`] would write something.
    fn wants_transmit(&self) -> bool;

    /// Appends what is to be written, up to the queue's limit, and says whether it appended anything.
    fn poll_transmit(&mut self, out: &mut SendQueue, now: Instant) -> bool;

    /// So many bytes of what was handed out are written.
    fn handle_sent(&mut self, bytes: usize, now: Instant);

    /// How the socket should be closed now, if it should; each answer once.
    fn poll_close(&mut self, now: Instant) -> Option<Closing>;

    /// Whether receiving is to pause or to go on; each answer once. Mux has its credit instead.
    fn poll_flow(&mut self) -> Option<Flow>;

    /// When the machine's own clock is due.
    fn poll_timeout(&self) -> Option<Deadline>;

    /// Bytes that would complete the frame at hand.
    fn wanted(&self) -> usize;

    /// Bytes of items that wait here to be written, with those kept for writers whose turn it is.
    fn outgoing(&self) -> usize;

    /// What the next writer weighs that waits for room on other connections, having some on this one.
    fn awaited(&mut self) -> Option<usize>;

    /// Keeps room for that writer, whose turn it is.
    fn grant(&mut self) -> Option<Granted>;
}

/// Which writer of one connection has its turn.
#[derive(Copy, Clone, PartialEq, Eq, Debug)]
pub(crate) enum Granted {
    /// The one that writes to the stream of this tag.
    Stream(u64),
    /// The only one there is.
    Only,
}

/// One connection and what its owner keeps beside it.
#[derive(Debug)]
pub(crate) struct Link<O, L> {
    pub(crate) conn: ConnId,
    /// Absent while dialing and once the socket is gone.
    pub(crate) line: Option<L>,
    pub(crate) timer: Option<TimerId>,
    listed: bool,
    /// The driver has said its last word about it.
    gone: bool,
    /// Bytes that wait here to be written, as counted in the sum of all links.
    outgoing: usize,
    /// It stands in the queue for room in that sum.
    queued: bool,
    pub(crate) owner: O,
}

/// Bit of a wheel token that says it names a link.
pub(crate) const LINK_TOKEN: u64 = 1 << 63;

/// All links of one machine.
#[derive(Debug)]
pub(crate) struct Links<O, L> {
    slab: Slab<Link<O, L>>,
    ready: VecDeque<Key>,
    actions: VecDeque<Action>,
    outgoing: Outgoing,
}

/// What waits to be written on all links together.
#[derive(Debug)]
struct Outgoing {
    limit: usize,
    bytes: usize,
    /// Links whose next writer waits for room in the sum and has it on its own connection; one writer each, in turn.
    queue: VecDeque<Key>,
    /// Writers whose turn it is and that have not heard of it.
    called: VecDeque<Writer>,
}

impl Outgoing {
    /// Whether there is room for an item that costs `cost` bytes, and nobody has waited for it longer.
    fn admits(&self, cost: usize) -> bool {
        self.queue.is_empty() && fits(self.bytes, cost, self.limit)
    }
}

/// A writer that may try again.
#[derive(Copy, Clone, PartialEq, Eq, Debug)]
pub(crate) enum Writer {
    /// The one that writes to the stream of this tag.
    Stream(u64),
    /// The one that writes to this link, which has one stream.
    Link(Key),
}

impl<O, L: Line> Links<O, L> {
    /// No links. On all of them `max_outgoing` bytes of items may wait to be written.
    pub(crate) const fn new(max_outgoing: usize) -> Self {
        let outgoing = Outgoing { limit: max_outgoing, bytes: 0, queue: VecDeque::new(), called: VecDeque::new() };
        Self { slab: Slab::new(), ready: VecDeque::new(), actions: VecDeque::new(), outgoing }
    }

    /// Adds a link; `name` makes its connection id from its key.
    pub(crate) fn insert(&mut self, owner: O, name: impl FnOnce(Key) -> ConnId) -> Key {
        let key = self.slab.insert(Link {
            conn: ConnId::accepted(0),
            line: None,
            timer: None,
            listed: false,
            gone: false,
            outgoing: 0,
            queued: false,
            owner,
        });
        if let Some(link) = self.slab.get_mut(key) {
            link.conn = name(key);
        }
        key
    }

    pub(crate) fn get(&self, key: Key) -> Option<&Link<O, L>> {
        self.slab.get(key)
    }

    pub(crate) fn get_mut(&mut self, key: Key) -> Option<&mut Link<O, L>> {
        self.slab.get_mut(key)
    }

    /// The machine of a link that is up.
    pub(crate) fn line(&mut self, key: Key) -> Option<&mut L> {
        self.slab.get_mut(key)?.line.as_mut()
    }

    /// The socket is gone: from now on the link asks for nothing.
    pub(crate) fn close(&mut self, key: Key) {
        if let Some(link) = self.slab.get_mut(key) {
            link.gone = true;
        }
    }

    pub(crate) fn remove(&mut self, key: Key, wheel: &mut Wheel) -> Option<Link<O, L>> {
        let link = self.slab.remove(key)?;
        if let Some(timer) = link.timer {
            wheel.cancel(timer);
        }
        self.outgoing.bytes -= link.outgoing;
        self.call_writers();
        Some(link)
    }

    /// Has a writer of the link do something for an item that costs `cost` bytes: `write` hears whether there is room for it
    /// beside what waits on all other links. `None` if the link is not up.
    pub(crate) fn write<R>(&mut self, key: Key, cost: usize, write: impl FnOnce(&mut L, bool) -> R) -> Option<R> {
        let admitted = self.outgoing.admits(cost);
        let outcome = self.line(key).map(|line| write(line, admitted));
        self.weigh(key);
        outcome
    }

    /// The next writer whose turn it is; it tries again.
    pub(crate) fn poll_writer(&mut self) -> Option<Writer> {
        self.outgoing.called.pop_front()
    }

    /// Bytes of items that wait to be written, on all links.
    pub(crate) const fn outgoing(&self) -> usize {
        self.outgoing.bytes
    }

    /// So many bytes of what a link handed out are written.
    pub(crate) fn handle_sent(&mut self, key: Key, bytes: usize, now: Instant) {
        if let Some(line) = self.line(key) {
            line.handle_sent(bytes, now);
            self.weigh(key);
        }
    }

    /// Counts what waits on a link, and calls writers if there is room.
    fn weigh(&mut self, key: Key) {
        if let Some(link) = self.slab.get_mut(key)
            && let Some(line) = &mut link.line
        {
            let bytes = line.outgoing();
            let before = core::mem::replace(&mut link.outgoing, bytes);
            self.outgoing.bytes = self.outgoing.bytes - before + bytes;
            if !link.queued && line.awaited().is_some() {
                link.queued = true;
                self.outgoing.queue.push_back(key);
            }
        }
        self.call_writers();
    }

    /// Calls the writers that have waited longest, as many as there is room for.
    fn call_writers(&mut self) {
        while let Some(key) = self.outgoing.queue.front().copied() {
            let Some(link) = self.slab.get_mut(key) else {
                self.outgoing.queue.pop_front();
                continue;
            };
            let next = link.line.as_mut().and_then(Line::awaited);
            if next.is_some_and(|weight| !fits(self.outgoing.bytes, weight, self.outgoing.limit)) {
                return;
            }
            self.outgoing.queue.pop_front();
            link.queued = false;
            let Some(line) = link.line.as_mut().filter(|_| next.is_some()) else { continue };
            self.outgoing.called.extend(line.grant().map(|turn| match turn {
                Granted::Stream(tag) => Writer::Stream(tag),
                Granted::Only => Writer::Link(key),
            }));
            let bytes = line.outgoing();
            let before = core::mem::replace(&mut link.outgoing, bytes);
            self.outgoing.bytes = self.outgoing.bytes - before + bytes;
            if line.awaited().is_some() {
                link.queued = true;
                self.outgoing.queue.push_back(key);
            }
        }
    }

    /// Bytes that would complete the frame that the link is in the middle of.
    pub(crate) fn wanted(&self, key: Key) -> usize {
        self.slab.get(key).and_then(|link| link.line.as_ref()).map_or(0, Line::wanted)
    }

    pub(crate) const fn len(&self) -> usize {
        self.slab.len()
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = (Key, &Link<O, L>)> {
        self.slab.iter()
    }

    /// The key of every link, in slot order.
    pub(crate) fn keys(&self) -> alloc::vec::Vec<Key> {
        self.slab.iter().map(|(key, _)| key).collect()
    }

    pub(crate) fn act(&mut self, action: Action) {
        self.actions.push_back(action);
    }

    pub(crate) fn poll_action(&mut self) -> Option<Action> {
        self.actions.pop_front()
    }

    pub(crate) fn poll_ready(&mut self) -> Option<ConnId> {
        while let Some(key) = self.ready.pop_front() {
            if let Some(link) = self.slab.get_mut(key) {
                link.listed = false;
                return Some(link.conn);
            }
        }
        None
    }

    pub(crate) fn writers(&self) -> usize {
        self.ready.len()
    }

    pub(crate) fn poll_transmit(&mut self, key: Key, out: &mut SendQueue, now: Instant) -> bool {
        let wrote = self.line(key).is_some_and(|line| line.poll_transmit(out, now));
        self.weigh(key);
        wrote
    }

    /// After items have been read or queued, which moves no timer and closes nothing: lists the link if it wants to write.
    pub(crate) fn nudge(&mut self, key: Key) {
        if let Some(link) = self.slab.get_mut(key).filter(|link| !link.gone && !link.listed)
            && link.line.as_ref().is_some_and(Line::wants_transmit)
        {
            link.listed = true;
            self.ready.push_back(key);
        }
    }

    /// After items have been read that held their sender back: has the driver receive again if that is due.
    pub(crate) fn relieve(&mut self, key: Key) {
        if let Some(link) = self.slab.get_mut(key).filter(|link| !link.gone)
            && let Some(flow) = link.line.as_mut().and_then(Line::poll_flow)
        {
            self.actions.push_back(action(flow, link.conn));
        }
    }

    /// After anything has happened to a link: lists it if it wants to write, has it pause, resume or close if that is due,
    /// and moves its timer if `extra` or the connection wants an earlier one.
    pub(crate) fn settle(&mut self, key: Key, extra: Option<Deadline>, wheel: &mut Wheel, now: Instant) {
        self.weigh(key);
        let Some(link) = self.slab.get_mut(key).filter(|link| !link.gone) else { return };
        let mut deadline = extra;
        if let Some(line) = &mut link.line {
            if line.wants_transmit() && !link.listed {
                link.listed = true;
                self.ready.push_back(key);
            }
            if let Some(flow) = line.poll_flow() {
                self.actions.push_back(action(flow, link.conn));
            }
            if let Some(how) = line.poll_close(now) {
                self.actions.push_back(Action::Close { conn: link.conn, how });
            }
            deadline = Deadline::soonest(extra, line.poll_timeout());
        }
        set_timer(wheel, &mut link.timer, LINK_TOKEN | key.to_u64(), deadline);
    }
}

const fn action(flow: Flow, conn: ConnId) -> Action {
    match flow {
        Flow::Pause => Action::Pause { conn },
        Flow::Resume => Action::Resume { conn },
    }
}

/// Makes sure that a timer fires no later than `deadline`. A timer that runs earlier is left alone: it fires, looks, and is
/// set anew, which costs less than moving it with every byte.
pub(crate) fn set_timer(wheel: &mut Wheel, timer: &mut Option<TimerId>, token: u64, deadline: Option<Deadline>) {
    let Some(deadline) = deadline else { return };
    let armed = timer.and_then(|id| Some((id, wheel.armed(id)?)));
    match armed {
        Some((_, armed)) if armed.at <= deadline.at => {}
        Some((id, _)) => {
            wheel.rearm(id, deadline.why, deadline.at);
        }
        None => *timer = Some(wheel.arm(token, deadline.why, deadline.at)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A connection with one writer, whose items it counts only.
    #[derive(Debug, Default)]
    struct Toy {
        bytes: usize,
        refused: Option<usize>,
        granted: usize,
        deadline: Option<Instant>,
    }

    impl Toy {
        fn offer(&mut self, len: usize, admitted: bool) -> bool {
            if admitted || self.granted > 0 {
                self.granted = 0;
                self.bytes += len;
                return true;
            }
            self.refused = Some(len);
            false
        }
    }

    impl Line for Toy {
        fn wants_transmit(&self) -> bool {
            self.bytes > 0
        }

        fn poll_transmit(&mut self, _: &mut SendQueue, _: Instant) -> bool {
            core::mem::take(&mut self.bytes) > 0
        }

        fn handle_sent(&mut self, _: usize, _: Instant) {}

        fn poll_close(&mut self, _: Instant) -> Option<Closing> {
            None
        }

        fn poll_flow(&mut self) -> Option<Flow> {
            None
        }

        fn poll_timeout(&self) -> Option<Deadline> {
            self.deadline.map(|at| Deadline { at, why: crate::time::Reason::Idle })
        }

        fn wanted(&self) -> usize {
            0
        }

        fn outgoing(&self) -> usize {
            self.bytes + self.granted
        }

        fn awaited(&mut self) -> Option<usize> {
            self.refused
        }

        fn grant(&mut self) -> Option<Granted> {
            self.granted = self.refused.take().unwrap_or_default();
            Some(Granted::Only)
        }
    }

    fn links(names: u64) -> (Links<(), Toy>, alloc::vec::Vec<Key>) {
        let mut links = Links::new(100);
        let keys = (0..names).map(|name| {
            let key = links.insert((), |_| ConnId::accepted(name));
            links.get_mut(key).unwrap().line = Some(Toy::default());
            key
        });
        let keys = keys.collect();
        (links, keys)
    }

    fn offer(links: &mut Links<(), Toy>, key: Key, len: usize) -> bool {
        let took = links.write(key, len, |line, admitted| line.offer(len, admitted));
        links.nudge(key);
        took.unwrap()
    }

    #[test]
    fn writers_beyond_the_sum_wait_and_have_their_turn_in_order_and_one_that_comes_later_waits_behind_them() {
        let (mut links, keys) = links(4);
        let mut out = SendQueue::new(1000);
        assert!(offer(&mut links, keys[0], 90) && !offer(&mut links, keys[1], 40) && !offer(&mut links, keys[2], 40));
        assert!(!offer(&mut links, keys[3], 5), "it would fit, but others have waited for longer");
        assert_eq!((links.outgoing(), links.poll_writer()), (90, None));
        assert!(links.poll_transmit(keys[0], &mut out, Instant::ZERO));
        let turns = core::iter::from_fn(|| links.poll_writer()).collect::<alloc::vec::Vec<_>>();
        assert_eq!(turns, [Writer::Link(keys[1]), Writer::Link(keys[2]), Writer::Link(keys[3])]);
        assert_eq!(links.outgoing(), 85, "room is kept for those whose turn it is");
        assert!(offer(&mut links, keys[2], 40));
        links.remove(keys[1], &mut Wheel::default());
        assert_eq!(links.outgoing(), 45);
    }

    #[test]
    fn a_link_is_named_once_until_it_was_asked_and_not_at_all_once_its_socket_is_gone() {
        let (mut links, keys) = links(2);
        for _ in 0..2 {
            assert!(offer(&mut links, keys[0], 10) && offer(&mut links, keys[1], 10));
        }
        assert_eq!((links.poll_ready(), links.writers()), (Some(ConnId::accepted(0)), 1));
        links.close(keys[0]);
        links.nudge(keys[0]);
        assert_eq!((links.poll_ready(), links.poll_ready()), (Some(ConnId::accepted(1)), None));
    }

    #[test]
    fn a_link_has_one_timer_at_the_earlier_of_its_owners_and_its_own_deadline() {
        let (mut links, keys) = links(1);
        let (mut wheel, at) = (Wheel::default(), |seconds| Instant::ZERO + core::time::Duration::from_secs(seconds));
        links.line(keys[0]).unwrap().deadline = Some(at(9));
        links.settle(keys[0], None, &mut wheel, at(0));
        let owners = Deadline { at: at(5), why: crate::time::Reason::Connect };
        links.settle(keys[0], Some(owners), &mut wheel, at(0));
        assert_eq!((wheel.len(), wheel.next()), (1, Some(owners)));
        links.remove(keys[0], &mut wheel);
        assert!(wheel.is_empty());
    }
}
