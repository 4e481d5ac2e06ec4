//! Getting a ring from whatever kernel and limits there are.

use std::io;

use io_uring::{Builder, IoUring};

use crate::error::Refusal;

/// The smallest ring: entries of the queues, receive buffers.
const FEWEST: (u32, u32, u16) = (32, 64, 16);

/// What ring to ask for.
#[derive(Copy, Clone, PartialEq, Eq, Debug)]
pub(crate) struct Sizes {
    /// Submission queue.
    pub(crate) entries: u32,
    /// Completion queue.
    pub(crate) completions: u32,
    /// Receive buffers.
    pub(crate) buffers: u16,
    /// Bytes of one.
    pub(crate) buffer: usize,
    /// The first flavor to try.
    pub(crate) flavor: Flavor,
}

impl Sizes {
    /// The same, smaller where locked memory is short.
    pub(crate) fn within_limits(mut self) -> Self {
        if let Some(share) = share() {
            while self.locked() > share && self.shrink() {}
        }
        self
    }

    /// Halves what can be halved; `false`: this is the smallest ring.
    pub(crate) fn shrink(&mut self) -> bool {
        let before = *self;
        self.entries = (self.entries / 2).max(FEWEST.0).min(self.entries);
        self.completions = (self.completions / 2).max(FEWEST.1).min(self.completions);
        self.buffers = (self.buffers / 2).max(FEWEST.2).min(self.buffers);
        *self != before
    }

    /// Bytes of locked memory the kernel charges, roughly: whole pages of submissions, of both queues, of buffer entries.
    fn locked(self) -> u64 {
        let page = rustix::param::page_size() as u64;
        let (entries, completions) = (u64::from(self.entries), u64::from(self.completions));
        let parts = [64 * entries, 4 * entries + 16 * completions + 512, 16 * u64::from(self.buffers)];
        parts.iter().map(|bytes| bytes.next_multiple_of(page)).sum()
    }
}

/// What one ring may lock so that every CPU can have one and half of the user's limit stays for others; `None`: no limit.
fn share() -> Option<u64> {
    let exempt = rustix::thread::capabilities(None)
        .is_ok_and(|sets| sets.effective.contains(rustix::thread::CapabilitySet::IPC_LOCK));
    let cpus = std::thread::available_parallelism().map_or(1, usize::from) as u64;
    memlock().filter(|_| !exempt).map(|limit| limit / (2 * cpus))
}

/// Which of the kernel's ways to run completions the ring uses, best first.
#[derive(Copy, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub enum Flavor {
    /// When the thread asks for them: SINGLE_ISSUER and DEFER_TASKRUN (Linux 6.1).
    Deferred,
    /// When the thread enters the kernel anyway: SINGLE_ISSUER and COOP_TASKRUN (Linux 6.0).
    Cooperative,
    /// When the kernel likes.
    Plain,
}

impl Flavor {
    /// All of them, best first.
    pub const ALL: [Self; 3] = [Self::Deferred, Self::Cooperative, Self::Plain];

    fn apply(self, builder: &mut Builder) {
        builder.setup_clamp().setup_submit_all();
        match self {
            Self::Deferred => builder.setup_single_issuer().setup_defer_taskrun().setup_taskrun_flag(),
            Self::Cooperative => builder.setup_single_issuer().setup_coop_taskrun().setup_taskrun_flag(),
            Self::Plain => builder,
        };
    }
}

/// What went wrong on the way to a ring.
#[derive(Debug)]
pub(crate) enum Setup {
    /// No ring of any flavor and size.
    Build(io::Error),
    /// A feature nothing can replace is missing.
    Missing(&'static str),
    /// The receive memory was not accepted.
    Register(io::Error),
}

impl Setup {
    /// Whether locked memory is short.
    pub(crate) fn is_short(&self) -> bool {
        let (Self::Build(error) | Self::Register(error)) = self else { return false };
        error.raw_os_error() == Some(libc::ENOMEM)
    }
}

/// A ring in the best flavor the kernel knows.
pub(crate) fn build(sizes: Sizes) -> Result<(IoUring, Flavor), Setup> {
    let mut last = io::Error::from_raw_os_error(libc::EINVAL);
    for flavor in Flavor::ALL.into_iter().filter(|flavor| *flavor >= sizes.flavor) {
        let mut builder = IoUring::builder();
        flavor.apply(&mut builder);
        builder.setup_cqsize(sizes.completions.max(sizes.entries));
        match builder.build(sizes.entries) {
            Ok(io) if !io.params().is_feature_ext_arg() || !io.params().is_feature_nodrop() => {
                return Err(Setup::Missing("timed waits (Linux 5.11)"));
            }
            Ok(io) => return Ok((io, flavor)),
            Err(error) if error.raw_os_error() == Some(libc::EINVAL) => last = error,
            Err(error) => return Err(Setup::Build(error)),
        }
    }
    Err(Setup::Build(last))
}

/// The reason behind a failed setup, in the terms of an operator.
pub(crate) fn refusal(setup: Setup) -> Refusal {
    match setup {
        Setup::Missing(missing) => Refusal::TooOld { missing, kernel: kernel() },
        Setup::Build(error) => match error.raw_os_error() {
            Some(libc::EPERM) => match disabled() {
                Some(value @ 1..) => Refusal::Disabled { value },
                _ => Refusal::Seccomp { errno: libc::EPERM },
            },
            Some(libc::ENOSYS) => Refusal::Seccomp { errno: libc::ENOSYS },
            Some(libc::ENOMEM) => Refusal::Memlock { limit: memlock() },
            Some(libc::EINVAL) => Refusal::TooOld { missing: "SUBMIT_ALL (Linux 5.18)", kernel: kernel() },
            errno => Refusal::SelfTest { step: "set up", errno: errno.unwrap_or(0) },
        },
        Setup::Register(error) => match error.raw_os_error() {
            Some(libc::EPERM | libc::ENOSYS) => Refusal::Seccomp { errno: error.raw_os_error().unwrap_or(libc::EPERM) },
            Some(libc::ENOMEM) => Refusal::Memlock { limit: memlock() },
            Some(libc::EINVAL) => Refusal::TooOld { missing: "provided-buffer rings (Linux 5.19)", kernel: kernel() },
            errno => Refusal::SelfTest { step: "register receive memory", errno: errno.unwrap_or(0) },
        },
    }
}

/// The kernel's release.
pub(crate) fn kernel() -> String {
    rustix::system::uname().release().to_string_lossy().into_owned()
}

/// The soft limit on locked memory in bytes; `None`: unlimited.
pub(crate) fn memlock() -> Option<u64> {
    rustix::process::getrlimit(rustix::process::Resource::Memlock).current
}

fn disabled() -> Option<u8> {
    std::fs::read_to_string("/proc/sys/kernel/io_uring_disabled").ok()?.trim().parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_shrink_to_the_smallest_ring_and_no_further() {
        let smallest = Sizes { entries: 32, completions: 64, buffers: 8, buffer: 100, flavor: Flavor::Plain };
        let mut sizes = Sizes { entries: 1024, completions: 65_536, ..smallest };
        while sizes.shrink() {}
        assert_eq!(sizes, smallest);
        assert!(sizes.locked() <= 3 * rustix::param::page_size() as u64);
    }
}
