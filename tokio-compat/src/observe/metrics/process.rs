//! Metrics of the process itself, under the names that all exporters use for them.

use std::fs;

use rustix::param::{clock_ticks_per_second, page_size};
use rustix::process::{Resource, getrlimit};

use crate::observe::metrics::family::{Family, Unit, Value};

/// What the kernel says of this process; what it does not say is left out.
pub fn families() -> Vec<Family> {
    let stat = fs::read_to_string("/proc/self/stat").ok().and_then(|text| Stat::read(&text));
    let booted = fs::read_to_string("/proc/stat").ok().and_then(|text| booted(&text));
    let seconds = |ticks: u64| ticks as f64 / clock_ticks_per_second() as f64;
    let one = |family: Family, value: Option<Value>| match value {
        Some(value) => family.with(Vec::new(), value),
        None => family,
    };
    let of_stat = |read: fn(&Stat) -> u64| stat.as_ref().map(read);
    let started = of_stat(|stat| stat.started).zip(booted).map(|(ticks, booted)| booted as f64 + seconds(ticks));
    let memory = of_stat(|stat| stat.resident_pages).map(|pages| pages * page_size() as u64);
    vec![
        one(
            Family::counter("process_cpu", "Processor time used, user and system").of(Unit::Seconds),
            of_stat(|stat| stat.processor).map(|ticks| Value::Real(seconds(ticks))),
        ),
        one(
            Family::gauge("process_start_time", "When the process started, since the epoch").of(Unit::Seconds),
            started.map(Value::Real),
        ),
        one(Family::gauge("process_resident_memory", "Memory in use").of(Unit::Bytes), memory.map(Value::Whole)),
        one(
            Family::gauge("process_virtual_memory", "Addresses in use").of(Unit::Bytes),
            of_stat(|stat| stat.addresses).map(Value::Whole),
        ),
        one(Family::gauge("process_threads", "Threads"), of_stat(|stat| stat.threads).map(Value::Whole)),
        one(Family::gauge("process_open_fds", "Descriptors open"), open_descriptors().map(Value::Whole)),
        one(
            Family::gauge("process_max_fds", "Descriptors that may be open"),
            getrlimit(Resource::Nofile).current.map(Value::Whole),
        ),
    ]
}

/// What is of interest in `/proc/self/stat`.
#[derive(PartialEq, Eq, Debug)]
struct Stat {
    /// Ticks, user and system.
    processor: u64,
    threads: u64,
    /// Ticks after the machine was booted.
    started: u64,
    /// Bytes.
    addresses: u64,
    resident_pages: u64,
}

impl Stat {
    fn read(text: &str) -> Option<Self> {
        // The name of the program, in parentheses, may hold anything.
        let fields: Vec<&str> = text.rsplit_once(')')?.1.split_whitespace().collect();
        let field = |number: usize| fields.get(number)?.parse::<u64>().ok();
        Some(Self {
            processor: field(11)? + field(12)?,
            threads: field(17)?,
            started: field(19)?,
            addresses: field(20)?,
            resident_pages: field(21)?,
        })
    }
}

/// Seconds since the epoch at which the machine was booted, as `/proc/stat` has it.
fn booted(text: &str) -> Option<u64> {
    text.lines().find_map(|line| line.strip_prefix("btime "))?.trim().parse().ok()
}

/// Linux tells the number as the size of the folder since 6.2; before that they are counted, this look at them aside.
fn open_descriptors() -> Option<u64> {
    match fs::metadata("/proc/self/fd").ok()?.len() {
        0 => Some((fs::read_dir("/proc/self/fd").ok()?.count() as u64).saturating_sub(1)),
        told => Some(told),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_kernels_line_is_read_whatever_the_program_is_called() {
        let line = "7 (a) b) S 1 7 7 0 -1 4194560 1 2 3 4 50 6 0 0 20 0 9 0 123 4096 77 18446744073709551615 1 1";
        let read = Stat { processor: 56, threads: 9, started: 123, addresses: 4096, resident_pages: 77 };
        assert_eq!(Stat::read(line), Some(read));
        assert_eq!(Stat::read("7 (short) S 1"), None);
        assert_eq!(booted("cpu 1 2\nbtime 1700000000\nprocesses 3\n"), Some(1_700_000_000));
    }

    #[test]
    fn this_process_tells_all_of_it() {
        for family in families() {
            assert_eq!(family.samples.len(), 1, "{}", family.full_name());
        }
    }
}
