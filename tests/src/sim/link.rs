//! A simulated TCP connection as a machine of its own: two directions of bytes, in order, with a bound and a speed.

use std::collections::VecDeque;

use ringplane_core::time::Instant;

use super::faults::Faults;
use super::rng::Rng;

/// One of the two ends of a connection.
#[derive(Copy, Clone, PartialEq, Eq, Debug)]
pub enum Side {
    /// The end that dialed.
    Dialer,
    /// The end that accepted.
    Listener,
}

impl Side {
    /// Both ends.
    pub const BOTH: [Self; 2] = [Self::Dialer, Self::Listener];

    /// The other end.
    pub const fn other(self) -> Self {
        match self {
            Self::Dialer => Self::Listener,
            Self::Listener => Self::Dialer,
        }
    }

    pub(super) const fn index(self) -> usize {
        self as usize
    }
}

/// Two directions of bytes between a dialer and a listener. It knows neither hosts nor machines; whoever owns it asks
/// when something arrives.
///
/// ```text
///   write -> [ readable | flying ............ ] <- finish (FIN flies last)
///              ^ read     ^ land at its time     stalled: nothing lands, the buffer fills
/// ```
#[derive(Default, Debug)]
pub struct Link {
    /// By the side that writes.
    pipes: [Pipe; 2],
    broken: bool,
    flips: u64,
}

#[derive(Default, Debug)]
struct Pipe {
    /// Bytes that landed, then bytes that fly.
    bytes: VecDeque<u8>,
    readable: usize,
    flights: VecDeque<Flight>,
    /// When the last flight lands: no later one lands earlier.
    last: Instant,
    /// When the line has carried everything written so far.
    line_free: Instant,
    stalled: bool,
    finished: bool,
    ended: bool,
}

#[derive(Debug)]
struct Flight {
    at: Instant,
    len: usize,
    fin: bool,
}

/// What became of a write.
#[derive(Copy, Clone, PartialEq, Eq, Debug)]
pub enum Written {
    /// This many bytes were taken.
    Taken(usize),
    /// There is no room until the reader has read.
    Full,
}

impl Link {
    /// Writes the first bytes of `parts`, as many as fit and fate allows. A broken link takes bytes and loses them, unless
    /// its path is stalled: then nobody has told the writer.
    pub fn write(&mut self, from: Side, parts: &[&[u8]], now: Instant, plan: &Faults, rng: &mut Rng) -> Written {
        let pipe = &mut self.pipes[from.index()];
        let offered = parts.iter().map(|part| part.len()).sum::<usize>();
        if self.broken && !pipe.stalled {
            return Written::Taken(offered);
        }
        let room = plan.buffer.saturating_sub(pipe.bytes.len());
        let mut len = offered.min(room);
        if len == 0 {
            return if offered == 0 { Written::Taken(0) } else { Written::Full };
        }
        if len > 1 && rng.chance(plan.short_write) {
            let most = if rng.chance(500_000) { len - 1 } else { (len - 1).min(16) };
            len = 1 + rng.index(most);
        }
        let mut left = len;
        for part in parts {
            let taken = part.len().min(left);
            pipe.bytes.extend(&part[..taken]);
            left -= taken;
        }
        if rng.chance(plan.flip) {
            let end = pipe.bytes.len();
            let at = end - 1 - rng.index(len);
            pipe.bytes[at] ^= 1 << rng.below(8);
            self.flips += 1;
        }
        pipe.launch(len, false, now, plan, rng);
        Written::Taken(len)
    }

    /// Sends FIN after everything written. Nothing may be written afterwards.
    pub fn finish(&mut self, from: Side, now: Instant, plan: &Faults, rng: &mut Rng) {
        let pipe = &mut self.pipes[from.index()];
        if !self.broken && !pipe.finished {
            pipe.finished = true;
            pipe.launch(0, true, now, plan, rng);
        }
    }

    /// When the next bytes, or the FIN, land at `to`. None if nothing flies there or the path is stalled.
    pub fn next_landing(&self, to: Side) -> Option<Instant> {
        let pipe = &self.pipes[to.other().index()];
        if pipe.stalled { None } else { pipe.flights.front().map(|flight| flight.at) }
    }

    /// Lets everything land at `to` that is due.
    pub fn land(&mut self, to: Side, now: Instant) {
        let pipe = &mut self.pipes[to.other().index()];
        while !pipe.stalled
            && pipe.flights.front().is_some_and(|flight| flight.at <= now)
            && let Some(flight) = pipe.flights.pop_front()
        {
            pipe.readable += flight.len;
            pipe.ended |= flight.fin;
        }
    }

