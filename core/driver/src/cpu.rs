//! Keeping a thread on a CPU.

use std::io;

use rustix::thread::{CpuSet, sched_setaffinity};

/// Keeps the calling thread on one CPU, by its number from 0.
///
/// # Errors
/// What the system says: `EINVAL` for a CPU that does not exist or that the process may not use.
pub fn pin(cpu: usize) -> io::Result<()> {
    if cpu >= CpuSet::MAX_CPU {
        return Err(rustix::io::Errno::INVAL.into());
    }
    let mut set = CpuSet::new();
    set.set(cpu);
    Ok(sched_setaffinity(None, &set)?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cpu_that_does_not_exist_is_refused() {
        assert_eq!(pin(1_000_000).unwrap_err().raw_os_error(), Some(22));
    }
}
