//! `ringplane doctor`: what this machine offers, and which driver would run.

use ringplane::{DriverChoice, DriverInfo};
use rustix::process::{Resource, Rlimit, getrlimit};
use serde_json::{Value, json};

use crate::exit::Failed;
use crate::limits;
use crate::streams::print;

#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// One JSON object instead of lines
    #[arg(long)]
    json: bool,
}

/// Prints the findings. A refused io_uring is a finding, not a failure.
pub(crate) fn run(args: &Args) -> Result<(), Failed> {
    let findings = findings()?;
    if args.json {
        return print([findings.to_string()]);
    }
    let lines = findings.as_object().into_iter().flatten().flat_map(|(name, value)| match value.as_object() {
        Some(parts) => parts.iter().map(|(part, value)| line(&format!("{name}.{part}"), value)).collect(),
        None => vec![line(name, value)],
    });
    print(lines)
}

fn line(name: &str, value: &Value) -> String {
    let value = value.as_str().map_or_else(|| value.to_string(), str::to_owned);
    format!("{name:<28}{value}")
}

fn findings() -> Result<Value, Failed> {
    let system = rustix::system::uname();
    let driver = DriverInfo::of(DriverChoice::Auto)?;
    Ok(json!({
        "ringplane": env!("CARGO_PKG_VERSION"),
        "kernel": system.release().to_string_lossy(),
        "machine": system.machine().to_string_lossy(),
        "cpus": std::thread::available_parallelism().map_or(1, usize::from),
        "seccomp": seccomp(&read("/proc/self/status")),
        "io_uring_disabled": disabled(&read("/proc/sys/kernel/io_uring_disabled")),
        "memlock": limits(getrlimit(Resource::Memlock)),
        "nofile": nofile(),
        "io_uring": io_uring(),
        "driver": { "auto": driver.name, "why": driver.why },
    }))
}

/// A small file of the kernel's; empty where there is none.
fn read(path: &str) -> String {
    std::fs::read_to_string(path).unwrap_or_default()
}

/// The seccomp mode named in `/proc/self/status`.
fn seccomp(status: &str) -> String {
    let mode = status.lines().find_map(|line| line.strip_prefix("Seccomp:")).map(str::trim);
    match mode {
        Some("0") => "off".to_owned(),
        Some("1") => "strict".to_owned(),
        Some("2") => "filter".to_owned(),
        Some(other) => format!("mode {other}"),
        None => "unknown".to_owned(),
    }
}

/// What the sysctl `kernel.io_uring_disabled` says (Linux 6.6).
fn disabled(text: &str) -> &'static str {
    match text.trim() {
        "0" => "0 (allowed)",
        "1" => "1 (privileged processes only)",
        "2" => "2 (switched off)",
        "" => "no such sysctl",
        _ => "unknown",
    }
}

/// Soft and hard limit; `unlimited` has no number.
fn limits(limit: Rlimit) -> Value {
    json!({ "soft": bound(limit.current), "hard": bound(limit.maximum) })
}

/// The limits of descriptors that the process found, and the one it works with.
fn nofile() -> Value {
    let mut found = limits(limits::at_start());
    found["used"] = bound(getrlimit(Resource::Nofile).current);
    found
}

fn bound(value: Option<u64>) -> Value {
    value.map_or_else(|| Value::from("unlimited"), Value::from)
}

fn io_uring() -> Value {
    match ringplane_io_uring::probe() {
        Ok(features) => json!({
            "works": true,
            "flavor": format!("{:?}", features.flavor).to_lowercase(),
            "submission_entries": features.submission_entries,
            "completion_entries": features.completion_entries,
            "recv_buffers": features.recv_buffers,
            "no_iowait": features.no_iowait,
        }),
        Err(refusal) => json!({ "works": false, "why": refusal.to_string() }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_kernels_words_are_read() {
        assert_eq!(seccomp("Name:\tx\nSeccomp:\t2\nSeccomp_filters:\t1\n"), "filter");
        assert_eq!(seccomp("Name:\tx\n"), "unknown");
        assert_eq!(disabled("2\n"), "2 (switched off)");
        assert_eq!(disabled(""), "no such sysctl");
    }
}