    /// Bytes `to` can read now.
    pub const fn readable(&self, to: Side) -> usize {
        self.pipes[to.other().index()].readable
    }

    /// Whether `to` has read everything up to the FIN.
    pub const fn at_end(&self, to: Side) -> bool {
        let pipe = &self.pipes[to.other().index()];
        pipe.ended && pipe.readable == 0
    }

    /// The first bytes `to` can read, at most `most`; fewer if fate allows fewer.
    pub fn peek(&self, to: Side, most: usize, plan: &Faults, rng: &mut Rng) -> &[u8] {
        let pipe = &self.pipes[to.other().index()];
        let (front, _) = pipe.bytes.as_slices();
        let mut len = pipe.readable.min(front.len()).min(most);
        if len > 1 && rng.chance(plan.short_read) {
            len = 1 + rng.index((len - 1).min(16));
        }
        &front[..len]
    }

    /// Takes the first `len` readable bytes away, which makes room for as many.
    pub fn consume(&mut self, to: Side, len: usize) {
        let pipe = &mut self.pipes[to.other().index()];
        let len = len.min(pipe.readable);
        pipe.bytes.drain(..len);
        pipe.readable -= len;
    }

    /// Nothing lands any more from `from`, but the buffer still takes bytes.
    pub const fn stall(&mut self, from: Side) {
        self.pipes[from.index()].stalled = true;
    }

    /// What was stalled flies on and lands one latency from `now` at the earliest.
    pub fn resume(&mut self, from: Side, now: Instant, plan: &Faults) {
        let pipe = &mut self.pipes[from.index()];
        if std::mem::take(&mut pipe.stalled) {
            let earliest = now + plan.latency;
            pipe.flights.iter_mut().for_each(|flight| flight.at = flight.at.max(earliest));
            pipe.last = pipe.last.max(earliest);
        }
    }

    /// Whether the path from `from` is stalled.
    pub const fn is_stalled(&self, from: Side) -> bool {
        self.pipes[from.index()].stalled
    }

    /// Whether anything from `from` has not landed.
    pub fn is_flying(&self, from: Side) -> bool {
        !self.pipes[from.index()].flights.is_empty()
    }

    /// When the last thing from `from` lands, or has landed.
    pub const fn last_landing(&self, from: Side) -> Instant {
        self.pipes[from.index()].last
    }

    /// The connection is reset. What flies is lost, except from `keeps`, whose bytes overtook the reset.
    pub fn break_off(&mut self, keeps: Option<Side>) {
        self.broken = true;
        for side in Side::BOTH {
            if keeps != Some(side) {
                let pipe = &mut self.pipes[side.index()];
                pipe.flights.clear();
                pipe.bytes.truncate(pipe.readable);
            }
        }
    }

    /// Whether the connection has been reset.
    pub const fn is_broken(&self) -> bool {
        self.broken
    }

    /// Bits flipped so far.
    pub const fn flips(&self) -> u64 {
        self.flips
    }

    /// A fresh link in the memory of this one.
    pub fn renew(&mut self) {
        for pipe in &mut self.pipes {
            pipe.bytes.clear();
            pipe.flights.clear();
            let (bytes, flights) = (std::mem::take(&mut pipe.bytes), std::mem::take(&mut pipe.flights));
            *pipe = Pipe { bytes, flights, ..Pipe::default() };
        }
        self.broken = false;
        self.flips = 0;
    }
}

