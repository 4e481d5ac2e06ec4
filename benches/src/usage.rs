//! What a process uses: time on a CPU, context switches, memory.

use std::fs;
use std::path::PathBuf;
use std::sync::{Mutex, PoisonError};

use rustix::time::{ClockId, clock_gettime};
use serde::{Deserialize, Serialize};

/// What a process has used since it began.
#[derive(Copy, Clone, PartialEq, Eq, Default, Debug, Serialize, Deserialize)]
pub struct Usage {
    /// Nanoseconds on a CPU, user and system, all threads.
    pub cpu_ns: u64,
    /// Context switches by waiting, of the threads that live.
    pub voluntary: u64,
    /// Context switches by force, of the threads that live.
    pub involuntary: u64,
    /// Bytes of memory resident now.
    pub resident: u64,
    /// Bytes of memory resident at most.
    pub peak: u64,
}

/// Other processes whose use counts with this one's.
static COUNTED: Mutex<Vec<u32>> = Mutex::new(Vec::new());

impl Usage {
    /// From now on, what process `pid` uses counts with this one: for engines that need a third.
    pub fn count(pid: u32) {
        COUNTED.lock().unwrap_or_else(PoisonError::into_inner).push(pid);
    }

    /// Of this process and those that count with it, now.
    pub fn now() -> Self {
        let cpu = clock_gettime(ClockId::ProcessCPUTime);
        let mut usage = Self { cpu_ns: cpu.tv_sec as u64 * 1_000_000_000 + cpu.tv_nsec as u64, ..Self::default() };
        usage.add("self");
        for pid in COUNTED.lock().unwrap_or_else(PoisonError::into_inner).iter() {
            for task in tasks(&pid.to_string()) {
                // Nanoseconds on a CPU, nanoseconds waited for one, times put on one.
                let schedule = fs::read_to_string(task.join("schedstat")).unwrap_or_default();
                usage.cpu_ns += schedule.split(' ').next().and_then(|ns| ns.parse().ok()).unwrap_or(0);
            }
            usage.add(&pid.to_string());
        }
        usage
    }

    /// Adds memory and context switches of a process.
    fn add(&mut self, process: &str) {
        let status = fs::read_to_string(format!("/proc/{process}/status")).unwrap_or_default();
        self.resident += field(&status, "VmRSS:") * 1024;
        self.peak += field(&status, "VmHWM:") * 1024;
        for task in tasks(process) {
            let status = fs::read_to_string(task.join("status")).unwrap_or_default();
            self.voluntary += field(&status, "voluntary_ctxt_switches:");
            self.involuntary += field(&status, "nonvoluntary_ctxt_switches:");
        }
    }

    /// What was used from `earlier` to now; memory as it is now.
    #[must_use]
    pub const fn since(self, earlier: Self) -> Self {
        Self {
            cpu_ns: self.cpu_ns.saturating_sub(earlier.cpu_ns),
            voluntary: self.voluntary.saturating_sub(earlier.voluntary),
            involuntary: self.involuntary.saturating_sub(earlier.involuntary),
            ..self
        }
    }
}

/// The threads of a process.
fn tasks(process: &str) -> impl Iterator<Item = PathBuf> {
    fs::read_dir(format!("/proc/{process}/task")).into_iter().flatten().flatten().map(|task| task.path())
}

/// The number after `name` at the start of a line; 0 without such a line.
fn field(status: &str, name: &str) -> u64 {
    let value = status.lines().find_map(|line| line.strip_prefix(name));
    value.and_then(|value| value.split_whitespace().next()?.parse().ok()).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, Instant};

    use super::*;

    #[test]
    fn what_a_process_uses_grows_and_is_not_nothing() {
        let before = Usage::now();
        assert!(before.resident > 1 << 20 && before.peak >= before.resident, "{before:?}");
        let begun = Instant::now();
        while begun.elapsed() < Duration::from_millis(5) {}
        let used = Usage::now().since(before);
        assert!(used.cpu_ns > 1_000_000, "{used:?}");
    }
}
