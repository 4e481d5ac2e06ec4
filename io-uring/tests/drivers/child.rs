//! Runs a test in a process of its own, where it may change limits, filters and count descriptors.

use std::process::Command;

const CHILD: &str = "RINGPLANE_TEST_CHILD";

/// Runs the calling test again in a child process; `body` runs only there.
pub(crate) fn in_child(body: impl FnOnce()) {
    if std::env::var_os(CHILD).is_some() {
        return body();
    }
    let name = std::thread::current().name().expect("tests run on threads named after them").to_owned();
    let output = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", &name, "--nocapture", "--test-threads=1"])
        .env(CHILD, "1")
        .output()
        .unwrap();
    let (out, err) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert!(output.status.success() && out.contains("1 passed"), "{out}\n{err}");
}

/// Descriptors this process has open.
pub(crate) fn descriptors() -> usize {
    std::fs::read_dir("/proc/self/fd").unwrap().count()
}