impl Pipe {
    fn launch(&mut self, len: usize, fin: bool, now: Instant, plan: &Faults, rng: &mut Rng) {
        self.line_free = self.line_free.max(now) + std::time::Duration::from_nanos(plan.nanos_per_byte * len as u64);
        let at = (self.line_free + plan.latency + rng.up_to(plan.jitter)).max(self.last);
        self.last = at;
        self.flights.push_back(Flight { at, len, fin });
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    const FROM: Side = Side::Dialer;
    const TO: Side = Side::Listener;

    fn at(micros: u64) -> Instant {
        Instant::ZERO + Duration::from_micros(micros)
    }

    fn read_all(link: &mut Link, plan: &Faults, rng: &mut Rng) -> Vec<u8> {
        let mut all = Vec::new();
        while link.readable(TO) > 0 {
            let piece = link.peek(TO, 1 << 20, plan, rng).to_vec();
            link.consume(TO, piece.len());
            all.extend(piece);
        }
        all
    }

    #[test]
    fn bytes_land_after_the_latency_in_order_and_then_the_end() {
        let (plan, mut rng, mut link) = (Faults::calm(), Rng::new(1), Link::default());
        assert_eq!(link.write(FROM, &[b"ab", b"c"], at(0), &plan, &mut rng), Written::Taken(3));
        link.finish(FROM, at(0), &plan, &mut rng);
        link.land(TO, at(49));
        assert_eq!((link.readable(TO), link.next_landing(TO)), (0, Some(at(50))));
        link.land(TO, at(50));
        assert!(!link.at_end(TO));
        assert_eq!(read_all(&mut link, &plan, &mut rng), b"abc");
        assert!(link.at_end(TO) && !link.at_end(FROM));
    }

    #[test]
    fn jitter_never_reorders_and_short_operations_lose_nothing() {
        let mut plan = Faults { jitter: Duration::from_millis(5), ..Faults::calm() };
        (plan.short_write, plan.short_read, plan.buffer) = (700_000, 700_000, 40);
        let (mut rng, mut link) = (Rng::new(5), Link::default());
        let sent: Vec<u8> = (0..5000u32).map(|n| (n % 251) as u8).collect();
        let (mut received, mut done, mut now, mut fulls) = (Vec::new(), 0, Instant::ZERO, 0);
        while received.len() < sent.len() {
            match link.write(FROM, &[&sent[done..]], now, &plan, &mut rng) {
                Written::Taken(len) => done += len,
                Written::Full => fulls += 1,
            }
            now = link.next_landing(TO).unwrap_or(now).max(now);
            link.land(TO, now);
            let most = if rng.chance(500_000) { 64 } else { 0 };
            let piece = link.peek(TO, most, &plan, &mut rng).to_vec();
            link.consume(TO, piece.len());
            received.extend(piece);
        }
        assert_eq!(received, sent);
        assert!(fulls > 0, "the small buffer was never full");
    }

    #[test]
    fn a_full_buffer_takes_nothing_until_the_reader_has_read() {
        let plan = Faults { buffer: 4, ..Faults::calm() };
        let (mut rng, mut link) = (Rng::new(1), Link::default());
        assert_eq!(link.write(FROM, &[b"abcdef"], at(0), &plan, &mut rng), Written::Taken(4));
        assert_eq!(link.write(FROM, &[b"ef"], at(0), &plan, &mut rng), Written::Full);
        link.land(TO, at(50));
        link.consume(TO, 3);
        assert_eq!(link.write(FROM, &[b"ef"], at(50), &plan, &mut rng), Written::Taken(2));
    }

    #[test]
    fn a_stalled_path_delivers_nothing_until_it_resumes() {
        let (plan, mut rng, mut link) = (Faults::calm(), Rng::new(1), Link::default());
        link.write(FROM, &[b"early"], at(0), &plan, &mut rng);
        link.stall(FROM);
        link.write(FROM, &[b"late"], at(10), &plan, &mut rng);
        link.land(TO, at(1_000_000));
        assert_eq!((link.readable(TO), link.next_landing(TO)), (0, None));
        link.resume(FROM, at(1_000_000), &plan);
        assert_eq!(link.next_landing(TO), Some(at(1_000_050)));
        link.land(TO, at(1_000_050));
        assert_eq!(read_all(&mut link, &plan, &mut rng), b"earlylate");
    }

    #[test]
    fn a_reset_loses_what_flies_and_keeps_what_landed() {
        let (plan, mut rng, mut link) = (Faults::calm(), Rng::new(1), Link::default());
        link.write(FROM, &[b"landed"], at(0), &plan, &mut rng);
        link.land(TO, at(50));
        link.write(FROM, &[b"lost"], at(50), &plan, &mut rng);
        link.break_off(None);
        link.land(TO, at(1000));
        assert_eq!(read_all(&mut link, &plan, &mut rng), b"landed");
        assert_eq!(link.write(FROM, &[b"void"], at(60), &plan, &mut rng), Written::Taken(4));
        assert!(!link.is_flying(FROM));
    }

    #[test]
    fn a_flip_changes_exactly_one_bit() {
        let plan = Faults { flip: 1_000_000, ..Faults::calm() };
        let (mut rng, mut link) = (Rng::new(1), Link::default());
        link.write(FROM, &[&[0; 100]], at(0), &plan, &mut rng);
        link.land(TO, at(50));
        let ones: u32 = read_all(&mut link, &plan, &mut rng).iter().map(|byte| byte.count_ones()).sum();
        assert_eq!((ones, link.flips()), (1, 1));
    }

    #[test]
    fn a_narrow_line_makes_large_writes_late() {
        let plan = Faults { nanos_per_byte: 1000, ..Faults::calm() };
        let (mut rng, mut link) = (Rng::new(1), Link::default());
        link.write(FROM, &[&[0; 100]], at(0), &plan, &mut rng);
        assert_eq!(link.next_landing(TO), Some(at(150)));
    }
}
