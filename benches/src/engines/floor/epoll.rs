//! The loop on epoll: level-triggered, a read per readiness, writes as soon as there is something to write.

use std::io::{ErrorKind, Read};
use std::net::TcpListener;
use std::os::fd::OwnedFd;
use std::time::{Duration, Instant};

use rustix::buffer::spare_capacity;
use rustix::event::{Timespec, epoll};
use rustix::io::Errno;
use rustix::time::{Itimerspec, TimerfdClockId, TimerfdFlags, TimerfdTimerFlags, timerfd_create, timerfd_settime};

use crate::engine::Result;
use crate::engines::floor::machine::Machine;
use crate::engines::floor::sockets::{Flushed, Sockets};

const LISTENER: u64 = u64::MAX;
const TIMER: u64 = u64::MAX - 1;
/// Bytes of one read.
const BUFFER: usize = 256 << 10;
/// Events taken at a time.
const EVENTS: usize = 256;
/// Waits shorter than this need a timer finer than epoll's milliseconds.
const FINE: Duration = Duration::from_millis(50);

/// Drives `machine` until it is over.
///
/// # Errors
/// If the system refuses something or the machine finds an error.
pub(crate) fn run(listener: Option<&TcpListener>, machine: &mut impl Machine, spin: bool) -> Result<()> {
    let poll = epoll::create(epoll::CreateFlags::CLOEXEC)?;
    let timer = timerfd_create(TimerfdClockId::Monotonic, TimerfdFlags::NONBLOCK | TimerfdFlags::CLOEXEC)?;
    epoll::add(&poll, &timer, epoll::EventData::new_u64(TIMER), epoll::EventFlags::IN)?;
    if let Some(listener) = listener {
        listener.set_nonblocking(true)?;
        epoll::add(&poll, listener, epoll::EventData::new_u64(LISTENER), epoll::EventFlags::IN)?;
    }
    let mut work = Loop { poll, timer, armed: None, sockets: Sockets::default(), buffer: vec![0; BUFFER] };
    let mut events = Vec::with_capacity(EVENTS);
    let mut next = machine.tick(Instant::now());
    while !machine.todo().over {
        // A connection that is up may bring calls that are due.
        let dialed = !machine.todo().dial.is_empty();
        work.carry_out(machine)?;
        if machine.todo().over {
            break;
        }
        let hurry = spin || dialed || !machine.todo().dirty.is_empty();
        work.wait(next, hurry, &mut events)?;
        let now = Instant::now();
        for event in events.drain(..) {
            match event.data.u64() {
                LISTENER => work.accept(listener, machine, now)?,
                TIMER => work.armed = None,
                conn => work.handle(conn as usize, event.flags, machine, now)?,
            }
        }
        next = machine.tick(now);
    }
    Ok(())
}

struct Loop {
    poll: OwnedFd,
    timer: OwnedFd,
    /// What the timer is set to.
    armed: Option<Instant>,
    sockets: Sockets,
    buffer: Vec<u8>,
}

impl Loop {
    fn wait(&mut self, next: Option<Instant>, hurry: bool, events: &mut Vec<epoll::Event>) -> Result<()> {
        let left = next.map(|next| next.saturating_duration_since(Instant::now()));
        let mut timeout =
            left.map(|left| Timespec { tv_sec: left.as_secs() as i64, tv_nsec: left.subsec_nanos().into() });
        if hurry || left.is_some_and(|left| left.is_zero()) {
            timeout = Some(Timespec { tv_sec: 0, tv_nsec: 0 });
        } else if let Some(left) = left.filter(|left| *left < FINE) {
            timeout = None;
            if self.armed.is_none_or(|armed| Some(armed) > next) {
                let it_value = Timespec { tv_sec: 0, tv_nsec: left.subsec_nanos().into() };
                let once = Itimerspec { it_interval: Timespec { tv_sec: 0, tv_nsec: 0 }, it_value };
                timerfd_settime(&self.timer, TimerfdTimerFlags::empty(), &once)?;
                self.armed = next;
            }
        }
        match epoll::wait(&self.poll, spare_capacity(events), timeout.as_ref()) {
            Ok(_) => {}
            Err(Errno::INTR) => return Ok(()),
            Err(error) => return Err(error.into()),
        }
        if events.iter().any(|event| event.data.u64() == TIMER) {
            let _ = rustix::io::read(&self.timer, &mut [0; 8]);
        }
        Ok(())
    }

    fn accept(&mut self, listener: Option<&TcpListener>, machine: &mut impl Machine, now: Instant) -> Result<()> {
        while let Some(listener) = listener {
            match listener.accept() {
                Ok((stream, _)) => {
                    let conn = self.sockets.insert(stream)?;
                    self.watch(conn)?;
                    machine.opened(conn, None, now);
                }
                Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(()),
                Err(error) => return Err(error.into()),
            }
        }
        Ok(())
    }

    fn watch(&mut self, conn: usize) -> Result<()> {
        let Some(socket) = self.sockets.get(conn) else { return Ok(()) };
        let data = epoll::EventData::new_u64(conn as u64);
        Ok(epoll::add(&self.poll, &socket.stream, data, epoll::EventFlags::IN)?)
    }

    fn handle(
        &mut self,
        conn: usize,
        flags: epoll::EventFlags,
        machine: &mut impl Machine,
        now: Instant,
    ) -> Result<()> {
        let Some(socket) = self.sockets.get(conn) else { return Ok(()) };
        if flags.contains(epoll::EventFlags::OUT) {
            socket.blocked = false;
            epoll::modify(&self.poll, &socket.stream, epoll::EventData::new_u64(conn as u64), epoll::EventFlags::IN)?;
            machine.todo().dirty.push(conn);
        }
        if !flags.intersects(epoll::EventFlags::IN | epoll::EventFlags::HUP | epoll::EventFlags::ERR) {
            return Ok(());
        }
        match socket.stream.read(&mut self.buffer) {
            Ok(0) => self.gone(conn, machine),
            Ok(count) => machine.received(conn, &self.buffer[..count], now),
            Err(error) if error.kind() == ErrorKind::WouldBlock => Ok(()),
            Err(_) => self.gone(conn, machine),
        }
    }

    fn gone(&mut self, conn: usize, machine: &mut impl Machine) -> Result<()> {
        self.sockets.remove(conn);
        machine.closed(conn)
    }

    /// Dials, writes and closes what the machine wants.
    fn carry_out(&mut self, machine: &mut impl Machine) -> Result<()> {
        for conn in std::mem::take(&mut machine.todo().close) {
            self.sockets.remove(conn);
        }
        for dial in std::mem::take(&mut machine.todo().dial) {
            let conn = self.sockets.dial(&dial)?;
            self.watch(conn)?;
            machine.opened(conn, Some(dial), Instant::now());
        }
        let mut dirty = std::mem::take(&mut machine.todo().dirty);
        for conn in dirty.drain(..) {
            let Some(socket) = self.sockets.get(conn).filter(|socket| !socket.blocked) else { continue };
            match socket.flush(conn, machine) {
                Ok(Flushed::All) => {}
                Ok(Flushed::More) => machine.todo().dirty.push(conn),
                Ok(Flushed::Blocked) => {
                    socket.blocked = true;
                    let both = epoll::EventFlags::IN | epoll::EventFlags::OUT;
                    epoll::modify(&self.poll, &socket.stream, epoll::EventData::new_u64(conn as u64), both)?;
                }
                Err(_) => self.gone(conn, machine)?,
            }
        }
        if machine.todo().dirty.is_empty() {
            // Its memory is used again.
            machine.todo().dirty = dirty;
        }
        Ok(())
    }
}
