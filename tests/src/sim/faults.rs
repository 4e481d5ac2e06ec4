//! The plan of a simulated network: how fast it is, how much it holds, and what goes wrong how often.

use std::time::Duration;

use super::rng::Rng;

/// What a network does to its connections. Chances are per million.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Faults {
    /// Least time from one host to another, one way.
    pub latency: Duration,
    /// Added to `latency` at random for each write, without reordering a direction.
    pub jitter: Duration,
    /// Nanoseconds each byte keeps the line busy; 0 is an infinitely fast line.
    pub nanos_per_byte: u64,
    /// Bytes one direction of a connection holds between the writer and the reader.
    pub buffer: usize,
    /// Largest single receive, in bytes.
    pub receive: usize,
    /// Limit of each connection's send queue, in bytes.
    pub queue: usize,
    /// Longest time a host takes from one operation to the next.
    pub turn: Duration,
    /// How late a timer may fire.
    pub late_timer: Duration,
    /// Chance per turn that a machine is told the time without having asked.
    pub early_timer: u32,
    /// Chance per event that a host takes the next one before it drains.
    pub batch: u32,
    /// Whether ready tasks run in a random order rather than in the order they were woken.
    pub shuffled_tasks: bool,
    /// Chance per write that fewer bytes are taken than would fit.
    pub short_write: u32,
    /// Chance per receive that a few bytes are delivered rather than all.
    pub short_read: u32,
    /// Chance per write that one bit of it flips on the way.
    pub flip: u32,
    /// Chance per write that the connection is reset soon after.
    pub reset: u32,
    /// Chance per connection that the path swallows everything from some moment on, for good.
    pub hole: u32,
    /// Chance per dial that it fails at once: refused, unreachable, no descriptor, no port.
    pub dial_error: u32,
    /// Chance per dial that nobody answers it.
    pub dial_lost: u32,
    /// Chance per aborted connection that the peer sees a reset although nothing was unread.
    pub hard_close: u32,
    /// Chance per flushed connection that the closing host waits for the peer's FIN.
    pub linger: u32,
    /// Whether a connection that is being flushed is asked for more when its write completes. The drain rule promises
    /// only what has been pulled, so a machine has to live with both.
    pub pull_flushing: bool,
    /// When the operating system gives up on an unanswered dial.
    pub dial_timeout: Duration,
    /// When the operating system gives up on bytes nobody acknowledges.
    pub silence_timeout: Duration,
}

impl Faults {
    /// A fast local network on which nothing goes wrong and nothing is late.
    pub const fn calm() -> Self {
        Self {
            latency: Duration::from_micros(50),
            jitter: Duration::ZERO,
            nanos_per_byte: 0,
            buffer: 256 << 10,
            receive: 64 << 10,
            queue: 256 << 10,
            turn: Duration::from_micros(1),
            late_timer: Duration::ZERO,
            early_timer: 0,
            batch: 0,
            shuffled_tasks: false,
            short_write: 0,
            short_read: 0,
            flip: 0,
            reset: 0,
            hole: 0,
            dial_error: 0,
            dial_lost: 0,
            hard_close: 0,
            linger: 0,
            pull_flushing: false,
            dial_timeout: Duration::from_secs(127),
            silence_timeout: Duration::from_secs(900),
        }
    }

    /// A network on which no connection is ever lost, but bytes come in any portions, at any speed, in any company.
    /// Each trait is drawn on its own, so that every seed has another mixture.
    pub const fn ragged(seed: u64) -> Self {
        let mut rng = Rng::new(seed ^ 0x7a66_6564);
        let mut plan = Self::calm();
        plan.latency = rng.up_to(Duration::from_micros(200));
        plan.jitter = sometimes(&mut rng, Duration::from_millis(2));
        plan.late_timer = sometimes(&mut rng, Duration::from_millis(1));
        plan.turn = rng.up_to(Duration::from_micros(20));
        if rng.chance(300_000) {
            plan.nanos_per_byte = rng.below(20);
        }
        if rng.chance(300_000) {
            // Smaller ones make a network of bytes a second, on which calls time out for good reason.
            plan.buffer = 128 + rng.index(8 << 10);
        }
        if rng.chance(300_000) {
            plan.receive = 1 + rng.index(4 << 10);
        }
        if rng.chance(300_000) {
            plan.queue = 1 + rng.index(16 << 10);
        }
        plan.early_timer = some_chance(&mut rng, 100_000);
        plan.batch = some_chance(&mut rng, 800_000);
        plan.shuffled_tasks = rng.chance(500_000);
        plan.short_write = some_chance(&mut rng, 500_000);
        plan.short_read = some_chance(&mut rng, 500_000);
        plan.hard_close = some_chance(&mut rng, 1_000_000);
        plan.linger = some_chance(&mut rng, 1_000_000);
        plan.pull_flushing = rng.chance(500_000);
        plan
    }

    /// A ragged network that also loses connections, dials and whole paths.
    pub const fn rough(seed: u64) -> Self {
        let mut rng = Rng::new(seed ^ 0x726f_7567);
        let mut plan = Self::ragged(seed);
        plan.reset = some_chance(&mut rng, 20_000);
        plan.hole = some_chance(&mut rng, 100_000);
        plan.dial_error = some_chance(&mut rng, 300_000);
        plan.dial_lost = some_chance(&mut rng, 100_000);
        plan
    }
}

impl Default for Faults {
    fn default() -> Self {
        Self::calm()
    }
}

/// A chance up to `most`, or none at all, half and half.
const fn some_chance(rng: &mut Rng, most: u32) -> u32 {
    if rng.chance(500_000) { rng.below(most as u64) as u32 } else { 0 }
}

/// A duration up to `longest`, or none at all, half and half.
const fn sometimes(rng: &mut Rng, longest: Duration) -> Duration {
    if rng.chance(500_000) { rng.up_to(longest) } else { Duration::ZERO }
}
