//! Call-home at the caller: the listener that workers dial, the subjects that are awaited, and the connections that came.

use alloc::collections::BTreeMap;
use core::net::{IpAddr, SocketAddr};

use crate::buf::ages::{Ages, Ticket};
use crate::buf::slab::Key;
use crate::caller::request::CallId;
use crate::dynamo::subjects::{Subject, Subjects, Unclaimed};
use crate::protocol::{Action, CloseReason};

/// Subjects of calls that are over and remembered as such.
const MAX_SPENT: usize = 1024;

/// Whether there is a place to come to.
///
/// ```text
///  Down ──first call──▶ Asked ──on_listening(Ok)──▶ Up
///    ▲                    └──on_listening(Err): the calls that wait fail
///    └────────────────────┘
/// ```
#[derive(Copy, Clone, PartialEq, Eq, Debug)]
enum Listener {
    Down,
    Asked,
    Up(SocketAddr),
}

/// The call-home of one caller.
#[derive(Debug)]
pub(in crate::caller) struct CallHome {
    listener: Listener,
    registry: Subjects,
    /// The connections that were accepted, by the driver's number.
    links: BTreeMap<u64, Key>,
    /// Those of them that have not said whose response they bring.
    unclaimed: Ages,
}

impl CallHome {
    /// Nothing is awaited yet. Subjects are made with `key`, which is secret.
    pub(in crate::caller) fn new(key: [u64; 2]) -> Self {
        Self {
            listener: Listener::Down,
            registry: Subjects::new(MAX_SPENT, key),
            links: BTreeMap::new(),
            unclaimed: Ages::default(),
        }
    }

    /// Where to come to, once there is such a place.
    pub(in crate::caller) const fn addr(&self) -> Option<SocketAddr> {
        match self.listener {
            Listener::Up(addr) => Some(addr),
            Listener::Down | Listener::Asked => None,
        }
    }

    /// A call needs a place to come to: what the driver is to do about it, asked once.
    pub(in crate::caller) fn ask(&mut self, bind: SocketAddr) -> Option<Action> {
        let is_down = self.listener == Listener::Down;
        if is_down {
            self.listener = Listener::Asked;
        }
        is_down.then_some(Action::Listen { addr: bind })
    }

    /// The driver listens, or cannot. Workers are told to come to `advertise` if it is not the address that was bound.
    ///
    /// # Errors
    /// Why it cannot; the next call asks again.
    pub(in crate::caller) fn on_listening(
        &mut self,
        outcome: Result<SocketAddr, CloseReason>,
        advertise: Option<IpAddr>,
    ) -> Result<(), CloseReason> {
        self.listener = Listener::Down;
        let bound = outcome?;
        // A worker without IPv6 can dial an IPv4 address only if it is written as one.
        let ip = advertise.unwrap_or(bound.ip()).to_canonical();
        self.listener = Listener::Up(SocketAddr::new(ip, bound.port()));
        Ok(())
    }

    /// A stream of a call is awaited, under this subject.
    pub(in crate::caller) fn expect(&mut self, call: CallId) -> Subject {
        self.registry.insert(call.0.to_u64())
    }

    /// It is no longer.
    pub(in crate::caller) fn withdraw(&mut self, subject: Subject) {
        self.registry.withdraw(subject);
    }

    /// The call that awaits a stream of this subject.
    ///
    /// # Errors
    /// Nobody does, or nobody does any more.
    pub(in crate::caller) fn claim(&mut self, subject: &str) -> Result<CallId, Unclaimed> {
        self.registry.claim(subject).map(|tag| CallId(Key::from_u64(tag)))
    }

    /// A worker has come. The seat is given back once the connection has said whose response it brings, or is gone.
    pub(in crate::caller) fn on_opened(&mut self, number: u64, link: Key) -> Ticket {
        self.links.insert(number, link);
        self.unclaimed.add(link)
    }

    /// The connection of this number.
    pub(in crate::caller) fn link(&self, number: u64) -> Option<Key> {
        self.links.get(&number).copied()
    }

    /// The driver knows no connection of this number any more.
    pub(in crate::caller) fn on_closed(&mut self, number: u64) {
        self.links.remove(&number);
    }

    /// Gives a seat back.
    pub(in crate::caller) fn give_back(&mut self, seat: Ticket) {
        self.unclaimed.remove(seat);
    }

    /// If more than `limit` connections have not said whose response they bring, the one that has been silent longest.
    pub(in crate::caller) fn excess(&self, limit: usize) -> Option<Key> {
        if self.unclaimed.len() > limit { self.unclaimed.oldest() } else { None }
    }

    /// Connections that have not said whose response they bring.
    #[cfg(test)]
    pub(in crate::caller) fn unclaimed(&self) -> usize {
        self.unclaimed.len()
    }

    /// Whether nothing is awaited and nothing has come.
    #[cfg(test)]
    pub(in crate::caller) fn is_idle(&self) -> bool {
        self.registry.is_empty() && self.links.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn home() -> (CallHome, SocketAddr) {
        (CallHome::new([1, 2]), SocketAddr::from(([127, 0, 0, 1], 0)))
    }

    fn key(index: u32) -> Key {
        Key { index, generation: 0 }
    }

    #[test]
    fn the_listener_is_asked_for_once_and_again_after_it_could_not_be_had() {
        let (mut home, bind) = home();
        assert_eq!((home.ask(bind), home.ask(bind)), (Some(Action::Listen { addr: bind }), None));
        assert_eq!(home.on_listening(Err(CloseReason::NoDescriptors), None), Err(CloseReason::NoDescriptors));
        assert!(home.ask(bind).is_some() && home.addr().is_none());
        let bound = "[::ffff:10.0.0.1]:4100".parse().unwrap();
        assert_eq!(home.on_listening(Ok(bound), None), Ok(()));
        assert_eq!((home.addr(), home.ask(bind)), ("10.0.0.1:4100".parse().ok(), None));
        home.on_listening(Ok(bound), "10.9.9.9".parse().ok()).unwrap();
        assert_eq!(home.addr(), "10.9.9.9:4100".parse().ok());
    }

    #[test]
    fn a_subject_is_claimed_once_and_by_nobody_after_its_call_has_left() {
        let (mut home, _) = home();
        let (first, second) = (CallId(key(1)), CallId(key(2)));
        let (one, two) = (home.expect(first), home.expect(second));
        assert_eq!(home.claim(&one.text()), Ok(first));
        assert!(home.claim(&one.text()).is_err());
        home.withdraw(two);
        assert!(home.claim(&two.text()).is_err_and(|why| why != Unclaimed::Unknown), "it is remembered as spent");
        assert_eq!(home.claim("nobody's"), Err(Unclaimed::Unknown));
    }

    #[test]
    fn of_more_silent_connections_than_allowed_the_oldest_goes_and_one_that_has_spoken_does_not_count() {
        let (mut home, _) = home();
        let seats: alloc::vec::Vec<_> = (0..3).map(|n| home.on_opened(n.into(), key(n))).collect();
        assert_eq!((home.excess(3), home.excess(2), home.link(2)), (None, Some(key(0)), Some(key(2))));
        home.give_back(seats[0]);
        assert_eq!((home.excess(2), home.excess(1)), (None, Some(key(1))));
        home.on_closed(2);
        assert_eq!(home.link(2), None);
    }
}
