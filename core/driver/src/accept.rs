//! Accepting: how long a listener pauses when the system is out of something, and who waits when it closes.

use std::io;
use std::time::Duration;

use ringplane_core::time::Instant;
use rustix::io::Errno;
use socket2::{SockRef, Socket};

/// The first pause and the longest; doubled in between.
const SHORTEST: Duration = Duration::from_millis(5);
const LONGEST: Duration = Duration::from_secs(1);

/// Waiting connections that are left in order when a listener closes. The kernel's own bound is of this size.
const BACKLOG: usize = 4096;

/// What accept(2) says of a connection that is gone already, or of nothing: the next one may be fine.
const PASSING: [Errno; 10] = [
    Errno::CONNABORTED,
    Errno::INTR,
    Errno::AGAIN,
    Errno::PROTO,
    Errno::NETDOWN,
    Errno::NOPROTOOPT,
    Errno::HOSTDOWN,
    Errno::NONET,
    Errno::HOSTUNREACH,
    Errno::NETUNREACH,
];

/// The pause of a listener. What waits stays with the kernel meanwhile; to try at once would spin.
#[derive(Copy, Clone, PartialEq, Eq, Default, Debug)]
pub struct Pause {
    last: Duration,
    until: Option<Instant>,
}

impl Pause {
    /// An accept has failed: from `now` on nothing is accepted for the time answered, 5 ms at first and twice as long each
    /// time, up to 1 s; `None`: the next one may be fine. The first failure after a success is logged.
    pub fn failed(&mut self, error: &io::Error, now: Instant) -> Option<Duration> {
        if Errno::from_io_error(error).is_some_and(|errno| PASSING.contains(&errno)) {
            return None;
        }
        if self.last.is_zero() {
            tracing::warn!(%error, "the listener pauses: out of descriptors or memory");
        }
        self.last = (self.last * 2).clamp(SHORTEST, LONGEST);
        self.until = Some(now + self.last);
        Some(self.last)
    }

    /// A connection came in: the next pause is a short one again.
    pub const fn accepted(&mut self) {
        self.last = Duration::ZERO;
    }

    /// Whether it lasts. It is over once it has not.
    pub fn lasts(&mut self, now: Instant) -> bool {
        self.until = self.until.filter(|until| *until > now);
        self.until.is_some()
    }

    /// Its end, if there is one.
    pub const fn until(&self) -> Option<Instant> {
        self.until
    }
}

/// The connections that nobody has accepted yet, as many as there are, blocking ones. Closing the listener, which waits no
/// more from here on, resets them.
pub fn waiting(listener: SockRef<'_>) -> Vec<Socket> {
    if listener.set_nonblocking(true).is_err() {
        return Vec::new();
    }
    std::iter::from_fn(|| listener.accept().ok()).map(|(socket, _)| socket).take(BACKLOG).collect()
}

#[cfg(test)]
mod tests {
    use std::io::Read;
    use std::net::{TcpListener, TcpStream};

    use super::*;

    #[test]
    fn pauses_double_up_to_a_second_and_start_over_after_a_success() {
        let mut pause = Pause::default();
        let fail = |errno: Errno, pause: &mut Pause| pause.failed(&errno.into(), Instant::ZERO);
        let pauses = [(); 10].map(|()| fail(Errno::MFILE, &mut pause).unwrap().as_millis());
        assert_eq!(pauses, [5, 10, 20, 40, 80, 160, 320, 640, 1000, 1000]);
        pause.accepted();
        assert_eq!(fail(Errno::NFILE, &mut pause), Some(SHORTEST));
        assert_eq!(pause.until(), Some(Instant::ZERO + SHORTEST));
        assert!(pause.lasts(Instant::ZERO) && !pause.lasts(Instant::ZERO + SHORTEST));
        assert_eq!(pause.until(), None);
    }

    #[test]
    fn a_client_that_gave_up_pauses_nothing() {
        let mut pause = Pause::default();
        assert_eq!(pause.failed(&Errno::CONNABORTED.into(), Instant::ZERO), None);
        assert_eq!(pause, Pause::default());
    }

    #[test]
    fn those_who_wait_are_taken_and_nobody_is_waited_for() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let addr = listener.local_addr().unwrap();
        let mut peers: Vec<TcpStream> = (0..3).map(|_| TcpStream::connect(addr).unwrap()).collect();
        let taken = waiting(SockRef::from(&listener));
        assert_eq!(taken.len(), 3);
        assert!(waiting(SockRef::from(&listener)).is_empty());
        drop((taken, listener));
        assert!(peers.iter_mut().all(|peer| peer.read(&mut [0]).unwrap() == 0), "closed, not reset");
    }
}
