//! Runs a test in a process of its own, where it may change limits, filters and namespaces, and count descriptors.

use std::process::Command;

const CHILD: &str = "RINGPLANE_TEST_CHILD";

/// What the parent told this process to do, if it is a child.
pub(crate) fn role() -> Option<String> {
    std::env::var(CHILD).ok()
}

/// A command that runs the test called `name` in a child, with `role`. `wrapper` is put in front, if there is one.
pub(crate) fn command(wrapper: &[&str], name: &str, role: &str) -> Command {
    let exe = std::env::current_exe().unwrap();
    let mut command = match wrapper {
        [] => Command::new(exe),
        [program, rest @ ..] => {
            let mut command = Command::new(program);
            command.args(rest).arg(exe);
            command
        }
    };
    command.args(["--exact", name, "--nocapture", "--test-threads=1"]).env(CHILD, role);
    command
}

/// Runs the calling test again in a child for each role; `body` runs only there.
pub(crate) fn in_children(roles: &[&str], body: impl FnOnce(&str)) {
    if let Some(role) = role() {
        return body(&role);
    }
    let name = std::thread::current().name().expect("tests run on threads named after them").to_owned();
    for role in roles {
        let output = command(&[], &name, role).output().unwrap();
        let (out, err) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
        println!("{role}: {out}");
        assert!(output.status.success() && out.contains("1 passed"), "{role}: {out}\n{err}");
    }
}
