//! Links every floor of `ringplane-core` into a static library that has no `std`.
//!
//! ```text
//! cargo build --manifest-path core/no-std-proof/Cargo.toml --no-default-features
//! cargo build --manifest-path core/no-std-proof/Cargo.toml --features alloc
//! ```
//! The panic handler below is the proof: `std` brings its own, and a program may have one. As soon as anything underneath
//! pulls `std` in, the build ends with E0152 (duplicate lang item `panic_impl`) and names the crate that did it.
#![no_std]

use core::panic::PanicInfo;
use core::time::Duration;

use ringplane_core::id::InstanceId;
use ringplane_core::retry::{backoff, budget};
use ringplane_core::rng::Rng;
use ringplane_core::route::eligible::{Ask, Candidate, Slate};
use ringplane_core::route::policy::pick::Pick;
use ringplane_core::route::{policy, rules};
use ringplane_core::stats::Histogram;
use ringplane_core::time::{Deadline, Instant, Reason};
use ringplane_core::wire::parse::{Format, Limits};
use ringplane_core::wire::{checksum, mux};

// Linked whether or not core calls them yet.
use {crc as _, heapless as _, xxhash_rust as _, zerocopy as _};

#[panic_handler]
fn panic(_: &PanicInfo<'_>) -> ! {
    loop {}
}

/// What an embedder without an allocator would call. The result depends on every part, so none is left out.
#[unsafe(no_mangle)]
pub extern "C" fn ringplane_proof(seed: u64) -> u64 {
    ground(seed) ^ retry(seed) ^ route(seed) ^ with_alloc(seed)
}

fn ground(seed: u64) -> u64 {
    let at = Instant::from_nanos(seed) + Duration::from_millis(1);
    let soonest = Deadline::soonest(Some(Deadline { at, why: Reason::Ping }), None);
    let mut histogram = Histogram::new();
    histogram.record(soonest.map_or(0, |deadline| deadline.at.as_nanos()));
    let bytes = seed.to_be_bytes();
    let crc = checksum::Crc32c::PORTABLE.of(&bytes);
    let preface = mux::Preface::parse(&bytes, &Limits::default()).is_ok();
    let head = mux::Head::parse(&bytes, &Limits::default(), checksum::Crc32c::PORTABLE).is_ok();
    checksum::xxh3(&bytes, &bytes)
        ^ u64::from(crc)
        ^ u64::from(preface | head)
        ^ histogram.quantile(990_000).unwrap_or(0)
}

fn retry(seed: u64) -> u64 {
    let mut rng = Rng::new(seed);
    let pause = backoff::Backoff::new(backoff::Config::default()).pause(&mut rng).unwrap_or_default();
    let mut budget = budget::Budget::new(budget::Config::default());
    u64::from(budget.failed()) ^ u64::from(pause.subsec_nanos())
}

fn route(seed: u64) -> u64 {
    let mut rng = Rng::new(seed);
    let now = Instant::from_nanos(seed);
    let mut candidates = [1, 2, 3].map(|id| Candidate::new(InstanceId(id)));
    if let Some(first) = candidates.first_mut() {
        first.health.lost(now, &rules::Config::default(), &mut rng);
    }
    let slate = Slate { ask: Ask::default(), candidates: &candidates, allow: &[], avoid: &[InstanceId(2)], now };
    let picks = policy::any::ALL.map(|row| {
        let policy = policy::AnyPolicy::from_name(row.name).or(policy::AnyPolicy::from_name("direct:3"));
        policy.ok().and_then(|mut policy| policy.pick(&slate, &mut rng).ok()).unwrap_or(3) as u64
    });
    picks.iter().sum()
}

#[cfg(not(feature = "alloc"))]
fn with_alloc(_: u64) -> u64 {
    0
}

#[cfg(feature = "alloc")]
use self::heap::with_alloc;

#[cfg(feature = "alloc")]
mod heap {
    //! The floors that need an allocator.

    use core::alloc::{GlobalAlloc, Layout};

    use ringplane_core::buf::{SendQueue, Slab, Wheel};
    use ringplane_core::id::{ConnId, EndpointId, InstanceId};
    use ringplane_core::mux::{Config, Connection, Role};
    use ringplane_core::protocol::CloseReason;
    use ringplane_core::route::{Instances, rules};
    use ringplane_core::time::{Instant, Reason};

    // Linked whether or not core calls them yet.
    use {bytes as _, hashbrown as _, serde as _, serde_json as _};

    /// An allocator that never has any memory: the library is linked, not run.
    struct Nothing;

    // SAFETY: no memory is ever handed out, so no rule about handed out memory can be broken.
    unsafe impl GlobalAlloc for Nothing {
        unsafe fn alloc(&self, _: Layout) -> *mut u8 {
            core::ptr::null_mut()
        }

        unsafe fn dealloc(&self, _: *mut u8, _: Layout) {}
    }

    #[global_allocator]
    static ALLOCATOR: Nothing = Nothing;

    pub(crate) fn with_alloc(seed: u64) -> u64 {
        let now = Instant::from_nanos(seed);
        let mut slab = Slab::new();
        let key = slab.insert(seed);
        let mut wheel = Wheel::default();
        wheel.arm(key.to_u64(), Reason::Idle, now);
        let mut queue = SendQueue::new(1 << 16);
        queue.push(&seed.to_be_bytes());
        let mut connection = Connection::new(Role::Dialer, Config::default(), now);
        let received = connection.handle_recv(&seed.to_be_bytes(), now).is_ok();
        let mut instances = Instances::new(rules::Config::default());
        instances.update([(InstanceId(seed), EndpointId::new("a", "b", "c"))], |_, _| {});
        let refused = CloseReason::from_errno(seed as i32) == CloseReason::Refused;
        let left = wheel.expire(now).map_or(0, |(token, _)| token) ^ queue.len() as u64 ^ instances.len() as u64;
        left ^ u64::from(received | refused) ^ ConnId::dialed(seed).number()
    }
}
